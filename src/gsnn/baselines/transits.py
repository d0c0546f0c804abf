"""What finds transits without a network: box least squares, and transit least squares.

Each searches the whole light curve, and a logistic regression makes probabilities of its two detection statistics. It
changes no ranking but that it may weigh the two, which is more than a search has by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ..data.detrend import Even, even, flattened
from ..data.light_curves import LightCurves
from ..data.schema import Column, Schema
from ..data.transit_search import Candidate, search
from ..errors import GsnnError
from .tables import Logistic

if TYPE_CHECKING:
    from ..data.survey import View

CHUNK = 256  # light curves in memory at once


class BLS(Logistic):
    """Box least squares (Kovacs, Zucker & Mazeh 2002, A&A 391, 369): log S/N and SDE of the highest peak.

    ``column`` is the light curve or evenly sampled series of the survey, which need not be an input of the network:
    what the network reads may have been made of it. It is made flat with a biweight of ``window`` days and searched
    from ``shortest`` to ``longest`` days. Two numbers need few objects to be weighed, so at most ``most`` training
    and as many validation light curves are searched.
    """

    label = "Box least squares"

    def __init__(
        self,
        inputs: Schema,
        target: Column,
        *,
        column: str = "flux",
        cadence_minutes: float = 30.0,
        window: float = 1.0,
        shortest: float = 0.6,
        longest: float | None = None,
        most: int = 600,
    ):
        super().__init__(inputs, target)
        self.column, self.cadence, self.window, self.most = column, cadence_minutes / 1440, window, most
        self.shortest, self.longest = shortest, longest

    def fit(self, train: View, valid: View, seed: int) -> None:
        super().fit(self._some(train), self._some(valid), seed)

    def _some(self, view: View) -> View:
        return view.take(np.linspace(0, len(view) - 1, min(self.most, len(view))).astype(int))

    def matrix(self, view: View) -> Float[np.ndarray, "object 2"]:
        if self.column not in view.schema or view.schema[self.column].kind not in ("series", "light_curve"):
            raise GsnnError(
                f"baseline {self.name}: the survey has no light curve {self.column!r}; name its column in the "
                'baseline\'s table, as in { name = "bls", column = "lc" }'
            )
        found = [self.statistics(curve) for curve in self._curves(view)]
        return np.array(found, float).reshape(-1, 2)

    def _curves(self, view: View):
        column = view.schema[self.column]
        for chunk in view.chunks([self.column], CHUNK):
            values = chunk[self.column]
            if isinstance(values, LightCurves):
                yield from (even(c.time, c.flux / np.median(c.flux), self.cadence) for c in values)
            else:
                yield from (Even(0.0, column.cadence or self.cadence, one.reshape(-1).astype(float)) for one in values)

    def statistics(self, curve: Even) -> tuple[float, float]:
        """log S/N and SDE; NaN of a light curve that cannot be searched."""
        try:
            best = self.best(flattened(curve, window=self.window))
        except GsnnError:
            return np.nan, np.nan
        return float(np.log(max(best.snr, 1e-3))), best.sde

    def best(self, flat: Even) -> Candidate:
        """The highest peak of a flat light curve."""
        return search(flat, shortest=self.shortest, longest=self.longest)[0]

    def describe(self) -> str:
        return f"{self.label} on {self.column}, S/N and SDE of the highest peak; {super().describe()}"


class TLS(BLS):
    """Transit least squares (Hippke & Heller 2019, A&A 623, A39): S/N and SDE, with a limb-darkened transit as box.

    It is slow (a second or more a light curve), hence the low default of ``most``. Needs the package
    transitleastsquares (``pip install 'gsnn[transits]'``).
    """

    label = "Transit least squares"

    def __init__(
        self,
        inputs: Schema,
        target: Column,
        *,
        column: str = "flux",
        cadence_minutes: float = 30.0,
        window: float = 1.0,
        shortest: float = 0.6,
        longest: float | None = None,
        most: int = 100,
    ):
        super().__init__(
            inputs, target, column=column, cadence_minutes=cadence_minutes, window=window, shortest=shortest,
            longest=longest, most=most,
        )  # fmt: skip
        _package()

    def best(self, flat: Even) -> Candidate:
        return least_squares(flat, shortest=self.shortest, longest=self.longest)


def _package():
    try:
        from transitleastsquares import transitleastsquares
    except ImportError as error:
        raise GsnnError(
            "baseline tls: the package transitleastsquares is not installed; `pip install 'gsnn[transits]'`, "
            "or leave the baseline out"
        ) from error
    return transitleastsquares


def least_squares(flat: Even, *, shortest: float = 0.6, longest: float | None = None) -> Candidate:
    """The highest peak of transit least squares, with its own period and duration grids, on one thread."""
    import contextlib
    import io
    import warnings

    known = np.isfinite(flat.flux)
    if known.sum() < 50:
        raise GsnnError(f"a search for transits needs 50 observations, and there are {known.sum()}")
    time, flux = flat.time[known], flat.flux[known]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        found = _package()(time, flux).power(
            period_min=shortest, period_max=longest or (time[-1] - time[0]) / 2, n_transits_min=2, use_threads=1,
            show_progress_bar=False, oversampling_factor=2,
        )  # fmt: skip
    if not np.isfinite(found.period):
        raise GsnnError("transit least squares finds no peak")
    return Candidate(
        float(found.period), float(found.T0), float(found.duration), float(1 - found.depth), float(found.snr),
        float(found.SDE),
    )  # fmt: skip
