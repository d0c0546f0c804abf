"""The study dark-matter-map on a simulation that it has never seen, and on the real sky.

    gsnn run dark-matter-map --data COSMOS --out runs/dark-matter-map
    python benchmarks/dark_matter.py runs/dark-matter-map --data COSMOS [--draws 12] [--figures docs/images]

``--data`` is the folder of the COSMOS catalogue with ``ktng_kappa360v2.fits`` (a convergence map of kappa-TNG: Osato et
al. 2021, arXiv:2010.09731) and ``xray.txt`` (groups: Finoguenov et al. 2007). Errors are over the pixels inside the
mask; the truth keeps its mean, which shear does not know: so Remy et al. 2022 (arXiv:2201.05561) count too, as Kaiser &
Squires of 1 arcmin and the Wiener filter come out as there.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.stats import t as student

from gsnn.config import build
from gsnn.data.readers.shear_catalogue import PIXEL, ShearOfMap, catalogue, groups, image, places
from gsnn.data.shear import multipoles, wiener
from gsnn.evaluation.map_metrics import map_bias, map_coverage, map_r, map_squared_error
from gsnn.evaluation.maps import Maps
from gsnn.run import Run
from gsnn.simulate.lensing import Lensing

NEAR = 1.0  # arcmin within which a peak belongs to a group
PEAKS = (40, 80, 160)  # the highest of each map
RANDOM = 2000  # catalogues of random positions
PUBLISHED = {  # RMSE and Pearson's r on this map under this mask and noise (Remy et al. 2022, table 1)
    "Kaiser-Squires, 1 arcmin": (2.49e-2, 0.589), "Wiener": (2.36e-2, 0.649),
    "DeepMass": (2.18e-2, 0.677), "score posterior mean": (2.24e-2, 0.652),
}  # fmt: skip


class Rows:
    """A few rows of a source as the view that baselines read."""

    def __init__(self, source, count: int, seed: int):
        made = source.rows(np.arange(count), seed)
        schema = source.schema()
        self.data = {
            c.name: np.array(made[c.name].to_pylist(), np.float32).reshape(count, *c.shape)
            for c in schema.columns
            if c.shape
        }

    def __len__(self) -> int:
        return len(self.data["shear"])

    def chunks(self, names, size):
        for start in range(0, len(self), size):
            yield {name: self.data[name][start : start + size] for name in names}


def by_network(run: Run, rows: Rows) -> Maps:
    parts, model, done = [], run.model.eval(), 0
    for chunk in rows.chunks(["shear", "noise"], 4):
        batch = {name: torch.as_tensor(value) for name, value in chunk.items()}
        batch["row"] = torch.arange(done, done + len(batch["shear"]))  # which draws of a flow are a function of
        with torch.inference_mode():
            parts.append(model(batch)["kappa"])
        done += len(batch["row"])
    return Maps.join(parts)


def methods(run: Run) -> dict[str, object]:
    """Every method as a function of rows, the baselines as the run tuned them."""
    inputs, target = run.model.inputs, run.model.targets["kappa"]
    found = {"network": lambda rows: by_network(run, rows)}
    for name, spec in (
        ("Wiener", {"name": "wiener", "realisations": 64}),
        ("Kaiser-Squires, tuned", {"name": "kaiser-squires"}),
        ("Kaiser-Squires, 1 arcmin", {"name": "kaiser-squires", "smoothing": 1.0}),
    ):
        made = build(spec, "baseline", inputs, target)
        made.fit(run.ground.train, run.ground.valid, 0)
        print(f"  {name}: {made.describe()}", flush=True)
        found[name] = lambda rows, made=made: made.predict(rows)["kappa"]
    return found


def over_draws(values: np.ndarray) -> dict[str, float]:
    """The mean over noise draws, its 95% interval (Student), and the scatter of one draw."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return {"value": float(values.mean()), "low": float(values.mean() - half), "high": float(values.mean() + half),
            "scatter": float(values.std(ddof=1))}  # fmt: skip


def on_kappa_tng(found: dict[str, Maps], truth: np.ndarray) -> dict[str, dict[str, dict[str, float]]]:
    out: dict[str, dict] = {}
    errors = {name: np.sqrt(map_squared_error(told, truth)) for name, told in found.items()}
    for name, told in found.items():
        out[name] = {"rmse": over_draws(errors[name]), "r": over_draws(map_r(told, truth)),
                     "bias": over_draws(map_bias(told, truth))}  # fmt: skip
        level = map_bias(told, truth)[:, None, None, None]  # what shear does not know is given to every method
        out[name]["rmse_of_known_mean"] = over_draws(np.sqrt(map_squared_error(told, truth + level)))
        if told.proper:
            out[name]["coverage_68_of_known_mean"] = over_draws(map_coverage(told, truth + level))
            out[name]["coverage_68"] = over_draws(map_coverage(told, truth))
        if name != "network":
            out[name]["network_minus_it"] = over_draws(errors["network"] - errors[name])
    return out


