"""When a survey looks: nights in which a field is visited, clouds that come in spells, the Moon and the seeing."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from .. import rng

MONTH = 29.53  # days from full Moon to full Moon
_MEMORY = 0.6  # of the weather, from one night to the next
# magnitudes of depth that a full Moon costs in each band (Krisciunas & Schaefer 1991, rounded)
MOON = {"u": 1.2, "g": 0.9, "r": 0.5, "i": 0.3, "z": 0.15, "y": 0.1}


def clear(night: Int64[Tensor, "*shape"], seed: int, share: float) -> Bool[Tensor, "*shape"]:
    """Whether a night of the survey is clear: an autoregressive process of order one, cut so that ``share`` are.

    It is one weather for all objects of a seed, a pure function of the night.
    """
    if share >= 1:
        return torch.ones_like(night, dtype=torch.bool)
    flat, total = night.reshape(-1), torch.zeros(night.numel())
    for back in range(9):
        total += _MEMORY**back * rng.normal(seed, "nights/weather", flat - back)[:, 0]
    sigma = math.sqrt(sum(_MEMORY ** (2 * back) for back in range(9)))
    limit = math.sqrt(2) * torch.erfinv(torch.tensor(2 * share - 1)).item() * sigma
    return (total < limit).reshape(night.shape)


def moonlight(night: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """0 at new Moon, 1 at full Moon, steeper than the lit share as the sky's brightness is."""
    return ((1 - torch.cos(2 * math.pi * night / MONTH)) / 2) ** 2
