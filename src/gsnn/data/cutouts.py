"""Cut-outs: images around the positions of a catalogue, from mosaics with world coordinates.

A cut-out of ``size`` pixels starts at the whole pixel nearest to ``x - (size - 1) / 2`` (halves go up), so the object
lies within half a pixel of the centre and no flux is resampled. Positions are turned into pixels on the sphere, so
right ascensions may wrap at 0/360 degrees.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Float64

from ..errors import GsnnError
from .readers import read
from .readers.fits import HDU, choose, fits_files, opened, pixel_scale, word
from .readers.raw import Field, Reasons, values_of
from .readers.table import Table
from .source import Source

Paths = str | Sequence[str]


@dataclass(frozen=True)
class _Tile:
    """One mosaic: where objects fall on it (pixels, 0 = centre of the first) and how to cut from it."""

    path: str
    hdu: HDU
    shape: tuple[int, ...]
    scale: float
    unit: str
    x: Float64[np.ndarray, object]
    y: Float64[np.ndarray, object]

    @property
    def planes(self) -> int:
        return int(np.prod(self.shape[:-2]))

    def inside(self) -> np.ndarray:
        """How far the centre is from the nearest edge, in pixels; negative outside, -inf without a place."""
        height, width = self.shape[-2:]
        depth = np.minimum.reduce([self.x + 0.5, self.y + 0.5, width - 0.5 - self.x, height - 0.5 - self.y])
        return np.where(np.isfinite(depth), depth, -np.inf)


def cutouts(
    mosaic: Paths | Mapping[str, Paths],
    catalogue: Any,
    *,
    size: int,
    ra: str = "ra",
    dec: str = "dec",
    hdu: HDU = None,
    edge: Literal["pad", "quarantine"] = "pad",
    name: str = "image",
) -> Source:
    """The rows of ``catalogue`` (anything that ``read`` takes) with an image [band, size, size] around each position.

    ``mosaic`` is a FITS file with world coordinates, a list of them (tiles: each object is cut from the one in which it
    lies deepest), or band names with such files or lists. Positions are ICRS degrees in columns ``ra``, ``dec``.
    Objects off every mosaic are set aside with the reason; those that reach over an edge are padded with NaN, or set
    aside too with ``edge="quarantine"``.
    """
    if size < 1:
        raise GsnnError(f"size = {size}: a cut-out needs at least one pixel")
    if edge not in ("pad", "quarantine"):
        raise GsnnError(f'edge = {edge!r}: choose "pad" or "quarantine"')
    table = read(catalogue)
    if not isinstance(table, Table):
        raise GsnnError("the catalogue must be files or a table")
    places = _positions(table, ra, dec)
    bands = dict(mosaic) if isinstance(mosaic, Mapping) else {"": mosaic}
    if not bands:
        raise GsnnError("name at least one mosaic")
    layers = {band: [_tile(path, hdu, *places) for path in fits_files(paths)] for band, paths in bands.items()}
    _agree(layers)
    image = _field(layers, size, edge, name)
    return table.with_field(image)


def _positions(table: Table, ra: str, dec: str) -> tuple[np.ndarray, np.ndarray]:
    out = []
    for name in (ra, dec):
        table.schema().column(name)
        values = values_of(table.raw, table.field(name))
        if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
            raise GsnnError(f"the column {name!r} holds no numbers, so it is no position in degrees")
        out.append(values.cast(pa.float64()).to_numpy(zero_copy_only=False))
    return out[0], out[1]


def _tile(path: str, hdu: HDU, ra: np.ndarray, dec: np.ndarray) -> _Tile:
    from astropy.wcs import WCS

    with opened(path) as hdus:
        one = choose(hdus, hdu, path)
        header = one.header.copy()
        shape = tuple(one.shape) if getattr(one, "is_image", False) else ()
    if len(shape) < 2:
        raise GsnnError(f"{path} holds no image to cut from; name its part with hdu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            wcs = WCS(header).celestial
        except Exception as error:
            raise GsnnError(f"{path} has world coordinates that cannot be used ({error})") from error
        scale = pixel_scale(header)
        if not wcs.has_celestial or scale is None:
            raise GsnnError(f"{path} has no world coordinates (CTYPE, CRVAL, CRPIX, CD), so nothing can be found on it")
        x, y = _pixels(wcs, ra, dec, shape[-1])
    return _Tile(path, hdu, shape, scale, word(header, "BUNIT"), x, y)


def _pixels(wcs: Any, ra: np.ndarray, dec: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates of sky positions; NaN where the projection does not reach."""
    from astropy import units
    from astropy.coordinates import SkyCoord

    x, y = np.full(len(ra), np.nan), np.full(len(ra), np.nan)
    known = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
    if known.any():
        sky = SkyCoord(ra[known] * units.deg, dec[known] * units.deg, frame="icrs")
        try:
            px, py = (np.array(v, dtype=float, ndmin=1) for v in wcs.world_to_pixel(sky))
            back = wcs.pixel_to_world(px, py).transform_to("icrs")
            wrong = ~(back.separation(sky).deg < 1e-4)  # a gnomonic projection mirrors the far side of the sky
        except Exception as error:
            raise GsnnError(f"the positions cannot be turned into pixels of the mosaic ({error})") from error
        px[wrong] = py[wrong] = np.nan
        x[known], y[known] = px, py
    x = _unwrapped(wcs, x, width)
    return x, y


