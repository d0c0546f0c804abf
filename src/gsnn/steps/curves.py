"""Light curves and series of a run: what its examples hold of them, and what the network says as time goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.light_curves import LightCurve, LightCurves
from ..data.schema import Column
from ..data.survey import View
from ..evaluation.distributions import Categorical
from .data import Ground, batch_of

MOMENTS = 24  # running answers that are drawn of an object
LONGEST = 1000  # steps of a series that are kept of an example
DAYS = (0, 2, 5, 10, 15, 20, 30, 45, 60, 90)  # after the trigger
TRIGGER = 5.0  # S/N of the first detection
_PIECE = 256


def first(one: Ground) -> Column | None:
    """The light curve, or the evenly sampled series, that is drawn."""
    found = one.inputs.of_kind("light_curve") or one.inputs.of_kind("series", "strain")
    return found[0] if found and len(found[0].shape) < 3 else None


def arrays(one: Ground, view: View, model: Any = None) -> dict[str, Any]:
    """``curve_*`` of examples.npz, flat, with the running answers of ``model`` where it classifies light curves."""
    column = first(one)
    if column is None:
        return {}
    values = view.columns([column.name])[column.name]
    about = {"curve_unit": column.unit, "curve_time_unit": column.time_unit}
    if column.kind != "light_curve":
        return {**_series(values, column), **about, "curve_joined": True}
    flat = {f"curve_{name}": getattr(values, name) for name in LightCurve._fields}
    out = {**flat, "curve_offsets": values.offsets, "curve_bands": np.array(column.bands or ("",)), **about}
    if model is not None and answers_on_the_way(model):
        moments, answers = running(model, batch_of(view, list(one.inputs)), column)
        start = values.time[np.minimum(values.offsets[:-1], max(len(values.time) - 1, 0))]
        classes = model.objective.targets[model.objective.target].classes
        out |= {
            "curve_moments": start[:, None] + moments,
            "curve_answers": answers.astype(np.float32),
            "curve_classes": np.array(classes),
        }
    return out


def _series(values: np.ndarray, column: Column) -> dict[str, Any]:
    """Every k-th value of each channel as a point of a curve; a channel is a band."""
    values = np.asarray(values, np.float32).reshape(len(values), -1, values.shape[-1])
    values = values[..., :: -(-values.shape[-1] // LONGEST)]
    objects, channels, steps = values.shape
    every = -(-column.shape[-1] // LONGEST) * (column.cadence or 1.0)
    return {
        "curve_time": np.tile(np.arange(steps) * every, objects * channels),
        "curve_flux": values.reshape(-1),
        "curve_flux_error": np.zeros(values.size, np.float32),
        "curve_band": np.tile(np.repeat(np.arange(channels), steps), objects).astype(np.uint8),
        "curve_offsets": np.arange(objects + 1) * channels * steps,
        "curve_bands": np.array(column.bands if len(column.bands) == channels else [str(i) for i in range(channels)]),
    }


def answers_on_the_way(model: Any) -> bool:
    """Whether the model classifies by one light curve, which can be cut off anywhere."""
    from ..objectives.classify import Classify

    kinds = [c.kind for c in model.inputs.columns if c.kind not in ("scalar", "label", "position")]
    folds = any(getattr(model.transforms.parts[c.name], "fold", None) for c in model.inputs.of_kind("light_curve"))
    return kinds == ["light_curve"] and isinstance(model.objective, Classify) and not folds


def running(model: Any, batch: dict[str, Tensor], column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Times since the first observation [object, moment], and p(class) given what was observed until then.

    The moments are spread evenly over each object's observations; every one cuts the light curve off after it.
    """
    from ..objectives.classify_early import cut

    model = model.cpu().eval()
    valid = batch[f"{column.name}.valid"]
    count = valid.sum(1)
    share = torch.linspace(1, MOMENTS, MOMENTS) / MOMENTS
    steps = (count[:, None] * share).ceil().long().clamp(min=1)
    answers = []
    with torch.inference_mode():
        given = model.objective.columns(model.transform(batch))
        for k in range(MOMENTS):
            out = model.objective.network(**cut(given, column.name, steps[:, k]))
            answers.append(torch.softmax(out.float() / model.objective.temperature, -1))
    moments = batch[f"{column.name}.time"].gather(1, steps - 1)
    return moments.double().numpy(), torch.stack(answers, 1).numpy()


def early(
    one: Ground, view: View, model: Any, truth: np.ndarray, seed: int, resamples: int = 300
) -> dict[str, Any] | None:
    """Metrics against days since the trigger, the first observation of S/N 5; None where the study asks not for it.

    Every triggered object counts at every day: what is not yet observed is not waited for.
    """
    from ..evaluation.intervals import bootstrap
    from ..evaluation.metrics import METRICS
    from ..objectives.classify_early import ClassifyEarly

    column = first(one)
    if column is None or column.kind != "light_curve" or not isinstance(model.objective, ClassifyEarly):
        return None
    classes = model.objective.targets[model.objective.target].classes
    since, answers = _answers(one, view, model, column)
    known = np.isfinite(since) & (truth >= 0)
    if known.sum() < 10 or len(np.unique(truth[known])) < 2:
        return None
    rows, curves = [], {}
    for k, day in enumerate(DAYS):
        prediction = Categorical(answers[known, k], classes)
        found = {
            name: bootstrap(METRICS[name], prediction, truth[known], seed=seed, resamples=resamples)
            for name in ("accuracy", "roc_auc")
        }
        rows.append({"days": day, **found})
        if len(classes) == 2 and day in (0, 5, 15, 45):
            curves[str(day)] = _roc(answers[known, k, 0], truth[known] == 0)
    return {
        "since": f"the first observation of S/N {TRIGGER:g}",
        "objects": int(known.sum()),
        "rows": rows,
        "roc": curves,
    }


def trigger(curves: LightCurves) -> Float[np.ndarray, " object"]:
    """When each object was first detected, since its first observation; NaN where it never was."""
    time = np.where(curves.flux > TRIGGER * curves.flux_error, curves.since_first(), np.inf)
    out = np.full(len(curves), np.inf)
    np.minimum.at(out, curves.object, time)
    return np.where(np.isfinite(out), out, np.nan)


def _answers(one: Ground, view: View, model: Any, column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Triggers, and p(class) [object, day] by what was observed until so many days after."""
    from ..objectives.classify_early import at_days

    model = model.cpu().eval()
    since, answers = [], []
    for start in range(0, len(view), _PIECE):
        some = view.take(np.arange(start, min(start + _PIECE, len(view))))
        when = trigger(some.columns([column.name])[column.name])
        batch = batch_of(some, list(one.inputs))
        found = at_days(model, batch, DAYS, torch.from_numpy(np.nan_to_num(when)).float() + 1e-3)
        since.append(when)
        answers.append(found.numpy())
    return np.concatenate(since), np.concatenate(answers)


def _roc(score: np.ndarray, member: np.ndarray, points: int = 101) -> dict[str, Sequence[float]]:
    """Shares of members and of others above falling thresholds, at even steps of the share of others."""
    order = np.argsort(-score, kind="stable")
    hits = np.concatenate([[0], np.cumsum(member[order])]) / max(member.sum(), 1)
    false = np.concatenate([[0], np.cumsum(~member[order])]) / max((~member).sum(), 1)
    at = np.linspace(0, 1, points)
    return {"false": at.tolist(), "true": np.interp(at, false, hits).tolist()}
