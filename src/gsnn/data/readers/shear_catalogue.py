"""The COSMOS shear catalogue as maps, the noise and mask of that survey, and convergence maps seen through them.

A folder holds ``ra``, ``dec`` (degrees), ``e1``, ``e2`` of each galaxy, ``std1`` (the standard deviation of a shear
component in each pixel, 0 where there are no galaxies), all as FITS, and where there are any convergence maps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int64
from pydantic import Field

from ... import rng
from ...errors import ConfigError, GsnnError
from ..schema import Column, Schema
from ..shear import shear_of, weights
from ..source import within

PIXEL = 0.29  # arcmin, of the maps of Remy et al. 2022 (arXiv:2201.05561)


def folder_of(path: str | list[str]) -> Path:
    """The one folder that ``path`` names."""
    folder = Path(path if isinstance(path, str) else path[0] if len(path) == 1 else "")
    if not folder.is_dir():
        raise ConfigError(f"a shear survey is one folder with std1.fits and a catalogue, not {path!r}", ("path",))
    return folder


def image(path: Path) -> Float[np.ndarray, "..."]:
    """The values of a FITS file as float64."""
    from astropy.io import fits

    if not path.is_file():
        raise GsnnError(f"there is no {path.name} in {path.parent}: a shear survey needs it")
    try:
        values = np.asarray(fits.getdata(path), np.float64)
    except (OSError, TypeError, ValueError) as error:
        raise GsnnError(f"{path} is no FITS image ({error})") from error
    if not np.isfinite(values).all():
        raise GsnnError(f"{path} has values that are not finite")
    return values


def noise_of(folder: Path) -> Float[np.ndarray, "y x"]:
    """The standard deviation of the noise of a shear component in each pixel, 0 where nothing was observed."""
    noise = image(folder / "std1.fits")
    if noise.ndim != 2 or noise.shape[0] != noise.shape[1]:
        raise GsnnError(f"{folder / 'std1.fits'} is no square map, but {noise.shape}")
    return observed_somewhere(noise, str(folder / "std1.fits"))


def observed_somewhere(noise: Float[np.ndarray, "y x"], where: str) -> Float[np.ndarray, "y x"]:
    """``noise``, refused where its mask hides everything."""
    if (noise < 0).any():
        raise GsnnError(f"{where}: a standard deviation is negative; use 0 where there are no data")
    if not (noise > 0).any():
        raise GsnnError(f"{where}: the mask hides everything (no pixel has a noise above 0); give a map with data")
    return noise


def places(
    ra: Float[np.ndarray, " n"], dec: Float[np.ndarray, " n"], middle: tuple[float, float], side: int
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Row and column of positions in degrees; the map grows with declination and with right ascension.

    The grid is equidistant in both, as that of the noise map is.
    """
    half = side * PIXEL / 120
    row, column = ((v - m + half) / (2 * half) * side for v, m in zip((dec, ra), reversed(middle)))
    return np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)


def catalogue(folder: Path) -> tuple[Float[np.ndarray, "2 y x"], Float[np.ndarray, "y x"], tuple[float, float]]:
    """The mean shear of the galaxies in each pixel, its noise, and the middle of the map (ra, dec in degrees).

    The noise is the scatter of e1 over the root of the number of galaxies, and must be that of ``std1.fits``.
    Ellipticities are measured with North up and East left; the columns of the map grow with right ascension, and so the
    second component changes its sign (of the four signs, this one makes most E modes, fewest B modes, and a positive
    convergence at X-ray groups).
    """
    ra, dec, e1, e2 = (image(folder / f"{name}.fits") for name in ("ra", "dec", "e1", "e2"))
    given = noise_of(folder)
    side, middle = len(given), (float(np.median(ra)), float(np.median(dec)))
    row, column = places(ra, dec, middle, side)
    good = (row >= 0) & (row < side) & (column >= 0) & (column < side)
    pixel = (row * side + column)[good]
    number, first, second = (
        np.bincount(pixel, minlength=side**2, weights=value).reshape(side, side)
        for value in (np.ones(len(pixel)), e1[good], e2[good])
    )
    noise = np.where(number > 0, e1.std() / np.sqrt(np.maximum(number, 1)), 0)
    off = abs(noise - given).max()
    if off > 1e-6:
        raise GsnnError(f"{folder}: std1.fits is not the scatter of e1 over the root of the number a pixel (by {off})")
    return np.stack([first, -second]) / np.maximum(number, 1), noise, middle


