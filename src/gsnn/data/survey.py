"""The survey store: the objects of one sky, a row each, in a Lance dataset, known only through ``Survey``.

A survey is a folder with ``objects.lance`` (the rows, a checksum each, the schema in the metadata) and, where rows could not
be used, ``quarantine.lance`` (id and reason). A row's number is its place, so it never changes as a survey grows.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from ..errors import GsnnError
from .schema import DENSE, Column, Schema
from .source import QUARANTINE, Source

CHECKSUM, ROW, HEALPIX = "checksum", "row", "healpix"
NSIDE = 512  # one published constant: the same object falls into the same sky pixel in every survey
_BLOCK_BYTES = 64 << 20


def healpix(ra: np.ndarray, dec: np.ndarray) -> Int64[np.ndarray, "n"]:
    """HEALPix nested pixels of nside 512 (6.9 arcmin) of positions in degrees; -1 where a position is missing."""
    from astropy import units
    from astropy_healpix import HEALPix

    known = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
    pixels = np.full(len(ra), -1, np.int64)
    grid = HEALPix(NSIDE, order="nested")
    pixels[known] = grid.lonlat_to_healpix(np.mod(ra[known], 360) * units.deg, dec[known] * units.deg)
    return pixels


def checksums(batch: pa.RecordBatch | pa.Table, names: Sequence[str]) -> Int64[np.ndarray, "n"]:
    """A 63-bit BLAKE2b digest of each row's values, in the order of ``names``."""
    parts: list[Iterable[bytes]] = []
    for name in names:
        column = batch.column(name)
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        if pa.types.is_string(column.type):
            parts.append([b"\0" if v is None else v.encode() + b"\1" for v in column.to_pylist()])
        else:
            values = np.ascontiguousarray(_numpy(column))
            parts.append(values.reshape(len(values), -1).view(np.uint8) if len(values) else [])
    out = np.empty(batch.num_rows, np.int64)
    for i, row in enumerate(zip(*parts)):
        digest = hashlib.blake2b(digest_size=8)
        for part in row:
            digest.update(part)
        out[i] = int.from_bytes(digest.digest(), "little") >> 1
    return out


def _numpy(column: pa.Array) -> np.ndarray:
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


def _lance() -> Any:
    import lance

    return lance


def _sentence(error: Exception) -> str:
    """Lance's own message without the address of the line of Rust that raised it."""
    text = str(error).split(", /home/")[0].split(", /rust")[0]
    for prefix in ("Invalid user input: ", "Schema error: ", "Error during planning: ", "LanceError(IO): "):
        text = text.replace(prefix, "")
    return text.strip().rstrip(".")


