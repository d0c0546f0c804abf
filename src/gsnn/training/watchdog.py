"""A thread that notices when a training hangs: it writes down where all threads are, and ends the process.

The processes agree once a step, and once a batch of a validation; where that has not happened for long, one of them
hangs and the others wait for it. Each leaves the stacks of all its threads in ``hang-<rank>.txt``, the first that can
says one sentence, and all end, so that the agent starts them again from the last checkpoint.
"""

from __future__ import annotations

import faulthandler
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import GsnnError
from .parallel import Parallel

HANG_SECONDS = 600.0  # or what GSNN_HANG says
STEPS = 20.0  # times the median step: what is slow does not hang
HUNG = 75  # exit status


def limit() -> float:
    """Seconds without a step that count as a hang, at least."""
    given = os.environ.get("GSNN_HANG", str(HANG_SECONDS))
    try:
        found = float(given)
    except ValueError:
        found = 0.0
    if not found > 0:
        raise GsnnError(f"GSNN_HANG={given!r} must be a number of seconds, such as {HANG_SECONDS:g}")
    return found


@contextmanager
def watch(parallel: Parallel, folder: Path) -> Iterator[None]:
    """Within, this process ends with status HUNG when the training hangs. It is watched from its first step on."""
    done, patience = threading.Event(), limit()
    if parallel.world > 1:
        dog = threading.Thread(
            target=_watch, args=[parallel, folder, patience, done], name="gsnn-watchdog", daemon=True
        )
        dog.start()
    try:
        yield
    finally:
        done.set()
        if parallel.world > 1:
            dog.join()


def _watch(parallel: Parallel, folder: Path, least: float, done: threading.Event) -> None:
    look = min(least / 10, 1.0)
    folder.mkdir(parents=True, exist_ok=True)
    held = folder / f".held-{parallel.rank}.txt"  # written where no thread of Python can run any more
    if held.exists() and held.stat().st_size:
        held.replace(_path(folder, parallel.rank))
    with open(held, "wb") as file:
        try:
            while not done.wait(look):
                if not parallel.pace:
                    continue
                patience = max(least, STEPS * statistics.median(parallel.pace.copy()))
                faulthandler.dump_traceback_later(patience + 10 * look, exit=True, file=file)
                if time.monotonic() - parallel.agreed > patience:
                    _end(parallel, folder, 5 * look)
        finally:
            faulthandler.cancel_dump_traceback_later()
            held.unlink(missing_ok=True)


def _end(parallel: Parallel, folder: Path, wait: float) -> None:
    """Write the stacks, let the others do so, say the sentence unless one before will, and end."""
    rank, since = parallel.rank, time.time() - (time.monotonic() - parallel.agreed)
    path = _path(folder, rank)
    with open(path, "w") as file:
        faulthandler.dump_traceback(file, all_threads=True)
    time.sleep(wait)
    others = (_path(folder, other) for other in range(rank))
    if not any(other.exists() and other.stat().st_mtime > since for other in others):
        print(
            f"gsnn: the training hangs: no step for {time.time() - since:.0f} s (a step takes "
            f"{statistics.median(parallel.pace):.2g} s); where each process was stands in {folder}/hang-*.txt; "
            "starting again from the last checkpoint",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    os._exit(HUNG)


def _path(folder: Path, rank: int) -> Path:
    return folder / f"hang-{rank}.txt"
