"""How fast GSNN draws galaxies, beside GalSim drawing the same bulges and discs, in one run.

GalSim draws bulge, disc and seeing in every band and adds noise; GSNN draws that and arms, bars, dust, tides and
neighbours as well. Rounds alternate, so that a busy machine is busy for both. Rates are objects per second of one
core's CPU time.

    python benchmarks/galaxies.py
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from pathlib import Path

import galsim
import numpy as np
import torch

from gsnn.simulate import psf, sed
from gsnn.simulate.galaxies import ZERO_POINT, Galaxies
from gsnn.simulate.population import Draw

ROUNDS, OURS, THEIRS = 7, 256, 12
RESULT = Path(__file__).parent / "results" / "galaxies.json"


def galsim_images(survey: Galaxies, rows: torch.Tensor, seed: int) -> np.ndarray:
    """Bulge + disc of the same galaxies behind the same seeing, noise-free, [object, band, y, x] in nmgy."""
    g = survey.population(rows, seed)
    fwhm = survey.fwhm(Draw(seed, rows))
    colour = sed.colours(g.redshift, torch.stack([g.bulge_young, g.disc_young], 1), survey.bands)
    images = np.zeros((len(rows), len(survey.bands), survey.size, survey.size), np.float32)
    for i in range(len(rows)):
        turn = (90 + float(torch.rad2deg(g.angle[i]))) * galsim.degrees
        q, share, total = float(g.bulge_q[i]), float(g.bulge[i]), 10 ** (-0.4 * (float(g.magnitude[i]) - ZERO_POINT))
        bulge = galsim.Sersic(float(g.bulge_n[i]), half_light_radius=float(g.bulge_radius[i]) * q**0.5)
        bulge = bulge.shear(q=q, beta=turn)
        inclination = np.arccos(float(g.cos_i[i])) * galsim.radians
        disc = galsim.InclinedExponential(
            inclination, scale_radius=float(g.disc_scale[i]), scale_height=float(g.disc_height[i])
        ).rotate(turn)
        for band in range(len(survey.bands)):
            sigma = float(fwhm[i, band]) / psf.FWHM_PER_SIGMA
            seeing = galsim.Gaussian(sigma=sigma, flux=1 - psf.WING)
            seeing += galsim.Gaussian(sigma=psf.WIDER * sigma, flux=psf.WING)
            light = bulge * (total * share * float(colour[i, 0, band]))
            if share < 1:
                light += disc * (total * (1 - share) * float(colour[i, 1, band]))
            stamp = galsim.Convolve(light, seeing).drawImage(nx=survey.size, ny=survey.size, scale=survey.pixel_scale)
            images[i, band] = stamp.array
    return images


def rate(count: int, draw) -> float:
    start = time.process_time()
    draw()
    return count / (time.process_time() - start)


def main() -> None:
    torch.set_num_threads(1)
    survey = Galaxies(objects=10**6)
    noise = np.random.default_rng(0)
    survey.rows(np.arange(64), 0)
    galsim_images(survey, torch.arange(1), 0)
    ours, theirs = [], []
    for turn in range(ROUNDS):
        first = 1000 * turn
        ours.append(rate(OURS, lambda: survey.rows(np.arange(first, first + OURS), 0)))  # noqa: B023
        rows = torch.arange(first, first + THEIRS)
        theirs.append(
            rate(THEIRS, lambda: galsim_images(survey, rows, 0) + noise.normal(size=(THEIRS, 3, 64, 64)))  # noqa: B023
        )
    result = {
        "what": "galaxies per second of CPU time of one core, 64 x 64 pixels in g, r, i, with noise",
        "gsnn": {
            "draws": "bulge, disc, arms, bar, dust, tides, neighbours",
            "median": statistics.median(ours),
            "all": ours,
        },
        "galsim": {"draws": "bulge, disc", "median": statistics.median(theirs), "all": theirs},
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs)),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "galsim": galsim.__version__,
        },
        "processor": platform.machine(),
        "threads": 1,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v if not isinstance(v, dict) else v.get("median", v) for k, v in result.items()}, indent=1))


if __name__ == "__main__":
    main()
