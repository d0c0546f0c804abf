"""The planner beside real trainings: communicated bytes of each kind, and the peak of memory, over layouts.

    python benchmarks/planner.py --out benchmarks/results/planner.json
    python benchmarks/planner.py --width 128 --processes 2      # a quick look

Every layout trains the same transformer on the CPU in float32 with AdamW by torchrun. Bytes are those of the operations
that torch.distributed dispatches in the third step; memory is the most anonymous memory (sampled every 2 ms) above what
the process held before the network was made.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
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
    join()
    parallel = Parallel(Layout(**layout))
    image = Schema.of([Column("image", "image", shape=(1, given.side, given.side), dtype="float32")])
    kind = Schema.of([Column("kind", "label", classes=("a", "b"), dtype="int64")])
    spec = {
        "model": {"name": "transformer", "width": given.width, "layers": given.layers, "heads": given.width // 64,
                  "patch": 4, "causal": True},
        "objective": {"name": "next-patch"},
        "transforms": {},
    }  # fmt: skip
    settings = Train(batch=given.batch, precision="float32")
    share = given.batch // parallel.data_ranks
    batch = {
        "image": torch.randn(share, 1, given.side, given.side),
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
            "seconds": sorted(times)[len(times) // 2],
            "shape": shape.__dict__, "tokens": tokens, "share": share,
        }  # fmt: skip
        (folder / "found.json").write_text(json.dumps(found))
    parallel.barrier()
    os._exit(0)


def planned(layout: dict, found: dict) -> tuple[dict[str, float], float]:
    """What the planner says of the same training: bytes by kind, and memory."""
    from gsnn.scale.memory import Layout, memory
    from gsnn.scale.shapes import Shape
    from gsnn.scale.traffic import SENT, collectives

    shape, one = Shape(**found["shape"]), Layout(**layout)
    how = (shape, one, found["share"], found["tokens"])
    sent: dict[str, float] = {}
    for each in collectives(*how, bytes_each=4):
        whole = 2.0 if each.kind == "all-reduce" else 1.0
        sent[each.kind] = sent.get(each.kind, 0.0) + each.count * each.bytes * whole
    assert set(sent) <= set(SENT)
    return sent, sum(memory(*how, bytes_each=4).values())


def run(given: argparse.Namespace) -> dict[str, object]:
    found = []
    for processes, layouts in LAYOUTS.items():
        for layout in layouts if processes <= given.processes else ():
            with tempfile.TemporaryDirectory() as folder:
                launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
                command = [
                    sys.executable, *launcher * (processes > 1), __file__,
                    "--work", json.dumps(layout), "--folder", folder,
                    *(word for name in SIZES for word in (f"--{name}", str(getattr(given, name)))),
                ]  # fmt: skip
                done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **QUIET}, timeout=900)
                if done.returncode:
                    raise SystemExit(done.stderr[-3000:])
                got = json.loads((Path(folder) / "found.json").read_text())
            sent, held = planned(layout, got)
            found.append({"layout": layout, "memory_gib": got["memory"] / 2**30, "planned_gib": held / 2**30,
                          "memory_ratio": held / got["memory"], "bytes": got["bytes"], "planned_bytes": sent,
                          "seconds": got["seconds"]})  # fmt: skip
            exact = all(got["bytes"].get(k, 0) == sent.get(k, 0) for k in {*sent, *got["bytes"]})
            said = f"exact: {sent}" if exact else f"differ: {got['bytes']}, planned {sent}"
            print(f"{layout}: {got['memory'] / 2**30:.3f} GiB, planned {held / 2**30:.3f}; bytes {said}", flush=True)
    return {"layouts": found}


# what is freed goes back at once, so that resident memory is what tensors take
QUIET = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
SIZES = ("width", "layers", "side", "batch", "steps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in zip(SIZES, (512, 8, 64, 8, 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--processes", type=int, default=4, help="the most processes of a layout")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(json.loads(given.work), given, given.folder)
        return
    result = {
        "command": " ".join(["python", *sys.argv]),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        **{name: getattr(given, name) for name in SIZES},
        **run(given),
    }
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
