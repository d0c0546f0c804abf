"""Intervals by the bootstrap over objects (Efron 1979), paired wherever two predictions are compared.

Resample i draws its objects from (seed, i) alone, so that every metric and every prediction sees the same resamples,
whatever the memory allows at once. Objects that fail together (nights, fields, neighbouring months) are resampled in
their groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy import ndarray

from ..errors import GsnnError
from .distributions import Distribution
from .metric import Metric

CELLS = 8_000_000  # weights held at once (64 MB)


def counts(
    objects: int, rows: range, seed: int, group: Int[ndarray, " object"] | None = None
) -> Float[ndarray, "resample object"]:
    """How often each object stands in each of the resamples ``rows``; with ``group``, whole groups are drawn.

    Groups of neighbours in time make it a block bootstrap (Kunsch 1989, Ann. Statist. 17, 1217, without overlap).
    """
    if group is not None:
        _, place = np.unique(group, return_inverse=True)
        return counts(int(place.max(initial=-1)) + 1, rows, seed)[:, place]
    draws = [np.random.default_rng([seed % 2**64, row]).integers(objects, size=objects) for row in rows]
    return np.stack([np.bincount(draw, minlength=objects) for draw in draws]).astype(float)


def replicates(
    metrics: Sequence[Metric],
    predictions: Sequence[Distribution],
    truth: Shaped[ndarray, "object *map"],
    *,
    resamples: int = 1000,
    seed: int = 0,
    group: Int[ndarray, " object"] | None = None,
) -> Float[ndarray, "replicate prediction metric"]:
    """Every metric of every prediction: row 0 on all objects once, then a row a resample. NaN where undefined.

    A metric that does not suit a prediction (a density asked of a point) is NaN throughout.
    """
    n = len(truth)
    for prediction in predictions:
        if len(prediction) != n:
            raise GsnnError(f"{len(prediction)} predictions for {n} truths; give one each, in the same order")
    out = np.full((resamples + 1, len(predictions), len(metrics)), np.nan)
    if n == 0:
        return out
    pairs = [(i, j) for i, p in enumerate(predictions) for j, m in enumerate(metrics) if m.suits(p)]
    scored = [(i, j) for i, j in pairs if metrics[j].score]
    table = np.array([metrics[j].score(predictions[i], truth) for i, j in scored]).reshape(len(scored), n)
    step = max(1, CELLS // n)
    for start in range(0, resamples + 1, step):
        stop = min(start + step, resamples + 1)
        rows = range(max(start, 1), stop)
        weight = np.concatenate(
            [np.ones((1 if start == 0 else 0, n)), *([counts(n, rows, seed, group)] if rows else [])]
        )
        means = weight @ table.T / weight.sum(1, keepdims=True)
        for k, (i, j) in enumerate(scored):
            finish = metrics[j].finish
            out[start:stop, i, j] = finish(means[:, k]) if finish else means[:, k]
        for i, j in pairs:
            if not metrics[j].score:
                out[start:stop, i, j] = metrics[j](predictions[i], truth, weight)
    return out


def interval(draws: Float[ndarray, " replicate"], level: float = 0.95, biased: bool = False) -> dict[str, float | None]:
    """{"value", "low", "high"} from a value and its resamples: the percentile interval; None where undefined.

    ``biased``: the resamples are moved so that their mean is the value, which cannot be below 0.
    """
    value, rest = draws[0], draws[1:][np.isfinite(draws[1:])]
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None}
    if len(rest) < max(2, (len(draws) - 1) / 2):
        return {"value": float(value), "low": None, "high": None}
    if biased:
        rest = rest - rest.mean() + value
    low, high = np.quantile(rest, [(1 - level) / 2, (1 + level) / 2])
    return {"value": float(value), "low": float(low), "high": float(high)}


def of_metric(metric: Metric, draws: Float[ndarray, " replicate"], level: float = 0.95) -> dict[str, Any]:
    """The interval of a metric with its unit."""
    found = interval(draws, level, metric.biased)
    if metric.biased and found["low"] is not None:
        found["low"] = max(found["low"], 0.0)
    return found | {"unit": metric.unit}


def difference(
    metric: Metric, a: Float[ndarray, " replicate"], b: Float[ndarray, " replicate"], level: float = 0.95
) -> dict[str, Any]:
    """a minus b on the same resamples, with a "verdict" on a: "better", "worse", or "same" where 0 is in the interval.

    For a metric with a goal (bias, coverage) the verdict compares distances from the goal. None where undefined.
    """
    found = interval(a - b, level, metric.biased)
    if metric.better == "near":
        judged, sign = interval(abs(a - metric.goal) - abs(b - metric.goal), level), -1
    else:
        judged, sign = found, 1 if metric.better == "high" else -1
    if judged["low"] is None:
        verdict = None
    elif judged["low"] <= 0 <= judged["high"]:
        verdict = "same"
    else:
        verdict = "better" if sign * judged["low"] > 0 else "worse"
    return found | {"verdict": verdict}


def bootstrap(
    metric: Metric,
    prediction: Distribution,
    truth: Shaped[ndarray, "object *map"],
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """{"value", "low", "high", "unit"} of one metric of one prediction."""
    draws = replicates([metric], [prediction], truth, resamples=resamples, seed=seed)
    return of_metric(metric, draws[:, 0, 0], level)


def paired(
    metric: Metric,
    a: Distribution,
    b: Distribution,
    truth: Shaped[ndarray, "object *map"],
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """{"value", "low", "high", "verdict"} of a minus b on the same objects."""
    draws = replicates([metric], [a, b], truth, resamples=resamples, seed=seed)
    return difference(metric, draws[:, 0, 0], draws[:, 1, 0], level)
