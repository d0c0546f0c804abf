"""A source of rows made of fields: decides what each column is, and answers ``rows``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from ...errors import GsnnError, suggest
from ..light_curves import LightCurves
from ..schema import DENSE, Column, Kind, Schema
from ..source import QUARANTINE
from .identity import Ids, choose_ids
from .images import as_image
from .raw import CURVES, SLICE, TEXT, Field, Raw, Reasons, arrow_type, clean, guarded, values_of, words

MAX_CLASSES = 100
RA = re.compile(r"_?(ra|objra|raj2000|ra_j2000|ra_icrs|ra_deg|radeg|alpha_j2000|alphawin_j2000|right_ascension)", re.I)
DEC = re.compile(
    r"_?(dec|objdec|decl|de|dej2000|decj2000|dec_j2000|de_icrs|dec_icrs|dec_deg|decdeg|dedeg|delta_j2000|deltawin_j2000|declination)",
    re.I,
)


class Table:
    """Rows of files or of tables in memory: a ``gsnn.data.source.Source``. ``notes`` say what was decided."""

    def __init__(self, raw: Raw, columns: list[Column], fields: list[Field], ids: Ids):
        self.raw, self._columns, self._fields, self._ids = raw, columns, fields, ids
        self.notes: list[str] = raw.notes
        self._schema = Schema.of(
            [Column("id", "id", description=ids.origin), *columns],
            format=raw.format,
            files=raw.files,
            notes=list(self.notes),
        )

    def schema(self) -> Schema:
        return self._schema

    def __len__(self) -> int:
        return self.raw.length

    def field(self, name: str) -> Field:
        """What gives the column ``name``."""
        return self._fields[[column.name for column in self._columns].index(name)]

    def with_field(self, one: Field) -> Table:
        """The same rows with one more column."""
        if one.name in self._schema:
            raise GsnnError(f"the data have a column {one.name!r} already; choose another name")
        return Table(self.raw, [*self._columns, _column(one)], [*self._fields, one], self._ids)

    def ids(self) -> pa.Array:
        """The id of every row."""
        return self._ids.take(np.arange(len(self)), [None] * len(self))

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int = 0) -> pa.RecordBatch:
        """The rows at ``indices``, in that order; ``seed`` changes nothing, files hold no chance."""
        indices = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise GsnnError(
                f"{self.raw.stem} holds rows 0 to {len(self) - 1}; row {_outside(indices, len(self))} is none"
            )
        reasons: Reasons = [self.raw.bad.get(int(i)) for i in indices] if self.raw.bad else [None] * len(indices)
        arrays = [self._ids.take(indices, reasons)]
        for column, one in zip(self._columns, self._fields):
            arrays.append(_cast(guarded(self.raw, one, indices, reasons), column, reasons))
        arrow = self._schema.arrow()
        if any(reasons):
            arrays.append(pa.array(reasons, pa.string()))
            arrow = arrow.append(pa.field(QUARANTINE, pa.string()))
        return pa.RecordBatch.from_arrays(arrays, schema=arrow)


def _outside(indices: np.ndarray, length: int) -> int:
    return int(next(i for i in indices if not 0 <= i < length))


def _cast(values: pa.Array, column: Column, reasons: Reasons) -> pa.Array:
    if column.kind == "position":
        outside = _impossible(values, column.name)
        if pc.any(outside).as_py():
            for i in np.flatnonzero(outside.to_numpy(zero_copy_only=False)):
                reasons[i] = reasons[i] or f"{column.name} = {values[int(i)].as_py():g} degrees is no position"
    if column.kind == "light_curve":
        for i, reason in enumerate(LightCurves.from_arrow(values).faults(len(column.bands))):
            reasons[i] = reasons[i] or reason
    if column.kind in ("label", "text"):
        return words(values) if not pa.types.is_string(values.type) else values
    return values if values.type == column.arrow_type() else values.cast(column.arrow_type(), safe=False)


def _impossible(values: pa.Array, name: str) -> pa.Array:
    """Right ascensions may be given from -180 or from 0; declinations stay within the poles."""
    low, high = (-360, 360) if name == "ra" else (-90, 90)
    return pc.fill_null(pc.or_(pc.less(values, low), pc.greater(values, high)), False)


def infer(
    raw: Raw,
    *,
    columns: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    missing: Sequence[float] = (),
    crop: int | None = None,
    size: int | None = None,
) -> Table:
    """Decide what each field is. ``kinds`` and ``units`` overrule what the names and values say.

    ``missing`` are numbers that stand for no value, in every scalar.
    """
    if raw.length == 0:
        raise GsnnError(f"{raw.stem} holds no rows")
    names = clean([one.name for one in raw.fields])
    given = {one.name: name for one, name in zip(raw.fields, names)}
    fields = [replace(one, name=name) for one, name in zip(raw.fields, names)]
    kinds, units = _renamed(kinds, given, fields, "kinds"), _renamed(units, given, fields, "units")
    for name, kind in kinds.items():
        if kind not in get_args(Kind):
            raise GsnnError(f"kinds: {name!r} cannot be a {kind!r}; {suggest(kind, get_args(Kind))}")
    ids, fields = choose_ids(raw, fields, kinds)
    if columns is not None:
        wanted = list(
            _renamed(
                dict.fromkeys(columns, ""),
                given,
                fields,
                "columns",
                spare=("id", ids.origin, *(o for o, n in given.items() if n == ids.origin)),
            )
        )
        fields = [one for name in wanted for one in fields if one.name == name]
    fields = _positions(raw, fields, kinds)
    columns_, kept = [], []
    for one in fields:
        one = replace(one, unit=units.get(one.name, one.unit), kind=kinds.get(one.name, one.kind))
        one = _decide(raw, one, one.name in kinds)
        if one.kind == "image":
            one = as_image(one, crop, size)
        if one.kind == "scalar" and missing:
            one = _without(one, missing)
        columns_.append(_column(one))
        kept.append(one)
    if not kept:
        raise GsnnError(f"{raw.stem} has no column that GSNN can use" + (f" ({raw.notes[-1]})" if raw.notes else ""))
    return Table(raw, columns_, kept, ids)


def _without(one: Field, missing: Sequence[float]) -> Field:
    """The field with these numbers as missing values."""
    kind = arrow_type(one.dtype, one.shape)
    held = np.array(missing, float).astype(kind.to_pandas_dtype())
    stand_ins = pa.array(held[np.isclose(held.astype(float), missing, rtol=1e-6)])  # 99.5 is no whole number

    def take(indices: np.ndarray, reasons: Reasons) -> pa.Array:
        values = one.arrow(indices, reasons)
        return pc.if_else(pc.is_in(values, value_set=stand_ins), pa.scalar(None, values.type), values)

    return replace(one, take=take)


def _renamed(
    table: Mapping[str, str] | None,
    given: Mapping[str, str],
    fields: list[Field],
    what: str,
    spare: tuple[str, ...] = (),
) -> dict[str, str]:
    """``table`` keyed by cleaned names; a key may be the name as the file writes it."""
    known = {one.name for one in fields}
    out = {}
    for name, value in (table or {}).items():
        new = name if name in known else given.get(name, clean([name])[0])
        if new in known:
            out[new] = value
        elif name not in spare:
            raise GsnnError(f"{what}: there is no column {name!r}; {suggest(name, known)}")
    return out


def _positions(raw: Raw, fields: list[Field], kinds: Mapping[str, str]) -> list[Field]:
    """Mark right ascension and declination in degrees and call them ``ra`` and ``dec``."""

    def find(pattern: re.Pattern[str], name: str) -> Field | None:
        found = [f for f in fields if pattern.fullmatch(f.name) and f.dtype != TEXT and not f.shape]
        return min(found, key=lambda f: (f.name != name, f.name.lower() != name, len(f.name)), default=None)

    pair = {"ra": find(RA, "ra"), "dec": find(DEC, "dec")}
    if not all(pair.values()) or any(one.name in kinds for one in pair.values() if one):
        return fields
    for name, one in pair.items():
        if one.unit.lower() not in ("", "deg", "degree", "degrees", "decimal degrees"):
            raw.notes.append(f"the column {one.name!r} is in {one.unit}, not in degrees, so it is no position")
            return fields
        wrong = pc.sum(_impossible(values_of(raw, one), name)).as_py() or 0
        if wrong > max(1, raw.length // 50):
            raw.notes.append(f"{wrong} values of {one.name!r} are outside the sky, so it is no position")
            return fields
    taken = {f.name for f in fields} - {one.name for one in pair.values()}
    for name, one in pair.items():
        if name in taken:
            continue
        if one.name != name:
            raw.notes.append(f"the column {one.name!r} is called {name!r}")
        new = replace(one, name=name, kind="position", unit="deg", description=one.description or one.name)
        fields = [new if f is one else f for f in fields]
    return fields


def _decide(raw: Raw, one: Field, stated: bool) -> Field:
    if one.dtype == CURVES:
        if stated and one.kind != "light_curve":
            raise GsnnError(f"kinds: {one.name!r} holds light curves, so it cannot be a {one.kind}")
        return replace(one, kind="light_curve")
    if one.kind == "label":
        return one if one.classes else replace(one, classes=_classes(raw, one, 1000))
    if one.kind is None:
        if one.shape:
            dense = "strain" if "strain" in one.name.lower() and len(one.shape) == 1 else None
            one = replace(one, kind=dense or {1: "spectrum", 2: "image", 3: "image"}.get(len(one.shape), "field"))
        elif one.dtype == "bool":
            return replace(one, kind="label", classes=("false", "true"))
        elif one.dtype == TEXT:
            classes = _distinct(raw, one, min(MAX_CLASSES, raw.length // 2))
            return replace(one, kind="label", classes=classes) if classes else replace(one, kind="text")
        else:
            one = replace(one, kind="scalar")
    if stated:
        if one.kind in ("scalar", "position") and (one.dtype == TEXT or one.shape):
            raise GsnnError(
                f"kinds: {one.name!r} holds {'arrays' if one.shape else 'text'}, so it cannot be a {one.kind}"
            )
        if one.kind in DENSE and not one.shape:
            raise GsnnError(f"kinds: {one.name!r} holds one value an object, so it cannot be a {one.kind}")
        if one.kind == "light_curve":
            raise GsnnError(
                f"kinds: {one.name!r} alone is no light curve; say with `light_curve` which columns hold its parts"
            )
        if one.kind == "graph":
            raise GsnnError(f"kinds: {one.name!r} cannot be read as a {one.kind} from a table")
    return one


def _classes(raw: Raw, one: Field, limit: int) -> tuple[str, ...]:
    found = _distinct(raw, one, limit)
    if not found:
        raise GsnnError(f"column {one.name!r} has no values or more than {limit}, so it cannot be a label")
    return found


def _distinct(raw: Raw, one: Field, limit: int) -> tuple[str, ...]:
    """The values of a column, sorted (as numbers where all are), or () if there are none or more than ``limit``."""
    found: set[str] = set()
    for start in range(0, raw.length, SLICE):
        indices = np.arange(start, min(start + SLICE, raw.length))
        found |= set(pc.unique(words(guarded(raw, one, indices, [None] * len(indices)))).drop_null().to_pylist())
        if len(found) > limit:
            return ()
    try:
        return tuple(sorted(found, key=float))
    except ValueError:
        return tuple(sorted(found))


def _column(one: Field) -> Column:
    text = one.kind in ("label", "text")
    dtype = "float64" if one.kind == "position" else _dense_type(one)
    return Column(
        one.name,
        one.kind or "scalar",
        unit="" if text else one.unit,
        bands=one.bands,
        shape=one.shape,
        dtype="int64" if one.kind == "label" else TEXT if text else dtype,
        classes=one.classes if one.kind == "label" else (),
        pixel_scale=one.pixel_scale,
        time_unit=one.time_unit,
        epoch=one.epoch,
        cadence=one.cadence,
        description=one.description,
    )


def _dense_type(one: Field) -> str:
    """Images are uint8 or float32; other arrays are floats."""
    if one.dtype == CURVES:
        return "float32"
    if not one.shape:
        return "int64" if one.dtype in ("bool", "uint8") else one.dtype
    if one.dtype in ("uint8", "bool"):
        return "uint8"
    return "float32" if one.kind in ("image", "sphere") or one.dtype == "float32" else "float64"
