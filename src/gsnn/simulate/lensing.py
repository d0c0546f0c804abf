"""Weak lensing: maps of the convergence with haloes, and the shear that a survey measures with its noise and mask."""

from __future__ import annotations

import json
import math
from functools import cached_property
from typing import Annotated

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int64
from pydantic import Field

from .. import rng
from ..data.readers.shear_catalogue import PIXEL, batch, binned, catalogue, columns, folder_of, noise_of
from ..data.schema import Column, Schema
from ..data.shear import ARCMIN, multipoles, shear_of
from ..data.source import within
from ..errors import ConfigError
from .halo_model import NODES, SCATTER, Universe, concentration, profile

STEPS = 800  # of a table over the multipoles
ANGLES = 8  # sizes of haloes that are told apart
STARS = 40  # bright stars in a square degree of the built-in mask


class Sky:
    """Maps of the convergence on ``grid`` x ``grid`` pixels of ``pixel`` arcmin.

    The smooth matter is a lognormal field of the linear spectrum, whose least value is that of an empty line of sight
    (Hilbert, Hartlap & Schneider 2011, arXiv:1105.3980). Haloes are drawn where it is dense, to the power of their mean
    bias, and painted by their size and concentration. What they follow of the field is taken from the smooth part, so
    that large scales are those of linear theory. Haloes are round, and the light bends once (Born's approximation).
    """

    def __init__(self, grid: int, pixel: float):
        self.grid, self.pixel = grid, pixel
        lowest = 2 * math.pi / (grid * pixel * ARCMIN)
        multipole = multipoles(grid, pixel).numpy()
        self.table = np.geomspace(lowest / 2, multipole.max() * 1.001, STEPS)
        step = math.log(self.table[1] / self.table[0])
        place = np.rint(np.log(np.maximum(multipole, lowest / 2) / self.table[0]) / step)
        self.place = torch.as_tensor(place.astype(np.int64))
        self.area = (pixel * ARCMIN) ** 2

    def on_modes(self, values: Float[np.ndarray, " l"]) -> Float[torch.Tensor, "y x2"]:
        """A function of ``self.table`` at each mode."""
        return torch.as_tensor(values)[self.place]

    def field(self, universe: Universe, white: Float[torch.Tensor, "y x"]) -> tuple[Float[torch.Tensor, "y x"], float]:
        """The density along each line of sight over its mean, lognormal, and the variance of its logarithm."""
        power = self.on_modes(universe.linear(self.table) / universe.empty**2 / self.area)
        logged = torch.log1p(torch.fft.irfft2(power, s=white.shape).clamp(min=-0.999))
        inner = torch.fft.rfft2(logged).real.clamp(min=0)
        variance = float(torch.fft.irfft2(inner, s=white.shape)[0, 0])
        drawn = torch.fft.irfft2(torch.fft.rfft2(white.double()) * inner.sqrt(), s=white.shape)
        return torch.exp(drawn - variance / 2), variance

    def draw(self, universe: Universe, row: int, seed: int) -> Float[torch.Tensor, "y x"]:
        """One map; its chance is a function of (seed, row)."""
        rows, grid = torch.tensor([row]), self.grid
        white = rng.normal(seed, "lensing/white", rows, grid**2).view(grid, grid)
        density, variance = self.field(universe, white)
        bias, followed = universe.followed
        where = density**bias
        crowded = float(where.mean()) * math.exp(-bias * (bias - 1) * variance / 2)
        expected = float(universe.number.sum()) * self.area * grid**2 * crowded
        count = max(round(expected + math.sqrt(expected) * float(rng.normal(seed, "lensing/count", rows))), 0)
        chance = rng.uniform(seed, "lensing/haloes", rows, 3 * count)[0].double().view(3, count).numpy()
        cell = _chosen(universe.number.ravel(), chance[0])
        pixel = _chosen(where.numpy().ravel(), chance[1])
        kind = _chosen(np.array(NODES[1]), chance[2])
        haloes = self.painted(universe, cell, pixel, kind)
        mean = float((universe.number * universe.strength).sum())
        return universe.empty * (1 - followed) * (density - 1) + haloes - mean

    def painted(
        self, universe: Universe, cell: np.ndarray, pixel: np.ndarray, kind: np.ndarray
    ) -> Float[torch.Tensor, "y x"]:
        """The convergence of haloes: their ``cell`` of mass and redshift, ``pixel`` and node of the concentration."""
        c = concentration(universe.mass[:, None], universe.z)
        radius = (universe.scale * c).ravel()
        ends = np.log(radius.min()), np.log(radius.max())
        size = np.clip(((np.log(radius) - ends[0]) / (ends[1] - ends[0]) * ANGLES).astype(int), 0, ANGLES - 1)
        weight = (universe.number * universe.strength**2).ravel()
        group, strength = size[cell] * len(NODES[0]) + kind, universe.strength.ravel()[cell]
        total = torch.zeros(self.place.shape, dtype=torch.complex64)
        for one in np.unique(group):
            some, like = group == one, size == one // len(NODES[0])
            mean_c = np.average(c.ravel()[like], weights=weight[like])
            mean_radius = np.average(radius[like], weights=weight[like])
            own_c = mean_c * 10 ** (SCATTER * NODES[0][one % len(NODES[0])])
            light = np.bincount(pixel[some], weights=strength[some] / self.area, minlength=self.grid**2)
            shape = self.on_modes(profile(self.table * mean_radius / own_c, own_c).astype(np.float32))
            modes = torch.fft.rfft2(torch.as_tensor(light.astype(np.float32)).view(self.grid, self.grid))
            total += modes * shape
        return torch.fft.irfft2(total, s=(self.grid, self.grid)).double()


