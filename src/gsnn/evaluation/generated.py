"""Draws of whole fields: what is judged is not one field beside another, but the laws of many.

Of draws and of true fields the same is measured: the power spectrum, the bispectrum of equal sides, the peaks by their
height, and the values of single voxels. A classifier is then asked to tell the ones from the others by all of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from ..data.schema import Column
from ..errors import GsnnError
from ..simulate.mesh import shell_modes, shell_powers
from .base import Distribution
from .fields import bispectrum

HEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99)  # quantiles of the true peaks that bound the bins of their heights
VALUES = np.r_[0.001, 0.01, np.arange(1, 20) / 20, 0.99, 0.999]  # quantiles of the voxels of a field
FOLDS = 5
Draws = Float[ndarray, "object draw channel *space"]


@dataclass(frozen=True, eq=False)
class FieldDraws(Distribution):
    """Several fields for each object, each as probable as the others; float32, as fields are large."""

    value: Draws
    column: Column
    proper: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.value.ndim != 2 + len(self.column.shape) or self.value.shape[2:] != self.column.shape:
            raise GsnnError(
                f"FieldDraws: {self.value.shape[2:]} are no values of {self.column.name!r}, {self.column.shape}"
            )
        if not np.isfinite(self.value).all():
            raise GsnnError(f"FieldDraws: draws of {self.column.name!r} are not finite")

    def __len__(self) -> int:
        return len(self.value)

    def take(self, positions: Int[ndarray, " n"]) -> FieldDraws:
        return FieldDraws(self.value[positions], self.column)

    @classmethod
    def join(cls, parts: Sequence[FieldDraws]) -> FieldDraws:
        if len({part.value.shape[1] for part in parts}) > 1:
            raise GsnnError("concatenate: different numbers of draws of an object")
        return cls(np.concatenate([part.value for part in parts]), parts[0].column)

    def best(self) -> Float[ndarray, "object channel *space"]:
        """The first draw."""
        return self.value[:, 0]

    def to_columns(self, name: str) -> dict[str, ndarray]:
        """Every draw as one array an object: ``prediction``, and ``<name>_draw_2``, ... of the column's size."""
        found = {}
        for draw in range(self.value.shape[1]):
            flat = np.empty(len(self), object)
            flat[:] = list(self.value[:, draw].reshape(len(self), -1))
            found["prediction" if draw == 0 else f"{name}_draw_{draw + 1}"] = flat
        return found

    @cached_property
    def measured(self) -> Measured:
        """Of every draw, one after another: object 0 draw 0, object 0 draw 1, ..."""
        return measure(self.value.reshape(-1, *self.column.shape), self.column)

    def mean(self, each: Float[ndarray, "draws bin"]) -> Float[ndarray, "object bin"]:
        """The mean over the draws of an object."""
        return each.reshape(len(self), self.value.shape[1], -1).mean(1)


class Measured(NamedTuple):
    """What is measured of fields, of their first channel."""

    k: Float[ndarray, " shell"]  # in units of the Nyquist frequency
    modes: Float[ndarray, " shell"]
    power: Float[ndarray, "field shell"]  # mean |F|^2 of the modes of a shell over the number of voxels
    bispectrum: Float[ndarray, "field shell2"]  # of the shells up to half of the Nyquist frequency
    heights: list[Float[ndarray, " peak"]]  # local maxima of each field
    values: Float[ndarray, "field quantile"]

    def peaks(self, edges: Float[ndarray, " edge"]) -> Float[ndarray, "field bin"]:
        """Peaks of a field between the edges, below the first and above the last."""
        bins = np.r_[-np.inf, edges, np.inf]
        counts = [np.histogram(heights, bins)[0] for heights in self.heights]
        return np.array(counts, float).reshape(len(counts), len(bins) - 1)


