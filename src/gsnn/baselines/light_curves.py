"""Light curves as numbers that classifiers of transients and of variable stars have been fed by hand.

Fluxes come from a transient: fitted shapes (Bazin et al. 2009), colours at and after the peak, signal to noise, as in
Lochner et al. 2016 (ApJS 225, 31) and Villar et al. 2019 (ApJ 884, 83). Magnitudes come from a star that is always
there: see ``gsnn.baselines.variability``.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Float

from ..data.light_curves import LightCurves
from ..data.periods import best_periods
from ..data.schema import Column
from .bazin import Segments, fit

WINDOWS = (-30, -12, -4, 4, 12, 25, 45, 90)  # days from the peak between which fluxes are averaged
Columns = dict[str, Float[np.ndarray, " object"]]


def statistics(
    curves: LightCurves, column: Column, period: np.ndarray | None = None
) -> tuple[Float[np.ndarray, "object statistic"], list[str]]:
    """The statistics that suit ``column`` (by its unit) and their names; NaN where one has no meaning.

    ``period`` [object], in the curves' unit of time, is used to fold magnitudes; if None it is looked for, and what a
    sine of it explains is one more statistic.
    """
    if "mag" in column.unit.lower():
        from .variability import variability

        explained = {}
        if period is None:
            period, explained["sine"] = best_periods(curves)
        found = {**variability(curves, column.bands or ("",), period), **explained}
    else:
        found = transient(curves, column.bands or ("",))
    return np.stack(list(found.values()), 1), list(found)


def transient(curves: LightCurves, bands: tuple[str, ...]) -> Columns:
    """Fitted shapes, peaks, colours, binned fluxes and signal to noise, per object and per band.

    Fluxes are in units of the object's brightest peak, except ``peak``, its logarithm in native units.
    """
    objects, seg = len(curves), Segments.of(curves)
    whole, each, amplitude = fit(seg, objects)
    segment, owner = seg.segment, seg.object
    root = np.sqrt(seg.weight)
    chi2 = seg.sum((seg.flux - (amplitude[segment] * each.take(segment)(seg.time))) ** 2 * seg.weight)
    brightest = np.full(objects, 1e-3)
    np.maximum.at(brightest, owner, amplitude)
    rise, fall = each.half()
    error = 1 / np.sqrt(seg.sum(each.take(segment)(seg.time) ** 2 * seg.weight) + 1e-12)

    def of_object(values: np.ndarray) -> Float[np.ndarray, " object"]:
        return np.bincount(owner, values, objects).astype(float)

    since = seg.time - whole.peak[owner[segment]]
    count = of_object(seg.lengths.astype(float))
    found: Columns = {
        "peak": np.log10(brightest),
        "rise": np.exp(whole.rise),
        "fall": np.exp(whole.fall),
        "chi2": of_object(chi2) / np.maximum(count - 3, 1),
        "chi2_zero": of_object(seg.sum(seg.flux**2 * seg.weight)) / np.maximum(count, 1),
        "snr": np.sqrt(of_object(np.maximum(amplitude / error, 0) ** 2)),
        "before": -_least(owner, seg.start, since, objects),
        "after": -_least(owner, seg.start, -since, objects),
        "detections": of_object(seg.sum((seg.flux * root > 3).astype(float))),
        "observations": count,
    }
    tables: dict[str, np.ndarray] = {}

    def by_band(name: str, values: np.ndarray) -> None:
        table = np.full((objects, len(bands)), np.nan)
        table[owner, seg.band] = values
        tables[name] = table
        found.update({f"{name}_{band}": table[:, k] for k, band in enumerate(bands)})

    by_band("share", amplitude / brightest[owner])
    by_band("peak", _logarithm(amplitude, error))
    by_band("snr", amplitude / error)
    by_band("rise", rise)
    by_band("fall", fall)
    by_band("delay", each.peak - whole.peak[owner])
    by_band("chi2", chi2 / np.maximum(seg.lengths - 1, 1))
    by_band("highest", seg.largest(seg.flux) / brightest[owner])
    by_band("surest", seg.largest(seg.flux * root))
    for low, high in pairwise(WINDOWS):
        inside = seg.weight * ((since >= low) & (since < high))
        weight = seg.sum(inside)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(weight > 0, seg.sum(inside * seg.flux) / weight, np.nan)
        by_band(f"flux_{low}_{high}", mean / brightest[owner])
    for blue, red in pairwise(range(len(bands))):
        name = f"{bands[blue]}_{bands[red]}"
        found[f"colour_{name}"] = -2.5 * (tables["peak"][:, blue] - tables["peak"][:, red])
        for when in ("-4_4", "12_25", "25_45"):
            a, b = tables[f"flux_{when}"][:, blue], tables[f"flux_{when}"][:, red]
            found[f"balance_{when}_{name}"] = (b - a) / (np.abs(a) + np.abs(b) + 1e-6)  # a colour that bears flux < 0
    return found


def _logarithm(amplitude: np.ndarray, error: np.ndarray) -> np.ndarray:
    """log10 of a flux, level below its error (Lupton, Gunn & Szalay 1999)."""
    return np.log10((amplitude + np.sqrt(amplitude**2 + 4 * error**2)) / 2)


def _least(owner: np.ndarray, start: np.ndarray, values: np.ndarray, objects: int) -> np.ndarray:
    """The least value of each object; NaN where it has none."""
    out = np.full(objects, np.inf)
    if len(start):
        np.minimum.at(out, owner, np.minimum.reduceat(values, start))
    return np.where(np.isfinite(out), out, np.nan)
