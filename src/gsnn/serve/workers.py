"""Who answers packets: this process, or several others. A packet that kills its process is found and set aside."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import pyarrow as pa

from ..errors import GsnnError
from ..run import Run
from .answers import FLAG, Answerer

Packets = Sequence[bytes | None]
Schemas = Mapping[int, str]


class Under(NamedTuple):
    """A batch under way."""

    packets: Packets
    schemas: Schemas
    future: Future[pa.Table]
    generation: int


def answerer(run: Run, threads: int | None = None) -> Answerer:
    """The network of a run, ready for packets."""
    runtime = run.runtime if threads is None else replace(run.runtime, threads=threads)
    return Answerer(run.model, runtime, list(run.study.data.derive))


class Here:
    """One batch after the other, in this process."""

    ahead = 0  # batches that may be under way

    def __init__(self, run: Run):
        self.answer = answerer(run)
        self.schema = self.answer.schema

    def submit(self, packets: Packets, schemas: Schemas) -> Under:
        done: Future[pa.Table] = Future()
        done.set_result(self.answer(packets, schemas))
        return Under(packets, schemas, done, 0)

    def result(self, under: Under) -> pa.Table:
        return under.future.result()

    def close(self) -> None:
        """Nothing is held open."""


class Processes:
    """Several processes of this machine, each with the network and one thread."""

    def __init__(self, run: Run, count: int):
        self.run, self.count, self.ahead, self.generation = run, count, 2 * count, 0
        self.schema = answerer(run, threads=1).schema
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")  # what all need is imported once, then forked
        context.set_forkserver_preload([__name__])
        self._theirs, self._mine = context.Pipe(duplex=False)
        start = (self._theirs, str(self.run.path.absolute()), self.run.trust)
        self.pool = ProcessPoolExecutor(self.count, mp_context=context, initializer=_begin, initargs=start)
        self.generation += 1

    def submit(self, packets: Packets, schemas: Schemas) -> Under:
        try:
            future = self.pool.submit(_answer, list(packets), dict(schemas))
        except BrokenProcessPool as error:
            future = Future()
            future.set_exception(error)
        return Under(packets, schemas, future, self.generation)

    def result(self, under: Under) -> pa.Table:
        """The answers; after the death of a process they are made anew, by halves to find the packet that kills."""
        try:
            return under.future.result()
        except (BrokenProcessPool, CancelledError):
            self._anew(under.generation)
        again = self.submit(under.packets, under.schemas)
        try:
            return again.future.result()  # the death may have been over another batch
        except BrokenProcessPool:
            self._anew(again.generation)
        if len(under.packets) == 1:
            return _aside(self.schema, "a process died over it, twice")
        half = len(under.packets) // 2
        parts = (under.packets[:half], under.packets[half:])
        return pa.concat_tables([self.result(self.submit(part, under.schemas)) for part in parts])

    def _anew(self, generation: int) -> None:
        """Fresh processes in place of those of a generation, if that was not done yet."""
        if generation != self.generation:
            return
        self.close()
        self._start()
        try:
            self.pool.submit(_answer, [], {}).result()
        except BrokenProcessPool as error:
            raise GsnnError("the processes that answer die at once (too little memory?); try a smaller --nproc") from (
                error
            )

    def close(self) -> None:
        self._mine.close()
        self.pool.shutdown(wait=True, cancel_futures=True)
        self._theirs.close()


def _aside(schema: pa.Schema, reason: str) -> pa.Table:
    columns: dict[str, Any] = {field.name: pa.nulls(1, field.type) for field in schema}
    return pa.table({**columns, FLAG: pa.array([f"quarantined: {reason}"])}, schema=schema)


_own: list[Answerer] = []  # of a worker


def _begin(alive: Connection, path: str, trust: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C and SIGTERM are for who gave the work
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(alive,), daemon=True).start()
    _own.append(answerer(Run(path, trust=trust), threads=1))


def _leave_with(alive: Connection) -> None:
    """End when the one that gave the work has ended, however it did."""
    with suppress(EOFError, OSError):
        alive.recv()
    os._exit(1)


def _answer(packets: list[bytes | None], schemas: dict[int, str]) -> pa.Table:
    return _own[0](packets, schemas)


def workers(run: Run, nproc: int) -> Here | Processes:
    """Those that ``--nproc`` asks for."""
    if nproc < 1:
        raise GsnnError(f"--nproc {nproc} must be at least 1")
    return Here(run) if nproc == 1 else Processes(run, nproc)
