"""One process of a training, ``torchrun ... -m gsnn.training.worker RUN``: what laptops, clusters and Slurm start.

The run folder says everything: the study, its data, the seed and the layout. What a worker leaves there are
checkpoints; `gsnn run` with the same words finds the training finished and judges it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..errors import GsnnError


def main(argv: list[str] | None = None) -> int:
    """Train the run that is named. A mistake is told once, by the first process, and not tried again."""
    (run,) = argv or sys.argv[1:]
    told = Path(run) / f".failed-{os.environ.get('TORCHELASTIC_RUN_ID', 'once')}"
    if told.exists():  # a sentence for the user: starting again would only repeat it
        return 1
    try:
        train(Path(run))
    except GsnnError as error:
        if os.environ.get("RANK", "0") == "0":
            told.write_text(str(error))
            print(f"gsnn: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def train(folder: Path) -> None:
    """Join the others, train, and leave together."""
    import torch.distributed as dist

    from ..progress import Progress, Terminal
    from ..run import Run
    from ..steps.train import fit_network
    from .layout import require
    from .parallel import Parallel

    run = Run(folder, trust=True)
    study, layout = run.study, run.study.train.layout
    join()
    try:
        parallel = Parallel(layout, device())
        fit_network(
            study,
            run.ground,
            folder / "fits/main",
            seed=run.resolved["seed"],
            progress=Terminal() if parallel.main else Progress(),
            parallel=parallel,
            allow=lambda given: require(layout, given, dist.get_world_size() if dist.is_initialized() else 1),
        )
        parallel.barrier()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def device() -> str:
    """The kind of device that the processes share."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def join() -> None:
    """Make the process group that torchrun's (or Slurm's) environment describes; nothing for a process alone.

    Each start of the workers has keys of its own in the agent's store: the stock rendezvous lets a restarted worker
    meet the addresses of dead ones.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        return
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    rank, agent = int(os.environ["RANK"]), os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    patience = timedelta(seconds=float(os.environ.get("GSNN_TIMEOUT", 1800)))
    try:
        store = dist.TCPStore(address, port, world, rank == 0 and not agent, timeout=patience)
    except (dist.DistError, RuntimeError) as error:
        raise GsnnError(
            f"process {rank} cannot reach the first one at {address}:{port}; is that host up, and the port open? "
            f"({str(error).splitlines()[0]})"
        ) from error
    store = dist.PrefixStore(f"gsnn/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=patience)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads of a process group may abort an orderly exit
