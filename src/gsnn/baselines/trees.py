"""Ensembles of trees, the methods to beat on tables: random forests and histogram gradient boosting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ..data.schema import Column, Schema
from ..errors import GsnnError
from .base import Baseline, Table, categorical, choose, grid, log_loss, spread
from .density import LEVELS, Kernel, tune_kernel

if TYPE_CHECKING:
    from ..evaluation.distributions import Distribution


class Forest(Baseline):
    """Random forest (Breiman 2001); for a scalar the quantile regression forest of Meinshausen (2006, JMLR 7, 983).

    There an object's p(value) weighs the training objects by how often, over the trees, they share its leaf.
    """

    def __init__(self, inputs: Schema, target: Column, *, colours: bool = True, trees: int = 300):
        super().__init__(inputs, target, colours=colours)
        if trees < 1:
            raise GsnnError(f"baseline forest: 'trees' has to be at least 1, not {trees}")
        self.trees = trees

    def tune(self, train: Table, valid: Table, seed: int) -> None:
        self.medians = _medians(train.x)
        self.order = np.argsort(train.y, kind="stable")  # training objects by value, so that weights add up to a cdf
        leaves = (1, 3, 6, 12) if self.labels else (2, 5, 10, 20)
        some = slice(None, None, max(1, len(valid.y) // 1000))
        part = Table(valid.x, valid.y) if self.labels else Table(valid.x[some], valid.y[some])

        def score(c: dict[str, Any]) -> float:
            self._grow(c, train, min(self.trees, 60), seed)
            return self._score(part)[0]

        shares = ("sqrt", 0.5, 1.0) if train.x.shape[1] > 2 else (1.0,)
        # a coordinate at a time: the share of features a split may see, then the size of a leaf
        first = choose(grid(leaf=leaves[1:2], share=shares), score)
        self.chosen = choose(grid(leaf=leaves, share=(first["share"],)), score)
        self._grow(self.chosen, train, self.trees, seed)
        _, self.kernel = self._score(part)

    def _grow(self, c: dict[str, Any], train: Table, trees: int, seed: int) -> None:
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        kind = RandomForestClassifier if self.labels else RandomForestRegressor
        self.model = kind(trees, min_samples_leaf=c["leaf"], max_features=c["share"], n_jobs=2, random_state=seed).fit(
            _fill(train.x, self.medians), train.y
        )
        if not self.labels:
            self.y = train.y[self.order]
            inside = self._leaves(train.x[self.order])
            count = np.asarray(inside.sum(0)).ravel()
            inside.data /= np.maximum(count, 1)[inside.indices]
            self.shares = inside.T.tocsr()

    def _leaves(self, x: np.ndarray) -> Any:
        """Sparse [object, node of any tree]: 1 where the object falls into that leaf."""
        from scipy.sparse import csr_array

        nodes = np.cumsum([0, *(tree.tree_.node_count for tree in self.model.estimators_)])
        leaf = self.model.apply(_fill(x, self.medians)) + nodes[:-1]
        indptr = np.arange(len(x) + 1) * leaf.shape[1]
        return csr_array((np.ones(leaf.size), leaf.ravel(), indptr), shape=(len(x), nodes[-1]))

    def _values(self, x: np.ndarray) -> Float[np.ndarray, "object level"]:
        """Quantiles of the forest's weighted training values."""
        out = np.empty((len(x), len(LEVELS)))
        for start in range(0, len(x), 1024):
            weight = self._leaves(x[start : start + 1024]) @ self.shares
            weight.sort_indices()
            total = np.cumsum(weight.data)
            before = np.r_[0, total][weight.indptr]
            mass = np.diff(before)
            wanted = before[:-1, None] + LEVELS * mass[:, None]
            found = np.clip(np.searchsorted(total, wanted), weight.indptr[:-1, None], weight.indptr[1:, None] - 1)
            out[start : start + 1024] = self.y[weight.indices[found]]
        return out

    def _p(self, x: np.ndarray) -> Float[np.ndarray, "object class"]:
        trees = len(self.model.estimators_)  # an average over few trees never knows that a class is impossible
        return spread(
            self.model.predict_proba(_fill(x, self.medians)), self.model.classes_, len(self.target.classes), trees
        )

    def _score(self, valid: Table) -> tuple[float, Kernel | None]:
        if self.labels:
            return log_loss(self._p(valid.x), valid.y), None
        return tune_kernel(self._values(valid.x), valid.y)

    def distribution(self, x: Float[np.ndarray, "object feature"]) -> Distribution:
        return categorical(self._p(x), self.target) if self.labels else self.kernel.density(self._values(x))

    def describe(self) -> str:
        c = self.chosen
        kind = "Random forest" if self.labels else "Quantile regression forest"
        return f"{kind}, {self.trees} trees, leaf >= {c['leaf']}, features {c['share']}, on {self.objects} objects."


