"""Starting the processes of a training: on this host, and the lines that start them on others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from ..errors import GsnnError
from .agent import JOIN_SECONDS, KEEP_ALIVE, LAST_WORD, POLL_SECONDS, RESTARTS
from .worker import failed, forget, stopped

WORKER = "gsnn.training.worker"
NOISE = (  # of no use to a user: which process is ended after another's death; what an agent that was stopped left over
    "torch/multiprocessing/spawn.py",
    "multiprocessing/resource_tracker.py",
    "warnings.warn('resource_tracker:",
    "The hostname of the client socket cannot be retrieved",
)


def launch(folder: Path, processes: int, nodes: int = 1, first: str = "", name: str = "") -> None:
    """Train a run by ``processes`` of this host, one of ``nodes`` that meet at ``first`` (host:port), and wait.

    ``name`` is of this launch, the same on all hosts. Raises the sentence that a worker or the agent has left, and
    KeyboardInterrupt where the training was asked to leave and has saved.
    """
    name = name or uuid.uuid4().hex[:12]
    forget(folder, name)
    command = [sys.executable, "-m", "gsnn.training.agent", str(folder), "--name", name, "--nproc", str(processes)]
    if nodes > 1:
        command += ["--nodes", str(nodes), "--first", first]
    threads = max((os.cpu_count() or 1) // processes, 1)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    agent = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    sentence = ""
    with forwarded(agent):
        try:
            for line in agent.stderr:
                if any(noise in line for noise in NOISE):
                    continue
                if line.startswith(LAST_WORD):
                    sentence = line.removeprefix(LAST_WORD).strip()
                    continue
                sys.stderr.write(line)
                sys.stderr.flush()
            status = agent.wait()
        except KeyboardInterrupt:
            agent.wait()  # the workers got the signal too: each saves, then leaves
            raise
    told = failed(folder, name)
    (folder / f".starts-{name}").unlink(missing_ok=True)
    if told.exists():
        raise GsnnError(told.read_text())
    if stopped(folder, name) or status == 128 + signal.SIGTERM:
        raise KeyboardInterrupt
    if status:
        raise GsnnError(
            sentence
            or f"the agent of the training ended with status {status}; what it said stands above, and the last "
            f"checkpoint in {folder}: run the same line again to go on"
        )


@contextmanager
def forwarded(agent: subprocess.Popen) -> Iterator[None]:
    """Within, a SIGTERM to this process is the agent's: the workers save, and all leave."""
    try:
        before = signal.signal(signal.SIGTERM, lambda number, frame: agent.send_signal(number))
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def join_words(folder: Path | str, processes: int, nodes: int, first: str, name: str) -> list[str]:
    """What starts the workers of a host; the same line on every one of them."""
    return [
        "join", str(folder), "--nodes", str(nodes), "--nproc", str(processes), "--first", first, "--name", name
    ]  # fmt: skip


def torchrun_words(folder: Path | str, processes: int, nodes: int, first: str, name: str) -> list[str]:
    """The same by torchrun itself, for schedulers that start it: without the fast start, and the sentences of hosts."""
    patience = ",".join(f"{key}={value}" for key, value in {"join_timeout": JOIN_SECONDS, **KEEP_ALIVE}.items())
    return [
        "env", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1",
        "torchrun", f"--nnodes={nodes}", f"--nproc-per-node={processes}", f"--max-restarts={RESTARTS}",
        f"--monitor-interval={POLL_SECONDS}", "--rdzv-backend=c10d", f"--rdzv-endpoint={first}", f"--rdzv-id={name}",
        f"--rdzv-conf={patience}", "-m", WORKER, str(folder),
    ]  # fmt: skip


def shell(words: list[str]) -> str:
    """Words as a shell takes them; those with a $ are left to it, in double quotes."""
    return " ".join(f'"{word}"' if "$" in word else quote(word) for word in words)
