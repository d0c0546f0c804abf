"""What a file holds before anyone has decided what its columns mean: fields that can be taken row by row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from ...errors import GsnnError
from ..light_curves import ARROW, LightCurves
from ..schema import Kind

Reasons = list[str | None]
SLICE = 1 << 16  # rows looked at in one go
RESERVED = ("quarantine", "row", "checksum", "healpix")  # columns that batches and surveys add themselves
TEXT = "str"
CURVES = "light_curve"  # the dtype of a field of light curves, whose values are LightCurves
LISTS = "lists"  # of numbers, of any length: they become parts of light curves or are left out


@dataclass(frozen=True)
class Field:
    """One column: ``take(indices, reasons)`` gives its values [n, *shape] and may write why a row cannot be read."""

    name: str
    dtype: str  # numpy's name of the values, "str" or "light_curve"
    take: Callable[[Int64[np.ndarray, " n"], Reasons], Any]
    shape: tuple[int, ...] = ()
    kind: Kind | None = None  # None: to be inferred
    unit: str = ""
    bands: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    pixel_scale: float | None = None
    description: str = ""
    time_unit: str = ""  # of light curves and series
    epoch: str = ""
    cadence: float | None = None
    listed: bool = False  # a list in each cell: that all have one length may be chance

    def arrow(self, indices: Int64[np.ndarray, " n"], reasons: Reasons) -> pa.Array:
        """The values of some rows in the type of the field; missing ones are null."""
        if len(indices) == 0:
            return pa.array([], arrow_type(self.dtype, self.shape))
        return to_arrow(self.take(indices, reasons), self.dtype, self.shape)


@dataclass
class Raw:
    """The fields of ``length`` rows. ``bad`` are rows known to be unusable; ``notes`` what a person should know."""

    stem: str
    length: int
    fields: list[Field]
    format: str = ""
    bad: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ids: Callable[[Int64[np.ndarray, " n"]], list[str]] | None = None  # ids made by the reader, if not stem-row
    files: list[str] = field(default_factory=list)
    facts: dict[str, tuple[float, str]] = field(default_factory=dict)  # numbers of the whole file, with their units

    def made_ids(self, indices: Int64[np.ndarray, " n"]) -> list[str]:
        return self.ids(indices) if self.ids else [f"{self.stem}-{i}" for i in indices]


def guarded(raw: Raw, one: Field, indices: np.ndarray, reasons: Reasons) -> pa.Array:
    """Values of a field; whatever a damaged file makes a library raise becomes one sentence."""
    try:
        return one.arrow(indices, reasons)
    except GsnnError:
        raise
    except Exception as error:
        raise GsnnError(
            f"{raw.stem}: column {one.name!r} cannot be read ({brief(error)}); the file seems damaged"
        ) from error


def brief(error: Exception) -> str:
    """The first line of an error, short enough for a sentence."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:160].rstrip(".")


def values_of(raw: Raw, one: Field) -> pa.Array:
    """A whole column, read in slices."""
    pieces = [
        guarded(raw, one, np.arange(start, min(start + SLICE, raw.length)), [None] * SLICE)
        for start in range(0, raw.length, SLICE)
    ]
    return pa.concat_arrays(pieces)


def of_array(name: str, values: np.ndarray, **more: Any) -> Field:
    """A field of an array [n, ...] (in memory or memory-mapped)."""
    text = values.dtype.kind in "SUO"
    return Field(name, TEXT if text else stored(values.dtype), lambda i, _: values[i], values.shape[1:], **more)


