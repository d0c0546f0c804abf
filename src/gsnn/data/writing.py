"""How a survey gets onto the disk: rows of a source, checked and numbered, block by block into a Lance dataset."""

from __future__ import annotations

import glob
import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import GsnnError
from . import codec
from .points import Points
from .schema import UNEQUAL, Column, Schema
from .seals import seal_files
from .source import QUARANTINE, Source
from .stores import dataset, inside, is_survey, options
from .values import checksums, healpix, numpy_of

CHECKSUM, ROW, HEALPIX = "checksum", "row", "healpix"
SEAL = b"gsnn.blake2b"  # key of the digest of the schema, in the metadata beside it
_BLOCK_BYTES = 64 << 20


def lance() -> Any:
    import lance

    return lance


def seal(schema: bytes) -> bytes:
    return hashlib.blake2b(schema, digest_size=8).hexdigest().encode()


def clear_leftovers(path: Path) -> None:
    """Remove what a killed process left half-written beside ``path``."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.partial-*"):
        process = left.name.rsplit("-", 1)[1]
        if process.isdigit() and not Path(f"/proc/{process}").exists():
            shutil.rmtree(left, ignore_errors=True)


def _bites(total: int, block: int) -> Iterator[tuple[int, int]]:
    """Ranges that cover 0..total-1, none across a block, that take a fraction of a second: Ctrl-C is heard between."""
    start, size = 0, 64
    while start < total:
        stop, began = min(start + size, (start // block + 1) * block, total), time.perf_counter()
        yield start, stop
        seconds, start = time.perf_counter() - began, stop
        if seconds < 0.15:
            size = min(2 * size, block)
        elif seconds > 0.5:
            size = max(size // 2, 16)


def row_bytes(column: Column) -> int:
    """About how many bytes a value of the column takes."""
    if column.kind in UNEQUAL:  # a guess: how long they are is known only when they have been read
        return 1000 * (17 if column.kind == "light_curve" else 4 * (column.size + len(column.bands)))
    return 0 if column.kind in ("label", "text", "id") else np.dtype(column.dtype).itemsize * column.size


def without_faults(batch: pa.RecordBatch, schema: Schema) -> pa.RecordBatch:
    """The batch of a source, with clouds of points that no network can use marked for quarantine."""
    for column in schema.of_kind("graph"):
        points = Points.from_arrow(batch.column(column.name), column.size, len(column.bands))
        told = pa.array(points.faults(column.box), pa.string())
        if QUARANTINE in batch.schema.names:
            told = pc.coalesce(batch.column(QUARANTINE), told)
            batch = batch.drop_columns([QUARANTINE])
        if told.null_count < len(told):
            batch = batch.append_column(QUARANTINE, told)
    return batch


@dataclass(frozen=True)
class Stored:
    """How rows lie on the disk: the columns with their codecs, those that GSNN adds, and the rows of a block."""

    schema: Schema
    arrow: pa.Schema
    block: int

    @classmethod
    def of(cls, given: Schema, codecs: Mapping[str, str]) -> Stored:
        schema = codec.choose(given, codecs)
        reserved = {ROW, CHECKSUM, HEALPIX} & set(schema)
        if reserved:
            raise GsnnError(f"the column name {min(reserved)!r} is GSNN's own; rename it in the data")
        width = sum(map(row_bytes, schema.columns))
        extra = [pa.field(ROW, pa.int64()), pa.field(CHECKSUM, pa.int64())]
        extra += [pa.field(HEALPIX, pa.int64())] if "ra" in schema and "dec" in schema else []
        about = schema.arrow().metadata
        fields = [*map(codec.field, schema.columns), *extra]
        arrow = pa.schema(fields, metadata={**about, SEAL: seal(about[b"gsnn"])})
        return cls(schema, arrow, int(np.clip(_BLOCK_BYTES // max(width, 1), 16, 1 << 16)))

    def rows(
        self, source: Source, start: int, stop: int, seed: int, first: int
    ) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
        """Rows start..stop-1 of a source as they are stored, numbered from ``first``; and those set aside, if any."""
        batch, bad = without_faults(source.rows(np.arange(start, stop), seed), self.schema), None
        if QUARANTINE in batch.schema.names:
            good = pc.is_null(batch.column(QUARANTINE))
            bad = batch.filter(pc.invert(good)).select(["id", QUARANTINE]).rename_columns(["id", "reason"])
            batch = batch.filter(good)
        names, numbers = list(self.schema), np.arange(first, first + batch.num_rows)
        columns = [codec.stored(batch.column(c.name), c, numbers) for c in self.schema.columns]
        digests = checksums(pa.RecordBatch.from_arrays(columns, names=names), names)
        columns += [pa.array(numbers), pa.array(digests)]
        if HEALPIX in self.arrow.names:
            columns.append(pa.array(healpix(numpy_of(batch.column("ra")), numpy_of(batch.column("dec")))))
        return pa.RecordBatch.from_arrays(columns, schema=self.arrow), bad


def write(
    folder: str | Path,
    source: Source,
    seed: int,
    first: int,
    progress: Callable[[int, int], None] | None,
    codecs: Mapping[str, str],
    mode: str = "create",
) -> None:
    layout, total = Stored.of(source.schema(), codecs), len(source)
    rejected: list[pa.RecordBatch] = []

    leave = threading.Event()

    def batches() -> Iterator[pa.RecordBatch]:
        next_row, pieces = first, []
        for start, stop in _bites(total, layout.block):
            if leave.is_set():
                raise GsnnError("interrupted")
            batch, bad = layout.rows(source, start, stop, seed, next_row)
            rejected.extend([] if bad is None else [bad])
            next_row += batch.num_rows
            if batch.num_rows:
                pieces.append(batch)
            if pieces and (stop % layout.block == 0 or stop == total):
                yield pieces[0] if len(pieces) == 1 else pa.concat_batches(pieces)
                pieces = []
            if progress:
                progress(stop, total)
        if next_row == first:
            raise none_usable(total, pa.Table.from_batches(rejected).column("reason").to_pylist() if rejected else [])

    failure: list[BaseException] = []  # Lance would wrap what the generator raises into an error of its own

    def guarded() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches()
        except BaseException as error:
            failure.append(error)
            raise

    def work() -> None:
        reader = pa.RecordBatchReader.from_batches(layout.arrow, guarded())
        try:
            lance().write_dataset(reader, inside(folder, "objects.lance"), mode=mode, storage_options=options(folder))
            write_quarantine(folder, rejected, mode)
            seal_files(folder)
        except Exception:
            if failure:
                raise failure[0] from None
            raise

    # Ctrl-C reaches the main thread alone. Were Lance called there, it would return at once and leave a thread of its
    # own inside the generator, which takes the interpreter down as it ends; so the writer is waited for.
    with ThreadPoolExecutor(1, thread_name_prefix="gsnn-write") as writer:
        try:
            writer.submit(work).result()
        except BaseException:
            leave.set()
            raise


def none_usable(total: int, reasons: Sequence[str]) -> GsnnError:
    return GsnnError(f"none of the {total} rows can be used; the first reason: {reasons[0] if reasons else '-'}")


def write_quarantine(folder: str | Path, rejected: Sequence[pa.RecordBatch], mode: str) -> None:
    """The rows that were set aside, beside the objects."""
    bad, there = [batch for batch in rejected if batch.num_rows], is_survey(folder, "quarantine.lance")
    if there and mode == "overwrite":
        dataset(folder, "quarantine.lance").delete("true")
    if bad:
        lance().write_dataset(
            pa.Table.from_batches(bad),
            inside(folder, "quarantine.lance"),
            mode="append" if there else "create",
            storage_options=options(folder),
        )