def groups(folder: Path) -> Float[np.ndarray, "group 4"]:
    """ra, dec (degrees), redshift and M500 (1e13 Msun) of the X-ray groups of Finoguenov et al. 2007."""
    rows = []
    for line in (folder / "xray.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            _, ra, dec, _, _, _, z, *rest = line.split()
            rows.append([float(ra), float(dec), float(z), float(rest[2])])
    return np.array(rows)


def binned(
    shear: Float[np.ndarray, "2 y x"], noise: Float[np.ndarray, "y x"], factor: int
) -> tuple[Float[np.ndarray, "2 v u"], Float[np.ndarray, "v u"]]:
    """Blocks of ``factor`` x ``factor`` pixels: the mean weighted by 1/noise^2, and its noise."""
    weight = weights(torch.as_tensor(noise)).numpy()
    side = len(noise) // factor
    total = weight.reshape(side, factor, side, factor).sum((1, 3))
    mean = (shear * weight).reshape(2, side, factor, side, factor).sum((2, 4)) / np.maximum(total, 1e-30)
    return mean, np.where(total > 0, np.maximum(total, 1e-30) ** -0.5, 0)


def columns(side: int, pixel: float) -> tuple[Column, ...]:
    """The maps of a shear survey."""
    scale = {"dtype": "float32", "pixel_scale": 60 * pixel}
    return (
        Column(
            "shear", "image", shape=(2, side, side), bands=("gamma1", "gamma2"), **scale,
            description="mean shear of the galaxies in a pixel, 0 where there are none",
        ),
        Column(
            "noise", "image", shape=(1, side, side), bands=("noise",), **scale,
            description="standard deviation of a component of the shear, 0 where nothing was observed",
        ),
        Column("kappa", "image", shape=(1, side, side), bands=("kappa",), **scale, description="the convergence"),
    )  # fmt: skip


def batch(schema: Schema, arrays: dict[str, np.ndarray], ids: list[str]) -> pa.RecordBatch:
    """Rows of a shear survey from maps [row, channel, y, x] and scalars [row]."""
    made = {"id": pa.array(ids, pa.string())}
    for column in schema.columns[1:]:
        values = np.ascontiguousarray(arrays[column.name], column.dtype)
        flat = pa.array(values.ravel())
        made[column.name] = pa.FixedSizeListArray.from_arrays(flat, column.size) if column.shape else flat
    arrow = schema.arrow()
    return pa.RecordBatch.from_arrays([made[field.name] for field in arrow], schema=arrow)


class ShearOfMap:
    """A convergence map that is known, seen through the noise and the mask of a real survey; a Source.

    ``map`` is a FITS file in the folder; each of ``draws`` rows has noise of its own. The shear is that of the periodic
    map, as Remy et al. 2022 made it.
    """

    def __init__(
        self, *, path: str | list[str], map: str = "ktng_kappa360v2.fits", draws: Annotated[int, Field(ge=1)] = 4
    ):
        folder = folder_of(path)
        self.draws, self.name = draws, Path(map).stem
        self.noise, self.kappa = noise_of(folder), image(folder / map)
        if self.kappa.shape != self.noise.shape:
            raise ConfigError(f"the map is {self.kappa.shape}, and its noise {self.noise.shape}", ("map",))

    def schema(self) -> Schema:
        return Schema.of((Column("id", "id"), *columns(len(self.noise), PIXEL)), map=self.name)

    def __len__(self) -> int:
        return self.draws

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The noise draws of these indices. Raises IndexError beyond them."""
        indices = within(indices, self.draws)
        shape = (len(indices), 2, *self.noise.shape)
        drawn = rng.normal(seed, "shear-of-map/noise", torch.from_numpy(indices), 2 * self.noise.size).numpy()
        clean = shear_of(torch.as_tensor(self.kappa)).numpy() * (self.noise > 0)
        maps = {
            "shear": clean + drawn.reshape(shape) * self.noise,
            "noise": np.broadcast_to(self.noise, (len(indices), 1, *self.noise.shape)),
            "kappa": np.broadcast_to(self.kappa, (len(indices), 1, *self.noise.shape)),
        }
        return batch(self.schema(), maps, [f"{self.name}-{seed}-{i}" for i in indices.tolist()])
