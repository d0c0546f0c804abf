"""Out of a survey: one Parquet file, or a HATS catalogue that LSDB and other tools of the field open."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from ..errors import GsnnError, on_disk
from . import hats, stores
from .schema import Schema
from .survey import Survey
from .writing import row_bytes

_BYTES = 64 << 20  # of a row group
MOST_ROWS = 1_000_000  # in a partition of a HATS catalogue


def export(survey: Survey, out: str | Path, rows: Int64[np.ndarray, " n"] | None = None) -> int:
    """Write a Parquet file where ``out`` ends in .parquet, else a HATS catalogue; how many objects are in it."""
    return to_parquet(survey, out, rows) if str(out).endswith(".parquet") else to_hats(survey, out, rows)


def plain(survey: Survey) -> Schema:
    """The schema of what is written out: no codec, which is the store's own affair."""
    return Schema(tuple(replace(c, codec="") for c in survey.schema.columns), survey.schema.provenance)


def arrow(survey: Survey, rows: Int64[np.ndarray, " n"]) -> pa.Table:
    """Some rows with the columns of ``plain(survey)``: labels are words, arrays lists of a fixed size."""
    columns: list[Any] = []
    coded = [c for c in survey.schema.columns if c.codec]
    values = survey.take(rows, [c.name for c in coded])
    stored = survey.arrow(rows, [c.name for c in survey.schema.columns if not c.codec])
    for column in survey.schema.columns:
        if column.codec:
            flat = pa.array(values[column.name].reshape(-1))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, column.size))
        else:
            columns.append(stored.column(column.name).cast(column.arrow_type()))
    return pa.table(columns, schema=plain(survey).arrow())


def _pieces(survey: Survey, rows: Int64[np.ndarray, " n"]) -> Iterator[tuple[np.ndarray, pa.Table]]:
    width = sum(map(row_bytes, survey.schema.columns))
    size = int(np.clip(_BYTES // max(width, 1), 16, 1 << 17))
    for start in range(0, len(rows), size):
        some = np.asarray(rows[start : start + size])
        yield some, arrow(survey, some)


def _local(out: str | Path) -> Path:
    if stores.is_remote(out):
        raise GsnnError(f"{out}: exports go to a local disk; write it there, and copy it to the store")
    if Path(out).exists():
        raise GsnnError(f"{out} exists already; choose another name, or remove it first")
    return Path(out)


def to_parquet(survey: Survey, out: str | Path, rows: Int64[np.ndarray, " n"] | None = None) -> int:
    """One Parquet file with kinds, units and classes in its metadata; ``gsnn ingest`` makes the same survey of it."""
    out, rows = _local(out), survey.view().rows if rows is None else rows
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        with on_disk(f"write {out}"):
            with pq.ParquetWriter(partial, plain(survey).arrow(), compression="zstd", write_page_checksum=True) as file:
                for _, table in _pieces(survey, rows):
                    file.write_table(table)
            partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)
    return len(rows)


def to_hats(
    survey: Survey, out: str | Path, rows: Int64[np.ndarray, " n"] | None = None, *, most: int = MOST_ROWS
) -> int:
    """A HATS catalogue with at most ``most`` objects in a partition. Objects without a position are left out."""
    if not {"ra", "dec"} <= set(survey.schema):
        needs = f"{survey.path} has no positions ra and dec, by which a HATS catalogue is divided"
        raise GsnnError(f"{needs}; name a file that ends in .parquet")
    out, rows = _local(out), survey.view().rows if rows is None else rows
    rows, pixels = _by_sky(survey, rows)
    if not len(rows):
        raise GsnnError("no object has a position, so there is nothing to write")
    staging = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        with on_disk(f"write {out}"):
            _write_hats(survey, staging, rows, pixels, most, out.name)
            staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return len(rows)


def _by_sky(survey: Survey, rows: Int64[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """The rows that have a position and their pixels of order 29, in the order of these."""
    pixels = np.full(len(rows), -1, np.int64)
    start = 0
    for chunk in survey.view(rows).chunks(["ra", "dec"], 1 << 18):
        ra, dec = chunk["ra"], chunk["dec"]
        known = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
        pixels[start : start + len(ra)][known] = hats.pixels_29(ra[known], dec[known])
        start += len(ra)
    order = np.argsort(pixels, kind="stable")[int((pixels < 0).sum()) :]
    return np.asarray(rows)[order], pixels[order]


def _write_hats(survey: Survey, folder: Path, rows: np.ndarray, pixels: np.ndarray, most: int, name: str) -> None:
    import gsnn

    dataset = folder / "dataset"
    schema = plain(survey).arrow()
    schema = pa.schema([pa.field(hats.HEALPIX_29, pa.int64()), *schema], metadata=schema.metadata)
    parts, collected = hats.divided(pixels, most), []
    for order, pixel, first, last in parts:
        place = hats.place_of(order, pixel)
        (dataset / place).parent.mkdir(parents=True, exist_ok=True)
        at = first
        with pq.ParquetWriter(
            dataset / place, schema, compression="zstd", write_page_checksum=True, metadata_collector=collected
        ) as file:
            for some, table in _pieces(survey, rows[first:last]):
                file.write_table(table.add_column(0, schema.field(0), pa.array(pixels[at : at + len(some)])))
                at += len(some)
        collected[-1].set_file_path(place)
    pq.write_metadata(schema, dataset / "_metadata", metadata_collector=collected)
    pq.write_metadata(schema, dataset / "_common_metadata")
    size = sum(file.stat().st_size for file in dataset.rglob("*") if file.is_file())
    about = {
        "obs_collection": name,
        "dataproduct_type": "object",
        "hats_nrows": len(rows),
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": hats.HEALPIX_29,
        "hats_col_healpix_order": hats.ORDER,
        "hats_npix_suffix": ".parquet",
        "hats_max_rows": max(last - first for *_, first, last in parts),
        "hats_order": max(order for order, *_ in parts),
        "moc_sky_fraction": round(sum(1 / (12 * 4**order) for order, *_ in parts), 10),
        "hats_builder": f"gsnn {gsnn.__version__}",
        "hats_creation_date": time.strftime("%Y-%m-%dT%H:%MUTC", time.gmtime()),
        "hats_estsize": size // 1024,
        "hats_version": "v1.0",
    }
    hats.describe(folder, about, parts)
