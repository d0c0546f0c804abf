"""The answer in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.schema import Column

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
    "posterior_sigma": "posterior width",
    "voxel_rmse": "RMSE of a voxel",
    "power_error": "largest error of P(k) to half of Nyquist",
    "correlation": "r(k) at half of Nyquist",
    "coverage_68": "68% coverage",
    "coverage_90": "90% coverage",
    "map_rmse": "RMSE of the map",
    "map_r": "correlation of the map with the truth",
    "map_bias": "bias of the map",
    "map_coverage_68": "68% coverage of the pixels",
    "map_interval_score": "interval score of the pixels",
}

OF_A_QUANTITY = ("rmse", "mae", "medae", "bias", "r2", "crps", "posterior_sigma")


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
    """The answer in a sentence, beside the best baseline. Parity is called parity, and a loss a loss.

    ``target`` names the quantity where the metric does not (RMSE of log_mass); ``objects`` are galaxies, stars, ...
    A check in ``judged["controls"]`` that failed is told in the same sentence.
    """
    unlike = "; what was observed is unlike all simulations" if judged.get("observed_unlike_training") else ""
    return _measured(judged, target, metric, objects) + doubt(judged.get("controls", {})) + unlike


def doubt(controls: Mapping[str, Any]) -> str:
    """What the checks that failed add to the answer; nothing where none did."""
    leakage, permuted = (controls.get(name) or {} for name in ("leakage", "permuted"))
    failed = []
    if leakage.get("passed") is False:
        checks = ", ".join(leakage.get("checks", ()))
        failed.append("the leakage check fails" + (f" ({checks})" if checks else ""))
    if permuted.get("passed") is False:
        failed.append("a network trained on shuffled labels does better than chance")
    return f"; do not trust it: {' and '.join(failed)}" if failed else ""


def _measured(judged: Mapping[str, Any], target: Column | None, metric: str | None, objects: str) -> str:
    """The number, its interval, and the best baseline beside it."""
    metric = metric or judged["headline_metric"]
    entry, n = judged["metrics"][metric], judged["n"]
    name = LABELS.get(metric) or _of_class(metric)
    if target is not None and target.kind == "scalar" and metric in OF_A_QUANTITY:
        name += f" of {target.name}"
    if entry["value"] is None:
        return f"{name} cannot be told from {n:,} held-out {objects}"
    percent = entry.get("percent", False)
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
        shown = _show(entry | gap, digits, points=True)
        return f"{text}, no different from {rival} on the same {objects} (difference {shown})"
    size = entry | {k: abs(gap[k]) for k in ("value", "low", "high")}
    size["low"], size["high"] = sorted((size["low"], size["high"]))
    shown = _show(size, digits, points=True)
    if entry["better"] == "near":
        shown = _show(entry | gap, digits, points=True)
        return f"{text}, {gap['verdict']} than {rival} on the same {objects} (difference {shown})"
    above = "above" if gap["value"] > 0 else "below"
    clear = "" if entry["better"] == "high" else f" ({gap['verdict']}: low is good)"
    return f"{text}, {shown} {above} {rival} on the same {objects}{clear}"


def _of_class(metric: str) -> str:
    """``f1[pulsar]`` as "F1 of pulsar"."""
    family, bracket, label = metric.rstrip("]").partition("[")
    return f"{family.capitalize() if family == 'f1' else family} of {label}" if bracket else metric


def _digits(entry: Mapping[str, Any]) -> int:
    """Decimals so that half the interval shows two significant digits; one for per cent."""
    if entry.get("percent"):
        return 1
    if entry["low"] is None or entry["high"] <= entry["low"]:
        return 4
    return int(np.clip(1 - np.floor(np.log10((entry["high"] - entry["low"]) / 2)), 0, 8))


def _show(entry: Mapping[str, Any], digits: int, points: bool = False) -> str:
    """``88.4% (86.1 to 90.5)``, ``9.1 points (7.0 to 11.2)`` or ``0.0165 (0.0158 to 0.0171)``."""
    scale, unit = (1, f" {entry['unit']}" if entry["unit"] else "")
    if entry.get("percent"):
        scale, unit = 100, " points" if points else "%"
    value = f"{scale * entry['value']:.{digits}f}{unit}"
    if entry["low"] is None:
        return value
    return f"{value} ({scale * entry['low']:.{digits}f} to {scale * entry['high']:.{digits}f})"
