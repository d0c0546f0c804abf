"""Candidates of transits in a flat light curve: the peaks of a box-least-squares search, and single deep dips."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from ..errors import GsnnError
from .detrend import Even, noise
from .fold import phase

DURATIONS = (0.05, 0.08, 0.12, 0.18, 0.27)  # days
SAME = 0.01  # relative difference below which two periods are one peak


class Candidate(NamedTuple):
    """A possible transit. Times in days; ``depth`` is relative, ``snr`` its ratio to its error from white noise.

    ``sde`` says how many standard deviations of the periodogram the peak stands above it (NaN for a single dip).
    """

    period: float
    epoch: float
    duration: float
    depth: float
    snr: float
    sde: float


def period_grid(span: float, shortest: float, longest: float, oversample: float = 2.0) -> Float64[np.ndarray, " trial"]:
    """Trial periods for transits of a Sun-like star: even in the cube root of frequency (Ofir 2014, A&A 561, A138).

    Neighbours differ by the transit's duration over ``oversample`` at the end of a light curve of ``span`` days.
    """
    if not 0 < shortest < longest:
        raise GsnnError(
            f"a search needs periods that grow, not from {shortest:g} to {longest:g} days; "
            "give a longer light curve or a shorter first period"
        )
    # R / (G M)^(1/3) of the Sun is 1.364e2 s^(1/3)
    step = (2 * np.pi) ** (2 / 3) / np.pi * 136.4 / (span * 86400) / oversample
    low, high = (1 / (p * 86400) for p in (longest, shortest))
    trials = max(int(np.ceil((high ** (1 / 3) - low ** (1 / 3)) * 3 / step)), 2)
    return 1 / np.linspace(high ** (1 / 3), low ** (1 / 3), trials) ** 3 / 86400


def running_median(values: Float64[np.ndarray, " trial"], window: int) -> Float64[np.ndarray, " trial"]:
    from scipy.ndimage import median_filter, zoom

    some = values[:: max(window // 20, 1)]  # twenty values of a window give its median well enough
    return zoom(median_filter(some, 21, mode="nearest"), len(values) / len(some), order=1)[: len(values)]


def search(
    flat: Even,
    *,
    shortest: float = 0.6,
    longest: float | None = None,
    durations: tuple[float, ...] = DURATIONS,
    candidates: int = 1,
) -> list[Candidate]:
    """The best candidates of a flat light curve by box least squares (Kovacs et al. 2002, A&A 391, 369; astropy's).

    The peaks are those of the S/N of the depth over its running median along the trial periods, in its own scatter.
    Each is refined on a finer grid, also at half and twice its period, and the one of the highest S/N is kept.
    ``longest`` is half of what was observed where it is not given, so that two transits can show. Fewer candidates
    come back where there are fewer peaks.
    """
    from astropy.timeseries import BoxLeastSquares

    known = np.isfinite(flat.flux)
    time, flux, sigma = flat.time[known], flat.flux[known], noise(flat.flux)
    if known.sum() < 50 or not sigma > 0:
        raise GsnnError(f"a search for transits needs 50 observations that scatter, and there are {known.sum()}")
    span = float(time[-1] - time[0])
    longest = longest or span / 2
    periods = period_grid(span, shortest, longest)
    box = BoxLeastSquares(time - time[0], flux, sigma)
    how = {"duration": [d for d in durations if d < shortest], "objective": "snr", "method": "fast", "oversample": 4}
    power = np.nan_to_num(np.asarray(box.power(periods, **how).power), nan=0.0)
    above = power - running_median(power, max(len(power) // 12, 21))
    sde = above / (1.4826 * np.median(np.abs(above - np.median(above))) or 1.0)

    def refined(period: float, width: float) -> tuple[float, float, float, float, float]:
        """S/N, period, epoch, duration and depth of the best of the trial periods about one."""
        near = box.power(period * (1 + width * np.linspace(-1.5, 1.5, 31)), **how)
        j = int(np.nanargmax(near.power))
        return tuple(float(x[j]) for x in (near.power, near.period, near.transit_time, near.duration, near.depth))

    peaks: list[Candidate] = []
    free = np.ones(len(power), bool)
    while len(peaks) < candidates and free.any():
        i = int(np.argmax(np.where(free, sde, -np.inf)))
        width = abs(periods[min(i + 1, len(periods) - 1)] - periods[max(i - 1, 0)]) / 2 / periods[i]
        free &= np.abs(periods / periods[i] - 1) > SAME
        multiples = [m for m in (0.5, 1.0, 2.0) if shortest <= m * periods[i] <= longest]
        snr, period, epoch, lasts, depth = max(refined(m * periods[i], width) for m in multiples)
        if all(abs(period / one.period - 1) > SAME / 2 for one in peaks):
            peaks.append(Candidate(period, float(time[0] + epoch), lasts, depth, snr, float(sde[i])))
    return peaks


def masked(flat: Even, candidate: Candidate, width: float = 1.5) -> Even:
    """The light curve without the transits of a candidate, to search for the next planet."""
    since, _ = phase(flat.time, candidate.period, candidate.epoch)
    return flat._replace(flux=np.where(np.abs(since) < width * candidate.duration / 2, np.nan, flat.flux))


def single_dips(flat: Even, *, durations: tuple[float, ...], least: float = 7.0, most: int = 20) -> list[Candidate]:
    """Deep dips one by one, whatever comes again: boxes of each duration slid along the light curve.

    A box counts where two thirds of it, and of as much on either side, were observed. Its error is the robust scatter
    of all such boxes, so slow noise counts. The period is twice the observed span: once is all that is known.
    """
    known = np.isfinite(flat.flux).astype(float)
    value = np.where(known > 0, 1 - flat.flux, 0)
    span = 2 * flat.cadence * len(flat.flux)
    boxes: list[Candidate] = []
    for days in durations:
        n = max(round(days / flat.cadence), 1)
        if len(known) <= 2 * n:
            continue
        one = np.ones(n)
        count = np.convolve(known, one, "same")
        depth = np.convolve(value, one, "same") / np.maximum(count, 1)
        before, after = np.r_[np.zeros(n), count[:-n]], np.r_[count[n:], np.zeros(n)]
        good = np.minimum(count, np.minimum(before, after)) >= 2 / 3 * n
        if not good.any():
            continue
        scatter = 1.4826 * np.median(np.abs(depth[good] - np.median(depth[good])))
        snr = np.where(good, depth / max(scatter, 1e-12), 0)
        centre = flat.time - (n % 2 == 0) * flat.cadence / 2
        boxes += [
            Candidate(span, float(centre[i]), days, float(depth[i]), float(snr[i]), float("nan"))
            for i in np.flatnonzero(snr >= least)
        ]
    chosen: list[Candidate] = []
    for box in sorted(boxes, key=lambda b: -b.snr):
        if len(chosen) < most and all(abs(box.epoch - c.epoch) > 1.5 * max(box.duration, c.duration) for c in chosen):
            chosen.append(box)
    return chosen
