"""What every baseline shares: a matrix of numbers from a view, tuning on validation, and an honest clock.

A baseline is what a sceptic would have done instead of a network: tuned on the validation split as its advocates would
tune it, never shown the test split, and charged for its CPU time.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from ..data.light_curves import LightCurves
from ..data.points import Points
from ..data.schema import DENSE, UNEQUAL, Column, Schema
from ..errors import GsnnError

if TYPE_CHECKING:
    from ..data.survey import View
    from ..evaluation.distributions import Distribution

CHUNK = 256  # objects whose dense columns are in memory at once
CURVES = 2048  # objects whose light curves are measured together
THREADS = 1  # of OpenMP and BLAS: on a shared machine two that wait for each other cost 20 times the CPU of one
PERIODS = ("true_period", "period", "p")  # scalar inputs at which light curves are folded, the first that there is
LARGEST = 1e30  # scikit-learn's trees work in float32


class Table(NamedTuple):
    """Features (NaN = missing) and the targets of the objects whose target is known."""

    x: Float[np.ndarray, "object feature"]
    y: np.ndarray  # float values, or int64 class indices


class Baseline:
    """Subclasses say how a table is fitted (``tune``), answered (``distribution``) and told (``describe``)."""

    images = "statistics"  # how images become numbers: "statistics" or "pixels"

    def __init__(self, inputs: Schema, target: Column, *, colours: bool = True):
        self.inputs, self.target, self.colours = inputs, target, colours
        self.seconds = 0.0
        self.name = type(self).__name__.lower()
        if target.kind not in ("label", "scalar"):
            raise GsnnError(
                f"baseline {self.name}: the target {target.name!r} is a {target.kind}; "
                "baselines answer a label or a scalar, so name such a target or leave the baseline out"
            )
        if self.labels and len(target.classes) < 2:
            raise GsnnError(
                f"baseline {self.name}: the target {target.name!r} has {len(target.classes)} class(es); "
                "a question needs at least two, so look at the labels of the survey"
            )

    @property
    def labels(self) -> bool:
        return self.target.kind == "label"

    def fit(self, train: View, valid: View, seed: int) -> None:
        """Fit on ``train`` with every setting chosen on ``valid``; rows of unknown target are left out of both."""
        from threadpoolctl import threadpool_limits

        start = cpu_seconds()
        with threadpool_limits(THREADS):
            tables = [self.table(view, split) for view, split in ((train, "training"), (valid, "validation"))]
            self.objects = len(tables[0].y)
            self.tune(*tables, seed)
        self.seconds = cpu_seconds() - start

    def predict(self, view: View) -> dict[str, Distribution]:
        """The prediction for every row of ``view``, in its order and in native units."""
        from threadpoolctl import threadpool_limits

        if not hasattr(self, "objects"):
            raise GsnnError(f"baseline {self.name}: it has to be fitted before it predicts")
        with threadpool_limits(THREADS):
            x = self.matrix(view)
            if len(x) == 0:  # scikit-learn refuses an empty table
                return {self.target.name: self.distribution(np.zeros((1, x.shape[1]))).take(np.arange(0))}
            return {self.target.name: self.distribution(x)}

    def table(self, view: View, split: str) -> Table:
        y = view.columns([self.target.name])[self.target.name]
        known = np.flatnonzero(y >= 0 if self.labels else np.isfinite(y))
        if len(known) == 0:
            raise GsnnError(
                f"baseline {self.name}: no row of the {split} split has a known {self.target.name!r}; "
                "give more objects, or a larger fraction of the split"
            )
        y = y[known].astype(np.int64 if self.labels else np.float64)
        if split == "training" and self.labels and len(np.unique(y)) < 2:
            raise GsnnError(
                f"baseline {self.name}: every row of the training split is {self.target.classes[y[0]]!r}; "
                f"at least two classes of {self.target.name!r} are needed"
            )
        return Table(self.matrix(view.take(known)), y)

    def matrix(self, view: View) -> Float[np.ndarray, "object feature"]:
        return features(view, self.inputs, images=self.images, colours=self.colours)[0]

    def tune(self, train: Table, valid: Table, seed: int) -> None:
        raise NotImplementedError

    def distribution(self, x: Float[np.ndarray, "object feature"]) -> Distribution:
        raise NotImplementedError

    def describe(self) -> str:
        """One sentence with the settings that were chosen."""
        raise NotImplementedError


def cpu_seconds() -> float:
    """CPU time of this process with all its threads, and of its finished children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def features(
    view: View, inputs: Schema, *, images: str = "statistics", colours: bool = True
) -> tuple[Float[np.ndarray, "object feature"], list[str]]:
    """The inputs of ``view`` as a matrix of float64 and the names of its columns, read in chunks.

    Scalars stand as they are (missing = NaN) and labels as class indices. With ``colours``, each pair of neighbouring
    magnitudes (scalars whose unit is mag and that are not errors) adds its difference. Images become the statistics
    of ``gsnn.baselines.statistics`` or ``gsnn.baselines.rings``, or the pixels of their centre; light curves those of
    ``gsnn.baselines.light_curves``, points those of ``gsnn.baselines.points``; other dense columns become 64
    local means.
    """
    used = [c for c in inputs.columns if c.kind in ("scalar", "label", *UNEQUAL, *DENSE)]
    if not used:
        raise GsnnError(
            f"a baseline finds no usable inputs in {', '.join(map(repr, inputs)) or 'an empty list'}; "
            "name scalars, labels, images, spectra, light curves or graphs in [data] inputs"
        )
    parts, names = [], []
    for column in used:
        if column.kind in DENSE:
            part, own = _dense(view, column, images)
        elif column.kind == "light_curve":
            part, own = _curves(view, column, inputs)
        elif column.kind == "graph":
            part, own = _points(view, column)
        else:
            values = view.columns([column.name])[column.name].astype(np.float64)
            missing = (values < 0) if column.kind == "label" else ~np.isfinite(values)
            part, own = np.where(missing, np.nan, values)[:, None], [column.name]
        parts.append(part)
        names += own
    if colours:
        bands = [c.name for c in used if c.kind == "scalar" and "mag" in c.unit.lower() and "err" not in c.name.lower()]
        for blue, red in pairwise(bands):
            parts.append(parts[_place(used, blue)] - parts[_place(used, red)])
            names.append(f"{blue} - {red}")
    return np.clip(np.concatenate(parts, 1), -LARGEST, LARGEST), names


