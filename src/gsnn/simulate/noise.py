"""The noise of a gravitational-wave detector: a design curve, and Gaussian noise that follows it once whitened."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from .. import rng
from ..data.strain import band, frequencies


def design(frequency: Float64[Tensor, " frequency"]) -> Float64[Tensor, " frequency"]:
    """Power spectral density (1/Hz) of Advanced LIGO at design: zero detuning, high laser power.

    The fit of Ajith 2011 (arXiv:1107.1267, eq. 4.7), made for 20 Hz and above; below 10 Hz it keeps its value there.
    """
    x = frequency.clamp(min=10.0) / 245.4
    return 1e-48 * (0.0152 * x**-4 + 0.2935 * x ** (9 / 4) + 2.7951 * x**1.5 - 6.5080 * x**0.75 + 17.7622)


def white(
    seed: int, purpose: str, rows: Int64[Tensor, " object"], detectors: int, length: int, rate: float, low: float
) -> Float[Tensor, "object detector time"]:
    """Gaussian noise as whitening leaves it: of unit density between ``low`` and the end of the band, nothing below.

    Twice the length is drawn and the middle kept, so that the end of a window does not know its beginning.
    """
    drawn = rng.normal(seed, purpose, rows, detectors * 2 * length).view(len(rows), detectors, 2 * length)
    shape = band(frequencies(2 * length, rate), low, high_end(rate)).float()
    return torch.fft.irfft(torch.fft.rfft(drawn) * shape, n=2 * length)[..., length // 2 : length // 2 + length]


def high_end(rate: float) -> float:
    """The highest frequency that is used, leaving the anti-aliasing filter its slope."""
    return 0.4 * rate
