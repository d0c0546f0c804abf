"""A distribution known by its quantiles: what predictions.parquet keeps, and what quantile regression gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from ..errors import GsnnError
from .base import Continuous, array, assign, on_objects, probabilities


@dataclass(frozen=True, eq=False)
class Quantiles(Continuous):
    """Values at increasing probability levels (0 < level < 1): linear cdf between them, exponential tails outside.

    A tail starts with the density of its neighbouring segment, so that the density has no jump there.
    """

    levels: Float[ndarray, " level"]
    value: Float[ndarray, "object level"]

    def __post_init__(self) -> None:
        levels, value = array(self, "levels", 1), array(self, "value", 2)
        if value.shape[1] != len(levels) or len(levels) < 2:
            raise GsnnError(f"Quantiles: {value.shape[1]} values for {len(levels)} levels (at least 2 are needed)")
        if not ((levels > 0) & (levels < 1)).all() or not (np.diff(levels) > 0).all():
            raise GsnnError("Quantiles: levels must increase between 0 and 1")
        if (np.diff(value, axis=1) < 0).any():
            raise GsnnError("Quantiles: the values of an object must not decrease with the level")
        # ties would be infinite densities: spread them by what float64 cannot lose
        step = 1e-12 * (1 + abs(value).max(1, initial=0, keepdims=True))
        assign(
            self, value=np.maximum.accumulate(value - step * np.arange(len(levels)), 1) + step * np.arange(len(levels))
        )

    def __len__(self) -> int:
        return len(self.value)

    def take(self, positions: Int[ndarray, " n"]) -> Quantiles:
        return Quantiles(self.levels, self.value[positions])

    @classmethod
    def join(cls, parts: Sequence[Quantiles]) -> Quantiles:
        if any(not np.array_equal(part.levels, parts[0].levels) for part in parts):
            raise GsnnError("concatenate: predictions at different quantile levels")
        return cls(parts[0].levels, np.concatenate([part.value for part in parts]))

    @cached_property
    def _density(self) -> Float[ndarray, "object segment"]:
        return np.diff(self.levels) / np.diff(self.value, axis=1)

    def quantile(self, q: Float[ndarray, " q"]) -> Float[ndarray, "object q"]:
        q, p, v, d = probabilities(q), self.levels, self.value, self._density
        i = np.clip(np.searchsorted(p, q, "right") - 1, 0, len(p) - 2)
        inside = v[:, i] + (q - p[i]) / d[:, i]
        left, right = 1 - p[-1], p[0]
        below = v[:, :1] + np.log(np.minimum(q / right, 1)) * right / d[:, :1]
        above = v[:, -1:] - np.log(np.minimum((1 - q) / left, 1)) * left / d[:, -1:]
        return np.where(q < p[0], below, np.where(q > p[-1], above, inside))

    def cdf(self, x: ndarray) -> ndarray:
        x = on_objects(self, x)
        at, p, v, d = x.reshape(len(x), -1), self.levels, self.value, self._density
        low, high = np.minimum(at - v[:, :1], 0), np.minimum(v[:, -1:] - at, 0)
        inside = np.array([np.interp(row, edges, p) for row, edges in zip(at, v)]).reshape(at.shape)
        below = p[0] * np.exp(low * d[:, :1] / p[0])
        above = 1 - (1 - p[-1]) * np.exp(high * d[:, -1:] / (1 - p[-1]))
        return np.where(low < 0, below, np.where(high < 0, above, inside)).reshape(x.shape)

    def pdf(self, x: ndarray) -> ndarray:
        return np.exp(self.log_pdf(x))

    def log_pdf(self, x: ndarray) -> ndarray:
        x = on_objects(self, x)
        at, p, v, d = x.reshape(len(x), -1), self.levels, self.value, self._density
        segment = np.array([np.searchsorted(edges, row, "right") - 1 for row, edges in zip(at, v)], int)
        segment = np.clip(segment.reshape(at.shape), 0, len(p) - 2)
        low, high = np.minimum(at - v[:, :1], 0), np.minimum(v[:, -1:] - at, 0)
        tail = low * d[:, :1] / p[0] + high * d[:, -1:] / (1 - p[-1])
        return (np.log(np.take_along_axis(d, segment, 1)) + tail).reshape(x.shape)
