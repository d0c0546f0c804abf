"""The period of a variable star from its light curve in any number of bands."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from .light_curves import LightCurve, LightCurves

FEWEST = 8  # observations in a band that counts
OVERSAMPLING = 5.0  # frequencies a peak of the periodogram's width, 1 / span


def best_periods(
    curves: LightCurves, shortest: float = 0.1, longest: float | None = None
) -> tuple[Float64[np.ndarray, " object"], Float64[np.ndarray, " object"]]:
    """The period of each object, in the unit of its times, and how much of chi squared a sine of it takes away.

    Periods from ``shortest`` to ``longest`` (the span of the observations, if None). NaN where no band has enough
    observations. The true period of eclipses is often twice the one found: a sine fits both minima alike.
    """
    found = [best_period(one, shortest, longest) for one in curves]
    period, share = np.array(found, np.float64).reshape(-1, 2).T
    return period, share


def best_period(curve: LightCurve, shortest: float, longest: float | None) -> tuple[float, float]:
    """Of one object: the multi-band periodogram of VanderPlas & Ivezic 2015 (ApJ 812, 18), a free sine in each band.

    That is the sum over bands of what a sine of the frequency takes off chi squared (Zechmeister & Kurster 2009, A&A
    496, 577), by the fast algorithm of Press & Rybicki 1989 (ApJ 338, 277); the best frequency is then refined.
    """
    from astropy.timeseries import LombScargle

    parts, total = [], 0.0
    for band in np.unique(curve.band):
        own = (curve.band == band) & (curve.flux_error > 0) & np.isfinite(curve.flux)
        if own.sum() >= FEWEST and np.ptp(curve.time[own]) > 0:
            time, flux, error = (np.asarray(part[own], np.float64) for part in curve[:3])
            parts.append(LombScargle(time - curve.time[0], flux, error))
            mean = np.average(flux, weights=error**-2)
            total += float((((flux - mean) / error) ** 2).sum())
    span = np.ptp(curve.time) if len(curve.time) else 0.0
    low, high = 1 / min(longest or span or 1.0, span or 1.0), 1 / shortest
    if not parts or not total or low >= high:
        return np.nan, np.nan
    step = 1 / (OVERSAMPLING * span)
    frequency = low + step * np.arange(int((high - low) / step) + 1)

    def power(at: np.ndarray, method: str) -> np.ndarray:
        each = (part.power(at, method=method, normalization="psd", assume_regular_frequency=True) for part in parts)
        return 2 * sum(each)  # "psd" is half of what is taken off chi squared

    best = frequency[power(frequency, "fast").argmax()]
    near = best + step * np.linspace(-1, 1, 41)
    near = near[near > 0]
    taken = power(near, "slow")
    return 1 / float(near[taken.argmax()]), float(np.clip(taken.max() / total, 0, 1))
