"""Starting the processes of a training: torchrun on this machine, and the lines that start it on others."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

from ..errors import GsnnError

RESTARTS = 10  # of all workers, after one has died
WORKER = "gsnn.training.worker"


def torchrun(folder: Path, processes: int, name: str, *more: str) -> list[str]:
    """The command that trains a run by ``processes`` of this machine."""
    return [
        sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--max-restarts={RESTARTS}",
        "--monitor-interval=0.1", f"--rdzv-id={name}", *(more or ("--standalone",)), "-m", WORKER, str(folder),
    ]  # fmt: skip


def launch(folder: Path, processes: int) -> None:
    """Train a run by processes of this machine, and wait. Raises the sentence that a worker has left."""
    name = uuid.uuid4().hex[:12]
    threads = max((os.cpu_count() or 1) // processes, 1)
    environment = {"OMP_NUM_THREADS": str(threads), "TORCHELASTIC_LOG_LEVEL": "ERROR", **os.environ}
    agent = subprocess.Popen(torchrun(folder, processes, name), env=environment, stderr=subprocess.PIPE, text=True)
    try:
        for line in agent.stderr:
            if not any(noise in line for noise in ("torch/distributed/elastic", "torch.distributed.run", "*****")):
                sys.stderr.write(line)
                sys.stderr.flush()
        status = agent.wait()
    except KeyboardInterrupt:
        agent.wait()  # the workers got the signal too: each saves, then leaves
        raise
    told = folder / f".failed-{name}"
    if told.exists():
        sentence = told.read_text()
        told.unlink()
        raise GsnnError(sentence)
    if status:
        raise GsnnError(
            f"the {processes} processes of the training ended with status {status} after {RESTARTS} restarts; "
            f"what they said stands above, and the last checkpoint in {folder}: run the same line again to go on"
        )