@dataclass(frozen=True)
class Survey:
    """A stored survey. ``derived`` are columns computed from others by SQL expressions (``{"g_r": "g - r"}``)."""

    path: str
    schema: Schema
    derived: Mapping[str, str] = field(default_factory=dict)
    relabelled: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    # ------------------------------------------------------------------ making

    @classmethod
    def create(
        cls,
        path: str | Path,
        source: Source,
        *,
        seed: int = 0,
        overwrite: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Survey:
        """Write every row of ``source``; the folder appears only when it is whole."""
        path = Path(path)
        if path.exists():
            if not overwrite:
                raise GsnnError(f"{path} exists already; choose another --out, or remove it first")
            if not (path / "objects.lance").exists():
                raise GsnnError(f"{path} exists and is not a survey, so it is not replaced; choose another --out")
        if len(source) == 0:
            raise GsnnError("the data hold no rows, so there is nothing to make a survey of")
        staging = path.with_name(f".{path.name}.partial-{os.getpid()}")
        try:
            staging.mkdir(parents=True)
            _write(staging, source, seed, 0, progress)
            if path.exists():
                shutil.rmtree(path)
            staging.rename(path)
        except OSError as error:
            raise GsnnError(f"cannot write the survey {path}: {_sentence(error)}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> Survey:
        """An existing survey; one sentence if it is missing or damaged."""
        path = str(path)
        if not (Path(path) / "objects.lance").is_dir():
            raise GsnnError(f"{path} is not a survey; make one with `gsnn ingest PATH --out SURVEY`")
        try:
            schema = Schema.from_arrow(_lance().dataset(f"{path}/objects.lance").schema)
        except GsnnError:
            raise
        except Exception as error:  # Lance raises OSError, ValueError and a Rust panic's BaseException alike
            raise GsnnError(
                f"the survey {path} is damaged ({_sentence(error)}); ingest its files again, "
                "or restore the folder from a copy"
            ) from error
        return cls(path, schema)

    def append(self, source: Source, *, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> Survey:
        """Add rows of the same schema at the end; existing rows keep their numbers."""
        difference = self.schema.difference(source.schema()) or source.schema().difference(self.schema)
        if difference:
            raise GsnnError(f"these data do not fit the survey {self.path}: {difference}")
        _write(Path(self.path), source, seed, len(self), progress)
        return Survey.open(self.path)

    # ------------------------------------------------------------------ reading

    @property
    def dataset(self) -> Any:
        return _lance().dataset(f"{self.path}/objects.lance")

    def __len__(self) -> int:
        return self.dataset.count_rows()

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that change with any row or column."""
        table = self.dataset.scanner(columns=[CHECKSUM]).to_table()
        digest = hashlib.blake2b(self.schema.select(self._stored()).to_json().encode(), digest_size=8)
        for chunk in table.column(0).chunks:
            digest.update(chunk.to_numpy())
        return digest.hexdigest()

    def _stored(self) -> list[str]:
        return [name for name in self.schema if name not in self.derived]

    def derive(self, expressions: Mapping[str, str]) -> Survey:
        """The survey with columns computed by SQL (Lance evaluates them; nothing of Python is executed)."""
        schema = self.schema
        for name, expression in expressions.items():
            if name in self.schema:
                raise GsnnError(f"the derived column {name!r} exists in the survey already; give it another name")
            try:
                probe = self.dataset.scanner(columns={name: expression}, limit=1).to_table()
            except Exception as error:
                raise GsnnError(f"cannot compute {name} = {expression!r}: {_sentence(error)}") from error
            if not (pa.types.is_floating(probe.schema[0].type) or pa.types.is_integer(probe.schema[0].type)):
                raise GsnnError(f"{name} = {expression!r} gives {probe.schema[0].type}; a derived column is a number")
            schema = schema.with_column(Column(name, "scalar", dtype="float64", description=expression))
        return replace(self, schema=schema, derived={**self.derived, **expressions})

    def label(self, name: str, classes: Mapping[str, str] | None = None) -> Survey:
        """The survey with ``name`` read as a class; ``classes`` gives names to values (``{"1": "pulsar"}``)."""
        column = self.schema.column(name)
        if column.kind in DENSE or column.shape:
            raise GsnnError(f"column {name!r} is a {column.kind}, which cannot be a class")
        values = column.classes or self._values(name)
        if len(values) > 100:
            raise GsnnError(
                f"column {name!r} has {len(values)} different values, too many for classes; "
                'if it is a quantity, learn it with [objective] name = "regress"'
            )
        names = dict(classes or {})
        strange = [key for key in names if key not in values]
        if strange:
            raise GsnnError(f"[data] classes names {strange[0]!r}, which column {name!r} never holds: {', '.join(values)}")
        mapped = tuple(dict.fromkeys(names.get(value, value) for value in (names or values)))
        mapped += tuple(value for value in values if names.get(value, value) not in mapped)
        mapping = {value: names.get(value, value) for value in values}
        new = replace(column, kind="label", classes=mapped, dtype="int64", unit="")
        return replace(self, schema=self.schema.with_column(new), relabelled={**self.relabelled, name: mapping})

    def _values(self, name: str) -> tuple[str, ...]:
        table = self.dataset.scanner(columns={name: self.derived.get(name, f"`{name}`")}).to_table()
        values = pc.unique(table.column(0)).drop_null().to_pylist()
        return tuple(_text(value) for value in sorted(values))

    def where(self, condition: str | None) -> Int64[np.ndarray, "n"]:
        """Row numbers for which an SQL condition holds (``mag < 20 and z > 0.1``); all without one."""
        if not condition:
            return np.arange(len(self), dtype=np.int64)
        try:
            table = self.dataset.scanner(columns=[ROW], filter=condition).to_table()
        except Exception as error:
            raise GsnnError(f"cannot filter by {condition!r}: {_sentence(error)}") from error
        return np.sort(table.column(ROW).to_numpy())

    def view(self, rows: Int64[np.ndarray, "n"] | None = None) -> View:
        return View(self, np.arange(len(self), dtype=np.int64) if rows is None else rows)

    def take(self, rows: Int64[np.ndarray, "n"], names: Sequence[str]) -> dict[str, np.ndarray]:
        """Decoded columns of some rows, in that order."""
        for name in names:
            if name not in (ROW, CHECKSUM, HEALPIX):
                self.schema.column(name)
        rows = np.asarray(rows, dtype=np.int64)
        wanted = {name: self.derived.get(name, f"`{name}`") for name in names}
        plain = list(names) if not any(name in self.derived for name in names) else wanted
        try:
            if len(rows) and len(rows) == rows[-1] - rows[0] + 1 and (np.diff(rows) == 1).all():
                table = self.dataset.scanner(columns=plain, offset=int(rows[0]), limit=len(rows)).to_table()
            else:
                table = self.dataset.take(rows, columns=plain)
        except Exception as error:
            raise GsnnError(
                f"cannot read the survey {self.path} ({_sentence(error)}); `gsnn survey {self.path} --verify` "
                "tells which rows are damaged"
            ) from error
        return {name: self._decode(name, table.column(name)) for name in names}

    def _decode(self, name: str, column: pa.ChunkedArray) -> np.ndarray:
        column = column.combine_chunks()
        kind = self.schema[name].kind if name in self.schema else "scalar"
        if kind == "label":
            classes = list(self.schema[name].classes)
            if name in self.relabelled:
                mapping = self.relabelled[name]
                column = pa.array([None if v is None else mapping.get(_text(v)) for v in column.to_pylist()], pa.string())
            codes = pc.index_in(column, pa.array(classes, pa.string()))
            return codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        if kind in ("id", "text"):
            return np.array(column.to_pylist(), dtype=object)
        values = _numpy(column)
        return values.reshape(len(values), *self.schema[name].shape) if name in self.schema else values

    # ------------------------------------------------------------------ trust

    def quarantined(self) -> list[dict[str, str]]:
        """The rows that could not be used: id and reason."""
        path = f"{self.path}/quarantine.lance"
        return _lance().dataset(path).to_table().to_pylist() if Path(path).is_dir() else []

    def verify(self, progress: Callable[[int, int], None] | None = None) -> list[int]:
        """Row numbers whose values no longer match their checksum; a GsnnError where a file cannot be read at all."""
        names, bad, total = self._stored(), [], len(self)
        try:
            for batch in self.dataset.to_batches(columns=[*names, CHECKSUM, ROW], batch_size=2048):
                expected = batch.column(CHECKSUM).to_numpy()
                wrong = checksums(batch, names) != expected
                bad += batch.column(ROW).to_numpy()[wrong].tolist()
                if progress and batch.num_rows:
                    progress(int(batch.column(ROW)[-1].as_py()) + 1, total)
        except Exception as error:
            raise GsnnError(f"the survey {self.path} is damaged and cannot be read: {_sentence(error)}") from error
        return bad


def _text(value: Any) -> str:
    """A class value as text; whole floats without their .0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _write(
    folder: Path, source: Source, seed: int, first: int, progress: Callable[[int, int], None] | None
) -> None:
    schema, total = source.schema(), len(source)
    reserved = {ROW, CHECKSUM, HEALPIX} & set(schema)
    if reserved:
        raise GsnnError(f"the column name {min(reserved)!r} is GSNN's own; rename it in the data")
    sky = "ra" in schema and "dec" in schema
    row_bytes = sum(np.dtype(c.dtype).itemsize * c.size for c in schema.columns if c.kind not in ("label", "text", "id"))
    block = int(np.clip(_BLOCK_BYTES // max(row_bytes, 1), 16, 1 << 16))
    extra = [pa.field(ROW, pa.int64()), pa.field(CHECKSUM, pa.int64())]
    extra += [pa.field(HEALPIX, pa.int64())] if sky else []
    stored = schema.arrow()
    for one in extra:
        stored = stored.append(one)
    rejected: list[pa.RecordBatch] = []

    def batches() -> Iterator[pa.RecordBatch]:
        next_row = first
        for start in range(0, total, block):
            batch = source.rows(np.arange(start, min(start + block, total)), seed)
            if QUARANTINE in batch.schema.names:
                good = pc.is_null(batch.column(QUARANTINE))
                bad = batch.filter(pc.invert(good)).select(["id", QUARANTINE])
                rejected.append(bad.rename_columns(["id", "reason"]))
                batch = batch.filter(good)
            names = list(schema)
            columns = [batch.column(name) for name in names]
            numbers = np.arange(next_row, next_row + batch.num_rows)
            columns += [pa.array(numbers), pa.array(checksums(batch, names))]
            if sky:
                columns.append(pa.array(healpix(_numpy(batch.column("ra")), _numpy(batch.column("dec")))))
            next_row += batch.num_rows
            if batch.num_rows:
                yield pa.RecordBatch.from_arrays(columns, schema=stored)
            if progress:
                progress(min(start + block, total), total)
        if next_row == first:
            reasons = pa.Table.from_batches(rejected).column("reason").to_pylist() if rejected else []
            raise GsnnError(f"none of the {total} rows can be used; the first reason: {reasons[0] if reasons else '-'}")

    failure: list[BaseException] = []  # Lance would wrap what the generator raises into an error of its own

    def guarded() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches()
        except BaseException as error:
            failure.append(error)
            raise

    reader = pa.RecordBatchReader.from_batches(stored, guarded())
    lance = _lance()
    try:
        lance.write_dataset(reader, f"{folder}/objects.lance", mode="append" if first else "create")
        bad = [batch for batch in rejected if batch.num_rows]
        if bad:
            mode = "append" if (folder / "quarantine.lance").exists() else "create"
            lance.write_dataset(pa.Table.from_batches(bad), f"{folder}/quarantine.lance", mode=mode)
    except Exception:
        if failure:
            raise failure[0] from None
        raise


@dataclass(frozen=True)
class View:
    """Some rows of a survey, in an order: what splits, streams, baselines and audits look at."""

    survey: Survey
    rows: Int64[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def schema(self) -> Schema:
        return self.survey.schema

    def columns(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Decoded values: images [n, band, y, x], scalars [n] (NaN = missing), labels [n] (class index, -1 = unknown)."""
        return self.survey.take(self.rows, names)

    def chunks(self, names: Sequence[str], size: int = 2048) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(self), size):
            yield self.survey.take(self.rows[start : start + size], names)

    def take(self, positions: np.ndarray) -> View:
        return View(self.survey, self.rows[np.asarray(positions)])