def stored(dtype: np.dtype | str) -> str:
    """The type that a survey keeps: native byte order, integers as int64, small floats as float32."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        return dtype.name if dtype.name in ("uint8", "uint64") else "int64"
    if dtype.kind == "f":
        return "float32" if dtype.itemsize <= 4 else "float64"
    return "bool" if dtype.kind == "b" else dtype.name


def arrow_type(dtype: str, shape: tuple[int, ...] = ()) -> pa.DataType:
    if dtype in (CURVES, LISTS):
        return ARROW if dtype == CURVES else pa.list_(pa.float64())
    value = pa.string() if dtype == TEXT else pa.from_numpy_dtype(dtype)
    return pa.list_(value, int(np.prod(shape))) if shape else value


def to_arrow(values: Any, dtype: str, shape: tuple[int, ...] = ()) -> pa.Array:
    """Values (numpy, masked or Arrow) as an Arrow array of a fixed type; NaN in scalars becomes null."""
    kind = arrow_type(dtype, shape)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if dtype in (CURVES, LISTS):
        return values.to_arrow() if isinstance(values, LightCurves) else values.cast(kind)
    if isinstance(values, pa.Array):
        if shape and values.type != kind:
            values = values.cast(kind)
        elif not shape:
            values = words(values) if dtype == TEXT else values.cast(kind, safe=False)
    elif dtype == TEXT:
        values = _strings(np.ma.filled(values.astype(object), None) if np.ma.isMA(values) else values)
    else:
        mask = np.ma.getmaskarray(values) if np.ma.isMA(values) else None
        data = np.ascontiguousarray(np.ma.getdata(values)).astype(dtype, copy=False)
        if shape:
            if mask is not None and data.dtype.kind == "f":
                data = np.where(mask, np.nan, data)
            return pa.FixedSizeListArray.from_arrays(pa.array(data.reshape(-1)), type=kind)
        return pa.array(data, type=kind, mask=mask, from_pandas=True)
    if dtype in ("float32", "float64") and not shape:
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, kind), values)
    return values


def words(values: pa.Array) -> pa.Array:
    """Any Arrow scalars as text: whole floats without their ``.0``; blank text becomes null."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_floating(values.type):
        return pa.array([_number(v) for v in values.to_pylist()], pa.string())
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        return _strings(np.array(values.to_pylist(), dtype=object))
    values = pc.utf8_trim_whitespace(values.cast(pa.string()))
    return pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)


def _number(value: float | None) -> str | None:
    if value is None or value != value:
        return None
    return str(int(value)) if abs(value) < 2**53 and value == int(value) else repr(value)


def _strings(values: Any) -> pa.Array:
    flat = np.asarray(values, dtype=object).reshape(-1)
    return pa.array([_text(value) for value in flat], pa.string())


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and value != value) or value is np.ma.masked:
        return None
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            value = value.decode("latin-1")
    if isinstance(value, (float, np.floating)):
        return _number(float(value))
    text = str(value).encode("utf-8", "replace").decode().strip(" \t\r\n\0")
    return text or None


def clean(names: Sequence[str]) -> list[str]:
    """Names that SQL takes unquoted: letters, digits and ``_``, case kept; repeated and reserved ones get a suffix."""
    out: list[str] = []
    for position, name in enumerate(names):
        name = re.sub(r"^[A-Z]:(?=\w)", "", str(name).strip().strip("\"'").strip())  # "F:MAG_U" states a type
        name = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_") or f"col{position + 1}"
        if name[0].isdigit():
            name = f"_{name}"
        if name.lower() in RESERVED:
            name = f"{name}_"
        base, count = name, 1
        while name in out:
            count += 1
            name = f"{base}_{count}"
        out.append(name)
    return out


def stems(paths: Iterable[str]) -> list[str]:
    """A short name for each file: its stem, or as much of its path as tells all of them apart."""
    parts = [[p for p in re.split(r"[\\/]+", path) if p] for path in paths]
    bare = [[*p[:-1], re.sub(r"(?<=.)\.(gz|[A-Za-z0-9]{1,8})$", "", re.sub(r"\.gz$", "", p[-1]))] for p in parts]
    for depth in range(1, max(map(len, bare), default=0) + 1):
        names = ["/".join(p[-depth:]) for p in bare]
        if len(set(names)) == len(names):
            return names
    return ["/".join(p) for p in parts]


