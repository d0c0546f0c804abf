"""The two-point function of points: how many more pairs there are at a separation than chance would have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from jaxtyping import Float
from pydantic import Field

from ..data.schema import Column, Schema
from ..errors import ConfigError, GsnnError
from .base import Table
from .grid_posterior import CELLS
from .summary_posterior import SummaryPosterior
from .tables import Linear
from .trees import Boosting

if TYPE_CHECKING:
    from ..data.points import Points
    from ..data.survey import View
    from ..evaluation.distributions import Distribution

CHUNK = 256  # clouds read at once
FINE = 24  # shells that are counted; their merging is tuned


def pair_counts(
    position: Float[np.ndarray, "node 3"], edges: Float[np.ndarray, " edge"], box: float | None = None
) -> Float[np.ndarray, " shell"]:
    """Pairs, each once, whose separation lies between neighbouring edges; the nearest images in a periodic box."""
    from scipy.spatial import cKDTree

    tree = cKDTree(position if box is None else np.asarray(position, float) % box, boxsize=box)
    return np.diff(tree.count_neighbors(tree, edges).astype(float)) / 2


def share_of_pairs(edges: Float[np.ndarray, " edge"], side: float, periodic: bool) -> Float[np.ndarray, " shell"]:
    """The share of all pairs of random points in a cube that lies between neighbouring edges, up to its side.

    With r in units of the side, 4/3 pi r^3 in a periodic one, and in an open one the distribution of distances in a
    cube (Philip 2007, TRITA-MAT 07-MA-10): 4/3 pi r^3 - 3/2 pi r^4 + 8/5 r^5 - r^6 / 6.
    """
    r = edges / side
    if r.max() > (0.5 if periodic else 1.0) + 1e-9:
        raise GsnnError(
            f"pairs in a cube of {side:g} are counted up to {'half ' * periodic}its side, not {edges.max():g}"
        )
    within = 4 / 3 * np.pi * r**3
    return np.diff(within if periodic else within - 1.5 * np.pi * r**4 + 1.6 * r**5 - r**6 / 6)


def correlation(
    position: Float[np.ndarray, "node 3"], edges: Float[np.ndarray, " edge"], side: float, periodic: bool
) -> Float[np.ndarray, " shell"]:
    """DD / RR - 1 of points in a cube, RR reckoned (Peebles & Hauser 1974, ApJS 28, 19)."""
    pairs = len(position) * (len(position) - 1) / 2 * share_of_pairs(edges, side, periodic)
    return pair_counts(position, edges, side if periodic else None) / pairs - 1


def landy_szalay(
    position: Float[np.ndarray, "node 3"], random: Float[np.ndarray, "point 3"], edges: Float[np.ndarray, " edge"]
) -> Float[np.ndarray, " shell"]:
    """(DD - 2 DR + RR) / RR in a survey of any shape that ``random`` points fill (Landy & Szalay 1993, ApJ 412, 64)."""
    from scipy.spatial import cKDTree

    n, m = len(position), len(random)
    data, filled = cKDTree(position), cKDTree(random)
    dd = np.diff(data.count_neighbors(data, edges).astype(float)) / (n * (n - 1))
    rr = np.diff(filled.count_neighbors(filled, edges).astype(float)) / (m * (m - 1))
    dr = np.diff(data.count_neighbors(filled, edges).astype(float)) / (n * m)
    return (dd - 2 * dr + rr) / rr


def power_law(
    r: Float[np.ndarray, " shell"], correlation: Float[np.ndarray, " shell"], weight: Float[np.ndarray, " shell"]
) -> tuple[float, float]:
    """r_0 and gamma of (r / r_0)^-gamma by weighted least squares of the logarithms, where these are."""
    good = correlation > 0
    slope, height = np.polyfit(np.log(r[good]), np.log(correlation[good]), 1, w=np.sqrt(weight[good]))
    return float(np.exp(height / -slope)), float(-slope)


class PairCounts:
    """What the baselines measure: pairs in ``FINE`` shells of equal width in the logarithm, and how many points."""

    def __init__(self, inputs: Schema, low: float, reach: float | None):
        clouds = [c for c in inputs.of_kind("graph") if c.shape == (3,)]
        if len(clouds) != 1:
            raise ConfigError("a two-point function is one of a graph in three dimensions; name it in [data] inputs")
        self.column, self.low, self.reach = clouds[0], low, reach

    def __call__(self, view: View) -> Float[np.ndarray, "object count"]:
        """Pairs in each shell, those that chance would have, and the number of points."""
        self.within(view.schema)
        chunks = view.chunks([self.column.name], CHUNK)
        return np.concatenate([np.zeros((0, 2 * FINE + 1)), *(self.of(chunk[self.column.name]) for chunk in chunks)])

    def within(self, schema: Schema) -> None:
        """Learn in what cube the points of a survey lie."""
        self.side = self.column.box or float(schema.provenance.get("side", "nan"))
        if not np.isfinite(self.side):
            raise GsnnError(
                "two-point: the survey does not say in what cube its points lie; it reads periodic boxes, and those of "
                "`galaxy-boxes`"
            )
        self.edges = np.geomspace(self.low, self.reach or 0.4 * self.side, FINE + 1)

    def of(self, points: Points) -> Float[np.ndarray, "object count"]:
        share, rows = share_of_pairs(self.edges, self.side, self.column.box is not None), []
        for a, b in zip(points.offsets[:-1], points.offsets[1:]):
            pairs = pair_counts(points.position[a:b].astype(float), self.edges, self.column.box)
            rows.append([*pairs, *((b - a) * (b - a - 1) / 2 * share), b - a])
        return np.array(rows, float).reshape(len(rows), 2 * FINE + 1)


def merged(counts: Float[np.ndarray, "object count"], by: int) -> Float[np.ndarray, "object feature"]:
    """log10 of pairs over those expected, shells put together ``by`` so many, and of the number of points."""
    shape = (len(counts), FINE // by, by)
    found, expected = (part.reshape(shape).sum(2) for part in (counts[:, :FINE], counts[:, FINE:-1]))
    return np.concatenate([np.log10((found + 0.5) / (expected + 0.5)), np.log10(np.maximum(counts[:, -1:], 0.5))], 1)


class TwoPoint(Linear):
    """Ridge regression on the logarithm of 1 + xi in shells from ``low`` to ``reach``, and on the number of points.

    Degree, penalty and how many shells there are (24, 12, 8 or 6) are chosen on validation.
    """

    def __init__(
        self,
        inputs: Schema,
        target: Column,
        *,
        low: Annotated[float, Field(gt=0)] = 1.0,
        reach: Annotated[float | None, Field(gt=0)] = None,
    ):
        super().__init__(inputs, target, colours=False)
        self.counts = PairCounts(inputs, low, reach)

    def matrix(self, view: View) -> Float[np.ndarray, "object feature"]:
        return self.counts(view)

    def tune(self, train: Table, valid: Table, seed: int) -> None:
        best: dict[str, Any] | None = None
        for by in (1, 2, 3, 4):
            super().tune(*(Table(merged(part.x, by), part.y) for part in (train, valid)), seed)
            if best is None or self.sigma < best["sigma"]:
                best = {"by": by, "sigma": self.sigma, "model": self.model, "chosen": self.chosen}
        self.__dict__.update(best)

    def distribution(self, x: Float[np.ndarray, "object feature"]) -> Distribution:
        return super().distribution(merged(x, self.by))

    def describe(self) -> str:
        return f"{super().describe()[:-1]}, {FINE // self.by} shells to {self.counts.edges[-1]:.3g}."


class TwoPointBoosting(Boosting):
    """Boosted trees on the same, in 12 shells."""

    def __init__(
        self,
        inputs: Schema,
        target: Column,
        *,
        low: Annotated[float, Field(gt=0)] = 1.0,
        reach: Annotated[float | None, Field(gt=0)] = None,
        iterations: int = 300,
    ):
        super().__init__(inputs, target, colours=False, iterations=iterations)
        self.counts = PairCounts(inputs, low, reach)

    def matrix(self, view: View) -> Float[np.ndarray, "object feature"]:
        return merged(self.counts(view), 2)


class TwoPointLikelihood(SummaryPosterior):
    """The joint posterior of all targets by a Gaussian likelihood of the same logarithms.

    How many shells there are (24, 12, 8 or 6) is chosen by the posterior density of validation truths.
    """

    kinds = ("graph",)

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        *,
        low: Annotated[float, Field(gt=0)] = 1.0,
        reach: Annotated[float | None, Field(gt=0)] = None,
        grid: Annotated[int, Field(ge=4, le=512)] = 64,
    ):
        super().__init__(inputs, targets, grid=grid)
        self.counts = PairCounts(inputs, low, reach)

    def learn(self, train: View, valid: View) -> None:
        (counts, theta), (checked, truth) = (self.known(view, self.counts(view)) for view in (train, valid))
        possible = [by for by in (1, 2, 3, 4) if len(counts) >= 10 * (FINE // by + 1)]
        if not possible or not len(checked):
            raise GsnnError(
                f"two-point-likelihood: {len(counts)} training and {len(checked)} validation clouds are too few; "
                "simulate more"
            )
        tried = {}
        for by in possible:
            self.choose((merged(counts, by), theta), (merged(checked, by), truth))
            kept = self.degree, self.rise, self.mean, self.log_sigma, self.root
            tried[by] = self.density(merged(checked, by), truth), kept
        self.by = max(tried, key=lambda by: tried[by][0])
        self.degree, self.rise, self.mean, self.log_sigma, self.root = tried[self.by][1]

    def density(self, x: Float[np.ndarray, "object summary"], truth: Float[np.ndarray, "object parameter"]) -> float:
        """The mean logarithm of the posterior's share in the cell of the truth."""
        cell = np.clip(np.rint((truth - self.points[0]) / self.cell), 0, self.grid - 1).astype(int)
        place = np.ravel_multi_index(tuple(cell.T), (self.grid,) * truth.shape[1])
        total, few = 0.0, max(1, CELLS // len(self.points))
        for start in range(0, len(x), few):
            log = self.log_likelihood(x[start : start + few])
            log -= log.max(1, keepdims=True)
            own = log[np.arange(len(log)), place[start : start + few]]
            total += float((own - np.log(np.exp(log).sum(1))).sum())
        return total / len(x)

    def read(self, data: Points) -> Float[np.ndarray, "object summary"]:
        return merged(self.counts.of(data), self.by)

    def describe(self) -> str:
        return f"Pairs in {FINE // self.by} shells to {self.counts.edges[-1]:.3g}: {super().describe()}"
