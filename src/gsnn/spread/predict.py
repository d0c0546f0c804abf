"""Predictions of a whole survey: each fragment a Parquet part, in the end a folder of parts or one file."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from .. import __version__
from ..data.bands import in_bands
from ..data.stores import absolute, is_survey
from ..data.survey import Survey
from ..errors import GsnnError, on_disk
from ..predict import BATCH, compatible, predict_view, table_of
from ..progress import Progress
from ..run import Run
from ..steps.data import shaped, source_for
from ..training.runtime import Runtime
from ..use import PIECE, unread
from . import fragments
from .engines import Result, Task, engine, fits, here, sees
from .fragments import MANIFEST, Record

_KEY = b"gsnn.manifest"  # in the metadata of one file: what its predictions belong to


def predict(
    run: Run,
    data: Any,
    out: str | Path,
    *,
    nproc: int | None = None,
    dask: str | None = None,
    fragment: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Predictions for every row of ``data`` into ``out``: a Parquet file if its name ends so, else a folder of parts.

    ``nproc`` processes of this machine share the work, or the workers of the Dask scheduler at ``dask``, which must see
    the same folders. ``fragment`` objects are a task (rounded up to whole batches). The same call again does what is
    missing or damaged. On one kind of processor the numbers depend neither on who did the work nor on how it was cut.

    Returns the manifest of the result: its ``objects``, how many are ``flagged``, and what they ``belong`` to.
    """
    progress, team = progress or Progress(), engine(nproc, dask)
    out, work = Path(out).absolute(), fragments.workshop(out)
    if fragment is not None and fragment < 1:
        raise GsnnError(f"--fragment {fragment} must be at least 1")
    with on_disk(f"write {out}"), fragments.alone(work):
        survey = _survey(run, data, work, progress)
        compatible(run.model, shaped(run.study, survey, target=False).view())
        belongs = _belongs(run, survey)
        if (manifest := _finished(out, work, belongs)) is None:
            size = _batches(min(PIECE, -(-len(survey) // 64)))
            size = fragments.begin(work, belongs, fragment and _batches(fragment), size)
            tasks = _tasks(run, survey, work, size, belongs["run"])
            manifest = _worked(survey, tasks, team, work, progress)
            manifest = {"belongs": belongs, "fragment": size, **manifest}
            (_one_file if out.suffix == ".parquet" else _folder)(out, work, manifest)
        shutil.rmtree(work, ignore_errors=True)
        return manifest


def _batches(objects: int) -> int:
    """Rounded up to whole batches, so that each object is in the batch in which one process has it."""
    return -(-objects // BATCH) * BATCH


def _survey(run: Run, data: Any, work: Path, progress: Progress) -> Survey:
    """The data as a survey that workers can open; files are read anew each time, since they may have changed."""
    if isinstance(data, Survey) or is_survey(data):
        return Survey.open(data.path if isinstance(data, Survey) else data)
    at = lambda done, total: progress.at("reading", done, total)  # noqa: E731
    return Survey.create(
        work / "survey", in_bands(source_for(run.study, data), run.model.inputs), overwrite=True, progress=at
    )


def _belongs(run: Run, survey: Survey) -> dict[str, Any]:
    aside = json.dumps(survey.quarantined())
    data = f"{survey.digest}-{hashlib.blake2b(aside.encode(), digest_size=8).hexdigest()}"
    return {"what": "predictions", "run": _weights(run), "data": data, "version": __version__}


def _weights(run: Run) -> str:
    """A digest of the network and of the columns that are computed for it."""
    model = run.path / "fits/main/model"
    run.model  # noqa: B018  one sentence where it is missing or damaged
    derived = hashlib.blake2b(json.dumps(dict(run.study.data.derive)).encode(), digest_size=4).hexdigest()
    return f"{fragments.digest(model / 'model.toml', model / 'model.safetensors')}-{derived}"


def _tasks(run: Run, survey: Survey, work: Path, size: int, weights: str) -> list[Task]:
    """A task a fragment: first those of the objects, then those of the rows that were set aside."""
    objects, aside = len(survey), len(survey.quarantined())
    cuts = fragments.ranges(objects, size)
    cuts += [(objects + start, objects + stop) for start, stop in fragments.ranges(aside, size)]
    common = {
        "run": str(run.path.absolute()), "weights": weights, "trust": run.trust, "version": __version__,
        "survey": absolute(survey.path), "objects": objects, "work": str(work),
    }  # fmt: skip
    return [{"number": k, "start": start, "stop": stop, **common} for k, (start, stop) in enumerate(cuts)]


def _worked(survey: Survey, tasks: list[Task], team: Any, work: Path, progress: Progress) -> dict[str, Any]:
    """Do what is not done yet, and see that every row is answered exactly once."""
    total = tasks[-1]["stop"]
    done = fragments.records(work, len(tasks), lambda record: _whole(work, record))
    missing = [task for task in tasks if task["number"] not in done]
    read = [task for task in missing if task["start"] < task["objects"]]
    for who, some in ((team, read), (here, missing[len(read) :])):  # rows set aside take a part's columns
        done |= fragments.carry_out(work, who, part, some, total, "predicting", progress)
    parts = [done[task["number"]] for task in tasks]
    _once(survey, work, parts, total)
    return {"objects": total, "flagged": sum(one["flagged"] for one in parts), "parts": parts}


# ------------------------------------------------------------------ on a worker


def part(task: Task) -> Result:
    """Write the part of one fragment; rows behind the last object are those that were set aside."""
    fits(task)
    work, start, stop = sees(task["work"]), task["start"], task["stop"]
    with on_disk(f"write {work}"):
        if start < task["objects"]:
            run = _run(task["run"], task["weights"], task["trust"])
            view = shaped(run.study, Survey.open(task["survey"]), target=False).view(np.arange(start, stop))
            found, distance = predict_view(run.model, view, _alone_on_its_device(run.runtime))
            table = table_of(found, view, run.model, distance)
        else:
            first, last = start - task["objects"], stop - task["objects"]
            aside = Survey.open(task["survey"]).quarantined()[first:last]
            table = unread(aside, pq.read_schema(work / "part-000000.parquet"))
        name = f"part-{task['number']:06d}.parquet"
        partial = work / f".{name}.{uuid.uuid4().hex}"
        try:
            pq.write_table(table, partial)
            found, flagged = fragments.digest(partial), sum(1 for flag in table.column("flag").to_pylist() if flag)
            partial.rename(work / name)
        finally:
            partial.unlink(missing_ok=True)
    return {"file": name, "digest": found, "flagged": flagged}


@lru_cache(maxsize=2)
def _run(path: str, weights: str, trust: bool) -> Run:
    """The run, opened once by a worker and not for every fragment."""
    run = Run(sees(path), trust=trust)
    if _weights(run) != weights:
        raise GsnnError(f"the network of {path} was changed while it predicted; type the same line again")
    return run


def _alone_on_its_device(runtime: Runtime) -> Runtime:
    """One thread, so that results do not depend on the machine's cores; GPUs are dealt out among the processes."""
    import torch

    if runtime.device == "cuda" and torch.cuda.device_count() > 1:
        number = multiprocessing.current_process().name.rpartition("-")[2]
        one = int(number) if number.isdigit() else 0
        runtime = replace(runtime, device=f"cuda:{one % torch.cuda.device_count()}")
    return replace(runtime, threads=1)


# ------------------------------------------------------------------ the result


def _whole(folder: Path, record: Record) -> bool:
    file = folder / record["file"]
    return file.is_file() and fragments.digest(file) == record["digest"]


def _once(survey: Survey, work: Path, parts: Sequence[Record], total: int) -> None:
    """Every row of the survey, and every row set aside, is in the parts exactly once."""
    objects, aside, at = len(survey), [row["id"] for row in survey.quarantined()], 0

    def ids(start: int, stop: int) -> list[str]:
        if start >= objects:
            return aside[start - objects : stop - objects]
        return survey.take(np.arange(start, stop), ["id"])["id"].tolist()

    for one in parts:
        given = pq.read_table(work / one["file"], columns=["id"]).column("id").to_pylist()
        if one["start"] != at or given != ids(one["start"], one["stop"]):
            raise GsnnError(
                f"{work / one['file']} does not hold objects {at:,} to {one['stop'] - 1:,} of the survey, each once; "
                f"did the survey change meanwhile? remove {work} and type the same line again"
            )
        at = one["stop"]
    if at != total:
        raise GsnnError(f"{work} holds {at:,} of {total:,} objects; type the same line again")


def _finished(out: Path, work: Path, belongs: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of a result that stands there whole; what is whole of a damaged one goes back to the workshop."""
    if out.suffix == ".parquet" and out.is_file():
        try:
            stored = json.loads((pq.read_schema(out).metadata or {}).get(_KEY, b"null"))
        except (OSError, ValueError):
            stored = None
        fragments.belonging(out, belongs, stored, out)
        return stored
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    manifest = fragments.read_json(out / MANIFEST) if out.is_dir() else None
    fragments.belonging(out, belongs, manifest, out)
    whole = [k for k, one in enumerate(manifest["parts"]) if _whole(out, one)]
    if len(whole) == len(manifest["parts"]):
        return manifest
    fragments.begin(work, belongs, None, manifest["fragment"])
    for k in whole:
        one = manifest["parts"][k]
        fragments.write_json(work / fragments.record_name(k), one)
        (out / one["file"]).rename(work / one["file"])
    shutil.rmtree(out)
    return None


def _folder(out: Path, work: Path, manifest: dict[str, Any]) -> None:
    """The workshop itself becomes the result, and is first cleared of all else."""
    keep = {one["file"] for one in manifest["parts"]}
    fragments.write_json(work / MANIFEST, manifest)
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in keep and path.name != MANIFEST:
            path.unlink()
    work.rename(out)


def _one_file(out: Path, work: Path, manifest: dict[str, Any]) -> None:
    """The parts one after the other."""
    about = {key: value for key, value in manifest.items() if key != "parts"}
    schema = pq.read_schema(work / manifest["parts"][0]["file"])
    schema = schema.with_metadata({**(schema.metadata or {}), _KEY: json.dumps(about)})
    with pq.ParquetWriter(work / "whole", schema) as writer:
        for one in manifest["parts"]:
            writer.write_table(pq.read_table(work / one["file"]).cast(schema))
    (work / "whole").rename(out)
