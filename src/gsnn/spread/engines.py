"""Who does the tasks of a survey-wide work: this process, several processes, or the workers of a Dask cluster.

An engine takes a function of GSNN and tasks, which are dictionaries that JSON can hold, and yields each task with its
result as it is finished. A worker that dies loses nothing but time: its task is given to another.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import GsnnError

Task = dict[str, Any]
Result = dict[str, Any]
Call = Callable[[Task], Result]
Engine = Callable[[Call, Sequence[Task]], Iterator[tuple[Task, Result]]]

DEATHS = 3  # workers that may die in a row with no task done in between
AGAIN = "type the same line again to go on from here"
SECONDS = 8  # to wait for a scheduler, and for its first worker
ALONE = 60  # seconds to wait for another worker once all have gone


def engine(nproc: int | None = None, dask: str | None = None) -> Engine:
    """The engine that ``--nproc`` or ``--dask`` asks for; without them, this process."""
    if nproc is not None and dask is not None:
        raise GsnnError("--nproc and --dask exclude each other: the cluster has workers of its own")
    if nproc is not None and nproc < 1:
        raise GsnnError(f"--nproc {nproc} must be at least 1")
    return cluster(dask) if dask is not None else processes(nproc) if nproc is not None and nproc > 1 else here


def fits(task: Task) -> None:
    """Refuse a worker that runs another version of GSNN than whoever cut the work."""
    if task["version"] != __version__:
        raise GsnnError(
            f"the worker on {socket.gethostname()} has gsnn {__version__} and you have {task['version']}; "
            "install one version everywhere"
        )


def sees(path: str | Path) -> Path:
    """A folder that every worker must see; one sentence from one that does not."""
    if not Path(path).is_dir():
        raise GsnnError(
            f"the worker on {socket.gethostname()} does not see {path}; workers need the run, the data and --out in "
            "folders that all machines share"
        )
    return Path(path)


def here(call: Call, tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
    """One task after the other."""
    for task in tasks:
        yield task, call(_plain(task))


def _plain(task: Task) -> Task:
    """The task as JSON carries it, so that every engine gives a function the same."""
    return json.loads(json.dumps(task))


# ------------------------------------------------------------------ processes of this machine


def processes(count: int) -> Engine:
    """Fresh processes of this machine, one thread of torch each."""

    def work(call: Call, tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
        waiting, deaths = dict(enumerate(map(_plain, tasks))), 0
        while waiting:
            before = len(waiting)
            try:
                for k, result in _pool(min(count, before), call, waiting):
                    yield waiting.pop(k), result
            except BrokenProcessPool:
                deaths = deaths + 1 if len(waiting) == before else 0
                if deaths == DEATHS:
                    raise GsnnError(
                        f"{deaths} times in a row a worker process died before a fragment was done (too little memory "
                        f"for all of them?); try a smaller --nproc, and {AGAIN}"
                    ) from None

    return work


def _pool(count: int, call: Call, waiting: dict[int, Task]) -> Iterator[tuple[int, Result]]:
    """Tasks as they are done. Workers end with this process, however it ends, since their end of a pipe closes."""
    context = multiprocessing.get_context("spawn")
    theirs, mine = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(theirs,))
    try:
        futures = {pool.submit(call, task): k for k, task in waiting.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BaseException:
        mine.close()  # who is still at work need not finish it
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        mine.close()
        theirs.close()


def _begin(alive: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who gave the work
    threading.Thread(target=_leave_with, args=(alive,), daemon=True).start()
    import torch

    torch.set_num_threads(1)


def _leave_with(alive: Connection) -> None:
    with suppress(EOFError, OSError):
        alive.recv()
    os._exit(1)


# ------------------------------------------------------------------ a Dask cluster


def cluster(address: str) -> Engine:
    """The workers of a Dask scheduler: its address (``tcp://host:8786``), or the JSON file that it has written.

    Dask serialises the messages of its own cluster by pickle, so the cluster has to be one that you trust; what GSNN
    sends is the name of one of its functions and values that JSON can hold.
    """

    def work(call: Call, tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
        with closing(_client(address)) as client:
            yield from _answered(client, address, call, [_plain(task) for task in tasks])

    return work


def _client(address: str) -> Any:
    try:
        import dask

        dask.config.set({"logging.distributed": "critical"})  # what goes wrong is told by an exception too
        from distributed import Client
    except ImportError:
        raise GsnnError("--dask needs the packages of Dask; install them by: pip install 'gsnn[dask]'") from None
    try:
        if address.endswith(".json"):
            address = json.loads(Path(address).read_text())["address"]
        _knock(address)
        client = Client(address, timeout=SECONDS, set_as_default=False)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise GsnnError(
            f"no Dask scheduler answers at {address} ({_brief(error)}); start one by `dask scheduler`, or check --dask"
        ) from None
    try:
        client.wait_for_workers(1, timeout=SECONDS)
    except OSError:  # TimeoutError is one
        client.close()
        raise GsnnError(
            f"the Dask scheduler at {address} has no workers; start some by `dask worker {address}`"
        ) from None
    return client


def _knock(address: str) -> None:
    """Whether a scheduler listens there, which is the first to speak: Dask itself would wait for a word for ever."""
    found = re.fullmatch(r"(?:(tcp|tls|wss?)://)?\[?([^/]+?)\]?:(\d{1,5})", address)
    if not found:
        raise ValueError("an address is like tcp://host:8786")
    with socket.create_connection((found[2], int(found[3])), timeout=SECONDS) as line:
        if found[1] in (None, "tcp") and not line.recv(1):
            raise ValueError("it hangs up")


def _brief(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.split("\n")[0].rstrip(".")[:120].lower()


def _answered(client: Any, address: str, call: Call, tasks: list[Task]) -> Iterator[tuple[Task, Result]]:
    from distributed import KilledWorker
    from distributed import as_completed as finished
    from distributed.client import FutureCancelledError

    futures = client.map(call, tasks, pure=False, key=f"gsnn-{call.__name__}")
    task_of = {future.key: task for future, task in zip(futures, tasks)}
    waiting, seen, asked = finished(futures, loop=client.loop), time.monotonic(), 0.0
    while task_of:
        if not waiting.has_ready():
            if time.monotonic() - asked > 2:
                seen, asked = time.monotonic() if _alive(client, address) else seen, time.monotonic()
            if asked - seen > ALONE:
                raise GsnnError(f"no worker is left at the Dask scheduler {address}; start some, and {AGAIN}")
            time.sleep(0.02)
            continue
        future = next(waiting)
        try:
            result = future.result()
        except KilledWorker:
            raise GsnnError(f"{DEATHS + 1} Dask workers died over one fragment (too little memory?); {AGAIN}") from None
        except FutureCancelledError:
            raise _gone(address) from None
        except ImportError as error:
            raise GsnnError(
                f"a Dask worker cannot do this ({error}); install gsnn and what the study names there"
            ) from None
        yield task_of.pop(future.key), result


def _alive(client: Any, address: str) -> bool:
    """Whether the cluster has workers; one sentence if its scheduler has gone."""
    try:
        if client.status == "running":
            return bool(client.scheduler_info()["workers"])
    except (OSError, ValueError):
        pass
    raise _gone(address)


def _gone(address: str) -> GsnnError:
    return GsnnError(f"the Dask scheduler at {address} has gone; start it, and {AGAIN}")
