"""Searching the sky: objects in a cone, and the objects of two surveys that are the same.

Distances are chords of unit vectors, which know neither the wrap of right ascension at 0/360 degrees nor the poles.
A cone asks the store only for the HEALPix pixels that it may touch; a cross-match goes through both surveys piece by
piece with a k-d tree (Maneewongvatana & Mount 1999, arXiv:cs/9901013), so that its memory does not grow with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float64, Int64

from ..errors import GsnnError
from .values import NSIDE

if TYPE_CHECKING:
    from .survey import Survey

_ORDER = NSIDE.bit_length() - 1
_ARCSEC = math.pi / 180 / 3600
_REACH = 1.2  # no corner of a pixel lies farther from its centre than this many square roots of its area
PIECE = 1 << 20  # objects of each side that are held at once


def vectors(ra: np.ndarray, dec: np.ndarray) -> Float64[np.ndarray, "n 3"]:
    """Unit vectors of positions in degrees."""
    a, d = np.radians(np.asarray(ra, np.float64)), np.radians(np.asarray(dec, np.float64))
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], -1)


def separation(a: Float64[np.ndarray, "n 3"], b: Float64[np.ndarray, "#n 3"]) -> Float64[np.ndarray, " n"]:
    """Angles between unit vectors, in arcseconds; good to 1e-10 arcsec for neighbours."""
    return 2 * np.arcsin(np.minimum(np.linalg.norm(a - b, axis=-1) / 2, 1)) / _ARCSEC


def _known(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    return np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)


def _radius(radius_arcsec: float) -> float:
    if not 0 < radius_arcsec <= 180 * 3600:
        raise GsnnError(f"radius = {radius_arcsec:g} arcsec: it must be positive and at most 648000 (the whole sky)")
    return radius_arcsec * _ARCSEC


# ---------------------------------------------------------------------------- cone


def pixel_ranges(ra: float, dec: float, radius: float) -> list[tuple[int, int]]:
    """Ranges [first, last + 1) of nested pixels of nside 512 that hold every position within ``radius`` (radians)."""
    from astropy_healpix import HEALPix

    centre, pixels = vectors(np.array([ra]), np.array([dec])), np.arange(12)
    order = 0
    while True:
        grid = HEALPix(1 << order, order="nested")
        lon, lat = grid.healpix_to_lonlat(pixels)
        size = math.sqrt(4 * math.pi / grid.npix)
        apart = separation(vectors(lon.deg, lat.deg), centre) * _ARCSEC
        pixels = pixels[apart <= radius + _REACH * size]
        if order == _ORDER or size < radius / 4:  # finer pixels would follow the edge, at the price of a longer list
            break
        pixels, order = (4 * pixels[:, None] + np.arange(4)).reshape(-1), order + 1
    width = 4 ** (_ORDER - order)
    ranges: list[tuple[int, int]] = []
    for pixel in np.sort(pixels).tolist():
        if ranges and ranges[-1][1] == pixel * width:
            ranges[-1] = (ranges[-1][0], (pixel + 1) * width)
        else:
            ranges.append((pixel * width, (pixel + 1) * width))
    return ranges


def cone(
    survey: Survey, ra: float, dec: float, radius_arcsec: float
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Row numbers within ``radius_arcsec`` of a position in ICRS degrees, and their separations in arcsec, the nearest
    first. Only rows of the pixels that the cone may touch leave the store.
    """
    needs_positions(survey)
    if not (math.isfinite(ra) and abs(dec) <= 90):
        raise GsnnError(f"ra = {ra:g}, dec = {dec:g} is no position in degrees")
    radius = _radius(radius_arcsec)
    ranges = pixel_ranges(ra, dec, radius)
    condition = " or ".join(f"(healpix >= {first} and healpix < {last})" for first, last in ranges)
    rows = survey.where(condition)
    centre, parts = vectors(np.array([ra]), np.array([dec])), [np.empty(0)]
    for chunk in survey.view(rows).chunks(["ra", "dec"], PIECE):
        parts.append(separation(vectors(chunk["ra"], chunk["dec"]), centre))
    apart = np.concatenate(parts)
    keep = np.flatnonzero(apart <= radius_arcsec)
    keep = keep[np.argsort(apart[keep], kind="stable")]
    return rows[keep], apart[keep]


def needs_positions(survey: Survey) -> None:
    missing = [name for name in ("ra", "dec") if name not in survey.schema]
    if missing:
        raise GsnnError(
            f"{survey.path} has no column {missing[0]!r} (degrees), so its objects have no place on the sky"
        )


# ---------------------------------------------------------------------------- cross-match


@dataclass(frozen=True)
class Pairs:
    """Row numbers of objects on the left and the right that lie within the radius of each other."""

    left: Int64[np.ndarray, " n"]
    right: Int64[np.ndarray, " n"]
    separation_arcsec: Float64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.left)


