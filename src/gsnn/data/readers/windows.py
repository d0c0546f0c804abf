"""Recorded strain as rows: overlapping windows of whitened strain, as the networks were trained on. A Source."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float64, Int64
from pydantic import Field

from ...errors import ConfigError, GsnnError
from ..schema import Column, Schema
from ..source import QUARANTINE
from ..strain import density, resample, whiten
from .gwosc import Strain, read_strain

STRETCH = 4.0  # s, of the periodograms that measure the noise
EDGE = 1.0  # s at the ends of a record, and around a gap, that whitening spoils


class StrainWindows:
    """The record of each detector in the files ``path``, cut into windows of ``seconds`` that begin every ``step`` s.

    Records are brought to ``rate``, whitened by the noise that is measured in themselves (median of periodograms of
    4 s) between ``low`` Hz and 0.4 ``rate``, and cut to the time that all of them cover. ``detectors`` says which, in
    the order in which a network knows them. A window that touches a gap, or seconds whose data-quality flags forbid
    them, is set aside with the reason; so is one at the ends, where whitening lacks its surroundings.
    """

    def __init__(
        self,
        *,
        path: str | list[str],
        detectors: Annotated[tuple[str, ...], Field(min_length=1)] = ("H1", "L1"),
        rate: Annotated[int, Field(ge=256, le=16384)] = 1024,
        seconds: Annotated[float, Field(gt=0)] = 1.0,
        step: Annotated[float, Field(gt=0)] = 0.25,
        low: Annotated[float, Field(ge=10)] = 30.0,
    ):
        paths = [path] if isinstance(path, str) else path
        records = {one.detector: one for some in paths for one in read_strain(some)}
        for name in detectors:
            if name not in records:
                raise ConfigError(f"no file holds strain of {name}; they hold {', '.join(records)}", ("detectors",))
        self.detectors, self.rate, self.seconds, self.low = tuple(detectors), rate, seconds, low
        used = [records[name] for name in detectors]
        self.notes = [note for one in used for note in one.notes]
        self.start, self.white, self.density = _together(used, rate, low)
        self.length, self.stride = round(seconds * rate), max(round(step * rate), 1)
        if self.white.shape[1] < self.length:
            raise GsnnError(
                f"the files share {self.white.shape[1] / rate:g} s of strain and a window needs {seconds:g} s; "
                "bring records of the same time"
            )

    def schema(self) -> Schema:
        shape = (len(self.detectors), self.length)
        strain = Column(
            "strain", "strain", bands=self.detectors, shape=shape, time_unit="s", cadence=1 / self.rate,
            description="whitened",
        )  # fmt: skip
        gps = Column("gps", "scalar", unit="s", dtype="float64", description="GPS second at which the window begins")
        return Schema.of((Column("id", "id"), strain, gps), reader="gsnn.data.readers.windows", notes=self.notes)

    def __len__(self) -> int:
        return 1 + (self.white.shape[1] - self.length) // self.stride

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int = 0) -> pa.RecordBatch:
        """The windows of these indices. Raises GsnnError beyond the record."""
        indices = np.asarray(indices, np.int64)
        if ((indices < 0) | (indices >= len(self))).any():
            raise GsnnError(f"row {indices.max()} is none: the record has windows 0 to {len(self) - 1}")
        first = indices * self.stride
        cut = self.white.numpy()[:, first[:, None] + np.arange(self.length)].transpose(1, 0, 2)
        bad = ~np.isfinite(cut).all((1, 2))
        flat = pa.array(np.ascontiguousarray(cut, np.float32).reshape(-1))
        gps = self.start + first / self.rate
        columns = [
            pa.array([f"{'-'.join(self.detectors)}-{time:.3f}" for time in gps], pa.string()),
            pa.FixedSizeListArray.from_arrays(flat, len(self.detectors) * self.length),
            pa.array(gps),
        ]
        schema = self.schema().arrow()
        if bad.any():
            reason = "the window touches a gap, flagged seconds or the end of the record"
            columns.append(pa.array([reason if one else None for one in bad], pa.string()))
            schema = schema.append(pa.field(QUARANTINE, pa.string()))
        return pa.RecordBatch.from_arrays(columns, schema=schema)


def _together(
    records: list[Strain], rate: int, low: float
) -> tuple[float, Float64[torch.Tensor, "detector time"], Float64[torch.Tensor, "detector frequency"]]:
    """The GPS second at which all have begun, the whitened strain from there on, and densities every 1 / STRETCH Hz."""
    start = max(one.start for one in records)
    end = min(one.start + one.seconds for one in records)
    if end <= start:
        times = ", ".join(f"{one.detector} from {one.start:.0f} for {one.seconds:.0f} s" for one in records)
        raise GsnnError(f"the records share no time ({times}); bring files of the same GPS seconds")
    whites, densities = [], []
    for one in records:
        values = resample(torch.from_numpy(one.values), one.rate, rate)
        power = density(values, rate, STRETCH)
        white = whiten(values, power, 1 / STRETCH, rate, low, 0.4 * rate)
        first = round((start - one.start) * rate)
        whites.append(_spoilt(white, round(EDGE * rate))[first : first + int((end - start) * rate)])
        densities.append(power)
    return start, torch.stack(whites), torch.stack(densities)


def _spoilt(white: Float64[torch.Tensor, " time"], reach: int) -> Float64[torch.Tensor, " time"]:
    """Missing within ``reach`` samples of what is missing, and of both ends."""
    bad = torch.nn.functional.pad((~torch.isfinite(white)).float()[None, None], (reach, reach), value=1.0)
    wide = torch.nn.functional.max_pool1d(bad, 2 * reach + 1, 1)[0, 0] > 0
    return torch.where(wide, torch.nan, white)
