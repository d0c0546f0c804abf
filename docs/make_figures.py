"""A picture of light curves for the page of a study: some examples of a run, and what its network said as time went on.

python docs/make_figures.py runs/early docs/images/early-transients.png
python docs/make_figures.py runs/variable-stars docs/images/variable-stars.png --fold true_period
python docs/make_figures.py runs/expansion docs/images/expansion.png --corner 0
python docs/make_figures.py runs/nbody-emulator docs/images/nbody-spectra.png --spectra
python docs/make_figures.py runs/nbody-emulator docs/images/nbody-maps.png --map 0
python docs/make_figures.py runs/halo-mass docs/images/halo-mass.png --clouds
python docs/make_figures.py runs/cmb-foregrounds docs/images/cmb-foregrounds.png --map 1 --errors
python docs/make_figures.py runs/full-sky docs/images/full-sky.png --skies
python docs/make_figures.py runs/lens-finding docs/images/lens-finding.png --pictures 8
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from gsnn.report.curves import Curve, curves_of, points, running
from gsnn.report.theme import style


def chosen(run: Path, curves: dict[str, Curve], count: int) -> dict[str, str]:
    """id -> truth of the examples with most observations, of the classes by turns."""
    table = pq.read_table(run / "predictions.parquet", columns=["id", "truth"]).to_pydict()
    truth = {str(name): str(kind) for name, kind in zip(table["id"], table["truth"]) if str(name) in curves}
    by_class: dict[str, list[str]] = {}
    for name in sorted(truth, key=lambda name: -len(curves[name].time)):
        by_class.setdefault(truth[name], []).append(name)
    turns = [names[k] for k in range(count) for _, names in sorted(by_class.items()) if k < len(names)]
    return {name: truth[name] for name in turns[:count]}


def folded(curve: Curve, period: float) -> Curve:
    """Two cycles of phase instead of time."""
    phase = (np.asarray(curve.time) / period) % 1
    twice = {name: np.concatenate([getattr(curve, name)] * 2) for name in ("value", "error", "band")}
    return curve._replace(time=np.concatenate([phase, phase + 1]), time_unit="cycles", **twice)


def since_first(curve: Curve) -> Curve:
    """Time from the first observation."""
    moments = None if curve.moments is None else curve.moments - curve.time[0]
    return curve._replace(time=curve.time - curve.time[0], moments=moments)


def corner(run: Path, place: int, out: Path) -> None:
    """The joint posterior of one object by all who have one."""
    from gsnn.report.posteriors import corner as drawing

    with np.load(run / "posteriors.npz") as kept:
        draws = {k.removeprefix("draws."): kept[k][place] for k in kept.files if k.startswith("draws.")}
        units = kept["units"] if "units" in kept.files else [""] * len(kept["parameters"])
        names = [f"{n} [{u}]" if u else str(n) for n, u in zip(kept["parameters"], units)]
        figure = drawing(draws, names, kept["truth"][place], list(zip(kept["low"], kept["high"]))).figure
    figure.savefig(out, dpi=110, facecolor="white")


def spectra(run: Path, out: Path) -> None:
    """The spectra of fields, or of draws of fields, as in the report."""
    from gsnn.report.generated import field_draws
    from gsnn.report.spectra import field_spectra

    answer = json.loads((run / "answer.json").read_text())
    with style():
        drawing = field_draws(answer["generated"]) if "generated" in answer else field_spectra(answer["spectra"])
        drawing.figure.savefig(out, dpi=110, facecolor="white")


def maps(run: Path, place: int, out: Path, errors: bool = False) -> None:
    """One object of maps.npz by all methods; with ``errors`` the truth, and what each is off."""
    from gsnn.report.maps import limits
    from gsnn.report.maps import maps as drawing

    with np.load(run / "maps.npz") as kept:
        truth = kept["truth"][place]
        panels = {key.removeprefix("map."): kept[key][place] for key in kept.files if key.startswith("map.")}
        label = str(kept["label"]) if "label" in kept.files else ""
    how = {"label": label, "columns": 3}
    if errors:
        panels = {f"{who}: error": one - truth for who, one in panels.items()}
        end = max(map(abs, limits(list(panels.values()))))
        how |= {"spans": [limits([truth]), *[(-end, end)] * len(panels)], "diverging": True, "columns": len(panels) + 1}
    with style():
        drawing({"truth": truth} | panels, **how).figure.savefig(out, dpi=110, facecolor="white")


def sampled(run: Path, place: int, out: Path) -> None:
    """A test object of a run that tells maps by draws: the truth, the mean, and three of the draws."""
    import torch

    from gsnn.data.batch import tensors
    from gsnn.report.maps import maps as drawing
    from gsnn.run import Run

    made = Run(run)
    one, model = made.ground, made.model
    some = one.test.take([place])
    name = one.target
    batch = model.transform(tensors(some.columns(list(model.inputs)), some.rows))
    with torch.inference_mode():
        draws = model.objective.sample(batch)[0, :, 0].numpy()
        within = model.objective.within
        inside = (batch[within] > 0).all(1)[0].numpy() if within else None
    truth = some.columns([name])[name][0, 0]
    panels = {"truth": truth, f"mean of {len(draws)} draws": draws.mean(0)}
    panels |= {f"draw {i + 1}": draw for i, draw in enumerate(draws[:3])}
    with style():
        drawing(panels, inside=inside, label=name, columns=5).figure.savefig(out, dpi=110, facecolor="white")


def drawn(path: Path, out: Path) -> None:
    """The posteriors of a benchmark, a colour each."""
    from gsnn.report.posteriors import corner as drawing

    with np.load(path) as kept:
        draws = {name: kept[name] for name in kept.files if name != "names"}
        figure = drawing(draws, [str(name) for name in kept["names"]]).figure
    figure.savefig(out, dpi=80, facecolor="white")


def variance(run: Path, out: Path) -> None:
    """What an emulator of the microwave background and its baselines miss at each l, in cosmic variance."""
    from gsnn.evaluation.vector_metrics import cosmic_variance
    from gsnn.report.theme import DASHES, NETWORK, OTHERS, SOFT

    table = pq.read_table(run / "predictions.parquet", columns=["spectra_prediction", "spectra_truth"])
    read = lambda column: np.array(column.to_pylist(), float).reshape(len(column), 3, -1)  # noqa: E731
    truth, told = read(table["spectra_truth"]), {"network": read(table["spectra_prediction"])}
    for name in ("polynomial", "nearest"):
        told[name] = read(pq.read_table(run / "baselines" / f"{name}-spectra.parquet")["prediction"])
    at = np.arange(2, 2 + truth.shape[2])
    with style():
        f = Figure(figsize=(9.6, 3.2), layout="constrained", dpi=110)
        axes = f.subplots(1, 3, sharex=True, sharey=True)
        for i, (ax, band) in enumerate(zip(axes, ("TT", "TE", "EE"))):
            for k, (name, found) in enumerate(told.items()):
                missed = (abs(found - truth) / cosmic_variance(truth))[:, i]
                line = {"color": [NETWORK, *OTHERS][k], "ls": "-" if not k else DASHES[k - 1], "lw": 1.1}
                ax.plot(at, np.quantile(missed, 0.99, axis=0), label=name, **line)
            ax.axhline(0.1, color=SOFT, lw=0.8, ls=(0, (1, 2)))
            ax.set(yscale="log", title=band, xlabel="multipole l")
        axes[0].yaxis.set_major_formatter(lambda v, _: f"{v:g}")
        axes[0].annotate("a tenth of cosmic variance", (60, 0.115), color=SOFT, fontsize=8)
        axes[0].set_ylabel("99th percentile of |error| / cosmic variance")
        f.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
        f.savefig(out, facecolor="white")


def fitted(run: Path, out: Path) -> None:
    """The measured power spectra and the theory through them, as in the report."""
    from gsnn.report.band_powers import band_powers

    with np.load(run / "fitted.npz") as kept:
        figure = band_powers(dict(kept)).figure
    figure.savefig(out, dpi=90, facecolor="white")


def clouds(run: Path, out: Path, count: int = 6) -> None:
    """Example clouds with what was told of them, beside the answers of all."""
    from gsnn.data.survey import Survey
    from gsnn.report.clouds import pictures

    table = pq.read_table(run / "predictions.parquet").to_pandas()
    order = np.argsort(table["truth"].to_numpy())
    shown = table.iloc[order[(np.linspace(0.03, 0.99, count) * (len(order) - 1)).astype(int)]]
    survey = Survey.open(run / "survey")
    column = survey.schema.of_kind("graph")[0]
    rows = [int(survey.where(f"id = '{name}'")[0]) for name in shown["id"]]
    images = pictures(survey.view(np.array(rows)).columns([column.name])[column.name], column)
    with style():
        f = Figure(figsize=(9.4, 3.9), layout="constrained", dpi=115)
        left, right = f.subfigures(1, 2, width_ratios=(1.5, 1))
        for axes, image, (_, one) in zip(left.subplots(2, count // 2).flat, images, shown.iterrows()):
            axes.imshow(image, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            q16, q84 = (next(v for k, v in one.items() if k.endswith(q)) for q in ("_q16", "_q84"))
            width = (q84 - q16) / 2
            axes.set_title(f"{one['truth']:.2f}, told {one['prediction']:.2f} +- {width:.2f}")
            axes.spines[:].set_visible(False)
        axes = right.subplots()
        low, high = table["truth"].min(), table["truth"].max()
        axes.plot([low, high], [low, high], color="#5b6472", linewidth=0.8, zorder=3)
        axes.hexbin(table["truth"], table["prediction"], gridsize=42, bins="log", cmap="Blues", mincnt=1, linewidths=0)
        axes.set(xlabel="log10 of the halo's mass", ylabel="told", aspect="equal")
        f.savefig(out, facecolor="white")


def skies(run: Path, out: Path) -> None:
    """Four skies, of little and much matter, smooth and lumpy."""
    from gsnn.data.survey import Survey
    from gsnn.report.spheres import skies as drawing

    survey = Survey.open(run / "survey")
    truth = survey.view().columns(["omega_m", "sigma_8"])
    panels = {}
    for lumpy in (0.92, 0.68):
        for matter in (0.16, 0.44):
            apart = (truth["omega_m"] - matter) ** 2 + (truth["sigma_8"] - lumpy) ** 2
            row = int(np.argmin(apart))
            (sky,) = survey.view(np.array([row])).columns(["sky"])["sky"]
            panels[f"omega_m {truth['omega_m'][row]:.2f}, sigma_8 {truth['sigma_8'][row]:.2f}"] = 1 + sky[0]
    with style():
        figure = drawing(panels, label="density over its mean", log=True).figure
        figure.savefig(out, dpi=108, facecolor="white")


def pictures(run: Path, count: int, out: Path) -> None:
    """A row of ``count`` images of each class."""
    from gsnn.data.survey import Survey
    from gsnn.report.images import thumbnail
    from gsnn.study import Study

    study, survey = Study.load(run / "study.toml"), Survey.open(run / "survey")
    column = next(c for c in survey.schema.of_kind("image") if c.name in study.data.inputs)
    (target,) = study.data.target if isinstance(study.data.target, (list, tuple)) else [study.data.target]
    classes = survey.schema[target].classes
    view = survey.view()
    label = view.columns([target])[target]
    figure = Figure(figsize=(1.2 * count, 1.35 * len(classes)))
    for k, name in enumerate(classes):
        shown = view.take(np.flatnonzero(label == k)[:count]).columns([column.name])[column.name]
        for i, picture in enumerate(shown):
            axes = figure.add_axes(
                ((i + 0.01) / count, 1 - (k + 0.99) / len(classes), 0.98 / count, 0.84 / len(classes))
            )
            axes.imshow(thumbnail(picture, column.bands), origin="lower")
            axes.set_axis_off()
            if i == 0:
                axes.set_title(name, loc="left", fontsize=10, pad=3)
    figure.savefig(out, dpi=90, facecolor="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--fold", help="a column of the survey: a period in the unit of time")
    parser.add_argument("--corner", type=int, help="draw the posterior of the run's object of this number instead")
    parser.add_argument("--spectra", action="store_true", help="draw the spectra of fields instead")
    parser.add_argument("--map", type=int, help="draw the maps of the run's object of this number instead")
    parser.add_argument("--errors", action="store_true", help="with --map: the truth, and the error of each method")
    parser.add_argument("--fitted", action="store_true", help="draw measured power spectra and the theory instead")
    parser.add_argument(
        "--draws", action="store_true", help="RUN is a file of draws (.npz): draw a corner plot of them"
    )
    parser.add_argument("--variance", action="store_true", help="draw what an emulator misses, in cosmic variance")
    parser.add_argument("--clouds", action="store_true", help="draw the run's clouds of points instead")
    parser.add_argument("--skies", action="store_true", help="draw four maps of the whole sky instead")
    parser.add_argument("--sampled", type=int, help="draw maps that a flow gives the run's test object of this number")
    parser.add_argument("--pictures", type=int, help="draw so many images of each class instead")
    asked = parser.parse_args()
    for name, draw in (
        ("fitted", fitted),
        ("variance", variance),
        ("clouds", clouds),
        ("draws", drawn),
        ("skies", skies),
    ):
        if getattr(asked, name):
            draw(asked.run, asked.out)
            return
    if asked.spectra:
        spectra(asked.run, asked.out)
        return
    if asked.sampled is not None:
        sampled(asked.run, asked.sampled, asked.out)
        return
    if asked.pictures is not None:
        pictures(asked.run, asked.pictures, asked.out)
        return
    if asked.map is not None:
        maps(asked.run, asked.map, asked.out, asked.errors)
        return
    if asked.corner is not None:
        corner(asked.run, asked.corner, asked.out)
        return
    with np.load(asked.run / "examples.npz") as arrays:
        curves = curves_of(arrays)
    some = chosen(asked.run, curves, asked.count)
    periods: dict[str, float] = {}
    if asked.fold:
        from gsnn.run import Run

        view = Run(asked.run).ground.survey.view()
        found = view.columns(["id", asked.fold])
        periods = dict(zip(map(str, found["id"]), map(float, found[asked.fold])))
    with style():
        told = all(curves[name].answers is not None for name in some)
        f = Figure(figsize=(3.0 * len(some), 4.2 if told else 2.6), layout="constrained", dpi=130)
        rows = f.subplots(2 if told else 1, len(some), sharex="col", squeeze=False, height_ratios=[3, 1.6][: 1 + told])
        for column, (name, truth) in zip(rows.T, some.items()):
            curve = folded(curves[name], periods[name]) if periods else since_first(curves[name])
            points(column[0], curve)
            title = f"{truth}, {periods[name]:.4g} {curves[name].time_unit}" if periods else f"{name}: {truth}"
            column[0].set_title(title)
            if told:
                running(column[1], curve, truth)
            column[-1].set_xlabel(f"{'phase' if periods else 'since the first observation'} ({curve.time_unit})")
        f.savefig(asked.out)


if __name__ == "__main__":
    main()