def _chosen(weight: Float[np.ndarray, " n"], chance: Float[np.ndarray, " k"]) -> Int64[np.ndarray, " k"]:
    """An index for each chance in [0, 1), as often as its weight says."""
    share = np.cumsum(weight)
    return np.minimum(np.searchsorted(share, chance * share[-1], side="right"), len(weight) - 1)


def footprint(side: int, pixel: float, rows: Int64[torch.Tensor, " n"], seed: int) -> Float[np.ndarray, "n y x"]:
    """Where a survey observed (1) and not (0): a field within an empty border, without the surroundings of stars."""
    y, x = np.mgrid[:side, :side] + 0.5
    out = np.zeros((len(rows), side, side))
    stars = max(round(STARS * (side * pixel / 60) ** 2), 1)
    for i, row in enumerate(rows):
        edge = 0.08 + 0.06 * rng.uniform(seed, "lensing/edges", row[None], 4)[0].numpy()
        left, right, low, high = edge * side
        inside = (x > left) & (x < side - right) & (y > low) & (y < side - high)
        draw = rng.uniform(seed, "lensing/stars", row[None], 3 * stars)[0].view(3, stars).numpy()
        for at_x, at_y, share in draw.T:
            radius = 0.3 / (share + 0.02) ** 0.6 / pixel  # of 0.3 to 3 arcmin, mostly small
            ends = [slice(max(int(a * side - radius), 0), int(a * side + radius) + 2) for a in (at_y, at_x)]
            far = np.hypot(x[tuple(ends)] - at_x * side, y[tuple(ends)] - at_y * side)
            inside[tuple(ends)] &= far > radius
        out[i] = inside
    return out


