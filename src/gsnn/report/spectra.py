"""Figures of power spectra: what was told and the truth, what is left between them, and how far they go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from .theme import DASHES, INK, LINE, NETWORK, OTHERS, SOFT, Drawing, figure, style

AIM = 0.02  # the band around 1 in the middle panel


def field_spectra(told: Mapping[str, Any], *, aim: float = AIM) -> Drawing:
    """P(k), P / P true, the correlation r(k), and the bispectrum of equal sides as a share of the true one.

    From ``gsnn.evaluation.fields.told``. Bands around 1 are +- ``aim``, shades one standard deviation over objects; the
    upright line is half of the Nyquist frequency.
    """
    k, each = np.asarray(told["k"]), told["each"]
    data: dict[str, list[Any]] = {"k": k.tolist(), "truth": list(told["truth"])}
    with style():
        f = figure(4.9, 6.6)
        top, middle, low, last = f.subplots(4, 1, sharex=True, height_ratios=(2, 1.35, 1.35, 1.1))
        top.plot(k, told["truth"], color=INK, linewidth=2.6, alpha=0.35, label="truth")
        for axis in (middle, last):
            axis.axhspan(1 - aim, 1 + aim, color=LINE, linewidth=0)
        skewed = np.asarray(told["bispectrum"])
        others = [name for name in each if name != "network"]
        lowest = 1.0
        for who, one in each.items():
            mine = who == "network"
            colour = NETWORK if mine else OTHERS[others.index(who) % len(OTHERS)]
            line = {"color": colour, "linestyle": "-" if mine else DASHES[others.index(who) % len(DASHES)]}
            top.plot(k, one["power"], label=who, **line)
            for axis, name in ((middle, "transfer"), (low, "correlation")):
                mean, std = np.asarray(one[name]["mean"]), np.asarray(one[name]["std"])
                axis.fill_between(k, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)
                axis.plot(k, mean, **line)
                data[f"{who}: {name}"], data[f"{who}: {name} sd"] = mean.tolist(), std.tolist()
            if mine:
                lowest = float(min(one["correlation"]["mean"]))
            data[f"{who}: power"] = list(one["power"])
            share = np.asarray(one["bispectrum"]) / np.where(skewed == 0, np.nan, skewed)
            last.plot(k[: len(share)], share, **line)
            data[f"{who}: bispectrum"] = [*one["bispectrum"], *[None] * (len(k) - len(share))]
        half = k[-1] / 2
        for axis in (top, middle, low, last):
            axis.axvline(half, color=SOFT, linewidth=0.7, linestyle=(0, (1, 2)))
        top.set(xscale="log", yscale="log", ylabel=f"P(k) [{_volume(told['unit'])}]")
        top.legend(loc="lower left")
        top.text(half, top.get_ylim()[1], " half of Nyquist", color=SOFT, fontsize=7.5, va="top")
        middle.set(ylabel="P / P true", ylim=(0, 1.25))
        low.set(ylabel="r(k)", ylim=(max(0.0, min(0.45, lowest - 0.05)), 1.02))
        last.set(ylabel="B / B true", ylim=(0, 1.25), xlabel=f"k [{told['unit']}]")
        for axis in (top.yaxis, last.xaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
    best = each.get("network") or next(iter(each.values()))
    at = int(np.searchsorted(k, half * 1.0001)) - 1
    said = f"at half of the Nyquist frequency r = {best['correlation']['mean'][at]:.3f}"
    return Drawing(f, data, f"Power spectra of the {told['of']}; {said}.")


def _volume(unit: str) -> str:
    """The unit of a three-dimensional power for a unit of k."""
    return "(Mpc/h)³" if unit == "h/Mpc" else "voxels"
