"""How dust dims light: the law of Cardelli, Clayton & Mathis 1989 (ApJ 345, 245), eqs 1 to 5, R_V = 3.1."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

R_V = 3.1
_A = (1.0, 0.17699, -0.50447, -0.02427, 0.72085, 0.01979, -0.77530, 0.32999)  # of (x - 1.82)^0 ..^7
_B = (0.0, 1.41338, 2.28305, 1.07233, -5.38434, -0.62251, 5.30260, -2.09002)


def extinction(angstrom: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """A(wavelength) / A_V from 1250 to 33000 Angstrom; beyond them as at the ends."""
    x = (1e4 / angstrom).clamp(0.3, 8.0)  # 1 / micron
    y = x - 1.82
    red_a, red_b = 0.574 * x**1.61, -0.527 * x**1.61
    middle_a = sum(a * y**k for k, a in enumerate(_A))
    middle_b = sum(b * y**k for k, b in enumerate(_B))
    far = (x - 5.9).clamp(min=0)
    blue_a = 1.752 - 0.316 * x - 0.104 / ((x - 4.67) ** 2 + 0.341) - 0.04473 * far**2 - 0.009779 * far**3
    blue_b = -3.090 + 1.825 * x + 1.206 / ((x - 4.62) ** 2 + 0.263) + 0.2130 * far**2 + 0.1207 * far**3
    a = torch.where(x < 1.1, red_a, torch.where(x < 3.3, middle_a, blue_a))
    b = torch.where(x < 1.1, red_b, torch.where(x < 3.3, middle_b, blue_b))
    return a + b / R_V


def transmission(a_v: Tensor, angstrom: Tensor) -> Tensor:
    """The share of the light that gets through dust of ``a_v`` magnitudes in V."""
    return torch.exp(-0.4 * 2.302585093 * a_v * extinction(angstrom))
