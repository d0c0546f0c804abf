"""A small sky in memory and the studies of it: everything that a whole run needs, in a second or two."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pyarrow as pa

from gsnn.data.light_curves import LightCurves
from gsnn.data.schema import DENSE, Column, Schema
from gsnn.data.source import QUARANTINE


class Rows:
    """A source of given columns, ``{Column: values}``. ``bad`` are reasons to set rows aside."""

    def __init__(self, columns: dict[Column, Any], bad: dict[int, str] | None = None):
        self.columns, self.bad = columns, bad or {}

    def schema(self) -> Schema:
        return Schema.of(self.columns, origin="a test")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def rows(self, indices: np.ndarray, seed: int = 0) -> pa.RecordBatch:
        arrays = []
        for column, values in self.columns.items():
            if column.kind in DENSE:
                flat = pa.array(np.ascontiguousarray(np.asarray(values)[indices]).reshape(-1))
                arrays.append(pa.FixedSizeListArray.from_arrays(flat, column.size))
            elif column.kind == "light_curve":
                arrays.append(values.take(indices).to_arrow())
            else:
                arrays.append(pa.array([values[int(i)] for i in indices], column.arrow_type()))
        schema = self.schema().arrow()
        if self.bad:
            arrays.append(pa.array([self.bad.get(int(i)) for i in indices], pa.string()))
            schema = schema.append(pa.field(QUARANTINE, pa.string()))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def table(n: int = 240, first: int = 0, leak: bool = False) -> dict[str, np.ndarray]:
    """Stars and quasars by two colours and a magnitude, and a redshift that follows from them; a value is missing."""
    random = np.random.default_rng(100 + first)
    g, r, i = (random.normal(mean, 1.0, n) for mean in (20.0, 19.5, 19.0))
    quasar = (g - r + 0.3 * random.normal(size=n)) > 0.5
    out = {
        "id": np.array([f"o{k}" for k in range(first, first + n)], object),
        "g": g,
        "r": r,
        "i": i,
        "redshift": np.exp(0.4 * (g - r) + 0.1 * random.normal(size=n)),
        "kind": np.where(quasar, "quasar", "star").astype(object),
    }
    if leak:
        out["score"] = quasar.astype(float)
    return out


def table_rows(n: int = 240, first: int = 0, leak: bool = False, **other: Any) -> Rows:
    """:func:`table` as a source with units; row 7 lacks a magnitude."""
    values = table(n, first, leak)
    kinds = {"id": Column("id", "id"), "kind": Column("kind", "label", classes=("quasar", "star"), dtype="int64")}
    columns = {}
    for name, given in values.items():
        unit = "mag" if name in ("g", "r", "i") else ""
        column = kinds.get(name, Column(name, "scalar", unit=unit, dtype="float64"))
        given = given.tolist()
        if name == "i":
            given[min(7, n - 1)] = None
        columns[column] = given
    return Rows(columns, **other)


def curves(n: int = 120, first: int = 0) -> tuple[LightCurves, list[str]]:
    """Fast and slow transients in two bands, of 5 to 40 observations each, and which they are."""
    out, kinds = [], []
    for k in range(first, first + n):
        random = np.random.default_rng(900 + k)
        slow, steps = bool(random.random() < 0.5), int(random.integers(5, 41))
        time = np.sort(random.uniform(56000, 56100, steps))
        band = random.integers(0, 2, steps)
        light = 30 * np.exp(-0.5 * ((time - 56050) / (25 if slow else 5)) ** 2) * (1 + 0.5 * band)
        error = random.uniform(1, 2, steps)
        out.append((time, light + error * random.normal(size=steps), error, band))
        kinds.append("slow" if slow else "fast")
    return LightCurves.of(out), kinds


def curve_rows(n: int = 120, first: int = 0, **other: Any) -> Rows:
    """:func:`curves` as a source."""
    light, kinds = curves(n, first)
    columns = {
        Column("id", "id"): [f"t{k}" for k in range(first, first + n)],
        Column("lc", "light_curve", unit="nJy", bands=("g", "r"), time_unit="d", epoch="MJD 0"): light,
        Column("kind", "label", classes=("fast", "slow"), dtype="int64"): kinds,
    }
    return Rows(columns, **other)


def pictures(
    n: int = 120, first: int = 0, side: int = 12, bands: tuple[str, ...] = ("g", "r")
) -> dict[str, np.ndarray]:
    """Round and edge-on blobs in noise, with the size and the S/N of each."""
    random = np.random.default_rng(500 + first)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    edge = np.arange(n) % 2 == 1
    width = random.uniform(1.2, 2.5, n)
    shape = np.exp(-0.5 * ((x / width[:, None, None]) ** 2 + (y / np.where(edge, 0.7, width)[:, None, None]) ** 2))
    flux = random.uniform(4, 12, n)
    images = flux[:, None, None, None] * shape[:, None] * np.ones((1, len(bands), 1, 1))
    images = images + random.normal(size=images.shape)
    return {
        "id": np.array([f"g{k}" for k in range(first, first + n)], object),
        "image": images.astype(np.float32),
        "snr": flux,
        "size": width,
        "shape": np.where(edge, "edge-on", "round").astype(object),
        "ra": (np.arange(first, first + n) * 137.50776) % 360,
        "dec": np.degrees(np.arcsin(np.sin(np.arange(first, first + n) * 1.7))),
    }


def picture_rows(
    n: int = 120, first: int = 0, side: int = 12, bands: tuple[str, ...] = ("g", "r"), unit: str = "nJy", **other: Any
) -> Rows:
    values = pictures(n, first, side, bands)
    image = Column("image", "image", unit=unit, bands=bands, shape=(len(bands), side, side), pixel_scale=0.2)
    columns: dict[Column, Any] = {Column("id", "id"): values["id"], image: values["image"]}
    columns[Column("snr", "scalar", dtype="float64")] = values["snr"]
    columns[Column("size", "scalar", unit="pixel", dtype="float64")] = values["size"]
    columns[Column("shape", "label", classes=("edge-on", "round"), dtype="int64")] = values["shape"]
    for name in ("ra", "dec"):
        columns[Column(name, "position", unit="deg", dtype="float64")] = values[name]
    return Rows(columns, **other)


TABLE: dict[str, Any] = {
    "question": "Is it a star or a quasar?",
    "schema": 1,
    "data": {
        "source": "files",
        "inputs": ["g", "r", "i"],
        "target": "kind",
        "split": {"by": "identity", "fractions": [0.6, 0.2, 0.2]},
    },
    "model": {"name": "mlp", "width": 16, "depth": 2},
    "objective": {"name": "classify"},
    "train": {"epochs": 3, "batch": 32, "learning_rate": 0.01, "precision": "float32"},
    "evaluate": {"baselines": ["prior", "logistic"], "resamples": 50},
    "explain": {"methods": ["occlusion"], "objects": 6},
}

MIXTURE: dict[str, Any] = {
    **TABLE,
    "question": "How far is it?",
    "data": {**TABLE["data"], "target": "redshift", "derive": {"g_r": "g - r"}, "inputs": ["g_r", "i"]},
    "objective": {"name": "regress", "loss": "mixture", "components": 2, "transform": "log"},
    "evaluate": {"baselines": ["prior", "linear"], "resamples": 50},
}

IMAGES: dict[str, Any] = {
    **TABLE,
    "question": "Is it seen edge-on?",
    "unit": "galaxies",
    "data": {
        "source": "files",
        "inputs": ["image"],
        "target": "shape",
        "split": {"by": "sky", "fractions": [0.6, 0.2, 0.2]},
        "augment": ["flip", "noise"],
    },
    "model": {"name": "cnn", "width": 4, "depth": 2},
    "evaluate": {"baselines": ["prior"], "resamples": 50, "by": ["snr"]},
    "explain": {"methods": ["saliency"], "objects": 6},
}

CURVES: dict[str, Any] = {
    **TABLE,
    "question": "Is this transient fast or slow?",
    "unit": "transients",
    "data": {
        "source": "files",
        "inputs": ["lc"],
        "target": "kind",
        "split": {"by": "identity", "fractions": [0.5, 0.2, 0.3]},
        "augment": [{"name": "drop-observations", "fraction": 0.3}],
    },
    "model": {"name": "rnn", "width": 8, "layers": 1},
    "objective": {"name": "classify-early"},
    "evaluate": {"baselines": ["prior"], "resamples": 50},
    "explain": {"methods": ["saliency"], "objects": 6},
}


def change(table: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A deep copy with values replaced, ``data__target="x"`` meaning ``table["data"]["target"]``."""
    new = copy.deepcopy(table)
    for path, value in changes.items():
        *sections, last = path.split("__")
        inner = new
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return new


def alike(found: Any, expected: Any) -> bool:
    """Equal but for rounding: sums over other numbers of columns may differ in their last digit."""
    if isinstance(expected, dict):
        return set(found) == set(expected) and all(alike(found[key], expected[key]) for key in expected)
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(alike, found, expected))
    if isinstance(expected, float):
        return bool(np.isclose(found, expected, rtol=1e-12, atol=1e-15, equal_nan=True))
    return found == expected
