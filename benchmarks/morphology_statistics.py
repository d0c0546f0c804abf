"""Morphological statistics side by side with statmorph: agreement on simulated galaxies, and objects a second of CPU.

    python benchmarks/morphology_statistics.py [--objects 120] [--out benchmarks/results/morphology_statistics.json]

Galaxies are Sersic profiles with spiral arms, clumps and a Gaussian point-spread function, made here with numpy.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, label
from scipy.stats import spearmanr

from gsnn.baselines.statistics import statistics

PAIRS = {
    "C": "concentration",
    "A": "asymmetry",
    "S": "smoothness",
    "gini": "gini",
    "m20": "m20",
    "r50": "r50",
    "r_petrosian": "rpetro_circ",
    "ellipticity": "ellipticity_asymmetry",
    "shape_asymmetry": "shape_asymmetry",
}


def galaxies(objects: int, side: int = 64, seed: int = 0, noise: float = 0.02) -> np.ndarray:
    """Images [object, y, x] of bulge + disc galaxies, half of them with arms and clumps, noise in units of the disc."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    out = []
    for i in range(objects):
        dy, dx = rng.uniform(-1.5, 1.5, 2)
        angle, axis, scale = rng.uniform(0, np.pi), rng.uniform(0.35, 1), rng.uniform(3.0, 5.5)
        u = (x - dx) * np.cos(angle) + (y - dy) * np.sin(angle)
        v = ((y - dy) * np.cos(angle) - (x - dx) * np.sin(angle)) / axis
        r = np.hypot(u, v) + 1e-3
        n = rng.uniform(0.8, 4)
        b = 2 * n - 1 / 3
        image = np.exp(-b * ((r / (1.68 * scale)) ** (1 / n) - 1)) * rng.uniform(0.3, 1)
        if i % 2:
            phase, pitch = rng.uniform(0, 2 * np.pi), rng.uniform(1.5, 3)
            arms = np.cos(rng.integers(1, 4) * (np.arctan2(v, u) - pitch * np.log(r)) + phase)
            image *= 1 + rng.uniform(0.3, 1.0) * arms * (r > scale / 2)
            for _ in range(rng.integers(0, 6)):
                cy, cx = rng.normal(0, 1.5 * scale, 2)
                image += rng.uniform(0.2, 1.5) * np.exp(-0.5 * ((y - cy) ** 2 + (x - cx) ** 2) / 1.2**2)
        out.append(gaussian_filter(image, 1.2))
    images = np.array(out)
    return (images + noise * rng.standard_normal(images.shape)).astype(np.float32)


def with_statmorph(images: np.ndarray, noise: float = 0.02) -> dict[str, np.ndarray]:
    """statmorph's values [object] for each name, NaN where its own flags call the measurement bad."""
    import statmorph

    rows = []
    for image in images.astype(float):
        smooth = gaussian_filter(image, 1.5)
        labels, _ = label(smooth > 1.5 * 1.4826 * np.median(abs(smooth - np.median(smooth))))
        middle = tuple(n // 2 for n in image.shape)
        segment = (labels == (labels[middle] or labels[np.unravel_index(smooth.argmax(), image.shape)])).astype(int)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = statmorph.SourceMorphology(image, segment, 1, weightmap=np.full(image.shape, noise), skybox_size=12)
        bad = found.flag >= 2
        rows.append([np.nan if bad or (v := getattr(found, name)) == -99 else v for name in PAIRS.values()])
    return dict(zip(PAIRS, np.array(rows).T))


def compare(objects: int) -> dict[str, dict[str, float]]:
    images = galaxies(objects)
    matrix, names = statistics(images[:, None])
    start = time.process_time()
    theirs = with_statmorph(images)
    result = {"seconds_statmorph": time.process_time() - start}
    for name in PAIRS:
        mine = matrix[:, next(i for i, n in enumerate(names) if n in (name, f"{name}_0"))]
        good = np.isfinite(mine) & np.isfinite(theirs[name])
        result[name] = {
            "objects": int(good.sum()),
            "rank_correlation": round(float(spearmanr(mine[good], theirs[name][good]).statistic), 4),
            "median_offset": round(float(np.median(mine[good] - theirs[name][good])), 4),
            "median_statmorph": round(float(np.median(theirs[name][good])), 4),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=120)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / f"{Path(__file__).stem}.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    agreement = compare(options.objects)
    theirs = options.objects / agreement.pop("seconds_statmorph")
    images = np.repeat(galaxies(256)[:, None], 3, 1)
    statistics(images[:32])
    start = time.process_time()
    for _ in range(4):
        statistics(images)
    cpu = time.process_time() - start
    result = {
        "machine": f"{platform.machine()}, 1 thread, torch {torch.__version__}",
        "images": "64 x 64 pixels",
        "objects_per_cpu_second_statmorph_1_band": round(theirs, 1),
        "objects_per_cpu_second_gsnn_3_bands_and_their_mean": round(1024 / cpu, 1),
        "agreement": agreement,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
