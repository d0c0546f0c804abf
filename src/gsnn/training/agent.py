"""The agent of one host, ``python -m gsnn.training.agent RUN --nproc 4``: torchrun's own, with workers that start fast.

Workers are forked from a server that has imported everything already, so that a killed one is back within a second or
two. Where there are GPUs they are spawned anew instead, since CUDA must not be touched before a fork. What goes wrong
between hosts is told in one sentence.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import multiprocessing
import os
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from ..errors import GsnnError
from .warm import SIGN
from .worker import enter, failed, stopped

RESTARTS = 10_000  # what stops a training that dies again and again is the worker's own count, see ``worker.STILL``
PORT = 29400
JOIN_SECONDS = 600  # for all hosts to come together, at first and again after one has left
REACH_SECONDS = 60  # for the first host to answer
KEEP_ALIVE = {"keep_alive_interval": 2, "keep_alive_max_attempt": 3}  # seconds, misses: a silent host is given up
SAVE_SECONDS = 300  # for a last checkpoint, where the training is asked to leave
POLL_SECONDS = 0.1
LAST_WORD = "gsnn agent: "  # before the sentence on stderr that says why the agent has given up


def run(folder: Path, name: str, processes: int, nodes: int = 1, first: str = "") -> None:
    """Keep ``processes`` workers of this host at work until the training has ended.

    ``first`` is the host:port where all ``nodes`` hosts meet; ``name`` is of this launch, the same on all of them.
    Raises GsnnError where the hosts cannot come together, or where the workers cannot go on.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import api as rendezvous
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    meeting = {"rdzv_endpoint": "localhost:0"}
    if nodes > 1:
        address, port = endpoint(first)
        mine = own_address(address, port)
        hosting = mine == address and os.environ.get("SLURM_NODEID", "0") == "0"
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # a store of its own for every start, see worker.join
        patience = {"join_timeout": seconds("GSNN_JOIN", JOIN_SECONDS), "read_timeout": reach_seconds()}
        meeting = {
            "rdzv_endpoint": f"{address}:{port}",
            "rdzv_configs": {**patience, **KEEP_ALIVE, "is_host": str(hosting).lower()},
            "local_addr": mine,
        }
        if not hosting:
            await_host(address, port)
    tell_deaths()
    heed_one_signal()
    watch_for(folder, name)
    os.environ["GSNN_AGENT"] = name  # its workers leave the last word to who started it
    config = LaunchConfig(
        min_nodes=nodes, max_nodes=nodes, nproc_per_node=processes, run_id=name, rdzv_backend="c10d",
        max_restarts=RESTARTS, monitor_interval=POLL_SECONDS, start_method=start_method(),
        logs_specs=DefaultLogsSpecs(), **meeting,
    )  # fmt: skip
    try:
        elastic_launch(config, enter)(str(folder))
    except ChildFailedError as error:
        raise GsnnError(f"the workers of this host died {RESTARTS} times; what they said stands above") from error
    except rendezvous.RendezvousTimeoutError as error:
        limit = meeting.get("rdzv_configs", {}).get("join_timeout", JOIN_SECONDS)
        raise GsnnError(
            f"not all {nodes} hosts came together within {limit} s (GSNN_JOIN): type the line on each of them"
        ) from error
    except rendezvous.RendezvousClosedError as error:
        raise GsnnError("the training has ended on the other hosts; type the line on all of them to go on") from error
    except (rendezvous.RendezvousConnectionError, rendezvous.RendezvousStateError) as error:
        if nodes > 1 and hosting:
            raise GsnnError(
                f"cannot open port {port} on this host ({address}): another training may be using it; "
                "choose another by --first HOST:PORT, on all hosts"
            ) from error
        raise unreachable(first) from error


def start_method() -> str:
    """How workers start: "forkserver", or "spawn" where there are GPUs (GSNN_START overrules)."""
    method = os.environ.get("GSNN_START") or ("spawn" if Path("/dev/nvidiactl").exists() else "forkserver")
    if method == "forkserver":
        from multiprocessing import forkserver

        context = multiprocessing.get_context(method)
        context.set_forkserver_preload(["gsnn.training.warm"])
        os.environ[SIGN] = "1"
        forkserver.ensure_running()
        del os.environ[SIGN]
    return method


# ------------------------------------------------------------------ hosts


