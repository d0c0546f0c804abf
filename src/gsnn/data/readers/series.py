"""One long, evenly sampled series as objects: the values up to a date, and what came some steps after it. A Source."""

from __future__ import annotations

import re
from typing import Annotated

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64
from pydantic import Field

from ...errors import ConfigError, GsnnError
from ..schema import Column, Schema
from ..source import QUARANTINE

AHEAD = re.compile(r"ahead_(\d+)")
UNEVEN = 0.25  # of a step: months are 28 to 31 days


class Windows:
    """The column ``value`` of the table at ``path``, cut into windows of ``length`` steps, one for every origin.

    The origin is the last step of the window, and nothing after it stands in the window. The column ``origin`` holds
    its time, ``series`` the window, and ``ahead_h`` the value h steps after the origin, for each h of ``horizons``;
    it is missing where the table ends before, or has no value there. ``time`` must grow by equal steps (to a quarter
    of one). ``names`` names columns without a header, ``missing`` the numbers that stand for none. A window whose last
    value is missing is set aside.
    """

    def __init__(
        self,
        *,
        path: str | list[str] | None = None,
        time: str,
        value: str,
        length: Annotated[int, Field(ge=2)] = 180,
        horizons: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1,),
        names: list[str] | None = None,
        missing: list[float] | None = None,
        unit: str = "",
        time_unit: str = "",
    ):
        if path is None:
            raise ConfigError("a series needs a table: name it by path, or by --data", ("path",))
        from . import read

        table = read(path, names=names, missing=missing)
        schema = table.schema()
        rows = table.rows(np.arange(len(table)), 0)
        self.time, self.values = (
            rows.column(schema.column(name).name).to_numpy(zero_copy_only=False).astype(np.float64)
            for name in (time, value)
        )
        self.step = _even(self.time, time)
        self.length, self.horizons = length, tuple(sorted(set(horizons)))
        self.unit, self.time_unit, self.named = unit or schema[value].unit, time_unit, (time, value)
        if len(self.values) < length + 1:
            raise GsnnError(f"the series has {len(self.values)} steps and a window needs {length}; make length smaller")

    def schema(self) -> Schema:
        series = Column(
            "series", "series", unit=self.unit, shape=(self.length,), time_unit=self.time_unit, cadence=self.step,
            description=f"{self.named[1]} up to the origin",
        )  # fmt: skip
        origin = Column("origin", "scalar", dtype="float64", unit=self.time_unit, description=self.named[0])
        ahead = [
            Column(f"ahead_{h}", "scalar", unit=self.unit, description=f"{self.named[1]} {h} steps after the origin")
            for h in self.horizons
        ]
        return Schema.of((Column("id", "id"), series, origin, *ahead), reader="gsnn.data.readers.series")

    def __len__(self) -> int:
        return len(self.values) - self.length + 1

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int = 0) -> pa.RecordBatch:
        """The windows of these indices, in the order of time. Raises GsnnError beyond the series."""
        indices = np.asarray(indices, np.int64)
        if ((indices < 0) | (indices >= len(self))).any():
            raise GsnnError(f"row {indices.max()} is none: the series has windows 0 to {len(self) - 1}")
        origin = indices + self.length - 1
        cut = self.values[indices[:, None] + np.arange(self.length)]
        padded = np.concatenate([self.values, np.full(self.horizons[-1], np.nan)])
        columns = [
            pa.array([f"{time:.4f}" for time in self.time[origin]], pa.string()),
            pa.FixedSizeListArray.from_arrays(pa.array(cut.astype(np.float32).reshape(-1)), self.length),
            pa.array(self.time[origin]),
            *(pa.array(padded[origin + h].astype(np.float32)) for h in self.horizons),
        ]
        schema = self.schema().arrow()
        bad = ~np.isfinite(cut[:, -1])
        if bad.any():
            columns.append(pa.array(["the value at the origin is missing" if b else None for b in bad], pa.string()))
            schema = schema.append(pa.field(QUARANTINE, pa.string()))
        return pa.RecordBatch.from_arrays(columns, schema=schema)


def steps_ahead(target: Column) -> int:
    """How many steps after the origin the value of a target stands."""
    found = AHEAD.fullmatch(target.name)
    if not found:
        raise GsnnError(
            f"{target.name!r} does not say how many steps ahead it is; name it as the source 'windows' does, ahead_12"
        )
    return int(found[1])


def _even(time: Float64[np.ndarray, " step"], name: str) -> float:
    """The step of evenly spaced times; GsnnError where they are not."""
    steps = np.diff(time)
    typical = float(np.median(steps)) if len(steps) else 0.0
    if not typical > 0:
        raise GsnnError(f"the column {name!r} does not grow, so it is no time; sort the table by it")
    odd = np.flatnonzero(~(np.abs(steps - typical) <= UNEVEN * typical))
    if len(odd):
        raise GsnnError(
            f"the column {name!r} steps by {typical:.4g}, but by {steps[odd[0]]:.4g} after {time[odd[0]]:.6g}; a "
            "series needs equal steps, with missing values where nothing was measured"
        )
    return typical
