"""The survey store: the objects of one sky, a row each, in a Lance dataset, known only through ``Survey``.

A survey is a folder with ``objects.lance`` (the rows, a checksum each, the schema in the metadata) and, where rows
could not be used, ``quarantine.lance`` (id and reason). A row's number is its place, and stays as a survey grows.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from ..errors import ConfigError, GsnnError
from . import codec, stores
from . import rows as row_lists
from .bands import in_bands
from .lance_errors import reading, sentence, understanding
from .light_curves import LightCurves
from .points import Points
from .schema import DENSE, UNEQUAL, Column, Schema
from .seals import changed_files, rows_apart
from .source import Source, Unseen
from .values import as_text, checksums, healpix, numpy_of
from .writing import CHECKSUM, HEALPIX, ROW, SEAL, clear_leftovers, seal, write


@dataclass(frozen=True)
class Survey:
    """A stored survey. ``derived`` are columns computed from others by SQL expressions (``{"g_r": "g - r"}``)."""

    path: str
    schema: Schema
    derived: Mapping[str, str] = field(default_factory=dict)
    relabelled: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        try:
            return f"Survey({self.path!r}: {len(self):,} objects, {len(self.schema)} columns)"
        except GsnnError as error:
            return f"Survey({self.path!r}: {error})"

    # ------------------------------------------------------------------ making

    @classmethod
    def create(
        cls,
        path: str | Path,
        source: Source,
        *,
        seed: int = 0,
        overwrite: bool = False,
        codecs: Mapping[str, str] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Survey:
        """Write every row of ``source``; the folder appears only when it is whole.

        ``path`` is a folder, or the address of an object store (:mod:`gsnn.data.stores`). ``codecs`` say how columns
        lie there (``{"image": "quantise"}``, :mod:`gsnn.data.codec`); whoever reads sees plain values.
        """
        if len(source) == 0:
            raise GsnnError("the data hold no rows, so there is nothing to make a survey of")
        if stores.is_remote(path):
            return cls._create_remote(str(path), source, seed, overwrite, codecs or {}, progress)
        path = Path(path)
        if path.exists():
            if not overwrite:
                raise GsnnError(f"{path} exists already; choose another --out, or remove it first")
            if not (path / "objects.lance").exists():
                raise GsnnError(f"{path} exists and is not a survey, so it is not replaced; choose another --out")
        staging, old = (path.with_name(f".{path.name}.{what}-{os.getpid()}") for what in ("partial", "old"))
        clear_leftovers(path)
        try:
            staging.mkdir(parents=True)
            write(staging, source, seed, 0, progress, codecs or {})
            if path.exists():
                path.rename(old)
            staging.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise GsnnError(f"cannot write the survey {path}: {sentence(error)}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return cls.open(path)

    @classmethod
    def _create_remote(
        cls, path: str, source: Source, seed: int, overwrite: bool, codecs: Any, progress: Any
    ) -> Survey:
        """In an object store nothing is renamed: a survey is there once its manifest is, which is written last."""
        there = stores.is_survey(path)
        if there and not overwrite:
            raise GsnnError(f"{path} exists already; choose another --out, or remove it first")
        with reading(f"cannot write the survey {path}"):
            write(path, source, seed, 0, progress, codecs, mode="overwrite" if there else "create")
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> Survey:
        """An existing survey; one sentence if it is missing or damaged."""
        path = str(path)
        if not stores.is_survey(path):
            raise GsnnError(f"{path} is not a survey; make one with `gsnn ingest PATH --out SURVEY`")
        with reading(f"the survey {path} is damaged", "; ingest its files again, or restore the folder from a copy"):
            stored = stores.dataset(path).schema
            schema = Schema.from_arrow(stored)
            if stored.metadata.get(SEAL) != seal(stored.metadata[b"gsnn"]):
                raise ValueError("its schema does not match its digest")
        return cls(path, schema)

    def append(self, source: Source, *, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> Survey:
        """Add rows of the same schema at the end; existing rows keep their numbers.

        Rows whose id stands in the survey already are set aside: the same file twice adds nothing; and so are light
        curves with an observation in a band that the survey does not have.
        """
        source = in_bands(source, self.schema)
        difference = self.schema.difference(source.schema()) or source.schema().difference(self.schema)
        if difference:
            raise GsnnError(f"these data do not fit the survey {self.path}: {difference}")
        for mine in self.schema.of_kind("label"):
            strange = [name for name in source.schema()[mine.name].classes if name not in mine.classes]
            if strange:
                raise GsnnError(
                    f"these data do not fit the survey {self.path}: column {mine.name!r} has the class {strange[0]!r}, "
                    f"which the survey does not know ({', '.join(mine.classes)}); ingest all files together"
                )
        codecs, first = {c.name: c.codec for c in self.schema.columns if c.codec}, len(Survey.open(self.path))
        try:
            write(self.path, Unseen(source, self._ids()), seed, first, progress, codecs, mode="append")
        except OSError as error:
            raise GsnnError(f"cannot append to the survey {self.path}: {sentence(error)}") from error
        return Survey.open(self.path)

    # ------------------------------------------------------------------ reading

    @property
    def dataset(self) -> Any:
        with reading(f"cannot read the survey {self.path}"):
            return stores.dataset(self.path)

    def __len__(self) -> int:
        dataset = self.dataset
        with reading(f"cannot read the survey {self.path}"):
            return dataset.count_rows()

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that change with any row or column."""
        digest = hashlib.blake2b(self.schema.select(self._stored()).to_json().encode(), digest_size=8)
        with reading(f"cannot read the survey {self.path}"):
            for batch in self.dataset.to_batches(columns=[CHECKSUM]):
                digest.update(batch.column(0).to_numpy())
        return digest.hexdigest()

    def _ids(self) -> Iterator[list[str]]:
        with reading(f"cannot read the survey {self.path}"):
            for batch in Survey.open(self.path).dataset.to_batches(columns=["id"], batch_size=1 << 16):
                yield batch.column(0).to_pylist()

    def _stored(self) -> list[str]:
        return [name for name in self.schema if name not in self.derived]

    def derive(self, expressions: Mapping[str, str]) -> Survey:
        """The survey with columns computed by SQL (Lance evaluates them; nothing of Python is executed)."""
        schema = self.schema
        for name, expression in expressions.items():
            if name in self.schema:
                raise GsnnError(f"the derived column {name!r} exists in the survey already; give it another name")
            with understanding(f"cannot compute {name} = {expression!r}", self.schema):
                probe = self.dataset.scanner(columns={name: expression}, limit=1).to_table()
            if not (pa.types.is_floating(probe.schema[0].type) or pa.types.is_integer(probe.schema[0].type)):
                raise GsnnError(f"{name} = {expression!r} gives {probe.schema[0].type}; a derived column is a number")
            schema = schema.with_column(Column(name, "scalar", dtype="float64", description=expression))
        return replace(self, schema=schema, derived={**self.derived, **expressions})

    def label(self, name: str, classes: Mapping[str, str] | None = None) -> Survey:
        """The survey with ``name`` read as a class; ``classes`` gives names to values (``{"1": "pulsar"}``)."""
        column = self.schema.column(name)
        if column.kind in (*DENSE, *UNEQUAL) or column.shape:
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
            raise ConfigError(
                f"names {strange[0]!r}, which column {name!r} never holds: {', '.join(values)}", ("data", "classes")
            )
        mapped = tuple(dict.fromkeys(names.get(value, value) for value in (names or values)))
        mapped += tuple(value for value in values if names.get(value, value) not in mapped)
        mapping = {value: names.get(value, value) for value in values}
        new = replace(column, kind="label", classes=mapped, dtype="int64", unit="")
        return replace(self, schema=self.schema.with_column(new), relabelled={**self.relabelled, name: mapping})

    def _values(self, name: str) -> tuple[str, ...]:
        table = self.dataset.scanner(columns={name: self.derived.get(name, f"`{name}`")}).to_table()
        values = pc.unique(table.column(0)).drop_null().to_pylist()
        return tuple(as_text(value) for value in sorted(v for v in values if v == v and v != ""))

    def where(self, condition: str | None) -> Int64[np.ndarray, " n"]:
        """Row numbers for which an SQL condition holds (``mag < 20 and z > 0.1``); all without one."""
        if not condition:
            return row_lists.arange(len(self))
        with understanding(f"cannot filter by {condition!r}", self.schema):
            out, filled = row_lists.empty(self.dataset.count_rows(filter=condition)), 0
            for batch in self.dataset.to_batches(columns=[ROW], filter=condition, scan_in_order=True):
                out[filled : filled + batch.num_rows] = batch.column(0).to_numpy()
                filled += batch.num_rows
        return out

    def cone(self, ra: float, dec: float, radius_arcsec: float) -> Int64[np.ndarray, " n"]:
        """Row numbers within ``radius_arcsec`` of a position in ICRS degrees, the nearest first."""
        from .sky import cone

        return cone(self, ra, dec, radius_arcsec)[0]

    def to_parquet(self, out: str | Path, rows: Int64[np.ndarray, " n"] | None = None) -> int:
        """Write (some) objects as one Parquet file with kinds and units; how many they are."""
        from .export import to_parquet

        return to_parquet(self, out, rows)

    def to_hats(self, out: str | Path, rows: Int64[np.ndarray, " n"] | None = None) -> int:
        """Write (some) objects as a HATS catalogue; how many they are (those without a position are left out)."""
        from .export import to_hats

        return to_hats(self, out, rows)

    def view(self, rows: Int64[np.ndarray, " n"] | None = None) -> View:
        return View(self, row_lists.arange(len(self)) if rows is None else rows)

    def lengths(self, rows: Int64[np.ndarray, " n"], name: str) -> Int64[np.ndarray, " n"]:
        """Observations of the light curves ``name``, or points of the graphs, of some rows."""
        column, out = self.schema.column(name), row_lists.empty(len(rows))
        part, width = ("position", column.size) if column.kind == "graph" else ("time", 1)
        for some in row_lists.chunks(len(rows)):
            with reading(f"cannot read the survey {self.path}"):
                values = self.dataset.take(np.asarray(rows[some], np.int64), columns=[f"{name}.{part}"]).column(0)
            values = values.combine_chunks()
            values = values.field(part) if pa.types.is_struct(values.type) else values
            out[some] = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False) // width
        return out

    def take(self, rows: Int64[np.ndarray, " n"], names: Sequence[str]) -> dict[str, np.ndarray]:
        """Decoded columns of some rows, in that order: arrays, :class:`LightCurves` and (of graphs) :class:`Points`."""
        table = self.arrow(rows, names)
        return {name: self._decode(name, table.column(name)) for name in names}

    def arrow(self, rows: Int64[np.ndarray, " n"], names: Sequence[str]) -> pa.Table:
        """Columns of some rows as they are stored."""
        for name in names:
            if name not in (ROW, CHECKSUM, HEALPIX):
                self.schema.column(name)
        rows = np.asarray(rows, dtype=np.int64)
        wanted = {name: self.derived.get(name, f"`{name}`") for name in names}
        plain = list(names) if not any(name in self.derived for name in names) else wanted
        help = f"; `gsnn survey {self.path} --verify` tells which rows are damaged"
        with reading(f"cannot read the survey {self.path}", help):
            if len(rows) and len(rows) == rows[-1] - rows[0] + 1 and (np.diff(rows) == 1).all():
                return self.dataset.scanner(columns=plain, offset=int(rows[0]), limit=len(rows)).to_table()
            return self.dataset.take(rows, columns=plain)

    def _decode(self, name: str, column: pa.ChunkedArray) -> np.ndarray:
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # one chunk: no copy
        if name in self.schema and self.schema[name].codec:
            return codec.decode(column, self.schema[name])
        kind = self.schema[name].kind if name in self.schema else "scalar"
        if kind == "label":
            classes = list(self.schema[name].classes)
            if name in self.relabelled:
                mapping = self.relabelled[name]
                column = pa.array(
                    [None if v is None else mapping.get(as_text(v)) for v in column.to_pylist()], pa.string()
                )
            codes = pc.index_in(column, pa.array(classes, pa.string()))
            return codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        if kind in ("id", "text"):
            return np.array(column.to_pylist(), dtype=object)
        if kind == "light_curve":
            return LightCurves.from_arrow(column)
        if kind == "graph":
            return Points.from_arrow(column, self.schema[name].size, len(self.schema[name].bands))
        values = numpy_of(column)
        if name not in self.schema:
            return values
        if kind not in DENSE and not np.issubdtype(values.dtype, np.floating):
            values = values.astype(
                np.float64
            )  # whole numbers too: one type, whether or not values are missing among them
        return values.reshape(len(values), *self.schema[name].shape)

    # ------------------------------------------------------------------ trust

    def quarantined(self) -> list[dict[str, str]]:
        """The rows that could not be used: id and reason."""
        name = "quarantine.lance"
        return stores.dataset(self.path, name).to_table().to_pylist() if stores.is_survey(self.path, name) else []

    def verify(self, progress: Callable[[int, int], None] | None = None) -> list[int]:
        """Row numbers whose values no longer match their checksum; a GsnnError where a file cannot be read at all, or
        has changed without any row showing it.
        """
        changed = changed_files(self.path)
        if not changed:
            return self.scan(progress)
        bad = rows_apart(self.path)
        if not bad:
            raise GsnnError(
                f"the survey {self.path} is damaged: {changed[0]} is not as it was written, though every row matches "
                "its checksum; ingest its files again, or restore the folder from a copy"
            )
        return bad

    def scan(self, progress: Callable[[int, int], None] | None = None) -> list[int]:
        """Compare every row with its checksum."""
        names, bad, total, done = self._stored(), [], len(self), 0
        own = [CHECKSUM, ROW, *([HEALPIX] if HEALPIX in self.dataset.schema.names else [])]
        with reading(f"the survey {self.path} is damaged and cannot be read"):
            for batch in self.dataset.to_batches(columns=[*names, *own], batch_size=2048, scan_in_order=True):
                rows = np.arange(done, done + batch.num_rows)
                wrong = checksums(batch, names) != numpy_of(batch.column(CHECKSUM))
                wrong |= numpy_of(batch.column(ROW)) != rows
                if HEALPIX in own:
                    pixels = healpix(numpy_of(batch.column("ra")), numpy_of(batch.column("dec")))
                    wrong |= numpy_of(batch.column(HEALPIX)) != pixels
                bad += rows[wrong].tolist()
                done += batch.num_rows
                if progress:
                    progress(done, total)
        return bad


@dataclass(frozen=True)
class View:
    """Some rows of a survey, in an order: what splits, streams, baselines and audits look at."""

    survey: Survey
    rows: Int64[np.ndarray, " n"]

    def __repr__(self) -> str:
        return f"View({len(self):,} objects of {self.survey.path!r})"

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def schema(self) -> Schema:
        return self.survey.schema

    def columns(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Decoded: images [n, band, y, x], scalars [n] (NaN = missing), labels [n] (class index, -1 = unknown).

        Light curves are :class:`~gsnn.data.light_curves.LightCurves`.
        """
        return self.survey.take(self.rows, names)

    def chunks(self, names: Sequence[str], size: int = 2048) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(self), size):
            yield self.survey.take(self.rows[start : start + size], names)

    def take(self, positions: np.ndarray) -> View:
        return View(self.survey, self.rows[np.asarray(positions)])
