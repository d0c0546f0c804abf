"""A 3-D U-Net on blocks of a field against the same network on the whole of it: exactness, bytes, memory, time.

    python benchmarks/halo.py                          # a periodic box of 64^3, on 1, 2 and 4 processes
    python benchmarks/halo.py --size 96 --width 16

Two objects, because for one torch takes a small block's convolution by unfolding it into 27 copies on a CPU.
Each layout is a group of processes of its own. A step is the forward pass of an answer for each voxel and the backward
pass of a loss of it. ``peak`` is what a step adds to the resident set at its fullest (the high-water mark, set back
before it, after a step on a small field that loads the libraries); ``kept`` are the bytes that autograd keeps for the
backward pass, each storage once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

ROOT = Path(__file__).resolve().parents[1]
OBJECTS = 2
LAYOUTS = {
    "float64": ((1,), "z"),  # what the others' rounding is measured against
    "1": ((1,), "z"),
    "2x1": ((2, 1), "zy"),
    "2x2": ((2, 2), "zy"),
    "1x4": ((1, 4), "zy"),
    "2x2x1": ((2, 2, 1), "zyx"),
}


def network(arguments: argparse.Namespace) -> torch.nn.Module:
    from gsnn.config import build
    from gsnn.data.schema import Column, Schema
    from gsnn.models.initialise import initialise

    inputs = Schema.of([Column("density", "field", shape=(1, *[arguments.size] * 3))])
    settings = {"width": arguments.width, "depth": arguments.depth, "boundary": arguments.boundary}
    made = build({"name": "unet", **settings}, "model", inputs, 2)
    initialise(made, 0)
    return made


def data(arguments: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    """The field, and what the loss multiplies the answers with."""
    generator = torch.Generator().manual_seed(0)
    shape = [arguments.size] * 3
    return tuple(torch.randn(OBJECTS, channels, *shape, generator=generator) for channels in (1, 2))


def resident(name: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at the fullest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


class Ledger:
    """Bytes handed to the network: of halos, and of the sums of norms."""

    def __init__(self) -> None:
        self.halos, self.sums = 0, 0
        post, add = dist.batch_isend_irecv, dist.all_reduce

        def counted_post(posts):
            self.halos += sum(one.tensor.nbytes for one in posts if one.op is dist.isend)
            return post(posts)

        def counted_add(x, *more, **other):
            self.sums += x.nbytes
            return add(x, *more, **other)

        dist.batch_isend_irecv, dist.all_reduce = counted_post, counted_add


def member(arguments: argparse.Namespace) -> None:
    """One process of one layout: what it saw, as JSON, and the gradients of the whole group for the exactness."""
    from gsnn.training.halo import part, whole
    from gsnn.training.space import shard_space, traffic

    torch.set_num_threads(1)
    counts, dims = LAYOUTS[arguments.layout]
    world = math.prod(counts)
    store = dist.FileStore(f"{arguments.folder}/store-{arguments.layout}", world)
    dist.init_process_group("gloo", store=store, rank=arguments.rank, world_size=world, timeout=timedelta(minutes=10))
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", counts)
    field, weight = data(arguments)
    shape = tuple(field.shape)
    net = network(arguments)
    if arguments.layout == "float64":
        net, field, weight = net.double(), field.double(), weight.double()
    planned = traffic(net, counts, dims, {"density": shape})
    if world > 1:
        shard_space(net, mesh, dims)
    # a copy, so that the whole field can go: a process that reads its own block never holds it
    field, weight = (part(x, mesh, dims).contiguous().clone() for x in (field, weight))
    small = torch.ones(OBJECTS, 1, *[4 * 2 ** (arguments.depth - 1)] * 3, dtype=field.dtype)
    net.read(density=part(small, mesh, dims).contiguous()).sum().backward()
    net.zero_grad()
    ledger, seen = Ledger(), {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    for parameter in net.parameters():
        seen[parameter.untyped_storage().data_ptr()] = 0
    dist.barrier()
    Path("/proc/self/clear_refs").write_text("5")
    before, start = resident("VmRSS"), time.perf_counter()
    out = net.read(density=field)
    forward, halos_forward = time.perf_counter() - start, ledger.halos
    (out * weight).sum().backward()
    seconds, peak = time.perf_counter() - start, resident("VmHWM") - before
    halos, sums = ledger.halos, ledger.sums
    gradients = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    parameters = {p.untyped_storage().data_ptr() for p in net.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        again = net.read(density=field)
    kept = sum(size for where, size in seen.items() if where not in parameters)
    del again
    for gradient in gradients.values():
        dist.all_reduce(gradient)
    answer = whole(out, mesh, dims)
    if arguments.rank == 0:
        from safetensors.torch import save_file

        save_file({"answer": answer.contiguous(), **gradients}, f"{arguments.folder}/{arguments.layout}.safetensors")
    print(
        json.dumps(
            {
                "planned_bytes": planned,
                "halo_bytes": [halos_forward, halos - halos_forward],
                "sum_bytes": sums,
                "peak_bytes": peak,
                "kept_bytes": kept,
                "seconds": [round(forward, 3), round(seconds - forward, 3)],
            }
        )
    )
    dist.barrier()
    dist.destroy_process_group()


def layout(name: str, arguments: argparse.Namespace, folder: str) -> dict:
    """All processes of a layout, and what they say together."""
    options = [f"--{key}={getattr(arguments, key)}" for key in ("size", "width", "depth", "boundary")]
    command = [sys.executable, __file__, *options, f"--layout={name}", f"--folder={folder}"]
    # each tensor a mapping of its own, so that memory is what tensors hold and not what the allocator has to spare
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    made = [
        subprocess.Popen([*command, f"--rank={rank}"], stdout=subprocess.PIPE, text=True, env=environment)
        for rank in range(math.prod(LAYOUTS[name][0]))
    ]
    said = [one.communicate()[0] for one in made]
    if any(one.returncode for one in made):
        raise SystemExit(f"a process of the layout {name} failed")
    seen = [json.loads(text.splitlines()[-1]) for text in said]
    return {key: [one[key] for one in seen] for key in seen[0]}


def difference(folder: str, name: str, wanted: str) -> dict[str, float]:
    """Of the answer and of each parameter's gradient, of its largest value; of the whole gradient, of its norm."""
    from safetensors.torch import load_file

    one, other = (load_file(f"{folder}/{which}.safetensors") for which in (wanted, name))
    apart = {key: float((other[key] - one[key]).abs().max() / one[key].abs().max()) for key in one}
    answer = apart.pop("answer")
    far = math.sqrt(sum(float((other[key] - one[key]).square().sum()) for key in apart))
    norm = math.sqrt(sum(float(one[key].square().sum()) for key in apart))
    return {"answer": answer, "gradient": far / norm, "worst_parameter": max(apart.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--boundary", choices=["periodic", "zero"], default="periodic")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / f"{Path(__file__).stem}.json")
    parser.add_argument("--layout", choices=LAYOUTS, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.layout:
        member(arguments)
        return
    chosen = " ".join(f"--{key} {getattr(arguments, key)}" for key in ("size", "width", "depth", "boundary"))
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], stdout=subprocess.PIPE, text=True).stdout
    result: dict = {
        "what": "3-D U-Net with an answer for each voxel, float32, two fields; one entry a process in every list",
        "command": f"python benchmarks/halo.py {chosen}",
        "commit": commit.strip(),
        "processors": os.cpu_count(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "results": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in LAYOUTS:
            found = layout(name, arguments, folder)
            if name != "float64":
                found["from_float64"] = difference(folder, name, "float64")
            if name not in ("float64", "1"):
                found["from_one_process"] = difference(folder, name, "1")
                for what in ("peak", "kept"):
                    share = max(found[f"{what}_bytes"]) / result["results"]["1"][f"{what}_bytes"][0]
                    found[f"{what}_of_one_process"] = round(share, 4)
                found["bytes_exact"] = found["planned_bytes"] == found["halo_bytes"]
            result["results"][name] = found
            print(name, json.dumps(found))
    result["load_average"] = os.getloadavg()
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
