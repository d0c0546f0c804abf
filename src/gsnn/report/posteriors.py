"""Figures of posteriors: corner plots of several of them, ranks of the truths, and the coverage of all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy import ndarray

from .theme import DASHES, NETWORK, OTHERS, SOFT, Drawing, figure, style
from .words import number, plain

CELLS = 60  # of a density along a side
MASS = (0.68, 0.95)  # inside the contours
CROWD = 4  # parameters of a corner plot whose labels have room


def corner(
    draws: Mapping[str, Float[ndarray, "draw parameter"]],
    names: Sequence[str],
    truth: Float[ndarray, " parameter"] | None = None,
    box: Sequence[tuple[float, float]] | None = None,
) -> Drawing:
    """Every parameter and every pair of them: densities on the diagonal, contours of 68% and 95% below it.

    The first posterior is filled. Axes hold all of them, and not more than the ``box`` of the prior.
    """
    truth = truth if truth is not None and np.isfinite(truth).all() else None
    count, every = len(names), np.concatenate(list(draws.values()))
    low, high = np.quantile(every, [0.002, 0.998], axis=0)
    edge = 0.15 * (high - low)
    low, high = low - edge, high + edge
    if box is not None:
        low, high = np.maximum(low, [b[0] for b in box]), np.minimum(high, [b[1] for b in box])
    size = min(7.0, 1.1 + 1.7 * count)
    with style():
        f = figure(size, size)
        axes = f.subplots(count, count, squeeze=False, sharex="col")
        for row in range(count):
            for column in range(count):
                ax = axes[row, column]
                if column > row:
                    ax.set_axis_off()
                    continue
                for place, (who, points) in enumerate(draws.items()):
                    colour = [NETWORK, *OTHERS][place % (1 + len(OTHERS))]
                    line = "-" if not place else DASHES[(place - 1) % len(DASHES)]
                    given = (points[:, row], low[row], high[row])
                    if row == column:
                        x, y = _density(*given)
                        ax.plot(x, y, color=colour, ls=line, label=plain(who))
                        if not place:
                            ax.fill_between(x, 0, y, color=colour, alpha=0.15, lw=0)
                    else:
                        x, y, z, levels = _contours((points[:, column], low[column], high[column]), given)
                        if not place:
                            ax.contourf(x, y, z, [*levels, z.max() * 1.01], colors=[colour, colour], alpha=0.22)
                        ax.contour(x, y, z, levels, colors=colour, linestyles=[line], linewidths=1.2)
                if truth is not None:
                    ax.axvline(truth[column], color=SOFT, lw=0.8)
                    if row != column:
                        ax.axhline(truth[row], color=SOFT, lw=0.8)
                ax.set_xlim(low[column], high[column])
                ax.xaxis.set_major_locator(MaxNLocator(3))
                if row == column:
                    ax.set_yticks([])
                    ax.set_ylim(0)
                    ax.spines["left"].set_visible(False)
                else:
                    ax.set_ylim(low[row], high[row])
                    ax.yaxis.set_major_locator(MaxNLocator(3))
                    if column:
                        ax.tick_params(labelleft=False)
                if row == count - 1:
                    ax.set_xlabel(plain(names[column]))
                    if count > CROWD:  # beside each other they would run into one another
                        ax.tick_params(axis="x", labelrotation=90)
                if column == 0 and row:
                    ax.set_ylabel(plain(names[row]))
        handles, labels = axes[0, 0].get_legend_handles_labels()
        f.legend(handles, labels, loc="upper right")
        f.align_labels()
    told = []
    for who, points in draws.items():
        each = [f"{plain(n)} {number(m)} +- {number(s)}" for n, m, s in zip(names, points.mean(0), points.std(0))]
        told.append(f"{plain(who)}: {', '.join(each)}")
    data = {f"{who} {name}": points[:500, i].tolist() for who, points in draws.items() for i, name in enumerate(names)}
    return Drawing(f, data, f"Corner plot of the posterior. {'; '.join(told)}.")


def ranks(told: Mapping[str, Any]) -> Drawing:
    """Histograms of the ranks of the truths among the draws, one for each parameter."""
    each = told["parameters"]
    data: dict[str, list[float]] = {}
    with style():
        f = figure(4.4, 0.8 + 1.25 * len(each))
        axes = f.subplots(len(each), 1, sharex=True, squeeze=False)[:, 0]
        for ax, (name, one) in zip(axes, each.items()):
            counts = np.asarray(one["ranks"], float)
            edges = np.linspace(0, 1, len(counts) + 1)
            ax.axhspan(one["low"], one["high"], color=SOFT, alpha=0.16, lw=0)
            ax.axhline(one["expected"], color=SOFT, lw=0.9, ls=(0, (3, 3)))
            ax.stairs(counts, edges, fill=True, color=NETWORK, alpha=0.4)
            ax.stairs(counts, edges, color=NETWORK, lw=1.2)
            ax.set_title(f"{plain(name)}: uniform with p = {number(one['p'])}", fontsize=8.5, pad=2, color=SOFT)
            ax.set_ylim(0, 1.2 * max(counts.max(), one["high"]))
            ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
            data |= {"rank": edges[:-1].tolist(), name: counts.tolist()}
        axes[-1].set(xlabel="rank of the truth among the draws, as a fraction", xlim=(0, 1))
        f.supylabel("objects", fontsize=9, color=SOFT)
    told_of = "; ".join(f"{plain(name)} p = {number(one['p'])}" for name, one in each.items())
    return Drawing(f, data, f"Ranks of the truths among draws of the posterior, uniform if it is exact: {told_of}.")


COVERED = {"tarp": "random points (TARP)", "highest_density": "highest density"}


def coverage(told: Mapping[str, Mapping[str, Any]]) -> Drawing:
    """Coverage of the joint posteriors minus what they claim, against the credibility: a panel for each kind of region.

    A posterior that is too sure lies below zero.
    """
    data: dict[str, list[float]] = {}
    kinds = [kind for kind in COVERED if kind in told["network"]]
    with style():
        f = figure(3.0 + 2.6 * len(kinds) - 1.2, 3.1)
        axes = f.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for ax, kind in zip(axes, kinds):
            ax.axhline(0, color=SOFT, lw=0.9, ls=(0, (3, 3)))
            for place, (who, one) in enumerate(told.items()):
                found = one[kind]
                x = np.asarray(found["credibility"])
                y, low, high = (np.asarray(found[key]) - x for key in ("coverage", "low", "high"))
                colour = [NETWORK, *OTHERS][place % (1 + len(OTHERS))]
                ax.fill_between(x, low, high, color=colour, alpha=0.14 if not place else 0.08, lw=0)
                ax.plot(
                    x, y, color=colour, ls="-" if not place else DASHES[(place - 1) % len(DASHES)], label=plain(who)
                )
                data |= {"credibility": x.tolist(), f"{who} {kind}": found["coverage"]}
            ax.set(xlabel="credibility", xlim=(0, 1))
            ax.set_title(COVERED[kind], fontsize=8.5, pad=2, color=SOFT)
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_formatter(PercentFormatter(1, decimals=0))
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.grid(axis="y")
        axes[0].set_ylabel("coverage above it")
        axes[0].legend()
    mine = [f"{COVERED[kind]} p = {number(told['network'][kind]['p'])}" for kind in kinds]
    largest = max(told["network"][kind]["largest"] for kind in kinds)
    alt = f"Joint coverage against credibility; the network's largest gap is {100 * largest:.1f} points"
    return Drawing(f, data, f"{alt} (uniform by {', '.join(mine)}).")


CHECKED = {
    "misspecification": "distance from the simulations",
    "local": "local C2ST",
    "predictive": "distance from its predictions",
}


def nulls(checks: Mapping[str, Mapping[str, Any]]) -> Drawing:
    """Where the observation lies in the null distribution of each test: the line, and the share beyond it."""
    kinds = [kind for kind in CHECKED if kind in checks]
    with style():
        f = figure(2.3 * len(kinds), 2.3)
        for ax, kind in zip(f.subplots(1, len(kinds), squeeze=False)[0], kinds):
            one = checks[kind]
            null = np.asarray(one["null"])
            top = max(null.max(), one["value"])
            counts, edges = np.histogram(null, 20, (min(null.min(), one["value"]), top))
            ax.stairs(counts, edges, fill=True, color=SOFT, alpha=0.35)
            ax.axvline(one["value"], color=NETWORK, lw=1.8)
            ax.set_title(f"p = {number(one['p'])}", fontsize=8.5, pad=2, color=SOFT)
            ax.set_xlabel(CHECKED[kind])
            ax.set_yticks([])
            ax.spines["left"].set_visible(False)
            ax.xaxis.set_major_locator(MaxNLocator(3))
    data = {
        "test": [CHECKED[kind] for kind in kinds],
        "value": [checks[kind]["value"] for kind in kinds],
        "p": [checks[kind]["p"] for kind in kinds],
    }
    told = "; ".join(f"{CHECKED[kind]} p = {number(checks[kind]['p'])}" for kind in kinds)
    return Drawing(f, data, f"Tests of the posterior of what was observed, each beside its null: {told}.")


def _density(x: ndarray, low: float, high: float) -> tuple[ndarray, ndarray]:
    """A smooth density on a grid, of peak 1."""
    from scipy.ndimage import gaussian_filter1d

    counts, edges = np.histogram(x, CELLS, (low, high))
    y = gaussian_filter1d(counts.astype(float), _width(x, low, high, len(x) ** -0.2), mode="nearest")
    return (edges[1:] + edges[:-1]) / 2, y / max(y.max(), 1e-300)


def _contours(
    x: tuple[ndarray, float, float], y: tuple[ndarray, float, float]
) -> tuple[ndarray, ndarray, ndarray, list[float]]:
    """A smooth density of a pair on a grid and the levels above which 95% and 68% of it lie."""
    from scipy.ndimage import gaussian_filter

    counts, ex, ey = np.histogram2d(x[0], y[0], CELLS, (x[1:], y[1:]))
    width = [_width(*one, len(x[0]) ** (-1 / 6)) for one in (x, y)]
    z = gaussian_filter(counts, width, mode="nearest").T
    order = np.sort(z.ravel())[::-1]
    share = order.cumsum() / order.sum()
    levels = [float(order[min(np.searchsorted(share, mass), len(order) - 1)]) for mass in reversed(MASS)]
    if levels[1] <= levels[0]:
        levels[1] = levels[0] * (1 + 1e-6) + 1e-12
    return (ex[1:] + ex[:-1]) / 2, (ey[1:] + ey[:-1]) / 2, z, levels


def _width(x: ndarray, low: float, high: float, factor: float) -> float:
    """Scott's rule in cells, and at least two thirds of a cell."""
    return max(0.67, float(x.std()) * factor / (high - low) * CELLS * 0.8)
