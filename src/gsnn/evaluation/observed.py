"""How far a posterior of what was observed can be believed: tests at this one observation, each with its null."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import GsnnError
from .posteriors import Joint, Truths

NULLS = 100  # classifiers of shuffled labels
NEAR = 100  # simulations that a classifier is taught by, at least
KEPT = 100  # values of a null that are kept for a figure


def among(value: float, null: Float[ndarray, " n"]) -> dict[str, Any]:
    """A statistic beside its null distribution: {"value", "p": share of the null that is as large, "null"}.

    p counts the value itself and is never 0 (Phipson & Smyth 2010, doi:10.2202/1544-6115.1585); "null" are at most 100
    quantiles.
    """
    null = np.sort(np.asarray(null, float))
    if not len(null):
        raise GsnnError("a null distribution needs at least one value")
    some = np.linspace(0, len(null) - 1, min(KEPT, len(null))).round().astype(int)
    return {
        "value": float(value),
        "p": float((1 + (null >= value).sum()) / (1 + len(null))),
        "null": null[some].tolist(),
    }


def local(draws: Joint, truth: Truths, seen: Float[ndarray, "draw parameter"], seed: int = 0) -> dict[str, Any]:
    """L-C2ST: can a classifier tell true parameters from draws, near what was observed? (Linhart, Gramfort & Rodrigues
    2023, arXiv:2306.03580, algorithm 1)

    It is taught by simulations whose truth is known ([object, draw, parameter] and [object, parameter]) and asked at
    the observation's draws ``seen``: the mean of (probability - 1/2)^2 there, beside that of classifiers of labels
    shuffled within each simulation. For hundreds of objects a network that sees the data has little power; this
    classifier is local in that it is taught by the quarter of the simulations whose posterior, by mean and width, is
    most like that of the observation (at least 100), and is a logistic regression on pulls, their squares and
    products: posteriors are moved, too narrow, too wide or turned.
    """
    from sklearn.linear_model import LogisticRegression

    known = np.isfinite(truth).all(1)
    draws, truth = draws[known], truth[known]
    mean, sigma = draws.mean(1), draws.std(1, ddof=1)
    center, width = seen.mean(0), seen.std(0, ddof=1)
    about = np.concatenate([mean, np.log(sigma)], 1)
    apart = (about - np.r_[center, np.log(width)]) / (about.std(0) + 1e-12)
    near = np.argsort((apart**2).sum(1), kind="stable")[: max(len(draws) // 4, NEAR)]
    random = np.random.default_rng(seed)
    pick = draws[near, random.integers(0, draws.shape[1], len(near))]
    pair = [_terms((one - mean[near]) / sigma[near]) for one in (truth[near], pick)]
    asked, labels = _terms((seen - center) / width), np.repeat([0, 1], len(near))

    def statistic(swap: ndarray) -> float:
        first, other = (np.where(s[:, None], pair[1], pair[0]) for s in (swap, ~swap))
        classifier = LogisticRegression(C=0.1, max_iter=200).fit(np.concatenate([first, other]), labels)
        return float(((classifier.predict_proba(asked)[:, 1] - 0.5) ** 2).mean())

    null = [statistic(random.random(len(near)) < 0.5) for _ in range(NULLS)]
    return among(statistic(np.zeros(len(near), bool)), np.array(null))


def _terms(pull: Float[ndarray, "n parameter"]) -> Float[ndarray, "n term"]:
    """Pulls, their squares and products; long tails are cut."""
    pull = pull.clip(-4, 4)
    i, j = np.triu_indices(pull.shape[1])
    return np.concatenate([pull, pull[:, i] * pull[:, j]], 1)


def predictive(simulated: Float[ndarray, "simulation value"], seen: Float[ndarray, " value"]) -> dict[str, Any]:
    """Posterior predictive check: is what was observed as far out as simulations at draws of its posterior are?

    The distance is Mahalanobis', from the mean and covariance of one half of the simulations; the other half is the
    null (Gelman, Meng & Stern 1996, Statistica Sinica 6, 733).
    """
    import torch

    from .outliers import Outliers

    half = len(simulated) // 2
    if half < 10:
        raise GsnnError(f"a predictive check needs at least 20 simulations, not {len(simulated)}")
    values = torch.from_numpy(np.concatenate([simulated, seen[None]])).double()
    values = (values - values[:half].mean(0)) / values[:half].std(0).clamp(min=1e-9)
    judge = Outliers(values.shape[1])
    judge.fit(values[:half], values[:half])
    distance = judge(values[half:]).numpy()
    return among(float(distance[-1]), distance[:-1])
