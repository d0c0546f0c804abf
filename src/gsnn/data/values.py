"""Values of the columns of a survey: as numpy, as text, their checksums, and the sky pixels of positions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from . import points
from .light_curves import LightCurves

NSIDE = 512  # one published constant: the same object falls into the same sky pixel in every survey


def healpix(ra: np.ndarray, dec: np.ndarray) -> Int64[np.ndarray, " n"]:
    """HEALPix nested pixels of nside 512 (6.9 arcmin) of positions in degrees; -1 where a position is missing."""
    from astropy import units
    from astropy_healpix import HEALPix

    known = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
    pixels = np.full(len(ra), -1, np.int64)
    grid = HEALPix(NSIDE, order="nested")
    pixels[known] = grid.lonlat_to_healpix(np.mod(ra[known], 360) * units.deg, dec[known] * units.deg)
    return pixels


def checksums(batch: pa.RecordBatch | pa.Table, names: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """A 63-bit BLAKE2b digest of each row's values, in the order of ``names``; it knows nothing of other rows."""
    parts: list[Iterable[bytes]] = []
    for name in names:
        column = batch.column(name)
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        if pa.types.is_string(column.type):
            parts.append([b"\0" if v is None else v.encode() + b"\1" for v in column.to_pylist()])
        elif pa.types.is_struct(column.type):
            parts.append(_struct_bytes(column))
        elif pa.types.is_large_binary(column.type):
            parts.append([b"\0" if v is None else v + b"\1" for v in column.to_pylist()])
        elif column.null_count and pa.types.is_integer(column.type):  # as floats the others' bytes would differ
            values = column.fill_null(0).to_numpy(zero_copy_only=False)
            parts.append([v.tobytes() if known else b"\0" for v, known in zip(values, column.is_valid().to_pylist())])
        else:
            values = np.ascontiguousarray(numpy_of(column))
            parts.append(values.reshape(len(values), -1).view(np.uint8) if len(values) else [])
    out = np.empty(batch.num_rows, np.int64)
    for i, row in enumerate(zip(*parts)):
        digest = hashlib.blake2b(digest_size=8)
        for part in row:
            digest.update(part)
        out[i] = int.from_bytes(digest.digest(), "little") >> 1
    return out


def _struct_bytes(column: pa.StructArray) -> Iterable[bytes]:
    """Of light curves, whose fields have a common length, and of clouds of points, whose lists stand as they are."""
    if {field.name for field in column.type} == {field.name for field in points.ARROW}:
        lists = [column.field(name) for name in ("position", "feature")]
        ends = [np.concatenate([[0], np.cumsum(part.value_lengths().fill_null(0))]).astype(int) for part in lists]
        flat = [part.flatten().to_numpy(zero_copy_only=False) for part in lists]
        return (b"".join(f[e[i] : e[i + 1]].tobytes() for f, e in zip(flat, ends)) for i in range(len(column)))
    return LightCurves.from_arrow(column).row_bytes()


def numpy_of(column: pa.Array) -> np.ndarray:
    """Values of an Arrow column: fixed-size lists as [row, value], missing values as NaN."""
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        if column.null_count:
            column = column.fill_null(pa.scalar([_missing(column.type.value_type)] * width, column.type))
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), width)
    if column.null_count and not pa.types.is_floating(column.type):
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return column.to_numpy(zero_copy_only=False)


def _missing(value_type: pa.DataType) -> float:
    return float("nan") if pa.types.is_floating(value_type) else 0


def as_text(value: Any) -> str:
    """A class value as text; whole floats without their .0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
