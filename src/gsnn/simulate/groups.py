"""Groups of galaxies as a redshift survey sees them: places on the sky, stellar masses, speeds along the sight."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int64
from pydantic import Field

from .. import rng
from ..data.points import Points
from ..data.schema import Column, Schema
from ..data.source import within
from ..errors import ConfigError
from . import haloes
from .matter import HUBBLE

THRESHOLD = 9.9  # log10 of the least stellar mass, Msun
FAINT = -1.1  # slope of the satellites' masses, and ln of the break over the central's mass (Yang et al. 2009)
BREAK = 10**-0.25
CONCENTRATION_SCATTER = 0.11  # dex
_TRIES = 1000


class Group(NamedTuple):
    """What is seen of a group and what is true of it."""

    position: Float[np.ndarray, "galaxy 2"]  # Mpc from the central galaxy
    feature: Float[np.ndarray, "galaxy 2"]  # log10 stellar mass, and speed less that of the halo in km/s
    log_halo_mass: float
    log_central_mass: float
    members: int
    interlopers: int


class Groups:
    """Groups of galaxies around the central one of a halo whose mass is asked for; a Source.

    Haloes follow the mass function between the limits ``log_mass``. Each has a central galaxy, whose stellar mass
    scatters by ``scatter`` dex about the relation of Moster et al. 2013, and Poisson satellites (Zheng et al. 2007)
    that follow an NFW profile of the halo's own concentration and move by the Jeans equation. Their masses are those
    of Yang, Mo & van den Bosch 2009 (ApJ 695, 900). A group is what is seen within ``aperture`` Mpc and ``window`` km/s
    of the central galaxy: galaxies of the field, of which there are ``density`` per Mpc^3, stand among its members and
    are not told apart. Groups of fewer than ``least`` galaxies are not in the catalogue. Stellar masses are measured to
    ``mass_error`` dex and speeds to ``velocity_error`` km/s. Groups of two bound haloes, substructure and selection by
    flux are left out.
    """

    def __init__(
        self,
        *,
        groups: Annotated[int, Field(ge=1)] = 20_000,
        least: Annotated[int, Field(ge=1, le=20)] = 5,
        log_mass: tuple[float, float] = (12.0, 15.2),
        scatter: Annotated[float, Field(ge=0, le=1)] = 0.2,
        aperture: Annotated[float, Field(gt=0, le=10)] = 1.0,
        window: Annotated[float, Field(gt=0, le=10_000)] = 1500.0,
        density: Annotated[float, Field(ge=0, le=1)] = 0.005,
        mass_error: Annotated[float, Field(ge=0, le=1)] = 0.1,
        velocity_error: Annotated[float, Field(ge=0, le=1000)] = 30.0,
    ):
        if not 11.5 <= log_mass[0] < log_mass[1] <= 15.5:
            raise ConfigError(f"log_mass rises within 11.5 to 15.5, not {list(log_mass)}", ("log_mass",))
        self.groups, self.least, self.scatter, self.aperture = groups, least, scatter, aperture
        self.window, self.density, self.mass_error, self.velocity_error = window, density, mass_error, velocity_error
        self.masses = haloes.Masses(*log_mass)
        grid = np.linspace(11.0, 15.0, 400)
        self.field = haloes.Masses(11.0, 15.0, haloes.centrals(grid))
        depth = 2 * window / (100 * HUBBLE)  # of the cylinder, Mpc
        self.strangers = density * np.pi * aperture**2 * depth

    def schema(self) -> Schema:
        return Schema.of(
            (
                Column("id", "id"),
                Column(
                    "galaxies", "graph", unit="Mpc", shape=(2,), bands=("log_stellar_mass", "velocity"),
                    description="members and interlopers: place on the sky, log10 Msun, km/s less the central galaxy's",
                ),
                Column("log_halo_mass", "scalar", "log10 Msun", dtype="float64", description="log10 of M_200c"),
                Column("log_central_mass", "scalar", "log10 Msun", dtype="float64", description="true, of its stars"),
                Column("members", "scalar", dtype="float64", description="galaxies of the halo that are seen"),
                Column("interlopers", "scalar", dtype="float64", description="galaxies of the field among them"),
            ),
            simulator="gsnn.simulate.groups",
            aperture=str(self.aperture), window=str(self.window), least=str(self.least), scatter=str(self.scatter),
        )  # fmt: skip

    def __len__(self) -> int:
        return self.groups

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The groups of these indices. Raises IndexError beyond the survey."""
        rows = within(indices, self.groups)
        keys = rng.bits(seed, "groups", torch.from_numpy(rows))[:, 0].tolist()
        made = [self.draw(np.random.default_rng(key & (2**63 - 1))) for key in keys]
        truth = ("log_halo_mass", "log_central_mass", "members", "interlopers")
        arrays = {
            "id": pa.array([f"group-{seed}-{row}" for row in rows.tolist()], pa.string()),
            "galaxies": Points.of([one[:2] for one in made], 2, 2).to_arrow(),
            **{name: pa.array([float(getattr(one, name)) for one in made], pa.float64()) for name in truth},
        }
        schema = self.schema().arrow()
        return pa.RecordBatch.from_arrays([arrays[field.name] for field in schema], schema=schema)

    def draw(self, chance: np.random.Generator) -> Group:
        """One group, drawn anew until it has enough galaxies."""
        for _ in range(_TRIES):
            log_mass = float(self.masses(chance.random()))
            number, strangers = chance.poisson(haloes.satellites(log_mass)), chance.poisson(self.strangers)
            if 1 + number + strangers < self.least:
                continue
            group = self._observe(chance, log_mass, number, strangers)
            if len(group.position) >= self.least:
                return group
        raise ConfigError(f"in {_TRIES} tries no group had {self.least} galaxies; ask for fewer", ("least",))

    def _observe(self, chance: np.random.Generator, log_mass: float, number: int, strangers: int) -> Group:
        central = float(haloes.stellar_mass(log_mass)) + self.scatter * chance.normal()
        spread = 10 ** (CONCENTRATION_SCATTER * chance.normal())
        concentration = np.full(number, haloes.concentration(log_mass) * spread)
        radius = haloes.radii(chance.random(number), concentration)
        position = radius[:, None] * _directions(chance, number)[:, :2] * haloes.radius_200(log_mass)
        speed = haloes.dispersion(radius, np.full(number, log_mass), concentration) * chance.normal(size=number)
        light = satellite_masses(chance, central, number)
        # the field: anywhere in the cylinder, as heavy as centrals are
        angle, away = 2 * np.pi * chance.random(strangers), self.aperture * np.sqrt(chance.random(strangers))
        theirs = away[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        flow = self.window * (2 * chance.random(strangers) - 1)
        stars = haloes.stellar_mass(self.field(chance.random(strangers))) + self.scatter * chance.normal(size=strangers)
        seen = (np.hypot(*position.T) < self.aperture) & (np.abs(speed) < self.window)
        position = np.concatenate([np.zeros((1, 2)), position[seen], theirs])
        mass = np.concatenate([[central], light[seen], np.maximum(stars, THRESHOLD)])
        velocity = np.concatenate([[0.0], speed[seen], flow])
        mass = mass + self.mass_error * chance.normal(size=len(mass))
        velocity = velocity + self.velocity_error * chance.normal(size=len(mass))
        order = chance.permutation(len(mass))  # which is the central one is not told
        feature = np.stack([mass, velocity], 1)
        return Group(position[order], feature[order], log_mass, central, 1 + int(seen.sum()), strangers)


def satellite_masses(chance: np.random.Generator, central: float, number: int) -> Float[np.ndarray, " galaxy"]:
    """log10 stellar masses above the threshold, dN/dlog m ~ x^(FAINT + 1) exp(-x^2) with x = m / (BREAK central)."""
    grid = np.linspace(THRESHOLD, max(central, THRESHOLD) + 0.3, 200)
    x = 10 ** (grid - central) / BREAK
    share = np.cumsum(x ** (FAINT + 1) * np.exp(-(x**2)))
    return np.interp(chance.random(number), share / share[-1], grid)


def _directions(chance: np.random.Generator, number: int) -> Float[np.ndarray, "number 3"]:
    made = chance.normal(size=(number, 3))
    return made / np.linalg.norm(made, axis=1, keepdims=True)
