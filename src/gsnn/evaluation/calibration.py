"""Does it happen as often as it was said to? Tables for the report, JSON-ready, and temperature scaling."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.special import ndtri

from ..errors import GsnnError
from .distributions import Categorical


def wilson(hits: ndarray, n: ndarray, level: float = 0.95) -> tuple[ndarray, ndarray]:
    """The score interval of a proportion (Wilson 1927); 0 to 1 where n is 0."""
    z, n = ndtri((1 + level) / 2), np.asarray(n, float)
    safe = np.maximum(n, 1)
    p = hits / safe
    centre, half = p + z * z / (2 * safe), z * np.sqrt(p * (1 - p) / safe + z * z / (4 * safe**2))
    low, high = ((centre + sign * half) / (1 + z * z / safe) for sign in (-1, 1))
    return np.where(n > 0, np.clip(low, 0, 1), 0), np.where(n > 0, np.clip(high, 0, 1), 1)


def reliability(
    confidence: Float[ndarray, " object"], right: Bool[ndarray, " object"], bins: int = 15
) -> list[dict[str, float]]:
    """How often an event happens against the probability given to it, in bins of equal mass.

    A row a bin that holds objects: {"confidence", "accuracy", "low", "high", "n"}.
    """
    order = np.argsort(confidence, kind="stable")
    groups = [g for g in np.array_split(order, min(bins, max(len(order), 1))) if len(g)]
    rows = []
    for group in groups:
        hits = int(right[group].sum())
        low, high = wilson(np.array(hits), np.array(len(group)))
        row = {"confidence": confidence[group].mean(), "accuracy": hits / len(group), "low": low, "high": high}
        rows.append({name: float(value) for name, value in row.items()} | {"n": len(group)})
    return rows


def pit_histogram(pit: Float[ndarray, " object"], bins: int = 20, level: float = 0.95) -> dict[str, Any]:
    """Counts of PIT values in equal bins, and the band that holds ``level`` of the counts of a calibrated prediction.

    {"counts", "expected", "low", "high"}
    """
    from scipy.stats import binom

    edges = np.linspace(0, 1, bins + 1)
    counts = np.histogram(pit, edges)[0]
    low, high = binom.ppf([(1 - level) / 2, (1 + level) / 2], len(pit), 1 / bins)
    return {"counts": counts.tolist(), "expected": len(pit) / bins, "low": float(low), "high": float(high)}


def coverage(pit: Float[ndarray, " object"], levels: ndarray | None = None) -> list[dict[str, float]]:
    """The share of truths inside the central interval of each level: {"nominal", "empirical", "low", "high"}."""
    levels = np.arange(5, 100, 5) / 100 if levels is None else np.asarray(levels, float)
    inside = (abs(pit[:, None] - 0.5) <= levels / 2).sum(0)
    low, high = wilson(inside, np.full(len(levels), len(pit)))
    share = inside / max(len(pit), 1)
    names = ("nominal", "empirical", "low", "high")
    return [dict(zip(names, map(float, row))) for row in zip(levels, share, low, high)]


def temperature(prediction: Categorical, truth: Int[ndarray, " object"]) -> float:
    """The T that minimises the log loss of softmax(ln p / T) (Guo et al. 2017, sec. 4.2); fit it on validation data.

    Between 0.05 and 20; above 1 where the probabilities are too sure. Unknown truths (-1) are left out.
    """
    from scipy.optimize import minimize_scalar

    known = np.flatnonzero(truth >= 0)
    if not len(known):
        raise GsnnError("temperature: no object has a known class")
    part, truth = prediction.take(known), truth[known]

    def loss(log_t: float) -> float:
        p = with_temperature(part, np.exp(log_t)).probabilities[np.arange(len(truth)), truth]
        return float(-np.log(np.maximum(p, 1e-300)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log([0.05, 20]), method="bounded").x))


def with_temperature(prediction: Categorical, value: float) -> Categorical:
    """The prediction with its logits divided by ``value``."""
    logit = np.log(np.maximum(prediction.probabilities, 1e-300)) / value
    p = np.exp(logit - logit.max(1, keepdims=True))
    return Categorical(p / p.sum(1, keepdims=True), prediction.classes)
