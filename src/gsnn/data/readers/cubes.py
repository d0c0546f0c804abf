"""Cubes cut out of a redshift survey: boxes of real galaxies, as a network of simulated ones can read them."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field

from ... import rng
from ...errors import GsnnError
from ...simulate.cosmology import H0, comoving_distance_mpc
from ..points import Points
from ..schema import Column, Schema
from ..source import within

FOOTPRINT = 32  # nside of the HEALPix pixels in which the survey has looked, 1.8 degrees wide
DIRECTIONS = 16  # nside of the pixels towards whose middles cubes are tried
TRIED = 4000  # places of a cube at which the survey is asked for


class SkyCubes:
    """Galaxies of a catalogue with ``ra``, ``dec`` (deg) and ``redshift`` in cubes of ``box`` Mpc/h; a Source.

    Distances are comoving, of a flat universe with omega_m = 0.3. Each cube has its last axis along the line of sight
    and its far corners at the catalogue's end (``farthest``, Mpc/h, or as far as 99% of the galaxies are). Cubes are
    taken from a fixed list of directions where at least the share ``covered`` of the cube lies in the survey, the
    fullest first, and no two of them have their middles within a box of each other. Galaxies are thinned by chance to
    ``points`` a cube, if there are more: that leaves the two-point function as it is.
    """

    def __init__(
        self,
        *,
        path: str | list[str],
        redshift: str = "z",
        box: Annotated[float, Field(gt=0)] = 128.0,
        points: Annotated[float, Field(gt=0)] = 450.0,
        farthest: Annotated[float | None, Field(gt=0)] = None,
        covered: Annotated[float, Field(gt=0, le=1)] = 0.9,
    ):
        from . import read

        source = read(path)
        for name in ("ra", "dec", redshift):
            source.schema().column(name)
        batch = source.rows(np.arange(len(source)), 0)
        ra, dec, z = (
            np.asarray(batch.column(n).to_numpy(zero_copy_only=False), float) for n in ("ra", "dec", redshift)
        )
        good = np.isfinite(ra) & np.isfinite(dec) & (z > 0) & (z < 2.9)
        ra, dec, z = ra[good], dec[good], z[good]
        if not len(z):
            raise GsnnError("sky-cubes: no galaxy of the catalogue has a position and a redshift between 0 and 2.9")
        self.box, self.points = box, points
        distance = (comoving_distance_mpc(torch.from_numpy(z)) * (H0 / 100)).numpy()
        far = farthest or float(np.quantile(distance, 0.99))
        self.end = float(np.sqrt(max(far**2 - box**2 / 2, 0)))  # of the cubes, so that their corners are within
        self.far = far
        self.position = distance[:, None] * _unit(ra, dec)
        self.seen = np.zeros(12 * FOOTPRINT**2, bool)
        self.seen[_pixels(FOOTPRINT).lonlat_to_healpix(*_degrees(ra, dec))] = True
        self.frames, self.covered = self._choose(covered)
        if not len(self.frames) or self.end <= box:
            raise GsnnError(
                f"sky-cubes: no cube of {box:g} Mpc/h that ends at {self.far:.0f} Mpc/h lies in the survey by "
                f"{covered:.0%}; give a smaller box or covered"
            )

    def _choose(self, least: float) -> tuple[Float[np.ndarray, "cube 3 3"], Float[np.ndarray, " cube"]]:
        """Axes of the chosen cubes, the last along the line of sight, and how much of each the survey has seen."""
        place = rng.uniform(0, "sky-cubes", torch.arange(TRIED), 3).double().numpy() * self.box
        frames, shares = [], []
        for frame in _frames(DIRECTIONS):
            shares.append(self._inside((place + self._corner()) @ frame).mean())
            frames.append(frame)
        frames, shares, chosen = np.array(frames), np.array(shares), []
        middle = frames[:, 2] * (self.end - self.box / 2)
        for one in np.argsort(-shares, kind="stable"):
            if shares[one] < least:
                break
            if all(np.linalg.norm(middle[one] - middle[other]) >= self.box for other in chosen):
                chosen.append(one)
        return frames[chosen], shares[chosen]

    def _corner(self) -> Float[np.ndarray, " 3"]:
        """The corner of a cube in its own axes, from the observer."""
        return np.array([-self.box / 2, -self.box / 2, self.end - self.box])

    def _inside(self, position: Float[np.ndarray, "place 3"]) -> Bool[np.ndarray, " place"]:
        """Whether the survey has looked there."""
        distance = np.linalg.norm(position, axis=1)
        ra, dec = (
            np.degrees(np.arctan2(position[:, 1], position[:, 0])),
            np.degrees(np.arcsin(position[:, 2] / distance)),
        )
        return self.seen[_pixels(FOOTPRINT).lonlat_to_healpix(*_degrees(ra % 360, dec))] & (distance <= self.far)

    def schema(self) -> Schema:
        return Schema.of(
            (
                Column("id", "id"),
                Column("galaxies", "graph", unit="Mpc/h", shape=(3,), description="places, the last by redshift"),
                Column("count", "scalar", dtype="float64", description="galaxies in the cube, thinned"),
                Column("density", "scalar", "(Mpc/h)^-3", dtype="float64", description="before they were thinned"),
                Column("covered", "scalar", dtype="float64", description="share of the cube in the survey"),
                Column("ra", "position", "deg", dtype="float64", description="of the middle"),
                Column("dec", "position", "deg", dtype="float64"),
            ),
            reader="gsnn.data.readers.cubes",
            side=str(self.box),
        )

    def __len__(self) -> int:
        return len(self.frames)

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int = 0) -> pa.RecordBatch:
        """The cubes of these indices. Raises IndexError beyond them."""
        rows = within(indices, len(self))
        clouds, counts = [], []
        for row in rows:
            place = self.position @ self.frames[row].T - self._corner()
            inside = np.flatnonzero(((place >= 0) & (place < self.box)).all(1))
            counts.append(len(inside))
            share = rng.uniform(seed, "sky-cubes/thin", torch.from_numpy(inside))[:, 0].numpy()
            clouds.append((place[inside[share < self.points / max(len(inside), 1)]], None))
        sight = self.frames[rows, 2]
        columns = [
            pa.array([f"cube-{row}" for row in rows.tolist()], pa.string()),
            Points.of(clouds).to_arrow(),
            pa.array([float(len(cloud)) for cloud, _ in clouds], pa.float64()),
            pa.array([count / self.box**3 for count in counts], pa.float64()),
            pa.array(self.covered[rows]),
            pa.array(np.degrees(np.arctan2(sight[:, 1], sight[:, 0])) % 360),
            pa.array(np.degrees(np.arcsin(sight[:, 2]))),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema().arrow())


def _unit(ra: np.ndarray, dec: np.ndarray) -> Float[np.ndarray, "place 3"]:
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], 1)


def _pixels(nside: int):
    from astropy_healpix import HEALPix

    return HEALPix(nside, order="nested")


def _degrees(ra: np.ndarray, dec: np.ndarray):
    from astropy import units

    return ra * units.deg, dec * units.deg


def _frames(nside: int) -> Float[np.ndarray, "direction 3 3"]:
    """Right-handed axes whose last points to the middle of each pixel of the sky, the second to the north."""
    grid = _pixels(nside)
    ra, dec = (value.to_value("deg") for value in grid.healpix_to_lonlat(np.arange(grid.npix)))
    sight, east = _unit(ra, dec), _unit(ra + 90, np.zeros_like(dec))
    return np.stack([east, np.cross(sight, east), sight], 1)
