"""Metrics of values and of their distributions. Truth is ``float [object]`` in the prediction's unit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.special import ndtr

from .base import blocks
from .distributions import Continuous, Mixture, Samples, Warped
from .draws import Draws
from .metric import Values, Weight, mean_metric, metric, ratio, weighted_median

Truth = Float[ndarray, " object"]
OUTLIER = 0.15
KERNELS = 256  # above this many components pairs are dearer than quadrature


def dz(prediction: Continuous, truth: Truth) -> Float[ndarray, " object"]:
    """(z_photo - z_spec) / (1 + z_spec)."""
    return (prediction.best() - truth) / (1 + truth)


@metric("sigma_nmad", "", "low", "value", redshift=True)
def sigma_nmad(prediction: Continuous, truth: Truth, weight: Weight) -> Values:
    """1.4826 median |dz - median dz| (Hoaglin, Mosteller & Tukey 1983; Brammer et al. 2008, eq. 5)."""
    x = dz(prediction, truth)
    centre = weighted_median(x, weight)
    if (weight == weight[:1]).all():
        return 1.4826 * weighted_median(abs(x - centre[0]), weight)
    return 1.4826 * weighted_median(abs(x - centre[:, None]), weight)


@mean_metric("outlier_rate", "", "low", "value", redshift=True, percent=True)
def outlier(prediction: Continuous, truth: Truth) -> Float[ndarray, " object"]:
    """|dz| > 0.15 (Hildebrandt et al. 2010)."""
    return (abs(dz(prediction, truth)) > OUTLIER).astype(float)


mean_metric("photoz_bias", "", "near", "value", goal=0.0, redshift=True)(dz)


@mean_metric("rmse", "target", "low", "value", finish=np.sqrt)
def squared_error(prediction: Continuous, truth: Truth) -> Float[ndarray, " object"]:
    return (prediction.best() - truth) ** 2


@mean_metric("mae", "target", "low", "value")
def absolute_error(prediction: Continuous, truth: Truth) -> Float[ndarray, " object"]:
    return abs(prediction.best() - truth)


@metric("medae", "target", "low", "value")
def medae(prediction: Continuous, truth: Truth, weight: Weight) -> Values:
    """Median absolute error."""
    return weighted_median(absolute_error(prediction, truth), weight)


@mean_metric("bias", "target", "near", "value", goal=0.0)
def residual(prediction: Continuous, truth: Truth) -> Float[ndarray, " object"]:
    """Prediction minus truth."""
    return prediction.best() - truth


@metric("r2", "", "high", "value")
def r2(prediction: Continuous, truth: Truth, weight: Weight) -> Values:
    """1 - residual sum of squares / total sum of squares (coefficient of determination)."""
    centred = truth - truth.mean() if len(truth) else truth  # of the whole sample, against cancellation
    total = weight @ centred**2 - ratio((weight @ centred) ** 2, weight.sum(1))
    total = np.where(total > 1e-12 * (weight @ centred**2), total, 0)
    return 1 - ratio(weight @ squared_error(prediction, truth), total)


@mean_metric("crps", "target", "low", "distribution")
def crps(prediction: Continuous, truth: Truth) -> Float[ndarray, " object"]:
    """Continuous ranked probability score, the integral of (cdf - step at truth)^2 (Gneiting & Raftery 2007, eq. 20).

    Closed for mixtures of Gaussians (Grimit et al. 2006, eq. 5), else the integral of the quantile (pinball) score.
    """
    g = gaussians(prediction)
    if g is None:
        u = (np.arange(400) + 0.5) / 400
        q = prediction.quantile(u)
        return 2 * (((truth[:, None] < q) - u) * (q - truth[:, None])).mean(1)
    return (g.weight * _absolute(truth[:, None] - g.centre, g.sigma)).sum(1) - _pairs(g, _absolute) / 2


@mean_metric("cde_loss", "1/target", "low", "distribution")
def cde_loss(prediction: Continuous, truth: Truth) -> Float[ndarray, " object"]:
    """Integral of p^2 - 2 p(truth) (Izbicki & Lee 2017, eq. 4, up to a constant); closed for mixtures of Gaussians."""
    g = gaussians(prediction)
    if g is None:
        square = prediction.pdf(prediction.quantile((np.arange(400) + 0.5) / 400)).mean(1)
    else:
        square = _pairs(g, lambda m, s: np.exp(-0.5 * (m / s) ** 2) / s / np.sqrt(2 * np.pi))
    return square - 2 * prediction.pdf(truth)


@mean_metric("nll", "nat", "low", "distribution")
def nll(prediction: Continuous, truth: Truth) -> Float[ndarray, " object"]:
    """-ln p(truth); p is not taken below e^-700."""
    return -np.maximum(prediction.log_pdf(truth), -700)


def pit(prediction: Continuous, truth: Truth) -> Float[ndarray, " object"]:
    """Probability integral transform cdf(truth): uniform where the distributions are calibrated (Dawid 1984)."""
    return np.clip(prediction.cdf(truth), 0, 1)


@metric("pit_ks", "", "low", "distribution", biased=True)
def pit_ks(prediction: Continuous, truth: Truth, weight: Weight) -> Values:
    """Kolmogorov-Smirnov distance of the PIT values from the uniform distribution."""
    x = pit(prediction, truth)
    order = np.argsort(x)
    x, weight = x[order], weight[:, order]
    above = ratio(weight.cumsum(1), weight.sum(1, keepdims=True))
    below = above - ratio(weight, weight.sum(1, keepdims=True))
    return np.maximum(above - x, x - below).max(1) if len(x) else np.full(len(weight), np.nan)


@mean_metric("posterior_sigma", "target", "low", "posterior")
def posterior_sigma(prediction: Draws, truth: Truth) -> Float[ndarray, " object"]:
    """The standard deviation of the posterior: how much is known. Only where the coverage holds is low good."""
    return prediction.sigma()


def covered(level: float) -> None:
    """Registers the share of truths inside the central interval that claims to hold ``level`` of them."""

    @mean_metric(f"coverage_{round(100 * level)}", "", "near", "distribution", goal=level, percent=True)
    def inside(prediction: Continuous, truth: Truth) -> Float[ndarray, " object"]:
        return (abs(pit(prediction, truth) - 0.5) <= level / 2).astype(float)


covered(0.68)
covered(0.90)


def gaussians(prediction: Continuous) -> Mixture | None:
    """The prediction as a mixture of Gaussians in native units, where it is one of moderate size."""
    if isinstance(prediction, Warped):
        base = gaussians(prediction.base)
        if base is None or not len(base):
            return base
        # a change of variable with one slope everywhere keeps a Gaussian a Gaussian
        ends = np.r_[(base.centre - 5 * base.sigma).min(), base.centre.mean(), (base.centre + 5 * base.sigma).max()]
        native = np.asarray(prediction.bijection.inverse(np.linspace(ends[0], ends[2], 33)), float)
        slope = np.asarray(prediction.bijection.derivative(native), float) * np.ones(33)
        if not np.isfinite(slope).all() or np.ptp(slope) > 1e-6 * abs(slope[0]):
            return None
        centre = np.asarray(prediction.bijection.inverse(base.centre), float)
        return Mixture(base.weight, centre, base.sigma / abs(slope[0]))
    found = prediction.kernel if isinstance(prediction, Samples) else prediction
    return found if isinstance(found, Mixture) and found.weight.shape[1] <= KERNELS else None


def _absolute(m: ndarray, s: ndarray) -> ndarray:
    """E |X| of a Gaussian of mean m and standard deviation s."""
    u = m / s
    return 2 * s * np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi) + m * (2 * ndtr(u) - 1)


def _pairs(g: Mixture, term: Callable[[ndarray, ndarray], ndarray]) -> Float[ndarray, " object"]:
    """The mean of term(difference of means, its sigma) over all pairs of components."""
    if g.repeats:
        return np.repeat(_pairs(g.take(slice(0, 1)), term), len(g))
    out = np.empty(len(g))
    for some in blocks(len(g), g.weight.shape[1] ** 2):
        w, m, s = g.weight[some], g.centre[some], g.sigma[some]
        values = term(m[:, :, None] - m[:, None, :], np.hypot(s[:, :, None], s[:, None, :]))
        out[some] = np.einsum("ni,nij,nj->n", w, values, w)
    return out
