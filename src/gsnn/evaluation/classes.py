"""Metrics of classifications. Truth is ``int64 [object]``, the index into the prediction's classes.

A class that is absent from truth and prediction is left out of a macro average, as in scikit-learn; a ratio without a
denominator is NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from .distributions import Categorical
from .metric import FAMILIES, Metric, Values, Weight, mean_metric, metric, ratio

Truth = Int[ndarray, " object"]
BINS = 15


@mean_metric("accuracy", "", "high", "class", percent=True)
def hits(prediction: Categorical, truth: Truth) -> Float[ndarray, " object"]:
    return (prediction.best() == truth).astype(float)


@metric("balanced_accuracy", "", "high", "class", percent=True)
def balanced_accuracy(prediction: Categorical, truth: Truth, weight: Weight) -> Values:
    """Mean recall of the classes that occur (Brodersen et al. 2010)."""
    hit, true, _ = _counts(prediction, truth, weight)
    return _mean(ratio(hit, true))


@metric("f1_macro", "", "high", "class")
def f1_macro(prediction: Categorical, truth: Truth, weight: Weight) -> Values:
    """Mean over classes of F1 = 2 TP / (2 TP + FP + FN) (van Rijsbergen 1979)."""
    hit, true, called = _counts(prediction, truth, weight)
    return _mean(ratio(2 * hit, true + called))


@metric("roc_auc", "", "high", "class")
def roc_auc(prediction: Categorical, truth: Truth, weight: Weight) -> Values:
    """Probability that a member scores above a non-member, ties as half (Hanley & McNeil 1982).

    Of the last class where there are two, else the mean of each class against the rest.
    """
    return _one_against_rest(_auc, prediction, truth, weight)


@metric("pr_auc", "", "high", "class")
def pr_auc(prediction: Categorical, truth: Truth, weight: Weight) -> Values:
    """Average precision: sum over thresholds of precision times the step in recall, not interpolated.

    Of the last class where there are two, else the mean of each class against the rest.
    """
    return _one_against_rest(_average_precision, prediction, truth, weight)


@mean_metric("log_loss", "nat", "low", "class")
def log_loss(prediction: Categorical, truth: Truth) -> Float[ndarray, " object"]:
    """-ln p of the true class; p is not taken below float64's epsilon."""
    p = prediction.probabilities[np.arange(len(truth)), truth]
    return -np.log(np.maximum(p, np.finfo(float).eps))


@mean_metric("brier", "", "low", "class")
def brier(prediction: Categorical, truth: Truth) -> Float[ndarray, " object"]:
    """Squared error of the probabilities, summed over classes (Brier 1950); halved, as is usual, for two classes."""
    score = ((prediction.probabilities - _members(prediction, truth)) ** 2).sum(1)
    return score / 2 if len(prediction.classes) == 2 else score


@metric("ece", "", "low", "class", biased=True, percent=True)
def ece(prediction: Categorical, truth: Truth, weight: Weight) -> Values:
    """Expected calibration error: mean over 15 bins of equal mass of |accuracy - confidence| (Guo et al. 2017, eq. 3).

    Confidence is the probability of the chosen class. Bins of equal mass (Nguyen & O'Connor 2015) are kept
    while resampling.
    """
    confidence = prediction.probabilities.max(1)
    rank = np.empty(len(truth), int)
    rank[np.argsort(confidence, kind="stable")] = np.arange(len(truth))
    member = np.eye(BINS)[rank * BINS // max(len(truth), 1)]
    gap = (hits(prediction, truth) - confidence)[:, None] * member
    return ratio(abs(weight @ gap).sum(1), weight.sum(1))


def _family(name: str, percent: bool, value: Callable[[ndarray, ndarray, ndarray], ndarray]) -> None:
    """Registers ``name[CLASS]``, a function of hits, true members and called members of that class."""

    def of_class(index: int, label: str) -> Metric:
        def function(prediction: Categorical, truth: Truth, weight: Weight) -> Values:
            member, called = truth == index, prediction.best() == index
            return value(*(weight @ x.astype(float) for x in (member & called, member, called)))

        return Metric(f"{name}[{label}]", "class", "high", function, percent=percent)

    FAMILIES[name] = of_class


_family("precision", True, lambda hit, true, called: ratio(hit, called))
_family("recall", True, lambda hit, true, called: ratio(hit, true))
_family("f1", False, lambda hit, true, called: ratio(2 * hit, true + called))


def _members(prediction: Categorical, labels: ndarray) -> Float[ndarray, "object class"]:
    return np.eye(len(prediction.classes))[labels]


def _counts(prediction: Categorical, truth: Truth, weight: Weight) -> tuple[ndarray, ndarray, ndarray]:
    """Hits, true members and called members of every class, each ``[resample, class]``."""
    true, called = _members(prediction, truth), _members(prediction, prediction.best())
    return weight @ (true * called), weight @ true, weight @ called


def _mean(values: Float[ndarray, "resample class"]) -> Values:
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0).sum(1), known.sum(1))


def _one_against_rest(
    score: Callable[[ndarray, ndarray, Weight], Values], prediction: Categorical, truth: Truth, weight: Weight
) -> Values:
    count = len(prediction.classes)
    wanted = [count - 1] if count == 2 else range(count)
    return _mean(np.stack([score(prediction.probabilities[:, i], truth == i, weight) for i in wanted], 1))


def _by_threshold(score: ndarray, member: ndarray, weight: Weight) -> tuple[ndarray, ndarray]:
    """Members and others at each distinct score, from the highest down, each ``[resample, threshold]``."""
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0][: len(score)])
    weight, member = weight[:, order], member[order]
    return np.add.reduceat(weight * member, starts, 1), np.add.reduceat(weight * ~member, starts, 1)


def _auc(score: ndarray, member: ndarray, weight: Weight) -> Values:
    inside, outside = _by_threshold(score, member, weight)
    below = outside.sum(1, keepdims=True) - outside.cumsum(1)
    return ratio((inside * (below + outside / 2)).sum(1), inside.sum(1) * outside.sum(1))


def _average_precision(score: ndarray, member: ndarray, weight: Weight) -> Values:
    inside, outside = _by_threshold(score, member, weight)
    found = inside.cumsum(1)
    precision = ratio(found, found + outside.cumsum(1))
    return ratio((np.nan_to_num(precision) * inside).sum(1), inside.sum(1))
