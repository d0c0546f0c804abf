"""Mixtures of Gaussians, and weighted samples smoothed by a Gaussian kernel, which are mixtures too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.special import logsumexp, ndtr, ndtri

from ..errors import GsnnError
from .base import Continuous, array, assign, blocks, on_objects, probabilities, stack


@dataclass(frozen=True, eq=False, init=False)
class Mixture(Continuous):
    """A mixture of Gaussians; a Gaussian is a mixture of one. Components of weight 0 are allowed (padding)."""

    weight: Float[ndarray, "object component"]
    centre: Float[ndarray, "object component"]
    sigma: Float[ndarray, "object component"]

    def __init__(self, weight: ndarray, mean: ndarray, sigma: ndarray):
        assign(self, weight=weight, centre=mean, sigma=sigma)
        w, m, s = (array(self, name, 2) for name in ("weight", "centre", "sigma"))
        if not w.shape == m.shape == s.shape or w.shape[1] == 0:
            raise GsnnError(f"Mixture: weight {w.shape}, mean {m.shape} and sigma {s.shape} need one shape")
        if (w < 0).any() or (abs(w.sum(1) - 1) > 1e-3).any():
            raise GsnnError("Mixture: weights must be non-negative and add up to 1 for every object")
        if not (s > 0).all():
            raise GsnnError("Mixture: every sigma must be positive")
        assign(self, weight=w / w.sum(1, keepdims=True))

    @cached_property
    def repeats(self) -> bool:
        """Whether all objects have the same distribution (a prior), which is then computed once."""
        parts = (self.weight, self.centre, self.sigma)
        return len(self) > 1 and all((part == part[:1]).all() for part in parts)

    def __len__(self) -> int:
        return len(self.weight)

    def take(self, positions: Int[ndarray, " n"]) -> Mixture:
        part = Mixture(self.weight[positions], self.centre[positions], self.sigma[positions])
        if "_median" in self.__dict__:
            assign(part, _median=self._median[positions])
        return part

    @cached_property
    def _median(self) -> Float[ndarray, " object"]:
        return self.quantile(np.array([0.5]))[:, 0]

    def best(self) -> Float[ndarray, " object"]:
        return self._median  # kept: most metrics ask for it

    @classmethod
    def join(cls, parts: Sequence[Mixture]) -> Mixture:
        return cls(stack(parts, "weight", 0), stack(parts, "centre", 0), stack(parts, "sigma", 1))

    def mean(self) -> Float[ndarray, " object"]:
        return (self.weight * self.centre).sum(1)

    def expect(self, function: Callable[[ndarray], ndarray]) -> Float[ndarray, " object"]:
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
        x = on_objects(self, x)
        flat, out = x.reshape(len(x), -1), np.empty((len(x), x[:1].size))
        for some in blocks(len(x), flat.shape[1] * self.weight.shape[1]):
            w, m, s = (a[some, None, :] for a in (self.weight, self.centre, self.sigma))
            out[some] = term((flat[some, :, None] - m) / s, w, s)
        return out.reshape(x.shape)

    def quantile(self, q: Float[ndarray, " q"]) -> Float[ndarray, "object q"]:
        """Newton's method inside a bracket, to 1e-10 in probability.

        The quantile of a mixture lies between the smallest and the largest quantile of its components.
        """
        q = probabilities(q)
        if self.repeats:
            return np.repeat(self.take(slice(0, 1)).quantile(q), len(self), 0)
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
    bandwidth: Float[ndarray, " object"] | float | None = None

    def __post_init__(self) -> None:
        value = array(self, "value", 2)
        if value.shape[1] == 0:
            raise GsnnError("Samples: no samples")
        assign(self, weight=np.full(value.shape, 1 / value.shape[1]) if self.weight is None else self.weight)
        weight = array(self, "weight", 2)
        if weight.shape != value.shape:
            raise GsnnError(f"Samples: weight {weight.shape} and value {value.shape} need one shape")
        if (weight < 0).any() or not (weight.sum(1) > 0).all():
            raise GsnnError("Samples: weights must be non-negative, and one of them positive, for every object")
        weight = weight / weight.sum(1, keepdims=True)
        keep = int((weight > 0).sum(1).max(initial=1))
        if keep < weight.shape[1]:  # a forest weighs all training objects, most of them by 0
            order = np.argsort(-weight, 1, kind="stable")[:, :keep]
            value, weight = np.take_along_axis(value, order, 1), np.take_along_axis(weight, order, 1)
        assign(self, value=value, weight=weight)
        width = _silverman(value, weight) if self.bandwidth is None else np.asarray(self.bandwidth, float)
        width = np.broadcast_to(width, len(value)).copy()
        if not (np.isfinite(width) & (width > 0)).all():
            raise GsnnError("Samples: every bandwidth must be positive and finite")
        assign(self, bandwidth=width)

    @cached_property
    def kernel(self) -> Mixture:
        """The same distribution as a mixture of Gaussians."""
        return Mixture(self.weight, self.value, np.broadcast_to(self.bandwidth[:, None], self.value.shape))

    def __len__(self) -> int:
        return len(self.value)

    def take(self, positions: Int[ndarray, " n"]) -> Samples:
        part = Samples(self.value[positions], self.weight[positions], self.bandwidth[positions])
        if "kernel" in self.__dict__ and part.value.shape[1] == self.value.shape[1]:
            assign(part, kernel=self.kernel.take(positions))
        return part

    @classmethod
    def join(cls, parts: Sequence[Samples]) -> Samples:
        width = np.concatenate([part.bandwidth for part in parts])
        return cls(stack(parts, "value", 0), stack(parts, "weight", 0), width)

    def mean(self) -> Float[ndarray, " object"]:
        return self.kernel.mean()

    def best(self) -> Float[ndarray, " object"]:
        return self.kernel.best()

    def expect(self, function: Callable[[ndarray], ndarray]) -> Float[ndarray, " object"]:
        return self.kernel.expect(function)

    def quantile(self, q: Float[ndarray, " q"]) -> Float[ndarray, "object q"]:
        return self.kernel.quantile(q)

    def cdf(self, x: ndarray) -> ndarray:
        return self.kernel.cdf(x)

    def pdf(self, x: ndarray) -> ndarray:
        return self.kernel.pdf(x)

    def log_pdf(self, x: ndarray) -> ndarray:
        return self.kernel.log_pdf(x)


def _silverman(value: ndarray, weight: ndarray) -> Float[ndarray, " object"]:
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
    out, points = np.empty(q.shape), 128 if q.shape[1] > 8 else 12
    for some in blocks(len(q), points * mixture.weight.shape[1]):
        part, lo, hi, target = mixture.take(some), low[some].copy(), high[some].copy(), q[some]
        # a grid shared by the levels of an object narrows their brackets first
        grid = lo.min(1)[:, None] + (hi.max(1) - lo.min(1))[:, None] * np.linspace(0, 1, points)
        rise = part.cdf(grid)
        for i in range(len(lo)):
            j = np.searchsorted(rise[i], target[i])
            lo[i] = np.maximum(lo[i], grid[i, np.maximum(j - 1, 0)])
            hi[i] = np.minimum(hi[i], grid[i, np.minimum(j, points - 1)])
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
