"""Tables and arrays that are in memory already: pandas, astropy, Arrow, dictionaries and NumPy arrays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import GsnnError
from ..light_curves import ARROW
from ..schema import Column, Schema
from .raw import CURVES, LISTS, TEXT, Field, Raw, of_array, stored


def read_memory(data: Any, names: Sequence[str] | None = None) -> Raw:
    """The fields of a table in memory; ids are ``row-<n>`` where no column holds them."""
    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    if isinstance(data, pa.Table):
        return _arrow(data)
    if isinstance(data, np.ndarray):
        return of_numpy(data, "row", names)
    kind = type(data).__module__.split(".")[0]
    if kind == "pandas" and hasattr(data, "columns"):
        return _pandas(data)
    if kind == "astropy" and hasattr(data, "colnames"):
        return _astropy(data)
    if isinstance(data, Mapping):
        return _mapping(
            {str(name): np.ma.asanyarray(v) if np.ma.isMA(v) else np.asarray(v) for name, v in data.items()}
        )
    raise GsnnError(
        f"cannot read a {type(data).__name__}; give a path, a pandas, astropy or Arrow table, "
        "a dictionary of arrays or an array"
    )


def of_numpy(data: np.ndarray, stem: str, names: Sequence[str] | None = None, what: str = "the array") -> Raw:
    """Structured arrays and [n, column] arrays as tables, [n, y, x] and [n, band, y, x] as images."""
    if data.dtype.names:
        fields = {name: data[name] for name in data.dtype.names}
    elif data.ndim == 1:
        fields = {(names or ["value"])[0]: data}
    elif data.ndim == 2:
        if names is not None and len(names) != data.shape[1]:
            raise GsnnError(f"{what} has {data.shape[1]} columns and `names` has {len(names)}; give one name for each")
        if data.shape[1] > 20_000:
            raise GsnnError(f"{what} has {data.shape[1]} columns; give it as [n, y, x] if its rows are images")
        fields = {name: data[:, i] for i, name in enumerate(names or [f"col{i + 1}" for i in range(data.shape[1])])}
    elif data.ndim in (3, 4):
        fields = {(names or ["image"])[0]: data}
    else:
        raise GsnnError(f"{what} has the shape {data.shape}; rows of values or of images have 1 to 4 axes")
    return _mapping(fields, stem)


def _mapping(arrays: Mapping[str, np.ndarray], stem: str = "row") -> Raw:
    if not arrays:
        raise GsnnError("there are no columns in the data")
    lengths = {name: len(values) if values.ndim else -1 for name, values in arrays.items()}
    length = max(lengths.values(), key=list(lengths.values()).count)
    odd = [name for name, n in lengths.items() if n != length or n < 0]
    if odd:
        shape = arrays[odd[0]].shape
        raise GsnnError(
            f"column {odd[0]!r} has the shape {shape}, others have {length} rows; all need the same first axis"
        )
    fields, left = [], []
    for name, values in arrays.items():
        fields.append(one) if (one := _array(name, values)) else left.append(name)
    return Raw(stem, length, fields, "memory", notes=_left(left))


def _array(name: str, values: np.ndarray, **more: Any) -> Field | None:
    if values.dtype.kind == "M":
        values = values.astype(str)
    if values.dtype.kind == "O":
        values = _objects(values)
    usable = values.dtype.kind in "iufb" or (values.dtype.kind in "SUO" and values.ndim == 1)
    if not usable or any(n < 1 for n in values.shape[1:]):
        return None
    return of_array(name, values, **more)


def _objects(values: np.ndarray) -> np.ndarray:
    """Python objects as numbers where they are numbers or missing, as stacked arrays where they are arrays."""
    known = [v for v in values.reshape(-1) if v is not None]
    if values.ndim == 1 and known and all(isinstance(v, (bool, np.bool_)) for v in known) and len(known) == len(values):
        return values.astype(bool)
    if values.ndim == 1 and known and all(isinstance(v, (int, float, np.number)) for v in known):
        return np.array([np.nan if v is None else v for v in values], dtype=float)
    if known and all(isinstance(v, (np.ndarray, list, tuple)) for v in known):
        shapes = {np.shape(v) for v in known}
        if len(shapes) == 1 and len(known) == len(values):
            return np.stack([np.asarray(v) for v in known])
        return np.empty(len(values), dtype=complex)  # unequal lists: a type that is left out
    return values


def _left(names: list[str]) -> list[str]:
    return [f"columns of unequal lists, records or complex numbers were left out: {', '.join(names)}"] if names else []


def _pandas(data: Any) -> Raw:
    if not all(isinstance(name, (str, int, float)) for name in data.columns):
        raise GsnnError("the DataFrame has names of several levels; flatten its columns first")
    twice = data.columns[data.columns.duplicated()]
    if len(twice):
        raise GsnnError(f"the DataFrame has two columns called {twice[0]!r}; rename one of them")
    fields, left = [], []
    for name in data.columns:
        series = data[name]
        if str(series.dtype) in ("object", "bool") or isinstance(series.dtype, np.dtype):
            one = _array(str(name), series.to_numpy())
        else:  # nullable, categorical, string and Arrow-backed columns
            column = pa.array(series, from_pandas=True)
            column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
            one = arrow_field(pa.field(str(name), column.type), _taker(column), None, [])
        fields.append(one) if one else left.append(str(name))
    return Raw("row", len(data), fields, "memory", notes=_left(left))


def _astropy(data: Any) -> Raw:
    fields, left = [], []
    for name in data.colnames:
        column = data[name]
        unit = str(getattr(column, "unit", None) or "")
        values = getattr(column, "value", column)  # a Quantity column or a plain one
        values = values if np.ma.isMA(values) else np.asarray(values)
        about = getattr(getattr(column, "info", None), "description", None) or ""
        fields.append(one) if (one := _array(name, values, unit=unit, description=about)) else left.append(name)
    return Raw("row", len(data), fields, "memory", notes=_left(left))


def _arrow(data: pa.Table) -> Raw:
    fields, left = [], []
    for field, column in zip(data.schema, data.columns):
        column = column.combine_chunks()
        nested = pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
        widths = [pc.unique(pc.list_value_length(column))] if nested else []
        one = arrow_field(field, _taker(column), data.schema.metadata, widths)
        fields.append(one) if one else left.append(field.name)
    return Raw("row", data.num_rows, fields, "memory", notes=_left(left))


def _taker(column: pa.Array) -> Callable[..., pa.Array]:
    return lambda indices, _: column.take(pa.array(indices))


def arrow_field(
    column: pa.Field, take: Callable[..., pa.Array], metadata: Mapping[bytes, bytes] | None, widths: Iterable[pa.Array]
) -> Field | None:
    """The field of an Arrow column; None for what no row can hold (records, unequal lists of words).

    ``widths`` (asked for only where the type is a list) are the lengths that lists of the column have.
    """
    kind, shape = column.type, ()
    if pa.types.is_struct(kind):
        return _light_curve(column, take, metadata)
    if pa.types.is_dictionary(kind):
        kind, inner = kind.value_type, take
        take = lambda indices, reasons: inner(indices, reasons).dictionary_decode()  # noqa: E731
    listed = False
    if pa.types.is_fixed_size_list(kind):
        shape, kind = (kind.list_size,), kind.value_type
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        found = {width for part in widths for width in part.to_pylist()}
        if len(found) != 1 or not found - {None, 0}:
            numbers = pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)
            return Field(column.name, LISTS, take) if numbers else None
        shape, kind, listed = (found.pop(),), kind.value_type, True
    if (
        pa.types.is_temporal(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
    ):
        dtype = TEXT
    elif pa.types.is_boolean(kind):
        dtype = "bool"
    elif pa.types.is_decimal(kind):
        dtype = "float64"
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        dtype = stored(kind.to_pandas_dtype())
    else:
        return None
    if shape and (dtype == TEXT or shape[0] < 1):
        return None
    known = _known(column.name, metadata)
    if known is not None and known.size == int(np.prod(shape)):
        return Field(
            column.name, dtype, take, known.shape, known.kind, known.unit, known.bands, known.classes,
            known.pixel_scale, known.description, known.time_unit, known.epoch, known.cadence,
        )  # fmt: skip
    return Field(column.name, dtype, take, shape, listed=listed)


def _light_curve(
    column: pa.Field, take: Callable[..., pa.Array], metadata: Mapping[bytes, bytes] | None
) -> Field | None:
    """A column of records that a GSNN schema calls light curves."""
    known = _known(column.name, metadata)
    if known is None or known.kind != "light_curve" or {f.name for f in column.type} != {f.name for f in ARROW}:
        return None
    return Field(
        column.name, CURVES, take, (), known.kind, known.unit, known.bands,
        description=known.description, time_unit=known.time_unit, epoch=known.epoch,
    )  # fmt: skip


def _known(name: str, metadata: Mapping[bytes, bytes] | None) -> Column | None:
    """What a GSNN schema in the metadata says of a column."""
    if not metadata or b"gsnn" not in metadata:
        return None
    try:
        return Schema.from_dict(json.loads(metadata[b"gsnn"])).get(name)
    except (ValueError, TypeError, KeyError, AttributeError, GsnnError):
        return None
