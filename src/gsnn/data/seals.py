"""Digests of the files of a survey, in ``digests.json`` beside them.

Checksums of rows tell which values are damaged once they are read; but a flipped bit in what Lance writes around them
may change nothing, or stop the process that reads (an allocation of a petabyte, say). So files are compared first, and
where one has changed the rows are read by a process of their own. Surveys in object stores, which keep digests of
their own, have none.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..errors import GsnnError
from .stores import is_remote

NAME = "digests.json"
_FIXED = (".lance", ".manifest", ".txn")  # files that Lance writes once


def seal_files(folder: str | Path) -> None:
    """Add the digests of files that have none yet; Lance never changes a file that it has written."""
    if is_remote(folder):
        return
    folder = Path(folder)
    known = _known(folder)
    there = (str(p.relative_to(folder)) for p in sorted(folder.glob("*.lance/*/*")) if p.suffix in _FIXED)
    digests = {name: known.get(name) or _digest(folder / name) for name in there}
    partial = folder / f".{NAME}.partial"
    partial.write_text(json.dumps(digests, indent=1) + "\n")
    os.replace(partial, folder / NAME)


def changed_files(folder: str | Path) -> list[str]:
    """The files that are not as they were written."""
    if is_remote(folder):
        return []
    folder = Path(folder)
    return [n for n, digest in _known(folder).items() if (folder / n).is_file() and _digest(folder / n) != digest]


def rows_apart(path: str) -> list[int]:
    """Rows that do not match their checksum, looked for by a process that may die of what it reads."""
    command = [sys.executable, "-c", "import sys; from gsnn.data.seals import main; main(sys.argv[1])", path]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RUST_BACKTRACE": "0"})
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        found = f"the survey {path} is damaged and cannot be read"
    if isinstance(found, str):
        raise GsnnError(found)
    return found


def main(path: str) -> None:
    from .survey import Survey

    try:
        answer: Any = Survey.open(path).scan()
    except GsnnError as error:
        answer = str(error)
    print(json.dumps(answer))


def _known(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / NAME).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise GsnnError(f"{folder / NAME} is damaged; remove it, and the rows are still checked one by one") from error
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise GsnnError(f"{folder / NAME} is damaged; remove it, and the rows are still checked one by one")
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
