"""Sunspots by rolling origin: network and rivals are fitted anew every five years on all that was then known.

    python benchmarks/sunspots_rolling.py SN_m_tot_V2.0.csv --out benchmarks/results/sunspots.json

Forecasts of the five years from each cut on, 1961 to 2025, are judged together; intervals resample these blocks. Inputs
end at the origin and nothing is smoothed. RMSE depends on the cycles that are asked for, so eras are told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from gsnn.evaluation.distributions import Point
from gsnn.evaluation.intervals import difference, of_metric, replicates
from gsnn.evaluation.metrics import METRICS
from gsnn.run import run
from gsnn.study import Study

YEARS, FIRST, LAST = 5, 1961, 2021
ERAS = {"1961 to 2025": 1961, "1996 to 2025": 1996, "2016 to 2025": 2016}
RIVALS = ("persistence", "lag", "ridge-ar")
NAMES = ("network", *RIVALS)


def block(series: str, year: int, horizon: int, seed: int, folder: Path) -> dict[str, np.ndarray]:
    """Origins, truths and forecasts of the five years from ``year`` on, by all that was known before."""
    origin = np.genfromtxt(series, delimiter=";")[:, 2]
    known = int((origin < year + YEARS).sum()) - 263 - horizon  # windows are 264 months long
    ahead = int(((origin >= year) & (origin < year + YEARS)).sum())
    test = ahead / known
    study = Study.load(
        "sunspots",
        [
            f"data.where='origin < {year + YEARS}'",
            f"data.split.fractions=[{1 - 0.15 - test:.6f}, 0.15, {test:.6f}]",
            f"data.target=['ahead_{horizon}']",
            "evaluate.baselines=['persistence', 'lag', 'ridge-ar']",
            "evaluate.control=false", "evaluate.resamples=20", "explain.methods=[]",
        ],
    )  # fmt: skip
    done = run(study, data=series, out=folder, seed=seed)
    table = pq.read_table(done.path / "predictions.parquet")
    found = {"origin": np.array(table["id"].to_pylist(), float), "truth": np.array(table["truth"])}
    found["network"] = np.array(table["prediction"])
    for name in RIVALS:
        rival = pq.read_table(done.path / f"baselines/{name}.parquet")
        assert rival["id"].to_pylist() == table["id"].to_pylist()
        found[name] = np.array(rival["prediction"])
    keep = (found["origin"] >= year) & np.isfinite(found["truth"])
    return {name: values[keep] for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("series")
    parser.add_argument("--horizons", type=int, nargs="+", default=[12])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    result: dict = {
        "command": " ".join(["python", *sys.argv]),
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(), "cores": os.cpu_count(), "seed": asked.seed, "years": YEARS,
    }  # fmt: skip
    for horizon in asked.horizons:
        with tempfile.TemporaryDirectory() as folder:
            blocks = [
                block(asked.series, year, horizon, asked.seed, Path(folder) / str(year))
                for year in range(FIRST, LAST + 1, YEARS)
            ]
        whole = {name: np.concatenate([one[name] for one in blocks]) for name in blocks[0]}
        group = np.concatenate([np.full(len(one["origin"]), k) for k, one in enumerate(blocks)])
        eras = result[f"ahead_{horizon}"] = {}
        for era, begin in ERAS.items():
            mine = whole["origin"] >= begin
            truth, rmse = whole["truth"][mine], METRICS["rmse"]
            points = [Point(whole[name][mine]) for name in NAMES]
            draws = replicates([rmse], points, truth, group=group[mine])[:, :, 0]
            told = {name: of_metric(rmse, draws[:, k]) for k, name in enumerate(NAMES)}
            told["network - ridge-ar"] = difference(rmse, draws[:, 0], draws[:, NAMES.index("ridge-ar")])
            eras[era] = {"months": int(mine.sum()), **told}
            print(horizon, era, {k: [round(v[x], 1) for x in ("value", "low", "high")] for k, v in told.items()})
    asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