def peaks_of(told: np.ndarray, inside: np.ndarray, count: int) -> np.ndarray:
    """(y, x) of the ``count`` highest local maxima inside the mask."""
    filled = np.where(inside, told, -np.inf)
    top = (filled == maximum_filter(filled, 5)) & inside
    y, x = np.nonzero(top)
    order = np.argsort(-filled[y, x])[:count]
    return np.stack([y[order], x[order]], 1)


def at_groups(told: np.ndarray, inside: np.ndarray, where: np.ndarray, seed: int = 0) -> dict[str, object]:
    """How high a map stands at groups, and how many have one of its highest peaks within ``NEAR``, beside chance.

    ``told`` is smoothed by nothing more than the method itself; S/N is in standard deviations of the map in the mask.
    """
    height = (told - told[inside].mean()) / told[inside].std()
    pixels = np.argwhere(inside)
    random = pixels[np.random.default_rng(seed).integers(len(pixels), size=(RANDOM, len(where)))]
    chance = height[random[..., 0], random[..., 1]].mean(1)
    out = {"groups": len(where), "height": float(height[where[:, 0], where[:, 1]].mean()),
           "height_by_chance": [float(v) for v in np.quantile(chance, [0.025, 0.5, 0.975])]}  # fmt: skip
    for count in PEAKS:
        peak = peaks_of(told, inside, count)

        def matched(at: np.ndarray, peak: np.ndarray = peak) -> np.ndarray:
            far = np.hypot(at[..., None, 0] - peak[:, 0], at[..., None, 1] - peak[:, 1]) * PIXEL
            return (far.min(-1) <= NEAR).sum(-1)

        by_chance = np.concatenate([matched(some) for some in np.array_split(random, 20)])
        out[f"within_1_arcmin_of_the_{count}_highest"] = {
            "groups": int(matched(where)), "by_chance": [float(v) for v in np.quantile(by_chance, [0.025, 0.5, 0.975])],
            "p": float((1 + (by_chance >= matched(where)).sum()) / (1 + RANDOM)),
        }  # fmt: skip
    return out


def on_cosmos(found: dict[str, Maps], folder: Path) -> tuple[dict[str, object], np.ndarray]:
    _, noise, middle = catalogue(folder)
    inside = noise > 0
    known = groups(folder)
    y, x = places(known[:, 0], known[:, 1], middle, len(noise))
    good = (y >= 0) & (y < len(noise)) & (x >= 0) & (x < len(noise))
    good[good] = inside[y[good], x[good]]
    where = np.stack([y, x], 1)[good]
    out = {name: at_groups(told.value[0, 0], inside, where) for name, told in found.items()}
    return out, known[good]


def b_mode(run: Run, rows: Rows) -> dict[str, float]:
    """Standard deviations of the Wiener map of the shear as it is and turned by 45 degrees, which leaves B modes."""
    shear, noise = torch.as_tensor(rows.data["shear"]), torch.as_tensor(rows.data["noise"])[:, 0]
    power, inside = run.model.objective.network.power, rows.data["noise"][0, 0] > 0
    turned = torch.stack([-shear[:, 1], shear[:, 0]], 1)
    e, b = (float(wiener(one, noise, power)[0].numpy()[inside].std()) for one in (shear, turned))
    return {"e": e, "b": b}


def statistics(maps: np.ndarray) -> dict[str, list[float]]:
    """Band powers, one-point quantiles and counts of peaks of maps smoothed by 1 arcmin, a mean over the maps."""
    side = maps.shape[-1]
    multipole, edges = multipoles(side, PIXEL).numpy(), np.geomspace(300, 3e4, 13)
    power = abs(np.fft.rfft2(maps)) ** 2 / side**2 * (PIXEL / 60 * np.pi / 180) ** 2
    bands = [power[:, (multipole >= a) & (multipole < b)].mean() for a, b in pairwise(edges)]
    soft = np.stack([gaussian_filter(one - one.mean(), NEAR / PIXEL, mode="wrap") for one in maps])
    level, steps = np.arange(-0.06, 0.2001, 0.01), np.arange(0, 0.2001, 0.01)
    tops = [one[(one == maximum_filter(one, 5, mode="wrap"))] for one in soft]
    area = (side * PIXEL / 60) ** 2
    return {
        "multipole": np.sqrt(edges[1:] * edges[:-1]).tolist(), "power": [float(b) for b in bands],
        "kappa": level.tolist(), "above": [float((soft > v).mean()) for v in level],
        "peak": steps.tolist(), "peaks": [float(np.mean([(t > v).sum() for t in tops]) / area) for v in steps],
        "mean": float(maps.mean()), "deviation": float(maps.std(axis=(1, 2)).mean()),
    }  # fmt: skip


def rates() -> list[dict[str, float]]:
    """CPU seconds a map against its size, on one thread."""
    out = []
    for side in (64, 128, 256, 360):
        source, count = Lensing(side=side, margin=0, maps=100), 4
        source.rows(np.arange(1), 0)
        start = time.process_time()
        source.rows(np.arange(count), 1)
        out.append({"side": side, "maps_per_second": count / (time.process_time() - start)})
    return out


