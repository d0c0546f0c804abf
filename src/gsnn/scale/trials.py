"""What this machine takes for steps of transformers, for a product and for collectives: seconds, measured.

``python -m gsnn.scale.trials FILE`` is one of several processes that are measured at work together: they share the
memory's bandwidth, and what they send each other costs them time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from ..data.schema import Column, Schema
from ..errors import GsnnError
from ..memory import keep_memory
from ..model import Model
from ..rng import Rng
from ..training.parallel import Parallel
from ..training.runtime import Runtime
from ..training.settings import Layout, Train
from ..training.state import State
from ..training.step import gradients
from .shapes import Shape
from .study import shape_of
from .traffic import SENT

# (width, blocks, side of the image, images): tokens of 4 x 4 pixels; wide, long and small, so that products and memory
# traffic weigh differently
ON_CPU = ((256, 4, 64, 4), (768, 2, 64, 2), (384, 2, 128, 1), (128, 6, 64, 8))
ON_GPU = ((1024, 8, 256, 4), (2048, 4, 256, 2), (1024, 4, 512, 1), (512, 12, 256, 8))
TINY = (128, 8, 8, 1)  # a network whose steps cost what its blocks cost at any size
BYTES = tuple(2**k for k in (12, 16, 20, 22, 24))  # of a whole tensor that is sent


def training(layout: Layout, width: int, layers: int, side: int, objects: int) -> tuple[Shape, int, Callable[[], None]]:
    """A transformer's shape, its tokens, and a step of its training on ``objects`` images a data rank, by itself.

    In the precision of the planner's counts: float32 on a CPU, else bfloat16.
    """
    where = "cuda" if torch.cuda.is_available() else "cpu"
    runtime = Runtime(where, "bfloat16" if where == "cuda" else "float32", threads=torch.get_num_threads())
    settings, parallel = Train(batch=objects * layout.replicate * layout.shard), Parallel(layout, where)
    image = Schema.of([Column("image", "image", shape=(1, side, side), dtype="float32")])
    kind = Schema.of([Column("kind", "label", classes=("a", "b"), dtype="int64")])
    spec = {
        "model": {"name": "transformer", "width": width, "layers": layers, "heads": width // 64, "patch": 4,
                  "causal": True},
        "objective": {"name": "next-patch"},
        "transforms": {},
    }  # fmt: skip
    model = Model(image, kind, spec, seed=0)
    shape, tokens = shape_of(model.objective.network), model.objective.network.tokens
    state = State(model, settings, runtime, parallel, keep_best=False)
    model.train()
    batch = {
        "image": torch.randn(objects, 1, side, side, device=where),
        "kind": torch.zeros(objects, dtype=torch.int64, device=where),
        "row": torch.arange(objects, device=where),
    }

    def step() -> None:
        gradients(model, batch, Rng(0), settings, runtime, None, state.optimizer, parallel)
        parallel.norm([p for p in state.parameters.values() if p.grad is not None])
        state.optimizer.step()

    return shape, tokens, step


def trial(
    width: int, layers: int, side: int, images: int, steps: int = 5, layout: Layout | None = None
) -> tuple[Shape, int, float]:
    """A transformer's shape, its tokens, and the median seconds of a training step of it here, after two to warm up."""
    shape, tokens, step = training(layout or Layout(), width, layers, side, images)
    return shape, tokens, timed(step, steps)


def timed(step: Callable[[], object], steps: int) -> float:
    """Median seconds of a call, after two to warm up."""
    seconds = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def product() -> tuple[int, float]:
    """The FLOPs of a square product, and its seconds."""
    gpu = torch.cuda.is_available()
    n = 4096 if gpu else 1536
    one = torch.randn(n, n, device="cuda" if gpu else "cpu", dtype=torch.bfloat16 if gpu else torch.float32)
    return 2 * n**3, timed(lambda: one @ one, 5)


def stream(parameters: int = 2**24) -> float:
    """Bytes/s of AdamW's update of so many float32 parameters, each byte of its state counted twice: read, written."""
    weight = torch.nn.Parameter(torch.zeros(parameters, device="cuda" if torch.cuda.is_available() else "cpu"))
    weight.grad = torch.ones_like(weight)
    step = torch.optim.AdamW([weight], fused=True).step
    return 2 * 16 * parameters / timed(step, 5)


