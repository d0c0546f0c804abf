"""What cosmologists did before networks: band powers of a map, and a Gaussian likelihood calibrated by simulations."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from ..data import sphere
from ..data.schema import Schema, nside_of
from ..simulate.fields import multiplicity
from .grid_posterior import MapPosterior
from .summary_posterior import SummaryPosterior


def bands(side: int, count: int) -> Int[np.ndarray, "y x"]:
    """The band of each mode of rfft2, from 0; -1 for the mean. Equally wide in log k, from one wave to the corner."""
    y, x = np.fft.fftfreq(side, 1 / side), np.arange(side // 2 + 1)
    k = np.hypot(y[:, None], x[None])
    edges = np.geomspace(1, side / np.sqrt(2) + 1e-9, count + 1)
    edges[0] = 0.5
    place = np.searchsorted(edges, k, side="right") - 1
    return np.where(k > 0, np.clip(place, 0, count - 1), -1)


def band_powers(maps: Float[np.ndarray, "object y x"], count: int) -> Float[np.ndarray, "object band"]:
    """The logarithm of the mean power in each band that holds a mode."""
    side = maps.shape[-1]
    place = bands(side, count).ravel()
    weight = multiplicity(side).numpy().ravel()
    power = (abs(np.fft.rfft2(maps)) ** 2).reshape(len(maps), -1) / side**2
    used = [band for band in range(count) if (place == band).any()]
    total = [(power[:, place == b] * weight[place == b]).sum(1) / weight[place == b].sum() for b in used]
    return np.log(np.maximum(np.stack(total, 1), 1e-300))


def multipole_powers(maps: Float[np.ndarray, "object pixel"], count: int) -> Float[np.ndarray, "object band"]:
    """The same of maps of the sky: the mean pseudo-C_l (:func:`gsnn.data.sphere.spectrum`) over the modes of each band,
    equally wide in log l from l = 2 to 3 nside - 1. What a mask mixes, the simulations have mixed as well."""
    largest = 3 * nside_of(maps.shape[-1]) - 1
    multipole = np.arange(2, largest + 1)
    edges = np.geomspace(2, largest + 1e-9, count + 1)
    place = np.clip(np.searchsorted(edges, multipole, side="right") - 1, 0, count - 1)
    weight = (2 * multipole + 1)[:, None] * (place[:, None] == np.unique(place))
    power = sphere.spectrum(maps, largest)[:, 2:] @ (weight / weight.sum(0))
    return np.log(np.maximum(power, 1e-300))


class PowerSpectrum(SummaryPosterior, MapPosterior):
    """log P(k) in ``bins`` bands; its mean and covariance as functions of the parameters, from the training part.

    The logarithm makes the scatter of a band nearly Gaussian. Of a sphere, C_l in bands of l (needs healpy).
    """

    kinds = ("image", "sphere")

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        *,
        bins: Annotated[int, Field(ge=2, le=256)] = 16,
        grid: Annotated[int, Field(ge=4, le=512)] = 64,
    ):
        super().__init__(inputs, targets, grid=grid)
        self.bins = bins

    def read(self, data: Float[np.ndarray, "object 1 *place"]) -> Float[np.ndarray, "object band"]:
        measure = multipole_powers if self.column.kind == "sphere" else band_powers
        return measure(super().read(data)[:, 0], self.bins)

    def describe(self) -> str:
        return f"Band powers, log {'C_l' if self.column.kind == 'sphere' else 'P(k)'}: {super().describe()}"
