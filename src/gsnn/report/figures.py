"""The report's figures. Each takes data and returns a ``Drawing``: a matplotlib figure, its numbers, its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Num
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter
from numpy import ndarray

from .theme import DASHES, INK, NETWORK, OTHERS, PAPER, SOFT, Drawing, figure, style
from .words import number, plain

Event = Mapping[str, Any]


def loss_curves(log: Sequence[Event]) -> Drawing:
    """Training loss of every step (smoothed) and validation loss of every epoch, against step."""
    steps = [e for e in log if e.get("event") == "step" and _finite(e.get("loss"))]
    epochs = [e for e in log if e.get("event") == "epoch" and _finite(e.get("valid_loss"))]
    x, y = (np.array([e[key] for e in steps], float) for key in ("step", "loss"))
    vx, vy = (np.array([e[key] for e in epochs], float) for key in ("step", "valid_loss"))
    with style():
        f = figure()
        ax = f.subplots()
        ax.grid(axis="y")
        if len(x):
            ax.plot(*_thin(x, y), color=NETWORK, lw=0.6, alpha=0.3)
            ax.plot(*_thin(x, _smooth(y)), color=NETWORK, label="training")
        best = int(vy.argmin()) if len(vy) else 0
        if len(vy):
            ax.plot(vx, vy, "o-", color=OTHERS[0], ms=4, label="validation")
            ax.plot(vx[best], vy[best], "o", ms=9, mfc="none", mec=OTHERS[0], mew=1.4)
        shown = np.r_[_smooth(y), vy]
        if len(shown) and shown.min() > 0 and shown.max() / shown.min() > 30:
            ax.set_yscale("log")
            _plain_log(ax.yaxis)
        ax.set(xlabel="step", ylabel="loss")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if len(x) or len(vy):
            ax.legend()
    alt = (
        f"Loss against step. Training: from {number(y[0])} to {number(_smooth(y)[-1])}."
        if len(y)
        else "Loss against step."
    )
    if len(vy):
        alt += f" Validation: lowest, {number(vy[best])}, at step {vx[best]:,.0f}; last {number(vy[-1])}."
    data = {
        "step": [*x.astype(int).tolist(), *vx.astype(int).tolist()],
        "split": ["train"] * len(x) + ["valid"] * len(vx),
        "loss": [*y.tolist(), *vy.tolist()],
    }
    return Drawing(f, data, alt)


def training_course(log: Sequence[Event]) -> Drawing:
    """Learning rate, norm of the gradient and objects a second against step, one above the other."""
    rows = [e for e in log if e.get("event") == "step"]
    names = {"learning_rate": "learning rate", "gradient_norm": "gradient norm", "samples_per_s": "objects / s"}
    shown = [name for name in names if any(_finite(e.get(name)) for e in rows)]
    step = np.array([e.get("step", i) for i, e in enumerate(rows)], float)
    data: dict[str, list[Any]] = {"step": step.astype(int).tolist()}
    with style():
        f = figure()
        axes = f.subplots(max(1, len(shown)), 1, sharex=True, squeeze=False)[:, 0]
        for ax, name in zip(axes, shown):
            value = np.array([e.get(name) if _finite(e.get(name)) else np.nan for e in rows], float)
            data[name] = value.tolist()
            ax.plot(*_thin(step, value), color=NETWORK, lw=1.1)
            ax.set_title(names[name], fontsize=8.5, pad=2, color=SOFT)
            ax.yaxis.set_major_locator(MaxNLocator(3))
            ax.set_ylim(bottom=0)
        axes[-1].set_xlabel("step")
        axes[-1].xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return Drawing(f, data, f"{', '.join(names[n] for n in shown)} against step.")


def reliability(bins: Sequence[Mapping[str, float]], ece: float | None = None) -> Drawing:
    """How often the answer is right against how sure it is, with the number of objects below."""
    conf, acc, low, high, n = (_column(bins, key) for key in ("confidence", "accuracy", "low", "high", "n"))
    with style():
        f = figure(4.4, 3.5)
        ax, below = f.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        ax.plot([0, 1], [0, 1], color=SOFT, lw=0.9, ls=(0, (3, 3)))
        ax.annotate("perfect", (0.2, 0.1), color=SOFT, fontsize=8)
        bars = np.nan_to_num(np.abs(np.stack([acc - low, high - acc])))
        ax.errorbar(conf, acc, yerr=bars, fmt="o-", color=NETWORK, ms=5, capsize=0, elinewidth=1.2)
        ax.set(ylim=(0, 1.02), xlim=(0, 1.02), ylabel="right")
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.grid(axis="y")
        below.bar(conf, n, width=0.055, color=NETWORK, alpha=0.45)
        below.set(xlabel="probability given to the answer", ylabel="objects")
        below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        below.xaxis.set_major_formatter(PercentFormatter(1))
        f.align_ylabels()
    alt = "Reliability diagram: the share of right answers against the probability given to them."
    if ece is not None:
        alt += f" Expected calibration error {number(ece)}."
    return Drawing(
        f,
        {"confidence": _list(conf), "accuracy": _list(acc), "low": _list(low), "high": _list(high), "n": _list(n)},
        alt,
    )


def pit(counts: Sequence[float], ks: float | None = None) -> Drawing:
    """Histogram of the probability integral transform: flat when the distributions are right (Dawid 1984)."""
    counts = np.asarray(counts, float)
    edges = np.linspace(0, 1, len(counts) + 1)
    expected = counts.sum() / max(1, len(counts))
    noise = 1.96 * np.sqrt(expected * (1 - 1 / max(1, len(counts))))
    with style():
        f = figure(4.4, 3.1)
        ax = f.subplots()
        ax.axhspan(expected - noise, expected + noise, color=SOFT, alpha=0.16, lw=0)
        ax.axhline(expected, color=SOFT, lw=0.9, ls=(0, (3, 3)))
        ax.stairs(counts, edges, fill=True, color=NETWORK, alpha=0.4)
        ax.stairs(counts, edges, color=NETWORK, lw=1.4)
        ax.set(xlabel="predicted cumulative probability at the truth (PIT)", ylabel="objects", xlim=(0, 1))
        ax.set_ylim(0, max(counts.max(initial=1), expected + noise) * 1.18)
        ax.annotate(
            "flat = calibrated; band = 95% sampling noise",
            (0.02, 0.95),
            xycoords="axes fraction",
            color=SOFT,
            fontsize=8,
        )
    alt = "Histogram of the probability integral transform; flat means calibrated."
    if ks is not None:
        alt += f" Largest departure from uniform (Kolmogorov-Smirnov): {number(ks)}."
    return Drawing(f, {"pit_low": _list(edges[:-1]), "pit_high": _list(edges[1:]), "objects": _list(counts)}, alt)


def coverage(points: Sequence[Mapping[str, float]]) -> Drawing:
    """How many truths lie inside the central interval of each nominal probability."""
    nominal, empirical = _column(points, "nominal"), _column(points, "empirical")
    with style():
        f = figure(4.4, 3.1)
        ax = f.subplots()
        ax.plot([0, 1], [0, 1], color=SOFT, lw=0.9, ls=(0, (3, 3)))
        ax.fill_between(nominal, nominal, empirical, color=NETWORK, alpha=0.15, lw=0)
        ax.plot(nominal, empirical, "o-", color=NETWORK, ms=4)
        ax.annotate("too wide", (0.04, 0.9), color=SOFT, fontsize=8)
        ax.annotate("too narrow", (0.96, 0.08), ha="right", color=SOFT, fontsize=8)
        ax.set(xlabel="interval's stated probability", ylabel="truths inside", xlim=(0, 1), ylim=(0, 1))
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(PercentFormatter(1))
        ax.grid(axis="y")
    gap = float(np.abs(empirical - nominal).max()) if len(nominal) else 0.0
    alt = f"Coverage of the intervals against their stated probability; the largest gap is {100 * gap:.1f} points."
    return Drawing(f, {"nominal": _list(nominal), "empirical": _list(empirical)}, alt)


def confusion(classes: Sequence[str], matrix: Num[ndarray, "truth prediction"]) -> Drawing:
    """The confusion matrix: shade is the share of the true class, text is the number of objects."""
    counts = np.asarray(matrix, float)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    k = len(classes)
    names = [_short(name, 16) for name in classes]
    with style():
        f = figure(4.4, min(6.5, 1.4 + 0.55 * k))
        ax = f.subplots()
        for i in range(k):
            for j in range(k):
                ax.add_patch(_rectangle(j, i, NETWORK if i == j else OTHERS[0], 0.04 + 0.56 * share[i, j]))
                if k <= 12:
                    label = f"{counts[i, j]:,.0f}" + (f"\n{share[i, j]:.0%}" if k <= 6 else "")
                    ax.text(j, i, label, ha="center", va="center", fontsize=9 if k <= 6 else 7.5, linespacing=1.35)
        ax.set(xlim=(-0.5, k - 0.5), ylim=(k - 0.5, -0.5), xlabel="predicted", ylabel="truth")
        size = 8.5 if k <= 12 else 6.5
        ax.set_xticks(range(k), names, rotation=0 if k <= 4 else 45, ha="center" if k <= 4 else "right", fontsize=size)
        ax.set_yticks(range(k), names, fontsize=size)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    rows = [(a, b, int(counts[i, j])) for i, a in enumerate(classes) for j, b in enumerate(classes)]
    right = counts.trace() / max(1, counts.sum())
    return Drawing(
        f,
        {"truth": [r[0] for r in rows], "prediction": [r[1] for r in rows], "objects": [r[2] for r in rows]},
        f"Confusion matrix of {k} classes; {right:.1%} of {counts.sum():,.0f} objects on the diagonal.",
    )


def metric_curve(covariate: str, curve: Mapping[str, Any], metric: str, unit: str = "") -> Drawing:
    """A metric against a covariate for the network and every baseline, with 95% bands and the objects in each bin."""
    bins = [b for b in curve.get("bins", []) if isinstance(b.get(metric), Mapping)]
    low, high, n = (_column(bins, key) for key in ("low", "high", "n"))
    spread = bool(len(low)) and low.min() > 0 and high.max() / low.min() > 30
    centre = np.sqrt(low * high) if spread else (low + high) / 2
    baselines = sorted({name for b in bins for name in b.get("baselines", {}) if metric in b["baselines"][name]})
    data: dict[str, list[Any]] = {f"{covariate}_low": _list(low), f"{covariate}_high": _list(high), "n": _list(n)}
    with style():
        f = figure(4.4, 3.3)
        ax, below = f.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        for i, name in enumerate(["network", *baselines]):
            values = [b[metric] if not i else b.get("baselines", {}).get(name, {}).get(metric) or {} for b in bins]
            value, down, up = (_column(values, key) for key in ("value", "low", "high"))
            colour = [NETWORK, *OTHERS][i % (1 + len(OTHERS))]
            line = "-" if not i else DASHES[(i - 1) % len(DASHES)]
            if np.isfinite(down).any():
                ax.fill_between(centre, down, up, color=colour, alpha=0.16 if not i else 0.1, lw=0)
            ax.plot(
                centre, value, ls=line, marker="os^Dv"[i % 5], color=colour, ms=4, label=_short(name, 24), zorder=9 - i
            )
            data |= {f"{name}_{metric}": _list(value), f"{name}_low": _list(down), f"{name}_high": _list(up)}
        _unit_axis(ax.yaxis, ax.set_ylabel, metric, unit)
        ax.grid(axis="y")
        if baselines:
            ax.legend()
        below.bar(centre, n, width=(high - low) * 0.92, color=SOFT, alpha=0.4)
        below.set(xlabel=_label(covariate, str(curve.get("unit") or "")), ylabel="objects")
        below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        if spread:
            below.set_xscale("log")
            _plain_log(below.xaxis)
        f.align_ylabels()
    alt = f"{_label(metric, unit)} in {len(bins)} bins of {covariate}"
    if bins:
        first, last = bins[0][metric].get("value"), bins[-1][metric].get("value")
        alt += f", from {number(first)} in the lowest bin to {number(last)} in the highest"
    alt += f"; beside it {', '.join(baselines)}." if baselines else "."
    return Drawing(f, data, alt)


def comparison(entries: Mapping[str, Mapping[str, Any]], metric: str, unit: str = "") -> Drawing:
    """The metric of the network (first) and of every baseline with its 95% interval, one above the other."""
    names = list(entries)
    value, low, high = (_column(list(entries.values()), key) for key in ("value", "low", "high"))
    with style():
        f = figure(4.4, 0.75 + 0.4 * len(names))
        ax = f.subplots()
        for i in range(len(names)):
            colour = NETWORK if not i else SOFT
            ax.plot([low[i], high[i]], [i, i], color=colour, lw=5, alpha=0.3, solid_capstyle="butt")
            ax.plot(value[i], i, "os^Dv"[i % 5], color=colour, ms=7)
        if len(names):
            ax.axvline(value[0], color=NETWORK, lw=0.8, alpha=0.6, ls=(0, (2, 2)))
        ax.set_yticks(range(len(names)), [_short(name, 26) for name in names])
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        _unit_axis(ax.xaxis, ax.set_xlabel, metric, unit)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.grid(axis="x")
    alt = f"{_label(metric, unit)}: " + "; ".join(f"{n} {number(float(v))}" for n, v in zip(names, value)) + "."
    return Drawing(f, {"name": names, metric: _list(value), "low": _list(low), "high": _list(high)}, alt)


def class_balance(classes: Mapping[str, Mapping[str, float]]) -> Drawing:
    """Objects of each class in each split."""
    names = list(classes)
    splits = [s for s in ("train", "valid", "test") if any(s in counts for counts in classes.values())]
    data: dict[str, list[Any]] = {"class": names}
    with style():
        f = figure(4.4, min(8.0, 1.0 + 0.42 * max(1, len(names))))
        ax = f.subplots()
        left = np.zeros(len(names))
        for split, alpha in zip(splits, (0.85, 0.5, 0.25)):
            n = np.array([float(classes[name].get(split, 0) or 0) for name in names])
            data[split] = n.astype(int).tolist()
            ax.barh(range(len(names)), n, left=left, color=NETWORK, alpha=alpha, label=split, height=0.62)
            left += n
        for i, total in enumerate(left):
            ax.text(total, i, f" {total:,.0f}", va="center", fontsize=8, color=SOFT)
        ax.set_yticks(range(len(names)), [_short(name, 22) for name in names])
        ax.invert_yaxis()
        ax.set_xlim(0, max(1.0, left.max(initial=1)) * 1.14)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.set_xlabel("objects")
        ax.tick_params(axis="y", length=0)
        f.legend(loc="outside upper left", ncols=3)
    return Drawing(f, data, f"Objects of {len(names)} classes in {', '.join(splits)}.")


def histogram(values: Float[ndarray, " n"], name: str, unit: str = "") -> Drawing:
    """A column between its 0.5th and 99.5th percentiles; what lies outside is counted in the last bins."""
    good = np.asarray(values, float)
    good = good[np.isfinite(good)]
    low, high = np.percentile(good, [0.5, 99.5])
    counts, edges = np.histogram(np.clip(good, low, high), 40, (low, high) if high > low else (low - 0.5, low + 0.5))
    with style():
        f = figure(4.4, 2.4)
        ax = f.subplots()
        ax.stairs(counts, edges, fill=True, color=NETWORK, alpha=0.4)
        ax.stairs(counts, edges, color=NETWORK, lw=1.2)
        ax.set(xlabel=_label(name, unit), ylabel="objects")
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    missing = f"{len(values) - len(good):,} of {len(values):,} missing"
    alt = f"Histogram of {plain(name)}: median {number(float(np.median(good)))}, {missing}."
    return Drawing(
        f, {f"{name}_low": _list(edges[:-1]), f"{name}_high": _list(edges[1:]), "objects": counts.tolist()}, alt
    )


def bars(names: Sequence[str], values: Sequence[float], unit: str, highlight: int = -1) -> Drawing:
    """Horizontal bars with their numbers: cost by stage, importance by column."""
    values = np.asarray(values, float)
    with style():
        f = figure(4.4, 0.55 + 0.32 * max(1, len(names)))
        ax = f.subplots()
        colours = [OTHERS[0] if highlight >= 0 and i >= highlight else NETWORK for i in range(len(names))]
        ax.barh(range(len(names)), values, color=colours, alpha=0.75, height=0.6)
        ax.axvline(0, color=SOFT, lw=0.7)
        for i, value in enumerate(values):
            ax.text(max(value, 0), i, f" {number(value)}", va="center", fontsize=8, color=INK)
        ax.set_yticks(range(len(names)), [_short(name, 24) for name in names])
        ax.invert_yaxis()
        ax.set_xlim(min(0.0, values.min(initial=0)), max(values.max(initial=0), 1e-9) * 1.2)
        ax.set_xlabel(unit)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    return Drawing(
        f,
        {"name": list(names), unit or "value": _list(values)},
        f"Bars of {unit}: "
        + "; ".join(f"{name} {number(value)}" for name, value in list(zip(names, values))[:12])
        + ".",
    )


def _plain_log(axis: Any) -> None:
    """Ticks at 1, 2, 5 x 10^n written as plain numbers (matplotlib's own are mathtext, which the style turns off)."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(lambda v, _: f"{v:g}")
    axis.set_minor_locator(NullLocator())


def _unit_axis(axis: Any, label: Any, metric: str, unit: str) -> None:
    label(_label(metric, "" if unit == "fraction" else unit))
    if unit == "fraction":
        axis.set_major_formatter(PercentFormatter(1))


def _rectangle(x: float, y: float, colour: str, alpha: float) -> Any:
    from matplotlib.patches import FancyBboxPatch

    return FancyBboxPatch(
        (x - 0.46, y - 0.46),
        0.92,
        0.92,
        boxstyle="round,pad=0,rounding_size=0.05",
        fc=colour,
        alpha=alpha,
        ec=PAPER,
        lw=0,
    )


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and bool(np.isfinite(value))


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> Float[ndarray, " row"]:
    return np.array([row.get(key) if _finite(row.get(key)) else np.nan for row in rows], float)


def _list(values: ndarray) -> list[float | None]:
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in np.asarray(values, float)]


def _smooth(y: ndarray) -> ndarray:
    """A centred running mean over about a thirtieth of the curve."""
    width = max(1, len(y) // 30)
    if width == 1 or not len(y):
        return y
    padded = np.pad(y, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")


def _thin(x: ndarray, y: ndarray, most: int = 600) -> tuple[ndarray, ndarray]:
    """At most ``most`` points, the last one kept: a page does not grow with the length of the training."""
    keep = np.unique(np.linspace(0, len(x) - 1, min(most, len(x))).astype(int)) if len(x) else np.arange(0)
    return x[keep], y[keep]


def _short(name: str, most: int) -> str:
    name = " ".join(str(name).split())
    return name if len(name) <= most else name[: most - 1] + "…"


def _label(name: str, unit: str) -> str:
    return f"{plain(name)} [{unit}]" if unit else plain(name)
