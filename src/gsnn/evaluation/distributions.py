"""Predictions as distributions in native units: one contract for networks, baselines and ensembles.

Everything is numpy float64, the first dimension is objects. Every distribution has ``len``, ``take``, ``best`` and
``to_columns``; the continuous ones also ``mean``, ``quantile``, ``cdf``, ``pdf`` and ``log_pdf``, where ``x`` is
``[object]`` or ``[object, grid]`` and the answer has the same shape. ``proper`` says whether there is a density.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.special import logsumexp, ndtr, ndtri

from ..errors import GsnnError

LEVELS = np.arange(1, 100) / 100  # the quantiles that predictions.parquet keeps: <name>_q01 .. <name>_q99
CELLS = 4_000_000  # array elements evaluated at once


class Distribution:
    """What is predicted for each of n objects."""

    proper: ClassVar[bool] = True

    def __len__(self) -> int:
        raise NotImplementedError

    def take(self, positions: Int[ndarray, "n"]) -> Distribution:
        """The objects at ``positions``."""
        raise NotImplementedError

    def best(self) -> ndarray:
        """One answer an object: the class index, or the median."""
        raise NotImplementedError

    def to_columns(self, name: str) -> dict[str, ndarray]:
        """The columns that predictions.parquet holds for the target ``name``."""
        raise NotImplementedError


class Continuous(Distribution):
    """A distribution over the real line for each object; one that has ``cdf`` and a bracket needs nothing else."""

    def mean(self) -> Float[ndarray, "object"]:
        return self.expect(lambda x: x)

    def best(self) -> Float[ndarray, "object"]:
        return self.quantile(np.array([0.5]))[:, 0]

    def expect(self, function: Callable[[ndarray], ndarray]) -> Float[ndarray, "object"]:
        """The expectation of ``function(x)``, as the mean over 400 quantiles unless a subclass knows better."""
        return function(self.quantile((np.arange(400) + 0.5) / 400)).mean(1)

    def log_pdf(self, x: ndarray) -> ndarray:
        with np.errstate(divide="ignore"):
            return np.log(self.pdf(x))

    def to_columns(self, name: str) -> dict[str, ndarray]:
        values = self.quantile(np.r_[0.5, 0.16, 0.84, LEVELS])
        columns = {"prediction": values[:, 0], f"{name}_low": values[:, 1], f"{name}_high": values[:, 2]}
        return columns | {f"{name}_q{round(100 * q):02d}": values[:, 3 + i] for i, q in enumerate(LEVELS)}


@dataclass(frozen=True, eq=False)
class Categorical(Distribution):
    """Class probabilities. They must be non-negative and add up to 1 (within 0.1%); they are normalised exactly."""

    probabilities: Float[ndarray, "object class"]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        p = _array(self, "probabilities", 2)
        _set(self, classes=tuple(str(name) for name in self.classes))
        if p.shape[1] != len(self.classes) or not self.classes:
            raise GsnnError(f"Categorical: {p.shape[1]} columns of probabilities for {len(self.classes)} classes")
        total = p.sum(1, keepdims=True)
        if (p < -1e-6).any() or (abs(total - 1) > 1e-3).any():
            raise GsnnError("Categorical: probabilities must be non-negative and add up to 1 for every object")
        p = p.clip(0)
        _set(self, probabilities=p / p.sum(1, keepdims=True))

    def __len__(self) -> int:
        return len(self.probabilities)

    def take(self, positions: Int[ndarray, "n"]) -> Categorical:
        return Categorical(self.probabilities[positions], self.classes)

    def best(self) -> Int[ndarray, "object"]:
        return self.probabilities.argmax(1)

    def to_columns(self, name: str) -> dict[str, ndarray]:
        columns = {"prediction": np.array(self.classes, dtype=object)[self.best()]}
        return columns | {f"{label}_p": self.probabilities[:, i] for i, label in enumerate(self.classes)}


@dataclass(frozen=True, eq=False)
class Point(Continuous):
    """A single value an object, with no statement of its uncertainty."""

    value: Float[ndarray, "object"]
    proper: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _array(self, "value", 1)

    def __len__(self) -> int:
        return len(self.value)

    def take(self, positions: Int[ndarray, "n"]) -> Point:
        return Point(self.value[positions])

    def mean(self) -> Float[ndarray, "object"]:
        return self.value

    def best(self) -> Float[ndarray, "object"]:
        return self.value

    def quantile(self, q: Float[ndarray, "q"]) -> Float[ndarray, "object q"]:
        return np.repeat(self.value[:, None], len(q), 1)

    def cdf(self, x: ndarray) -> ndarray:
        x = np.asarray(x, float)
        return (x >= self.value.reshape(-1, *[1] * (x.ndim - 1))).astype(float)

    def pdf(self, x: ndarray) -> ndarray:
        raise GsnnError("a point prediction has no density; judge it by its values, or predict a distribution")

    def to_columns(self, name: str) -> dict[str, ndarray]:
        return {"prediction": self.value}


@dataclass(frozen=True, eq=False, init=False)
class Mixture(Continuous):
    """A mixture of Gaussians; a Gaussian is a mixture of one. Components of weight 0 are allowed (padding)."""

    weight: Float[ndarray, "object component"]
    centre: Float[ndarray, "object component"]
    sigma: Float[ndarray, "object component"]

    def __init__(self, weight: ndarray, mean: ndarray, sigma: ndarray):
        _set(self, weight=weight, centre=mean, sigma=sigma)
        w, m, s = (_array(self, name, 2) for name in ("weight", "centre", "sigma"))
        if not w.shape == m.shape == s.shape or w.shape[1] == 0:
            raise GsnnError(f"Mixture: weight {w.shape}, mean {m.shape} and sigma {s.shape} need one shape")
        if (w < 0).any() or (abs(w.sum(1) - 1) > 1e-3).any():
            raise GsnnError("Mixture: weights must be non-negative and add up to 1 for every object")
        if not (s > 0).all():
            raise GsnnError("Mixture: every sigma must be positive")
        _set(self, weight=w / w.sum(1, keepdims=True))

    def __len__(self) -> int:
        return len(self.weight)

    def take(self, positions: Int[ndarray, "n"]) -> Mixture:
        return Mixture(self.weight[positions], self.centre[positions], self.sigma[positions])

    def mean(self) -> Float[ndarray, "object"]:
        return (self.weight * self.centre).sum(1)

    def expect(self, function: Callable[[ndarray], ndarray]) -> Float[ndarray, "object"]:
        """By Gauss-Hermite quadrature of 15 nodes in every component."""
        node, weight = np.polynomial.hermite_e.hermegauss(15)
        value = function(self.centre[..., None] + self.sigma[..., None] * node)
        return (self.weight[..., None] * value * weight / weight.sum()).sum((1, 2))

    def cdf(self, x: ndarray) -> ndarray:
        return self._sum(x, lambda u, w, s: (w * ndtr(u)).sum(-1))

    def pdf(self, x: ndarray) -> ndarray:
        return self._sum(x, lambda u, w, s: (w / s * np.exp(-0.5 * u * u)).sum(-1)) / np.sqrt(2 * np.pi)

    def log_pdf(self, x: ndarray) -> ndarray:
        return self._sum(x, lambda u, w, s: logsumexp(-0.5 * u * u - np.log(s), b=w, axis=-1)) - 0.5 * np.log(2 * np.pi)

    def _sum(self, x: ndarray, term: Callable[..., ndarray]) -> ndarray:
        x = _on_objects(self, x)
        flat, out = x.reshape(len(x), -1), np.empty((len(x), x[:1].size))
        for some in _blocks(len(x), flat.shape[1] * self.weight.shape[1]):
            w, m, s = (a[some, None, :] for a in (self.weight, self.centre, self.sigma))
            out[some] = term((flat[some, :, None] - m) / s, w, s)
        return out.reshape(x.shape)

    def quantile(self, q: Float[ndarray, "q"]) -> Float[ndarray, "object q"]:
        """Newton's method inside a bracket, to 1e-10 in probability.

        The quantile of a mixture lies between the smallest and the largest quantile of its components.
        """
        q = _probabilities(q)
        reach = self.centre[:, None] + self.sigma[:, None] * ndtri(q)[:, None]
        if self.weight.shape[1] == 1:
            return reach[:, :, 0]
        used = self.weight[:, None, :] > 0
        low, high = np.where(used, reach, np.inf).min(-1), np.where(used, reach, -np.inf).max(-1)
        return _invert(self, np.broadcast_to(q, low.shape), low, high)


@dataclass(frozen=True, eq=False)
class Samples(Continuous):
    """Weighted samples smoothed by a Gaussian kernel: ``bandwidth`` is its sigma, a number or one an object.

    Without one it is Silverman's rule, 0.9 min(sd, IQR / 1.34) n^(-1/5), with Kish's effective number of samples
    (Silverman 1986, Density Estimation, eq. 3.31; Kish 1965).
    """

    value: Float[ndarray, "object sample"]
    weight: Float[ndarray, "object sample"] | None = None
    bandwidth: Float[ndarray, "object"] | float | None = None

    def __post_init__(self) -> None:
        value = _array(self, "value", 2)
        if value.shape[1] == 0:
            raise GsnnError("Samples: no samples")
        _set(self, weight=np.full(value.shape, 1 / value.shape[1]) if self.weight is None else self.weight)
        weight = _array(self, "weight", 2)
        if weight.shape != value.shape:
            raise GsnnError(f"Samples: weight {weight.shape} and value {value.shape} need one shape")
        if (weight < 0).any() or not (weight.sum(1) > 0).all():
            raise GsnnError("Samples: weights must be non-negative, and one of them positive, for every object")
        weight = weight / weight.sum(1, keepdims=True)
        keep = int((weight > 0).sum(1).max(initial=1))
        if keep < weight.shape[1]:  # a forest weighs all training objects, most of them by 0
            order = np.argsort(-weight, 1, kind="stable")[:, :keep]
            value, weight = np.take_along_axis(value, order, 1), np.take_along_axis(weight, order, 1)
        _set(self, value=value, weight=weight)
        width = _silverman(value, weight) if self.bandwidth is None else np.asarray(self.bandwidth, float)
        width = np.broadcast_to(width, len(value)).copy()
        if not (np.isfinite(width) & (width > 0)).all():
            raise GsnnError("Samples: every bandwidth must be positive and finite")
        _set(self, bandwidth=width)

    @cached_property
    def kernel(self) -> Mixture:
        """The same distribution as a mixture of Gaussians."""
        return Mixture(self.weight, self.value, np.broadcast_to(self.bandwidth[:, None], self.value.shape))

    def __len__(self) -> int:
        return len(self.value)

    def take(self, positions: Int[ndarray, "n"]) -> Samples:
        return Samples(self.value[positions], self.weight[positions], self.bandwidth[positions])

    def mean(self) -> Float[ndarray, "object"]:
        return self.kernel.mean()

    def expect(self, function: Callable[[ndarray], ndarray]) -> Float[ndarray, "object"]:
        return self.kernel.expect(function)

    def quantile(self, q: Float[ndarray, "q"]) -> Float[ndarray, "object q"]:
        return self.kernel.quantile(q)

    def cdf(self, x: ndarray) -> ndarray:
        return self.kernel.cdf(x)

    def pdf(self, x: ndarray) -> ndarray:
        return self.kernel.pdf(x)

    def log_pdf(self, x: ndarray) -> ndarray:
        return self.kernel.log_pdf(x)


@dataclass(frozen=True, eq=False)
class Quantiles(Continuous):
    """Values at increasing probability levels (0 < level < 1): linear cdf between them, exponential tails outside.

    A tail starts with the density of its neighbouring segment, so that the density has no jump there.
    """

    levels: Float[ndarray, "level"]
    value: Float[ndarray, "object level"]

    def __post_init__(self) -> None:
        levels, value = _array(self, "levels", 1), _array(self, "value", 2)
        if value.shape[1] != len(levels) or len(levels) < 2:
            raise GsnnError(f"Quantiles: {value.shape[1]} values for {len(levels)} levels (at least 2 are needed)")
        if not ((levels > 0) & (levels < 1)).all() or not (np.diff(levels) > 0).all():
            raise GsnnError("Quantiles: levels must increase between 0 and 1")
        if (np.diff(value, axis=1) < 0).any():
            raise GsnnError("Quantiles: the values of an object must not decrease with the level")
        # ties would be infinite densities: spread them by what float64 cannot lose
        step = 1e-12 * (1 + abs(value).max(1, initial=0, keepdims=True))
        _set(
            self, value=np.maximum.accumulate(value - step * np.arange(len(levels)), 1) + step * np.arange(len(levels))
        )

    def __len__(self) -> int:
        return len(self.value)

    def take(self, positions: Int[ndarray, "n"]) -> Quantiles:
        return Quantiles(self.levels, self.value[positions])

    @cached_property
    def _density(self) -> Float[ndarray, "object segment"]:
        return np.diff(self.levels) / np.diff(self.value, axis=1)

    def quantile(self, q: Float[ndarray, "q"]) -> Float[ndarray, "object q"]:
        q, p, v, d = _probabilities(q), self.levels, self.value, self._density
        i = np.clip(np.searchsorted(p, q, "right") - 1, 0, len(p) - 2)
        inside = v[:, i] + (q - p[i]) / d[:, i]
        left, right = 1 - p[-1], p[0]
        below = v[:, :1] + np.log(np.minimum(q / right, 1)) * right / d[:, :1]
        above = v[:, -1:] - np.log(np.minimum((1 - q) / left, 1)) * left / d[:, -1:]
        return np.where(q < p[0], below, np.where(q > p[-1], above, inside))

    def cdf(self, x: ndarray) -> ndarray:
        x = _on_objects(self, x)
        at, p, v, d = x.reshape(len(x), -1), self.levels, self.value, self._density
        low, high = np.minimum(at - v[:, :1], 0), np.minimum(v[:, -1:] - at, 0)
        inside = np.array([np.interp(row, edges, p) for row, edges in zip(at, v)]).reshape(at.shape)
        below = p[0] * np.exp(low * d[:, :1] / p[0])
        above = 1 - (1 - p[-1]) * np.exp(high * d[:, -1:] / (1 - p[-1]))
        return np.where(low < 0, below, np.where(high < 0, above, inside)).reshape(x.shape)

    def pdf(self, x: ndarray) -> ndarray:
        return np.exp(self.log_pdf(x))

    def log_pdf(self, x: ndarray) -> ndarray:
        x = _on_objects(self, x)
        at, p, v, d = x.reshape(len(x), -1), self.levels, self.value, self._density
        segment = np.array([np.searchsorted(edges, row, "right") - 1 for row, edges in zip(at, v)], int)
        segment = np.clip(segment.reshape(at.shape), 0, len(p) - 2)
        low, high = np.minimum(at - v[:, :1], 0), np.minimum(v[:, -1:] - at, 0)
        tail = low * d[:, :1] / p[0] + high * d[:, -1:] / (1 - p[-1])
        return (np.log(np.take_along_axis(d, segment, 1)) + tail).reshape(x.shape)


class Bijection(Protocol):
    """A monotone change of variable, elementwise: x is native, y = forward(x) is what ``base`` is over."""

    def forward(self, x: ndarray) -> ndarray: ...

    def inverse(self, y: ndarray) -> ndarray: ...

    def derivative(self, x: ndarray) -> ndarray: ...  # dy/dx


@dataclass(frozen=True, eq=False)
class Warped(Continuous):
    """``base`` seen in native units: p(x) = p_base(y) |dy/dx| with y = bijection.forward(x). May be decreasing."""

    base: Continuous
    bijection: Bijection

    def __len__(self) -> int:
        return len(self.base)

    @property
    def proper(self) -> bool:  # type: ignore[override]
        return self.base.proper

    def take(self, positions: Int[ndarray, "n"]) -> Warped:
        return Warped(self.base.take(positions), self.bijection)

    def expect(self, function: Callable[[ndarray], ndarray]) -> Float[ndarray, "object"]:
        return self.base.expect(lambda y: function(self._native(y)))

    def best(self) -> Float[ndarray, "object"]:
        return self._native(self.base.best())

    def quantile(self, q: Float[ndarray, "q"]) -> Float[ndarray, "object q"]:
        median = self.base.best()[:1]
        falls = (np.asarray(self.bijection.derivative(self._native(median))) < 0).any()
        return self._native(self.base.quantile(1 - np.asarray(q, float) if falls else q))

    def cdf(self, x: ndarray) -> ndarray:
        x = _on_objects(self, x)
        below = self.base.cdf(np.asarray(self.bijection.forward(x), float))
        return np.where(np.asarray(self.bijection.derivative(x)) < 0, 1 - below, below)

    def pdf(self, x: ndarray) -> ndarray:
        x = _on_objects(self, x)
        return self.base.pdf(np.asarray(self.bijection.forward(x), float)) * abs(self.bijection.derivative(x))

    def log_pdf(self, x: ndarray) -> ndarray:
        x = _on_objects(self, x)
        y = np.asarray(self.bijection.forward(x), float)
        return self.base.log_pdf(y) + np.log(abs(np.asarray(self.bijection.derivative(x), float)))

    def to_columns(self, name: str) -> dict[str, ndarray]:
        return super().to_columns(name) if self.proper else {"prediction": self.best()}

    def _native(self, y: ndarray) -> ndarray:
        return np.asarray(self.bijection.inverse(y), float)


def concatenate(parts: Sequence[Distribution]) -> Distribution:
    """The objects of all parts, in order. The parts must be of one type (and of the same classes)."""
    if not parts:
        raise GsnnError("concatenate: no predictions")
    first = parts[0]
    if {type(part) for part in parts} != {type(first)}:
        raise GsnnError(f"concatenate: predictions of different types ({', '.join(type(p).__name__ for p in parts)})")
    if isinstance(first, Categorical):
        if any(part.classes != first.classes for part in parts):
            raise GsnnError("concatenate: predictions of different classes")
        return Categorical(np.concatenate([part.probabilities for part in parts]), first.classes)
    if isinstance(first, Point):
        return Point(np.concatenate([part.value for part in parts]))
    if isinstance(first, Mixture):
        return Mixture(_stack(parts, "weight", 0), _stack(parts, "centre", 0), _stack(parts, "sigma", 1))
    if isinstance(first, Samples):
        width = np.concatenate([part.bandwidth for part in parts])
        return Samples(_stack(parts, "value", 0), _stack(parts, "weight", 0), width)
    if isinstance(first, Quantiles):
        if any(not np.array_equal(part.levels, first.levels) for part in parts):
            raise GsnnError("concatenate: predictions at different quantile levels")
        return Quantiles(first.levels, np.concatenate([part.value for part in parts]))
    if isinstance(first, Warped):
        probe = concatenate([part.base for part in parts]).best()
        native = first._native(probe)
        if any(not np.allclose(part._native(probe), native, rtol=1e-6) for part in parts):
            raise GsnnError("concatenate: predictions with different changes of variable")
        return Warped(concatenate([part.base for part in parts]), first.bijection)
    raise GsnnError(f"concatenate: no rule for {type(first).__name__}")


def from_columns(columns: Any, classes: Sequence[str] | None = None, name: str | None = None) -> Distribution:
    """The distribution that ``to_columns`` wrote: ``columns`` is an Arrow table or a mapping of names to arrays.

    Class probabilities come back as they were (``classes`` fixes their order, else the order of the columns), a
    distribution over values as its ``Quantiles``, a value alone as a ``Point``.
    """
    names = list(columns) if isinstance(columns, Mapping) else list(columns.column_names)
    quantiles = [c for c in names if c.endswith("_q01") and (name is None or c == f"{name}_q01")]
    prediction = np.asarray(columns["prediction"]) if "prediction" in names else np.zeros(0)
    if classes is None and not quantiles and prediction.dtype.kind in "OUST":
        classes = [c[:-2] for c in names if c.endswith("_p")]
    if classes is not None:
        missing = [c for c in classes if f"{c}_p" not in names]
        if missing or not classes:
            raise GsnnError(f"these predictions have no column {(missing or ['<class>'])[0] + '_p'!r}")
        return Categorical(np.stack([np.asarray(columns[f"{c}_p"], float) for c in classes], 1), tuple(classes))
    if quantiles:
        stem = quantiles[0][:-2]
        found = [i for i in range(1, 100) if f"{stem}{i:02d}" in names]
        value = np.stack([np.asarray(columns[f"{stem}{i:02d}"], float) for i in found], 1)
        return Quantiles(np.array(found) / 100, value)
    if "prediction" not in names:
        raise GsnnError("these columns hold no prediction; give a predictions.parquet that GSNN wrote")
    return Point(prediction)


def _set(self: Any, **fields: Any) -> None:
    for name, value in fields.items():
        object.__setattr__(self, name, value)


def _array(self: Any, name: str, dimensions: int) -> ndarray:
    """The field as a finite float64 array, also stored so."""
    value = np.asarray(getattr(self, name), dtype=np.float64)
    if value.ndim != dimensions:
        raise GsnnError(f"{type(self).__name__}: {name} needs {dimensions} dimension(s), not the shape {value.shape}")
    if not np.isfinite(value).all():
        bad = np.unique(np.nonzero(~np.isfinite(value))[0])
        raise GsnnError(f"{type(self).__name__}: {name} is not finite for {len(bad)} objects (first at {bad[0]})")
    _set(self, **{name: value})
    return value


def _on_objects(self: Distribution, x: ndarray) -> ndarray:
    x = np.asarray(x, float)
    if x.ndim not in (1, 2) or len(x) != len(self):
        raise GsnnError(f"x needs the shape [object] or [object, grid] for {len(self)} objects, not {x.shape}")
    return x


def _blocks(objects: int, cells: int) -> list[slice]:
    step = max(1, CELLS // max(cells, 1))
    return [slice(i, i + step) for i in range(0, objects, step)]


def _stack(parts: Sequence[Any], name: str, fill: float) -> ndarray:
    """Rows of different lengths, padded on the right."""
    width = max(getattr(part, name).shape[1] for part in parts)
    pad = [((0, 0), (0, width - getattr(part, name).shape[1])) for part in parts]
    return np.concatenate([np.pad(getattr(p, name), w, constant_values=fill) for p, w in zip(parts, pad)])


def _probabilities(q: ndarray) -> ndarray:
    q = np.atleast_1d(np.asarray(q, float))
    if not ((q > 0) & (q < 1)).all():
        raise GsnnError("quantile: probabilities must lie between 0 and 1, both excluded")
    return q


def _silverman(value: ndarray, weight: ndarray) -> Float[ndarray, "object"]:
    mean = (weight * value).sum(1, keepdims=True)
    spread = np.sqrt((weight * (value - mean) ** 2).sum(1))
    order = np.argsort(value, 1)
    rank = np.take_along_axis(weight, order, 1).cumsum(1)
    at = [np.minimum((rank < q).sum(1), value.shape[1] - 1) for q in (0.25, 0.75)]
    low, high = (np.take_along_axis(value, np.take_along_axis(order, i[:, None], 1), 1)[:, 0] for i in at)
    robust = (high - low) / 1.34
    scale = np.where(robust > 0, np.minimum(spread, robust), spread)
    width = 0.9 * scale / (1 / (weight**2).sum(1)) ** 0.2
    typical = np.median(width[width > 0]) if (width > 0).any() else 1e-3
    return np.where(width > 0, width, typical)  # one sample, or all the same: as wide as the other objects


def _invert(mixture: Mixture, q: ndarray, low: ndarray, high: ndarray) -> ndarray:
    """x with cdf(x) = q for every object and level, given brackets."""
    out = np.empty(q.shape)
    for some in _blocks(len(q), 128 * mixture.weight.shape[1]):
        part, lo, hi, target = mixture.take(some), low[some].copy(), high[some].copy(), q[some]
        # a grid shared by the levels of an object narrows their brackets first
        grid = lo.min(1)[:, None] + (hi.max(1) - lo.min(1))[:, None] * np.linspace(0, 1, 128)
        rise = part.cdf(grid)
        for i in range(len(lo)):
            j = np.searchsorted(rise[i], target[i])
            lo[i] = np.maximum(lo[i], grid[i, np.maximum(j - 1, 0)])
            hi[i] = np.minimum(hi[i], grid[i, np.minimum(j, 127)])
        x = np.array([np.interp(p, at, x) for p, at, x in zip(target, rise, grid)]).ravel()
        lo, hi, p = lo.ravel(), hi.ravel(), target.ravel()
        row, x = np.repeat(np.arange(len(target)), target.shape[1]), np.clip(x, lo, hi)
        w, m, s = part.weight, part.centre, part.sigma
        todo = np.arange(len(x))
        for _ in range(100):
            r, at = row[todo], x[todo]
            u = (at[:, None] - m[r]) / s[r]
            error = (w[r] * ndtr(u)).sum(1) - p[todo]
            slope = (w[r] / s[r] * np.exp(-0.5 * u * u)).sum(1) / np.sqrt(2 * np.pi)
            lo[todo], hi[todo] = np.where(error < 0, at, lo[todo]), np.where(error < 0, hi[todo], at)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                step = at - error / slope
            inside = (step > lo[todo]) & (step < hi[todo])
            x[todo] = np.where(inside, step, (lo[todo] + hi[todo]) / 2)
            narrow = hi[todo] - lo[todo] <= 4e-16 * (abs(lo[todo]) + abs(hi[todo]))
            exact = abs(error) < 1e-10
            x[todo[exact]] = at[exact]
            done = exact | narrow
            todo = todo[~done]
            if not len(todo):
                break
        out[some] = x.reshape(target.shape)
    return out
