"""From light curves to what a network judges: flattened, searched, and folded at the best few candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64

from ..config import build
from ..errors import ConfigError, GsnnError
from .detrend import Even, even, flattened, noise
from .fold import GLOBAL, LOCAL, phase, views
from .light_curves import LightCurves
from .schema import Column, Schema
from .source import QUARANTINE
from .transit_search import Candidate, search

FACTS = (
    ("bls_period", "d", "of the best candidate"),
    ("bls_epoch", "d", "of the best candidate, in the times of the light curve"),
    ("bls_duration", "d", "of the best candidate's box"),
    ("bls_depth", "ppm", "of the best candidate's box"),
    ("bls_snr", "", "of the best candidate's depth in white noise"),
    ("bls_sde", "", "of the best candidate's peak over the periodogram"),
    ("odd_even", "", "difference of odd and even depths over its error"),
    ("secondary", "", "signal to noise of the deepest other box of the same duration in the orbit"),
    ("largest_share", "", "part of the depth that the deepest single transit brings"),
)


def facts(flat: Even, candidate: Candidate) -> dict[str, float]:
    """The best candidate in numbers, with the tests by which people vet: odd and even depths, a secondary eclipse.

    They follow the ideas of Kepler's robovetter (Thompson et al. 2018, ApJS 235, 38), in their simplest form.
    """
    sigma, known = noise(flat.flux), np.isfinite(flat.flux)
    time, deep = flat.time[known], 1 - flat.flux[known]
    since, number = phase(time, candidate.period, candidate.epoch)
    inside = np.abs(since) < candidate.duration / 2

    def depth(chosen: np.ndarray) -> tuple[float, float]:
        return (float(deep[chosen].mean()), sigma / np.sqrt(chosen.sum())) if chosen.any() else (np.nan, np.nan)

    (odd, odd_error), (even_, even_error) = depth(inside & (number % 2 == 1)), depth(inside & (number % 2 == 0))
    boxes = max(int(candidate.period / candidate.duration), 4)
    place = np.minimum(((since / candidate.period + 0.5) * boxes).astype(int), boxes - 1)
    away = np.abs(since) > 1.5 * candidate.duration
    count = np.bincount(place[away], minlength=boxes)
    other = np.bincount(place[away], deep[away], boxes)[count > 2] / (sigma * np.sqrt(count[count > 2]))
    first = number - number.min()
    each = np.bincount(first[inside], deep[inside]) if inside.any() else np.zeros(1)
    return {
        "bls_period": candidate.period,
        "bls_epoch": candidate.epoch,
        "bls_duration": candidate.duration,
        "bls_depth": 1e6 * candidate.depth,
        "bls_snr": candidate.snr,
        "bls_sde": candidate.sde,
        "odd_even": abs(odd - even_) / np.hypot(odd_error, even_error),
        "secondary": float(other.max()) if len(other) else np.nan,
        "largest_share": float(each.max() / max(each.sum(), 1e-12)),
    }


def seen(flat: Even, found: list[Candidate], most: int) -> tuple[np.ndarray, np.ndarray]:
    """The views of up to ``most`` candidates: [most, GLOBAL] and [3 most, LOCAL], NaN where there is none."""
    whole, local = np.full((most, GLOBAL), np.nan), np.full((3 * most, LOCAL), np.nan)
    sigma = noise(flat.flux)
    for i, one in enumerate(found[:most]):
        whole[i : i + 1], local[3 * i : 3 * i + 3] = views(
            flat.time, flat.flux, one.period, one.epoch, one.duration, sigma
        )
    return whole, local


class TransitCandidates:
    """Any source of light curves, with its best transit candidates as columns; a Source.

    ``of`` names the source (``{ name = "transits", ... }``, or ``{ name = "files", path = ... }`` for Kepler and TESS)
    and ``column`` its light curve or evenly sampled series; where it is not given, the only one. Light curves are
    averaged to ``cadence_minutes``, made flat by a running biweight of ``window`` days, and searched by box least
    squares from ``shortest`` to ``longest`` days (half of the light curve if not given).

    ``orbit`` [candidate, 201] and ``transit`` [3 candidate, 61] are the views of ``gsnn.data.fold``; scalars tell of
    the best candidate. A star that cannot be searched is quarantined.
    """

    parts = {"of": "source"}

    def __init__(
        self,
        *,
        of: dict[str, Any],
        column: str | None = None,
        candidates: int = 3,
        cadence_minutes: float = 30.0,
        window: float = 1.0,
        shortest: float = 0.6,
        longest: float | None = None,
    ):
        if candidates < 1 or window <= 0 or cadence_minutes <= 0:
            raise ConfigError(f"needs at least one candidate, not {candidates}", ("candidates",))
        self.source = build(of, "source", path=("of",))
        inner = self.source.schema()
        curves = [c for c in inner.columns if c.kind == "light_curve" or (c.kind == "series" and len(c.shape) == 1)]
        chosen = [c for c in curves if column in (None, c.name)]
        if len(chosen) != 1:
            names = ", ".join(repr(c.name) for c in curves) or "none"
            raise ConfigError(f"needs the name of one light curve or series; the source has {names}", ("column",))
        self.column, self.most = chosen[0], candidates
        self.cadence, self.window, self.shortest, self.longest = cadence_minutes / 1440, window, shortest, longest

    def schema(self) -> Schema:
        inner, k = self.source.schema(), self.most
        return Schema.of(
            (
                *inner.columns,
                Column("orbit", "series", shape=(k, GLOBAL), description="folded flux over noise, one a candidate"),
                Column("transit", "series", shape=(3 * k, LOCAL), description="near transit: all, odd, even orbits"),
                *(Column(name, "scalar", unit=unit, description=text) for name, unit, text in FACTS),
            ),
            **inner.provenance,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.source)

    def curves(self, batch: pa.RecordBatch) -> list[Even]:
        """The light curves of a batch on even grids."""
        values = batch.column(self.column.name)
        if self.column.kind == "light_curve":
            return [even(c.time, c.flux / np.median(c.flux), self.cadence) for c in LightCurves.from_arrow(values)]
        flux = np.asarray(values.flatten()).reshape(len(batch), -1).astype(float)
        step = self.column.cadence or self.cadence
        whole = [Even(0.0, step, one) for one in flux]
        return whole if step > 0.75 * self.cadence else [even(one.time, one.flux, self.cadence) for one in whole]

    def judged(self, curve: Even) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
        """Facts and views of one light curve."""
        flat = flattened(curve, window=self.window)
        found = search(flat, shortest=self.shortest, longest=self.longest, candidates=self.most)
        return facts(flat, found[0]), *seen(flat, found, self.most)

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        inner = self.source.rows(indices, seed)
        reasons = inner.column(QUARANTINE).to_pylist() if QUARANTINE in inner.schema.names else [None] * len(inner)
        blank = {name: np.nan for name, _, _ in FACTS}
        none = (np.full((self.most, GLOBAL), np.nan), np.full((3 * self.most, LOCAL), np.nan))
        told, wholes, locals_ = [], [], []
        for i in range(len(inner)):
            fact, whole, local = blank, *none
            if reasons[i] is None:
                try:
                    (curve,) = self.curves(inner.slice(i, 1))
                    fact, whole, local = self.judged(curve)
                except GsnnError as error:
                    reasons[i] = str(error)
            told.append(fact)
            wholes.append(whole)
            locals_.append(local)
        schema = self.schema()
        arrays = [inner.column(c.name) for c in self.source.schema().columns]
        arrays += [_fixed(wholes, self.most * GLOBAL), _fixed(locals_, 3 * self.most * LOCAL)]
        arrays += [pa.array([fact[name] for fact in told], pa.float32(), from_pandas=False) for name, _, _ in FACTS]
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema.arrow())
        if any(reasons):
            batch = batch.append_column(QUARANTINE, pa.array(reasons, pa.string()))
        return batch


def _fixed(values: list[Float64[np.ndarray, "channel bin"]], size: int) -> pa.FixedSizeListArray:
    flat = np.concatenate([v.ravel() for v in values]) if values else np.empty(0)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.astype(np.float32)), size)
