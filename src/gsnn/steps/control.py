"""The control: the same network taught labels dealt out anew, which must leave it at chance.

Labels are permuted once over all parts, and the network is judged on the permuted ones of the test part (test 1 of
Ojala & Garriga 2010, JMLR 11, 1833). Whatever of the test part reached its training is then seen, and chance is exact.
Judged on the true labels, one network that answers a well separated group of objects by luck would raise the alarm.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..data.survey import Survey, View
from ..evaluation.distributions import Categorical, Distribution
from ..evaluation.fields import Fields
from ..evaluation.generated import FieldDraws
from ..evaluation.maps import Maps
from ..evaluation.vectors import Vectors
from ..rng import uniform
from .data import Ground


class PermutedView(View):
    """A view whose targets are those of other rows: what the control learns from and is judged by."""

    def __init__(self, survey: Survey, rows: np.ndarray, other: np.ndarray, targets: list[str]):
        super().__init__(survey, rows)
        object.__setattr__(self, "other", other)
        object.__setattr__(self, "targets", targets)

    def columns(self, names):
        columns = super().columns(names)
        return {**columns, **self.survey.take(self.other, [n for n in names if n in self.targets])}

    def take(self, positions):
        positions = np.asarray(positions)
        return PermutedView(self.survey, self.rows[positions], self.other[positions], self.targets)


def permuted(one: Ground, seed: int) -> tuple[PermutedView, PermutedView, PermutedView]:
    """The train, valid and test parts, their targets dealt out anew among all objects of the three."""
    parts = (one.train, one.valid, one.test)
    rows, back = np.unique(np.concatenate([part.rows for part in parts]), return_inverse=True)
    other = rows[np.argsort(uniform(seed, "permute", torch.as_tensor(rows))[:, 0].numpy(), kind="stable")][back]
    others = np.split(other, np.cumsum([len(part) for part in parts])[:-1])
    train, valid, test = (
        PermutedView(part.survey, part.rows, dealt, list(one.targets))
        for part, dealt in zip(parts, others, strict=True)
    )
    return train, valid, test


def verdict(prediction: Distribution, truth: np.ndarray, seed: int) -> dict[str, Any]:
    """Whether the network is at chance on the permuted ``truth`` of the test part."""
    from ..evaluation.intervals import bootstrap
    from ..evaluation.metrics import METRICS

    if isinstance(prediction, Categorical):
        name, chance = "balanced_accuracy", 1 / max(len(np.unique(truth[truth >= 0])), 1)  # the classes it averages
    else:
        names = {Maps: "map_r", Fields: "correlation", FieldDraws: "contrast_r", Vectors: "explained"}
        name, chance = names.get(type(prediction), "r2"), 0.0
    known = truth >= 0 if isinstance(prediction, Categorical) else np.isfinite(truth).reshape(len(truth), -1).all(1)
    known = np.flatnonzero(known)
    prediction, truth = prediction.take(known), truth[known]
    value = bootstrap(METRICS[name], prediction, truth, seed=seed, resamples=500)
    passed = value["low"] is not None and value["low"] <= chance + 0.02
    constant = len(np.unique(prediction.best())) < 2
    return {"metric": name, **value, "chance": chance, "passed": bool(passed), "constant": constant}
