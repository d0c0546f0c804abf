"""A small group of processes for a test: forked, so that nothing is imported again, and gone when it ends."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch._dynamo  # what a first distributed tensor imports: once, before the forks
import torch.distributed as dist
import torch.distributed.checkpoint.planner_helpers
import torch.distributed.tensor


def fork(call: Callable[..., Any], *arguments: Any) -> tuple[int, int]:
    """``call(*arguments)`` in a process of its own: (its number, a pipe with what ``outcome`` reads)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.close(reading)
    result: tuple[bool, Any] = (False, "nothing")
    try:
        torch.set_num_threads(1)
        result = (True, call(*arguments))
    except BaseException:
        result = (False, traceback.format_exc())
    finally:
        with contextlib.suppress(Exception), os.fdopen(writing, "wb") as pipe:
            pickle.dump(result, pipe)
        os._exit(0)


def outcome(child: int, reading: int) -> tuple[bool, Any]:
    """(it ended well, what it returned or why not) of a forked process, once it ends."""
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(said) if said else (False, "killed")


def member(rank: int, world: int, store: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """``call(rank, *arguments)`` within a process group over the file ``store``."""
    dist.init_process_group(
        "gloo", store=dist.FileStore(store, world), rank=rank, world_size=world, timeout=timedelta(seconds=40)
    )
    try:
        result = call(rank, *arguments)
        dist.barrier()
        return result
    finally:
        dist.destroy_process_group()


def together(world: int, call: Callable[..., Any], *arguments: Any, seconds: float = 60) -> list[Any]:
    """What ``call(rank, *arguments)`` returns on each of ``world`` processes of a gloo group."""
    with tempfile.TemporaryDirectory() as folder:
        children = [fork(member, rank, world, f"{folder}/store", call, *arguments) for rank in range(world)]
        watch, _ = fork(_end_after, seconds, [child for child, _ in children])
        results = [outcome(*child) for child in children]
        os.kill(watch, signal.SIGKILL)
        os.waitpid(watch, 0)
    for rank, (well, said) in enumerate(results):
        assert well, f"process {rank}: {said}"
    return [said for _, said in results]


def _end_after(seconds: float, children: list[int]) -> None:
    time.sleep(seconds)
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
