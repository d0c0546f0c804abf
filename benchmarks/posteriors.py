"""Posteriors of two simulators whose exact posterior is known: GSNN beside sbi, from the same simulations.

    python benchmarks/posteriors.py [--simulations 5000] [--sbi PYTHON] --out benchmarks/results/posteriors.json

Tasks are those of sbibm (Lueckmann et al. 2021, arXiv:2101.04653): two moons, and the Gaussian of ten parameters with a
uniform prior. The score is C2ST against exact draws (0.5 is perfect), the mean over three observations; seconds are of
CPU, of training and of 1,000 draws for each observation. ``--sbi`` names a Python that has sbi; its settings are its
own, and those of GSNN were not tuned to the tasks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

OBSERVATIONS, DRAWS = 3, 1000


def two_moons(theta: np.ndarray, random: np.random.Generator) -> np.ndarray:
    angle, radius = random.uniform(-np.pi / 2, np.pi / 2, len(theta)), random.normal(0.1, 0.01, len(theta))
    a, b = theta.T
    x = radius * np.cos(angle) + 0.25 - np.abs(a + b) / np.sqrt(2)
    return np.stack([x, radius * np.sin(angle) + (b - a) / np.sqrt(2)], 1)


def exact_moons(seen: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The simulation turned round: it moves its crescent by a function of the parameters that keeps volumes."""
    out = np.zeros((0, 2))
    while len(out) < DRAWS:
        angle, radius = random.uniform(-np.pi / 2, np.pi / 2, 4 * DRAWS), random.normal(0.1, 0.01, 4 * DRAWS)
        total = (radius * np.cos(angle) + 0.25 - seen[0]) * np.sqrt(2)  # |a + b|
        apart = (seen[1] - radius * np.sin(angle)) * np.sqrt(2)  # b - a
        total = np.where(total >= 0, total * random.choice([-1, 1], len(total)), np.inf)
        both = np.stack([total - apart, total + apart], 1) / 2
        out = np.concatenate([out, both[(np.abs(both) < 1).all(1)]])
    return out[:DRAWS]


