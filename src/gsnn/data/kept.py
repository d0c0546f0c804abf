"""Rows that take long to make stay on the disk as they are made, so that whoever was stopped goes on."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from ..errors import on_disk
from .schema import Schema
from .source import Source, within


class Kept:
    """A source in pieces of ``size`` rows, each a Parquet file of ``folder`` from the moment it was made; a Source.

    The files' names hold a digest of the schema with its provenance and of the seed: those of another source, or of
    another seed, are never read. A damaged piece is made again.
    """

    def __init__(self, source: Source, folder: Path, size: int):
        self.source, self.folder, self.size = source, folder, size

    def schema(self) -> Schema:
        return self.source.schema()

    def __len__(self) -> int:
        return len(self.source)

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        indices = within(indices, len(self))
        pieces = np.unique(indices // self.size)
        if not len(pieces):
            return self.source.rows(indices, seed)
        tables = [self._piece(int(piece), seed) for piece in pieces]
        starts = np.concatenate([[0], np.cumsum([table.num_rows for table in tables])[:-1]])
        place = starts[np.searchsorted(pieces, indices // self.size)] + indices % self.size
        whole = pa.concat_tables(tables, promote_options="default")  # only some may have a column of quarantine
        return whole.take(place).combine_chunks().to_batches()[0]

    def _piece(self, number: int, seed: int) -> pa.Table:
        start = number * self.size
        wanted = min(self.size, len(self) - start)
        belongs = hashlib.blake2b(f"{seed} {self.schema().to_json()}".encode(), digest_size=8).hexdigest()
        path = self.folder / f"{belongs}-{number:06d}.parquet"
        try:
            found = pq.read_table(path, page_checksum_verification=True)
        except (OSError, pa.ArrowException):
            found = None
        if found is None or found.num_rows < wanted:  # fewer where a shorter survey ended
            found = pa.Table.from_batches([self.source.rows(np.arange(start, start + wanted), seed)])
            with on_disk(f"keep rows in {self.folder}"):
                self.folder.mkdir(parents=True, exist_ok=True)
                partial = path.with_name(f".{path.name}.partial")
                pq.write_table(found, partial, write_page_checksum=True)
                partial.rename(path)
        return found

    def forget(self) -> None:
        """Remove the pieces: the survey has them."""
        shutil.rmtree(self.folder, ignore_errors=True)
