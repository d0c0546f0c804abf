"""The verdict on a prediction: metrics with intervals, beside the baselines on the same objects, and where it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy import ndarray

from ..data.schema import Column
from ..errors import GsnnError
from . import calibration
from .distributions import Categorical, Distribution
from .fields import Fields
from .generated import FieldDraws
from .headline import best_baseline, headline
from .intervals import difference, of_metric, replicates
from .maps import Maps
from .metric import Metric
from .metrics import METRICS, is_redshift, metrics_for
from .values import pit
from .vectors import Vectors

CURVE_RESAMPLES = 300
__all__ = ["best_baseline", "calibrated", "confusion", "curve", "headline", "judge"]

BIN_OBJECTS = 30  # a bin of a curve holds at least so many
BINS = 8


def judge(
    prediction: Distribution,
    truth: Shaped[ndarray, "object *map"],
    target: Column,
    *,
    baselines: Mapping[str, Distribution] | None = None,
    covariates: Mapping[str, Float[ndarray, " object"]] | None = None,
    units: Mapping[str, str] | None = None,
    metrics: Sequence[str] | None = None,
    group: Int[ndarray, " object"] | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, Any]:
    """Everything that answer.json says of one target, JSON-ready (None where a number is undefined).

    ``truth`` is a class index (-1 unknown) or a value (NaN unknown); objects without one are left out and counted in
    "excluded". ``units`` are those of the covariates. The differences are prediction minus baseline, paired.
    ``group`` numbers what is resampled whole, if not the objects one by one.
    """
    truth, known = _known(truth, target)
    n = len(truth)
    for name, other in {"the network": prediction, **(baselines or {})}.items():
        if len(other) != n:
            raise GsnnError(f"{name} predicts {len(other)} objects, but there are {n} truths")
    others = {name: _like(other, prediction, name).take(known) for name, other in (baselines or {}).items()}
    prediction, truth = prediction.take(known), truth[known]
    group = None if group is None else group[known]
    chosen = metrics_for(prediction, target, metrics)
    draws = replicates(chosen, [prediction, *others.values()], truth, resamples=resamples, seed=seed, group=group)
    judged: dict[str, Any] = {
        "target": target.name,
        "kind": target.kind,
        "unit": target.unit,
        "n": len(known),
        "excluded": n - len(known),
        "headline_metric": _main(chosen, target, prediction)[0].name,
        "metrics": {m.name: _entry(m, draws[:, 0, j]) for j, m in enumerate(chosen)},
        "baselines": {
            name: {
                m.name: _entry(m, draws[:, i, j]) | {"difference": difference(m, draws[:, 0, j], draws[:, i, j])}
                for j, m in enumerate(chosen)
                if m.suits(other)
            }
            for i, (name, other) in enumerate(others.items(), 1)
        },
        "calibration": calibrated(prediction, truth),
        "curves": {},
    }
    if isinstance(prediction, Categorical):
        judged["confusion"] = confusion(prediction, truth)
    shown = _main(chosen, target, prediction)
    for name, values in (covariates or {}).items():
        values = np.asarray(values, float)
        if len(values) != n:
            raise GsnnError(f"the covariate {name!r} has {len(values)} values for {n} objects")
        found = curve(shown, {"": prediction, **others}, truth, values[known], group=group, seed=seed)
        judged["curves"][name] = {"unit": (units or {}).get(name, ""), **found}
    return judged


def confusion(prediction: Categorical, truth: ndarray) -> dict[str, Any]:
    """Counts: ``matrix[true][predicted]``."""
    size = len(prediction.classes)
    matrix = np.bincount(truth * size + prediction.best(), minlength=size * size).reshape(size, size)
    return {"classes": list(prediction.classes), "matrix": matrix.tolist()}


def calibrated(
    prediction: Distribution, truth: ndarray, judged_by: tuple[Sequence[Metric], ndarray] | None = None
) -> dict[str, Any]:
    """ "reliability" and "classes" of a classification, "pit" and "coverage" of a distribution; {} for a point."""
    if not len(truth) or not prediction.proper or isinstance(prediction, (Maps, Vectors)):
        return {}
    if not isinstance(prediction, Categorical):
        values = pit(prediction, truth)
        histogram = calibration.pit_histogram(values)
        band = {name: histogram[name] for name in ("expected", "low", "high")}
        ks = float(METRICS["pit_ks"](prediction, truth, np.ones((1, len(truth))))[0])
        coverage = calibration.coverage(values)
        return {"pit_ks": ks, "pit": histogram["counts"], "pit_band": band, "coverage": coverage}
    p, best = prediction.probabilities, prediction.best()
    each = {label: calibration.reliability(p[:, i], truth == i, 10) for i, label in enumerate(prediction.classes[:12])}
    off = float(METRICS["ece"](prediction, truth, np.ones((1, len(truth))))[0])
    return {"ece": off, "reliability": calibration.reliability(p.max(1), best == truth), "classes": each}


def curve(
    metrics: Sequence[Metric],
    predictions: Mapping[str, Distribution],
    truth: ndarray,
    covariate: Float[ndarray, " object"],
    *,
    group: Int[ndarray, " object"] | None = None,
    seed: int = 0,
    resamples: int = CURVE_RESAMPLES,
) -> dict[str, Any]:
    """Metrics in bins of equal count of a covariate; objects where it is not finite are left out and counted.

    The prediction named "" gives the metrics of a bin, the others stand in its "baselines".
    """
    finite = np.flatnonzero(np.isfinite(covariate))
    order = finite[np.argsort(covariate[finite], kind="stable")]
    groups = np.array_split(order, np.clip(len(order) // BIN_OBJECTS, 1, BINS)) if len(order) else []
    bins = []
    for own in groups:
        some = {name: prediction.take(own) for name, prediction in predictions.items()}
        draws = replicates(
            metrics, list(some.values()), truth[own], resamples=resamples, seed=seed,
            group=None if group is None else group[own],
        )  # fmt: skip
        ends = {"low": float(covariate[own[0]]), "high": float(covariate[own[-1]])}
        entry: dict[str, Any] = {**ends, "median": float(np.median(covariate[own])), "n": len(own), "baselines": {}}
        for i, (name, prediction) in enumerate(some.items()):
            found = {m.name: of_metric(m, draws[:, i, j]) for j, m in enumerate(metrics) if m.suits(prediction)}
            if name:
                entry["baselines"][name] = found
            else:
                entry |= found
        bins.append(entry)
    shown = {m.name: {"unit": m.unit, "better": m.better} | ({"percent": True} if m.percent else {}) for m in metrics}
    return {"metrics": shown, "excluded": len(covariate) - len(finite), "bins": bins}


def _entry(metric: Metric, draws: ndarray) -> dict[str, Any]:
    found = of_metric(metric, draws) | {"better": metric.better}
    found |= {"percent": True} if metric.percent else {}
    return found if metric.goal is None else found | {"goal": metric.goal}


def _known(truth: ndarray, target: Column) -> tuple[ndarray, ndarray]:
    """The truth as class indices or floats, and where it is known."""
    truth = np.asarray(truth)
    if target.kind == "label":
        if truth.dtype.kind not in "iu":
            raise GsnnError(f"the truth of {target.name!r} must be class indices (-1 unknown), not {truth.dtype}")
        return truth.astype(np.int64), np.flatnonzero(truth >= 0)
    truth = truth.astype(float)
    return truth, np.flatnonzero(np.isfinite(truth).reshape(len(truth), -1).all(1))


def _like(other: Distribution, prediction: Distribution, name: str) -> Distribution:
    """A baseline with its classes in the order of the prediction's."""
    if isinstance(other, Categorical) != isinstance(prediction, Categorical):
        raise GsnnError(f"{name} predicts {type(other).__name__}, the network {type(prediction).__name__}")
    if not isinstance(other, Categorical) or other.classes == prediction.classes:
        return other
    if set(other.classes) != set(prediction.classes):
        raise GsnnError(f"{name} knows the classes {', '.join(other.classes)}, not {', '.join(prediction.classes)}")
    order = [other.classes.index(label) for label in prediction.classes]
    return Categorical(other.probabilities[:, order], prediction.classes)


def _main(chosen: Sequence[Metric], target: Column, prediction: Distribution) -> list[Metric]:
    """The metrics of the curves; the first is the headline's."""
    if isinstance(prediction, Categorical):
        wanted = ["accuracy", "ece"]
    elif isinstance(prediction, Maps):
        wanted = ["map_rmse", "map_r", "map_coverage_68"]
    elif isinstance(prediction, FieldDraws):
        wanted = ["power_off", "bispectrum_off", "peaks_off"]
    elif isinstance(prediction, Fields):
        wanted = ["correlation", "power_error", "voxel_rmse"]
    elif isinstance(prediction, Vectors):
        wanted = ["cosmic_variance_p99", "cosmic_variance_mean", "curve_rms"]
    elif is_redshift(target):
        wanted = ["sigma_nmad", "outlier_rate", "photoz_bias"]
    else:
        wanted = ["rmse", "mae", "bias"]
    by_name = {m.name: m for m in chosen}
    return [by_name[name] for name in wanted if name in by_name] or list(chosen[:2])