def measure(fields: Float[ndarray, "field channel *space"], column: Column) -> Measured:
    """Raises GsnnError where the sides of a field differ, of which no shells are made."""
    size = column.shape[1:]
    if len(set(size)) > 1:
        raise GsnnError(f"spectra are measured of squares and cubes, and {column.name!r} has {size} voxels")
    side, space = size[0], len(size)
    resolved = slice(1, side // 2 + 1)
    modes = shell_modes(side, space)[resolved].numpy()
    powers, thirds, heights = [], [], []
    for some in torch.tensor(np.asarray(fields, np.float32)[:, 0]).split(max(1, 2**22 // side**space)):
        powers.append(shell_powers(some)[:, resolved])
        thirds.append(bispectrum(some, float(side)))
        heights += peaks(some)
    k = np.arange(1, side // 2 + 1) / (side / 2)
    if not powers:
        powers, thirds = [torch.zeros(0, side // 2)], [np.zeros((0, side // 4))]
    flat = np.asarray(fields, np.float32)[:, 0].reshape(len(fields), -1)
    values = np.quantile(flat, VALUES, axis=1).T if len(flat) else np.zeros((0, len(VALUES)))
    return Measured(k, modes, torch.cat(powers).numpy(), np.concatenate(thirds), heights, values)


def peaks(fields: Float[torch.Tensor, "field ..."]) -> list[Float[ndarray, " peak"]]:
    """The heights of voxels above all that touch them, corners too, across the periodic faces."""
    pool = {2: torch.nn.functional.max_pool2d, 3: torch.nn.functional.max_pool3d}[fields.ndim - 1]
    padded = torch.nn.functional.pad(fields[:, None], (1, 1) * (fields.ndim - 1), mode="circular")
    highest = (fields == pool(padded, 3, 1)[:, 0]).flatten(1)
    return [one[top].numpy() for one, top in zip(fields.flatten(1), highest)]


def edges_of(truth: Measured) -> Float[ndarray, " edge"]:
    """What bounds the bins of the heights of peaks."""
    return np.unique(np.quantile(np.concatenate(truth.heights), HEIGHTS)) if len(truth.heights) else np.zeros(0)


def features(found: Measured, edges: Float[ndarray, " edge"]) -> Float[ndarray, "field feature"]:
    """All that is measured, as a classifier takes it."""
    return np.concatenate(
        [np.log(found.power + 1e-30), np.cbrt(found.bispectrum), found.peaks(edges), found.values], axis=1
    )


def told_apart(
    prediction: FieldDraws,
    truth: Measured,
    given: Float[ndarray, "object input"],
    group: Int[ndarray, " object"],
    seed: int = 0,
) -> dict[str, float]:
    """How often a classifier tells a draw from a true field: 0.5 if it cannot (Lopez-Paz & Oquab, arXiv:1610.06545).

    Boosted trees on what is measured and on the inputs, cross-validated over groups of objects; one draw of each
    object beside its true field. "low" and "high" are the 95% interval of the accuracy by resampled groups.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import GroupKFold

    draws, edges, many = prediction.value.shape[1], edges_of(truth), len(np.unique(group))
    if many < 2 * FOLDS:
        return {}
    first = prediction.measured
    own = features(first, edges)[np.arange(len(prediction)) * draws]
    x = np.concatenate([np.c_[own, given], np.c_[features(truth, edges), given]])
    y, groups = np.repeat([0, 1], len(prediction)), np.tile(group, 2)
    right = np.zeros(len(y))
    for learn, ask in GroupKFold(FOLDS).split(x, y, groups):
        trees = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.1, max_leaf_nodes=8, random_state=seed)
        right[ask] = trees.fit(x[learn], y[learn]).predict(x[ask]) == y[ask]
    by_group = np.array([right[groups == one].mean() for one in np.unique(groups)])
    random = np.random.default_rng(seed)
    means = by_group[random.integers(many, size=(1000, many))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"accuracy": float(right.mean()), "low": float(low), "high": float(high)}


def told(
    found: Mapping[str, FieldDraws],
    truth: Float[ndarray, "object channel *space"],
    given: Float[ndarray, "object input"],
    group: Int[ndarray, " object"] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """What a report draws: means over objects of all that is measured, with their errors by resampled groups."""
    first = next(iter(found.values()))
    column = first.column
    true, group = measure(truth, column), np.arange(len(truth)) if group is None else group
    side = column.shape[-1]
    step = column.box / side if column.box else 1.0
    space = len(column.shape) - 1
    edges = edges_of(true)
    index = np.unique(group, return_inverse=True)[1]
    size = index.max(initial=0) + 1
    counts = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), 400)[:, index].astype(float)

    def shares(own: ndarray, real: ndarray) -> dict[str, list[float]]:
        """Mean over the true mean, and where 68% of resamples are."""
        with np.errstate(divide="ignore", invalid="ignore"):
            share = own.mean(0) / real.mean(0)
            resampled = (counts @ own) / (counts @ real)
        low, high = np.nanquantile(resampled, [0.16, 0.84], axis=0)
        return {"mean": share.tolist(), "low": low.tolist(), "high": high.tolist()}

    return {
        "k": (true.k * np.pi / step).tolist(),
        "unit": "h/Mpc" if column.box else "1/voxel",
        "of": column.name,
        "dimensions": space,
        "objects": len(truth),
        "groups": int(size),
        "power": (true.power.mean(0) * step**space).tolist(),
        "bispectrum": true.bispectrum.mean(0).tolist(),
        "heights": edges.tolist(),
        "peaks": true.peaks(edges).mean(0).tolist(),
        "each": {
            who: {
                "power": shares(one.mean(one.measured.power), true.power),
                "bispectrum": shares(one.mean(one.measured.bispectrum), true.bispectrum),
                "peaks": shares(one.mean(one.measured.peaks(edges)), true.peaks(edges)),
                "told_apart": told_apart(one, true, given, group, seed),
            }
            for who, one in found.items()
        },
    }
