"""Is a posterior right? Ranks, random points, widths: tests that need nothing but draws and the truths of simulations.

An exact posterior passes each of them; none of them alone shows that a posterior is exact. The prior itself passes the
ranks, so that the widths and the contraction belong beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from ..errors import GsnnError
from .base import blocks
from .calibration import wilson
from .draws import together

BINS = 20
KERNEL = 250  # draws of a density
LEVELS = np.arange(1, 20) / 20

Joint = Float[ndarray, "object draw parameter"]
Truths = Float[ndarray, "object parameter"]


def checks(found: Mapping[str, Any], truth: Mapping[str, ndarray], prior: Mapping[str, ndarray], seed: int = 0) -> dict:
    """What answer.json says of a joint posterior: ranks and widths of each parameter, coverage of all together.

    ``found`` are Draws by target, ``truth`` their true values, ``prior`` values of training objects. Objects without a
    truth are left out. {} where there are no draws.
    """
    draws = together(found)
    if draws is None:
        return {}
    names = list(found)
    values = np.stack([np.asarray(truth[name], float) for name in names], 1)
    known = np.isfinite(values).all(1)
    draws, values = draws[known], values[known]
    if len(values) < BINS:
        return {}
    spread = np.array([np.nanstd(prior[name]) for name in names])
    place = ranks(draws, values)
    sigma = draws.std(1, ddof=1)
    each = {}
    for i, name in enumerate(names):
        each[name] = uniform(place[:, i], draws.shape[1]) | {
            "sigma": float(sigma[:, i].mean()),
            "prior_sigma": float(spread[i]),
            "contraction": float(1 - (sigma[:, i] ** 2).mean() / spread[i] ** 2),
            "z": float(((draws[:, :, i].mean(1) - values[:, i]) / sigma[:, i]).std()),
        }
    return {
        "n": len(values),
        "draws": draws.shape[1],
        "parameters": each,
        "correlation": correlation(draws).tolist(),
        "tarp": tarp(draws, values, spread, seed),
        "highest_density": highest_density(draws, values),
    }


def ranks(draws: Joint, truth: Truths) -> Int[ndarray, "object parameter"]:
    """How many draws lie below the truth: uniform on 0 .. draws for an exact posterior (Talts et al. 2018,
    arXiv:1804.06788, theorem 1)."""
    return (draws < truth[:, None, :]).sum(1)


def uniform(place: Int[ndarray, " object"], draws: int) -> dict[str, Any]:
    """A histogram of ranks in equal bins, its 95% band, and the Kolmogorov-Smirnov p-value of uniformity.

    {"ranks", "expected", "low", "high", "p"}; ranks are made continuous by half a rank, which for hundreds of draws
    changes p by less than 0.01.
    """
    from scipy.stats import kstest

    from .calibration import pit_histogram

    unit = (place + 0.5) / (draws + 1)
    told = pit_histogram(unit, BINS)
    return {"ranks": told["counts"], **{k: told[k] for k in ("expected", "low", "high")}} | {
        "p": float(kstest(unit, "uniform").pvalue)
    }


def tarp(draws: Joint, truth: Truths, scale: Float[ndarray, " parameter"], seed: int = 0) -> dict[str, Any]:
    """Coverage of all parameters together by distances to random points (TARP; Lemos et al. 2023, arXiv:2302.03026).

    For each object a reference point is drawn uniformly over the box of the truths; ``f`` is the share of draws that
    lie nearer to it than the truth does, with parameters in units of ``scale``. ``f`` is uniform for an exact
    posterior, and only for it if references depend on the data (theorem 3). {"credibility", "coverage", "low", "high":
    the 95% interval of each, "p": Kolmogorov-Smirnov, "largest": the largest |coverage - credibility|}
    """
    low, high = truth.min(0), truth.max(0)
    reference = np.random.default_rng(seed).uniform(low, high, truth.shape)
    share = np.empty(len(truth))
    for some in blocks(len(truth), draws.shape[1] * draws.shape[2]):
        apart = (((draws[some] - reference[some, None]) / scale) ** 2).sum(-1)
        share[some] = (apart < (((truth[some] - reference[some]) / scale) ** 2).sum(-1)[:, None]).mean(1)
    return covered((share * draws.shape[1] + 0.5) / (draws.shape[1] + 1))


def highest_density(draws: Joint, truth: Truths) -> dict[str, Any]:
    """Expected coverage of the regions of highest density (Hermans et al. 2022, arXiv:2110.06581, eq. 3); as ``tarp``.

    Half of the draws of each object make a density, a Gaussian kernel of Scott's width in whitened parameters; ``f``
    is the share of the others whose density is above that of the truth, uniform for an exact posterior whatever the
    kernel. Below the diagonal means too sure.
    """
    count = min(draws.shape[1] // 2, KERNEL)
    share = np.empty(len(truth))
    for some in blocks(len(truth), count * count * draws.shape[2]):
        kernel = draws[some, :count]
        centre = kernel.mean(1, keepdims=True)
        covariance = np.einsum("nda,ndb->nab", kernel - centre, kernel - centre) / (count - 1)
        covariance += 1e-9 * np.einsum("naa->na", covariance).mean(1)[:, None, None] * np.eye(draws.shape[2])
        whiten = np.linalg.inv(np.linalg.cholesky(covariance))
        asked = np.concatenate([truth[some, None], draws[some, count : 2 * count]], 1)
        place, kernel = (np.einsum("nab,ndb->nda", whiten, one - centre) for one in (asked, kernel))
        apart = (place**2).sum(2)[:, :, None] + (kernel**2).sum(2)[:, None] - 2 * place @ kernel.transpose(0, 2, 1)
        width = count ** (-1 / (draws.shape[2] + 4))
        low = apart.min(2)  # beside the nearest draw, so that far away the logarithm stays finite
        density = np.log(np.exp(-0.5 * (apart - low[:, :, None]) / width**2).sum(2)) - 0.5 * low / width**2
        share[some] = (density[:, 1:] > density[:, :1]).mean(1)
    return covered((share * count + 0.5) / (count + 1))


def covered(share: Float[ndarray, " object"]) -> dict[str, Any]:
    """How many truths lie within regions that claim so much; ``share`` is the credibility of the one that it is on."""
    from scipy.stats import kstest

    inside = (share[:, None] < LEVELS).sum(0)
    lower, upper = wilson(inside, np.full(len(LEVELS), len(share)))
    found = inside / len(share)
    return {
        "credibility": LEVELS.tolist(),
        "coverage": found.tolist(),
        "low": lower.tolist(),
        "high": upper.tolist(),
        "largest": float(abs(found - LEVELS).max()),
        "p": float(kstest(share, "uniform").pvalue),
    }


def correlation(draws: Joint) -> Float[ndarray, "parameter parameter"]:
    """The mean over objects of the correlation of the parameters in the posterior."""
    centred = draws - draws.mean(1, keepdims=True)
    covariance = np.einsum("nda,ndb->nab", centred, centred)
    scale = np.sqrt(np.einsum("naa->na", covariance))
    return (covariance / (scale[:, :, None] * scale[:, None, :])).mean(0)


def two_samples(
    one: Float[ndarray, "draw parameter"], other: Float[ndarray, "draw2 parameter"], seed: int = 0
) -> float:
    """C2ST: how well a classifier tells draws of one posterior from another's, by accuracy: 0.5 where they are equal.

    Five folds of a network of two hidden layers on standardised draws (Lopez-Paz & Oquab 2017, arXiv:1610.06545; the
    settings of Lueckmann et al. 2021, arXiv:2101.04653).
    """
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    if one.ndim != 2 or one.shape[1:] != other.shape[1:] or min(len(one), len(other)) < 100:
        raise GsnnError("two_samples: needs at least 100 draws of the same parameters from each posterior")
    x = np.concatenate([one, other])
    x = (x - one.mean(0)) / one.std(0)
    y = np.r_[np.zeros(len(one)), np.ones(len(other))]
    width = 10 * x.shape[1]
    net = MLPClassifier((width, width), max_iter=1000, early_stopping=True, random_state=seed)
    folds = KFold(5, shuffle=True, random_state=seed)
    return float(cross_val_score(net, x, y, cv=folds, scoring="accuracy").mean())
