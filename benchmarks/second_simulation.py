"""How far apart are two simulations of the same universes? The floor below which no generator can be measured.

    python benchmarks/second_simulation.py runs/cosmic-web --out benchmarks/results/second_cosmic_web.json

Every held-out universe is simulated once more, from other initial conditions, and judged as the draws of a network are:
by the same metrics, and by the classifier, which should tell nothing.
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

from gsnn.config import build, normalise
from gsnn.evaluation.generated import FieldDraws, told
from gsnn.evaluation.judge import judge
from gsnn.run import Run

SEED, DRAWS = 1_000_000, 2  # of the first universe; as many as networks and baselines draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    run = Run(given.run)
    study, one = run.study, run.ground
    names, name = list(one.inputs), one.target
    columns = one.test.columns([name, *names])
    theta = np.stack([np.asarray(columns[n], float) for n in names], 1)
    universes, index = np.unique(theta, axis=0, return_inverse=True)
    again = np.empty((len(theta), DRAWS, *columns[name].shape[1:]), np.float32)
    for i, universe in enumerate(tqdm(universes, desc="universes")):
        pinned = {n: [float(value)] * 2 for n, value in zip(names, universe)}
        source = build(normalise(study.data.source) | pinned, "source")
        mine = np.flatnonzero(index == i)
        for draw in range(DRAWS):
            rows = source.rows(np.arange(len(mine)), SEED + DRAWS * i + draw)
            again[mine, draw] = np.array(rows[name].to_pylist(), np.float32).reshape(len(mine), *again.shape[2:])
    draws, column = FieldDraws(again, one.targets[name]), one.targets[name]
    judged = judge(draws, columns[name], column, group=index)
    laws = told({"simulation": draws}, columns[name], theta, index)["each"]["simulation"]
    result = {
        "command": f"python benchmarks/second_simulation.py {given.run}",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(), "torch": torch.__version__,
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "objects": len(again), "draws": DRAWS, "universes": len(universes),
        "metrics": {key: {k: found[k] for k in ("value", "low", "high")} for key, found in judged["metrics"].items()},
        "told_apart": laws["told_apart"],
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