def unsuffixed(names: list[str]) -> list[str]:
    """The names without an ending from ``_`` on that all of them share: ``NGC2403_rotmod`` is NGC2403."""
    ends = {name.rsplit("_", 1)[-1] if "_" in name else "" for name in names}
    if len(names) < 2 or len(ends) > 1 or "" in ends:
        return names
    return [name.rsplit("_", 1)[0] for name in names]


def concatenate(raws: list[Raw]) -> Raw:
    """The rows of several files, one after the other; a column must stand in each of them."""
    if len(raws) == 1:
        return raws[0]
    starts = np.cumsum([0] + [raw.length for raw in raws])
    by_name = [{one.name: one for one in raw.fields} for raw in raws]
    for raw, fields in zip(raws, by_name):
        for mine, other, a, b in ((by_name[0], fields, raws[0], raw), (fields, by_name[0], raw, raws[0])):
            lacking = [name for name in mine if name not in other]
            if lacking:
                raise GsnnError(
                    f"{b.stem} has no column {lacking[0]!r}, which {a.stem} has; "
                    "read them apart, or name with `columns` the ones they share"
                )
    fields = [_joined([fields[name] for fields in by_name], starts) for name in by_name[0]]
    bad = {int(start) + row: why for raw, start in zip(raws, starts) for row, why in raw.bad.items()}
    notes = [f"{raw.stem}: {note}" for raw in raws for note in raw.notes]

    def ids(indices: np.ndarray) -> list[str]:
        which = np.searchsorted(starts, indices, side="right") - 1
        return [raws[k].made_ids(np.array([i - starts[k]]))[0] for k, i in zip(which, indices)]

    files = [name for raw in raws for name in raw.files]
    return Raw(raws[0].stem, int(starts[-1]), fields, raws[0].format, bad, notes, ids, files)


def _joined(fields: list[Field], starts: np.ndarray) -> Field:
    if len({one.shape for one in fields}) > 1:
        fields = [as_lists(one) for one in fields]
    first = fields[0]
    shapes = {one.shape for one in fields}
    if len(shapes) > 1:
        raise GsnnError(f"column {first.name!r} has the shape {min(shapes)} in one file and {max(shapes)} in another")
    types = {one.dtype for one in fields}
    if len(types) > 1 and CURVES in types:
        raise GsnnError(f"column {first.name!r} holds light curves in one file and none in another")
    dtype = first.dtype if len(types) == 1 else TEXT if TEXT in types else str(np.result_type(*types))
    classes = tuple(sorted({name for one in fields for name in one.classes}))
    bands = tuple(dict.fromkeys(name for one in fields for name in one.bands))
    if dtype == CURVES:
        fields = [_in_bands(one, bands) for one in fields]

    def take(indices: np.ndarray, reasons: Reasons) -> pa.Array:
        which = np.searchsorted(starts, indices, side="right") - 1
        pieces, order = [], []
        for k in np.unique(which):
            at = np.flatnonzero(which == k)
            inner: Reasons = [None] * len(at)
            piece = fields[k].arrow(indices[at] - starts[k], inner)
            pieces.append(piece if fields[k].dtype == dtype else to_arrow(piece, dtype, first.shape))
            order.append(at)
            for position, why in zip(at, inner):
                reasons[position] = reasons[position] or why
        return pa.concat_arrays(pieces).take(pa.array(np.argsort(np.concatenate(order))))

    return replace(first, dtype=dtype, take=take, classes=classes, bands=bands)


def as_lists(one: Field) -> Field:
    """A field of lists in cells as one of lists of any length; any other as it is."""
    return replace(one, dtype=LISTS, shape=()) if one.listed and len(one.shape) == 1 else one


def _in_bands(one: Field, bands: tuple[str, ...]) -> Field:
    """A field of light curves whose observations are numbered by other bands."""
    if one.bands == bands:
        return one
    number = np.array([bands.index(name) for name in one.bands], np.uint8)

    def take(indices: np.ndarray, reasons: Reasons) -> LightCurves:
        curves = LightCurves.from_arrow(one.arrow(indices, reasons))
        return replace(curves, band=number[curves.band])

    return replace(one, take=take, bands=bands)
