"""Processes that agree, and that notice when one of them has died: without pickle, and without a hang."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ..errors import GsnnError

PATIENCE = 600.0  # seconds without a sign of life, where it cannot be known whether a process of another machine lives


class Elsewhere(Exception):
    """What happened to another process, as the end of a sentence."""


class Died(Elsewhere):
    """Another process has ended."""


class Gone(GsnnError):
    """Another process has ended; where somebody starts processes again, it is not worth a word."""


def place(group: dist.ProcessGroup | None) -> tuple[int, int]:
    """(rank, number of processes); (0, 1) without a process group."""
    if not dist.is_available() or not dist.is_initialized():
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


def gather(value: Any, group: dist.ProcessGroup | None) -> list[Any]:
    """What every process has, by rank, as JSON can hold it. Raises GsnnError where one has died."""
    _, world = place(group)
    if world == 1:
        return [value]
    device = "cuda" if dist.get_backend(group) == "nccl" else "cpu"
    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(device)
    try:
        sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world)]
        dist.all_gather(sizes, torch.tensor([len(text)], device=device), group=group)
        room = torch.zeros(max(int(size) for size in sizes), dtype=torch.uint8, device=device)
        room[: len(text)] = text
        texts = [torch.empty_like(room) for _ in range(world)]
        dist.all_gather(texts, room, group=group)
    except RuntimeError as error:
        line = str(error).strip().splitlines()[0]
        raise Gone(f"another process has died or cannot be reached ({line}): run the same line again") from error
    return [json.loads(bytes(t[: int(size)].cpu().numpy())) for t, size in zip(texts, sizes)]


def whoami() -> str:
    """This process, by a name that ``died`` understands: its namespace of processes, number and time of start."""
    try:
        return f"{_namespace()} {os.getpid()} {_status(os.getpid())[1]}"
    except OSError:  # not Linux
        return ""


def died(who: str) -> bool:
    """Whether a process of this machine is known to have ended. Of another machine's nothing is known."""
    try:
        namespace, number, start = who.rsplit(" ", 2)
        if namespace != _namespace():
            return False
        state, began = _status(int(number))
        return state in "ZX" or began != start
    except (FileNotFoundError, ProcessLookupError):
        return True
    except (OSError, ValueError):
        return False


def _namespace() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + " " + os.readlink("/proc/self/ns/pid")


def _status(number: int) -> tuple[str, str]:
    """(state, time of start) of a process of this machine."""
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return fields[0], fields[19]


def report_failure(folder: Path, rank: int, why: str) -> None:
    """Leave word for ``wait_for``. An empty file can be made on a full disk, and says enough."""
    try:
        note = folder / f"failed-{rank:05d}"
        note.touch()
        note.write_text(why)
    except OSError:
        pass  # then the others see this process end, or lose patience


def wait_for(folder: Path, missing: Callable[[], list[int]], processes: list[str]) -> None:
    """Return once no process (by rank) is ``missing``. What is waited for lies in ``folder``, or is its removal.

    Raises Elsewhere when one of these ``processes`` has failed or died, or nothing was written for PATIENCE.
    """
    seen, since, pause = None, time.monotonic(), 0.002
    while ranks := missing():
        dead = [rank for rank in ranks if died(processes[rank])]
        try:
            now = sorted((path.name, _size(path)) for path in folder.glob("*"))
        except FileNotFoundError:
            if missing():
                raise
            return  # it was the removal that was waited for, between two looks
        for name, _ in now:
            if name.startswith("failed-"):
                why = (folder / name).read_text()
                kind = Died if why.endswith("died") else Elsewhere
                raise kind(f"process {int(name[7:])} could not write its part" + (f": {why}" if why else ""))
        if dead and dead[0] in missing():  # it may have finished, and ended, between two looks
            raise Died(f"process {dead[0]} has died")
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            raise Died(f"nothing was written for {PATIENCE:g} s, process {ranks[0]} must have died")
        time.sleep(pause)
        pause = min(2 * pause, 0.25)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
