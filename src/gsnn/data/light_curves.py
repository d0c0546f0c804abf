"""Light curves: observations of an object at irregular times, in several bands, with errors.

In Arrow, and so in a survey, a light curve is a struct of four lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Float64, Int64, UInt8

from .unequal import Unequal

ARROW = pa.struct(
    {
        "time": pa.list_(pa.float64()),
        "flux": pa.list_(pa.float32()),
        "flux_error": pa.list_(pa.float32()),
        "band": pa.list_(pa.uint8()),
    }
)


class LightCurve(NamedTuple):
    """The observations of one object. Times count from the epoch of the column; ``band`` indexes its bands."""

    time: Float64[np.ndarray, " step"]
    flux: Float32[np.ndarray, " step"]
    flux_error: Float32[np.ndarray, " step"]
    band: UInt8[np.ndarray, " step"]


@dataclass(frozen=True)
class LightCurves(Unequal):
    """The light curves of many objects; object i has the observations ``offsets[i]`` to ``offsets[i + 1] - 1``."""

    time: Float64[np.ndarray, " observation"]
    flux: Float32[np.ndarray, " observation"]
    flux_error: Float32[np.ndarray, " observation"]
    band: UInt8[np.ndarray, " observation"]
    offsets: Int64[np.ndarray, " object1"]

    fields: ClassVar = LightCurve._fields

    def __getitem__(self, place: int) -> LightCurve:
        place = range(len(self))[place]
        some = slice(self.offsets[place], self.offsets[place + 1])
        return LightCurve(self.time[some], self.flux[some], self.flux_error[some], self.band[some])

    def __iter__(self) -> Iterator[LightCurve]:
        return (self[place] for place in range(len(self)))

    @classmethod
    def of(cls, curves: Iterable[Sequence[np.ndarray]]) -> LightCurves:
        """From one (time, flux, flux_error, band) an object, sorted by time; an observation without a flux is none."""
        columns: list[list[np.ndarray]] = [[], [], [], []]
        lengths = [0]
        for curve in curves:
            time, flux, error, band = (np.asarray(part) for part in curve)
            known = np.isfinite(flux)
            order = np.flatnonzero(known)[np.argsort(time[known], kind="stable")]
            for column, part, dtype in zip(columns, (time, flux, error, band), _DTYPES):
                column.append(part[order].astype(dtype))
            lengths.append(len(order))
        flat = [np.concatenate(c) if c else np.empty(0, d) for c, d in zip(columns, _DTYPES)]
        return cls(*flat, np.cumsum(lengths).astype(np.int64))

    def to_arrow(self) -> pa.StructArray:
        """A column of a record batch."""
        offsets = pa.array(self.offsets.astype(np.int32))
        lists = [
            pa.ListArray.from_arrays(offsets, pa.array(getattr(self, name), ARROW.field(name).type.value_type))
            for name in LightCurve._fields
        ]
        return pa.StructArray.from_arrays(lists, fields=list(ARROW))

    @classmethod
    def from_arrow(cls, column: pa.StructArray | pa.ChunkedArray) -> LightCurves:
        """From such a column; an object whose light curve is missing has no observation."""
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        lists = [column.field(name) for name in LightCurve._fields]
        lengths = np.asarray(lists[0].value_lengths().fill_null(0))
        flat = [part.flatten().to_numpy(zero_copy_only=False).astype(d) for part, d in zip(lists, _DTYPES)]
        return cls(*flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def faults(self, bands: int) -> list[str | None]:
        """Why each object cannot be used, or None; ``bands`` is how many its column has."""
        reasons: list[str | None] = [None if n else "the light curve has no observation" for n in self.lengths]
        owner = self.object
        inside = owner[1:] == owner[:-1] if len(owner) else np.empty(0, bool)
        order = np.lexsort((self.time, self.band, owner))
        same = (owner[order][1:] == owner[order][:-1]) & (self.band[order][1:] == self.band[order][:-1])
        repeated = same & (np.diff(self.time[order]) == 0) if len(owner) else np.empty(0, bool)
        found = (
            (owner[self.band >= bands], "an observation is in a band that the survey does not have"),
            (owner[order][1:][repeated], "two observations in one band have the same time"),
            (owner[1:][inside & (np.diff(self.time) < 0)] if len(owner) else owner, "the times are not in order"),
            (owner[~(self.flux_error > 0)], "an error of the flux is not positive"),
            (owner[~np.isfinite(self.flux)], "a flux is not a number"),
            (owner[~np.isfinite(self.time)], "a time is not a number"),
        )
        for objects, reason in found:
            for one in np.unique(objects):
                reasons[one] = reason
        return reasons

    def since_first(self) -> Float32[np.ndarray, " observation"]:
        """Times since the object's first observation: float32 holds them where it does not hold Julian dates."""
        first = self.time[np.minimum(self.offsets[:-1], max(len(self.time) - 1, 0))] if len(self.time) else self.time
        return (self.time - np.repeat(first, self.lengths)).astype(np.float32)

    def parts(self) -> dict[str, np.ndarray]:
        """time (since the first), flux, flux_error and band [observation]."""
        return {**super().parts(), "time": self.since_first()}


_DTYPES = (np.float64, np.float32, np.float32, np.uint8)
