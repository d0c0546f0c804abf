"""Random numbers as a pure function of (seed, purpose, row, epoch).

Every draw is a hash of its own address, so it does not depend on the batch, the worker, the rank or the order in
which objects are visited: augmentation, simulation and bootstrap repeat exactly under any layout and after any resume.
The hash is the splitmix64 finaliser (Steele, Lea & Flood 2014, doi:10.1145/2714064.2660195) in counter mode.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def _signed(x: int) -> int:
    x &= (1 << 64) - 1
    return x - (1 << 64) if x >> 63 else x


_GAMMA = _signed(0x9E3779B97F4A7C15)
_M1, _M2 = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right of 64-bit words held in int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
    """A bijection of 64-bit words that scrambles every bit."""
    x = x + _GAMMA
    x = (x ^ _shift(x, 30)) * _M1
    x = (x ^ _shift(x, 27)) * _M2
    return x ^ _shift(x, 31)


def key(seed: int, purpose: str, epoch: int = 0) -> int:
    """One signed 64-bit word for (seed, purpose, epoch)."""
    text = f"{seed}/{purpose}/{epoch}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)


def bits(
    seed: int, purpose: str, rows: Int64[Tensor, " n"], count: int = 1, epoch: int = 0
) -> Int64[Tensor, "n count"]:
    """``count`` random 64-bit words for each row."""
    rows = torch.as_tensor(rows, dtype=torch.int64)
    base = mix(rows ^ key(seed, purpose, epoch))
    steps = torch.arange(count, dtype=torch.int64, device=rows.device) * _GAMMA
    return mix(base[:, None] + steps)


def uniform(
    seed: int, purpose: str, rows: Int64[Tensor, " n"], count: int = 1, epoch: int = 0
) -> Float[Tensor, "n count"]:
    """``count`` float32 numbers in [0, 1) for each row."""
    return _shift(bits(seed, purpose, rows, count, epoch), 40).float() * 2.0**-24


def normal(
    seed: int, purpose: str, rows: Int64[Tensor, " n"], count: int = 1, epoch: int = 0
) -> Float[Tensor, "n count"]:
    """``count`` standard normal float32 numbers for each row (Box-Muller on the two halves of a word)."""
    words = bits(seed, purpose, rows, (count + 1) // 2, epoch)
    radius = torch.sqrt(-2 * torch.log((_shift(words, 40).float() + 0.5) * 2.0**-24))
    angle = ((words & 0xFFFFFF).float()) * (2 * math.pi * 2.0**-24)
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], -1).flatten(1)[:, :count]


@dataclass(frozen=True)
class Rng:
    """The random numbers of one epoch of one run: what augmentations and objectives draw from."""

    seed: int
    epoch: int = 0

    def uniform(self, purpose: str, rows: Int64[Tensor, " n"], count: int = 1) -> Float[Tensor, "n count"]:
        return uniform(self.seed, purpose, rows, count, self.epoch)

    def normal(self, purpose: str, rows: Int64[Tensor, " n"], count: int = 1) -> Float[Tensor, "n count"]:
        return normal(self.seed, purpose, rows, count, self.epoch)
