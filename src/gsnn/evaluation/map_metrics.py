"""Metrics of maps: of each object over the pixels that are told, then the mean over objects."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from .maps import ENDS, Map, Maps
from .metric import mean_metric

Scores = Float[ndarray, " object"]
MISSED = 2 / (1 - (ENDS[1] - ENDS[0]))  # the price of a truth outside its interval


def over_pixels(prediction: Maps, values: Map) -> Scores:
    """The mean of ``values`` over the pixels that are told of each object; NaN where none is."""
    inside = prediction.inside
    count = inside.reshape(len(inside), -1).sum(1)
    total = np.where(inside, values, 0).reshape(len(inside), -1).sum(1, dtype=float)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _truth(prediction: Maps, truth: ndarray) -> Map:
    return np.asarray(truth, np.float32).reshape(prediction.value.shape)


@mean_metric("map_rmse", "target", "low", "map", finish=np.sqrt)
def map_squared_error(prediction: Maps, truth: ndarray) -> Scores:
    """Of the root of the mean over pixels and objects."""
    return over_pixels(prediction, (prediction.value - _truth(prediction, truth)) ** 2)


@mean_metric("map_r", "", "high", "map")
def map_r(prediction: Maps, truth: ndarray) -> Scores:
    """Pearson's correlation of the pixels of a map with those of the truth; 0 where either is constant."""
    x, y = prediction.value, _truth(prediction, truth)
    x, y = (v - over_pixels(prediction, v)[:, None, None, None] for v in (x, y))
    both, own, other = (over_pixels(prediction, v) for v in (x * y, x**2, y**2))
    return np.where(own * other > 0, both / np.sqrt(np.maximum(own * other, 1e-300)), 0)


@mean_metric("map_bias", "target", "near", "map", goal=0.0)
def map_bias(prediction: Maps, truth: ndarray) -> Scores:
    """Prediction minus truth."""
    return over_pixels(prediction, prediction.value - _truth(prediction, truth))


@mean_metric("map_coverage_68", "", "near", "map interval", goal=0.68, percent=True)
def map_coverage(prediction: Maps, truth: ndarray) -> Scores:
    """The share of pixels whose truth lies within their 68% interval."""
    truth = _truth(prediction, truth)
    return over_pixels(prediction, ((truth >= prediction.low) & (truth <= prediction.high)).astype(float))


@mean_metric("map_interval_score", "target", "low", "map interval")
def map_interval_score(prediction: Maps, truth: ndarray) -> Scores:
    """Width of the 68% interval, and a price for each truth outside (Gneiting & Raftery 2007, eq. 43): proper."""
    truth = _truth(prediction, truth)
    outside = np.maximum(prediction.low - truth, 0) + np.maximum(truth - prediction.high, 0)
    return over_pixels(prediction, prediction.high - prediction.low + MISSED * outside)
