"""What the trainer costs over a bare PyTorch loop, beside Lightning's Trainer as it comes.

    python benchmarks/trainer.py                        # gsnn against the bare loop
    python benchmarks/trainer.py --lightning PYTHON     # and Lightning, which PYTHON (of its own environment) imports

All train the same small CNN (64 x 64 x 3) on the same batches with the same optimiser, schedule, clipping and runtime.
Each takes turns, round by round, with a bare loop in its own process (so that neither the load of the machine nor the
state of the allocator is taken for a difference); the result is the ratio of the medians of the times of a round, by
the wall clock and by the processor's. Logging, non-finite checks and checkpoints are on, as a user has them.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]


class CNN(nn.Module):
    def __init__(self, width: int = 32):
        super().__init__()
        sizes = [3, width, 2 * width, 4 * width]
        blocks = [
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(8, b), nn.ReLU(), nn.MaxPool2d(2))
            for a, b in pairwise(sizes)
        ]
        self.body, self.head = nn.Sequential(*blocks), nn.Linear(sizes[-1], 10)

    def forward(self, image):
        return self.head(self.body(image).mean((2, 3)))


class Model(nn.Module):
    """The CNN under the trainer's contract."""

    def __init__(self):
        super().__init__()
        self.network = CNN()

    def terms(self, batch, rng):
        out = self.network(batch["image"])
        total = nn.functional.cross_entropy(out, batch["label"], reduction="sum")
        return {"cross_entropy": (total, torch.tensor(float(len(out)), device=out.device))}

    def after_step(self, step):
        pass


class Stream:
    def __init__(self, batches):
        self.data, self.steps_per_epoch, self.objects, self.seed = batches, len(batches), 0, 0

    def batches(self, start, stop):
        return iter(self.data[step % len(self.data)] for step in range(start, stop))


def data(steps: int, batch: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "row": torch.arange(batch) + i * batch,
            "image": torch.randn(batch, 3, 64, 64, generator=generator),
            "label": torch.randint(10, (batch,), generator=generator),
        }
        for i in range(steps)
    ]


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> tuple[float, float]:
    """Seconds by the wall clock and by the processor's."""
    return tuple(now - then for now, then in zip(clocks(), start))


def gsnn_round(batches, dtype: str) -> tuple[float, float]:
    from gsnn.training.runtime import Runtime
    from gsnn.training.settings import Train
    from gsnn.training.trainer import fit

    torch.manual_seed(0)
    model = Model()
    settings = Train(epochs=1, batch=len(batches[0]["row"]))
    runtime = Runtime("cpu", dtype, "channels_last", torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        start = clocks()
        fit(model, Stream(batches), None, settings, Path(folder), runtime=runtime)
        return since(start)


def bare_round(batches, dtype: str) -> tuple[float, float]:
    torch.manual_seed(0)
    model = CNN().to(memory_format=torch.channels_last)
    total, warmup = len(batches), 0.05 * len(batches)

    def factor(step):
        if step < warmup:
            return (step + 1) / (math.ceil(warmup) + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))

    start = clocks()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for batch in batches:
        image = batch["image"].contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            out = model(image)
        loss = nn.functional.cross_entropy(out.float(), batch["label"])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    return since(start)


def lightning_round(batches, dtype: str) -> tuple[float, float]:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = CNN().to(memory_format=torch.channels_last)

        def training_step(self, batch, index):
            image = batch["image"].contiguous(memory_format=torch.channels_last)
            loss = nn.functional.cross_entropy(self.network(image).float(), batch["label"])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    torch.manual_seed(0)
    module = Module()
    with tempfile.TemporaryDirectory() as folder:
        start = clocks()
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            precision="bf16-mixed" if dtype == "bfloat16" else "32-true",
            gradient_clip_val=None,  # refused beside fused AdamW: Lightning is spared this work
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
        return since(start)


CONTENDERS = {"gsnn": gsnn_round, "lightning": lightning_round}


def contest(name: str, arguments: argparse.Namespace) -> dict:
    """Rounds of one contender and of the bare loop, alternating; seconds (wall, processor) of each round."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    batches = data(arguments.steps, arguments.batch)
    rounds = {"bare": bare_round, name: CONTENDERS[name]}
    seconds: dict[str, list[tuple[float, float]]] = {key: [] for key in rounds}
    for number in range(arguments.rounds + 1):
        for key in list(rounds) if number % 2 else reversed(rounds):
            passed = rounds[key](batches, arguments.dtype)
            if number:  # the first round warms up
                seconds[key].append(passed)
    result = {"rounds": {key: [[round(t, 4) for t in times] for times in value] for key, value in seconds.items()}}
    for clock, at in (("wall", 0), ("processor", 1)):
        mine, bare = ([times[at] for times in seconds[key]] for key in (name, "bare"))
        result[f"{clock}_ratio_to_bare"] = round(statistics.median(mine) / statistics.median(bare), 4)
        result[f"{clock}_ratio_95"] = interval(mine, bare)
    return result


def interval(a: list[float], b: list[float]) -> list[float]:
    """95% bootstrap interval of median(a) / median(b), rounds drawn in pairs."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.tensor([a, b]).T
    picks = torch.randint(len(a), (4000, len(a)), generator=generator)
    medians = pairs[picks].quantile(0.5, dim=1)
    return [round(x, 4) for x in (medians[:, 0] / medians[:, 1]).quantile(torch.tensor([0.025, 0.975])).tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--lightning", metavar="PYTHON", help="a Python that imports lightning")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / f"{Path(__file__).stem}.json")
    parser.add_argument("--contest", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contest:
        print(json.dumps(contest(arguments.contest, arguments)))
        return
    options = [f"--{name}={getattr(arguments, name)}" for name in ("rounds", "steps", "batch", "dtype", "threads")]
    pythons = {"gsnn": sys.executable} | ({"lightning": arguments.lightning} if arguments.lightning else {})
    result: dict = {
        "what": f"small CNN, 64x64x3, {arguments.steps} steps of {arguments.batch} images a round, {arguments.dtype}",
        "command": " ".join(["python benchmarks/trainer.py", *options, *(["--lightning PYTHON"] * (len(pythons) > 1))]),
        "commit": output("git", "-C", str(ROOT), "rev-parse", "HEAD"),
        "processors": os.cpu_count(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "results": {},
    }
    for name, python in pythons.items():
        if name == "lightning":
            result["versions"][name] = output(python, "-c", "import lightning; print(lightning.__version__)")
        result["results"][name] = json.loads(output(python, __file__, "--contest", name, *options).splitlines()[-1])
    result["load_average"] = os.getloadavg()
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, found in result["results"].items():
        print(name, {key: value for key, value in found.items() if key != "rounds"})


def output(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
