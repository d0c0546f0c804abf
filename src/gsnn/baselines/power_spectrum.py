"""What cosmologists did before networks: band powers of a map, and a Gaussian likelihood calibrated by simulations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from ..data import sphere
from ..data.response import polynomial
from ..data.schema import Schema, nside_of
from ..errors import GsnnError
from ..simulate.fields import multiplicity
from .grid_posterior import CHUNK, MapPosterior

if TYPE_CHECKING:
    from ..data.survey import View

SHRUNK = 1e-6  # of the mean variance, added to the diagonal of a covariance


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


class PowerSpectrum(MapPosterior):
    """log P(k) in ``bins`` bands; its mean and covariance as functions of the parameters, from the training part.

    The mean of each band is a polynomial of the parameters, and so is the logarithm of its variance; the correlation
    of bands is one for all. Degrees (1 to 4 and 0 to 2) are chosen by the likelihood of the validation part. The
    logarithm makes the scatter of a band nearly Gaussian. Of a sphere, C_l in bands of l (needs healpy).
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

    def powers(self, maps: Float[np.ndarray, "object 1 *place"]) -> Float[np.ndarray, "object band"]:
        measure = multipole_powers if self.column.kind == "sphere" else band_powers
        return measure(np.asarray(maps[:, 0], np.float64), self.bins)

    def summaries(self, view: View) -> Float[np.ndarray, "object band"]:
        name = self.column.name
        return np.concatenate([self.powers(chunk[name]) for chunk in view.chunks([name], CHUNK)])

    def learn(self, train: View, valid: View) -> None:
        (x, theta), (x_valid, theta_valid) = (self.known(view) for view in (train, valid))
        self.centre, self.scale = self.points.mean(0), self.points.std(0)
        if len(x) < 10 * x.shape[1]:
            raise GsnnError(
                f"power-spectrum: {len(x)} training maps cannot tell the covariance of {x.shape[1]} bands; "
                "simulate more, or give fewer bins"
            )
        tried = {}
        for degree in range(1, 5):
            for rise in range(3):
                fitted = self._fitted(x, theta, degree, rise)
                tried[degree, rise] = self._likelihood(x_valid, theta_valid, *fitted).mean(), fitted
        (self.degree, self.rise), (_, fitted) = max(tried.items(), key=lambda item: item[1][0])
        mean, log_sigma, self.root = fitted
        terms = self._terms(self.points, self.degree) @ mean, self._terms(self.points, self.rise) @ log_sigma
        self.mean, self.log_sigma = terms

    def known(self, view: View) -> tuple[np.ndarray, np.ndarray]:
        """Summaries and parameters of the maps that have both."""
        columns, x = view.columns(list(self.targets)), self.summaries(view)
        theta = np.stack([np.asarray(columns[name], float) for name in self.targets], 1)
        good = np.isfinite(theta).all(1) & np.isfinite(x).all(1)
        return x[good], theta[good]

    def _terms(self, theta: np.ndarray, degree: int) -> np.ndarray:
        return polynomial((theta - self.centre) / self.scale, degree)

    def _fitted(self, x: np.ndarray, theta: np.ndarray, degree: int, rise: int) -> tuple[np.ndarray, ...]:
        """Coefficients of the mean and of log sigma, and the inverse root of the correlation of the bands."""
        mean = np.linalg.lstsq(self._terms(theta, degree), x, rcond=None)[0]
        residual = x - self._terms(theta, degree) @ mean
        terms = self._terms(theta, rise)
        logged = np.log(residual**2 + 1e-300) / 2 + 0.635  # E ln|N(0, 1)| = -0.635
        log_sigma = np.linalg.lstsq(terms, logged, rcond=None)[0]
        unit = residual / np.exp(terms @ log_sigma)
        log_sigma[0] += np.log(unit.std(0))
        correlation = np.cov((residual / np.exp(terms @ log_sigma)).T)
        root = np.linalg.inv(np.linalg.cholesky(correlation + SHRUNK * np.eye(len(correlation))))
        return mean, log_sigma, root

    def _likelihood(self, x: np.ndarray, theta: np.ndarray, mean: np.ndarray, log_sigma: np.ndarray, root: np.ndarray):
        width = self._terms(theta, self._degree(log_sigma)) @ log_sigma
        apart = (x - self._terms(theta, self._degree(mean)) @ mean) / np.exp(width)
        return -0.5 * ((apart @ root.T) ** 2).sum(1) - width.sum(1) + np.log(np.diag(root)).sum()

    def _degree(self, coefficients: np.ndarray) -> int:
        sizes = [polynomial(self.centre[None], degree).shape[1] for degree in range(5)]
        return sizes.index(len(coefficients))

    def log_likelihood(self, maps: Float[np.ndarray, "object 1 *place"]) -> Float[np.ndarray, "object point"]:
        x = self.powers(maps)
        found = np.empty((len(x), len(self.points)))
        inverse, turned = np.exp(-self.log_sigma), self.root.T
        for i, one in enumerate(x):
            found[i] = -0.5 * ((((one - self.mean) * inverse) @ turned) ** 2).sum(1)
        return found - self.log_sigma.sum(1)

    def describe(self) -> str:
        of = "C_l" if self.column.kind == "sphere" else "P(k)"
        return (
            f"Band powers: a Gaussian likelihood of log {of} in {self.root.shape[0]} bands, its mean a polynomial of "
            f"degree {self.degree} and its scatter of degree {self.rise} in the parameters, on a grid of "
            f"{len(self.points)} points."
        )
