"""Maps of the whole sky, each of another universe: matter in a shell or the light that it bends, often lognormal."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field

from .. import rng
from ..data import sphere
from ..data.schema import Column, Schema
from ..data.source import within
from ..errors import ConfigError
from .halo_model import Universe, growth
from .matter import power

LAYERS = 32  # of a shell along the line of sight
Observable = Literal["convergence", "density"]


class Sky:
    """What a universe looks like on HEALPix pixels of ``nside``: its angular power spectrum and its emptiest value.

    "convergence": of light from sources of mean ``redshift`` (:class:`Universe`); the emptiest line of sight is that of
    Hilbert, Hartlap & Schneider 2011 (arXiv:1105.3980). "density": the overdensity in a shell, redshifts ``between``,
    whose emptiest value is -1. Linear theory, Limber's approximation, the mean over a pixel, and multipoles up to
    3 nside - 1.
    """

    def __init__(self, nside: int, observable: Observable, redshift: float, between: tuple[float, float]):
        self.nside, self.observable, self.redshift, self.between = nside, observable, redshift, between
        self.largest = 3 * nside - 1
        self.multipole = np.arange(self.largest + 1.0)
        self.window = sphere.pixel_window(nside, self.largest)

    def spectrum(
        self, omega_m: Float[np.ndarray, " n"], sigma_8: Float[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, "n l"], Float[np.ndarray, " n"]]:
        """C_l of the pixels, and how far below the mean a pixel can lie."""
        found = [self._one(float(matter)) for matter in omega_m]
        made = np.array([one for one, _ in found]).reshape(-1, self.largest + 1)
        return made * sigma_8[:, None] ** 2 * self.window**2, np.array([empty for _, empty in found])

    def _one(self, omega_m: float) -> tuple[Float[np.ndarray, " l"], float]:
        """The same for sigma_8 = 1, without the pixels."""
        if self.observable == "convergence":
            universe = Universe(omega_m, 1.0, self.redshift, 1e14)
            return universe.linear(self.multipole), universe.empty
        edges = np.linspace(*self.between, LAYERS + 1)
        z, universe = (edges[1:] + edges[:-1]) / 2, Universe(omega_m, 1.0, self.between[1], 1e14)
        distance, depth = universe.distance_of(z), np.diff(universe.distance_of(edges))
        k = (self.multipole[:, None] + 0.5) / distance
        one = torch.ones(1, dtype=torch.float64)
        matter = power(torch.from_numpy(k.ravel()), omega_m * one, one)[0].numpy().reshape(k.shape)
        return matter @ (growth(z, omega_m) ** 2 * depth / distance**2) / depth.sum() ** 2, 1.0

    @cached_property
    def _legendre(self) -> tuple[Float[np.ndarray, "node l"], Float[np.ndarray, " node"]]:
        """P_l at the nodes of Gauss and Legendre's quadrature, and their weights."""
        node, weight = np.polynomial.legendre.leggauss(3 * self.largest)
        return np.polynomial.legendre.legvander(node, self.largest), weight

    def gaussian_of(
        self, spectrum: Float[np.ndarray, "n l"], empty: Float[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, "n l"], Float[np.ndarray, " n"]]:
        """Spectrum and variance of the Gaussian field g for which empty (exp(g - variance / 2) - 1) has ``spectrum``.

        C_l becomes a correlation of angles, that of g is its ln(1 + xi / empty^2), which becomes C_l again (Xavier,
        Abdalla & Joachimi 2016, arXiv:1602.08503, eqs 7 to 9). Multipoles that would need a negative power get none.
        """
        legendre, weight = self._legendre
        degree = 2 * self.multipole + 1
        correlation = (spectrum * degree / (4 * np.pi)) @ legendre.T
        logged = np.log1p(np.maximum(correlation / empty[:, None] ** 2, -0.999))
        found = np.maximum(2 * np.pi * (logged * weight) @ legendre, 0)
        return found, found @ degree / (4 * np.pi)

    def drawn(
        self, spectrum: Float[np.ndarray, "n l"], white: Float[np.ndarray, "n 2 mode"]
    ) -> Float[np.ndarray, "n pixel"]:
        """Gaussian maps of these spectra, NESTED; ``white`` are standard normal numbers for the modes of healpy."""
        code = sphere.healpy()
        multipole, m = code.Alm.getlm(self.largest)
        size = np.sqrt(spectrum[:, multipole]) * np.where(m > 0, np.sqrt(0.5), 1.0)
        modes = (white[:, 0] + 1j * white[:, 1] * (m > 0)) * size
        made = [code.alm2map(one, self.nside, lmax=self.largest) for one in modes]
        return sphere.nested(np.array(made).reshape(-1, 12 * self.nside**2))


