"""The planner beside real trainings: communicated bytes of each kind, the peak of memory, and the time of a step.

    python benchmarks/planner.py --out benchmarks/results/planner.json
    python benchmarks/planner.py --sizes 128,4,64,4 --processes 2      # a quick look

Every layout trains a transformer on the CPU in float32 with AdamW by torchrun, one thread a process, in several sizes.
Bytes are those of the operations that torch.distributed dispatches in the third step; memory is the most anonymous
memory (sampled every 2 ms) above what the process held before the network was made. Times, of one process, are
planned for the device ``here``, which is measured first, on other sizes than these; they want an idle machine.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

LAYOUTS = {
    1: [{}, {"recompute": True}],
    2: [
        {"replicate": 2}, {"shard": 2}, {"shard": 2, "recompute": True}, {"tensor": 2}, {"context": 2},
        {"context": 2, "attention": "ring"},
    ],
    4: [
        {"replicate": 2, "shard": 2}, {"shard": 2, "tensor": 2}, {"shard": 2, "context": 2},
        {"replicate": 2, "tensor": 2}, {"context": 2, "tensor": 2},
    ],
}  # fmt: skip


def rss() -> int:
    """Anonymous memory of this process, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this kernel does not tell RssAnon")


class Peak:
    """The most anonymous memory while it watches."""

    def __enter__(self) -> Peak:
        self.bytes, self._on = rss(), True
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while self._on:
            self.bytes = max(self.bytes, rss())
            time.sleep(0.002)

    def __exit__(self, *_: object) -> None:
        self._on = False
        self._thread.join()


