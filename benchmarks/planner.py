"""The planner beside real trainings: communicated bytes of each kind, the peak of memory, and the time of a step.

    python benchmarks/planner.py --out benchmarks/results/planner.json
    python benchmarks/planner.py --times --out benchmarks/results/planner_times.json
    python benchmarks/planner.py --sizes 128,4,64,4 --processes 2      # a quick look

Every layout trains a transformer on the CPU in float32 with AdamW by torchrun, one thread a process, in several sizes.
Bytes are those of the operations that torch.distributed dispatches in the third step; memory is the most anonymous
memory (sampled every 2 ms) above what the process held before the network was made. Times are planned for the device
``here``, which is measured first, on other sizes than these, with as many processes; they want an idle machine.
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

    from gsnn.memory import keep_memory
    from gsnn.scale.trials import training
    from gsnn.training.settings import Layout
    from gsnn.training.worker import join

    torch.set_num_threads(1)
    if given.timed:
        keep_memory()
    join()
    layout = Layout(**layout)
    width, layers, side, objects = given.size
    share = objects // (layout.replicate * layout.shard)
    tiny = training(Layout(), 64, 1, side, share)[2]
    tiny()  # libraries take memory of their own
    del tiny
    before = rss()
    shape, tokens, train = training(layout, width, layers, side, share)
    count, times = counter(), []
    watch = nullcontext() if given.timed else Peak()  # it would slow the steps
    with watch as peak:
        for step in range(given.steps):
            start = time.perf_counter()
            with count if step == 2 and not given.timed else nullcontext():
                train()
            times.append(time.perf_counter() - start)
    if int(os.environ.get("RANK", 0)) == 0:
        found = {
            "bytes": count.bytes, "small": count.small, "memory": peak.bytes - before if peak else None,
            "seconds": statistics.median(times[3:]),  # the first warm up, the third is counted where it is not timed
            "shape": shape.__dict__, "tokens": tokens, "share": share,
        }  # fmt: skip
        (folder / "found.json").write_text(json.dumps(found))
    if layout.processes > 1:
        torch.distributed.barrier()
    os._exit(0)


def planned(layout: dict, found: dict, device=None) -> tuple[dict[str, float], float, float | None]:
    """What the planner says of the same training: bytes by kind, memory, and seconds of a step on a device."""
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
    return sent, sum(memory(*how, bytes_each=4).values()), device and pace(*how, device).seconds


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


def cases(given: argparse.Namespace) -> list[tuple[str, dict]]:
    return [(size, layout) for count, some in LAYOUTS.items() if count <= given.processes for layout in some
            for size in (given.sizes if count < 4 else given.sizes[:1])]  # fmt: skip


def paced(given: argparse.Namespace) -> dict[str, object]:
    """Times of steps beside those that are planned, of as many processes as there are cores at most.

    Everything is measured in every round; the ratio is that of the medians.
    """
    import torch

    from gsnn.scale.here import here

    torch.set_num_threads(1)
    devices, times, plans, some = [], {}, {}, []
    for size, layout in cases(given):
        processes = math.prod(layout.get(name, 1) for name in DIMENSIONS)
        if processes <= os.cpu_count():
            some.append((size, layout, processes))
    for _ in range(given.rounds):
        now = {count: here(count) for count in sorted({count for *_, count in some})}
        for count, device in now.items():
            links = {kind: f"{rate / 1e9:.2f} GB/s" for kind, rate in device.links.items()}
            each = {name: f"{1e3 * each:.1f} ms a block" for name, each in device.overheads.items()}
            print(
                f"{count} at work: {device.peak / 1e9:.0f} GFLOP/s, {device.sustained:.2f} sustained, "
                f"{device.bandwidth / 1e9:.1f} GB/s",
                *(f"{name} {value}" for name, value in (links | each).items()),
                sep="; ",
            )
        devices.append({count: asdict(device) for count, device in now.items()})
        for size, layout, count in some:
            got = trained(layout, size, given.steps, timed=True)
            key = (size, json.dumps(layout))
            times.setdefault(key, []).append(got["seconds"])
            plans.setdefault(key, []).append(planned(layout, got, now[count])[2])
            print(f"{size} {layout}: {times[key][-1]:.3f} s, planned {plans[key][-1]:.3f} s", flush=True)
    found = []
    for size, layout, _ in some:
        took, thought = (statistics.median(these[size, json.dumps(layout)]) for these in (times, plans))
        found.append({
            "size": size, "layout": layout, "seconds": took, "planned_seconds": thought,
            "seconds_ratio": thought / took, "rounds": times[size, json.dumps(layout)],
        })  # fmt: skip
        print(f"{size} {layout}: {took:.3f} s, planned x {thought / took:.2f}")
    return {"here": devices, "layouts": found}


def run(given: argparse.Namespace) -> dict[str, object]:
    """Bytes and memory beside those that are planned."""
    found = []
    for size, layout in cases(given):
        got = trained(layout, size, 4)
        sent, held = planned(layout, got)[:2]
        found.append({
            "size": size, "layout": layout, "memory_gib": got["memory"] / 2**30, "planned_gib": held / 2**30,
            "memory_ratio": held / got["memory"], "bytes": got["bytes"], "planned_bytes": sent,
            "bytes_exact": all(got["bytes"].get(k, 0) == sent.get(k, 0) for k in {*sent, *got["bytes"]}),
        })  # fmt: skip
        last = found[-1]
        said = "bytes exact" if last["bytes_exact"] else f"bytes differ: {got['bytes']}, planned {sent}"
        print(
            f"{size} {layout}: {last['memory_gib']:.3f} GiB, planned x {last['memory_ratio']:.3f}; {said}", flush=True
        )
    return {"layouts": found}


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
    parser.add_argument("--rounds", type=int, default=3, help="of times")
    parser.add_argument("--times", action="store_true", help="of steps, instead of bytes and memory: an idle machine")
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
        **(paced if given.times else run)(given),
    }
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
