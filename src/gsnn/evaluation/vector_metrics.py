"""Metrics of whole curves. Truth is ``float [object, band, step]``, or flat, in the prediction's unit."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.special import ndtri

from .metric import Values, Weight, mean_metric, metric, ratio
from .vectors import Curves, Vectors

FIRST = 2  # the multipole of the first step
WIDE = 64  # resamples whose percentiles are sought at once


def _flat(prediction: Vectors, truth: ndarray) -> ndarray:
    return np.asarray(truth, float).reshape(prediction.value.shape)


def cosmic_variance(spectra: Float[ndarray, "object 3 l"]) -> Float[ndarray, "object 3 l"]:
    """The standard deviation of each C_l of TT, TE and EE over the skies of one universe, in the unit of the spectra.

    sqrt(2 / (2l + 1)) C_l for TT and EE, and sqrt((C_TE^2 + C_TT C_EE) / (2l + 1)) for TE (Zaldarriaga & Seljak 1997,
    astro-ph/9609170, eqs 30 to 32 without noise); l begins at 2.
    """
    l = FIRST + np.arange(spectra.shape[-1])  # noqa: E741
    tt, te, ee = spectra[:, 0], spectra[:, 1], spectra[:, 2]
    return np.stack([tt * np.sqrt(2), np.sqrt(te**2 + tt * ee), ee * np.sqrt(2)], 1) / np.sqrt(2 * l + 1)


def share_of_variance(prediction: Vectors, truth: ndarray) -> Curves:
    """|error| over the standard deviation of cosmic variance of each C_l."""
    truth = _flat(prediction, truth)
    return abs(prediction.value - truth) / cosmic_variance(truth)


def percentile(values: Float[ndarray, "object n"], weight: Weight, level: float) -> Values:
    """The ``level`` quantile of all values of the objects together, each object as often as its weight says."""
    order = np.argsort(values, axis=None)
    owner, value = order // values.shape[1], values.ravel()[order]
    out = np.empty(len(weight))
    for start in range(0, len(weight), WIDE):
        some = weight[start : start + WIDE]
        whole = some.sum(1) * values.shape[1]
        reached = some[:, owner].cumsum(1, dtype=np.float32 if values.size < 1 << 23 else float)
        place = (reached < level * whole[:, None]).sum(1).clip(max=len(value) - 1)
        out[start : start + WIDE] = np.where(whole > 0, value[place], np.nan)
    return out


@metric("cosmic_variance_p99", "", "low", "cmb")
def cosmic_variance_p99(prediction: Vectors, truth: ndarray, weight: Weight) -> Values:
    """The 99th percentile, over spectra and multipoles, of |error| in units of cosmic variance."""
    share = share_of_variance(prediction, truth)
    return percentile(share.reshape(len(share), -1), weight, 0.99)


@mean_metric("cosmic_variance_mean", "", "low", "cmb")
def cosmic_variance_mean(prediction: Vectors, truth: ndarray) -> Float[ndarray, " object"]:
    """The mean over multipoles of |error| in units of cosmic variance."""
    return share_of_variance(prediction, truth).mean((1, 2))


@mean_metric("curve_rms", "target", "low", "vector", finish=np.sqrt)
def curve_rms(prediction: Vectors, truth: ndarray) -> Float[ndarray, " object"]:
    """The root of the mean squared error over all steps."""
    return ((prediction.value - _flat(prediction, truth)) ** 2).mean((1, 2))


@metric("explained", "", "high", "vector")
def explained(prediction: Vectors, truth: ndarray, weight: Weight) -> Values:
    """1 - mean squared error / variance over objects, both averaged over the steps in units of their variance."""
    truth = _flat(prediction, truth)
    variance = truth.var(0)
    some = variance > 0
    error = ((prediction.value - truth)[:, some] ** 2 / variance[some]).mean(1)
    spread = ((truth - truth.mean(0))[:, some] ** 2 / variance[some]).mean(1)
    return 1 - ratio(weight @ error, weight @ spread)


@mean_metric("curve_coverage_68", "", "near", "vector", goal=0.68, percent=True)
def curve_coverage(prediction: Vectors, truth: ndarray) -> Float[ndarray, " object"]:
    """The share of steps whose truth lies within the 68% band; NaN for points."""
    if not prediction.proper:
        return np.full(len(prediction), np.nan)
    return (abs(prediction.value - _flat(prediction, truth)) <= ndtri(0.84) * prediction.sigma).mean((1, 2))
