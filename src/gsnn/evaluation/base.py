"""What every distribution of predictions has, and the checks that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from ..errors import GsnnError

LEVELS = np.arange(1, 100) / 100  # the quantiles that predictions.parquet keeps: <name>_q01 .. <name>_q99
CELLS = 4_000_000  # array elements evaluated at once


class Distribution:
    """What is predicted for each of n objects."""

    proper: ClassVar[bool] = True

    def __len__(self) -> int:
        raise NotImplementedError

    def take(self, positions: Int[ndarray, " n"]) -> Distribution:
        """The objects at ``positions``."""
        raise NotImplementedError

    @classmethod
    def join(cls, parts: Sequence[Any]) -> Distribution:
        """The objects of all ``parts`` (of this class), in order."""
        raise NotImplementedError

    def best(self) -> ndarray:
        """One answer an object: the class index, or the median."""
        raise NotImplementedError

    def to_columns(self, name: str) -> dict[str, ndarray]:
        """The columns that predictions.parquet holds for the target ``name``."""
        raise NotImplementedError


class Continuous(Distribution):
    """A distribution over the real line for each object; one that has ``cdf`` and a bracket needs nothing else."""

    def mean(self) -> Float[ndarray, " object"]:
        return self.expect(lambda x: x)

    def best(self) -> Float[ndarray, " object"]:
        return self.quantile(np.array([0.5]))[:, 0]

    def expect(self, function: Callable[[ndarray], ndarray]) -> Float[ndarray, " object"]:
        """The expectation of ``function(x)``, as the mean over 400 quantiles unless a subclass knows better."""
        return function(self.quantile((np.arange(400) + 0.5) / 400)).mean(1)

    def log_pdf(self, x: ndarray) -> ndarray:
        with np.errstate(divide="ignore"):
            return np.log(self.pdf(x))

    def to_columns(self, name: str) -> dict[str, ndarray]:
        values = self.quantile(np.r_[0.5, 0.16, 0.84, LEVELS])
        columns = {"prediction": values[:, 0], f"{name}_low": values[:, 1], f"{name}_high": values[:, 2]}
        return columns | {f"{name}_q{round(100 * q):02d}": values[:, 3 + i] for i, q in enumerate(LEVELS)}


def assign(self: Any, **fields: Any) -> None:
    for name, value in fields.items():
        object.__setattr__(self, name, value)


def array(self: Any, name: str, dimensions: int) -> ndarray:
    """The field as a finite float64 array, also stored so."""
    value = np.asarray(getattr(self, name), dtype=np.float64)
    if value.ndim != dimensions:
        raise GsnnError(f"{type(self).__name__}: {name} needs {dimensions} dimension(s), not the shape {value.shape}")
    if not np.isfinite(value).all():
        bad = np.unique(np.nonzero(~np.isfinite(value))[0])
        raise GsnnError(f"{type(self).__name__}: {name} is not finite for {len(bad)} objects (first at {bad[0]})")
    assign(self, **{name: value})
    return value


def on_objects(self: Distribution, x: ndarray) -> ndarray:
    x = np.asarray(x, float)
    if x.ndim not in (1, 2) or len(x) != len(self):
        raise GsnnError(f"x needs the shape [object] or [object, grid] for {len(self)} objects, not {x.shape}")
    return x


def blocks(objects: int, cells: int) -> list[slice]:
    step = max(1, CELLS // max(cells, 1))
    return [slice(i, i + step) for i in range(0, objects, step)]


def stack(parts: Sequence[Any], name: str, fill: float) -> ndarray:
    """Rows of different lengths, padded on the right."""
    width = max(getattr(part, name).shape[1] for part in parts)
    pad = [((0, 0), (0, width - getattr(part, name).shape[1])) for part in parts]
    return np.concatenate([np.pad(getattr(p, name), w, constant_values=fill) for p, w in zip(parts, pad)])


def probabilities(q: ndarray) -> ndarray:
    q = np.atleast_1d(np.asarray(q, float))
    if not ((q > 0) & (q < 1)).all():
        raise GsnnError("quantile: probabilities must lie between 0 and 1, both excluded")
    return q
