"""The network of the study exoplanets beside box and transit least squares: at fixed transit S/N, and in real stars.

    gsnn run exoplanets --seeds 3 --out runs/exoplanets
    python benchmarks/planets.py runs/exoplanets --data kepler_tess_fits [--tls 240] [--figures docs/images]

``--data`` holds the files of Kepler-90 (a folder ``kepler90``), HAT-P-7 and WASP-126 as the pipelines deliver them. The
periods of real planets are the published ones of the NASA Exoplanet Archive, and are used for checking only.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gsnn.baselines.transits import least_squares
from gsnn.data.detrend import Even, even, flattened, noise
from gsnn.data.fold import phase
from gsnn.data.transit_candidates import FACTS, TransitCandidates
from gsnn.data.transit_search import Candidate, masked, search, single_dips
from gsnn.errors import GsnnError
from gsnn.model import Model
from gsnn.run import Run

BINS = ((3.0, 7.0), (7.0, 10.0), (10.0, 16.0), (16.0, 45.0))  # of the transit S/N
FALSE_RATE = 0.02  # the rate of false positives at which recall is told
RIGHT = 0.01  # relative error of a period that counts as recovered
KEPLER_90 = {  # period (d) and a transit (BKJD): NASA Exoplanet Archive, cumulative KOI table, KIC 11442793
    "b": (7.00821787, 137.67164), "c": (8.71980135, 139.52134), "d": (59.7371443, 158.95974),
    "e": (91.9401253, 134.3000), "f": (124.922516, 129.7295), "g": (210.6013843, 147.056867),
    "h": (331.5972732, 140.498929),
}  # fmt: skip
LIKE_KEPLER_90 = (0.15, 0.25, 0.4, 0.6)  # days: trial durations of long-period planets
PUBLISHED = {"HAT-P-7 b": 2.2047354, "WASP-126 b": 3.2888}  # Pal et al. 2008; Maxted et al. 2016


@dataclass
class Stars:
    """The held-out stars: truths, light curves and the statistics of each method (higher: more like a planet)."""

    ids: np.ndarray
    kind: np.ndarray
    snr: np.ndarray
    period: np.ndarray
    flux: np.ndarray
    facts: dict[str, np.ndarray]
    scores: dict[str, np.ndarray]

    def take(self, some: np.ndarray) -> Stars:
        values = {name: getattr(self, name)[some] for name in ("ids", "kind", "snr", "period", "flux")}
        cut = {name: {k: v[some] for k, v in getattr(self, name).items()} for name in ("facts", "scores")}
        return Stars(**values, **cut)


def held_out(run: Run) -> tuple[Stars, list[Model]]:
    view = run.ground.test
    names = ["id", "kind", "snr", "period", "flux", *(name for name, _, _ in FACTS)]
    columns = view.columns(names)
    kinds = np.array(view.schema["kind"].classes)
    models = [Model.load(folder / "model") for folder in fits(run)]
    inputs = {name: torch.tensor(view.columns([name])[name]).float() for name in models[0].inputs}
    scores = {f"network, seed {i}": p_planet(model, inputs) for i, model in enumerate(models)}
    facts = {name: columns[name] for name, _, _ in FACTS}
    scores |= {"BLS SDE": facts["bls_sde"], "BLS S/N": facts["bls_snr"]}
    for path in sorted((run.path / "baselines").glob("*.parquet")):
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        if path.stem != "prior":
            assert table["id"].to_pylist() == list(columns["id"])
            names = {"bls": "BLS, both weighed", "boosting": "boosted trees on the same columns"}
            scores[names.get(path.stem, path.stem)] = table["planet_p"].to_numpy()
    flux = columns["flux"].reshape(len(view), -1).astype(float)
    return Stars(columns["id"], kinds[columns["kind"]], columns["snr"], columns["period"], flux, facts, scores), models


def fits(run: Run) -> list[Path]:
    return [run.path / "fits/main", *sorted((run.path / "fits").glob("seed-*"))]


@torch.inference_mode()
def p_planet(model: Model, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    """Log odds of a planet: of the same order as the probability, and not saturated."""
    found = []
    model.eval()
    for start in range(0, len(next(iter(inputs.values()))), 256):
        batch = model.transform({name: values[start : start + 256] for name, values in inputs.items()})
        out = model.objective.answer(**batch)
        found.append((out[:, 0] - out[:, 1]).numpy())
    return np.concatenate(found)


# ------------------------------------------------------------------ ROC


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Area under the ROC: the chance that a positive is above a negative."""
    from scipy.stats import rankdata

    ranks = rankdata(np.r_[positive, negative])[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def recall(positive: np.ndarray, negative: np.ndarray) -> float:
    """Share of the positives above the threshold that FALSE_RATE of the negatives pass."""
    return float((positive > np.quantile(negative, 1 - FALSE_RATE)).mean())


def interval(function, positive: np.ndarray, negative: np.ndarray, resamples: int = 500) -> list[float]:
    """Value and its 95% interval over resampled stars."""
    chance = np.random.default_rng(0)
    draws = [
        function(positive[chance.integers(0, len(positive), len(positive))],
                 negative[chance.integers(0, len(negative), len(negative))])
        for _ in range(resamples)
    ]  # fmt: skip
    return [function(positive, negative), *np.quantile(draws, [0.025, 0.975]).tolist()]


def curves(stars: Stars) -> list[dict]:
    """AUC and recall of every method for planets in bins of S/N, against stars with nothing, binaries, and both."""
    planet = np.char.find(stars.kind.astype(str), "planet") >= 0
    against = {
        "nothing": stars.kind == "nothing",
        "eclipsing binaries": stars.kind == "eclipsing binary",
        "both": ~planet,
    }
    rows = []
    for low, high in (*BINS, (BINS[0][0], BINS[-1][1])):
        chosen = planet & (stars.snr >= low) & (stars.snr < high)
        for name, negative in against.items():
            for method, score in stars.scores.items():
                score = np.nan_to_num(score, nan=-np.inf)
                row = {"snr": [low, high], "against": name, "method": method}
                row |= {"positives": int(chosen.sum()), "negatives": int(negative.sum())}
                if chosen.sum() >= 8 and negative.sum() >= 8:
                    row["auc"] = interval(auc, score[chosen], score[negative])
                    row["recall"] = interval(recall, score[chosen], score[negative])
                rows.append(row)
    return rows


def transit_least_squares(stars: Stars, count: int) -> Stars:
    """A subsample with the statistics of TLS: every method on the very same stars."""
    some = np.random.default_rng(0).permutation(len(stars.ids))[:count]
    part = stars.take(some)
    found = []
    for flux in part.flux:
        try:
            found.append(least_squares(flattened(Even(0.0, 1 / 48, flux))))
        except GsnnError:
            found.append(Candidate(*[float("nan")] * 6))
    part.scores |= {"TLS SDE": np.array([c.sde for c in found]), "TLS S/N": np.array([c.snr for c in found])}
    part.facts["tls_period"] = np.array([c.period for c in found])
    return part


def periods(stars: Stars) -> dict[str, dict]:
    """How often each search has the true period of a planet, and how well."""
    out = {}
    planet = np.char.find(stars.kind.astype(str), "planet") >= 0
    for low, high in BINS:
        chosen = planet & (stars.snr >= low) & (stars.snr < high)
        row = {"planets": int(chosen.sum())}
        for method in ("bls_period", "tls_period"):
            if method in stars.facts and chosen.sum():
                error = np.abs(stars.facts[method][chosen] / stars.period[chosen] - 1)
                right = error < RIGHT
                row[method] = {"recovered": float(right.mean()), "median relative error": float(np.median(error[right]))
                               if right.any() else None}  # fmt: skip
        out[f"{low:g} to {high:g}"] = row
    return out


# ------------------------------------------------------------------ real stars


def short_period(data: Path, models: list[Model]) -> list[dict]:
    """HAT-P-7 and WASP-126: what each search finds, and what the network says."""
    files = {"HAT-P-7 b": "kplr010666592*_slc.fits", "WASP-126 b": "hlsp_tess-data-alerts*00025155310*_lc.fits"}
    out = []
    for name, pattern in files.items():
        (path,) = data.glob(pattern)
        source = TransitCandidates(of={"name": "files", "path": str(path)})
        batch = source.rows(np.arange(1), 0)
        row = batch.to_pylist()[0]
        (curve,) = source.curves(batch)
        other = least_squares(flattened(curve))
        out.append(
            {
                "planet": name,
                "published period": PUBLISHED[name],
                "BLS": {"period": row["bls_period"], "sde": row["bls_sde"], "snr": row["bls_snr"]},
                "TLS": {"period": other.period, "sde": other.sde, "snr": other.snr},
                "network": [probability(model, row) for model in models],
            }
        )
    return out


def probability(model: Model, row: dict) -> float:
    shapes = {name: column.shape for name, column in zip(model.inputs, model.inputs.columns)}
    inputs = {n: torch.tensor(np.array(row[n], np.float32).reshape(1, *s)) for n, s in shapes.items()}
    return float(1 / (1 + np.exp(-p_planet(model, inputs)[0])))


def flat_kepler_90(data: Path) -> Even:
    """Quarters 3 to 5, made flat with a window that keeps transits of half a day."""
    source = TransitCandidates(of={"name": "files", "path": str(data / "kepler90")}, cadence_minutes=29.4244)
    (curve,) = source.curves(source.source.rows(np.arange(1), 0))
    return flattened(curve, window=2.5)


def kepler_90(data: Path) -> dict:
    """Planets of long periods as single dips, and those that a periodic search finds one after the other."""
    flat = flat_kepler_90(data)
    dips = single_dips(flat, durations=LIKE_KEPLER_90, least=5.0)
    events = [{"time": d.epoch, "duration": d.duration, "depth_ppm": 1e6 * d.depth, "snr": d.snr,
               "planets": due(d.epoch, 0.3)} for d in dips]  # fmt: skip
    rest = flat
    for deep in (d for d in dips if d.snr > 20):  # a periodic search would be held by them
        rest = masked(rest, deep, width=2.0)
    quiet, found = rest, []
    for _ in range(4):
        one = search(rest, shortest=3.0, longest=130.0, durations=LIKE_KEPLER_90)[0]
        found.append({**told(one), "planets": same(one)})
        rest = masked(rest, one, width=2.0)
    start = time.process_time()
    slow = even(quiet.time, quiet.flux, 1 / 24)  # an hour a step: half the time
    other = least_squares(slow, shortest=3.0, longest=130.0)
    seen = {name: shown(flat, *ephemeris) for name, ephemeris in KEPLER_90.items()}
    return {
        "days": [float(flat.time[0]), float(flat.time[-1])],
        "noise_ppm": 1e6 * noise(flat.flux),
        "transits in these days": seen,
        "single dips": sorted(events, key=lambda e: -e["snr"]),
        "BLS without the deep dips": found,
        "TLS without the deep dips": {
            **told(other), "planets": same(other), "cpu_seconds": time.process_time() - start,
        },
    }  # fmt: skip


def told(one: Candidate) -> dict:
    return {name: float(value) for name, value in one._asdict().items()}


def due(when: float, within: float) -> list[str]:
    """The planets of which a transit is due then, by the published ephemerides (h and g vary by hours)."""
    allowed = {"g": 1.3, "h": 0.5}
    return [
        name for name, (period, epoch) in KEPLER_90.items()
        if period > 20 and abs(phase(np.array([when]), period, epoch)[0][0]) < max(within, allowed.get(name, 0))
    ]  # fmt: skip


def same(one: Candidate) -> list[str]:
    """The planets of that period, or of a simple ratio of it."""
    ratios = {"": 1.0, " at half the period": 0.5, " at twice the period": 2.0, " at a third": 1 / 3}
    return [
        name + where for name, (period, _) in KEPLER_90.items() for where, r in ratios.items()
        if abs(one.period / (period * r) - 1) < RIGHT
    ]  # fmt: skip


def shown(flat: Even, period: float, epoch: float) -> list[float]:
    """The times of the published transits at which there are observations."""
    first, last = np.ceil((flat.time[0] - epoch) / period), np.floor((flat.time[-1] - epoch) / period)
    times = epoch + period * np.arange(first, last + 1)
    return [float(t) for t in times if np.isfinite(flat.flux[np.abs(flat.time - t) < 0.3]).mean() > 0.5]


# ------------------------------------------------------------------ figures


def attribution(model: Model, row: dict) -> dict[str, np.ndarray]:
    """Integrated gradients (Sundararajan et al. 2017) of the log odds of a planet, for each value of the views."""
    from captum.attr import IntegratedGradients

    columns = model.inputs
    raw = {c.name: torch.tensor(np.array(row[c.name], np.float32).reshape(1, *c.shape)) for c in columns.columns}
    given, empty = (model.eval().transform(x) for x in (raw, {k: torch.zeros_like(v) for k, v in raw.items()}))
    folds = ("orbit", "transit")
    rest = [name for name in given if name not in folds]

    def odds(*values: torch.Tensor) -> torch.Tensor:
        n = len(values[0])
        others = {k: given[k].expand(n, *given[k].shape[1:]) for k in rest}
        out = model.objective.answer(**dict(zip(folds, values)), **others)
        return out[:, 0] - out[:, 1]

    flat = tuple(empty[name] for name in folds)  # a light curve without any dip
    found = IntegratedGradients(odds).attribute(tuple(given[name] for name in folds), baselines=flat, n_steps=64)
    return {name: one.detach().numpy()[0] for name, one in zip(folds, found)}


def figure_roc(rows: list[dict], path: Path) -> None:
    from matplotlib.figure import Figure

    methods = ["network, seed 0", "boosted trees on the same columns", "BLS SDE", "TLS SDE"]
    colours = ["#0b6fb8", "#3c9d4e", "#d1702a", "#7d4bb3"]
    figure = Figure(figsize=(11, 3.7), layout="constrained")
    for axis, against in zip(figure.subplots(1, 3, sharey=True), ("nothing", "eclipsing binaries", "both")):
        for shift, (method, colour) in enumerate(zip(methods, colours)):
            some = [r for r in rows if r["against"] == against and r["method"] == method and "auc" in r][:-1]
            x = np.array([np.sqrt(r["snr"][0] * r["snr"][1]) for r in some]) * (1 + 0.02 * (shift - 1.5))
            y = np.array([r["auc"] for r in some])
            if len(y):
                axis.errorbar(x, y[:, 0], [y[:, 0] - y[:, 1], y[:, 2] - y[:, 0]], fmt="o-", ms=4, lw=1.3, color=colour,
                              capsize=2, label=method)  # fmt: skip
        axis.set(xscale="log", xlabel="transit S/N", title=f"planets against {against}", ylim=(0.3, 1.01))
        axis.set_xticks([4, 6, 8, 12, 20], ["4", "6", "8", "12", "20"], minor=False)
        axis.minorticks_off()
        axis.grid(alpha=0.25)
    figure.axes[0].set_ylabel("area under the ROC")
    figure.axes[0].legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=130)


