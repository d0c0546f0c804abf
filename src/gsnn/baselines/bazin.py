"""The shape of transients: the function of Bazin et al. 2009 fitted to many ragged light curves at once.

    f(t) = A exp(-(t - t0) / fall) / (1 + exp(-(t - t0) / rise))            (Bazin et al. 2009, A&A 499, 653, eq. 1)

without their constant, since fluxes of transients are differences from a template. First one shape an object with an
amplitude for each band (variable projection, Golub & Pereyra 1973), then a shape for each band that is held near the
object's: a faint band then has the object's shape, and not that of its noise. Levenberg-Marquardt steps, all objects
side by side; times in days.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from ..data.light_curves import LightCurves

TYPICAL = (np.log(4.0), np.log(25.0))  # rise and fall of a supernova in days, observed
WIDTH = (0.5, 0.6)  # how far, in ln, single objects are from it
NEAR = (6.0, 0.4, 0.4)  # how far a band may be from its object: days of t0, ln rise, ln fall
_GRID = 25  # places of t0 that are tried first
_STEPS = 12


@dataclass(frozen=True)
class Shape:
    """``t0`` in days (as the curves count), ``rise`` and ``fall`` as ln days; ``amplitude`` is that of the peak."""

    t0: Float64[np.ndarray, " n"]
    rise: Float64[np.ndarray, " n"]
    fall: Float64[np.ndarray, " n"]

    def take(self, places: np.ndarray) -> Shape:
        return Shape(self.t0[places], self.rise[places], self.fall[places])

    @property
    def peak(self) -> Float64[np.ndarray, " n"]:
        """When the function is largest: t0 + rise ln(fall / rise - 1)."""
        return self.t0 + np.exp(self.rise) * np.log(np.expm1(self.fall - self.rise))

    def __call__(self, time: np.ndarray) -> Float64[np.ndarray, " n"]:
        """The function at ``time`` (broadcast against the shapes), 1 at its peak."""
        return np.exp(self._log(time) - self._log(self.peak))

    def _log(self, time: np.ndarray) -> np.ndarray:
        x = time - self.t0
        return np.clip(-x * np.exp(-self.fall) - np.logaddexp(0, -x * np.exp(-self.rise)), -60, 60)

    def slopes(self, time: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """The function and its derivatives with respect to t0, rise and fall (the last two in ln).

        The height of the peak is taken as constant: the amplitude makes up for it.
        """
        value, x = self(time), time - self.t0
        rise, fall = np.exp(-self.rise), np.exp(-self.fall)
        before = 1 / (1 + np.exp(np.clip(x * rise, -60, 60)))
        return value, [value * (fall - before * rise), value * (-before * x * rise), value * (x * fall)]

    def half(self) -> tuple[np.ndarray, np.ndarray]:
        """Days from half of the peak to the peak, and from the peak to half of it, by bisection."""
        sides = []
        for sign in (-1, 1):
            near, far = np.zeros_like(self.t0), np.full_like(self.t0, 400.0)
            for _ in range(24):
                middle = (near + far) / 2
                above = self(self.peak + sign * middle) > 0.5
                near, far = np.where(above, middle, near), np.where(above, far, middle)
            sides.append((near + far) / 2)
        return sides[0], sides[1]


@dataclass(frozen=True)
class Segments:
    """Observations sorted by object and band; ``start`` is where each (object, band) that has any begins."""

    time: Float64[np.ndarray, " observation"]
    flux: Float64[np.ndarray, " observation"]
    weight: Float64[np.ndarray, " observation"]  # 1 / error^2
    start: Int64[np.ndarray, " segment"]
    object: Int64[np.ndarray, " segment"]
    band: Int64[np.ndarray, " segment"]

    @classmethod
    def of(cls, curves: LightCurves) -> Segments:
        owner = curves.object
        order = np.lexsort((curves.time, curves.band, owner))
        owner, band = owner[order], curves.band[order].astype(np.int64)
        new = np.ones(len(owner), bool)
        new[1:] = (owner[1:] != owner[:-1]) | (band[1:] != band[:-1])
        start = np.flatnonzero(new)
        weight = curves.flux_error[order].astype(np.float64) ** -2
        return cls(curves.time[order], curves.flux[order].astype(np.float64), weight, start, owner[start], band[start])

    @property
    def lengths(self) -> Int64[np.ndarray, " segment"]:
        return np.diff(np.append(self.start, len(self.time)))

    @property
    def segment(self) -> Int64[np.ndarray, " observation"]:
        """The segment that each observation belongs to."""
        return np.repeat(np.arange(len(self.start)), self.lengths)

    def sum(self, values: np.ndarray) -> Float64[np.ndarray, " segment"]:
        return np.add.reduceat(values, self.start) if len(self.start) else np.zeros(0)

    def largest(self, values: np.ndarray) -> Float64[np.ndarray, " segment"]:
        return np.maximum.reduceat(values, self.start) if len(self.start) else np.zeros(0)


def fit(seg: Segments, objects: int) -> tuple[Shape, Shape, Float64[np.ndarray, " segment"]]:
    """The shape of each object, the shape of each (object, band), and the amplitude of each (object, band)."""
    shape = _shared(seg, objects, _first(seg, objects))
    return (shape, *_apart(seg, shape.take(seg.object)))


def _first(seg: Segments, objects: int) -> Shape:
    """The typical shape at the place, of a grid over each object's observations, where it explains most."""
    first, last = np.full(objects, np.inf), np.full(objects, -np.inf)
    np.minimum.at(first, seg.object, np.minimum.reduceat(seg.time, seg.start) if len(seg.start) else np.zeros(0))
    np.maximum.at(last, seg.object, seg.largest(seg.time))
    first, last = np.where(np.isfinite(first), first, 0) - 10, np.where(np.isfinite(last), last, 0) + 5
    most, best = np.full(objects, -1.0), first.copy()
    segment = seg.segment
    owner, flux = seg.object[segment], seg.flux * seg.weight
    for share in np.linspace(0, 1, _GRID):
        t0 = first + share * (last - first)
        one = Shape(t0, np.full(objects, TYPICAL[0]), np.full(objects, TYPICAL[1]))
        value = one.take(owner)(seg.time)
        up, norm = seg.sum(flux * value), seg.sum(value**2 * seg.weight)
        gain = np.bincount(seg.object, np.maximum(up, 0) ** 2 / np.maximum(norm, 1e-30), objects)
        best, most = np.where(gain > most, t0, best), np.maximum(gain, most)
    return Shape(best, np.full(objects, TYPICAL[0]), np.full(objects, TYPICAL[1]))


