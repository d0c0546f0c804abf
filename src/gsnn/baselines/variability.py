"""Variable stars as numbers: moments and indices of their magnitudes, colours, and the shape of the folded curve.

The features of Debosscher et al. 2007 (A&A 475, 1159) and Richards et al. 2011 (ApJ 733, 10): amplitudes, moments,
indices of Stetson 1996 (PASP 108, 851) and von Neumann 1941, Fourier ratios and phases (Simon & Lee 1981, ApJ 248, 291)
at the period, and what is left at twice the period, which tells eclipses of unequal depth.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Float, Float64

from ..data.light_curves import LightCurves
from .bazin import Segments

Columns = dict[str, Float[np.ndarray, " object"]]
HARMONICS = 3
SAME_NIGHT = 0.5  # days between observations of two bands that Stetson's J pairs


def variability(curves: LightCurves, bands: tuple[str, ...], period: np.ndarray | None = None) -> Columns:
    """Statistics of every object; those of folded curves need a ``period`` [object] (days, NaN = unknown)."""
    objects, seg = len(curves), Segments.of(curves)
    found: Columns = {}
    tables: dict[str, np.ndarray] = {}

    def by_band(name: str, values: np.ndarray) -> None:
        table = tables[name] = np.full((objects, len(bands)), np.nan)
        table[seg.object, seg.band] = values
        found.update({f"{name}_{band}": table[:, k] for k, band in enumerate(bands)})

    for name, values in _moments(seg).items():
        by_band(name, values)
    if period is not None:
        found["log_period"] = np.log10(np.where(period > 0, period, np.nan))
        for name, values in folded(seg, period).items():
            by_band(name, values)
    for blue, red in pairwise(range(len(bands))):
        name = f"{bands[blue]}_{bands[red]}"
        found[f"colour_{name}"] = tables["mean"][:, blue] - tables["mean"][:, red]
        found[f"amplitudes_{name}"] = tables["amplitude"][:, blue] / np.maximum(tables["amplitude"][:, red], 1e-3)
        found[f"stetson_j_{name}"] = _stetson_j(seg, objects, blue, red)
    return found


def _moments(seg: Segments) -> Columns:
    """What does not need a period, of each (object, band)."""
    segment, count = seg.segment, seg.lengths.astype(float)
    mean = seg.sum(seg.flux * seg.weight) / seg.sum(seg.weight)
    off = seg.flux - (seg.sum(seg.flux) / count)[segment]
    variance = np.maximum(seg.sum(off**2) / count, 1e-12)
    delta = (seg.flux - mean[segment]) * np.sqrt(seg.weight * (count / np.maximum(count - 1, 1))[segment])
    inside = np.ones(len(seg.time), bool)
    inside[seg.start] = False  # the first of each segment has none before it
    step = np.where(inside, np.diff(seg.flux, prepend=0.0), 0.0)
    order = np.lexsort((seg.flux, segment))
    ranked = seg.flux[order]

    def quantile(level: float) -> np.ndarray:
        return ranked[seg.start + np.round(level * (count - 1)).astype(np.int64)]

    low, high, middle = quantile(0.05), quantile(0.95), quantile(0.5)
    return {
        "mean": mean,
        "amplitude": high - low,
        "scatter": np.sqrt(variance),
        "excess": np.sqrt(variance) / np.sqrt(count / seg.sum(seg.weight)),
        "skew": seg.sum(off**3) / count / variance**1.5,
        "kurtosis": seg.sum(off**4) / count / variance**2,
        "asymmetry": (high - middle) / np.maximum(high - low, 1e-3),  # 1/2 if as much time is spent bright as faint
        "beyond_1": seg.sum((np.abs(off) > np.sqrt(variance)[segment]).astype(float)) / count,
        "von_neumann": seg.sum(step**2) / np.maximum(count - 1, 1) / variance,
        "stetson_k": seg.sum(np.abs(delta)) / np.sqrt(np.maximum(count * seg.sum(delta**2), 1e-12)),
        "observations": count,
    }


def _stetson_j(seg: Segments, objects: int, first: int, second: int) -> Float[np.ndarray, " object"]:
    """Stetson 1996, eq. 1, over the observations of two bands that lie within half a day of each other."""
    segment, count = seg.segment, seg.lengths.astype(float)
    mean = seg.sum(seg.flux * seg.weight) / seg.sum(seg.weight)
    delta = (seg.flux - mean[segment]) * np.sqrt(seg.weight * (count / np.maximum(count - 1, 1))[segment])
    chosen = np.isin(seg.band[segment], (first, second))
    owner, time, band, delta = seg.object[segment][chosen], seg.time[chosen], seg.band[segment][chosen], delta[chosen]
    order = np.lexsort((time, owner))
    owner, time, band, delta = owner[order], time[order], band[order], delta[order]
    pair = (owner[1:] == owner[:-1]) & (band[1:] != band[:-1]) & (np.diff(time) < SAME_NIGHT)
    product = delta[1:] * delta[:-1]
    total = np.bincount(owner[1:], np.where(pair, np.sign(product) * np.sqrt(np.abs(product)), 0), objects)
    pairs = np.bincount(owner[1:], pair, objects)
    return np.where(pairs > 0, total / np.maximum(pairs, 1), np.nan)


def folded(seg: Segments, period: Float[np.ndarray, " object"]) -> Columns:
    """The folded curve of each (object, band): Fourier ratios and phases, what they leave, and the two minima."""
    segment = seg.segment
    own = period[seg.object]
    known = np.isfinite(own) & (own > 0)
    cycles = seg.time / np.where(known, own, 1.0)[segment]
    mean = seg.sum(seg.flux * seg.weight) / seg.sum(seg.weight)
    off = seg.flux - mean[segment]
    total = np.maximum(seg.sum(off**2 * seg.weight), 1e-12)
    once, left = _fourier(seg, off, cycles)
    twice, left_twice = _fourier(seg, off, cycles / 2)
    size = np.hypot(once[:, 0:-1:2], once[:, 1::2])
    phase = np.arctan2(once[:, 1::2], once[:, 0:-1:2])
    grid = np.arange(64) / 64
    model, long = _curve(once, grid), _curve(twice, grid)
    bright, faint = model.argmin(1), model.argmax(1)
    first, second = long[:, :32].max(1), long[:, 32:].max(1)
    found = {
        "fourier_1": size[:, 0],
        "r21": size[:, 1] / np.maximum(size[:, 0], 1e-4),
        "r31": size[:, 2] / np.maximum(size[:, 0], 1e-4),
        "left": left / total,
        "left_twice": left_twice / total,
        "rise": (bright - faint) % 64 / 64,
        "minima": np.abs(first - second) / np.maximum(long.max(1) - long.min(1), 1e-3),
    }
    for k in (2, 3):
        angle = phase[:, k - 1] - k * phase[:, 0]
        found |= {f"cos_phi{k}1": np.cos(angle), f"sin_phi{k}1": np.sin(angle)}
    return {name: np.where(known, values, np.nan) for name, values in found.items()}


def _fourier(
    seg: Segments, off: np.ndarray, cycles: np.ndarray
) -> tuple[Float64[np.ndarray, "segment term"], Float64[np.ndarray, " segment"]]:
    """Weighted least squares of cosines and sines (in turns) of each segment, and the chi squared that they leave.

    A ridge of 1% of the data's weight keeps segments of fewer observations than terms from ringing.
    """
    angle = 2 * np.pi * (cycles % 1.0)
    terms = [f(k * angle) for k in range(1, HARMONICS + 1) for f in (np.cos, np.sin)] + [np.ones_like(angle)]
    count = len(terms)
    normal, right = np.empty((len(seg.start), count, count)), np.empty((len(seg.start), count))
    for i in range(count):
        right[:, i] = seg.sum(terms[i] * off * seg.weight)
        for j in range(i + 1):
            normal[:, i, j] = normal[:, j, i] = seg.sum(terms[i] * terms[j] * seg.weight)
    normal += 0.01 * seg.sum(seg.weight)[:, None, None] * np.eye(count)
    found = np.linalg.solve(normal, right[..., None])[..., 0]
    segment = seg.segment
    model = sum(found[segment, i] * terms[i] for i in range(count))
    return found, seg.sum((off - model) ** 2 * seg.weight)


def _curve(terms: Float64[np.ndarray, "segment term"], phase: np.ndarray) -> Float64[np.ndarray, "segment phase"]:
    angle = 2 * np.pi * phase
    waves = [f(k * angle) for k in range(1, HARMONICS + 1) for f in (np.cos, np.sin)] + [np.ones_like(angle)]
    return terms @ np.stack(waves)
