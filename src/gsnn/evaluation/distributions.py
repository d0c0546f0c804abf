"""Predictions as distributions in native units: one contract for networks, baselines and ensembles.

Everything is numpy float64, the first dimension is objects. Every distribution has ``len``, ``take``, ``best`` and
``to_columns``; the continuous ones also ``mean``, ``quantile``, ``cdf``, ``pdf`` and ``log_pdf``, where ``x`` is
``[object]`` or ``[object, grid]`` and the answer has the same shape. ``proper`` says whether there is a density.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from ..errors import GsnnError
from .base import LEVELS, Continuous, Distribution, array, assign, on_objects
from .mixture import Mixture, Samples
from .quantiles import Quantiles

__all__ = [
    "LEVELS", "Bijection", "Categorical", "Continuous", "Distribution", "Mixture", "Point", "Quantiles", "Samples",
    "Warped", "concatenate", "from_columns",
]  # fmt: skip


def concatenate(parts: Sequence[Distribution]) -> Distribution:
    """The objects of all parts, in order. The parts must be of one type (and of the same classes, levels, ...)."""
    if not parts:
        raise GsnnError("concatenate: no predictions")
    kinds = {type(part).__name__: type(part) for part in parts}
    if len(kinds) > 1:
        raise GsnnError(f"concatenate: predictions of different types ({', '.join(kinds)})")
    return type(parts[0]).join(parts)


def from_columns(columns: Any, classes: Sequence[str] | None = None, name: str | None = None) -> Distribution:
    """The distribution that ``to_columns`` wrote: ``columns`` is an Arrow table or a mapping of names to arrays.

    Class probabilities come back as they were (``classes`` fixes their order, else the order of the columns), a
    distribution over values as its ``Quantiles``, a value alone as a ``Point``.
    """
    names = list(columns) if isinstance(columns, Mapping) else list(columns.column_names)
    quantiles = [c for c in names if c.endswith("_q01") and (name is None or c == f"{name}_q01")]
    prediction = np.asarray(columns["prediction"]) if "prediction" in names else np.zeros(0)
    if classes is None and not quantiles and prediction.dtype.kind in "OUST":
        classes = [c[:-2] for c in names if c.endswith("_p")]
    if classes is not None:
        missing = [c for c in classes if f"{c}_p" not in names]
        if missing or not classes:
            raise GsnnError(f"these predictions have no column {(missing or ['<class>'])[0] + '_p'!r}")
        return Categorical(np.stack([np.asarray(columns[f"{c}_p"], float) for c in classes], 1), tuple(classes))
    if quantiles:
        stem = quantiles[0][:-2]
        found = [i for i in range(1, 100) if f"{stem}{i:02d}" in names]
        value = np.stack([np.asarray(columns[f"{stem}{i:02d}"], float) for i in found], 1)
        return Quantiles(np.array(found) / 100, value)
    if "prediction" not in names:
        raise GsnnError("these columns hold no prediction; give a predictions.parquet that GSNN wrote")
    return Point(prediction)


@dataclass(frozen=True, eq=False)
class Categorical(Distribution):
    """Class probabilities. They must be non-negative and add up to 1 (within 0.1%); they are normalised exactly."""

    probabilities: Float[ndarray, "object class"]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        p = array(self, "probabilities", 2)
        assign(self, classes=tuple(str(name) for name in self.classes))
        if p.shape[1] != len(self.classes) or not self.classes:
            raise GsnnError(f"Categorical: {p.shape[1]} columns of probabilities for {len(self.classes)} classes")
        total = p.sum(1, keepdims=True)
        if (p < -1e-6).any() or (abs(total - 1) > 1e-3).any():
            raise GsnnError("Categorical: probabilities must be non-negative and add up to 1 for every object")
        p = p.clip(0)
        assign(self, probabilities=p / p.sum(1, keepdims=True))

    def __len__(self) -> int:
        return len(self.probabilities)

    def take(self, positions: Int[ndarray, " n"]) -> Categorical:
        return Categorical(self.probabilities[positions], self.classes)

    @classmethod
    def join(cls, parts: Sequence[Categorical]) -> Categorical:
        if any(part.classes != parts[0].classes for part in parts):
            raise GsnnError("concatenate: predictions of different classes")
        return cls(np.concatenate([part.probabilities for part in parts]), parts[0].classes)

    def best(self) -> Int[ndarray, " object"]:
        return self.probabilities.argmax(1)

    def to_columns(self, name: str) -> dict[str, ndarray]:
        columns = {"prediction": np.array(self.classes, dtype=object)[self.best()]}
        return columns | {f"{label}_p": self.probabilities[:, i] for i, label in enumerate(self.classes)}


@dataclass(frozen=True, eq=False)
class Point(Continuous):
    """A single value an object, with no statement of its uncertainty."""

    value: Float[ndarray, " object"]
    proper: ClassVar[bool] = False

    def __post_init__(self) -> None:
        array(self, "value", 1)

    def __len__(self) -> int:
        return len(self.value)

    def take(self, positions: Int[ndarray, " n"]) -> Point:
        return Point(self.value[positions])

    @classmethod
    def join(cls, parts: Sequence[Point]) -> Point:
        return cls(np.concatenate([part.value for part in parts]))

    def mean(self) -> Float[ndarray, " object"]:
        return self.value

    def best(self) -> Float[ndarray, " object"]:
        return self.value

    def quantile(self, q: Float[ndarray, " q"]) -> Float[ndarray, "object q"]:
        return np.repeat(self.value[:, None], len(q), 1)

    def cdf(self, x: ndarray) -> ndarray:
        x = np.asarray(x, float)
        return (x >= self.value.reshape(-1, *[1] * (x.ndim - 1))).astype(float)

    def pdf(self, x: ndarray) -> ndarray:
        raise GsnnError("a point prediction has no density; judge it by its values, or predict a distribution")

    def to_columns(self, name: str) -> dict[str, ndarray]:
        return {"prediction": self.value}


class Bijection(Protocol):
    """A monotone change of variable, elementwise: x is native, y = forward(x) is what ``base`` is over."""

    def forward(self, x: ndarray) -> ndarray: ...

    def inverse(self, y: ndarray) -> ndarray: ...

    def derivative(self, x: ndarray) -> ndarray: ...  # dy/dx


@dataclass(frozen=True, eq=False)
class Warped(Continuous):
    """``base`` seen in native units: p(x) = p_base(y) |dy/dx| with y = bijection.forward(x). May be decreasing."""

    base: Continuous
    bijection: Bijection

    def __len__(self) -> int:
        return len(self.base)

    @property
    def proper(self) -> bool:  # type: ignore[override]
        return self.base.proper

    def take(self, positions: Int[ndarray, " n"]) -> Warped:
        return Warped(self.base.take(positions), self.bijection)

    @classmethod
    def join(cls, parts: Sequence[Warped]) -> Warped:
        base, first = concatenate([part.base for part in parts]), parts[0]
        native = first._native(base.best())
        if any(not np.allclose(part._native(base.best()), native, rtol=1e-6) for part in parts[1:]):
            raise GsnnError("concatenate: predictions with different changes of variable")
        return cls(base, first.bijection)

    def expect(self, function: Callable[[ndarray], ndarray]) -> Float[ndarray, " object"]:
        return self.base.expect(lambda y: function(self._native(y)))

    def best(self) -> Float[ndarray, " object"]:
        return self._native(self.base.best())

    def quantile(self, q: Float[ndarray, " q"]) -> Float[ndarray, "object q"]:
        median = self.base.best()[:1]
        falls = (np.asarray(self.bijection.derivative(self._native(median))) < 0).any()
        return self._native(self.base.quantile(1 - np.asarray(q, float) if falls else q))

    def cdf(self, x: ndarray) -> ndarray:
        x = on_objects(self, x)
        y, slope, inside = self._base(x)
        below = self.base.cdf(y)
        median = self.best().reshape(-1, *[1] * (x.ndim - 1))
        return np.where(inside, np.where(slope < 0, 1 - below, below), x > median)

    def pdf(self, x: ndarray) -> ndarray:
        y, slope, inside = self._base(on_objects(self, x))
        return np.where(inside, self.base.pdf(y) * abs(slope), 0)

    def log_pdf(self, x: ndarray) -> ndarray:
        y, slope, inside = self._base(on_objects(self, x))
        return np.where(inside, self.base.log_pdf(y) + np.log(abs(slope)), -np.inf)

    def _base(self, x: ndarray) -> tuple[ndarray, ndarray, ndarray]:
        """y and dy/dx at x, and where the change of variable is defined at all (a logarithm is not below 0)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            y = np.asarray(self.bijection.forward(x), float)
            slope = np.asarray(self.bijection.derivative(x), float) * np.ones_like(y)
        inside = np.isfinite(y) & np.isfinite(slope) & (slope != 0)
        return np.where(inside, y, 0), np.where(inside, slope, 1), inside

    def to_columns(self, name: str) -> dict[str, ndarray]:
        return super().to_columns(name) if self.proper else {"prediction": self.best()}

    def _native(self, y: ndarray) -> ndarray:
        return np.asarray(self.bijection.inverse(y), float)
