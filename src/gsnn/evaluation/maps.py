"""Predictions of whole maps: the mean of each pixel, and where they are known the ends of its 68% interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from ..errors import GsnnError
from .base import Distribution, assign

ENDS = (0.16, 0.84)  # the quantiles of ``low`` and ``high``
Map = Float[ndarray, "object channel y x"]


@dataclass(frozen=True, eq=False)
class Maps(Distribution):
    """A map for each object, told and judged where ``inside``.

    ``low`` and ``high`` are the 16% and 84% quantiles of each pixel by itself; None where a method has no uncertainty.
    Errors of neighbouring pixels go together, which nothing here says.
    """

    value: Map
    inside: Bool[ndarray, "object channel y x"]
    low: Map | None = None
    high: Map | None = None

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            one = getattr(self, name)
            if one is None:
                continue
            one = np.asarray(one, np.float32)
            if one.ndim != 4 or one.shape != self.inside.shape or not np.isfinite(one).all():
                raise GsnnError(f"Maps: {name} needs finite values of the shape {self.inside.shape}, not {one.shape}")
            assign(self, **{name: one})

    @property
    def proper(self) -> bool:  # type: ignore[override]
        """Whether there are intervals."""
        return self.low is not None

    def __len__(self) -> int:
        return len(self.value)

    def _each(self, function: Any) -> Maps:
        ends = (None if end is None else function(end) for end in (self.low, self.high))
        return Maps(function(self.value), function(self.inside), *ends)

    def take(self, positions: Int[ndarray, " n"]) -> Maps:
        return self._each(lambda one: one[positions])

    @classmethod
    def join(cls, parts: Sequence[Maps]) -> Maps:
        ends = [[getattr(part, end) for part in parts] for end in ("low", "high")]
        joined = (None if any(one is None for one in end) else np.concatenate(end) for end in ends)
        return cls(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("value", "inside")), *joined)

    def best(self) -> Map:
        return self.value

    def to_columns(self, name: str) -> dict[str, Any]:
        """The mean of each pixel, and the ends of its 68% interval: one list an object, NaN where nothing is told."""
        columns = {"prediction": self._list(self.value)}
        if self.proper:
            columns |= {f"{name}_low": self._list(self.low), f"{name}_high": self._list(self.high)}
        return columns

    def _list(self, values: Map) -> pa.Array:
        told = np.where(self.inside, values, np.float32(np.nan))
        return pa.FixedSizeListArray.from_arrays(pa.array(told.ravel()), int(np.prod(told.shape[1:])))