class Boosting(Baseline):
    """Histogram gradient boosting (Friedman 2001, Ann. Statist. 29, 1189; Ke et al. 2017, NeurIPS 30).

    For a scalar, p(value) is the point plus the residuals of the validation objects whose point is alike: they are
    kept in bins of the predicted value, so that the width, the skewness and the bias may change along it.
    """

    def __init__(self, inputs: Schema, target: Column, *, colours: bool = True, iterations: int = 300):
        super().__init__(inputs, target, colours=colours)
        if iterations < 1:
            raise GsnnError(f"baseline boosting: 'iterations' has to be at least 1, not {iterations}")
        self.iterations = iterations

    def tune(self, train: Table, valid: Table, seed: int) -> None:
        self.known = np.isfinite(train.x).any(0)  # a column that training never shows cannot be binned
        if not self.known.any():
            self.known[:1], train = True, Table(np.zeros_like(train.x), train.y)
        train, valid = (Table(t.x[:, self.known], t.y) for t in (train, valid))
        some = slice(None, None, max(1, len(valid.y) // 5000))
        part = Table(valid.x[some], valid.y[some])
        losses = ("log_loss",) if self.labels else ("absolute_error", "squared_error")
        best: dict[str, Any] = {"loss": losses[0], "rate": 0.1, "leaves": 31, "least": 20, "score": np.inf}
        axes = {"loss": losses, "leaves": (7, 15, 31, 63), "least": (5, 20, 60), "rate": (0.1, 0.05)}
        tried = set()
        for axis, values in axes.items():  # a coordinate at a time, from the defaults
            for value in values:
                c = best | {axis: value}
                key = tuple(c[name] for name in axes)
                if key not in tried:
                    tried.add(key)
                    c["score"], c["iterations"] = self._stages(self._model(c, self.iterations, seed), train, part)
                    best = min(best, c, key=lambda c: c["score"])
        self.chosen = best
        self.model = self._model(best, best["iterations"], seed).fit(train.x, train.y)
        if not self.labels:
            self._residuals(valid)

    def _model(self, c: dict[str, Any], iterations: int, seed: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingClassifier if self.labels else HistGradientBoostingRegressor
        return kind(
            loss=c["loss"],
            learning_rate=c["rate"],
            max_iter=iterations,
            max_leaf_nodes=c["leaves"],
            min_samples_leaf=c["least"],
            early_stopping=False,  # it would hold out training objects; validation decides instead
            random_state=seed,
        )

    def _stages(self, model: Any, train: Table, valid: Table) -> tuple[float, int]:
        """The lowest validation loss over the iterations, and how many they were."""
        model.fit(train.x, train.y)
        if self.labels:
            losses = [log_loss(self._full(model, p), valid.y) for p in model.staged_predict_proba(valid.x)]
        else:
            losses = [float(np.abs(point - valid.y).mean()) for point in model.staged_predict(valid.x)]
        return min(losses), int(np.argmin(losses)) + 1

    def _full(self, model: Any, p: np.ndarray) -> Float[np.ndarray, "object class"]:
        return spread(p, model.classes_, len(self.target.classes), self.objects)

    def _residuals(self, valid: Table) -> None:
        """Bins of about 200 validation objects; the kernel is tuned on objects that are not in the bins themselves."""
        point = self.model.predict(valid.x)
        residual = valid.y - point
        bins = int(np.clip(len(point) // 200, 1, 15))
        self.edges = np.quantile(point, np.arange(1, bins) / bins)
        half = np.arange(len(point)) % 2 == 0
        if half.all():
            half = ~half
        seen = half if half.any() else ~half
        values = point[~half, None] + self._levels(point[seen], residual[seen])[self._bin(point[~half])]
        _, self.kernel = tune_kernel(values, valid.y[~half])
        self.residuals = self._levels(point, residual)

    def _bin(self, point: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.edges, point)

    def _levels(self, point: np.ndarray, residual: np.ndarray) -> Float[np.ndarray, "bin level"]:
        place = self._bin(point)
        own = [residual[place == i] for i in range(len(self.edges) + 1)]
        return np.stack([np.quantile(r if len(r) else residual, LEVELS) for r in own])

    def distribution(self, x: Float[np.ndarray, "object feature"]) -> Distribution:
        x = x[:, self.known]
        if self.labels:
            return categorical(self._full(self.model, self.model.predict_proba(x)), self.target)
        point = self.model.predict(x)
        return self.kernel.density(point[:, None] + self.residuals[self._bin(point)])

    def describe(self) -> str:
        c = self.chosen
        return (
            f"Gradient boosting, {c['iterations']} iterations, rate {c['rate']:g}, {c['leaves']} leaves of "
            f">= {c['least']}, {c['loss'].replace('_', ' ')}, on {self.objects} objects."
        )


def _medians(x: Float[np.ndarray, "object feature"]) -> Float[np.ndarray, " feature"]:
    known = np.isfinite(x).any(0)
    return np.where(known, np.nanmedian(np.where(known, x, 0), 0), 0)


def _fill(x: np.ndarray, medians: Float[np.ndarray, " feature"]) -> np.ndarray:
    return np.where(np.isfinite(x), x, medians)
