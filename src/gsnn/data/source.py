"""What a survey is made from. Readers of files and simulators of the sky share this one contract."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from .schema import Schema

QUARANTINE = "quarantine"


@runtime_checkable
class Source(Protocol):
    """Rows of the sky, known by index.

    ``rows`` is pure: the same indices and seed give the same rows, in any order and in any process. Its batch has the
    columns of ``schema()`` in that order. A row that cannot be read is still answered: the batch then has one more
    column, ``quarantine`` (string), with the reason (null where the row is good), and the survey sets the row aside.
    """

    def schema(self) -> Schema: ...

    def __len__(self) -> int: ...

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch: ...


def within(indices: np.ndarray, objects: int) -> Int64[np.ndarray, " n"]:
    """The indices that a source is asked for. Raises IndexError beyond its ``objects``."""
    indices = np.asarray(indices, dtype=np.int64)
    if ((indices < 0) | (indices >= objects)).any():
        raise IndexError(f"the survey has rows 0 to {objects - 1}")
    return indices


class Unseen:
    """A source of which the rows whose ids are known (``known``: pieces of a list) are answered as unusable.

    The ids are held as 8 bytes each, so that a survey of a hundred million objects can still grow.
    """

    def __init__(self, source: Source, known: Iterable[list[str]]):
        self.source = source
        pieces = [np.fromiter(map(hash, ids), np.int64, len(ids)) for ids in known]
        self.known = np.unique(np.concatenate(pieces)) if pieces else np.empty(0, np.int64)

    def schema(self) -> Schema:
        return self.source.schema()

    def __len__(self) -> int:
        return len(self.source)

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        batch = self.source.rows(indices, seed)
        ids = batch.column("id").to_pylist()
        hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
        place = np.searchsorted(self.known, hashes)
        seen = (place < len(self.known)) & (self.known.take(place, mode="clip") == hashes) if len(self.known) else []
        if not np.any(seen):
            return batch
        told = [f"the id {one!r} stands in the survey already" if s else None for one, s in zip(ids, seen)]
        named = [f"{one}#{i}" if s else one for one, i, s in zip(ids, indices, seen)]
        reasons = pa.array(told, pa.string())
        if QUARANTINE in batch.schema.names:
            reasons = pc.coalesce(batch.column(QUARANTINE), reasons)
            batch = batch.drop_columns([QUARANTINE])
        batch = batch.set_column(batch.schema.get_field_index("id"), "id", pa.array(named, pa.string()))
        return batch.append_column(QUARANTINE, reasons)
