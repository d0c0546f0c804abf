"""The posterior of Planck's band powers three ways: a network, a chain on the emulator, and CAMB itself.

The chain on CAMB is a Metropolis-Hastings independence sampler (Hastings 1970, Biometrika 57, 97; Tierney 1994, Ann.
Statist. 22, 1701): its proposals are draws of the emulator's chain, and each is accepted by what CAMB's own spectra
say, so that it samples CAMB's posterior whatever the emulator is worth. Calls that were made are kept beside the
output, and the same line goes on from them.

    python benchmarks/planck_camb.py --data planck2018 --emulator runs/cmb-emulator-... --run runs/planck-...
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from gsnn.data.readers.planck import read_planck
from gsnn.emulator import Emulator
from gsnn.evaluation.mcmc import effective, sample
from gsnn.simulate.cmb import DERIVED, spectra
from gsnn.simulate.planck import PARAMETERS, Question

PUBLISHED = {  # Planck 2018 VI, arXiv:1807.06209, table 2, column TT,TE,EE+lowE: mean and standard deviation
    "omega_b": (0.02236, 0.00015), "omega_c": (0.1202, 0.0014), "theta": (1.04090, 0.00031), "n_s": (0.9649, 0.0044),
    "ln_a": (3.045, 0.016), "tau": (0.0544, 0.00785), "h0": (67.27, 0.60), "omega_m": (0.3166, 0.0084),
    "sigma_8": (0.8120, 0.0073),
}  # fmt: skip


def emulated(question: Question, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """All draws of the chain on the emulator, and how it went."""
    start, began = time.process_time(), time.perf_counter()
    random = np.random.default_rng(seed)
    prior = question.prior(random.uniform(size=(4000, len(PARAMETERS))))
    chain = sample(question.log_posterior, prior, tuple(PARAMETERS), walkers=32, ensembles=2, steps=1000, seed=seed)
    draws = chain.samples.reshape(-1, len(PARAMETERS))
    told = chain.to_dict() | {"cpu_s": time.process_time() - start, "wall_s": time.perf_counter() - began}
    return draws[random.permutation(len(draws))[:40_000]], told


def called(question: Question, theta: np.ndarray, kept: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """CAMB's log posterior and derived numbers at each point, and CPU seconds a call; calls already made are read."""
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = done[: len(theta)]
    if done and not np.allclose([one["theta"] for one in done], theta[: len(done)], rtol=1e-12):
        raise SystemExit(f"{kept} holds calls at other points; remove it")
    with open(kept, "a") as file:
        for point in theta[len(done) :]:
            start = time.process_time()
            found = spectra(point[:6])
            powers = question.measured.binned(found["spectra"][None]) / point[6] ** 2
            chi2 = float((question.measured.pulls(powers) ** 2).sum())
            one = {"theta": point.tolist(), "chi2": chi2, **{name: float(found[name]) for name in DERIVED}}
            done.append(one | {"cpu_s": time.process_time() - start})
            file.write(json.dumps(done[-1]) + "\n")
            file.flush()
    logs = question.log_prior(theta) - 0.5 * np.array([one["chi2"] for one in done])
    derived = np.array([[one[name] for name in DERIVED] for one in done])
    return logs, derived, float(np.mean([one["cpu_s"] for one in done]))


