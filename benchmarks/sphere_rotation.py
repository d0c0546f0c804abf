"""How far a rotation about the pole, which leaves the mask where it is, moves the answer of a finished run of full-sky.

python benchmarks/sphere_rotation.py runs/full-sky [--skies 200]

Modes of the Gaussian field inside and of the noise are turned together, each sky by an angle of its own, so that both
skies hold the same in other pixels. Prints the rms change of the posterior's mean in units of its width.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from gsnn import rng
from gsnn.data import sphere
from gsnn.run import Run
from gsnn.simulate.sphere_fields import SphereFields


def skies(fields: SphereFields, truth: dict[str, np.ndarray], rows: torch.Tensor, angle: np.ndarray) -> np.ndarray:
    """Maps of these universes behind the mask, turned by ``angle`` (radians)."""
    sky, code = fields.sky, sphere.healpy()
    order = code.Alm.getlm(sky.largest)[1]
    white = rng.normal(1, "rotation", rows, 4 * len(order)).view(-1, 2, 2, len(order)).double().numpy()
    turn = np.exp(-1j * order * angle[:, None])
    turned = [(one[:, 0] + 1j * one[:, 1] * (order > 0)) * turn for one in (white[:, 0], white[:, 1])]
    field, noise = (np.stack([one.real, one.imag], 1) for one in turned)
    inner, variance = sky.gaussian_of(*sky.spectrum(truth["omega_m"], truth["sigma_8"]))
    flat = np.full_like(inner, fields.noise**2 * 4 * np.pi / (12 * sky.nside**2))
    made = np.expm1(sky.drawn(inner, field) - variance[:, None] / 2) + sky.drawn(flat, noise)
    return np.where(fields.seen, made, np.nan).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--skies", type=int, default=200)
    asked = parser.parse_args()
    run = Run(asked.run)
    settings = {k: v for k, v in run.study.data.source.items() if k != "name"}
    fields, rows = SphereFields(**settings), torch.arange(asked.skies)
    truth = fields.parameters(rows, 1)
    angle = rng.uniform(1, "angle", rows).double().numpy()[:, 0] * 2 * np.pi
    model, told = run.model.eval(), []
    with torch.inference_mode():
        for turn in (0 * angle, angle):
            batch = {"sky": torch.from_numpy(skies(fields, truth, rows, turn))[:, None], "row": rows}
            told.append({name: one.value for name, one in model(batch).items()})
    for name in told[0]:
        width = told[0][name].std(1)
        change = (told[1][name].mean(1) - told[0][name].mean(1)) / width
        error = (told[0][name].mean(1) - truth[name]) / width
        print(
            f"{name}: moved by {np.sqrt((change**2).mean()):.3f} of its width, off by {np.sqrt((error**2).mean()):.2f}"
        )


if __name__ == "__main__":
    main()
