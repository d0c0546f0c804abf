"""The exact posterior of a Gaussian map, which no network can beat, and the width that Fisher's matrix promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ..data import sphere
from ..data.schema import Schema, nside_of
from ..errors import ConfigError, GsnnError
from ..simulate.fields import Slab, multiplicity
from ..simulate.sphere_fields import Observable, Sky
from .grid_posterior import MapPosterior

if TYPE_CHECKING:
    from ..data.survey import View

PARAMETERS = ("omega_m", "sigma_8")


class GaussianField(MapPosterior):
    """The likelihood of every Fourier mode of a periodic Gaussian map, on a grid of omega_m and sigma_8.

    ln L = -1/2 sum over modes of (|d_k|^2 / P(k) + ln P(k)): exact for a Gaussian field whose spectrum and noise are
    known (Bond, Jaffe & Knox 1998, astro-ph/9708203, eq. 4, diagonal here). The settings are those of the simulator.
    On lognormal maps it is wrong, and too sure of itself.
    """

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        *,
        box: float = 256.0,
        depth: float = 16.0,
        noise: float = 0.2,
        grid: Annotated[int, Field(ge=8, le=512)] = 96,
    ):
        super().__init__(inputs, targets, grid=grid)
        if tuple(targets) != PARAMETERS:
            raise ConfigError(f"gaussian-field knows the targets {' and '.join(PARAMETERS)}, in this order", ())
        self.slab, self.noise = Slab(self.column.shape[-1], box, depth), noise

    def spectrum(self, omega_m: Tensor, sigma_8: Tensor) -> Float[Tensor, "object mode"]:
        """Signal and noise in the modes of the half plane, in (Mpc/h)^2."""
        return (self.slab.spectrum(omega_m, sigma_8) + self.noise**2 * self.slab.pixel).flatten(1)

    def learn(self, train: View, valid: View) -> None:
        points = torch.from_numpy(self.points)
        spectrum = self.spectrum(points[:, 0], points[:, 1])
        self.weight = (multiplicity(self.slab.side).flatten() / 2)[1:]  # the mean of the map is not used
        self.inverse = 1 / spectrum[:, 1:]
        self.volume = (torch.log(spectrum[:, 1:]) * self.weight).sum(1)

    def log_likelihood(self, maps: Float[np.ndarray, "object 1 y x"]) -> Float[np.ndarray, "object point"]:
        modes = torch.fft.rfft2(torch.from_numpy(maps[:, 0]).double())
        power = (modes.abs() ** 2 * (self.slab.pixel / self.slab.side**2)).flatten(1)[:, 1:]
        return (-(power * self.weight) @ self.inverse.T - self.volume).numpy()

    def fisher(self, omega_m: float, sigma_8: float) -> Float[np.ndarray, "parameter parameter"]:
        """1/2 sum over modes of (d ln P / d a)(d ln P / d b) at a universe (Tegmark, Taylor & Heavens 1997,
        astro-ph/9603021, eq. 15)."""
        at = torch.tensor([omega_m, sigma_8], dtype=torch.float64)
        slopes = torch.autograd.functional.jacobian(
            lambda theta: torch.log(self.spectrum(theta[:1], theta[1:])[0, 1:]), at
        )
        weight = multiplicity(self.slab.side).flatten()[1:] / 2
        return torch.einsum("ka,kb,k->ab", slopes, slopes, weight).numpy()

    def describe(self) -> str:
        middle = self.points.mean(0)
        sigma = np.sqrt(np.diag(np.linalg.inv(self.fisher(*middle))))
        told = ", ".join(f"{name} {value:.4f}" for name, value in zip(PARAMETERS, sigma))
        at = ", ".join(f"{name} = {value:.3g}" for name, value in zip(PARAMETERS, middle))
        return (
            f"Exact likelihood of a Gaussian map, on a grid of {len(self.points)} universes; the widths of Fisher's "
            f"matrix at {at}, without a prior: {told}."
        )


class GaussianSphere(MapPosterior):
    """The likelihood of a whole Gaussian sky with white noise, on a grid of omega_m and sigma_8.

    ln L = -1/2 sum over l of (2 l + 1) (C_l measured / C_l + ln C_l), C_l with noise and pixel window: exact for a sky
    without a mask (Bond, Jaffe & Knox 2000, astro-ph/9808264, eq. 9), from l = 2 to 2 nside, beyond which HEALPix's
    harmonics are no longer orthogonal. The settings are those of the simulator. Needs healpy.
    """

    kinds = ("sphere",)

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        *,
        observable: Observable = "density",
        redshift: float = 0.6,
        between: tuple[float, float] = (0.05, 0.1),
        noise: float = 0.1,
        grid: Annotated[int, Field(ge=8, le=512)] = 96,
    ):
        super().__init__(inputs, targets, grid=grid)
        if tuple(targets) != PARAMETERS:
            raise ConfigError(f"gaussian-sphere knows the targets {' and '.join(PARAMETERS)}, in this order", ())
        self.nside = nside_of(self.column.shape[1])
        self.used = slice(2, 2 * self.nside + 1)
        self.sky, self.noise = Sky(self.nside, observable, redshift, between), noise

    def spectrum(self, points: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point l"]:
        """Signal and noise of the multipoles that are used."""
        matter, place = np.unique(points[:, 0], return_inverse=True)
        of_one = self.sky.spectrum(matter, np.ones(len(matter)))[0][:, self.used]
        return of_one[place] * points[:, 1:] ** 2 + self.noise**2 * 4 * np.pi / (12 * self.nside**2)

    def learn(self, train: View, valid: View) -> None:
        spectrum = self.spectrum(self.points)
        self.weight = self.sky.multipole[self.used] + 0.5
        self.inverse, self.volume = 1 / spectrum, np.log(spectrum) @ self.weight

    def log_likelihood(self, maps: Float[np.ndarray, "object 1 pixel"]) -> Float[np.ndarray, "object point"]:
        if not np.isfinite(maps).all():
            raise GsnnError(
                "gaussian-sphere knows whole skies only, and pixels are masked; give cut = 0, or leave it out"
            )
        power = sphere.spectrum(maps[:, 0], 2 * self.nside)[:, self.used]
        return -(power * self.weight) @ self.inverse.T - self.volume

    def fisher(self, omega_m: float, sigma_8: float) -> Float[np.ndarray, "parameter parameter"]:
        """1/2 sum over l of (2 l + 1)(d ln C / d a)(d ln C / d b) at a universe."""
        at, step = np.array([omega_m, sigma_8]), 1e-3
        shifted = np.stack([at + sign * step * unit for unit in np.eye(2) for sign in (1, -1)])
        logs = np.log(self.spectrum(shifted))
        slopes = (logs[::2] - logs[1::2]) / (2 * step)
        weight = self.sky.multipole[self.used] + 0.5
        return (slopes * weight) @ slopes.T

    def describe(self) -> str:
        return (
            f"Exact likelihood of a whole Gaussian sky from C_l, l = 2 to {2 * self.nside}, on a grid of "
            f"{len(self.points)} universes."
        )