def _unwrapped(wcs: Any, x: np.ndarray, width: int) -> np.ndarray:
    """In cylindrical projections the sky repeats along x: choose the turn that falls on the image."""
    if wcs.wcs.ctype[0][-3:] not in ("CAR", "CEA", "CYP", "MER"):
        return x
    turn = 360 / abs(float(np.asarray(wcs.pixel_scale_matrix)[0, 0]) or np.inf)
    if not np.isfinite(turn) or turn < width:
        return x
    return np.where((x < -0.5) | (x > width - 0.5), x - turn * np.round((x - width / 2) / turn), x)


def _agree(layers: Mapping[str, list[_Tile]]) -> None:
    first = next(iter(layers.values()))[0]
    for band, tiles in layers.items():
        for tile in tiles:
            if abs(tile.scale / first.scale - 1) > 0.01:
                raise GsnnError(
                    f"{tile.path} has {tile.scale:g} arcsec per pixel and {first.path} {first.scale:g}; "
                    "cut-outs need mosaics on one pixel scale"
                )
            if tile.planes != tiles[0].planes:
                raise GsnnError(f"{tile.path} has {tile.planes} planes and {tiles[0].path} {tiles[0].planes}")
            if tile.unit != tiles[0].unit:
                raise GsnnError(
                    f"band {band!r}: {tile.path} is in {tile.unit!r} and {tiles[0].path} in {tiles[0].unit!r}"
                )


def _field(layers: Mapping[str, list[_Tile]], size: int, edge: str, name: str) -> Field:
    chosen = {band: np.argmax([tile.inside() for tile in tiles], axis=0) for band, tiles in layers.items()}
    planes = {band: tiles[0].planes for band, tiles in layers.items()}
    names = [band if count == 1 else f"{band}{i}" for band, count in planes.items() for i in range(count)]
    units = {tiles[0].unit for tiles in layers.values()}
    shape = (len(names), size, size)

    def take(indices: np.ndarray, reasons: Reasons) -> Float32[np.ndarray, "n band y x"]:
        out = np.full((len(indices), *shape), np.nan, np.float32)
        band = 0
        for key, tiles in layers.items():
            for k in np.unique(chosen[key][indices]):
                at = np.flatnonzero(chosen[key][indices] == k)
                _cut(tiles[k], indices[at], at, out[:, band : band + planes[key]], size, edge, reasons)
            band += planes[key]
        return out

    scale = next(iter(layers.values()))[0].scale
    one = Field(name, "float32", take, shape, "image", units.pop() if len(units) == 1 else "", pixel_scale=scale)
    return replace(one, bands=tuple(names)) if all(layers) and len(set(names)) == len(names) else one


def _cut(
    tile: _Tile, rows: np.ndarray, at: np.ndarray, out: np.ndarray, size: int, edge: str, reasons: Reasons
) -> None:
    """Copy what each cut-out covers of a mosaic; rows of the file are read by slices."""
    height, width = tile.shape[-2:]
    with opened(tile.path) as hdus:
        section = choose(hdus, tile.hdu, tile.path).section
        for position, row in zip(at, rows):
            x, y = tile.x[row], tile.y[row]
            if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
                reasons[position] = reasons[position] or "the position lies off the mosaic"
                continue
            left, bottom = (int(np.floor(v - (size - 1) / 2 + 0.5)) for v in (x, y))
            x0, x1, y0, y1 = max(left, 0), min(left + size, width), max(bottom, 0), min(bottom + size, height)
            if edge == "quarantine" and (x1 - x0, y1 - y0) != (size, size):
                reasons[position] = reasons[position] or f"the cut-out of {size} pixels reaches over the mosaic's edge"
                continue
            lead = (slice(None),) * (len(tile.shape) - 2)
            part = np.asarray(section[(*lead, slice(y0, y1), slice(x0, x1))], dtype=np.float32)
            out[position, :, y0 - bottom : y1 - bottom, x0 - left : x1 - left] = part.reshape(-1, y1 - y0, x1 - x0)
            if not np.isfinite(part).any():
                reasons[position] = reasons[position] or "the mosaic has no data at this position"
