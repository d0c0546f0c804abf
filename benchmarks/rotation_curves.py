"""How well the next velocity of a rotation curve is told: a run of `rotation-curves` beside persistence and a line.

python benchmarks/rotation_curves.py runs/rotation-curves
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from gsnn.evaluation.intervals import counts
from gsnn.run import Run
from gsnn.steps.data import batch_of

FIRST = 2  # a line needs two points before


def errors(run: Run) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Errors (km/s) of each guess at every point from the third on of the test galaxies, and whose points they are."""
    model, view = run.model, run.ground.test
    name = model.inputs.of_kind("light_curve")[0].name
    with torch.inference_mode():
        batch = batch_of(view, [name])
        units, ready = model.transforms.parts[name], model.prepare(batch)
        mean, _ = model.objective.gaussian(model.objective(ready))
    told = units.width[0] * torch.sinh(mean[..., 0] * units.scale)  # the stretch "asinh", undone
    radius, speed, valid = (batch[f"{name}.{part}"].numpy() for part in ("time", "flux", "valid"))
    counted = valid[:, FIRST:]
    truth, last, before = speed[:, FIRST:], speed[:, 1:-1], speed[:, :-2]
    with np.errstate(all="ignore"):
        slope = (last - before) / (radius[:, 1:-1] - radius[:, :-2])
        line = last + slope * (radius[:, FIRST:] - radius[:, 1:-1])
    guesses = {"network": told.numpy()[:, FIRST - 1 :], "persistence": last, "linear extrapolation": line}
    owner = np.broadcast_to(np.arange(len(speed))[:, None], counted.shape)[counted]
    return {guess: (value - truth)[counted] for guess, value in guesses.items()}, owner


def main(folder: str) -> None:
    found, owner = errors(Run(folder))
    weight = np.concatenate([np.ones((1, len(owner))), counts(len(owner), range(2000), 0, owner)])
    print(f"{len(owner)} points of {len(np.unique(owner))} galaxies; 95% intervals by bootstrap over galaxies")
    measures = {
        "RMSE": lambda e: np.sqrt((weight @ e**2) / weight.sum(1)),
        "mean absolute error": lambda e: (weight @ abs(e)) / weight.sum(1),
    }
    for name, of in measures.items():
        own = of(found["network"])
        for guess, error in found.items():
            value, gap = of(error), own - of(error)
            low, high = np.quantile(value[1:], (0.025, 0.975))
            beside = (
                ""
                if guess == "network"
                else " network less it {:.2f} ({:.2f} to {:.2f})".format(gap[0], *np.quantile(gap[1:], (0.025, 0.975)))
            )
            print(f"{name} of {guess}: {value[0]:.2f} ({low:.2f} to {high:.2f}) km/s{beside}")


if __name__ == "__main__":
    main(sys.argv[1])
