"""What a metric is, and how one is registered.

A metric is a function of (prediction, truth, weight) that is vectorised over the rows of ``weight``: one row of counts
a bootstrap resample, one value a row. A metric that is a mean over objects is written as its ``score`` of every object,
which is computed once however many resamples there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray

from .distributions import Categorical, Distribution
from .draws import Draws
from .fields import Fields
from .generated import FieldDraws
from .maps import Maps
from .vectors import Vectors

Needs = Literal[
    "class", "value", "distribution", "posterior", "map", "map interval", "field", "field draws", "vector", "cmb"
]
SPECTRA = ("tt", "te", "ee")  # the bands of a microwave background: errors are told in its cosmic variance
Weight = Float[ndarray, "resample object"]
Values = Float[ndarray, " resample"]


@dataclass(frozen=True)
class Metric:
    """A metric with what a report needs to know of it.

    ``better`` is "low", "high" or "near" (``goal``). The units "target" and "1/target" stand for the unit of the target
    until ``metrics_for`` fills it in; ``percent`` is a fraction that is read as per cent. ``biased``: resampling
    inflates it (it measures a distance from perfection, and noise is a distance too), so that its interval is moved
    back to its value.
    """

    name: str
    needs: Needs
    better: Literal["low", "high", "near"]
    function: Callable[[Distribution, ndarray, Weight], Values] = field(repr=False)
    unit: str = ""
    goal: float | None = None
    biased: bool = False
    percent: bool = False
    redshift: bool = False  # only for redshifts, unless asked for by name
    score: Callable[[Distribution, ndarray], ndarray] | None = field(default=None, repr=False)
    finish: Callable[[Values], Values] | None = field(default=None, repr=False)

    def __call__(self, prediction: Distribution, truth: Shaped[ndarray, "object *map"], weight: Weight) -> Values:
        return self.function(prediction, truth, weight)

    def suits(self, prediction: Distribution) -> bool:
        if isinstance(prediction, Categorical) or self.needs == "class":
            return isinstance(prediction, Categorical) and self.needs == "class"
        if isinstance(prediction, Maps) or self.needs.startswith("map"):
            return isinstance(prediction, Maps) and (
                self.needs == "map" or (self.needs == "map interval" and prediction.proper)
            )
        if isinstance(prediction, FieldDraws) or self.needs == "field draws":
            return isinstance(prediction, FieldDraws) and self.needs == "field draws"
        if isinstance(prediction, Fields) or self.needs == "field":
            return isinstance(prediction, Fields) and self.needs == "field"
        if isinstance(prediction, Vectors) or self.needs in ("vector", "cmb"):
            return isinstance(prediction, Vectors) and (
                self.needs == "vector" or (self.needs == "cmb" and prediction.bands == SPECTRA)
            )
        if self.needs == "posterior":
            return isinstance(prediction, Draws)
        return self.needs == "value" or prediction.proper


METRICS: dict[str, Metric] = {}
FAMILIES: dict[str, Callable[[int, str], Metric]] = {}  # metrics of one class: f1 -> f1[STAR], ...


def metric(
    name: str, unit: str = "", better: str = "low", needs: Needs = "value", **more: object
) -> Callable[[Callable[..., Values]], Callable[..., Values]]:
    """Registers ``function(prediction, truth, weight) -> [resample]``."""

    def register(function: Callable[..., Values]) -> Callable[..., Values]:
        METRICS[name] = Metric(name, needs, better, function, unit, **more)  # type: ignore[arg-type]
        return function

    return register


def mean_metric(
    name: str,
    unit: str = "",
    better: str = "low",
    needs: Needs = "value",
    finish: Callable[[Values], Values] | None = None,
    **more: object,
) -> Callable[[Callable[..., ndarray]], Callable[..., ndarray]]:
    """Registers ``finish(mean of score)`` where ``score(prediction, truth) -> [object]``."""

    def register(score: Callable[..., ndarray]) -> Callable[..., ndarray]:
        def function(prediction: Distribution, truth: ndarray, weight: Weight) -> Values:
            mean = ratio(weight @ score(prediction, truth), weight.sum(1))
            return finish(mean) if finish else mean

        METRICS[name] = Metric(name, needs, better, function, unit, score=score, finish=finish, **more)  # type: ignore[arg-type]
        return score

    return register


def ratio(above: ndarray, below: ndarray) -> ndarray:
    """NaN, without a warning, where ``below`` is 0."""
    above, below = np.broadcast_arrays(np.asarray(above, float), np.asarray(below, float))
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)


def weighted_median(value: ndarray, weight: Weight) -> Values:
    """The median of each resample; ``value`` is ``[object]`` or ``[resample, object]``."""
    order = np.argsort(value, axis=-1)
    value = np.take_along_axis(value, order, -1)
    weight = weight[:, order] if value.ndim == 1 else np.take_along_axis(weight, order, -1)
    value = np.broadcast_to(value, weight.shape)
    total = weight.cumsum(1)
    half, row = total[:, -1:] / 2, np.arange(len(weight))
    last = weight.shape[1] - 1
    low = np.minimum((total < half).sum(1), last)  # the two middle values of an even count
    high = np.minimum((total <= half).sum(1), last)
    return np.where(total[:, -1] > 0, (value[row, low] + value[row, high]) / 2, np.nan)