class Lensing:
    """Fields of the sky with the shear that a survey measures and the convergence behind it; a Source.

    ``omega_m`` and ``sigma_8`` are flat over their ranges, so that no network is tied to one spectrum; ``redshift`` is
    the mean of the sources. The sky is ``margin`` pixels larger on each side than what is told, so that matter beyond
    the edge shears what is within. With ``path``, a folder of :mod:`gsnn.data.readers.shear_catalogue`, noise and mask
    are those of that survey, binned to ``side`` pixels, and :meth:`observed` is its catalogue. Without it each row has
    a mask of its own, and ``density`` galaxies to the square arcmin of the ellipticity ``shape_noise``.

    The schema's provenance holds the spectrum of the middle of the ranges, for filters that need one.
    """

    needs_path = False

    def __init__(
        self,
        *,
        path: str | list[str] | None = None,
        maps: Annotated[int, Field(ge=1)] = 1400,
        side: int = 360,
        pixel: Annotated[float, Field(gt=0, le=10)] = PIXEL,
        margin: Annotated[int, Field(ge=0)] = 36,
        omega_m: tuple[float, float] = (0.26, 0.36),
        sigma_8: tuple[float, float] = (0.74, 0.94),
        redshift: Annotated[float, Field(ge=0.2, le=3)] = 1.4,
        least_mass: Annotated[float, Field(ge=1e11, le=1e15)] = 2e12,
        density: Annotated[float, Field(gt=0)] = 71.0,
        shape_noise: Annotated[float, Field(ge=0.01, le=2)] = 0.305,
        actual: bool = False,
    ):
        if not 16 <= side <= 4096 or side % 2:
            raise ConfigError(f"a map has an even number of 16 to 4096 pixels a side, not {side}", ("side",))
        for name, (low, high), least, most in (("omega_m", omega_m, 0.1, 0.9), ("sigma_8", sigma_8, 0.4, 1.5)):
            if not least <= low <= high <= most:
                raise ConfigError(f"{name} lies within {least:g} to {most:g}, not {[low, high]}", (name,))
        if actual and not path:
            raise ConfigError("what was observed needs the folder of the survey: name it by path", ("actual",))
        self.path, self.maps, self.side, self.pixel, self.margin = path, maps, side, pixel, margin
        self.ranges = {"omega_m": omega_m, "sigma_8": sigma_8}
        self.redshift, self.least, self.actual = redshift, least_mass, actual
        self.density, self.shape_noise = density, shape_noise

    @cached_property
    def factor(self) -> int:
        """How many pixels of the survey's noise map, along a side, are one of these."""
        given = len(noise_of(folder_of(self.path)))
        if given % self.side or not math.isclose(self.pixel, PIXEL * given / self.side, rel_tol=1e-3):
            raise ConfigError(
                f"the survey has {given} pixels of {PIXEL} arcmin a side, which cannot be binned to {self.side} of "
                f"{self.pixel:g}; with {self.side} give pixel = {PIXEL * given / self.side:g}",
                ("side",),
            )
        return given // self.side

    @cached_property
    def survey_noise(self) -> Float[np.ndarray, "y x"]:
        noise = noise_of(folder_of(self.path))
        return binned(np.zeros((2, *noise.shape)), noise, self.factor)[1]

    def observed(self) -> Lensing | None:
        """What the survey did measure: one row, without a truth; None where there is no survey."""
        if not self.path:
            return None
        return Lensing(path=self.path, side=self.side, pixel=self.pixel, actual=True, **self.ranges)

    def schema(self) -> Schema:
        middle = Universe(*(sum(r) / 2 for r in self.ranges.values()), self.redshift, self.least)
        multipole = np.geomspace(20, 1e5, 80)
        return Schema.of(
            (
                Column("id", "id"),
                *columns(self.side, self.pixel),
                Column("omega_m", "scalar", dtype="float64", description="density of matter over the critical one"),
                Column("sigma_8", "scalar", dtype="float64", description="contrast of matter in spheres of 8 Mpc/h"),
            ),
            simulator="gsnn.simulate.lensing",
            spectrum=json.dumps([multipole.tolist(), middle.spectrum(multipole).tolist()]),
        )

    def __len__(self) -> int:
        return 1 if self.actual else self.maps

    def noise(self, rows: Int64[torch.Tensor, " n"], seed: int) -> Float[np.ndarray, "n y x"]:
        """The standard deviation of a component of the shear in each pixel, 0 where nothing was observed."""
        if self.path:
            return np.broadcast_to(self.survey_noise, (len(rows), self.side, self.side))
        mean = self.density * self.pixel**2
        drawn = rng.normal(seed, "lensing/galaxies", rows, self.side**2).view(-1, self.side, self.side).numpy()
        number = np.maximum(np.rint(mean + math.sqrt(mean) * drawn), 0) * footprint(self.side, self.pixel, rows, seed)
        return np.where(number > 0, self.shape_noise / np.sqrt(np.maximum(number, 1)), 0)

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The fields of these indices. Raises IndexError beyond the survey."""
        rows = torch.from_numpy(within(indices, len(self)))
        count, side = len(rows), self.side
        low, high = np.array(list(self.ranges.values())).T
        theta = low + (high - low) * rng.uniform(seed, "lensing/parameters", rows, 2).double().numpy()
        maps = {"shear": np.zeros((count, 2, side, side)), "kappa": np.full((count, 1, side, side), np.nan)}
        if self.actual:
            shear, noise, _ = catalogue(folder_of(self.path))
            maps["shear"][:], one = binned(shear, noise, self.factor)
            maps["noise"] = np.broadcast_to(one, (count, 1, side, side))
            theta[:] = np.nan
        else:
            maps["noise"] = self.noise(rows, seed)[:, None]
            grain = rng.normal(seed, "lensing/noise", rows, 2 * side**2).view(count, 2, side, side).numpy()
            sky, inner = Sky(side + 2 * self.margin, self.pixel), slice(self.margin, self.margin + side)
            for i, row in enumerate(rows.tolist()):
                whole = sky.draw(Universe(*theta[i], self.redshift, self.least), row, seed)
                maps["kappa"][i, 0] = whole[inner, inner]
                maps["shear"][i] = shear_of(whole)[:, inner, inner]
            maps["shear"] = (maps["shear"] + grain * maps["noise"]) * (maps["noise"] > 0)
        arrays = maps | {name: theta[:, i] for i, name in enumerate(self.ranges)}
        ids = ["observed" if self.actual else f"field-{seed}-{row}" for row in rows.tolist()]
        return batch(self.schema(), arrays, ids)
