"""Trainings of small networks under layouts of several processes: the loss of every step, and the weights at first."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gsnn.data.schema import Column, Schema

BATCH, SIDE = 8, 8
TRANSFORMER = {"name": "transformer", "width": 32, "layers": 4, "heads": 4, "kv_heads": 4, "patch": 2}
NEXT, MASKED = {"name": "next-patch"}, {"name": "masked-patch"}
CLASSIFY = {"name": "classify", "class_weights": "balanced"}  # a mean on each process would be wrong
TASKS: dict[str, dict[str, Any]] = {
    "residual": {"model": {"name": "resnet", "width": 4, "blocks": [1, 1]}, "objective": CLASSIFY, "target": "kind"},
    **{
        name + ending: {
            "model": {**TRANSFORMER, "layers": layers, "causal": objective is NEXT},
            "objective": objective,
            "target": "kind",
        }
        for name, objective in (("classify", CLASSIFY), ("next-patch", NEXT), ("masked-patch", MASKED))
        for ending, layers in (("", 4), (", 2 blocks", 2))
    },
}


def schema(name: str) -> Schema:
    if name == "image":
        return Schema.of([Column("image", "image", shape=(2, SIDE, SIDE), dtype="float32")])
    return Schema.of([Column("kind", "label", classes=("a", "b", "c"), dtype="int64")])


def objects(n: int) -> dict[str, torch.Tensor]:
    random = np.random.default_rng(5)
    kind = random.choice(3, n, p=(0.7, 0.2, 0.1))
    image = random.normal(size=(n, 2, SIDE, SIDE)) + 0.1 * kind[:, None, None, None]  # never learnt by heart
    return {
        "image": torch.from_numpy(image.astype(np.float32)),
        "kind": torch.from_numpy(kind.astype(np.int64)),
        "row": torch.arange(n),
    }


class Steps:
    """A stream in memory: the share of one process of each batch."""

    def __init__(self, n: int, rank: int = 0, ranks: int = 1, batch: int = BATCH):
        self.all, self.objects, self.rank, self.ranks, self.batch = objects(n), n, rank, ranks, batch
        self.steps_per_epoch = -(-n // batch)

    def batches(self, start: int, stop: int):
        for step in range(start, stop):
            first = step % self.steps_per_epoch * self.batch
            mine = slice(first + self.rank, min(first + self.batch, self.objects), self.ranks)
            yield {name: value[mine] for name, value in self.all.items()}


def model(task: str, seed: int = 3):
    from gsnn.model import Model

    spec = TASKS[task]
    made = Model(schema("image"), schema("kind"), {**spec, "transforms": {}}, seed=seed)
    if hasattr(made.objective, "weight"):
        made.objective.weight.copy_(torch.tensor([0.5, 1.7, 3.3]))
    return made


def digests(model: torch.nn.Module) -> dict[str, str]:
    """Of every whole parameter, on all processes together: a stage of a pipeline knows its own only."""
    from gsnn.training.together import gather

    found = {}
    for name, value in model.named_parameters():
        whole = value.full_tensor() if hasattr(value, "full_tensor") else value
        found[name] = hashlib.sha256(whole.detach().numpy().tobytes()).hexdigest()
    return {name: digest for one in gather(found, None) for name, digest in one.items()}


def train(task: str, layout: dict[str, Any], folder: Path, steps: int, **settings: Any) -> dict[str, Any]:
    """The loss of every step and epoch, and digests of the first weights. The last batch of an epoch is a short one."""
    n = 30 if steps < 20 else 150
    from gsnn.training.parallel import Parallel
    from gsnn.training.runtime import Runtime
    from gsnn.training.settings import Layout, Train
    from gsnn.training.trainer import _Fit

    chosen = Train(
        batch=BATCH, epochs=1000, max_steps=steps, checkpoint_seconds=3600.0,
        precision="float32", layout=Layout(**layout), **settings,
    )  # fmt: skip
    parallel = Parallel(chosen.layout)
    read, check = (Steps(k, parallel.data_rank, parallel.data_ranks) for k in (n, 14))
    fit = _Fit(
        model(task), read, check, chosen, folder, Runtime("cpu", threads=1), 0, None, lambda event: None, parallel
    )
    losses, step, initial = [], fit._step, digests(fit.model)

    def watched(batches: Any) -> None:
        fit.state.loss_sum.zero_()
        step(batches)
        losses.append(fit.state.loss_sum.item())

    fit._step = watched
    fit._save = lambda wait=False: None
    history = fit.run()
    return {"losses": losses, "valid": [event["valid_loss"] for event in history.epochs], "initial": initial}


def together(processes: int, cases: list[tuple[Any, ...]], folder: Path) -> list[dict[str, Any]]:
    """Every (task, layout, steps, settings) by a group of so many processes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cases.json").write_text(json.dumps(cases))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] * (processes > 1)
    done = subprocess.run(
        [sys.executable, *launcher, __file__, str(folder / "cases.json"), str(folder / "found.json")],
        capture_output=True, text=True, timeout=1500, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(done.stderr[-6000:])
    return json.loads((folder / "found.json").read_text())


def main() -> None:
    """``python equality.py CASES.json OUT.json``: every (task, layout, settings) of a world, one after the other."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        dist.init_process_group("gloo")
    found = []
    for task, layout, steps, settings in json.loads(Path(sys.argv[1]).read_text()):
        folder = Path(sys.argv[2] + f".runs/{len(found)}")
        found.append(train(task, layout, folder, steps, **settings))
    if rank == 0:
        Path(sys.argv[2]).write_text(json.dumps(found))
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