class SphereFields:
    """Maps of the whole sky without what the Milky Way hides, each of another universe; a Source.

    ``omega_m`` and ``sigma_8`` are flat over their ranges and are the questions; all else is as Planck found it. A
    "gaussian" map is all that its spectrum says; a "lognormal" one has the same two-point function, voids and peaks.
    ``noise`` is the standard deviation of white noise in a pixel: of the density 1 / sqrt(galaxies in it), of the
    convergence sigma_e / sqrt(galaxies), which is 0.00075 at nside 32 for a shape noise of 0.26 and ten galaxies to the
    square arcmin. Pixels nearer than ``cut`` degrees to the equator of the map (the Galactic plane) are NaN. Needs
    healpy.
    """

    def __init__(
        self,
        *,
        maps: Annotated[int, Field(ge=1)] = 4000,
        kind: Literal["gaussian", "lognormal"] = "lognormal",
        observable: Observable = "density",
        nside: Annotated[int, Field(ge=4, le=1024)] = 32,
        redshift: Annotated[float, Field(ge=0.2, le=3)] = 0.6,
        between: tuple[float, float] = (0.05, 0.1),
        noise: Annotated[float, Field(ge=0)] = 0.1,
        cut: Annotated[float, Field(ge=0, lt=90)] = 20.0,
        omega_m: tuple[float, float] = (0.1, 0.5),
        sigma_8: tuple[float, float] = (0.6, 1.0),
    ):
        if nside & (nside - 1):
            raise ConfigError(f"the nside of a HEALPix map is a power of two, not {nside}", ("nside",))
        if not 0.005 <= between[0] < between[1] <= 3:
            raise ConfigError(f"a shell rises in redshift within 0.005 to 3, not {list(between)}", ("between",))
        for name, (low, high), most in (("omega_m", omega_m, 1.0), ("sigma_8", sigma_8, 2.0)):
            if not 0.05 <= low < high <= most:
                raise ConfigError(f"{name} rises within 0.05 to {most:g}, not {[low, high]}", (name,))
        sphere.healpy()
        self.maps, self.kind, self.noise, self.cut = maps, kind, noise, cut
        self.nside, self.given = nside, (nside, observable, redshift, between)
        self.ranges = {"omega_m": omega_m, "sigma_8": sigma_8}

    @cached_property
    def sky(self) -> Sky:
        return Sky(*self.given)

    @cached_property
    def seen(self) -> Bool[np.ndarray, " pixel"]:
        """The pixels that the Milky Way does not hide."""
        return abs(sphere.latitudes(self.nside)) >= self.cut

    def schema(self) -> Schema:
        observable = self.given[1]
        what = "convergence of light" if observable == "convergence" else "overdensity of a shell"
        return Schema.of(
            (
                Column("id", "id"),
                Column(
                    "sky", "sphere", shape=(1, 12 * self.nside**2), bands=(observable,),
                    description=f"{what} in HEALPix pixels of nside {self.nside}, with noise",
                ),
                Column("omega_m", "scalar", dtype="float64", description="density of matter over the critical one"),
                Column("sigma_8", "scalar", dtype="float64", description="contrast of matter in spheres of 8 Mpc/h"),
            ),
            simulator="gsnn.simulate.sphere_fields",
            field=self.kind, observable=observable, noise=str(self.noise), cut=str(self.cut),
            redshift=str(self.given[2]), between=list(self.given[3]),
        )  # fmt: skip

    def __len__(self) -> int:
        return self.maps

    def parameters(self, rows: Int64[torch.Tensor, " n"], seed: int) -> dict[str, Float[np.ndarray, " n"]]:
        """The truth of these rows."""
        share = rng.uniform(seed, "sphere-fields/parameters", rows, 2).double().numpy()
        return {name: low + (high - low) * share[:, i] for i, (name, (low, high)) in enumerate(self.ranges.items())}

    def draw(
        self,
        omega_m: Float[np.ndarray, " n"],
        sigma_8: Float[np.ndarray, " n"],
        rows: Int64[torch.Tensor, " n"],
        seed: int,
    ) -> Float[np.ndarray, "n pixel"]:
        """Maps of these universes, NESTED; their chance is a function of (seed, row)."""
        sky, modes = self.sky, (self.sky.largest + 1) * (self.sky.largest + 2) // 2
        white = rng.normal(seed, "sphere-fields/white", rows, 2 * modes).view(-1, 2, modes).double().numpy()
        spectrum, empty = sky.spectrum(omega_m, sigma_8)
        if self.kind == "gaussian":
            made = sky.drawn(spectrum, white)
        else:
            inner, variance = sky.gaussian_of(spectrum, empty)
            made = empty[:, None] * np.expm1(sky.drawn(inner, white) - variance[:, None] / 2)
        grain = rng.normal(seed, "sphere-fields/noise", rows, made.shape[1]).double().numpy()
        return np.where(self.seen, made + self.noise * grain, np.nan)

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The maps of these indices. Raises IndexError beyond the survey."""
        rows = torch.from_numpy(within(indices, self.maps))
        truth = self.parameters(rows, seed)
        maps = self.draw(truth["omega_m"], truth["sigma_8"], rows, seed).astype(np.float32)
        arrays = {
            "id": pa.array([f"{self.kind}-{seed}-{row}" for row in rows.tolist()], pa.string()),
            "sky": pa.FixedSizeListArray.from_arrays(pa.array(maps.ravel()), 12 * self.nside**2),
            **{name: pa.array(value) for name, value in truth.items()},
        }
        schema = self.schema().arrow()
        return pa.RecordBatch.from_arrays([arrays[field.name] for field in schema], schema=schema)
