"""Galaxies as points in a box: Poisson samples of a lognormal field, with satellites around them, in redshift space."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from .. import rng
from ..data.points import Points
from ..data.schema import Column, Schema
from ..data.source import within
from ..errors import ConfigError
from .matter import power
from .mesh import coloured, pull, to_cells, to_modes, wavenumbers

PARAMETERS = {
    "omega_m": "density of matter over the critical one",
    "sigma_8": "contrast of matter in spheres of 8 Mpc/h",
    "bias": "of the logarithm of the galaxies' density to that of matter's",
    "points": "expected number of galaxies in the box, satellites aside",
    "satellites": "mean number of satellites of a galaxy",
}


class Volume:
    """A periodic box of ``side`` cells an axis and ``box`` Mpc/h, and the lognormal fields in it."""

    def __init__(self, side: int, box: float):
        self.side, self.box, self.cell = side, box, (box / side) ** 3
        self.k, self.place = torch.unique(wavenumbers(side, box, 3), return_inverse=True)

    def correlation(self, omega_m: float, sigma_8: float) -> Float[Tensor, "z y x"]:
        """The two-point function of linear matter at every separation of cells."""
        found = power(self.k, torch.tensor([omega_m]), torch.tensor([sigma_8]))[:, self.place]
        return to_cells(found / self.cell, self.side)[0]

    def gaussian(self, white: Float[Tensor, "z y x"], correlation: Float[Tensor, "z y x"]) -> tuple[Tensor, float]:
        """The field g, and its variance, for which exp(g - variance / 2) - 1 has this two-point function.

        Coles & Jones 1991 (MNRAS 248, 1), eq. 21. Modes that would have to have a negative power get none.
        """
        spectrum = to_modes(torch.log1p(correlation.clamp(min=-0.999))[None]).real.clamp(min=0)
        spectrum[:, 0, 0, 0] = 0
        made = coloured(white[None], spectrum.to(white.dtype), 1.0)[0]
        return made, float(to_cells(spectrum, self.side)[0, 0, 0, 0])


def lognormal_correlation(correlation: Float[Tensor, "*cell"], bias: float) -> Float[Tensor, "*cell"]:
    """Of galaxies whose density goes as exp(``bias`` g), where that of matter goes as exp(g) and has this one."""
    return torch.expm1(bias**2 * torch.log1p(correlation.clamp(min=-0.999)))


def neyman_scott(
    chance: np.random.Generator, parents: Float[np.ndarray, "point axis"], satellites: float, size: float
) -> Float[np.ndarray, "more axis"]:
    """Parents, each with Poisson satellites around it, ``size`` their scatter along an axis (Thomas 1949)."""
    owner = np.repeat(np.arange(len(parents)), chance.poisson(satellites, len(parents)))
    return np.concatenate([parents, parents[owner] + size * chance.normal(size=(len(owner), parents.shape[1]))])


def neyman_scott_correlation(
    r: Float[np.ndarray, " r"], density: float, satellites: float, size: float
) -> Float[np.ndarray, " r"]:
    """The two-point function of :func:`neyman_scott` around ``density`` Poisson parents per volume, in 3-D.

    In each family, in both orders, 2 mu pairs are of a parent and a satellite and mu^2 of two satellites; separations
    are Gaussian of variance size^2 and 2 size^2 (Neyman & Scott 1952, ApJ 116, 144; here the parents are points too).
    """

    def gaussian(variance: float) -> np.ndarray:
        return np.exp(-(r**2) / (2 * variance)) / (2 * np.pi * variance) ** 1.5

    pairs = 2 * satellites * gaussian(size**2) + satellites**2 * gaussian(2 * size**2)
    return pairs / (density * (1 + satellites) ** 2)


class GalaxyBoxes:
    """Boxes of galaxies, each of another universe; a Source.

    Matter is a lognormal field with the two-point function of linear theory today (Eisenstein & Hu 1998, without
    wiggles) on a mesh of ``side`` cells. Galaxies are Poisson points whose density goes as its ``bias``-th power, and
    around each are ``satellites`` (Neyman & Scott) within ``size`` Mpc/h. All five parameters are flat over their
    ranges (``points`` in its logarithm). ``omega_m`` and ``sigma_8`` are the questions; the number of points says
    nothing of them. With ``redshift_space`` galaxies are displaced along the last axis by their speeds: f times the
    displacement of linear theory with f = omega_m^0.55 (Kaiser 1987, MNRAS 227, 1; Linder 2005, PRD 72, 043529), and a
    scatter of ``dispersion`` km/s. With ``periodic = false`` the box is a cube cut out of a larger universe, as far as
    anyone can see who does not look across its faces.
    """

    def __init__(
        self,
        *,
        boxes: Annotated[int, Field(ge=1)] = 5000,
        box: Annotated[float, Field(gt=0)] = 128.0,
        side: Annotated[int, Field(ge=8, le=256)] = 48,
        omega_m: tuple[float, float] = (0.1, 0.5),
        sigma_8: tuple[float, float] = (0.6, 1.0),
        bias: tuple[float, float] = (1.0, 1.5),
        points: tuple[float, float] = (600.0, 1200.0),
        satellites: tuple[float, float] = (0.0, 0.3),
        size: Annotated[float, Field(gt=0)] = 0.5,
        redshift_space: bool = False,
        dispersion: Annotated[float, Field(ge=0)] = 200.0,
        periodic: bool = True,
    ):
        self.ranges = {
            "omega_m": omega_m, "sigma_8": sigma_8, "bias": bias, "points": points, "satellites": satellites,
        }  # fmt: skip
        limits = ((0.05, 1.0), (0.1, 2.0), (0.0, 5.0), (10.0, 1e5), (0.0, 20.0))
        for (name, (low, high)), (least, most) in zip(self.ranges.items(), limits):
            if not least <= low <= high <= most:
                raise ConfigError(f"{name} rises within {least:g} to {most:g}, not {[low, high]}", (name,))
        if side % 2:
            raise ConfigError(f"a mesh has an even number of cells an axis, not {side}", ("side",))
        self.boxes, self.size, self.periodic = boxes, size, periodic
        self.redshift_space, self.dispersion = redshift_space, dispersion
        self.volume = Volume(side, box)

    def schema(self) -> Schema:
        box = self.volume.box
        return Schema.of(
            (
                Column("id", "id"),
                Column(
                    "galaxies", "graph", unit="Mpc/h", shape=(3,), box=box if self.periodic else None,
                    description="places" + (", the last coordinate by redshift" if self.redshift_space else ""),
                ),
                *(Column(name, "scalar", dtype="float64", description=text) for name, text in PARAMETERS.items()),
                Column("count", "scalar", dtype="float64", description="galaxies in the box"),
            ),
            simulator="gsnn.simulate.point_processes",
            side=str(box), redshift_space=str(self.redshift_space),
        )  # fmt: skip

    def __len__(self) -> int:
        return self.boxes

    def parameters(self, rows: Int64[Tensor, " n"], seed: int) -> dict[str, Float[Tensor, " n"]]:
        """The truth of these rows."""
        share = rng.uniform(seed, "galaxy-boxes/parameters", rows, len(self.ranges)).double()
        found = {name: low + (high - low) * share[:, i] for i, (name, (low, high)) in enumerate(self.ranges.items())}
        low, high = self.ranges["points"]
        return {**found, "points": low * (high / low) ** share[:, list(self.ranges).index("points")]}

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The boxes of these indices. Raises IndexError beyond the survey."""
        rows = torch.from_numpy(within(indices, self.boxes))
        truth = self.parameters(rows, seed)
        keys = rng.bits(seed, "galaxy-boxes", rows)[:, 0].tolist()
        made = [
            self.draw(np.random.default_rng(key & (2**63 - 1)), **{name: float(v[i]) for name, v in truth.items()})
            for i, key in enumerate(keys)
        ]
        arrays = {
            "id": pa.array([f"box-{seed}-{row}" for row in rows.tolist()], pa.string()),
            "galaxies": Points.of([(position, None) for position in made]).to_arrow(),
            **{name: pa.array(value.numpy()) for name, value in truth.items()},
            "count": pa.array([float(len(position)) for position in made], pa.float64()),
        }
        schema = self.schema().arrow()
        return pa.RecordBatch.from_arrays([arrays[field.name] for field in schema], schema=schema)

    def draw(
        self,
        chance: np.random.Generator,
        omega_m: float,
        sigma_8: float,
        bias: float,
        points: float,
        satellites: float,
    ) -> Float[np.ndarray, "galaxy 3"]:
        """The galaxies of one universe, within 0 and the side of the box."""
        volume, box = self.volume, self.volume.box
        white = torch.from_numpy(chance.standard_normal((volume.side,) * 3, np.float32))
        field, variance = volume.gaussian(white, volume.correlation(omega_m, sigma_8))
        weight = torch.exp(bias * field - bias**2 * variance / 2).double().flatten().numpy()
        total = np.cumsum(weight)
        number = chance.poisson(points * total[-1] / len(weight))
        cells = np.searchsorted(total, total[-1] * chance.random(number)).clip(max=len(weight) - 1)
        place = np.stack(np.unravel_index(cells, (volume.side,) * 3), 1)
        position = (place + chance.random((number, 3))) * (box / volume.side)
        position = neyman_scott(chance, position, satellites, self.size)
        if self.redshift_space:
            matter = torch.expm1(field - variance / 2)
            flow = pull(to_modes(matter[None]), box)[0, 2].numpy() * omega_m**0.55
            cells = tuple((np.floor(position / (box / volume.side)).astype(int) % volume.side).T)
            speed = self.dispersion / 100 * chance.normal(size=len(position))  # km/s to Mpc/h
            position[:, 2] += flow[cells] + speed
        inside = (position % box).astype(np.float32)
        return np.where(inside >= box, 0, inside)  # what float32 rounds up to the far face
