"""Figures of draws of fields: spectra, bispectra and peaks beside those of true fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from .theme import DASHES, INK, LINE, NETWORK, OTHERS, SOFT, Drawing, figure, style

AIM = 0.05  # the band around 1


def field_draws(told: Mapping[str, Any], *, aim: float = AIM) -> Drawing:
    """The true power spectrum; and power, bispectrum and peaks of draws as shares of the true ones.

    From ``gsnn.evaluation.generated.told``. Bands around 1 are +- ``aim``; shades hold 68% of resamples; the upright
    line is half of the Nyquist frequency.
    """
    k, each = np.asarray(told["k"]), told["each"]
    data: dict[str, list[Any]] = {"k": k.tolist(), "true power": list(told["power"])}
    others = [name for name in each if name != "network"]
    heights = np.asarray(told["heights"])
    bins = np.arange(len(heights) + 1)
    with style():
        f = figure(5.0, 6.9)
        top, middle, low, last = f.subplots(4, 1, height_ratios=(1.7, 1.3, 1.3, 1.3))
        middle.sharex(top)
        low.sharex(top)
        top.plot(k, told["power"], color=INK, linewidth=2.6, alpha=0.35, label="simulations")
        for axis in (middle, low, last):
            axis.axhspan(1 - aim, 1 + aim, color=LINE, linewidth=0)
        for who, one in each.items():
            mine = who == "network"
            colour = NETWORK if mine else OTHERS[others.index(who) % len(OTHERS)]
            dash = "-" if mine else DASHES[others.index(who) % len(DASHES)]
            power = np.asarray(one["power"]["mean"]) * np.asarray(told["power"])
            top.plot(k, power, color=colour, linestyle=dash, label=who)
            for axis, name, x in ((middle, "power", k), (low, "bispectrum", k), (last, "peaks", bins)):
                mean, lower, upper = (np.asarray(one[name][end], float) for end in ("mean", "low", "high"))
                x = x[: len(mean)]
                axis.fill_between(x, lower, upper, color=colour, alpha=0.18, linewidth=0)
                axis.plot(x, mean, color=colour, linestyle=dash, marker="o" if axis is last else "", markersize=3)
                data[f"{who}: {name}"] = mean.tolist()
        for axis in (top, middle, low):
            axis.axvline(k[-1] / 2, color=SOFT, linewidth=0.7, linestyle=(0, (1, 2)))
        top.set(xscale="log", yscale="log", ylabel=f"P(k) [{_volume(told)}]")
        top.legend(loc="lower left")
        middle.set(ylabel="P / P true", ylim=(0.5, 1.5))
        low.set(ylabel="B / B true", ylim=(0, 2), xlabel=f"k [{told['unit']}]")
        last.set(ylabel="peaks / true peaks", ylim=(0, 2), xlabel=f"height of a peak ({told['of']})")
        digits = max(0, 1 - int(np.floor(np.log10(max(float(np.ptp(heights)), 1e-12)))))
        last.set_xticks(bins[1:] - 0.5, [f"{height:.{digits}f}" for height in heights])  # what is between two bins
        for axis in (top.yaxis, low.xaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        for axis in (top, middle):
            axis.tick_params(labelbottom=False)
    best = each.get("network") or next(iter(each.values()))
    half = k <= k[-1] / 2
    worst = float(np.nanmax(np.abs(np.asarray(best["power"]["mean"])[half] - 1)))
    said = f"the power is within {worst:.0%} up to half of the Nyquist frequency"
    return Drawing(f, data, f"Spectra, bispectra and peaks of draws of {told['of']} beside simulations; {said}.")


def _volume(told: Mapping[str, Any]) -> str:
    power = {2: "²", 3: "³"}[told["dimensions"]]
    return f"(Mpc/h){power}" if told["unit"] == "h/Mpc" else f"voxels{power}"