def crossmatch(
    left: Any,
    right: Any,
    radius_arcsec: float,
    *,
    keep: Literal["nearest", "all"] = "nearest",
    piece: int = PIECE,
) -> Pairs:
    """The objects of ``right`` within ``radius_arcsec`` of each of ``left``: the nearest one, or all of them.

    Either side is a survey, a view of one, or arrays (ra, dec) in degrees, whose rows are then 0 to n-1. Pairs come in
    the order of ``left``, the nearest first. Objects without a position match nothing.
    """
    parts = list(matches(left, right, radius_arcsec, keep=keep, piece=piece))
    return Pairs(*(np.concatenate([getattr(p, name) for p in parts]) for name in Pairs.__dataclass_fields__))


def matches(
    left: Any, right: Any, radius_arcsec: float, *, keep: str = "nearest", piece: int = PIECE
) -> Iterator[Pairs]:
    """``crossmatch`` for one piece of the left side after the other; both sides are read, never held whole."""
    from scipy.spatial import cKDTree

    if keep not in ("nearest", "all"):
        raise GsnnError(f'keep = {keep!r}: choose "nearest" or "all"')
    chord = 2 * math.sin(_radius(radius_arcsec) / 2) * (1 + 1e-12) + 1e-15  # a little more, and then exactly
    empty = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    yield empty
    for rows, points in _pieces(left, piece):
        tree, found = cKDTree(points), [empty]
        for others, theirs in _pieces(right, piece):
            if keep == "all":
                near = tree.sparse_distance_matrix(cKDTree(theirs), chord, output_type="ndarray")
                i, j = near["i"], near["j"]
            else:
                distance, j = cKDTree(theirs).query(points, distance_upper_bound=chord)
                i = np.flatnonzero(np.isfinite(distance))
                j = j[i]
            apart = separation(points[i], theirs[j])
            good = apart <= radius_arcsec
            found.append(Pairs(i[good].astype(np.int64), others[j[good]], apart[good]))
        yield _sorted(found, rows, keep)


def _sorted(found: Sequence[Pairs], rows: np.ndarray, keep: str) -> Pairs:
    i, j, apart = (np.concatenate([getattr(p, name) for p in found]) for name in Pairs.__dataclass_fields__)
    order = np.lexsort((j, apart, i))
    if keep == "nearest" and len(order):
        order = order[np.diff(i[order], prepend=-1) != 0]
    return Pairs(rows[i[order]], j[order], apart[order])


def _pieces(side: Any, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row numbers and unit vectors of the objects of one side that have a position, some at a time."""
    for rows, ra, dec in _positions(side, size):
        known = _known(ra, dec)
        if known.any():
            yield rows[known], vectors(ra[known], dec[known])


def _positions(side: Any, size: int) -> Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    if isinstance(side, (tuple, list)):
        ra, dec = (np.asarray(values, np.float64) for values in side)
        if ra.shape != dec.shape or ra.ndim != 1:
            raise GsnnError(f"right ascensions {ra.shape} and declinations {dec.shape} must be two lists of one length")
        for start in range(0, len(ra), size):
            some = np.arange(start, min(start + size, len(ra)))
            yield some, ra[some], dec[some]
        return
    view = side.view() if hasattr(side, "view") else side
    needs_positions(view.survey)
    for start in range(0, len(view), size):
        part = view.take(np.arange(start, min(start + size, len(view))))
        values = part.columns(["ra", "dec"])
        yield np.asarray(part.rows), values["ra"], values["dec"]


def write_pairs(left: Survey, right: Survey, radius_arcsec: float, out: str | Path, *, keep: str = "nearest") -> int:
    """The pairs of two surveys as a Parquet file (ids, row numbers, separation in arcsec), and how many they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ..errors import on_disk

    names = ["left_id", "right_id", "left_row", "right_row", "separation_arcsec"]
    schema = pa.schema(list(zip(names, [pa.string(), pa.string(), pa.int64(), pa.int64(), pa.float64()])))
    partial, total = Path(out).with_name(f".{Path(out).name}.partial"), 0
    try:
        with on_disk(f"write {out}"), pq.ParquetWriter(partial, schema) as file:
            for pairs in matches(left, right, radius_arcsec, keep=keep):
                for start in range(0, len(pairs), PIECE):
                    a, b, apart = (getattr(pairs, name)[start : start + PIECE] for name in Pairs.__dataclass_fields__)
                    ids = [list(s.take(rows, ["id"])["id"]) for s, rows in ((left, a), (right, b))]
                    file.write_table(pa.table([*map(pa.array, (*ids, a, b, apart))], schema=schema))
                    total += len(a)
        with on_disk(f"write {out}"):
            partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)
    return total
