"""Light curves made flat: an even grid, a running biweight, outliers out. Gaps stay gaps (NaN), and are never bridged.

The trend is the running biweight location, which Hippke et al. 2019 (AJ 158, 143, wotan) found to keep transits best of
all that they tried, with windows of three transit durations or more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ..errors import GsnnError

TUNING = 5.0  # deviations, in median absolute ones, from which on a point has no weight
LEAST = 0.25  # of a window that must be known


class Even(NamedTuple):
    """A light curve on an even grid: step i is centred at ``start + i cadence``; NaN where nothing was observed."""

    start: float
    cadence: float
    flux: Float64[np.ndarray, " step"]

    @property
    def time(self) -> Float64[np.ndarray, " step"]:
        return self.start + self.cadence * np.arange(len(self.flux))


def even(time: np.ndarray, flux: np.ndarray, cadence: float) -> Even:
    """The mean of the observations in each step of ``cadence``; those without a time or a flux are left out."""
    known = np.isfinite(time) & np.isfinite(flux)
    if not known.any():
        raise GsnnError("the light curve holds no observation with a time and a flux; look at the quality flags")
    time, flux = np.asarray(time, float)[known], np.asarray(flux, float)[known]
    start = time.min()
    step = np.round((time - start) / cadence).astype(np.int64)
    count = np.bincount(step)
    with np.errstate(invalid="ignore"):
        return Even(float(start), cadence, np.bincount(step, flux) / np.where(count, count, np.nan))


def stretches(flux: Float64[np.ndarray, " step"], gap: int) -> list[slice]:
    """The pieces between gaps of more than ``gap`` steps: quarters, orbits, and what a safe mode cuts apart."""
    known = np.flatnonzero(np.isfinite(flux))
    if not len(known):
        return []
    cuts = np.flatnonzero(np.diff(known) > gap)
    first, last = np.r_[known[0], known[cuts + 1]], np.r_[known[cuts], known[-1]]
    return [slice(a, b + 1) for a, b in zip(first.tolist(), last.tolist())]


def running_biweight(
    flux: Float[Tensor, "object step"], window: int, iterations: int = 4
) -> Float[Tensor, "object step"]:
    """The biweight location (Mosteller & Tukey 1977) in a centred window of ``window`` steps.

    Windows are cut short at the ends; NaN are left out; the trend is NaN where less than LEAST of it is known.
    """
    window += 1 - window % 2
    half = window // 2
    around = torch.nn.functional.pad(flux, (half, half), value=torch.nan).unfold(1, window, 1)
    known = torch.isfinite(around)
    centre = torch.nanmedian(around, -1).values
    away = (around - centre[..., None]).abs()
    scale = torch.nanmedian(away, -1).values.clamp_min(1e-12)
    values = around.nan_to_num(0)
    for _ in range(iterations):
        u2 = ((values - centre[..., None]) / (TUNING * scale[..., None])) ** 2
        weight = torch.where(known, (1 - u2).clamp_min(0) ** 2, 0)
        total = weight.sum(-1)
        centre = torch.where(total > 0, (weight * values).sum(-1) / total.clamp_min(1e-12), centre)
    return torch.where(known.sum(-1) >= LEAST * window, centre, torch.nan)


def noise(flux: Float64[np.ndarray, " step"]) -> float:
    """The standard deviation of one step, from the median absolute difference of neighbours: blind to slow changes."""
    known = flux[np.isfinite(flux)]
    return float(1.4826 * np.median(np.abs(np.diff(known))) / np.sqrt(2)) if len(known) > 2 else float("nan")


def flattened(curve: Even, *, window: float = 1.0, gap: float = 0.5, clip: float = 4.0) -> Even:
    """Flux over its running biweight (``window`` days), 1 out of transit.

    Each stretch between gaps longer than ``gap`` days is normalised and detrended alone, so quarters need no matching.
    Points more than ``clip`` standard deviations *above* 1 are taken out; what is below may be a transit and stays.
    """
    flat = np.full(len(curve.flux), np.nan)
    for piece in stretches(curve.flux, round(gap / curve.cadence)):
        part = torch.from_numpy(curve.flux[piece].copy())
        trend = running_biweight(part[None], round(window / curve.cadence))[0]
        flat[piece] = (part / trend).numpy()
    flat[~np.isfinite(flat)] = np.nan
    with np.errstate(invalid="ignore"):
        flat[flat - 1 > clip * noise(flat)] = np.nan
    return curve._replace(flux=flat)
