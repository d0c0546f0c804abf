"""The objects that an audit looks at, and what it keeps of them: values, moments and thumbnails of images."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int8, Int64, UInt64

from . import duplicates
from .light_curves import LightCurves
from .order import Permutation
from .points import Points
from .schema import DENSE, UNEQUAL, Column
from .split import PARTS, Split
from .survey import Survey, View

_DENSE_BYTES = 512 << 20  # images read at most
MANY = 50  # columns that cost little (ids, labels) are looked at in this many times more rows
SNR = re.compile(r"(snr|s_n|s2n|sn_ratio|signal_to_noise)(_[a-z0-9]{1,2})?", re.I)


@dataclass
class Dense:
    """What is kept of an image, spectrum, series or light curve: moments of each object and band, and thumbnails."""

    mean: Float[np.ndarray, "n band"]
    std: Float[np.ndarray, "n band"]
    low: Float[np.ndarray, " n"]
    high: Float[np.ndarray, " n"]
    bad: Float[np.ndarray, " n"]  # fraction of values that are no number
    snr: Float[np.ndarray, " n"]
    thumbs: torch.Tensor | None


@dataclass
class Sample:
    """The objects looked at: their rows, part (0 train, 1 valid, 2 test) and values."""

    survey: Survey
    split: Split
    inputs: list[str]
    targets: list[str]
    names: list[str]
    rows: Int64[np.ndarray, " n"]
    part: Int8[np.ndarray, " n"]
    values: dict[str, np.ndarray]
    dense: dict[str, Dense]
    digests: UInt64[np.ndarray, " n"]
    labels: dict[str, tuple[np.ndarray, np.ndarray]]  # target -> codes and parts, in many more rows

    def scalars(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if self.survey.schema[name].kind in ("scalar", "position")]


def some(split: Split, limit: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """At most about ``limit`` rows, evenly by chance from each part, small parts favoured; sorted within a part."""
    sizes = [len(getattr(split, part)) for part in PARTS]
    total, rows, parts = max(sum(sizes), 1), [], []
    for code, (part, size) in enumerate(zip(PARTS, sizes)):
        k = size if total <= limit else min(size, max(limit * size // total, limit // 4))
        places = np.sort(Permutation(size, seed, "audit")(np.arange(k))) if k < size else np.arange(size)
        rows.append(np.asarray(getattr(split, part))[places])
        parts.append(np.full(k, code, np.int8))
    return np.concatenate(rows), np.concatenate(parts)


def look(
    survey: Survey, split: Split, inputs: list[str], targets: list[str], by: list[str], limit: int, seed: int
) -> Sample:
    schema = survey.schema
    names = list(dict.fromkeys([*inputs, *targets, *by]))
    snr = [c.name for c in schema.columns if c.kind == "scalar" and SNR.fullmatch(c.name) and c.name not in names]
    dense = [name for name in names if schema.column(name).kind in (*DENSE, *UNEQUAL)]
    row_bytes = sum(schema[name].size * np.dtype(schema[name].dtype).itemsize for name in dense)
    rows, part = some(split, min(limit, max(_DENSE_BYTES // max(row_bytes, 1), 500)), seed)
    plain = [name for name in [*names, *snr] if schema[name].kind not in (*DENSE, *UNEQUAL, "text", "id")]
    size = int(np.clip((16 << 20) // max(row_bytes, 1), 16, 4096))
    pieces: dict[str, list[Any]] = {name: [] for name in [*plain, *dense]}
    marks = []
    compared = [name for name in inputs if name in pieces]
    for chunk in View(survey, rows).chunks([*plain, *dense], size):
        marks.append(duplicates.digests(chunk, compared) if compared else np.arange(0, dtype=np.uint64))
        for name in plain:
            pieces[name].append(chunk[name])
        for name in dense:
            pieces[name].append(_reduced(chunk[name], schema[name]))
    values = {name: np.concatenate(pieces[name]) for name in plain}
    kept = {name: _joined(pieces[name]) for name in dense}
    labels, (more, their) = {}, some(split, limit * MANY, seed)
    for name in targets:
        if schema[name].kind == "label":
            chunks = View(survey, more).chunks([name], 1 << 16)
            labels[name] = np.concatenate([chunk[name] for chunk in chunks]), their
    return Sample(survey, split, inputs, targets, names, rows, part, values, kept, np.concatenate(marks), labels)


def _reduced(values: np.ndarray | LightCurves | Points, column: Column) -> Dense:
    if isinstance(values, LightCurves):
        return _curves(values, len(column.bands))
    return _points(values) if isinstance(values, Points) else _dense(values, column.kind)


def _dense(values: np.ndarray, kind: str) -> Dense:
    x = torch.tensor(values, dtype=torch.float32)
    x = x if x.ndim > 2 else x.unsqueeze(1)
    good = torch.isfinite(x)
    bad = 1 - good.flatten(1).float().mean(1)
    if not bool(good.all()):
        x = x.where(good, 0)
    flat = x.flatten(2)
    std, mean = torch.std_mean(flat, -1, correction=0)
    image = kind == "image" and x.ndim == 4
    parts = (
        mean,
        std,
        flat.amin((1, 2)),
        flat.amax((1, 2)),
        bad,
        _signal_to_noise(x) if image else torch.full_like(bad, torch.inf),
    )
    return Dense(*(part.numpy() for part in parts), duplicates.thumbnail(x) if image else None)


def _curves(curves: LightCurves, bands: int) -> Dense:
    """The same of light curves: mean and scatter in each band, S/N of the brightest or faintest observation."""
    n, bands = len(curves), max(bands, 1)
    place = curves.object * bands + np.minimum(curves.band, bands - 1)
    count = np.bincount(place, minlength=n * bands).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(place, curves.flux, n * bands) / count
        std = np.sqrt(np.maximum(np.bincount(place, curves.flux.astype(float) ** 2, n * bands) / count - mean**2, 0))
    low, high, snr = np.full(n, np.nan), np.full(n, np.nan), np.zeros(n)
    np.fmin.at(low, curves.object, curves.flux)
    np.fmax.at(high, curves.object, curves.flux)
    np.fmax.at(snr, curves.object, np.abs(curves.flux / curves.flux_error))
    bad = (curves.lengths == 0).astype(float)
    return Dense(mean.reshape(n, bands), std.reshape(n, bands), low, high, bad, snr, None)


def _points(points: Points) -> Dense:
    """The same of clouds: mean and scatter of each coordinate and feature over the points of an object."""
    values = np.concatenate([points.position, points.feature], 1).astype(float)
    n, width = len(points), values.shape[1]
    good = np.isfinite(values)
    values = np.where(good, values, 0)
    owner, count = points.object, np.maximum(points.lengths, 1)[:, None]
    mean, square = np.zeros((n, width)), np.zeros((n, width))
    np.add.at(mean, owner, values)
    np.add.at(square, owner, values**2)
    std = np.sqrt(np.maximum(square / count - (mean / count) ** 2, 0))
    low, high = np.full(n, np.nan), np.full(n, np.nan)
    np.fmin.at(low, owner, values.min(1))
    np.fmax.at(high, owner, values.max(1))
    bad = np.bincount(owner, ~good.all(1), n) / count[:, 0]
    return Dense(mean / count, std, low, high, np.where(points.lengths, bad, 1.0), np.full(n, np.inf), None)


def _signal_to_noise(x: torch.Tensor) -> torch.Tensor:
    """Flux of the central square over its noise, scaled from the median deviation of the frame; the best band's."""
    y, width = x.shape[-2:]
    edge = max(min(y, width) // 8, 1)
    frame = torch.cat([x[..., :edge, :].flatten(2), x[..., -edge:, :].flatten(2)], -1)
    sky = frame.median(-1).values
    noise = 1.4826 * (frame - sky[..., None]).abs().median(-1).values
    inner = x[..., 3 * y // 8 : -(-5 * y // 8), 3 * width // 8 : -(-5 * width // 8)].flatten(2) - sky[..., None]
    return (inner.sum(-1) / (noise * inner.shape[-1] ** 0.5)).nan_to_num(torch.inf).amax(1)


def _joined(pieces: list[Dense]) -> Dense:
    joined = [
        np.concatenate([getattr(p, name) for p in pieces]) for name in ("mean", "std", "low", "high", "bad", "snr")
    ]
    return Dense(*joined, None if pieces[0].thumbs is None else torch.cat([p.thumbs for p in pieces]))


def missing(sample: Sample, name: str) -> float:
    if name in sample.dense:
        return float(sample.dense[name].bad.mean())
    if name not in sample.values:
        return 0.0
    values = sample.values[name]
    return float((values < 0).mean() if values.dtype.kind == "i" else (~np.isfinite(values)).mean())


def class_counts(sample: Sample, name: str) -> dict[str, dict[str, int]]:
    codes, part = sample.labels[name]
    classes = sample.survey.schema[name].classes
    prefix = f"{name}: " if len(sample.labels) > 1 else ""
    return {
        prefix + label: {p: int(((codes == i) & (part == k)).sum()) for k, p in enumerate(PARTS)}
        for i, label in enumerate(classes)
    }
