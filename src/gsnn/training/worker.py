"""One process of a training: forked by GSNN's agent, or of torchrun: ``torchrun ... -m gsnn.training.worker RUN``.

The run folder says everything: the study, its data, the seed and the layout. What a worker leaves there are
checkpoints; `gsnn run` with the same words finds the training finished and judges it.

A worker that dies is started again with all the others, and they go on from the newest checkpoint. Not so after a
sentence for the user, which is left in the folder and told once, nor after STILL starts that led to no checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import GsnnError

STILL = 5  # starts one after the other without a new checkpoint
TIMEOUT_SECONDS = 1800  # for processes to meet, and for one of them to wait for another
GRACE_SECONDS = 30  # to save, after the agent has died
STOPPED = ".stopped"  # in the run folder: the training was asked to leave, and has saved its state


def main(argv: list[str] | None = None) -> int:
    """A worker of torchrun. After a sentence for the user torchrun is asked to leave, so that it does not try again."""
    (run,) = argv or sys.argv[1:]
    folder = Path(run)
    status = work(folder)
    if status and failed(folder).exists() and "TORCHELASTIC_RUN_ID" in os.environ:
        os.kill(os.getppid(), signal.SIGTERM)
    return status


def enter(run: str) -> None:
    """A worker of GSNN's agent: returns where the training has ended, else the process ends."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which its server outlives
    threading.Thread(target=follow, name="gsnn-follow", daemon=True).start()
    status = work(Path(run))
    if status or stopped(Path(run)):
        leave(status)


def work(folder: Path) -> int:
    """Train the run that is named: 0 where it is trained, or was asked to leave and has saved; else 1."""
    if failed(folder).exists():
        return 1
    with suppress(OSError):  # not Linux
        Path("/proc/self/comm").write_text(f"gsnn-{os.environ.get('RANK', 0)}")  # the name that `top` shows
    try:
        train(folder)
    except KeyboardInterrupt:  # of the trainer, once all processes have saved
        (folder / STOPPED).write_text(launch_name())
        return 0
    except GsnnError as error:
        from .together import Gone

        if isinstance(error, Gone):
            lost()
        else:
            tell(folder, str(error))
        return 1
    except Exception as error:
        lost() if gone(error) else traceback.print_exc()
        return 1
    return 0


def train(folder: Path) -> None:
    """Join the others, train, and leave together."""
    rank = int(os.environ.get("RANK", 0))
    if rank == 0:
        begin(folder)
    import torch.distributed as dist

    from ..progress import Progress, Terminal
    from ..run import Run
    from ..steps.train import fit_network
    from .layout import require
    from .parallel import Parallel
    from .watchdog import watch

    run = Run(folder, trust=True)
    study, layout = run.study, run.study.train.layout
    join()
    world = dist.get_world_size() if dist.is_initialized() else 1
    if world != layout.processes:
        raise GsnnError(
            f"{world} processes were started, but [train] layout is of {layout.processes}: start as many, "
            "or type `gsnn launch` or `gsnn train` again for another number"
        )
    parallel = Parallel(layout, device())
    with watch(parallel, folder / "fits/main"):
        fit_network(
            study,
            run.ground,
            folder / "fits/main",
            seed=run.resolved["seed"],
            progress=Terminal() if parallel.main else Progress(),
            parallel=parallel,
            allow=lambda given: require(layout, given, world),
        )
        parallel.barrier()
    if dist.is_initialized():
        dist.destroy_process_group()


def device() -> str:
    """The kind of device that the processes share."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def join() -> None:
    """Make the process group that the agent's (or Slurm's) environment describes; nothing for a process alone.

    Each start of the workers has a store of its own, or keys of its own in the store of its host's agent: the stock
    rendezvous lets a restarted worker meet the addresses of dead ones.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        return
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    from .agent import interface, own_address, seconds
    from .together import Gone

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    rank, agent = int(os.environ["RANK"]), os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if int(os.environ.get("GROUP_WORLD_SIZE", 1)) > 1:  # a host's name often stands for 127.0.1.1, which leads nowhere
        name = interface(own_address(address, port))
        for backend in ("GLOO", "NCCL"):
            if name:
                os.environ.setdefault(f"{backend}_SOCKET_IFNAME", name)
    patience = seconds("GSNN_TIMEOUT", TIMEOUT_SECONDS)
    store = meet(address, port, world, agent, patience)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    limit = timedelta(seconds=patience)
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=limit)
    except RuntimeError as error:
        line = str(error).strip().splitlines()[0]
        print(f"gsnn: process {rank} cannot connect to all others ({line})", file=sys.stderr, flush=True)
        raise Gone(line) from error


