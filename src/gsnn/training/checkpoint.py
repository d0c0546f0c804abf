"""Checkpoints of one process or of many, written while the training goes on, and read under any other layout.

    pending = save(directory, step, tensors, state)   # the pause: this process's pieces are copied to host memory
    ...                                               # a thread digests and writes them; the training goes on
    pending.wait()                                    # it stands on the disk, or a sentence says why not

    found = latest(directory)                         # the newest intact one, which all processes agree on
    found.load(tensors)                               # in place, whatever layout it was written under

Every process writes one file into a staging folder and leaves its digest there; the first process waits for all
digests, adds the manifest, syncs, and renames the folder. The threads never talk to each other by collectives: a
process that is killed at any moment leaves the checkpoint before untouched, and the others a sentence, not a hang.
All processes share the file system, and call ``save``, ``latest`` and ``load`` together.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import GsnnError
from . import storage
from .pieces import Plan, describe, local
from .restore import Checkpoint, latest, load
from .storage import MANIFEST, SCHEMA, SUMS
from .together import Died, Elsewhere, Gone, gather, place, report_failure, wait_for, whoami

__all__ = ["Checkpoint", "Pending", "latest", "load", "save"]

_last: dict[Path, Pending] = {}  # of each directory: what a next save waits for, and whose memory it uses again


class Pending:
    """A checkpoint on its way to the disk."""

    def __init__(self, step: int, staging: Path, keep: int, rank: int, processes: list[str], plan: Plan, state: str):
        self.step, self.staging, self.keep, self.rank = step, staging, keep, rank
        self.processes, self.plan, self.state = processes, plan, state
        self.path = staging.parent / f"step-{step:08d}"
        self.memory: Tensor | None = None
        self.error: GsnnError | None = None
        self.thread = threading.Thread(target=self._guarded, args=[self._write], name=f"checkpoint-{step}")

    def wait(self) -> Path:
        """Return once the checkpoint stands on the disk, and free the memory that its copy took.

        Raises GsnnError if it could not be written, by this process or by another.
        """
        try:
            return self._join()
        finally:
            self.memory = None
            if _last.get(self.staging.parent) is self:
                del _last[self.staging.parent]

    def _join(self) -> Path:
        self.thread.join()
        if self.error is None and self.rank:
            self._guarded(self._wait_for_first)
            if self.error is None and not self.path.exists():
                self.error = _failure(self.path, "another process has taken the folder away")
        if self.error is not None:
            raise self.error
        return self.path

    def _wait_for_first(self) -> None:
        wait_for(self.staging, lambda: [0] if self.staging.exists() else [], self.processes)

    @torch.no_grad()
    def _copy(self, tensors: dict[str, Tensor], before: Pending | None) -> None:
        """Copy this process's pieces to host memory, side by side as the file will have them."""
        pieces = self.plan.pieces[self.rank]
        size = sum(piece.bytes for piece in pieces)
        cuda = any(tensors[piece.name].is_cuda for piece in pieces)
        memory = None
        if before is not None:
            memory, before.memory = before.memory, None
        if memory is None or memory.numel() != size:  # else used again: fresh memory costs many times the copy
            memory = torch.empty(size, dtype=torch.uint8, pin_memory=cuda)
        for piece in pieces:
            room = memory[piece.start : piece.start + piece.bytes].view(piece.dtype)
            room.view(piece.box[1]).copy_(local(tensors[piece.name]), non_blocking=cuda)
        if cuda:
            torch.cuda.synchronize()
        self.memory = memory

    def _write(self) -> None:
        name, pieces = storage.file_name(self.rank), self.plan.pieces[self.rank]
        entries = [(piece.key, piece.dtype, piece.box[1]) for piece in pieces]
        line = storage.write_tensors(self.staging / name, entries, [self.memory])
        if self.rank:
            note = self.staging / f".{name}.sum"
            note.write_text(line)
            note.rename(self.staging / f"{name}.sum")
            return
        notes = {rank: self.staging / f"{storage.file_name(rank)}.sum" for rank in range(1, len(self.plan.pieces))}
        wait_for(self.staging, lambda: [rank for rank, note in notes.items() if not note.exists()], self.processes)
        lines = [line, *(note.read_text() for note in notes.values())]
        for note in notes.values():
            note.unlink()
        head = f'"schema": {SCHEMA}, "step": {self.step}, "files": {len(self.plan.pieces)}'
        text = f'{{{head}, "state": {self.state}, "tensors": {json.dumps(self.plan.index(), ensure_ascii=False)}}}\n'
        lines.append(storage.write_text(self.staging / MANIFEST, text))
        storage.write_text(self.staging / SUMS, "".join(lines))
        storage.sync(self.staging)
        storage.publish(self.staging, self.step, self.keep)

    def _guarded(self, call: Callable[[], None]) -> None:
        """Keep what goes wrong for who waits, let the other processes know, and free the disk."""
        kind = GsnnError
        try:
            call()
            return
        except Elsewhere as error:
            why, kind = str(error), Gone if isinstance(error, Died) else GsnnError
        except OSError as error:
            gone = isinstance(error, FileNotFoundError) and not self.staging.exists()
            why = "another process has taken the folder away" if gone else _full(error)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        self.error = _failure(self.path, why, kind)
        if len(self.plan.pieces) == 1:
            shutil.rmtree(self.staging, ignore_errors=True)
            return
        report_failure(self.staging, self.rank, why)
        for path in self.staging.glob("*.safetensors" if self.rank == 0 else storage.file_name(self.rank)):
            path.unlink(missing_ok=True)


