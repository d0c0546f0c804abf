"""How fast is an emulator of the microwave background beside CAMB, on the same cores?

Spectra (TT, TE and EE at l = 2 to 2508, and three derived numbers) a second in batches, and seconds a spectrum of CAMB
at the accuracy that the emulator was taught. The best of several repeats each: a busy machine only ever slows. Where it
errs most is told of the universes that the run has held out.

    python benchmarks/cmb_emulator.py --emulator runs/cmb-emulator --threads 2
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def best(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """The least seconds of a call, by the clock and of CPU."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        call()
        seconds.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, cpu = zip(*seconds)
    return min(wall), min(cpu)


def worst(run: Path) -> dict[str, dict[str, float]]:
    """Of each spectrum the multipole with the largest 99th percentile of |error| in units of cosmic variance."""
    import pyarrow.parquet as pq

    from gsnn.evaluation.vector_metrics import FIRST, cosmic_variance

    table = pq.read_table(run / "predictions.parquet", columns=["spectra_prediction", "spectra_truth"])
    told, truth = (np.array(column.to_pylist(), float).reshape(len(table), 3, -1) for column in table.columns)
    missed = np.quantile(abs(told - truth) / cosmic_variance(truth), 0.99, axis=0)
    return {
        band: {"l": int(each.argmax()) + FIRST, "p99": round(float(each.max()), 4)}
        for band, each in zip(("tt", "te", "ee"), missed)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--emulator", required=True, help="a run of cmb-emulator")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64, 256, 512])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cmb_emulator.json"))
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # before CAMB and torch
    import torch

    from gsnn.emulator import Emulator
    from gsnn.simulate.cmb import camb, spectra

    torch.set_num_threads(args.threads)
    emulator = Emulator.load(args.emulator)
    low, high = np.array(list(emulator.box.values())).T
    theta = low + (high - low) * np.random.default_rng(0).uniform(size=(max(args.batches), len(low)))
    spectra(theta[0])  # warms up
    exact = best(lambda: spectra(theta[0]), 4)
    rates, cost = {}, {}
    for batch in args.batches:
        points = torch.from_numpy(theta[:batch])
        emulator.block(points)
        wall, cpu = best(lambda points=points: emulator.block(points), 60)
        rates[batch], cost[batch] = batch / wall, cpu / batch
    found = {
        "command": f"python benchmarks/cmb_emulator.py --threads {args.threads}",
        "camb": camb().__version__, "threads": args.threads, "camb_s": exact[0], "camb_cpu_s": exact[1],
        "emulator_per_s": {str(k): round(v) for k, v in rates.items()},
        "emulator_cpu_us": {str(k): round(1e6 * v, 1) for k, v in cost.items()},
        "times_faster": round(max(rates.values()) * exact[0]),
        "times_less_cpu": round(exact[1] / min(cost.values())),
        "worst": worst(Path(args.emulator)),
    }  # fmt: skip
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