def counter():
    """A dispatch mode that sums the bytes which a ring would send for every collective, by kind."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    kinds = {
        "allreduce_": ("all-reduce", 2.0), "all_reduce": ("all-reduce", 2.0), "all_reduce_": ("all-reduce", 2.0),
        "_allgather_base_": ("all-gather", 1.0), "all_gather_into_tensor": ("all-gather", 1.0),
        "allgather_into_tensor_coalesced_": ("all-gather", 1.0), "allgather_": ("all-gather", 1.0),
        "_reduce_scatter_base_": ("reduce-scatter", 1.0), "reduce_scatter_tensor": ("reduce-scatter", 1.0),
        "alltoall_base_": ("all-to-all", 1.0), "all_to_all_single": ("all-to-all", 1.0), "send": ("send", 1.0),
    }  # fmt: skip

    def size(value) -> int:
        if isinstance(value, torch.Tensor):
            return value.numel() * value.element_size()
        return sum(size(v) for v in value) if isinstance(value, (list, tuple)) else 0

    class Count(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.bytes: dict[str, float] = {}
            self.small = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            space, _, name = function.name().partition("::")
            out = function(*args, **(kwargs or {}))
            if space in ("c10d", "_c10d_functional", "_c10d_functional_autograd"):
                kind, times = kinds.get(name.partition(".")[0], (None, 0.0))
                if kind:
                    whole = max(size(args), size(out)) if kind != "all-reduce" else size(args[0])
                    if kind == "all-to-all":
                        whole = size(args[1]) if name.startswith("alltoall") else size(args[0])
                    elif kind in ("all-gather", "reduce-scatter") and space == "c10d":
                        whole = max(size(args[0]), size(args[1]))
                    if whole <= 64:  # losses, weights, norms, flags
                        self.small += 1
                    else:
                        self.bytes[kind] = self.bytes.get(kind, 0.0) + whole * times
            return out

    return Count()


def work(layout: dict, given: argparse.Namespace, folder: Path) -> None:
    """One training of three steps; the first process writes what it found."""
    import torch

    from gsnn.data.schema import Column, Schema
    from gsnn.memory import keep_memory
    from gsnn.model import Model
    from gsnn.rng import Rng
    from gsnn.scale.study import shape_of
    from gsnn.training.parallel import Parallel
    from gsnn.training.runtime import Runtime
    from gsnn.training.settings import Layout, Train
    from gsnn.training.state import State
    from gsnn.training.step import gradients
    from gsnn.training.worker import join

    torch.set_num_threads(1)
    if given.timed:
        keep_memory()
    join()
    parallel = Parallel(Layout(**layout))
    width, layers, side, objects = given.size
    image = Schema.of([Column("image", "image", shape=(1, side, side), dtype="float32")])
    kind = Schema.of([Column("kind", "label", classes=("a", "b"), dtype="int64")])
    spec = {
        "model": {"name": "transformer", "width": width, "layers": layers, "heads": width // 64, "patch": 4,
                  "causal": True},
        "objective": {"name": "next-patch"},
        "transforms": {},
    }  # fmt: skip
    settings = Train(batch=objects, precision="float32")
    share = objects // parallel.data_ranks
    batch = {
        "image": torch.randn(share, 1, side, side),
        "kind": torch.zeros(share, dtype=torch.int64),
        "row": torch.arange(share),
    }
    runtime = Runtime("cpu", threads=1)
    tiny = Model(image, kind, {**spec, "model": {**spec["model"], "width": 64, "heads": 1, "layers": 1}}, seed=0)
    state = State(tiny, settings, runtime, Parallel(), keep_best=False)
    gradients(tiny, batch, Rng(0), settings, runtime, None, state.optimizer)  # libraries take memory of their own
    state.optimizer.step()
    del tiny, state
    before = rss()
    model = Model(image, kind, spec, seed=0)
    shape, tokens = shape_of(model.objective.network), model.objective.network.tokens
    state = State(model, settings, runtime, parallel, keep_best=False)
    model.train()
    count, times = counter(), []
    with Peak() as peak:
        for step in range(given.steps):
            start = time.perf_counter()
            with count if step == 2 else nullcontext():
                gradients(model, batch, Rng(0), settings, runtime, None, state.optimizer, parallel)
                parallel.norm([p for p in state.parameters.values() if p.grad is not None])
                state.optimizer.step()
            times.append(time.perf_counter() - start)
    if parallel.main:
        found = {
            "bytes": count.bytes, "small": count.small, "memory": peak.bytes - before,
            "seconds": statistics.median(times[3:]),  # the first warm up, the third is counted
            "shape": shape.__dict__, "tokens": tokens, "share": share,
        }  # fmt: skip
        (folder / "found.json").write_text(json.dumps(found))
    parallel.barrier()
    os._exit(0)


def planned(layout: dict, found: dict, device) -> tuple[dict[str, float], float, float]:
    """What the planner says of the same training: bytes by kind, memory, and seconds of a step."""
    from gsnn.scale.memory import Layout, memory
    from gsnn.scale.pace import pace
    from gsnn.scale.shapes import Shape
    from gsnn.scale.traffic import SENT, collectives

    shape, one = Shape(**found["shape"]), Layout(**layout)
    how = (shape, one, found["share"], found["tokens"])
    sent: dict[str, float] = {}
    for each in collectives(*how, bytes_each=4):
        whole = 2.0 if each.kind == "all-reduce" else 1.0
        sent[each.kind] = sent.get(each.kind, 0.0) + each.count * each.bytes * whole
    assert set(sent) <= set(SENT)
    return sent, sum(memory(*how, bytes_each=4).values()), pace(*how, device).seconds


def trained(layout: dict, size: str, steps: int, timed: bool = False) -> dict:
    """What a training in processes of their own found: its memory, or its pace."""
    processes = math.prod(layout.get(name, 1) for name in DIMENSIONS)
    with tempfile.TemporaryDirectory() as folder:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [
            sys.executable, *launcher * (processes > 1), __file__, "--work", json.dumps(layout), "--folder", folder,
            "--size", size, "--steps", str(steps), *["--timed"] * timed,
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **(ONE if timed else ONE | QUIET)}, timeout=900
        )
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        return json.loads((Path(folder) / "found.json").read_text())


def run(given: argparse.Namespace) -> dict[str, object]:
    import torch

    from gsnn.scale.here import here

    torch.set_num_threads(1)
    device = here()
    print(f"here: {device.peak / 1e9:.0f} GFLOP/s, {device.sustained:.2f} sustained, {device.bandwidth / 1e9:.1f} GB/s")
    found = []
    cases = [(size, layout) for count, some in LAYOUTS.items() if count <= given.processes for layout in some
             for size in (given.sizes if count < 4 else given.sizes[:1])]  # fmt: skip
    for size, layout in cases:
        got = trained(layout, size, 4)
        alone = not any(layout.get(name) for name in DIMENSIONS)
        took = trained(layout, size, given.steps, timed=True)["seconds"] if alone else None
        sent, held, seconds = planned(layout, got, device)
        found.append({
            "size": size, "layout": layout, "memory_gib": got["memory"] / 2**30, "planned_gib": held / 2**30,
            "memory_ratio": held / got["memory"], "bytes": got["bytes"], "planned_bytes": sent,
            "bytes_exact": all(got["bytes"].get(k, 0) == sent.get(k, 0) for k in {*sent, *got["bytes"]}),
            "seconds": took, "planned_seconds": seconds, "seconds_ratio": seconds / took if took else None,
        })  # fmt: skip
        last = found[-1]
        said = "bytes exact" if last["bytes_exact"] else f"bytes differ: {got['bytes']}, planned {sent}"
        print(
            f"{size} {layout}: {last['memory_gib']:.3f} GiB, planned x {last['memory_ratio']:.3f}; {said}"
            + (f"; {took:.3f} s, planned x {last['seconds_ratio']:.2f}" if took else ""),
            flush=True,
        )
    return {"here": asdict(device), "layouts": found}


# what is freed goes back at once, so that resident memory is what tensors take
ONE = {"OMP_NUM_THREADS": "1"}
QUIET = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
SIZES = ("512,8,64,4", "384,6,48,8", "640,5,80,2", "768,3,96,2")  # width, blocks, side of an image, batch
DIMENSIONS = ("replicate", "shard", "tensor", "context")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="width,blocks,side of an image,batch")
    parser.add_argument("--steps", type=int, default=8, help="of a training that is timed")
    parser.add_argument("--processes", type=int, default=4, help="the most of a layout; four with the first size only")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--timed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=lambda text: [int(n) for n in text.split(",")], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(json.loads(given.work), given, given.folder)
        return
    result = {
        "command": " ".join(["python", *sys.argv]),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "torch": importlib.metadata.version("torch"),
        "cores": os.cpu_count(),
        "load_at_start": os.getloadavg()[0],
        "steps": given.steps,
        **run(given),
    }
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
