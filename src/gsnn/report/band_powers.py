"""Figures of power spectra: what was measured, with its errors, the theory through it, and what is left."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy import ndarray

from .theme import NETWORK, OTHERS, SOFT, Drawing, figure, style

TICKS = (2, 10, 30, 500, 1000, 1500, 2000, 2500)
TURN = 30.0  # multipole from which the axis is linear


def _stretch(l: ndarray) -> ndarray:  # noqa: E741
    """Logarithmic below TURN and linear above, with a third of the width below."""
    l = np.asarray(l, float)  # noqa: E741
    low = np.log(np.maximum(l, 1) / 2) / np.log(TURN / 2)
    return np.where(l < TURN, low, 1 + (l - TURN) / 700)


def _back(x: ndarray) -> ndarray:
    x = np.asarray(x, float)
    return np.where(x < 1, 2 * np.exp(np.clip(x, -2, 1) * np.log(TURN / 2)), TURN + 700 * (x - 1))


def band_powers(given: Mapping[str, ndarray]) -> Drawing:
    """D_l of each spectrum with its error bars and the theory, and below it the residuals in standard deviations.

    ``given`` holds of each bin ``spectrum`` (tt, te, ee), ``l``, ``value``, ``sigma`` and ``model``, and of the theory
    ``theory_l`` and ``theory`` [spectrum, l]; powers are D_l in muK^2.
    """
    kind = np.asarray(given["spectrum"]).astype(str)
    names = [name for name in ("tt", "te", "ee") if (kind == name).any()]
    pull = (given["value"] - given["model"]) / given["sigma"]
    with style():
        f = figure(7.0, 2.5 * len(names))
        grid = f.subplots(2 * len(names), 1, sharex=True, squeeze=False, height_ratios=[3, 1.1] * len(names))[:, 0]
        for i, name in enumerate(names):
            ax, below = grid[2 * i : 2 * i + 2]
            some = kind == name
            l, value, sigma = (given[key][some] for key in ("l", "value", "sigma"))  # noqa: E741
            ax.errorbar(l, value, sigma, fmt="o", color=NETWORK, ms=2.2, lw=0.8, label="measured", zorder=2)
            at = given["theory_l"]
            shown = at >= (l.min() if name != "tt" else 2)
            theory = given["theory"][("tt", "te", "ee").index(name)]
            ax.plot(at[shown], theory[shown], color=OTHERS[0], lw=1.2, label="the answer's universe", zorder=3)
            ax.set_ylabel(f"{name.upper()} [muK²]")
            ax.yaxis.set_major_locator(MaxNLocator(4))
            low, high = np.min([value.min(), theory[shown].min()]), np.max([value.max(), theory[shown].max()])
            ax.set_ylim(low - 0.08 * (high - low), high + 0.1 * (high - low))
            if not i:
                ax.legend(loc="upper right")
            below.axhspan(-1, 1, color=SOFT, alpha=0.14, lw=0)
            below.axhline(0, color=OTHERS[0], lw=1.0)
            below.plot(l, pull[some], "o", color=NETWORK, ms=2.2)
            below.set_ylim(-4, 4)
            below.set_yticks([-2, 0, 2])
            below.set_ylabel("sigma")
        below.set_xscale("function", functions=(_stretch, _back))
        below.set_xlim(2, 2550)
        below.xaxis.set_major_locator(FixedLocator(TICKS))
        below.xaxis.set_minor_locator(NullLocator())
        below.set_xlabel("multipole l; powers are l (l + 1) C / 2 pi")
        f.align_ylabels()
    beyond = int((abs(pull) > 2).sum())
    alt = f"Power spectra {', '.join(map(str.upper, names))} of {len(kind)} bins with the theory through them; "
    alt += f"{beyond} bins lie more than two standard deviations off."
    data = {key: np.asarray(given[key]).tolist() for key in ("spectrum", "l", "value", "sigma", "model")}
    return Drawing(f, data | {"pull": pull.tolist()}, alt)
