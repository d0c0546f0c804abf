"""New light curves in the bands of a survey or of a network: they are fixed there, and new files may name others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from .light_curves import LightCurves
from .schema import Schema
from .source import QUARANTINE, Source

_NONE = 255


class InBands:
    """A source whose observations are numbered by other bands; an object with one in none of them is set aside."""

    def __init__(self, source: Source, bands: dict[str, tuple[str, ...]]):
        self.source, self.bands = source, bands
        self.notes: list[str] = list(getattr(source, "notes", ()))
        given = source.schema()
        columns = [replace(c, bands=bands[c.name]) if c.name in bands else c for c in given.columns]
        self._schema = Schema(tuple(columns), given.provenance)
        self._given = given

    def schema(self) -> Schema:
        return self._schema

    def __len__(self) -> int:
        return len(self.source)

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int = 0) -> pa.RecordBatch:
        batch = self.source.rows(indices, seed)
        arrays = [batch.column(name) for name in self._schema]
        reasons: list[str | None] = [None] * batch.num_rows
        for name, bands in self.bands.items():
            place, given = list(self._schema).index(name), self._given[name].bands
            curves = LightCurves.from_arrow(arrays[place])
            table = np.full(256, _NONE, np.uint8)
            table[: len(given)] = [bands.index(band) if band in bands else _NONE for band in given]
            moved = replace(curves, band=table[curves.band])
            lost = np.flatnonzero((moved.band == _NONE) & (curves.band < len(given)))
            for one in lost[::-1]:
                known = ", ".join(bands)
                reasons[curves.object[one]] = (
                    f"an observation is in the band {given[curves.band[one]]!r}, not in one of {known}"
                )
            arrays[place] = moved.to_arrow()
        schema = self._schema.arrow()
        told = pa.array(reasons, pa.string())
        if QUARANTINE in batch.schema.names:
            told = pc.coalesce(batch.column(QUARANTINE), told)
        if told.null_count < len(told):
            arrays.append(told)
            schema = schema.append(pa.field(QUARANTINE, pa.string()))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def in_bands(source: Source, schema: Schema) -> Source:
    """``source`` with each light curve in the bands that ``schema`` has for it, where these differ."""
    mine = source.schema()
    bands = {
        column.name: column.bands
        for column in schema.of_kind("light_curve")
        if column.bands
        and column.name in mine
        and mine[column.name].kind == "light_curve"
        and mine[column.name].bands != column.bands
    }
    return InBands(source, bands) if bands else source
