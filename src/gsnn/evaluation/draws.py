"""Draws from a joint posterior: what a flow, a grid or a chain says of several parameters together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from ..errors import GsnnError
from .base import Continuous, array, on_objects, probabilities
from .mixture import Mixture, Samples

KERNELS = 128  # of the density of a marginal


@dataclass(frozen=True, eq=False)
class Draws(Continuous):
    """Equally weighted draws of one parameter. Draw i of every parameter of an object is one point of their posterior.

    Quantiles and probabilities are those of the draws themselves; the density, which draws do not have, is that of a
    Gaussian kernel over 128 quantiles (:class:`Samples`).
    """

    value: Float[ndarray, "object draw"]

    def __post_init__(self) -> None:
        if array(self, "value", 2).shape[1] < 2:
            raise GsnnError("Draws: a posterior needs at least two draws of every object")

    @cached_property
    def ordered(self) -> Float[ndarray, "object draw"]:
        """The draws of each object from the lowest to the highest."""
        return np.sort(self.value, 1)

    @cached_property
    def kernel(self) -> Mixture:
        """The smooth density."""
        count = min(KERNELS, self.value.shape[1])
        return Samples(self.quantile((np.arange(count) + 0.5) / count)).kernel

    def __len__(self) -> int:
        return len(self.value)

    def take(self, positions: Int[ndarray, " n"]) -> Draws:
        return Draws(self.value[positions])

    @classmethod
    def join(cls, parts: Sequence[Draws]) -> Draws:
        if len({part.value.shape[1] for part in parts}) > 1:
            raise GsnnError("concatenate: posteriors of different numbers of draws")
        return cls(np.concatenate([part.value for part in parts]))

    def mean(self) -> Float[ndarray, " object"]:
        return self.value.mean(1)

    def sigma(self) -> Float[ndarray, " object"]:
        """The standard deviation of each object's posterior."""
        return self.value.std(1, ddof=1)

    def expect(self, function: Callable[[ndarray], ndarray]) -> Float[ndarray, " object"]:
        return function(self.value).mean(1)

    def quantile(self, q: Float[ndarray, " q"]) -> Float[ndarray, "object q"]:
        return np.quantile(self.ordered, probabilities(q), axis=1).T

    def cdf(self, x: ndarray) -> ndarray:
        """(draws below x + 1/2) / (draws + 1): what is uniform for a truth from the posterior."""
        x = on_objects(self, x)
        flat = x.reshape(len(x), -1)
        below = np.stack([np.searchsorted(row, at) for row, at in zip(self.ordered, flat)]) if len(x) else flat
        return ((below + 0.5) / (self.value.shape[1] + 1)).reshape(x.shape)

    def pdf(self, x: ndarray) -> ndarray:
        return self.kernel.pdf(x)

    def log_pdf(self, x: ndarray) -> ndarray:
        return self.kernel.log_pdf(x)


def together(found: Mapping[str, Continuous]) -> Float[ndarray, "object draw parameter"] | None:
    """The joint draws of all targets; None where the predictions are no draws of one posterior."""
    parts = list(found.values())
    if not parts or not all(isinstance(part, Draws) for part in parts):
        return None
    if len({part.value.shape for part in parts}) > 1:
        return None
    return np.stack([part.value for part in parts], -1)
