"""From weighted training targets to p(target): quantiles that carry them, and a kernel width tuned on validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from ..evaluation.distributions import Distribution

LEVELS = (np.arange(64) + 0.5) / 64  # a distribution is carried by 64 values of equal weight


class Kernel(NamedTuple):
    """How values of equal weight become a density.

    sigma of the Gaussian kernel is sqrt((relative * own spread)^2 + floor^2), in the unit of the target. A share
    ``rare`` of the probability goes to one Gaussian as broad as the targets are, N(centre, width): what no similar
    training object showed.
    """

    relative: float
    floor: float
    rare: float = 0.0
    centre: float = 0.0
    width: float = 1.0

    def sigma(self, value: Float[np.ndarray, "object sample"]) -> Float[np.ndarray, " object"]:
        low, high = np.quantile(value, [0.16, 0.84], axis=1)
        return np.hypot(self.relative * (high - low) / 2, self.floor)

    def density(self, value: Float[np.ndarray, "object sample"]) -> Distribution:
        from ..evaluation.distributions import Mixture

        objects, count = value.shape
        weight = np.r_[np.full(count, (1 - self.rare) / count), self.rare]
        mean = np.c_[value, np.full(objects, self.centre)]
        sigma = np.c_[np.repeat(self.sigma(value)[:, None], count, 1), np.full(objects, self.width)]
        return Mixture(np.tile(weight, (objects, 1)), mean, sigma)


def cde_loss(
    value: Float[np.ndarray, "object sample"],
    bandwidth: Float[np.ndarray, " object"],
    truth: Float[np.ndarray, " object"],
) -> float:
    """CDE loss of equally weighted samples under a Gaussian kernel, exactly: mean of int p^2 dz - 2 p(truth).

    Izbicki & Lee 2017, Electron. J. Statist. 11, 2800, eq. 7; int p^2 is a sum over pairs of samples of a Gaussian of
    width sqrt(2) bandwidth.
    """
    h = bandwidth[:, None]
    square = _gauss((value[:, :, None] - value[:, None, :]).reshape(len(value), -1), np.sqrt(2) * h).mean(1)
    return float((square - 2 * _gauss(value - truth[:, None], h).mean(1)).mean())


def _gauss(x: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * (x / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)


def tune_kernel(
    value: Float[np.ndarray, "object sample"], truth: Float[np.ndarray, " object"], most: int = 400
) -> tuple[float, Kernel]:
    """The lowest CDE loss on at most ``most`` objects, and the kernel that has it.

    ``rare`` is chosen by the likelihood instead, which the CDE loss knows nothing of.
    """
    step = max(1, len(truth) // most)
    value, truth = value[::step, :: max(1, value.shape[1] // 32)], truth[::step]
    # the widths are fractions of the typical error of the point, never of a target that outliers stretch
    scale = float(1.4826 * np.median(np.abs(truth - np.median(value, 1))) or np.std(truth) or 1.0)
    kernels = [Kernel(a, b * scale) for a in (0, 0.15, 0.3, 0.5, 0.8) for b in (0.1, 0.2, 0.4, 0.7, 1.0)]
    loss, kernel = min(((cde_loss(value, k.sigma(value), truth), k) for k in kernels), key=lambda found: found[0])
    p = _gauss(value - truth[:, None], kernel.sigma(value)[:, None]).mean(1)
    centre, width = float(truth.mean()), max(float(truth.std()), scale)
    broad = _gauss(truth - centre, np.float64(width))
    rare = max((0.001, 0.003, 0.01, 0.03), key=lambda share: np.log((1 - share) * p + share * broad + 1e-300).sum())
    return loss, kernel._replace(rare=rare, centre=centre, width=width)


def weighted_quantiles(
    value: Float[np.ndarray, "object sample"], weight: Float[np.ndarray, "object sample"]
) -> Float[np.ndarray, "object level"]:
    """The values at LEVELS of each object's weighted samples (left-continuous inverse of their cdf)."""
    order = np.argsort(value, 1)
    value, weight = np.take_along_axis(value, order, 1), np.take_along_axis(weight, order, 1)
    rank = np.cumsum(weight, 1)
    rank /= rank[:, -1:]
    # one sorted array for all objects: object i occupies the numbers from i to i + 1
    steps = (rank + np.arange(len(rank))[:, None]).ravel()
    wanted = (LEVELS[None] + np.arange(len(rank))[:, None]).ravel()
    found = np.minimum(np.searchsorted(steps, wanted - 1e-9), steps.size - 1)
    return value.ravel()[found].reshape(len(value), -1)