def _amplitude(seg: Segments, value: np.ndarray) -> Float64[np.ndarray, " segment"]:
    """The best amplitude of each segment. Half a sigma at the peak stands for a band that saw nothing of it."""
    return seg.sum(seg.flux * value * seg.weight) / (seg.sum(value**2 * seg.weight) + 1e-12)


def _shared(seg: Segments, objects: int, shape: Shape) -> Shape:
    """One shape an object: Gauss-Newton on the residuals after each band's amplitude is taken out."""
    segment = seg.segment
    owner, root = seg.object[segment], np.sqrt(seg.weight)

    def cost(shape: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
        value, slopes = shape.take(owner).slopes(seg.time)
        amplitude = _amplitude(seg, value)[segment]
        residual = (seg.flux - amplitude * value) * root
        prior = ((shape.rise - TYPICAL[0]) / WIDTH[0]) ** 2 + ((shape.fall - TYPICAL[1]) / WIDTH[1]) ** 2
        return np.bincount(owner, residual**2, objects) + prior, residual, value, [amplitude * s for s in slopes]

    damping = np.full(objects, 1e-2)
    now, residual, value, slopes = cost(shape)
    for _ in range(_STEPS):
        norm = seg.sum(value**2 * seg.weight) + 1e-12
        jacobian = []
        for slope in slopes:  # projected: what a change of amplitude can do is no step of the shape
            share = (seg.sum(slope * value * seg.weight) / norm)[segment]
            jacobian.append((slope - share * value) * root)
        step = _step(jacobian, residual, owner, objects, damping, _pull(shape, TYPICAL, WIDTH))
        tried = _moved(shape, step)
        after = cost(tried)
        better = after[0] < now
        damping = np.where(better, damping / 3, damping * 5)
        shape = _where(better, tried, shape)
        now, residual, value, slopes = cost(shape)
    return shape


def _apart(seg: Segments, around: Shape) -> tuple[Shape, Float64[np.ndarray, " segment"]]:
    """A shape for each segment, near that of its object (``around``, a shape for each segment), and amplitudes."""
    segment, count, root = seg.segment, len(seg.start), np.sqrt(seg.weight)
    shape, damping = around, np.full(count, 1e-2)

    def cost(shape: Shape) -> tuple[np.ndarray, ...]:
        value, slopes = shape.take(segment).slopes(seg.time)
        amplitude = _amplitude(seg, value)
        residual = (seg.flux - amplitude[segment] * value) * root
        pull = sum(
            ((getattr(shape, name) - getattr(around, name)) / width) ** 2
            for name, width in zip(("t0", "rise", "fall"), NEAR)
        )
        return seg.sum(residual**2) + pull, residual, value, slopes, amplitude

    now, residual, value, slopes, amplitude = cost(shape)
    for _ in range(_STEPS // 2):
        norm = seg.sum(value**2 * seg.weight) + 1e-12
        jacobian = []
        for slope in slopes:
            share = (seg.sum(slope * value * seg.weight) / norm)[segment]
            jacobian.append(amplitude[segment] * (slope - share * value) * root)
        pull = [
            ((getattr(around, name) - getattr(shape, name)) / width**2, np.full(count, width**-2.0))
            for name, width in zip(("t0", "rise", "fall"), NEAR)
        ]
        tried = _moved(shape, _step(jacobian, residual, segment, count, damping, pull))
        better = cost(tried)[0] < now
        damping = np.where(better, damping / 3, damping * 5)
        shape = _where(better, tried, shape)
        now, residual, value, slopes, amplitude = cost(shape)
    return shape, amplitude


def _pull(shape: Shape, centre: tuple[float, float], width: tuple[float, float]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The priors of rise and fall as (gradient, curvature); t0 has none."""
    zero, one = np.zeros_like(shape.t0), np.ones_like(shape.t0)
    return [(zero, 1e-6 * one)] + [
        ((c - values) / w**2, one / w**2) for values, c, w in zip((shape.rise, shape.fall), centre, width)
    ]


def _step(
    jacobian: list[np.ndarray],
    residual: np.ndarray,
    owner: np.ndarray,
    count: int,
    damping: np.ndarray,
    pull: list[tuple[np.ndarray, np.ndarray]],
) -> Float64[np.ndarray, "n 3"]:
    """The step of Levenberg (1944) and Marquardt (1963) for each object."""
    normal, gradient = np.empty((count, 3, 3)), np.empty((count, 3))
    for i, (slope, curve) in enumerate(pull):
        gradient[:, i] = np.bincount(owner, jacobian[i] * residual, count) + slope
        for j in range(i + 1):
            normal[:, i, j] = normal[:, j, i] = np.bincount(owner, jacobian[i] * jacobian[j], count)
        normal[:, i, i] += curve
        normal[:, i, i] *= 1 + damping
    return np.linalg.solve(normal, gradient[..., None])[..., 0]


def _moved(shape: Shape, step: np.ndarray) -> Shape:
    """A step of at most 15 days and 0.7 in ln; a rise is shorter than a fall, or the function has no peak."""
    t0 = shape.t0 + np.clip(step[:, 0], -15, 15)
    fall = np.clip(shape.fall + np.clip(step[:, 2], -0.7, 0.7), np.log(2.0), np.log(300.0))
    rise = np.clip(shape.rise + np.clip(step[:, 1], -0.7, 0.7), np.log(0.3), fall - 0.2)
    return Shape(t0, rise, fall)


def _where(better: np.ndarray, new: Shape, old: Shape) -> Shape:
    return Shape(*(np.where(better, getattr(new, n), getattr(old, n)) for n in ("t0", "rise", "fall")))