def independence(log_ratio: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """The indices of a chain whose proposals are points 0, 1, 2, ...; and the share that it accepted."""
    random, place, accepted, chain = np.random.default_rng(seed), 0, 0, [0]
    for i in range(1, len(log_ratio)):
        if np.log(random.uniform()) < log_ratio[i] - log_ratio[place]:
            place, accepted = i, accepted + 1
        chain.append(place)
    return np.array(chain), accepted / (len(log_ratio) - 1)


def of_run(run: Path, emulator: Emulator) -> tuple[np.ndarray, dict[str, Any]]:
    """The network's draws given the real measurement."""
    with np.load(run / "posteriors.npz") as file:
        if str(file["id"][0]) != "observed" or tuple(file["parameters"]) != tuple(PARAMETERS):
            raise SystemExit(f"{run} holds no posterior of the observed band powers")
        draws = file["draws.network"][0].astype(float)
    answer = json.loads((run / "answer.json").read_text())
    low, high = np.array(list(emulator.box.values())).T
    draws[:, :6] = draws[:, :6].clip(low, high)  # float32 rounds at the faces
    return draws, {
        "training_s": answer["training_seconds"], "unlike_training": answer["observed_unlike_training"],
        "simulations": answer["objects"]["train"],
    }  # fmt: skip


def derive(emulator: Emulator, draws: np.ndarray) -> np.ndarray:
    found = emulator(draws[:, :6])
    return np.concatenate([draws, np.stack([found[name] for name in DERIVED], 1)], 1)


def told(draws: np.ndarray) -> dict[str, Any]:
    names = [*PARAMETERS, *DERIVED]
    low, high = np.quantile(draws, [0.16, 0.84], axis=0)
    rows = zip(draws.mean(0), draws.std(0, ddof=1), low, high)
    return {n: dict(zip(("mean", "sigma", "low", "high"), map(float, row))) for n, row in zip(names, rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="the folder that holds planck2018_plik_lite")
    parser.add_argument("--emulator", required=True, type=Path, help="a run of cmb-emulator")
    parser.add_argument("--run", type=Path, help="a run of planck, whose posterior stands beside")
    parser.add_argument("--calls", type=int, default=600, help="CAMB spectra")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/planck_camb.json"))
    parser.add_argument("--draws", type=Path, help="where the draws are written, for corner plots (.npz)")
    args = parser.parse_args()
    emulator = Emulator.load(args.emulator)
    question = Question(read_planck(args.data), emulator)
    kept = args.out.with_suffix(".chain.npz")
    if kept.exists():
        with np.load(kept) as file:
            chain, about = file["draws"], json.loads(str(file["about"]))
    else:
        chain, about = emulated(question, args.seed)
        np.savez(kept, draws=chain, about=json.dumps(about))
    print(f"chain on the emulator: {about['evaluations']:,} evaluations, {about['cpu_s']:.0f} s of CPU", flush=True)
    everything = {"emulator": derive(emulator, chain)}
    theta = chain[: args.calls]
    logs, derived, seconds = called(question, theta, args.out.with_suffix(".calls.jsonl"))
    ratio = logs - question.log_posterior(theta)
    visited, accepted = independence(ratio, args.seed)
    everything["camb"] = np.concatenate([theta, derived], 1)[visited]
    weight = np.exp(ratio - ratio.max())
    points = np.concatenate([theta, derived], 1)
    shift = (np.average(points, 0, weight) - points.mean(0)) / derive(emulator, chain).std(0)
    bulk, _ = effective(everything["camb"][:, None, : len(PARAMETERS)])
    facts: dict[str, Any] = {
        "emulator": about,
        "camb": {
            "calls": len(theta), "cpu_s_a_call": seconds, "acceptance": accepted,
            "effective_least": float(bulk.min()), "effective_by_weights": float(weight.sum() ** 2 / (weight**2).sum()),
            "log_ratio_sd": float(ratio.std()),
            "shift": dict(zip([*PARAMETERS, *DERIVED], shift.tolist())),  # of the same points' means by CAMB, in sigma
        },
    }  # fmt: skip
    if args.run:
        draws, facts["network"] = of_run(args.run, emulator)
        everything["network"] = derive(emulator, draws)
    found = {who: told(draws) for who, draws in everything.items()}
    for who in set(found) - {"camb"}:
        for name, one in found[who].items():
            exact = found["camb"][name]
            one["apart"] = (one["mean"] - exact["mean"]) / exact["sigma"]
            one["width"] = one["sigma"] / exact["sigma"]
    best = int(np.argmax(question.log_posterior(chain)))
    chi2 = -2 * question.measured.log_likelihood(emulator(chain[best : best + 1, :6])["spectra"], chain[best, 6])[0]
    summary = {
        "command": f"python benchmarks/planck_camb.py --calls {args.calls}", "bins": len(question.measured),
        "best_fit": dict(zip(PARAMETERS, chain[best].tolist())), "chi2": float(chi2),
        "facts": facts, "posteriors": found,
        "published": {name: {"mean": m, "sigma": s} for name, (m, s) in PUBLISHED.items()},
    }  # fmt: skip
    args.out.write_text(json.dumps(summary, indent=1) + "\n")
    if args.draws:
        np.savez_compressed(args.draws, names=[*PARAMETERS, *DERIVED], **everything)
    for who in found:
        rows = {n: f"{v['mean']:.5g} +- {v['sigma']:.2g} ({v.get('apart', 0):+.2f})" for n, v in found[who].items()}
        print(who, rows)
    print(facts["camb"])


if __name__ == "__main__":
    main()
