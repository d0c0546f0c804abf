"""Phase folding: what a light curve is at one period, in views of a fixed size that a network can read.

The views are those of Shallue & Vanderburg 2018 (AJ 155, 94): the whole orbit, and a window about the transit. Here the
transit is seen three times, from all orbits, the odd and the even ones: a binary found at half its period tells itself
apart there. Values are (flux - 1) over the noise that a bin of average filling has, so the depth of a view is its
signal-to-noise ratio and not the star's secret.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

GLOBAL, LOCAL = 201, 61  # bins
SPAN = 3.0  # of the local view to each side, in transit durations


def phase(
    time: Float64[np.ndarray, " step"], period: float, epoch: float
) -> tuple[Float64[np.ndarray, " step"], Int64[np.ndarray, " step"]]:
    """Days from the nearest transit, within half a period of 0, and the number of that transit."""
    number = np.round((time - epoch) / period).astype(np.int64)
    return time - epoch - number * period, number


def binned(
    x: Float64[np.ndarray, " step"], y: Float64[np.ndarray, " step"], half: float, bins: int
) -> Float64[np.ndarray, " bin"]:
    """Means of ``y`` in ``bins`` equal bins of x over -half to half; NaN where a bin is empty."""
    place = np.floor((x + half) / (2 * half) * bins).astype(np.int64)
    inside = (place >= 0) & (place < bins) & np.isfinite(y)
    count = np.bincount(place[inside], minlength=bins)
    with np.errstate(invalid="ignore"):
        return np.bincount(place[inside], y[inside], bins) / np.where(count, count, np.nan)


def views(
    time: Float64[np.ndarray, " step"],
    flux: Float64[np.ndarray, " step"],
    period: float,
    epoch: float,
    duration: float,
    sigma: float,
) -> tuple[Float64[np.ndarray, "1 bin"], Float64[np.ndarray, "3 bin"]]:
    """The orbit [1, GLOBAL], and the transit from all, the odd and the even orbits [3, LOCAL], over their noise.

    ``duration`` and ``period`` in days, ``sigma`` the noise of one step. An empty bin is NaN.
    """
    since, number = phase(time, period, epoch)
    known = max(int(np.isfinite(flux).sum()), 1)

    def seen(chosen: np.ndarray | slice, half: float, bins: int, share: float) -> np.ndarray:
        filling = max(known * share * 2 * half / bins / period, 1.0)
        return binned(since[chosen], flux[chosen] - 1, half, bins) / sigma * np.sqrt(filling)

    near = min(SPAN * duration, period / 2)
    odd = number % 2 == 1
    whole = seen(slice(None), period / 2, GLOBAL, 1.0)
    local = [seen(chosen, near, LOCAL, share) for chosen, share in ((slice(None), 1.0), (odd, 0.5), (~odd, 0.5))]
    return whole[None], np.stack(local)