def links() -> dict[str, float]:
    """Kind of collective -> bytes/s that a rank sends, among the processes of this group.

    By least squares of a delay and a rate, relative to the times of messages of 4 KiB to 16 MiB.
    """
    from scipy.optimize import nnls

    ranks, rank = dist.get_world_size(), dist.get_rank()
    where = "cuda" if torch.cuda.is_available() else "cpu"
    found = {}
    for kind in SENT:
        rows = []
        for size in BYTES:
            whole = torch.ones(size // 4 // ranks * ranks, device=where)
            part = whole.chunk(ranks)[0].clone()
            call = {
                "all-gather": lambda: dist.all_gather_into_tensor(whole, part),  # noqa: B023
                "reduce-scatter": lambda: dist.reduce_scatter_tensor(part, whole),  # noqa: B023
                "all-reduce": lambda: dist.all_reduce(whole),  # noqa: B023
                "all-to-all": lambda: dist.all_to_all_single(torch.empty_like(whole), whole),  # noqa: B023
                "send": lambda: pass_on(whole, rank, ranks),  # noqa: B023
            }[kind]
            took = timed(call, 9)
            rows.append((1 / took, SENT[kind](ranks) * 4 * whole.numel() / took))
        found[kind] = float(1 / max(nnls(np.array(rows), np.ones(len(rows)))[0][1], 1e-15))
    return found


def pass_on(tensor: torch.Tensor, rank: int, ranks: int) -> None:
    """Send to the next of a ring while the one before sends."""
    into = torch.empty_like(tensor)
    ways = [dist.P2POp(dist.isend, tensor, (rank + 1) % ranks), dist.P2POp(dist.irecv, into, (rank - 1) % ranks)]
    for work in dist.batch_isend_irecv(ways):
        work.wait()


def overheads(ranks: int) -> dict[str, float]:
    """Seconds that a block costs more in a layout of so many ranks, at any size: hooks, dispatch, delays of messages.

    By dimension, and "ring" for the other attention of a context; of a tiny network, beside itself in one process.
    """
    alone = trial(*TINY, steps=15)[2]
    found = {}
    for name in ("replicate", "shard", "tensor", "context", "ring"):
        layout = Layout(context=ranks, attention="ring") if name == "ring" else Layout(**{name: ranks})
        width, layers, side, images = TINY
        case = (width * max(1, ranks // 2), layers, side, images)  # heads for all ranks
        found[name] = max(0.0, trial(*case, steps=15, layout=layout)[2] - alone) / layers
    return found


def measured() -> dict[str, Any]:
    """What is measured of this process: {"trials", "product", "stream", "links", "overheads"}.

    A trial is (shape, tokens, images, seconds), the product (FLOPs, seconds). In a group of processes: with all at
    work, and the slowest one's times, for which the others wait.
    """
    keep_memory()
    together = dist.is_initialized()

    def slowest(seconds: float) -> float:
        if not together:
            return seconds
        worst = torch.tensor(seconds, dtype=torch.float64, device="cuda" if torch.cuda.is_available() else "cpu")
        dist.all_reduce(worst, dist.ReduceOp.MAX)
        return float(worst)

    found = []
    for case in ON_GPU if torch.cuda.is_available() else ON_CPU:
        slowest(0.0)  # all begin
        shape, tokens, seconds = trial(*case)
        found.append((asdict(shape), tokens, case[3], slowest(seconds)))
    flops, seconds = product()
    told = {"trials": found, "product": (flops, slowest(seconds)), "links": {}, "overheads": {}}
    told["stream"] = 1 / slowest(1 / stream())
    if together:
        told["links"] = links()
        if not torch.cuda.is_available():  # a GPU has work left while the next kernels are prepared
            told["overheads"] = overheads(dist.get_world_size())
    return told


def measured_together(processes: int, threads: int) -> dict[str, Any]:
    """:func:`measured` of so many new processes of so many threads. Raises GsnnError where they fail."""
    with tempfile.TemporaryDirectory(prefix="gsnn-trials-") as folder:
        path = Path(folder) / "found.json"
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
            "-m", "gsnn.scale.trials", str(path),
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
        )
        if done.returncode or not path.exists():
            last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise GsnnError(f"{processes} processes could not be measured together; the last that they said: {last}")
        return json.loads(path.read_text())


def main() -> None:
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    found = measured()
    if dist.get_rank() == 0:
        Path(sys.argv[1]).write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