def endpoint(first: str) -> tuple[str, int]:
    """The address and port of ``host[:port]``."""
    host, _, port = first.rpartition(":") if ":" in first else (first, "", PORT)
    try:
        return socket.gethostbyname(host), int(port)
    except ValueError:
        raise GsnnError(f"--first {first!r} must be HOST or HOST:PORT, with a number for the port") from None
    except OSError as error:
        raise GsnnError(f"--first {first!r}: no host of that name is known ({error.strerror})") from None


def own_address(address: str, port: int = PORT) -> str:
    """This host's address on the way to another; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect((address, port))
        except OSError as error:
            raise GsnnError(f"there is no way from this host to {address} ({error.strerror})") from error
        return one.getsockname()[0]


def interface(address: str) -> str:
    """The network interface that has one of this host's addresses; "" where that is not known (not Linux)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(one, 0x8915, struct.pack("256s", name.encode()[:15]))  # SIOCGIFADDR
            except OSError:
                continue
            if socket.inet_ntoa(found[20:24]) == address:
                return name
    return ""


def await_host(address: str, port: int) -> None:
    """Return once the first host answers. Raises GsnnError after GSNN_REACH seconds."""
    limit = time.monotonic() + reach_seconds()
    while True:
        try:
            with socket.create_connection((address, port), timeout=max(limit - time.monotonic(), 0.1)):
                return
        except OSError:
            if time.monotonic() >= limit:
                raise unreachable(f"{address}:{port}") from None
            time.sleep(min(0.5, max(limit - time.monotonic(), 0)))


def unreachable(first: str) -> GsnnError:
    return GsnnError(
        f"cannot reach the first host at {first} (tried for {reach_seconds()} s, GSNN_REACH): is it up, is its port "
        "open, and was the line typed there too? Then type it again: the training goes on from its last checkpoint"
    )


def reach_seconds() -> int:
    return seconds("GSNN_REACH", REACH_SECONDS)


def seconds(name: str, otherwise: int) -> int:
    """A whole number of seconds from the environment."""
    given = os.environ.get(name, str(otherwise))
    if not given.isdigit() or not int(given):
        raise GsnnError(f"{name}={given!r} must be a whole number of seconds, such as {otherwise}")
    return int(given)


# ------------------------------------------------------------------ what is told, and when to leave


class Deaths(logging.Handler):
    """Says who was killed; the rest of what torch's agent logs of it is of no use to a user."""

    def emit(self, record: logging.LogRecord) -> None:
        if "exitcode" in str(record.msg) and isinstance(record.args, tuple) and len(record.args) > 1:
            status, rank = record.args[:2]
            if isinstance(status, int) and status < 0:
                what = f"process {rank} of this host was killed by signal {-status}"
                print(f"gsnn: {what}; starting again from the last checkpoint", file=sys.stderr, flush=True)


def tell_deaths() -> None:
    log = logging.getLogger("torch.distributed.elastic")
    log.handlers, log.propagate = [Deaths()], False
    for name in list(logging.Logger.manager.loggerDict):
        if name.startswith("torch.distributed.elastic."):
            child = logging.getLogger(name)
            child.handlers, child.propagate = [], True
            child.setLevel(logging.ERROR)


def heed_one_signal() -> None:
    """The first signal ends the training, which takes the time of a save; more of them must not cut that short.

    Whatever it is, workers get SIGTERM: a second Ctrl-C, which they get themselves, would mean not to save.
    """
    from torch.distributed.elastic.multiprocessing import api

    def stop(number: int, frame: Any) -> NoReturn:
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(one, signal.SIG_IGN)
        raise api.SignalException(f"got signal {number}", sigval=signal.SIGTERM)

    api._terminate_process_handler = stop
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SAVE_SECONDS))


def watch_for(folder: Path, name: str) -> None:
    """Leave as soon as any host was asked to, or has left a sentence for the user: a new start would only repeat it."""

    def watch() -> None:
        while not (failed(folder, name).exists() or stopped(folder, name)):
            time.sleep(0.25)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="gsnn-watch", daemon=True).start()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gsnn.training.agent", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--nproc", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--first", default="")
    given = parser.parse_args(argv)
    from torch.distributed.elastic.multiprocessing.api import SignalException

    try:
        run(given.run, given.name, given.nproc, given.nodes, given.first)
    except GsnnError as error:
        print(f"{LAST_WORD}{error}", file=sys.stderr, flush=True)
        return 1
    except SignalException as error:
        leave(128 + int(error.sigval))
    except KeyboardInterrupt:
        leave(130)
    return 0


def leave(status: int) -> NoReturn:
    """End at once. The workers have ended, but one that was just being started may not be known to torch's agent."""
    for child in multiprocessing.active_children():
        child.kill()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
