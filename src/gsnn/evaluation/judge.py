"""The verdict on a prediction: metrics with intervals, beside the baselines on the same objects, and where it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray

from ..data.schema import Column
from ..errors import GsnnError
from . import calibration
from .distributions import Categorical, Distribution
from .intervals import difference, of_metric, replicates
from .metric import Metric
from .metrics import is_redshift, metrics_for
from .values import pit

CURVE_RESAMPLES = 300
BIN_OBJECTS = 30  # a bin of a curve holds at least so many
BINS = 8


def judge(
    prediction: Distribution,
    truth: Shaped[ndarray, "object"],
    target: Column,
    *,
    baselines: Mapping[str, Distribution] | None = None,
    covariates: Mapping[str, Float[ndarray, "object"]] | None = None,
    units: Mapping[str, str] | None = None,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, Any]:
    """Everything that answer.json says of one target, JSON-ready (None where a number is undefined).

    ``truth`` is a class index (-1 unknown) or a value (NaN unknown); objects without one are left out and counted in
    "excluded". ``units`` are those of the covariates. The differences are prediction minus baseline, paired.
    """
    truth, known = _known(truth, target)
    n = len(truth)
    for name, other in {"the network": prediction, **(baselines or {})}.items():
        if len(other) != n:
            raise GsnnError(f"{name} predicts {len(other)} objects, but there are {n} truths")
    others = {name: _like(other, prediction, name).take(known) for name, other in (baselines or {}).items()}
    prediction, truth = prediction.take(known), truth[known]
    chosen = metrics_for(prediction, target, metrics)
    draws = replicates(chosen, [prediction, *others.values()], truth, resamples=resamples, seed=seed)
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
        "calibration": calibrated(prediction, truth, judged_by=(chosen, draws[:, 0])),
        "curves": {},
    }
    if isinstance(prediction, Categorical):
        judged["confusion"] = confusion(prediction, truth)
    shown = _main(chosen, target, prediction)
    for name, values in (covariates or {}).items():
        values = np.asarray(values, float)
        if len(values) != n:
            raise GsnnError(f"the covariate {name!r} has {len(values)} values for {n} objects")
        found = curve(shown, {"": prediction, **others}, truth, values[known], seed=seed)
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
    if not len(truth) or not prediction.proper:
        return {}
    summary = {}
    if judged_by is not None:
        wanted = ("ece", "pit_ks", "coverage_68", "coverage_90")
        summary = {m.name: _entry(m, judged_by[1][:, j]) for j, m in enumerate(judged_by[0]) if m.name in wanted}
    if not isinstance(prediction, Categorical):
        values = pit(prediction, truth)
        return summary | {"pit": calibration.pit_histogram(values), "coverage": calibration.coverage(values)}
    p, best = prediction.probabilities, prediction.best()
    each = {label: calibration.reliability(p[:, i], truth == i, 10) for i, label in enumerate(prediction.classes[:12])}
    return summary | {"reliability": calibration.reliability(p.max(1), best == truth), "classes": each}


def curve(
    metrics: Sequence[Metric],
    predictions: Mapping[str, Distribution],
    truth: ndarray,
    covariate: Float[ndarray, "object"],
    *,
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
    for group in groups:
        some = {name: prediction.take(group) for name, prediction in predictions.items()}
        draws = replicates(metrics, list(some.values()), truth[group], resamples=resamples, seed=seed)
        ends = {"low": float(covariate[group[0]]), "high": float(covariate[group[-1]])}
        entry: dict[str, Any] = {**ends, "median": float(np.median(covariate[group])), "n": len(group), "baselines": {}}
        for i, (name, prediction) in enumerate(some.items()):
            found = {m.name: of_metric(m, draws[:, i, j]) for j, m in enumerate(metrics) if m.suits(prediction)}
            if name:
                entry["baselines"][name] = found
            else:
                entry |= found
        bins.append(entry)
    shown = {m.name: {"unit": m.unit, "better": m.better} for m in metrics}
    return {"metrics": shown, "excluded": len(covariate) - len(finite), "bins": bins}


def best_baseline(judged: Mapping[str, Any], metric: str | None = None) -> str | None:
    """The baseline that does best by a metric (the headline's, if none is named)."""
    metric = metric or judged["headline_metric"]
    found = {name: each[metric] for name, each in judged["baselines"].items() if metric in each}
    found = {name: entry for name, entry in found.items() if entry["value"] is not None}
    if not found:
        return None
    aim = next(iter(found.values()))

    def cost(name: str) -> float:
        value = found[name]["value"]
        return {"low": value, "high": -value}.get(aim["better"], abs(value - (aim.get("goal") or 0)))

    return min(found, key=cost)


def headline(
    judged: Mapping[str, Any], target: Column | None = None, *, metric: str | None = None, objects: str = "objects"
) -> str:
    """The answer in a sentence, beside the best baseline. Parity is called parity, and a loss a loss."""
    metric = metric or judged["headline_metric"]
    entry, n = judged["metrics"][metric], judged["n"]
    name = LABELS.get(metric, metric)
    if entry["value"] is None:
        return f"{name} cannot be told from {n:,} held-out {objects}"
    percent = entry["unit"] == "fraction"
    digits = _digits(entry)
    words = f"{_show(entry, digits)} {name}" if percent else f"{name} {_show(entry, digits)}"
    text = f"{words} on {n:,} held-out {objects}"
    rival = best_baseline(judged, metric)
    if rival is None:
        return text
    gap = judged["baselines"][rival][metric]["difference"]
    if gap["value"] is None or gap["verdict"] is None:
        return f"{text}, not comparable with {rival}"
    if gap["verdict"] == "same":
        shown = _show(gap | {"unit": entry["unit"]}, digits, points=True)
        return f"{text}, no different from {rival} on the same {objects} (difference {shown})"
    size = {k: abs(gap[k]) for k in ("value", "low", "high")} | {"unit": entry["unit"]}
    size["low"], size["high"] = sorted((size["low"], size["high"]))
    shown = _show(size, digits, points=True)
    if entry["better"] == "near":
        return f"{text}, {gap['verdict']} than {rival} on the same {objects} (difference {shown})"
    above = "above" if gap["value"] > 0 else "below"
    clear = "" if entry["better"] == "high" else f" ({gap['verdict']}: low is good)"
    return f"{text}, {shown} {above} {rival} on the same {objects}{clear}"


LABELS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1_macro": "macro F1",
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "log_loss": "log loss",
    "brier": "Brier score",
    "ece": "calibration error",
    "sigma_nmad": "sigma_NMAD",
    "outlier_rate": "outlier rate",
    "photoz_bias": "bias",
    "rmse": "RMSE",
    "mae": "mean absolute error",
    "medae": "median absolute error",
    "r2": "R2",
    "crps": "CRPS",
    "cde_loss": "CDE loss",
    "nll": "negative log likelihood",
    "pit_ks": "PIT KS distance",
    "coverage_68": "68% coverage",
    "coverage_90": "90% coverage",
}


