"""The baseline that looks at nothing: how often each answer occurred in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ..data.schema import Column, Schema
from .base import Baseline, Table
from .density import LEVELS, tune_kernel

if TYPE_CHECKING:
    from ..data.survey import View
    from ..evaluation.distributions import Distribution


class Prior(Baseline):
    """Class frequencies of the training split; for a scalar, its training distribution as p(target) of every object.

    The latter is trainZ of Schmidt et al. 2020 (MNRAS 499, 1587): perfectly calibrated and useless, so a metric that
    rewards it measures nothing about objects. Frequencies follow Laplace's rule of succession.
    """

    def __init__(self, inputs: Schema, target: Column):
        super().__init__(inputs, target)

    def matrix(self, view: View) -> Float[np.ndarray, "object feature"]:
        return np.zeros((len(view), 0))

    def tune(self, train: Table, valid: Table, seed: int) -> None:
        if self.labels:
            counts = np.bincount(train.y, minlength=len(self.target.classes)) + 1
            self.frequencies = counts / counts.sum()
        else:
            self.samples = np.quantile(train.y, LEVELS)
            _, kernel = tune_kernel(np.tile(self.samples, (len(valid.y), 1)), valid.y)
            self.bandwidth = float(kernel.sigma(self.samples[None])[0])

    def distribution(self, x: Float[np.ndarray, "object feature"]) -> Distribution:
        from ..evaluation.distributions import Categorical, Samples

        if self.labels:
            return Categorical(np.tile(self.frequencies, (len(x), 1)), self.target.classes)
        return Samples(np.tile(self.samples, (len(x), 1)), bandwidth=np.full(len(x), self.bandwidth))

    def describe(self) -> str:
        if self.labels:
            most = self.target.classes[int(self.frequencies.argmax())]
            return f"Prior: the class frequencies of {self.objects} training objects ({most!r} is the most common)."
        return (
            f"Prior (trainZ): the distribution of {self.objects} training values of {self.target.name!r} "
            f"with a kernel of {self.bandwidth:.3g} {self.target.unit}".rstrip()
            + "."
        )
