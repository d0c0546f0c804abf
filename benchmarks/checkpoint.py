"""How long a checkpoint holds up the training, digests included, beside writing it on the spot.

    python benchmarks/checkpoint.py                     # 1 GiB, one process and two

The pause is the time of ``save``: until the tensors may change again. A save on the spot is the same with the time
until the checkpoint stands on the disk, synced and digested. Both are of the same save, the slowest process counts, and
the first save, which also has to get its memory from the system, is told apart. A bare copy of the same bytes in
memory, the least that a pause can take, is measured in the same rounds. Beside them torch's own
``distributed.checkpoint`` on the same tensors, on the spot and asynchronous; it keeps no digests, but syncs its files.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
AIM = 0.06


def tensors(gib: float, world: int) -> dict[str, Tensor]:
    """Weights and two moments as a transformer of width 1,024 has them, in rows over the processes."""
    width = 1024
    blocks = round(gib * 2**30 / (3 * 4 * (12 * width**2 + 6 * width)))
    shapes = {"qkv": (3 * width, width), "out": (width, width), "up": (4 * width, width), "down": (width, 4 * width)}
    shapes |= {f"norm{i}": (width,) for i in range(6)}
    made: dict[str, Tensor] = {}
    for kind in ("model", "optimizer/first", "optimizer/second"):
        for block in range(blocks):
            for name, shape in shapes.items():
                value = torch.rand(shape[0] // world, *shape[1:])
                made[f"{kind}/blocks.{block}.{name}"] = spread(value, world) if world > 1 else value
    return made


def spread(value: Tensor, world: int) -> Tensor:
    from torch.distributed.tensor import DeviceMesh, DTensor, Shard

    global MESH
    MESH = MESH or DeviceMesh("cpu", list(range(world)))
    return DTensor.from_local(value, MESH, [Shard(0)], run_check=False)


MESH = None


def slowest(seconds: float, world: int) -> float:
    if world > 1:
        value = torch.tensor(seconds, dtype=torch.float64)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return value.item()
    return seconds


def together(world: int) -> float:
    """The time, once all processes are here."""
    if world > 1:
        dist.barrier()
    return time.perf_counter()


def gsnn(folder: Path, values: dict[str, Tensor], rounds: int, world: int) -> dict:
    from gsnn.training import checkpoint

    pauses, whole, bare = [], [], []
    own = [value.to_local() if world > 1 else value for value in values.values()]
    room = [torch.zeros_like(value) for value in own]
    for step in range(rounds + 1):
        start = together(world)
        for to, value in zip(room, own):
            to.copy_(value)
        bare.append(slowest(time.perf_counter() - start, world))
        start = together(world)
        pending = checkpoint.save(folder, step, values, {"step": step}, keep=1)
        pauses.append(slowest(time.perf_counter() - start, world))
        pending.thread.join()
        while not pending.path.exists():
            time.sleep(0.001)
        whole.append(slowest(time.perf_counter() - start, world))
    pending.wait()
    del room
    like = {name: torch.zeros_like(value) for name, value in values.items()}
    start = together(world)
    loaded = checkpoint.load(folder, like)
    read = slowest(time.perf_counter() - start, world)
    local = (lambda t: t.to_local()) if world > 1 else (lambda t: t)
    assert loaded is not None
    assert all(torch.equal(local(like[name]), local(value)) for name, value in values.items())
    found = {"first_pause": pauses[0], "pause": pauses[1:], "whole": whole[1:], "bare_copy": bare[1:]}
    return found | {"read_and_verified": read}


def torch_own(folder: Path, values: dict[str, Tensor], rounds: int, world: int) -> dict:
    import torch.distributed.checkpoint as dcp

    warnings.filterwarnings("ignore")
    sync, pauses = [], []
    for step in range(rounds):
        start = together(world)
        dcp.save(values, checkpoint_id=folder / f"sync-{step}")
        sync.append(slowest(time.perf_counter() - start, world))
        if dist.get_rank() == 0:
            shutil.rmtree(folder / f"sync-{step}")
    for step in range(rounds + 1):
        start = together(world)
        future = dcp.async_save(values, checkpoint_id=folder / f"async-{step}")
        pauses.append(slowest(time.perf_counter() - start, world))
        future.result()
        together(world)
        if dist.get_rank() == 0:
            shutil.rmtree(folder / f"async-{step}")
    return {"first_pause": pauses[0], "pause": pauses[1:], "whole": sync}


def process(rank: int, world: int, folder: str, arguments: argparse.Namespace, answer) -> None:
    torch.set_num_threads(1)
    measured = {"gsnn": gsnn, "torch": torch_own}[arguments.who]
    grouped = world > 1 or arguments.who == "torch"
    if grouped:
        store = dist.FileStore(f"{folder}/store", world)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    values = tensors(arguments.gib, world)
    result = measured(Path(folder) / "checkpoints", values, arguments.rounds, world)
    if rank == 0:
        size = sum(value.numel() * value.element_size() for value in values.values())
        answer.put(result | {"gib": size / 2**30, "tensors": len(values)})
    if grouped:
        dist.barrier()
        dist.destroy_process_group()
    sys.stdout.flush()


def measure(who: str, world: int, arguments: argparse.Namespace) -> dict:
    spawn = multiprocessing.get_context("spawn")
    answer = spawn.Queue()
    arguments.who = who
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        running = [spawn.Process(target=process, args=(r, world, folder, arguments, answer)) for r in range(world)]
        for one in running:
            one.start()
        result = answer.get(timeout=600)
        for one in running:
            one.join()
    pause, whole = statistics.median(result["pause"]), statistics.median(result["whole"])
    shares = [p / w for p, w in zip(result["pause"], result["whole"])]
    rounded = {k: [round(x, 4) for x in v] if isinstance(v, list) else round(v, 4) for k, v in result.items()}
    summary = {"pause_median": round(pause, 4), "whole_median": round(whole, 4), "share": round(pause / whole, 4)}
    if "bare_copy" in result:
        summary["bare_copy_median"] = round(statistics.median(result["bare_copy"]), 4)
    return rounded | summary | {"share_worst": round(max(shares), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=1.1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where to write; default: the system's temporary folder")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/checkpoint.json")
    arguments = parser.parse_args()
    results = {}
    for world in (1, 2):
        for who in ("gsnn", "torch"):
            found = results[f"{who}, {world} process{'es' * (world > 1)}"] = measure(who, world, arguments)
            print(
                f"{who}, {world} process(es): pause {found['pause_median']:.3f} s, first {found['first_pause']:.2f} s, "
                f"on the spot {found['whole_median']:.2f} s: {found['share']:.1%}",
                flush=True,
            )
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    document = {
        "what": f"pause of a checkpoint of {arguments.gib} GiB against a save on the spot, digests and syncs included",
        "aim": f"pause at most {AIM:.0%} of a save on the spot",
        "met": all(found["share"] <= AIM for name, found in results.items() if name.startswith("gsnn")),
        "command": f"python benchmarks/checkpoint.py --gib {arguments.gib} --rounds {arguments.rounds}",
        "commit": commit.strip(),
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "results": results,
    }
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
