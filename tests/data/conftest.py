"""A small sky in memory, any column of which a test may replace."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gsnn.data.schema import DENSE, Column, Schema
from gsnn.data.source import QUARANTINE
from gsnn.data.survey import Survey


class Toy:
    """A source of given columns: {Column: values}. ``bad`` are reasons by row."""

    def __init__(self, columns: dict[Column, Iterable], bad: dict[int, str] | None = None):
        self.columns, self.bad = columns, bad or {}

    def schema(self) -> Schema:
        return Schema.of(self.columns, origin="a test")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def rows(self, indices: np.ndarray, seed: int) -> pa.RecordBatch:
        arrays = []
        for column, values in self.columns.items():
            if column.kind in DENSE:
                flat = pa.array(np.ascontiguousarray(values[indices]).reshape(-1))
                arrays.append(pa.FixedSizeListArray.from_arrays(flat, column.size))
            elif column.kind == "light_curve":
                arrays.append(values.take(indices).to_arrow())
            else:
                arrays.append(pa.array([values[i] for i in indices], column.arrow_type()))
        schema = self.schema().arrow()
        if self.bad:
            arrays.append(pa.array([self.bad.get(int(i)) for i in indices], pa.string()))
            schema = schema.append(pa.field(QUARANTINE, pa.string()))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def columns(n: int, first: int = 0, size: int = 4) -> dict[Column, list | np.ndarray]:
    """Columns of ``n`` objects whose values follow from their ids alone."""
    numbers = np.arange(first, first + n)
    images = np.stack([np.random.default_rng(int(k)).normal(size=(2, size, size)) for k in numbers]).astype(np.float32)
    values = np.stack([np.random.default_rng(int(k) + 10**6).normal(size=3) for k in numbers])
    return {
        Column("id", "id"): [f"o{k}" for k in numbers],
        Column("image", "image", unit="nJy", bands=("g", "r"), shape=(2, size, size)): images,
        Column("g", "scalar", unit="mag", dtype="float64"): (20 + values[:, 0]).tolist(),
        Column("r", "scalar", unit="mag", dtype="float64"): (19 + values[:, 1]).tolist(),
        Column("count", "scalar", dtype="int64"): [None if k % 7 == 3 else int(k) for k in numbers],
        Column("kind", "label", classes=("disk", "smooth"), dtype="int64"): [
            ["disk", "smooth", None][k % 3] for k in numbers
        ],
        Column("ra", "position", unit="deg", dtype="float64"): (numbers * 137.50776 % 360).tolist(),
        Column("dec", "position", unit="deg", dtype="float64"): np.degrees(np.arcsin(np.sin(numbers * 1.7))).tolist(),
    }


@pytest.fixture
def toy() -> type[Toy]:
    return Toy


@pytest.fixture
def sky() -> Callable[..., dict[Column, Iterable]]:
    return columns


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Survey]:
    """``make(columns)``: a survey of these columns in a folder of its own."""
    made = []

    def create(content: dict[Column, Iterable], bad: dict[int, str] | None = None, **options: Any) -> Survey:
        made.append(Survey.create(tmp_path / f"survey-{len(made)}", Toy(content, bad), **options))
        return made[-1]

    return create
