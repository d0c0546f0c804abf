"""What is done of a survey-wide work, and what is not: a folder beside the result, in which its parts grow.

``.NAME.parts`` beside ``NAME`` holds ``_manifest.json`` (what the parts belong to, and the objects of a fragment), the
parts, and for each one that is finished a record ``000012.json`` with its digest. When every part is there, the folder
becomes the result; so readers see all of it or nothing, and whoever was killed goes on from the records.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.stores import is_remote
from ..errors import GsnnError
from ..progress import Progress
from .engines import Call, Engine, Task

MANIFEST = "_manifest.json"
Record = dict[str, Any]
_OTHERS = {  # what a manifest says, and what it is called where it differs
    "what": "other work",
    "run": "another run",
    "data": "other data",
    "settings": "other settings",
    "version": "another version of GSNN",
}


def ranges(total: int, size: int) -> list[tuple[int, int]]:
    """The fragments of ``total`` objects: start and stop of each."""
    return [(start, min(start + size, total)) for start in range(0, total, size)]


def digest(*paths: Path) -> str:
    """16 hexadecimal digits of the bytes of files."""
    found = hashlib.blake2b(digest_size=8)
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    return found.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all, also after a power cut."""
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def read_json(path: Path) -> Any:
    """What a file of JSON holds; None if it is not there or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def workshop(out: str | Path) -> Path:
    """Where the parts of ``out`` grow: beside it, or in this folder if it lies in an object store."""
    name = str(out).rstrip("/").rsplit("/", 1)[-1]
    beside = Path.cwd() if is_remote(out) else Path(out).absolute().parent
    return beside / f".{name}.parts"


@contextlib.contextmanager
def alone(work: Path) -> Iterator[None]:
    """The workshop, made if need be; one process at a time cuts work there."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise GsnnError(f"another process is working in {work}; wait for it, or choose another --out") from None
        try:
            yield
        finally:
            if not any(work.glob("[0-9]*.json")) and "parts" not in (read_json(work / MANIFEST) or {}):
                shutil.rmtree(work, ignore_errors=True)  # nothing was done yet


def belonging(folder: Path, belongs: Mapping[str, Any], manifest: Any, remove: Path) -> None:
    """Refuse parts that belong to something else, saying to what."""
    if not isinstance(manifest, dict) or "belongs" not in manifest:
        raise GsnnError(f"{folder} exists and does not say what it belongs to; choose another --out, or remove it")
    theirs, mine = manifest["belongs"], json.loads(json.dumps(belongs))
    other = [name for key, name in _OTHERS.items() if theirs.get(key) != mine.get(key)]
    if other:
        raise GsnnError(f"{folder} belongs to {' and '.join(other)}; choose another --out, or remove {remove}")


def begin(work: Path, belongs: Mapping[str, Any], size: int | None, default: int) -> int:
    """The objects of a fragment: those of the work that was begun there, else ``size`` or the default."""
    manifest = read_json(work / MANIFEST)
    if manifest is None:
        manifest = {"belongs": dict(belongs), "fragment": size or default}
        write_json(work / MANIFEST, manifest)
    belonging(work, belongs, manifest, work)
    if size is not None and size != manifest["fragment"]:
        raise GsnnError(
            f"this work was begun with --fragment {manifest['fragment']}; leave --fragment out to go on, "
            f"or remove {work} to begin anew"
        )
    return manifest["fragment"]


def record_name(number: int) -> str:
    return f"{number:06d}.json"


def records(work: Path, count: int, whole: Callable[[Record], bool]) -> dict[int, Record]:
    """The finished fragments; those whose parts are damaged or gone are not among them."""
    assembled = (read_json(work / MANIFEST) or {}).get("parts", [])  # by whoever was killed while it became the result
    found = {k: read_json(work / record_name(k)) or (assembled[k] if assembled else None) for k in range(count)}
    return {k: record for k, record in found.items() if record is not None and whole(record)}


def carry_out(
    work: Path,
    engine: Engine,
    call: Call,
    tasks: Sequence[Task],
    total: int,
    label: str,
    progress: Progress,
) -> Iterator[tuple[int, Record]]:
    """Do the tasks of some fragments, write a record of each as it is done, and yield it."""
    done = total - sum(task["stop"] - task["start"] for task in tasks)
    progress.at(label, done, total)
    for task, result in engine(call, tasks):
        k, record = task["number"], {"start": task["start"], "stop": task["stop"], **result}
        write_json(work / record_name(k), record)
        done += task["stop"] - task["start"]
        progress.at(label, done, total)
        yield k, record
    progress.done()
