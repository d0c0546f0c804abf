"""Files become a survey, each fragment of their rows a fragment of the Lance dataset; in the end one commit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .. import __version__
from ..data.readers.detect import find
from ..data.source import Source
from ..data.stores import dataset, inside, is_remote, is_survey, options
from ..data.survey import Survey
from ..data.writing import ROW, Stored, lance, none_usable, write_quarantine
from ..errors import GsnnError, on_disk
from ..progress import Progress
from . import fragments
from .engines import AGAIN, Engine, Result, Task, engine, fits, sees
from .fragments import Record

_BLOCKS = 4  # of 64 MiB or 65,536 rows: the largest fragment, since a worker holds one in memory
_TABLES = ("labels", "catalogue", "observations")  # settings that name files
_ASIDE = pa.schema([("id", pa.string()), ("reason", pa.string())])


def source_of(
    paths: Sequence[str],
    labels: str | None = None,
    on: str | None = None,
    catalogue: str | None = None,
    size: int | None = None,
    crop: int | None = None,
    missing: Sequence[float] | None = None,
    observations: str | None = None,
    light_curve: Mapping[str, Any] | None = None,
    names: Sequence[str] | None = None,
) -> Source:
    """What ``gsnn ingest`` reads: files (:func:`gsnn.read`), or cut-outs of them around the rows of a catalogue."""
    one = paths[0] if len(paths) == 1 else list(paths)
    if catalogue is not None:
        from ..data.cutouts import cutouts

        if size is None:
            raise GsnnError("--cutouts needs --size PIXELS")
        return cutouts(one, catalogue, size=size)
    from ..data.readers import read

    return read(
        one,
        labels=labels,
        observations=observations,
        on=on or "id",
        light_curve=light_curve,
        names=names,
        size=size,
        crop=crop,
        missing=missing,
    )


def ingest(
    paths: Sequence[str],
    out: str | Path,
    *,
    labels: str | None = None,
    on: str | None = None,
    catalogue: str | None = None,
    size: int | None = None,
    crop: int | None = None,
    missing: Sequence[float] | None = None,
    observations: str | None = None,
    light_curve: Mapping[str, Any] | None = None,
    names: Sequence[str] | None = None,
    codecs: Mapping[str, str] | None = None,
    nproc: int | None = None,
    dask: str | None = None,
    fragment: int | None = None,
    progress: Progress | None = None,
) -> Survey:
    """The survey that :meth:`Survey.create` makes of these files, row for row and bit for bit, by many workers.

    ``nproc`` processes of this machine share the work, or the workers of the Dask scheduler at ``dask``, which must see
    the same files. ``fragment`` rows are a task. The same call again does what is missing or damaged.
    """
    progress, team = progress or Progress(), engine(nproc, dask)
    if fragment is not None and fragment < 1:
        raise GsnnError(f"--fragment {fragment} must be at least 1")
    if is_survey(out) or (not is_remote(out) and Path(out).exists()):
        raise GsnnError(f"{out} exists already; choose another --out, or remove it first")
    given = {"labels": labels, "on": on, "catalogue": catalogue, "size": size, "crop": crop, "missing": missing}
    given |= {"observations": observations, "light_curve": light_curve, "names": names}
    source = source_of(paths, **given)
    if len(source) == 0:
        raise GsnnError("the data hold no rows, so there is nothing to make a survey of")
    spec = {**given, "paths": [_anywhere(p) for p in paths], "codecs": dict(codecs or {})}
    spec |= {name: given[name] and _anywhere(str(given[name])) for name in _TABLES}
    layout, files, work = Stored.of(source.schema(), codecs or {}), _files(spec), fragments.workshop(out)
    belongs = {"what": "a survey", "data": files, "settings": spec, "version": __version__}
    with on_disk(f"write {out}"), fragments.alone(work):
        store = str(out).rstrip("/") if is_remote(out) else str(work / "survey")
        for begun in ("_versions", "_transactions"):  # of a commit that was killed before the folder became the survey
            shutil.rmtree(work / "survey" / "objects.lance" / begun, ignore_errors=True)
        rows = fragments.begin(work, belongs, fragment, _rows(layout, len(source)))
        common = {
            "spec": spec, "files": files, "columns": _columns(layout), "store": store, "work": str(work),
            "version": __version__,
        }  # fmt: skip
        cuts = fragments.ranges(len(source), rows)
        tasks = [{"number": k, "start": start, "stop": stop, **common} for k, (start, stop) in enumerate(cuts)]
        parts = _worked(tasks, team, work, store, layout, progress)
        _commit(parts, store, layout)
        if not is_remote(out):
            _once(store, parts)
            Path(store).rename(Path(out))
        shutil.rmtree(work)
    return Survey.open(out)


def _anywhere(path: str) -> str:
    """A path as other processes can use it; links are kept, since the names of files become ids."""
    return path if is_remote(path) else os.path.abspath(os.path.expanduser(path))


def _files(spec: Mapping[str, Any]) -> str:
    """A digest of the names, sizes and times of the files that are read."""
    named = [*spec["paths"], *(spec[name] for name in _TABLES if spec[name])]
    found = hashlib.blake2b(digest_size=8)
    for path in named:
        for file in [] if is_remote(path) else find(path)[0]:
            about = os.stat(file)
            found.update(f"{file} {about.st_size} {about.st_mtime_ns}\n".encode())
    return found.hexdigest()


def _columns(layout: Stored) -> str:
    text = json.dumps(layout.schema.to_dict()["columns"])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _rows(layout: Stored, total: int) -> int:
    """Rows of a fragment where nobody says: some 64 fragments, none too large for the memory of a worker."""
    return int(np.clip(-(-total // 64), 64, _BLOCKS * layout.block))


def _worked(
    tasks: list[Task], team: Engine, work: Path, store: str, layout: Stored, progress: Progress
) -> list[Record]:
    """Do what is not done yet. How many rows before a fragment are set aside, and so the number of its first row, is
    known once all were read; fragments that were numbered otherwise are then numbered anew (codecs read them again,
    since a row's number is in what they write)."""
    total = tasks[-1]["stop"]
    done = fragments.records(work, len(tasks), lambda record: _whole(store, record))
    for label in ("rows", "numbering"):
        good = [done[k]["rows"] if k in done else task["stop"] - task["start"] for k, task in enumerate(tasks)]
        firsts = [0, *accumulate(good)]
        if label == "rows":
            some = [{**task, "first": firsts[k], "old": None} for k, task in enumerate(tasks) if k not in done]
        else:
            some = [
                {**task, "first": firsts[k], "old": done[k]}
                for k, task in enumerate(tasks)
                if done[k]["first"] != firsts[k] and good[k]
            ]
        done |= fragments.carry_out(work, team, part, some, total, label, progress)
    if not sum(good):
        reasons = [reason for k in range(len(tasks)) for _, reason in done[k]["aside"]]
        shutil.rmtree(work)
        raise none_usable(total, reasons)
    return [done[k] for k in range(len(tasks))]


# ------------------------------------------------------------------ on a worker


def part(task: Task) -> Result:
    """Write the rows of one fragment as a file of the Lance dataset, which nobody sees before it is committed."""
    fits(task)
    store = task["store"]
    if not is_remote(store):
        sees(task["work"])
    source, layout = _opened(json.dumps(task["spec"]), task["files"], task["columns"])
    with on_disk(f"write {store}"):
        if task["old"] is not None and not any(c.codec for c in layout.schema.columns):
            batches, aside = [_numbered(store, task["old"], task["first"])], task["old"]["aside"]
        else:
            batches, aside = _read(source, layout, task["start"], task["stop"], task["first"])
        table = pa.Table.from_batches(batches, schema=layout.arrow)
        written = _write(store, table) if len(table) else None
        digest = _digest(store, written)
    return {"first": task["first"], "rows": len(table), "aside": aside, "fragment": written, "digest": digest}


@lru_cache(maxsize=1)
def _opened(spec: str, files: str, columns: str) -> tuple[Source, Stored]:
    """The source, opened once by a worker and not for every fragment."""
    settings = json.loads(spec)
    codecs, host = settings.pop("codecs"), socket.gethostname()
    if _files(settings) != files:
        raise GsnnError(f"the files have changed, or {host} sees others; when they rest, {AGAIN}")
    source = source_of(**settings)
    layout = Stored.of(source.schema(), codecs)
    if _columns(layout) != columns:
        raise GsnnError(f"{host} reads other columns from the files; install the same packages everywhere")
    return source, layout


def _read(
    source: Source, layout: Stored, start: int, stop: int, first: int
) -> tuple[list[pa.RecordBatch], list[list[str]]]:
    batches, aside = [], []
    for begin, end in fragments.ranges(stop - start, layout.block):
        batch, bad = layout.rows(source, start + begin, start + end, 0, first)
        first += batch.num_rows
        batches += [batch] if batch.num_rows else []
        aside += [] if bad is None else [[row["id"], row["reason"]] for row in bad.to_pylist()]
    return batches, aside


def _numbered(store: str, old: Record, first: int) -> pa.RecordBatch:
    """A fragment that was written already, with other row numbers; no file of the sky is read again."""
    from lance.file import LanceFileReader

    path = inside(store, f"objects.lance/data/{_data_file(old['fragment'])}")
    table = LanceFileReader(path, storage_options=options(store)).read_all(batch_size=1 << 16).to_table()
    numbers = pa.array(np.arange(first, first + len(table)))
    table = table.set_column(table.column_names.index(ROW), table.schema.field(ROW), numbers)
    return table.combine_chunks().to_batches()[0]


def _write(store: str, table: pa.Table) -> dict[str, Any]:
    from lance.fragment import write_fragments

    (written,) = write_fragments(
        table, inside(store, "objects.lance"), mode="create", max_rows_per_file=1 << 30, storage_options=options(store)
    )
    return written.to_json()


def _data_file(fragment: Mapping[str, Any]) -> str:
    (file,) = fragment["files"]
    return file["path"]


def _digest(store: str, fragment: Mapping[str, Any] | None) -> str:
    """Of the file in a folder; an object store keeps digests of its own."""
    if fragment is None or is_remote(store):
        return ""
    return fragments.digest(Path(store) / "objects.lance" / "data" / _data_file(fragment))


# ------------------------------------------------------------------ the result


def _whole(store: str, record: Record) -> bool:
    if record["fragment"] is None:
        return True
    if not is_remote(store):
        file = Path(store) / "objects.lance" / "data" / _data_file(record["fragment"])
        return file.is_file() and _digest(store, record["fragment"]) == record["digest"]
    from lance.file import LanceFileReader

    path = inside(store, f"objects.lance/data/{_data_file(record['fragment'])}")
    try:
        return LanceFileReader(path, storage_options=options(store)).metadata().num_rows == record["rows"]
    except Exception:  # whatever a store answers: it is written again
        return False


def _commit(parts: Sequence[Record], store: str, layout: Stored) -> None:
    """From here on there is a survey. What was set aside is written before, so that nobody sees it incomplete."""
    from lance.fragment import FragmentMetadata

    aside = [row for one in parts for row in one["aside"]]
    columns = [pa.array([row[i] for row in aside], pa.string()) for i in range(2)]
    write_quarantine(store, [pa.RecordBatch.from_arrays(columns, schema=_ASIDE)], "overwrite")
    written = [one["fragment"] for one in parts if one["fragment"] is not None]
    whole = [FragmentMetadata.from_json(json.dumps(one)) for one in written]
    lance().LanceDataset.commit(
        inside(store, "objects.lance"),
        lance().LanceOperation.Overwrite(layout.arrow, whole),
        storage_options=options(store),
    )
    if not is_remote(store):  # what killed workers wrote belongs to nothing
        kept = {_data_file(one) for one in written}
        for file in (Path(store) / "objects.lance" / "data").iterdir():
            if file.name not in kept:
                file.unlink()


def _once(store: str, parts: Sequence[Record]) -> None:
    """Every row of the source is in the survey, or set aside, exactly once."""
    at, aside, advice = 0, sum(len(one["aside"]) for one in parts), f"remove {Path(store).parent} and {AGAIN}"
    for batch in dataset(store).to_batches(columns=[ROW], scan_in_order=True):
        if not np.array_equal(batch.column(0).to_numpy(), np.arange(at, at + batch.num_rows)):
            raise GsnnError(f"rows are missing behind row {at}; {advice}")
        at += batch.num_rows
    if at + aside != parts[-1]["stop"]:
        raise GsnnError(f"{at} rows and {aside} that are set aside are not the {parts[-1]['stop']} there are; {advice}")