def _entry(metric: Metric, draws: ndarray) -> dict[str, Any]:
    found = of_metric(metric, draws) | {"better": metric.better}
    return found if metric.goal is None else found | {"goal": metric.goal}


def _known(truth: ndarray, target: Column) -> tuple[ndarray, ndarray]:
    """The truth as class indices or floats, and where it is known."""
    truth = np.asarray(truth)
    if target.kind == "label":
        if truth.dtype.kind not in "iu":
            raise GsnnError(f"the truth of {target.name!r} must be class indices (-1 unknown), not {truth.dtype}")
        return truth.astype(np.int64), np.flatnonzero(truth >= 0)
    truth = truth.astype(float)
    return truth, np.flatnonzero(np.isfinite(truth))


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
    elif is_redshift(target):
        wanted = ["sigma_nmad", "outlier_rate", "photoz_bias"]
    else:
        wanted = ["rmse", "mae", "bias"]
    by_name = {m.name: m for m in chosen}
    return [by_name[name] for name in wanted if name in by_name] or list(chosen[:2])


def _digits(entry: Mapping[str, Any]) -> int:
    """Decimals so that the interval shows two significant digits."""
    if entry["low"] is None or entry["high"] <= entry["low"]:
        return 1 if entry["unit"] == "fraction" else 4
    width = (entry["high"] - entry["low"]) / 2 * (100 if entry["unit"] == "fraction" else 1)
    return int(np.clip(1 - np.floor(np.log10(width)), 1 if entry["unit"] == "fraction" else 0, 8))


def _show(entry: Mapping[str, Any], digits: int, points: bool = False) -> str:
    percent = entry["unit"] == "fraction"
    scale, unit = (100, " points" if points else "%") if percent else (1, f" {entry['unit']}" if entry["unit"] else "")
    digits = min(digits, 1) if percent else digits
    value = f"{scale * entry['value']:.{digits}f}{unit}"
    if entry["low"] is None:
        return value
    return f"{value} ({scale * entry['low']:.{digits}f} to {scale * entry['high']:.{digits}f})"
