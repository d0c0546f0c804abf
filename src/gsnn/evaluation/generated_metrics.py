"""Metrics of draws of fields: how far the means of what is measured are from those of true fields."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from .generated import FieldDraws, edges_of, measure
from .metric import Values, Weight, metric, ratio


def off(
    own: Float[ndarray, "object bin"], true: Float[ndarray, "object bin"], share: Float[ndarray, " bin"], weight: Weight
) -> Values:
    """|mean / true mean - 1| of each bin, averaged with these shares; bins that hold nothing true are left out."""
    above, below = weight @ own, weight @ true
    holds = below != 0
    apart = np.abs(np.divide(above, below, out=np.ones_like(above), where=holds) - 1)
    return (apart * share).sum(1) / np.maximum((holds * share).sum(1), 1e-300)


@metric("power_off", "", "low", "field draws", percent=True, biased=True)
def power_off(prediction: FieldDraws, truth: ndarray, weight: Weight) -> Values:
    """|P / P true - 1| of mean spectra up to half of the Nyquist frequency, shells weighted by their modes."""
    own, true = prediction.measured, measure(truth, prediction.column)
    low = true.k <= 0.5
    return off(prediction.mean(own.power)[:, low], true.power[:, low], true.modes[low], weight)


@metric("bispectrum_off", "", "low", "field draws", percent=True, biased=True)
def bispectrum_off(prediction: FieldDraws, truth: ndarray, weight: Weight) -> Values:
    """|B / B true - 1| of mean bispectra up to half of the Nyquist frequency, shells weighted by their modes."""
    own, true = prediction.measured, measure(truth, prediction.column)
    modes = true.modes[: true.bispectrum.shape[1]]
    return off(prediction.mean(own.bispectrum), true.bispectrum, modes, weight)


@metric("peaks_off", "", "low", "field draws", percent=True, biased=True)
def peaks_off(prediction: FieldDraws, truth: ndarray, weight: Weight) -> Values:
    """|N / N true - 1| of the mean number of peaks in eight bins of their height, weighted alike."""
    own, true = prediction.measured, measure(truth, prediction.column)
    edges = edges_of(true)
    counts = true.peaks(edges)
    return off(prediction.mean(own.peaks(edges)), counts, np.ones(counts.shape[1]), weight)


@metric("contrast_r", "", "high", "field draws")
def contrast_r(prediction: FieldDraws, truth: ndarray, weight: Weight) -> Values:
    """The correlation, over objects, of ln of the variance of a voxel in draws with that in the true field."""
    with np.errstate(divide="ignore"):
        own = np.log(prediction.value[:, :, 0].reshape(len(prediction), -1).var(1, dtype=float) + 1e-30)
        true = np.log(np.asarray(truth, float)[:, 0].reshape(len(truth), -1).var(1) + 1e-30)
    total = weight.sum(1, keepdims=True)
    a, b = own - weight @ own[:, None] / total, true - weight @ true[:, None] / total
    return ratio((weight * a * b).sum(1), np.sqrt((weight * a**2).sum(1) * (weight * b**2).sum(1)))
