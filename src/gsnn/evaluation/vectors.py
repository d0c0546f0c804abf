"""Predictions of whole curves, as spectra are, with a width at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.special import ndtri

from ..errors import GsnnError
from .base import Distribution, array, probabilities

Curves = Float[ndarray, "object band step"]


@dataclass(frozen=True, eq=False)
class Vectors(Distribution):
    """A value for each step of each band of an object, and the width of a Gaussian around it (0: a point).

    ``bands`` are those of the target's column. Errors at neighbouring steps go together; the width is that of one step.
    """

    value: Curves
    sigma: Float[ndarray, "band step"]
    bands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if array(self, "value", 3).shape[1:] != array(self, "sigma", 2).shape or (self.sigma < 0).any():
            raise GsnnError(f"Vectors: widths of shape {self.sigma.shape} for values of shape {self.value.shape}")

    @property
    def proper(self) -> bool:  # type: ignore[override]
        """Whether there is a density."""
        return bool((self.sigma > 0).all())

    def __len__(self) -> int:
        return len(self.value)

    def take(self, positions: Int[ndarray, " n"]) -> Vectors:
        return Vectors(self.value[positions], self.sigma, self.bands)

    @classmethod
    def join(cls, parts: Sequence[Vectors]) -> Vectors:
        return cls(np.concatenate([part.value for part in parts]), parts[0].sigma, parts[0].bands)

    def best(self) -> Curves:
        return self.value

    def quantile(self, q: Float[ndarray, " q"]) -> Float[ndarray, "object band step q"]:
        """At every step by itself."""
        return self.value[..., None] + self.sigma[..., None] * ndtri(probabilities(q))

    def to_columns(self, name: str) -> dict[str, Any]:
        """The curve, and the ends of its 68% band: one list an object."""
        flat, width = self.value.reshape(len(self), -1), self.sigma.ravel()
        columns = {"prediction": flat, f"{name}_low": flat - width, f"{name}_high": flat + width}
        return {
            key: pa.FixedSizeListArray.from_arrays(pa.array(value.astype(np.float32).ravel()), max(flat.shape[1], 1))
            for key, value in columns.items()
        }