def save(
    directory: Path,
    step: int,
    tensors: dict[str, Tensor],
    state: dict[str, Any],
    keep: int = 2,
    group: dist.ProcessGroup | None = None,
) -> Pending:
    """Begin to write a checkpoint; all but the newest ``keep`` are dropped once it stands. Waits for the one before.

    ``tensors`` may be plain or distributed; a plain one has the same value on every process that holds it, and not
    every process need hold every name. ``state`` is JSON, the same on all; the first process writes it.

    Returns as soon as the tensors may change again. Raises GsnnError where the one before could not be written (it is
    then forgotten: another save starts anew), or where this one cannot begin.
    """
    directory = Path(directory).resolve()
    before = _last.get(directory)
    if before is not None:
        try:
            before._join()
        except GsnnError:
            del _last[directory]
            raise
    rank, world = place(group)
    text, staging, error, mine = json.dumps(state, allow_nan=True), "", "", {}
    try:
        mine = describe(tensors)
        staging = str(storage.stage(directory, step)) if rank == 0 else ""
    except OSError as problem:
        error = str(_failure(directory / f"step-{step:08d}", _full(problem)))
    except GsnnError as problem:
        error = str(problem)
    plan = before.plan if before is not None and before.plan.held[rank:][:1] == [mine] else None
    mind = {"step": step, "staging": staging, "same": plan is not None, "error": error, "who": whoami()}
    told = gather(mind, group)
    if error := next(filter(None, (one["error"] for one in told)), ""):
        raise GsnnError(error)
    if any(one["step"] != step for one in told):
        raise GsnnError(f"the processes save different steps at once: {sorted({one['step'] for one in told})}")
    if plan is None or len(plan.held) != world or not all(one["same"] for one in told):
        plan = Plan.of(gather(mine, group))
    made = Pending(step, Path(told[0]["staging"]), keep, rank, [one["who"] for one in told], plan, text)
    made._copy(tensors, before)
    _last[directory] = made
    made.thread.start()
    return made


def _failure(path: Path, why: str, kind: type[GsnnError] = GsnnError) -> GsnnError:
    return kind(
        f"cannot save the checkpoint of step {int(path.name[5:])} in {path.parent}: {why}, "
        "and run the same line again: it goes on from the checkpoint before"
    )


def _full(error: OSError) -> str:
    return f"{storage.reason(error)}: free some space there"