def figure_folds(model: Model, examples: dict[str, dict], path: Path) -> None:
    """Each column a star: the orbit and the transit of its best candidate, coloured by what speaks for a planet."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(examples), 5.4), layout="constrained")
    axes = figure.subplots(2, len(examples), squeeze=False)
    lines = (("orbit", "phase (periods)", 0.5), ("transit", "transit durations", 3.0))
    for column, (title, row) in enumerate(examples.items()):
        found = attribution(model, row)
        for line, (name, label, half) in enumerate(lines):
            shape = model.inputs[name].shape
            y = np.array(row[name], float).reshape(shape)[0]
            smooth = np.convolve(found[name][0], np.ones(3) / 3, "same")
            x = (np.arange(len(y)) + 0.5) / len(y) * 2 * half - half
            limit = np.abs(smooth).max() or 1
            colour = {"c": smooth, "cmap": "RdBu", "vmin": -limit, "vmax": limit}
            dots = axes[line, column].scatter(x, y, s=16, lw=0.3, edgecolors="0.4", **colour)
            axes[line, column].set(xlabel=label)
            axes[line, column].set_facecolor("#f6f6f6")
        axes[0, column].set_title(title, fontsize=9)
        bar = figure.colorbar(dots, ax=axes[1, column], location="bottom", ticks=[-limit, limit], shrink=0.8)
        bar.ax.set_xticklabels(["against", "for a planet"], fontsize=8)
    for line in range(2):
        axes[line, 0].set_ylabel("(flux - 1) / noise of a bin")
    figure.savefig(path, dpi=130)


def figure_kepler_90(data: Path, found: dict, path: Path) -> None:
    from matplotlib.figure import Figure

    flat = flat_kepler_90(data)
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    axis = figure.subplots()
    axis.plot(flat.time, 1e6 * (flat.flux - 1), ".", ms=1.2, color="0.45")
    low = np.nanmin(1e6 * (flat.flux - 1))
    for event in found["single dips"]:
        name = "/".join(event["planets"]) or "?"
        axis.annotate(
            name, (event["time"], -event["depth_ppm"]), (event["time"], low * 1.04), ha="center", fontsize=10,
            color="#0b6fb8" if event["planets"] else "#b03030", arrowprops={"arrowstyle": "-", "lw": 0.6},
        )  # fmt: skip
    axis.set(xlabel="time (BJD - 2454833, d)", ylabel="flux (ppm)", ylim=(low * 1.12, -low * 0.2))
    axis.set_title("Kepler-90: single dips above 5 sigma, and the planets that are due then", fontsize=10)
    figure.savefig(path, dpi=130)


def examples_of(run: Run, stars: Stars, data: Path | None) -> dict[str, dict]:
    """A faint planet, a binary, and a real one: the rows that the network reads."""
    view, out = run.ground.test, {}
    sde = stars.facts["bls_sde"]
    right = np.abs(stars.facts["bls_period"] / stars.period - 1) < RIGHT
    faint = np.flatnonzero((stars.kind == "planet") & right & (stars.snr > 8) & (stars.snr < 10))
    pair = np.flatnonzero((stars.kind == "eclipsing binary") & (stars.snr > 15) & (stars.snr < 25) & (sde > 8))
    for title, places in (("simulated planet, S/N {:.1f}", faint), ("blended binary, S/N {:.1f}", pair)):
        if len(places):
            one = view.take(places[:1]).columns(list(run.model.inputs))
            out[title.format(stars.snr[places[0]])] = {name: values[0] for name, values in one.items()}
    if data is not None:
        (path,) = data.glob("hlsp_tess-data-alerts*00025155310*_lc.fits")
        source = TransitCandidates(of={"name": "files", "path": str(path)})
        out["WASP-126 b (TESS)"] = source.rows(np.arange(1), 0).to_pylist()[0]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tls", type=int, default=240, help="test stars that TLS searches")
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/planets.json"))
    given = parser.parse_args()
    run = Run(given.run)
    stars, models = held_out(run)
    start = time.process_time()
    part = transit_least_squares(stars, given.tls)
    result = {
        "command": "python benchmarks/planets.py runs/exoplanets --data kepler_tess_fits",
        "machine": platform.machine(), "torch": torch.__version__, "test stars": len(stars.ids), "tls stars": given.tls,
        "tls_cpu_seconds_a_star": (time.process_time() - start) / max(given.tls, 1), "false_positive_rate": FALSE_RATE,
        "all": curves(stars), "with TLS": curves(part), "periods": periods(stars), "periods with TLS": periods(part),
    }  # fmt: skip
    if given.data:
        result["short periods"] = short_period(given.data, models)
        result["Kepler-90"] = kepler_90(given.data)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    if given.figures:
        given.figures.mkdir(parents=True, exist_ok=True)
        figure_roc(result["with TLS"], given.figures / "planets-roc.png")
        figure_folds(models[0], examples_of(run, stars, given.data), given.figures / "planets-folds.png")
        if given.data:
            figure_kepler_90(given.data, result["Kepler-90"], given.figures / "kepler-90.png")


if __name__ == "__main__":
    main()
