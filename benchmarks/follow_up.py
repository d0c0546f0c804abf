"""Which supernovae should a spectrograph look at? Campaigns on the photometric classification challenge, side by side.

    python benchmarks/follow_up.py --data spcc --out results/follow_up.json --figure follow-up.png

Every campaign begins with the challenge's own spectroscopic sample (bright and near), adds spectra a round, trains
again, and is judged on half of the photometric supernovae, of which no spectrum is ever taken. Ways to choose: at
random, the brightest first, the entropy of the answer, and BALD; all among supernovae whose fitted r-band peak is
brighter than ``--limit``. The classifier is a random forest on the statistics of the light curves, with the host's
photometric redshift. Seeds change the forest and the draw of the random choice.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from pathlib import Path

import numpy as np

from gsnn.baselines.base import features
from gsnn.data.split import assign
from gsnn.data.stores import is_survey
from gsnn.data.survey import Survey
from gsnn.follow_up import campaign, forest

WAYS = {"random": "at random", "brightest": "the brightest", "entropy": "the least certain", "bald": "BALD"}


def sample(data: Path, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features, type (1 = Ia), r magnitude at the peak, whether there is a spectrum, and ids."""
    from gsnn.data.readers import read

    survey = Survey.open(data) if is_survey(str(data)) else Survey.create(folder, read(str(data)), seed=0)
    view = survey.view(np.arange(len(survey)))
    x, names = features(view, survey.schema.select(["light_curve", "host_photoz"]))
    columns = view.columns(["id", "sim_type", "sntype"])
    ia = columns["sim_type"] == survey.schema["sim_type"].classes.index("Ia")
    magnitude = 27.5 - 2.5 * x[:, names.index("light_curve.peak_r")]  # FLUXCAL has the zero point 27.5
    return x, ia.astype(int), np.where(np.isfinite(magnitude), magnitude, 99.0), columns["sntype"] > 0, columns["id"]


def auc(score: np.ndarray, member: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(member, score))


def measure(arguments: argparse.Namespace) -> dict:
    start = time.process_time()
    x, y, magnitude, spectrum, ids = sample(arguments.data, arguments.work)
    measured = time.process_time() - start
    half = assign(ids, (0.5, 0.5))
    first = np.flatnonzero(spectrum)
    pool, test = (np.flatnonzero(~spectrum & (half == k)) for k in (0, 1))
    fit = forest(x, y, arguments.trees)
    curves: dict[str, list[list[dict]]] = {way: [] for way in WAYS}
    for seed in range(arguments.seeds):
        for way in WAYS:
            begun, rounds = time.process_time(), []
            for one in campaign(
                fit, first, pool, test, by=way, count=arguments.count, rounds=arguments.rounds, magnitude=magnitude,
                limit=arguments.limit, seed=seed,
            ):  # fmt: skip
                new = one.labelled[len(first) :]
                rounds.append(
                    {
                        "spectra": len(one.labelled),
                        "hours": round(one.hours, 1),
                        "auc": auc(one.probabilities[:, 1], y[test]),
                        "accuracy": float((one.probabilities.argmax(1) == y[test]).mean()),
                        "magnitude": float(np.median(magnitude[new])) if len(new) else None,
                        "ia": float(y[new].mean()) if len(new) else None,
                    }
                )
            curves[way].append(rounds)
            print(f"seed {seed} {way:<10} AUC {rounds[0]['auc']:.4f} -> {rounds[-1]['auc']:.4f} after", end=" ")
            print(f"{rounds[-1]['hours']:.0f} h ({time.process_time() - begun:.0f} s of CPU)", flush=True)
    every = np.flatnonzero(~spectrum & (half == 0))
    random = np.random.default_rng(0).choice(every, len(first), replace=False)
    fair = auc(fit(random, 0)(test).mean(0)[:, 1], y[test])
    return {
        "objects": {"spectra at the start": len(first), "pool": len(pool), "test": len(test)},
        "within the limit": int((magnitude[pool] < arguments.limit).sum()),
        "limit": arguments.limit,
        "trees": arguments.trees,
        "fair sample of the same size": fair,
        "feature_seconds": round(measured, 1),
        "curves": curves,
    }


def draw(result: dict, path: Path) -> None:
    """AUC against the number of spectra, and against the hours that they take; bands are the seeds."""
    from gsnn.report.theme import DASHES, NETWORK, OTHERS, SOFT, figure, style

    with style():
        f = figure(8.2, 3.4)
        axes = f.subplots(1, 2, sharey=True)
        for k, (way, label) in enumerate(WAYS.items()):
            colour, dash = [NETWORK, *OTHERS][k], ["-", *DASHES][k]
            value = np.array([[r["auc"] for r in rounds] for rounds in result["curves"][way]])
            for ax, what in zip(axes, ("spectra", "hours")):
                at = np.array([[r[what] for r in rounds] for rounds in result["curves"][way]]).mean(0)
                ax.plot(at, value.mean(0), color=colour, ls=dash, marker="o", ms=3, label=label)
                ax.fill_between(at, value.min(0), value.max(0), color=colour, alpha=0.15, lw=0)
        for ax in axes:
            ax.axhline(result["fair sample of the same size"], color=SOFT, lw=0.8, ls=(0, (3, 3)))
            ax.grid(axis="y")
        axes[0].annotate(
            "as many spectra, taken at random from all", (0.98, result["fair sample of the same size"]), ha="right",
            va="bottom", xycoords=("axes fraction", "data"), fontsize=8, color=SOFT,
        )  # fmt: skip
        axes[0].set(xlabel="spectra", ylabel="AUC on supernovae without spectra")
        axes[1].set(xlabel="hours of a spectrograph")
        axes[0].legend(loc="lower right")
        f.savefig(path, dpi=150, facecolor="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the challenge: a survey, or the folder of its tables")
    parser.add_argument("--work", type=Path, default=Path("follow-up-survey"), help="where a survey of it is made")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--count", type=int, default=125, help="spectra a round")
    parser.add_argument("--limit", type=float, default=23.5, help="r magnitude that the spectrograph reaches")
    parser.add_argument("--trees", type=int, default=100)
    arguments = parser.parse_args()
    result = measure(arguments)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    result |= {"commit": commit, "python": platform.python_version(), "seeds": arguments.seeds}
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.figure:
        draw(result, arguments.figure)


if __name__ == "__main__":
    main()
