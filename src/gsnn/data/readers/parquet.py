"""Parquet, read by row group; a file that carries a GSNN schema keeps its kinds, units and classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import GsnnError
from .memory import arrow_field
from .raw import Raw, Reasons

MOST_ROWS_PER_BYTE = 1 << 17  # run lengths pack well, but beyond this a header is taken for a damaged one


def read_parquet(path: str, stem: str) -> Raw:
    """The fields of a Parquet file."""
    import pyarrow.parquet as pq

    def opened() -> Any:
        return pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)

    try:
        with opened() as file:
            about, schema = file.metadata, file.schema_arrow
            groups = [about.row_group(i).num_rows for i in range(about.num_row_groups)]
            held, length = file.reader.closed, about.num_rows  # touch: a damaged footer fails here
            del held
    except Exception as error:
        raise _damaged(path, error) from error
    import os

    if min(groups, default=0) < 0 or sum(groups) != length or length > MOST_ROWS_PER_BYTE * os.path.getsize(path):
        raise GsnnError(f"{path} is damaged: its footer announces {length} rows in {len(groups)} row groups")
    starts = np.cumsum([0, *groups])

    held: dict[str, tuple[int, pa.ChunkedArray]] = {}  # of each column the row group that was read last

    def group(k: int, name: str) -> pa.ChunkedArray:
        if name in held and held[name][0] == k:
            return held[name][1]
        with opened() as file:
            column = file.read_row_group(k, columns=[name], use_threads=False).column(0)
            if len(column) != groups[k]:
                raise GsnnError(f"{path} is damaged: row group {k} holds {len(column)} rows, not {groups[k]}")
            held[name] = (k, column)
            return column

    def taker(name: str) -> Any:
        def take(indices: np.ndarray, reasons: Reasons) -> pa.Array:
            which = np.searchsorted(starts, indices, side="right") - 1
            pieces, order = [], []
            for k in np.unique(which):
                at = np.flatnonzero(which == k)
                order.append(at)
                column = group(int(k), name).take(pa.array(indices[at] - starts[k]))
                pieces += column.chunks
            joined = pa.chunked_array(pieces, schema.field(name).type).combine_chunks()
            joined = joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined
            return joined.take(pa.array(np.argsort(np.concatenate(order))))

        return take

    fields, left = [], []
    try:
        for column in schema:
            if schema.names.count(column.name) > 1:
                raise GsnnError(f"{path} has two columns called {column.name!r}; rename one of them")
            widths = (pc.unique(pc.list_value_length(group(k, column.name))) for k in range(len(groups)))
            made = arrow_field(column, taker(column.name), schema.metadata, widths)
            fields.append(made) if made else left.append(column.name)
    except GsnnError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error
    notes = [f"columns of unequal lists or records were left out: {', '.join(left)}"] if left else []
    return Raw(stem, length, fields, "parquet", notes=notes, files=[path])


def _damaged(path: str, error: Exception) -> GsnnError:
    what = " ".join(str(error).split())[:160] or type(error).__name__
    return GsnnError(f"{path} is a damaged or truncated Parquet file ({what}); copy or download it again")
