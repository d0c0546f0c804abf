"""Light curves and series as pictures: small ones for the cards of a report, large ones for ``gsnn show``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from numpy import ndarray

from .images import _SEQUENCE
from .theme import DASHES, INK, NETWORK, OTHERS, PALETTE, SOFT, Drawing, figure, style

MARKERS = "osD^vPX*<>"  # colour is never the only difference
COLOURS = ("purple", "blue", "green", "amber", "orange", "ink")  # from blue bands to red ones
MOST = 400  # points of a small picture
_WIDTH, _HEIGHT, _PAD = 240.0, 120.0, 6.0


class Curve(NamedTuple):
    """One object as it is drawn: points with errors in bands, and what was said of it as time went on."""

    time: Float[ndarray, " step"]
    value: Float[ndarray, " step"]
    error: Float[ndarray, " step"]  # 0 where there is none
    band: ndarray  # index into ``bands``
    bands: tuple[str, ...]
    unit: str = ""
    time_unit: str = ""
    joined: bool = False  # a line, as for evenly sampled series
    moments: ndarray | None = None  # times of the running answers
    answers: Float[ndarray, "moment class"] | None = None
    classes: tuple[str, ...] = ()

    @property
    def upside_down(self) -> bool:
        """Magnitudes: bright is up."""
        return "mag" in self.unit.lower()


def band_colours(bands: Sequence[str]) -> list[str]:
    """A colour of the palette for each band, from blue to red where their names tell, in their order where not."""
    words = [band.lower().split("_")[-1].split("-")[-1] for band in bands]
    known = all(word in _SEQUENCE for word in words)
    order = sorted(range(len(bands)), key=lambda i: _SEQUENCE.index(words[i]) if known else i)
    if len(bands) == 1:
        return [NETWORK]
    chosen = np.linspace(0, len(COLOURS) - 1, len(bands)) if len(bands) > len(COLOURS) else None
    steps = np.round(np.linspace(0, min(len(COLOURS) - 1, 4 if len(bands) < 6 else 5), len(bands))).astype(int)
    places = np.round(chosen).astype(int) if chosen is not None else steps
    out = [""] * len(bands)
    for place, i in zip(places, order):
        out[i] = PALETTE[COLOURS[place]]
    return out


def curves_of(arrays: Mapping[str, ndarray]) -> dict[str, Curve]:
    """The curves in an ``examples.npz``, by id. Nothing where it holds none."""
    if "curve_offsets" not in arrays:
        return {}
    offsets, bands = arrays["curve_offsets"], tuple(str(b) for b in arrays["curve_bands"])
    unit, time_unit = str(arrays["curve_unit"]), str(arrays["curve_time_unit"])
    out = {}
    for i, identity in enumerate(arrays["ids"]):
        some = slice(int(offsets[i]), int(offsets[i + 1]))
        more: dict[str, Any] = {}
        if "curve_answers" in arrays:
            more["moments"], more["answers"] = arrays["curve_moments"][i], arrays["curve_answers"][i]
            more["classes"] = tuple(str(c) for c in arrays["curve_classes"])
        parts = (arrays[f"curve_{name}"][some] for name in ("time", "flux", "flux_error", "band"))
        joined = bool(arrays.get("curve_joined", False))
        out[str(identity)] = Curve(*parts, bands, unit, time_unit, joined, **more)
    return out


def small(curve: Curve, weight: Float[ndarray, " step"] | None = None) -> Markup:
    """The curve as an SVG of 240 x 120 units in the page's colours, the running answers below it.

    With a ``weight`` for each step, points are as large as it says.
    """
    chosen = np.flatnonzero(np.isfinite(curve.value) & np.isfinite(curve.time))
    if not len(chosen):
        return Markup("")
    if len(chosen) > MOST:
        chosen = chosen[np.linspace(0, len(chosen) - 1, MOST).astype(int)]
    time, value, error = (np.asarray(part, float)[chosen] for part in (curve.time, curve.value, curve.error))
    band = np.asarray(curve.band)[chosen].astype(int)
    radius = np.full(len(chosen), 1.7) if weight is None else _radii(weight, chosen)
    below = 0.0 if curve.answers is None else 34.0
    low, high = _range(value, error)
    x = _PAD + (time - time.min()) / (np.ptp(time) or 1) * (_WIDTH - 2 * _PAD)

    def up(v: ndarray) -> ndarray:
        share = (np.clip(v, low, high) - low) / ((high - low) or 1)
        return _PAD + (share if curve.upside_down else 1 - share) * (_HEIGHT - below - 2 * _PAD)

    y, top, bottom = up(value), up(value + error), up(value - error)
    colours = [_variable(colour) for colour in band_colours(curve.bands or ("",))]
    pieces = []
    if not curve.upside_down and low < 0 < high:
        zero = float(up(np.zeros(1))[0])
        pieces.append(f'<line x1="0" x2="{_WIDTH:g}" y1="{zero:.1f}" y2="{zero:.1f}" class="zero"/>')
    for k, colour in enumerate(colours):
        own = np.flatnonzero(band == k)
        if not len(own):
            continue
        if curve.joined and weight is None:
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x[own], y[own]))
            pieces.append(f'<polyline points="{path}" style="fill:none;stroke:{colour};stroke-width:1"/>')
            continue
        bars = "".join(f"M{x[i]:.1f} {top[i]:.1f}V{bottom[i]:.1f}" for i in own if error[i] > 0)
        dots = "".join(f'<circle cx="{x[i]:.1f}" cy="{y[i]:.1f}" r="{radius[i]:.1f}"/>' for i in own)
        pieces.append(f'<path d="{bars}" style="stroke:{colour};opacity:.4"/><g style="fill:{colour}">{dots}</g>')
    pieces += _small_answers(curve, time, below)
    label = escape(f"light curve of {len(chosen)} observations" if not curve.joined else "series")
    frame = f'class="curve" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{label}"'
    return Markup(f"<svg {frame}>{''.join(pieces)}</svg>")


def _small_answers(curve: Curve, time: ndarray, height: float) -> list[str]:
    if curve.answers is None or curve.moments is None:
        return []
    x = _PAD + (curve.moments - time.min()) / (np.ptp(time) or 1) * (_WIDTH - 2 * _PAD)
    bottom = _HEIGHT - 2
    lines = [f'<line x1="0" x2="{_WIDTH:g}" y1="{bottom:g}" y2="{bottom:g}" class="zero"/>']
    for k in range(curve.answers.shape[1]):
        known = np.isfinite(curve.answers[:, k]) & np.isfinite(x)
        path = " ".join(f"{a:.1f},{bottom - (height - 4) * p:.1f}" for a, p in zip(x[known], curve.answers[known, k]))
        dash = "" if k == 0 else f";stroke-dasharray:{'5 2' if k % 2 else '2 2'}"
        colour = _variable([NETWORK, *OTHERS][k % 6])
        lines.append(f'<polyline points="{path}" style="fill:none;stroke:{colour};stroke-width:1.4{dash}"/>')
    return lines


def _radii(weight: ndarray, chosen: ndarray) -> ndarray:
    """0.6 to 4 units: areas follow |weight| up to its 98th percentile. Steps beyond those given have none."""
    size = np.zeros(int(chosen.max()) + 1)
    given = np.abs(np.nan_to_num(np.asarray(weight, float).reshape(-1)))[: len(size)]
    size[: len(given)] = given
    top = np.percentile(given, 98) if len(given) else 0.0
    return 0.6 + 3.4 * np.sqrt(np.clip(size[chosen] / (top or given.max(initial=0) or 1), 0, 1))


def _variable(colour: str) -> str:
    name = next(name for name, value in PALETTE.items() if value == colour)
    return f"var(--{name}, {colour})"


def _range(value: ndarray, error: ndarray) -> tuple[float, float]:
    """What is shown: the points, and the errors of all but the worst tenth."""
    usual = error <= np.quantile(error, 0.9)
    low, high = np.nanmin((value - error)[usual]), np.nanmax((value + error)[usual])
    return float(min(low, np.quantile(value, 0.02))), float(max(high, np.quantile(value, 0.98)))


def light_curve(curve: Curve, heading: str = "", truth: str = "") -> Drawing:
    """The curve with error bars and, below it on the same axis of time, the probability of each class so far."""
    told = curve.answers is not None and curve.moments is not None
    with style():
        f = figure(5.6, 4.4 if told else 3.1)
        axes = f.subplots(2 if told else 1, 1, sharex=True, squeeze=False, height_ratios=[3, 1.5] if told else [1])[
            :, 0
        ]
        points(axes[0], curve)
        axes[0].set_title(heading)
        if told:
            running(axes[1], curve, truth)
        axes[-1].set_xlabel(f"time ({curve.time_unit})" if curve.time_unit else "time")
    band = [curve.bands[int(b)] if curve.bands else "" for b in curve.band]
    data = {
        "time": np.asarray(curve.time, float).tolist(),
        "band": band,
        "value": np.asarray(curve.value, float).tolist(),
        "error": np.asarray(curve.error, float).tolist(),
    }
    return Drawing(f, data, f"{heading or 'Light curve'}: {len(curve.time)} observations.")


def points(ax: Axes, curve: Curve) -> None:
    """The observations on an axis, a colour and a marker for each band."""
    value, error = np.asarray(curve.value, float), np.asarray(curve.error, float)
    for k, (name, colour) in enumerate(zip(curve.bands or ("",), band_colours(curve.bands or ("",)))):
        own = np.asarray(curve.band) == k
        if not own.any():
            continue
        if curve.joined:
            ax.plot(np.asarray(curve.time)[own], value[own], color=colour, lw=0.9, label=name)
            continue
        ax.errorbar(
            np.asarray(curve.time)[own], value[own], np.where(error[own] > 0, error[own], np.nan),
            fmt=MARKERS[k % len(MARKERS)], ms=3.2, lw=0, elinewidth=0.7, color=colour, label=name, alpha=0.9,
        )  # fmt: skip
    ax.set_ylabel(f"{'magnitude' if curve.upside_down else 'flux'} ({curve.unit})" if curve.unit else "flux")
    if len(curve.time) and np.isfinite(value).any():
        good = np.isfinite(value)
        low, high = _range(value[good], error[good])
        pad = 0.05 * (high - low) or 1.0
        ax.set_ylim((high + pad, low - pad) if curve.upside_down else (low - pad, high + pad))
        if not curve.upside_down and low < 0 < high:
            ax.axhline(0, color=SOFT, lw=0.6)
    if len(curve.bands) > 1:
        ax.legend(ncols=min(len(curve.bands), 6), loc="best", handletextpad=0.2, columnspacing=0.9)


def running(ax: Axes, curve: Curve, truth: str) -> None:
    """The probability of each class as time went on."""
    dashes = ["-", *DASHES]
    for k, name in enumerate(curve.classes):
        label = f"{name} (true)" if name == truth else name
        colour = [NETWORK, *OTHERS][k % 6]
        ax.plot(curve.moments, curve.answers[:, k], color=colour, ls=dashes[k % len(dashes)], label=label)
    ax.set(ylim=(-0.02, 1.02), ylabel="probability so far")
    ax.axhline(0.5, color=INK, lw=0.4, alpha=0.4)
    ax.legend(ncols=min(len(curve.classes), 4), loc="best", handletextpad=0.3, columnspacing=0.9)


def early_answers(early: Mapping[str, Any]) -> Drawing:
    """Accuracy and area under the ROC curve against days since the trigger, with their intervals."""
    rows = early["rows"]
    days = np.array([row["days"] for row in rows], float)
    data: dict[str, list[Any]] = {"days": days.tolist()}
    with style():
        f = figure(4.8, 3.1)
        ax = f.subplots()
        ax.grid(axis="y")
        for name, label, colour, dash in (
            ("accuracy", "accuracy", NETWORK, "-"),
            ("roc_auc", "area under the ROC curve", OTHERS[0], "--"),
        ):
            value, low, high = (np.array([row[name].get(k, np.nan) for row in rows], float) for k in _ENDS)
            data |= {name: value.tolist(), f"{name}_low": low.tolist(), f"{name}_high": high.tolist()}
            ax.plot(days, value, dash, color=colour, marker="o", ms=3.5, label=label)
            ax.fill_between(days, low, high, color=colour, alpha=0.18, lw=0)
        ax.set(xlabel="days since the trigger", ylim=(None, 1.0))
        ax.legend(loc="lower right")
    last = rows[-1]
    alt = (
        f"On {early['objects']:,} objects, since {early['since']}: accuracy {rows[0]['accuracy']['value']:.3f} at day "
        f"{days[0]:g}, {last['accuracy']['value']:.3f} at day {days[-1]:g}."
    )
    return Drawing(f, data, alt)


_ENDS = ("value", "low", "high")


def early_roc(curves: Mapping[str, Mapping[str, Sequence[float]]], name: str) -> Drawing:
    """ROC curves of the first class at some days since the trigger."""
    data: dict[str, list[Any]] = {"days": [], "false": [], "true": []}
    with style():
        f = figure(4.0, 3.5)
        ax = f.subplots()
        ax.plot([0, 1], [0, 1], color=SOFT, lw=0.7, ls=(0, (3, 3)))
        for k, (day, one) in enumerate(curves.items()):
            label = f"day {day}"
            ax.plot(one["false"], one["true"], color=[NETWORK, *OTHERS][k % 6], ls=["-", *DASHES][k % 6], label=label)
            data["days"] += [day] * len(one["false"])
            data["false"] += list(one["false"])
            data["true"] += list(one["true"])
        ax.set(xlabel=f"others taken for {name}", ylabel=f"{name} found", xlim=(0, 1), ylim=(0, 1.01))
        ax.legend(loc="lower right")
    return Drawing(f, data, f"ROC curves of {name} at days {', '.join(curves)} since the trigger.")