def meet(address: str, port: int, world: int, agent: bool, patience: int) -> Any:
    """The store of this start of the workers, once all are there: waited for by Python, which heeds signals."""
    from datetime import timedelta

    import torch.distributed as dist

    start, little = time.monotonic(), timedelta(seconds=2)
    first = not agent and os.environ["RANK"] == "0"
    number = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if agent else "0"  # hosts do not count alike
    while True:
        try:
            store = dist.TCPStore(address, port, world, first, timeout=little, wait_for_workers=False)
            break
        except RuntimeError as error:
            if time.monotonic() - start > patience:
                raise GsnnError(
                    f"the process on {socket.gethostname()} cannot reach the first one at {address}:{port} (tried for "
                    f"{patience} s, GSNN_TIMEOUT); is that host up, and are its ports open? "
                    f"({str(error).splitlines()[0]})"
                ) from error
    store.set_timeout(timedelta(seconds=patience))
    store = dist.PrefixStore(f"gsnn/{number}", store)
    store.add("here", 1)
    while (here := store.add("here", 0)) < world:
        if time.monotonic() - start > patience:
            raise GsnnError(f"only {here} of {world} processes came together within {patience} s (GSNN_TIMEOUT)")
        time.sleep(0.01)
    return store


# ------------------------------------------------------------------ what is left in the run folder


def launch_name() -> str:
    """What all processes that were launched together have in common."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "once")


def failed(folder: Path, name: str = "") -> Path:
    """Where a sentence for the user is left, by whatever process of a launch."""
    return folder / f".failed-{name or launch_name()}"


def stopped(folder: Path, name: str = "") -> bool:
    """Whether the processes of a launch were asked to leave, and have saved their state."""
    path = folder / STOPPED
    return path.exists() and path.read_text() == (name or launch_name())


def forget(folder: Path, name: str = "*") -> None:
    """Remove the notes of a launch (of all, if it has no name): a new one begins."""
    for path in (folder / STOPPED, *folder.glob(f".failed-{name}"), *folder.glob(f".starts-{name}")):
        path.unlink(missing_ok=True)


def tell(folder: Path, sentence: str) -> None:
    """Leave a sentence for the user, unless another process was first."""
    path = failed(folder)
    draft = path.with_name(f"{path.name}.{os.environ.get('RANK', 0)}")
    draft.write_text(sentence)
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    if "GSNN_AGENT" not in os.environ:
        print(f"gsnn: {sentence}", file=sys.stderr, flush=True)


def begin(folder: Path) -> None:
    """Take up what dead workers have left, before the others go on; and see that the training does get on."""
    from .storage import steps

    (folder / STOPPED).unlink(missing_ok=True)
    fit = folder / "fits/main"
    for path in fit.glob("scratch/gsnn-scratch-*"):
        shutil.rmtree(path, ignore_errors=True)
    kept = [step for step, _ in steps(fit / "checkpoints")]
    newest = max(kept, default=-1)
    notes = folder / f".starts-{launch_name()}"
    starts = json.loads(notes.read_text()) if notes.exists() else []
    starts = [*starts, newest][-STILL - 1 :]
    notes.write_text(json.dumps(starts))
    if len(starts) > STILL and len(set(starts)) == 1:
        raise GsnnError(
            f"the training has died {STILL} times in a row before a checkpoint could follow that of step "
            f"{max(newest, 0)}; what its processes said stands above, and in {fit}/hang-*.txt if they hung. "
            "When that is mended, type the line again: it goes on from there"
        )
    if len(starts) > 1:
        print(f"  starting again, from step {max(newest, 0):,}", file=sys.stderr, flush=True)


# ------------------------------------------------------------------ processes that end


def lost() -> None:
    """Say once that a process has died: the agent of its own host says which, if that still lives."""
    if os.environ.get("RANK") == "0" and int(os.environ.get("GROUP_WORLD_SIZE", 1)) > 1:
        print("gsnn: a process of some host has died; all start again from the last checkpoint", file=sys.stderr)


def gone(error: BaseException) -> bool:
    """Whether this is what a collective says when another process has died."""
    import torch.distributed as dist

    words = ("connection closed by peer", "connection reset", "connection refused", "broken pipe", "gloo", "nccl")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    )


def follow() -> None:
    """End with the agent, also where it was killed. A training gets SIGINT by then, and some time to save."""
    import multiprocessing

    agent = multiprocessing.parent_process()
    if agent is not None:
        agent.join()
        time.sleep(GRACE_SECONDS)
        leave(1)


def leave(status: int) -> None:
    """End this process at once: threads of a process group may abort an orderly exit."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())