def gaussian(theta: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return theta + np.sqrt(0.1) * random.standard_normal(theta.shape)


def exact_gaussian(seen: np.ndarray, random: np.random.Generator) -> np.ndarray:
    from scipy.stats import truncnorm

    sigma = np.sqrt(0.1)
    low, high = (-1 - seen) / sigma, (1 - seen) / sigma
    return truncnorm.rvs(low, high, seen, sigma, (DRAWS, len(seen)), random_state=random)


TASKS = {"two moons": (2, two_moons, exact_moons), "gaussian": (10, gaussian, exact_gaussian)}
METHODS = ("posterior", "likelihood", "ratio")
FLOW = {"layers": 5, "width": 64}
SETTINGS = {
    "posterior": ({"name": "mlp", "width": 64, "depth": 2}, FLOW),
    "likelihood": ({"name": "perceptron"}, FLOW),
    "ratio": ({"name": "mlp", "width": 64, "depth": 2}, {"width": 128, "layers": 4, "contrast": 16}),
}


def data(task: str, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Parameters and data of the simulations, and of what is observed."""
    size, simulate, _ = TASKS[task]
    random = np.random.default_rng(0)
    theta = random.uniform(-1, 1, (count + OBSERVATIONS, size))
    x = simulate(theta, random)
    return theta[:count], x[:count], theta[count:], x[count:]


def with_gsnn(task: str, method: str, count: int) -> dict:
    from gsnn.data.survey import Survey
    from gsnn.evaluation.draws import together
    from gsnn.predict import predict_view
    from gsnn.progress import Progress
    from gsnn.run import run
    from gsnn.study import Study

    theta, x, true, seen = data(task, count)
    size = theta.shape[1]
    names, inputs = [f"p{i}" for i in range(size)], [f"x{i}" for i in range(x.shape[1])]
    table = dict(zip([*names, *inputs], np.concatenate([theta, x], 1).T))
    network, objective = SETTINGS[method]
    study = Study.from_dict(
        {
            "question": "Which parameters?",
            "data": {
                "source": "files", "inputs": inputs, "target": names, "split": {"fractions": [0.88, 0.1, 0.02]},
            },
            "model": network,
            "objective": {"name": method, "draws": DRAWS, **objective},
            "train": {"epochs": 100, "batch": 100, "learning_rate": 2e-3, "ema": 0.99, "patience": 20,
                      "precision": "float32"},
            "evaluate": {"control": False, "baselines": []},
        }
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        one = run(study, data=table, out=Path(folder) / "run", only_train=True, progress=Progress())
        trained = time.process_time()
        table = dict(zip([*names, *inputs], np.concatenate([true, seen], 1).T))
        from gsnn.data.readers import read

        view = Survey.create(Path(folder) / "seen", read(table)).view()
        draws = together(predict_view(one.model, view, one.runtime)[0])
        return told(task, seen, draws, trained - start, time.process_time() - trained)


def told(task: str, seen: np.ndarray, draws: np.ndarray, training: float, sampling: float) -> dict:
    from gsnn.evaluation.posteriors import two_samples

    random = np.random.default_rng(1)
    scores = [two_samples(TASKS[task][2](one, random), each) for one, each in zip(seen, draws)]
    return {
        "c2st": float(np.mean(scores)),
        "each": [round(s, 3) for s in scores],
        "training_cpu_s": round(training, 1),
        "draws_cpu_s_each": round(sampling / len(seen), 2),
    }


def with_sbi(task: str, method: str, count: int, python: str) -> dict:
    """The same by another Python, which answers with draws and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        theta, x, _, seen = data(task, count)
        np.savez(Path(folder) / "in.npz", theta=theta, x=x, seen=seen)
        subprocess.run([python, __file__, "--peer", method, folder], check=True)
        with np.load(Path(folder) / "out.npz", allow_pickle=False) as found:
            return told(task, seen, found["draws"], *found["seconds"].tolist())


def peer(method: str, folder: str) -> None:
    """What runs in the Python of sbi: training and sampling as its documentation has them."""
    import torch
    from sbi.inference import NLE, NPE, NRE
    from sbi.utils import BoxUniform

    torch.set_num_threads(1)
    torch.manual_seed(0)
    with np.load(Path(folder) / "in.npz", allow_pickle=False) as given:
        theta, x, seen = (torch.tensor(given[name]).float() for name in ("theta", "x", "seen"))
    prior = BoxUniform(-torch.ones(theta.shape[1]), torch.ones(theta.shape[1]))
    start = time.process_time()
    one = {"posterior": NPE, "likelihood": NLE, "ratio": NRE}[method](prior, show_progress_bars=False)
    one.append_simulations(theta, x).train()
    trained = time.process_time()
    posterior = one.build_posterior()
    draws = np.stack([posterior.sample((DRAWS,), x=o, show_progress_bars=False).numpy() for o in seen])
    np.savez(Path(folder) / "out.npz", draws=draws, seconds=[trained - start, time.process_time() - trained])


def main() -> None:
    if sys.argv[1:2] == ["--peer"]:
        peer(*sys.argv[2:4])
        return
    import torch

    from gsnn.run import versions

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=5000)
    parser.add_argument("--sbi", help="a Python that has sbi")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found: dict = {"command": " ".join(["python", *sys.argv]), "versions": versions()}
    found |= {"simulations": asked.simulations, "observations": OBSERVATIONS, "draws": DRAWS, "tasks": {}}
    for task in asked.tasks:
        for method in asked.methods:
            each = found["tasks"].setdefault(task, {}).setdefault(method, {})
            each["gsnn"] = with_gsnn(task, method, asked.simulations)
            if asked.sbi:
                each["sbi"] = with_sbi(task, method, asked.simulations, asked.sbi)
            print(task, method, each, flush=True)
            asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