def _place(columns: Sequence[Column], name: str) -> int:
    return next(i for i, column in enumerate(columns) if column.name == name)


def _dense(view: View, column: Column, images: str) -> tuple[Float[np.ndarray, "object feature"], list[str]]:
    reduce = _local_means
    if column.kind == "image" and len(column.shape) == 3:
        if images == "statistics":
            from .statistics import statistics as reduce
        elif images == "rings":
            from .rings import rings as reduce
        else:
            from .statistics import central_pixels as reduce
    parts, names = [], []
    for chunk in view.chunks([column.name], CHUNK):
        part, names = reduce(chunk[column.name])
        parts.append(part)
    if not parts:
        part, names = reduce(np.zeros((1, *column.shape), column.dtype))
        parts = [part[:0]]
    matrix = np.concatenate(parts).astype(np.float64)
    matrix[~np.isfinite(matrix)] = np.nan
    return matrix, [f"{column.name}.{name}" for name in names]


def _curves(view: View, column: Column, inputs: Schema) -> tuple[Float[np.ndarray, "object feature"], list[str]]:
    """Statistics of light curves; magnitudes are folded at the first input of ``PERIODS``, or at a period found."""
    from .light_curves import statistics

    scalars = {c.name.lower(): c.name for c in inputs.of_kind("scalar")}
    period = next((scalars[name] for name in PERIODS if name in scalars), None)
    parts, names = [], []
    for chunk in view.chunks([column.name, *([period] if period else [])], CURVES):
        part, names = statistics(chunk[column.name], column, chunk[period].astype(np.float64) if period else None)
        parts.append(part)
    if not parts:
        _, names = statistics(LightCurves.of([]), column, np.empty(0) if period else None)
        parts = [np.empty((0, len(names)))]
    matrix = np.concatenate(parts).astype(np.float64)
    matrix[~np.isfinite(matrix)] = np.nan
    return matrix, [f"{column.name}.{name}" for name in names]


def _points(view: View, column: Column) -> tuple[Float[np.ndarray, "object feature"], list[str]]:
    from .points import statistics

    none = Points.of([], column.size, len(column.bands))
    parts, names = [np.empty((0, len(statistics(none, column)[1])))], statistics(none, column)[1]
    parts += [statistics(chunk[column.name], column)[0] for chunk in view.chunks([column.name], CHUNK)]
    return np.concatenate(parts), [f"{column.name}.{name}" for name in names]


def _local_means(values: np.ndarray, most: int = 64) -> tuple[Float[np.ndarray, "object feature"], list[str]]:
    """At most 64 means of neighbouring values (NaN where all are missing)."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    edges = np.linspace(0, flat.shape[1], min(most, flat.shape[1]) + 1).astype(int)[:-1]
    valid = np.isfinite(flat)
    total = np.add.reduceat(np.where(valid, flat, 0), edges, 1)
    count = np.add.reduceat(valid.astype(float), edges, 1)
    with np.errstate(invalid="ignore"):
        return total / count, [f"mean_{i}" for i in range(len(edges))]


def grid(**axes: Sequence[Any]) -> list[dict[str, Any]]:
    """Every combination of the values of the axes."""
    return [dict(zip(axes, values)) for values in product(*axes.values())]


def choose(candidates: Sequence[dict[str, Any]], score: Callable[[dict[str, Any]], float]) -> dict[str, Any]:
    """The candidate of the lowest score; the first of equals."""
    return min(candidates, key=score)


def log_loss(p: Float[np.ndarray, "object class"], y: Int64[np.ndarray, " object"]) -> float:
    """Mean of -log p(truth), in nats."""
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean())


def spread(
    p: Float[np.ndarray, "object present"], present: Int64[np.ndarray, " present"], classes: int, objects: int
) -> Float[np.ndarray, "object class"]:
    """Probabilities of the classes seen in training, put in their places among all classes.

    Mixed with the uniform distribution as if each class had been seen once more (Laplace's rule of succession), so
    that a class absent from ``objects`` training rows is improbable, not impossible.
    """
    full = np.zeros((len(p), classes))
    full[:, present] = p
    full = (objects * full + 1) / (objects + classes)
    return full / full.sum(1, keepdims=True)


def categorical(p: Float[np.ndarray, "object class"], target: Column) -> Distribution:
    from ..evaluation.distributions import Categorical

    return Categorical(p, target.classes)
