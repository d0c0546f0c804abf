"""Does a generator repeat its training fields? The nearest of them to a draw, beside the nearest to a simulation.

    python benchmarks/memorised.py runs/cosmic-web --out benchmarks/results/memorised.json

Nearness is the correlation of two maps in the units of the flow (log density), the highest over all shifts and the
eight orientations of a square, since the network was taught all of these. Simulations are held-out maps, which nobody
can have repeated.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from gsnn.data.augment_fields import TURNS, turned
from gsnn.predict import predict_view
from gsnn.run import Run


def modes(maps: np.ndarray) -> torch.Tensor:
    """Fourier modes of maps [object, y, x], each of mean 0 and length 1."""
    maps = torch.as_tensor(np.asarray(maps, np.float32))
    maps = maps - maps.mean((1, 2), keepdim=True)
    return torch.fft.rfft2(maps / maps.square().sum((1, 2), keepdim=True).sqrt())


def nearest(one: np.ndarray, others: torch.Tensor, side: int) -> float:
    """The highest correlation of a map [y, x] with any of the others in any orientation and place."""
    views = np.stack([turned(torch.as_tensor(one)[None], *turn)[0].numpy() for turn in TURNS[2]])
    best = -1.0
    for view in modes(views):
        for some in others.split(1024):
            best = max(best, float(torch.fft.irfft2(some * view.conj(), s=(side, side)).max()))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--objects", type=int, default=40)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    run = Run(given.run)
    one, model = run.ground, run.model
    name = one.target

    def units(values: np.ndarray) -> np.ndarray:
        return model.objective.transform(torch.tensor(values).float()[:, None])[:, 0].numpy()

    train = units(one.train.columns([name])[name][:, 0])
    some = one.test.take(np.linspace(0, len(one.test) - 1, given.objects).astype(int))
    draws = units(predict_view(model, some, run.runtime)[0][name].value[:, 0, 0])
    truth = units(some.columns([name])[name][:, 0])
    others, side = modes(train), train.shape[-1]
    found = {
        who: [nearest(one, others, side) for one in tqdm(maps, desc=who)]
        for who, maps in (("draws", draws), ("simulations", truth))
    }
    result = {
        "command": f"python benchmarks/memorised.py {given.run} --objects {given.objects}",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(), "torch": torch.__version__,
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "training_maps": len(train), "objects": given.objects,
        **{who: {"median": float(np.median(v)), "highest": max(v), "each": v} for who, v in found.items()},
    }  # fmt: skip
    for who in found:
        print(f"{who}: median correlation with the nearest training map {result[who]['median']:.3f}, "
              f"highest {result[who]['highest']:.3f}")  # fmt: skip
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
