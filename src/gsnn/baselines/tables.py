"""Classical methods for tables of numbers. Classes are judged by log loss on validation, p(value) by CDE loss.

Linear models and neighbours see imputed, standardised features; trees (``trees``) see them as they are. Each gives
probabilities of classes for a label and a distribution for a scalar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ..data.schema import Column, Schema
from ..errors import GsnnError
from .base import Baseline, Table, categorical, grid, log_loss, spread
from .density import tune_kernel, weighted_quantiles
from .trees import Boosting, Forest

if TYPE_CHECKING:
    from ..evaluation.distributions import Distribution

__all__ = ["Boosting", "Forest", "Linear", "Logistic", "Neighbours"]


def _pipeline(*steps: Any, degree: int = 1) -> Any:
    """Median imputation with a flag for what was missing, standardisation, powers up to ``degree``; then ``steps``."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    first = [SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler()]
    if degree > 1:
        first += [PolynomialFeatures(degree, include_bias=False), StandardScaler()]
    return make_pipeline(*first, *steps)


def _degrees(x: Float[np.ndarray, "object feature"]) -> tuple[int, ...]:
    """Squares and products join where they are few beside the objects (Connolly et al. 1995, AJ 110, 2655)."""
    return (1, 2) if x.shape[1] <= 15 and len(x) >= 10 * x.shape[1] ** 2 else (1,)


class Logistic(Baseline):
    """Multinomial logistic regression with an L2 penalty, for labels."""

    def __init__(self, inputs: Schema, target: Column, *, colours: bool = True):
        super().__init__(inputs, target, colours=colours)
        if not self.labels:
            raise GsnnError(f"baseline logistic: the target {target.name!r} is a scalar; use 'linear' in its place")

    def tune(self, train: Table, valid: Table, seed: int) -> None:
        from sklearn.linear_model import LogisticRegression

        def fit(c: dict[str, Any]) -> Any:
            head = LogisticRegression(C=c["C"], max_iter=200, random_state=seed)
            return _quiet(lambda: _pipeline(head, degree=c["degree"]).fit(train.x, train.y))

        fitted = [(c, fit(c)) for c in grid(degree=_degrees(train.x), C=(0.01, 0.1, 1.0, 10.0, 100.0))]
        self.chosen, self.model = min(fitted, key=lambda found: log_loss(self._p(found[1], valid.x), valid.y))

    def _p(self, model: Any, x: np.ndarray) -> Float[np.ndarray, "object class"]:
        return spread(model.predict_proba(x), model.classes_, len(self.target.classes), self.objects)

    def distribution(self, x: Float[np.ndarray, "object feature"]) -> Distribution:
        return categorical(self._p(self.model, x), self.target)

    def describe(self) -> str:
        c = self.chosen
        return f"Logistic regression, degree {c['degree']}, C = {c['C']:g}, on {self.objects} objects."


class Linear(Baseline):
    """Ridge regression for a scalar; p(value) is a Gaussian with the residual scatter of the validation split."""

    def __init__(self, inputs: Schema, target: Column, *, colours: bool = True):
        super().__init__(inputs, target, colours=colours)
        if self.labels:
            raise GsnnError(f"baseline linear: the target {target.name!r} is a label; use 'logistic' in its place")

    def tune(self, train: Table, valid: Table, seed: int) -> None:
        from sklearn.linear_model import Ridge

        def fit(c: dict[str, Any]) -> Any:
            return _pipeline(Ridge(c["alpha"]), degree=c["degree"]).fit(train.x, train.y)

        def error(model: Any) -> float:
            return float(np.sqrt(np.mean((model.predict(valid.x) - valid.y) ** 2)))

        fitted = [(c, fit(c)) for c in grid(degree=_degrees(train.x), alpha=(1e-3, 0.1, 1.0, 10.0, 100.0))]
        self.chosen, self.model = min(fitted, key=lambda found: error(found[1]))
        self.sigma = max(error(self.model), 1e-6 * (float(np.std(train.y)) or 1.0))

    def distribution(self, x: Float[np.ndarray, "object feature"]) -> Distribution:
        from ..evaluation.distributions import Mixture

        mean = self.model.predict(x)[:, None]
        return Mixture(np.ones_like(mean), mean, np.full_like(mean, self.sigma))

    def describe(self) -> str:
        c, unit = self.chosen, f" {self.target.unit}" if self.target.unit else ""
        return (
            f"Ridge regression, degree {c['degree']}, alpha = {c['alpha']:g}, sigma = {self.sigma:.3g}{unit}, "
            f"on {self.objects} objects."
        )


class Neighbours(Baseline):
    """The k nearest training objects vote; for a scalar their values, weighted, are p(value)."""

    def __init__(self, inputs: Schema, target: Column, *, colours: bool = True, most: int = 100):
        super().__init__(inputs, target, colours=colours)
        if most < 1:
            raise GsnnError(f"baseline knn: 'most' is the largest number of neighbours, at least 1, not {most}")
        self.most = most

    def tune(self, train: Table, valid: Table, seed: int) -> None:
        from sklearn.neighbors import NearestNeighbors

        self.scale, self.y = _pipeline().fit(train.x), train.y
        some = slice(None, None, max(1, len(valid.y) // 2000))
        most, best = min(self.most, len(train.y)), np.inf
        for power in (1, 2):
            near = NearestNeighbors(n_neighbors=most, p=power, n_jobs=2).fit(self.scale.transform(train.x))
            distance, index = near.kneighbors(self.scale.transform(valid.x[some]))
            sizes = sorted({min(k, most) for k in (3, 7, 15, 30, 60, most)})
            for c in grid(power=(power,), k=sizes, weights=("uniform", "distance")):
                answer = self._vote(distance[:, : c["k"]], index[:, : c["k"]], c["weights"])
                loss, kernel = (
                    (log_loss(answer, valid.y[some]), None) if self.labels else tune_kernel(answer, valid.y[some])
                )
                if loss < best:
                    best, self.chosen, self.kernel, self.near = loss, c, kernel, near

    def _vote(self, distance: np.ndarray, index: np.ndarray, weights: str) -> np.ndarray:
        """Probabilities [object, class], or values [object, level] of equal weight."""
        weight = np.ones_like(distance)
        if weights == "distance":
            weight = 1 / np.maximum(distance, 1e-6 + 1e-3 * distance.mean(1, keepdims=True))
        if not self.labels:
            return weighted_quantiles(self.y[index], weight)
        votes = np.zeros((len(index), len(self.target.classes)))
        np.add.at(votes, (np.arange(len(index))[:, None], self.y[index]), weight / weight.sum(1, keepdims=True))
        k = index.shape[1]  # k votes leave at best one part in k + classes to what they did not see
        return spread(votes, np.arange(votes.shape[1]), votes.shape[1], k)

    def distribution(self, x: Float[np.ndarray, "object feature"]) -> Distribution:
        distance, index = self.near.kneighbors(self.scale.transform(x), self.chosen["k"])
        answer = self._vote(distance, index, self.chosen["weights"])
        return categorical(answer, self.target) if self.labels else self.kernel.density(answer)

    def describe(self) -> str:
        c, metric = self.chosen, {1: "Manhattan", 2: "Euclidean"}[self.chosen["power"]]
        return f"{c['k']} nearest neighbours ({metric}, {c['weights']} weights) among {self.objects} objects."


def _quiet(call: Any) -> Any:
    """Without the warning that an optimiser stopped at its limit: validation judges what it found."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return call()
