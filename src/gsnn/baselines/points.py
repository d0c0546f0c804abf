"""Clouds of points as numbers, and the masses of groups of galaxies as they are estimated without a network.

All of them are invariant: no number changes when the cloud is turned or shifted, or its points change places. A handful
of such numbers under a simple regression often does as well as a graph network (CosmoBench, arXiv:2507.03707).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ..data.points import Points
from ..data.schema import Column, Schema
from ..errors import ConfigError
from ..simulate.haloes import GRAVITY
from .tables import Linear
from .trees import Boosting

if TYPE_CHECKING:
    from ..data.survey import View

NEAREST = (1, 2, 4, 8)
SHARES = (10, 50, 90)
CHUNK = 512  # clouds read at once
PAIRS = 400  # points of a cloud whose separations are averaged


def statistics(points: Points, column: Column) -> tuple[Float[np.ndarray, "object statistic"], list[str]]:
    """Invariant numbers of each cloud and their names; NaN where one has no meaning.

    How many points there are; of each feature the mean, the scatter, the least, the largest, and of logarithms the sum;
    of all but the first feature also the scatter about the point whose first one is largest (the central galaxy). In
    open space the root mean square and the harmonic mean of the separations. Quantiles of the distances to the k-th
    neighbour (Banerjee & Abel 2021, MNRAS 500, 5479).
    """
    empty = Points.of([(np.zeros((1, column.size)), np.zeros((1, len(column.bands))))], column.size, len(column.bands))
    names = list(_of_one(empty.position, empty.feature, column))
    table = np.full((len(points), len(names)), np.nan)
    for i, (start, stop) in enumerate(zip(points.offsets[:-1], points.offsets[1:])):
        if stop > start:
            table[i] = list(_of_one(points.position[start:stop], points.feature[start:stop], column).values())
    return table, names


def _of_one(
    position: Float[np.ndarray, "node axis"], feature: Float[np.ndarray, "node feature"], column: Column
) -> dict[str, float]:
    position, feature = position.astype(float), feature.astype(float)
    found = {"log_points": np.log10(len(position))}
    for i, (name, x) in enumerate(zip(column.bands, feature.T)):
        found |= {f"{name}_mean": x.mean(), f"{name}_min": x.min(), f"{name}_max": x.max()}
        found[f"{name}_std"] = x.std(ddof=1) if len(x) > 1 else np.nan
        if name.startswith("log_"):
            found[f"{name}_sum"] = log_sum(x)
        if i:
            found[f"{name}_about_first"] = np.sqrt(np.mean((x - x[feature[:, 0].argmax()]) ** 2))
    if column.box is None:
        apart = separations(position)
        found["log_rms"] = np.log10(np.sqrt(np.mean(apart**2))) if len(apart) else np.nan
        found["log_harmonic"] = -np.log10(np.mean(1 / apart)) if len(apart) else np.nan
    far = np.full((len(position), len(NEAREST)), np.nan)
    known = [k for k in NEAREST if k < len(position)]
    if known:
        far[:, : len(known)] = nearest(position, known, column.box)
    quantiles = np.percentile(np.log10(np.maximum(far, 1e-6)), SHARES, axis=0)
    return found | {f"log_d{k}_{s}": quantiles[j, i] for i, k in enumerate(NEAREST) for j, s in enumerate(SHARES)}


def log_sum(x: Float[np.ndarray, " node"]) -> float:
    """log10 of the sum of what these are the log10 of."""
    return float(x.max() + np.log10(np.sum(10 ** (x - x.max()))))


def separations(position: Float[np.ndarray, "node axis"]) -> Float[np.ndarray, " pair"]:
    """The distances between the points, of the first 400 where there are more."""
    some = position[:PAIRS]
    i, j = np.triu_indices(len(some), 1)
    return np.maximum(np.linalg.norm(some[i] - some[j], axis=1), 1e-6)


def nearest(
    position: Float[np.ndarray, "node axis"], ranks: list[int], box: float | None
) -> Float[np.ndarray, "node rank"]:
    """The distance of each point to its k-th neighbour, for each rank k."""
    from scipy.spatial import cKDTree

    inside = position if box is None else position % box
    return cKDTree(inside, boxsize=box).query(inside, [k + 1 for k in ranks])[0]


def group_of(inputs: Schema, mass: str, velocity: str) -> tuple[Column, int, int]:
    """The column of a group of galaxies, and the places of these features of a galaxy."""
    clouds = inputs.of_kind("graph")
    if len(clouds) != 1 or not {mass, velocity} <= set(clouds[0].bands):
        raise ConfigError(
            f"a group of galaxies is one graph with the features {mass!r} and {velocity!r}; name it in [data] inputs"
        )
    return clouds[0], clouds[0].bands.index(mass), clouds[0].bands.index(velocity)


def each(
    view: View, column: Column, numbers: Callable[[np.ndarray, np.ndarray], list[float]], count: int
) -> Float[np.ndarray, "object feature"]:
    """``numbers`` of the positions and features of every cloud, ``count`` of them."""
    rows = [
        numbers(points.position[a:b].astype(float), points.feature[a:b].astype(float))
        for points in (chunk[column.name] for chunk in view.chunks([column.name], CHUNK))
        for a, b in zip(points.offsets[:-1], points.offsets[1:])
    ]
    return np.array(rows, float).reshape(len(rows), count)


class OfGroup(Linear):
    """Ridge regression on the ``count`` numbers that a subclass makes of a group by ``numbers``."""

    count: int

    def __init__(self, inputs: Schema, target: Column, *, mass: str = "log_stellar_mass", velocity: str = "velocity"):
        super().__init__(inputs, target, colours=False)
        self.column, self.mass, self.velocity = group_of(inputs, mass, velocity)

    def matrix(self, view: View) -> Float[np.ndarray, "object feature"]:
        return each(view, self.column, self.numbers, self.count)

    def numbers(self, position: np.ndarray, feature: np.ndarray) -> list[float]:
        raise NotImplementedError


class GroupBoosting(Boosting):
    """Boosted trees on all invariant numbers, and on those that tell who is a member of the group.

    About the galaxy of the largest stellar mass: how many galaxies, and how much stellar mass, lie within 0.15, 0.3 and
    0.6 Mpc and 250, 500 and 900 km/s of it; the dispersion (:func:`gapper`) of those within 900 km/s and of those also
    within 0.5 Mpc, and the mean distance of the latter; the four largest stellar masses, and the four smallest
    distances and differences of speed.
    """

    def __init__(
        self,
        inputs: Schema,
        target: Column,
        *,
        mass: str = "log_stellar_mass",
        velocity: str = "velocity",
        iterations: int = 300,
    ):
        super().__init__(inputs, target, colours=False, iterations=iterations)
        self.column, self.mass, self.velocity = group_of(inputs, mass, velocity)

    def matrix(self, view: View) -> Float[np.ndarray, "object feature"]:
        return np.concatenate([super().matrix(view), each(view, self.column, self.numbers, 33)], 1)

    def numbers(self, position: np.ndarray, feature: np.ndarray) -> list[float]:
        mass, speed = feature[:, self.mass], feature[:, self.velocity]
        if not len(mass):
            return [np.nan] * 33
        first = mass.argmax()
        away, apart = np.linalg.norm(position - position[first], axis=1), np.abs(speed - speed[first])
        found = []
        for near in (0.15, 0.3, 0.6):
            for slow in (250, 500, 900):
                within = (away < near) & (apart < slow)
                found += [within.sum(), log_sum(mass[within])]
        slow, near = apart < 900, (apart < 500) & (away < 0.5)
        found += [gapper(speed[slow]), away[near].mean(), gapper(speed[near])]
        for values in (-np.sort(-mass), np.sort(apart)[1:], np.sort(away)[1:]):
            found += [*values[:4], *[np.nan] * max(0, 4 - len(values))]
        return [float(value) for value in found]


class StellarMass(OfGroup):
    """The relation of stellar to halo mass: log10 of the largest stellar mass, and of their sum.

    Groups are ranked so in catalogues (Yang et al. 2007, ApJ 671, 153, sect. 3.4); the relation, up to its squares, is
    learned from the training part.
    """

    count = 2

    def numbers(self, position: np.ndarray, feature: np.ndarray) -> list[float]:
        mass = feature[:, self.mass]
        return [mass.max(), log_sum(mass)] if len(mass) else [np.nan, np.nan]


class VirialMass(OfGroup):
    """The projected virial mass, M = (3 pi N / 2 G) sum v^2 / sum 1 / R.

    Heisler, Tremaine & Bahcall 1985 (ApJ 298, 8), eq. 4. R are the separations on the sky of all pairs. The dispersion
    is that of the gaps between speeds, for which five of them are enough (Beers, Flynn & Gebhardt 1990, AJ 100, 32, eq.
    8), of what is left when galaxies beyond 3 dispersions from the median have been taken out, again and again. The
    logarithm of the mass is calibrated on the training part.
    """

    count = 1

    def numbers(self, position: np.ndarray, feature: np.ndarray) -> list[float]:
        kept, speed = np.ones(len(feature), bool), feature[:, self.velocity]
        if len(feature) < 2:
            return [np.nan]
        for _ in range(10):
            sigma = gapper(speed[kept])
            now = np.abs(speed - np.median(speed[kept])) <= 3 * sigma
            if now.sum() < 2 or np.array_equal(now, kept):
                break
            kept = now
        apart = separations(position[kept])  # of n (n - 1) / 2 pairs
        return [np.log10(1.5 * np.pi * kept.sum() ** 2 / GRAVITY * max(sigma, 1.0) ** 2 / np.sum(1 / apart))]


def gapper(speed: Float[np.ndarray, " node"]) -> float:
    """The dispersion by the gaps between sorted values, each weighted by how many lie on its two sides."""
    n = len(speed)
    if n < 2:
        return np.nan
    i = np.arange(1, n)
    return float(np.sqrt(np.pi) / (n * (n - 1)) * np.sum(i * (n - i) * np.diff(np.sort(speed))))