def figures(folder: Path, tng: dict[str, Maps], truth: np.ndarray, seen: dict[str, Maps], real: Path, known: np.ndarray,
            compared: dict[str, dict]) -> None:  # fmt: skip
    from matplotlib.ticker import FuncFormatter, NullFormatter

    from gsnn.report.maps import limits, maps
    from gsnn.report.theme import DASHES, NETWORK, OTHERS, figure, style

    inside = tng["network"].inside[0, 0]
    crop = np.s_[36:318, 36:318]
    some = ("Kaiser-Squires, 1 arcmin", "Wiener", "network")
    half = (tng["network"].high - tng["network"].low)[0, 0] / 2
    shown = {"truth": truth, **{n: tng[n].value[0, 0] for n in some}, "half of the 68% interval": half}
    spans = [(-0.03, 0.11)] * 4 + [limits([half[inside]], 0.01)]
    cut = {name: np.where(inside, one, np.nan)[crop] for name, one in shown.items()}
    maps(cut, label="convergence", spans=spans, columns=5).figure.savefig(
        folder / "dark-matter-tng.png", dpi=110, facecolor="white"
    )
    _, noise, middle = catalogue(real)
    reach = len(noise) * PIXEL / 120
    pixel = PIXEL / 60
    ra, dec = middle[0] - reach + 36 * pixel, middle[1] - reach + 36 * pixel
    extent = (ra + 282 * pixel, ra, dec, dec + 282 * pixel)  # right ascension grows to the left
    cut = {name: np.where(noise > 0, seen[name].value[0, 0], np.nan)[crop][:, ::-1] for name in some}
    half = np.where(noise > 0, (seen["network"].high - seen["network"].low)[0, 0] / 2, np.nan)[crop][:, ::-1]
    cut = {name.replace("network", "network, X-ray groups"): one for name, one in cut.items()}
    cut["half of the 68% interval"] = half
    spans = [(-0.03, 0.08)] * 3 + [limits([half], 0.01)]
    drawing = maps(
        cut, label="convergence", spans=spans, extent=extent, axes=("right ascension (deg)", "declination (deg)"),
        marks=known[:, :2], columns=2,
    )  # fmt: skip
    drawing.figure.savefig(folder / "dark-matter-cosmos.png", dpi=110, facecolor="white")
    with style():
        f = figure(9.6, 2.9)
        for ax, x, y, label in zip(
            f.subplots(1, 3), ("multipole", "kappa", "peak"), ("power", "above", "peaks"),
            ("l (l + 1) C / 2 pi", "share of pixels above", "peaks / sq. degree above"),
        ):  # fmt: skip
            for i, (name, one) in enumerate(compared.items()):
                at = np.array(one[x])
                scale = at * (at + 1) / (2 * np.pi) if x == "multipole" else 1
                colour = [NETWORK, *OTHERS][i]
                ax.plot(at, np.array(one[y]) * scale, color=colour, ls="-" if i == 0 else DASHES[i - 1], label=name)
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
            ax.yaxis.set_minor_formatter(NullFormatter())
            ax.set_xlabel({"multipole": "multipole l", "kappa": "convergence", "peak": "height of a peak"}[x])
            ax.set_title(label)
            if x == "multipole":
                ax.set_xscale("log")
                ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
                ax.xaxis.set_minor_formatter(NullFormatter())
                ax.yaxis.set_minor_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
                ax.legend()
        f.savefig(folder / "dark-matter-simulations.png", dpi=110, facecolor="white")


def fewer_colours(path: Path) -> None:
    """The same picture in 128 colours, a third of the bytes."""
    from PIL import Image

    Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=12)
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "dark_matter.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    run = Run(args.run)
    how = methods(run)
    rows = Rows(ShearOfMap(path=str(args.data), draws=args.draws), args.draws, 0)
    tng = {name: tell(rows) for name, tell in how.items()}
    told = on_kappa_tng(tng, rows.data["kappa"])
    for name, one in told.items():
        print(name, json.dumps(one), flush=True)
    sky = Rows(Lensing(path=str(args.data)).observed(), 1, 0)
    seen = {name: tell(sky) for name, tell in how.items()}
    cosmos, known = on_cosmos(seen, args.data)
    for name, one in cosmos.items():
        print(name, json.dumps(one), flush=True)
    modes = b_mode(run, sky)
    truth = image(args.data / "ktng_kappa360v2.fits")
    simulated = Rows(Lensing(path=str(args.data)), 24, 12345).data["kappa"][:, 0]
    compared = {"simulated": statistics(simulated), "kappa-TNG": statistics(truth[None])}
    result = {
        "draws": args.draws, "kappa_tng": told,
        "published": {name: {"rmse": rmse, "r": r} for name, (rmse, r) in PUBLISHED.items()},
        "cosmos": cosmos, "cosmos_modes": modes, "simulations": compared, "rates": rates(),
        "machine": {"processor": platform.processor() or platform.machine(), "threads": 1, "torch": torch.__version__},
    }  # fmt: skip
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    if args.figures:
        figures(args.figures, tng, truth, seen, args.data, known, compared)
        for path in args.figures.glob("dark-matter-*.png"):
            fewer_colours(path)


if __name__ == "__main__":
    main()
