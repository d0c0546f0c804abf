"""Lagrangian perturbation theory: how far matter has moved, at first order (Zel'dovich) and at second (2LPT).

A particle that begins at q is found at x = q + D1 s1 + D2 s2 (Bouchet et al. 1995, A&A 296, 575; Jenkins 2010,
arXiv:0910.0258). Universes are flat, of matter and a cosmological constant; lengths are comoving, in Mpc/h.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .. import rng
from .matter import power
from .mesh import coloured, pull, slopes, to_cells, to_modes, wavenumbers, waves

_EARLY, _STEPS = 1e-3, 128  # the growth begins in a universe of matter alone


class Growth(NamedTuple):
    """Growth at first and at second order, each [object, time], with D1 = 1 today.

    ``g`` is a^2 E dD / d ln a, by which a displacement s has the momentum a^2 (dx/dt) / H0 = g s.
    """

    d1: Float[Tensor, "object time"]
    g1: Float[Tensor, "object time"]
    d2: Float[Tensor, "object time"]
    g2: Float[Tensor, "object time"]


def expansion_rate(a: Tensor, omega_m: Tensor) -> Tensor:
    """E = H / H0 at the scale factor ``a``."""
    return torch.sqrt(omega_m / a**3 + 1 - omega_m)


def growth(a: Float[Tensor, " time"], omega_m: Float[Tensor, " object"]) -> Growth:
    """The growing solutions of the equations of both orders at scale factors from 0.002 to 1, to about 1e-7.

    D1'' + (2 + E'/E) D1' = 3/2 Omega_m(a) D1, and for D2 with D2 - D1^2 in place of the last D1; primes are
    d / d ln a (Bouchet et al. 1995; D2 = -3/7 D1^2 in a universe of matter alone).
    """
    omega_m, a = omega_m.double(), a.double()
    step = -math.log(_EARLY) / _STEPS

    def slope(x: float, y: Tensor) -> Tensor:
        d1, v1, d2, v2 = y
        share = omega_m / (omega_m + (1 - omega_m) * math.exp(3 * x))  # Omega_m(a)
        drag = 2 - 1.5 * share
        return torch.stack([v1, 1.5 * share * d1 - drag * v1, v2, 1.5 * share * (d2 - d1**2) - drag * v2])

    one = torch.ones_like(omega_m)
    y = torch.stack([_EARLY * one, _EARLY * one, -3 / 7 * _EARLY**2 * one, -6 / 7 * _EARLY**2 * one])
    table, slopes = [y], [slope(math.log(_EARLY), y)]
    for i in range(_STEPS):  # Runge-Kutta of fourth order
        x = math.log(_EARLY) + i * step
        k1 = slopes[-1]
        k2 = slope(x + step / 2, y + step / 2 * k1)
        k3 = slope(x + step / 2, y + step / 2 * k2)
        y = y + step / 6 * (k1 + 2 * k2 + 2 * k3 + slope(x + step, y + step * k3))
        table.append(y)
        slopes.append(slope(x + step, y))
    place = torch.log(a / _EARLY) / step
    low = place.long().clamp(0, _STEPS - 1)
    t = (place - low)[:, None, None]
    at, by = torch.stack(table), torch.stack(slopes) * step
    found = (  # Hermite's cubic between two entries
        at[low] * (1 + 2 * t) * (1 - t) ** 2
        + by[low] * t * (1 - t) ** 2
        + at[low + 1] * t**2 * (3 - 2 * t)
        + by[low + 1] * t**2 * (t - 1)
    )
    today = at[-1, 0]
    d1, v1, d2, v2 = (found / torch.stack([today, today, today**2, today**2])).permute(1, 2, 0)
    pace = a**2 * expansion_rate(a, omega_m[:, None])
    return Growth(d1, pace * v1, d2, pace * v2)


def linear_density(
    rows: Int64[Tensor, " object"],
    seed: int,
    omega_m: Float[Tensor, " object"],
    sigma_8: Float[Tensor, " object"],
    side: int,
    box: float,
) -> Float[Tensor, "object z y x"]:
    """Gaussian overdensities with the linear spectrum of today in cubes; their chance is a function of (seed, row)."""
    white = rng.normal(seed, "lpt/white", rows, side**3).view(-1, side, side, side)
    k = wavenumbers(side, box, 3)
    spectrum = power(k.flatten(), omega_m, sigma_8).view(-1, *k.shape)
    return coloured(white, spectrum.float(), (box / side) ** 3)


def displacements(
    linear: Float[Tensor, "object z y x"], box: float
) -> tuple[Float[Tensor, "object 3 z y x"], Float[Tensor, "object 3 z y x"]]:
    """s1 and s2 of a linear overdensity: -grad phi1 and grad phi2, with Laplacian phi1 the overdensity.

    The Laplacian of phi2 is the sum over pairs of axes of phi1,ii phi1,jj - phi1,ij^2.
    """
    modes, side = to_modes(linear), linear.shape[-1]
    k, odd = ([one.to(linear.dtype) for one in some(side, box)] for some in (waves, slopes))
    over = modes / sum(one**2 for one in k).clamp(min=1e-12)
    own = [to_cells(one**2 * over, side) for one in k]
    source = 0
    for i, j in combinations(range(3), 2):
        source = source + own[i] * own[j] - to_cells(odd[i] * odd[j] * over, side) ** 2
    return pull(modes, box), -pull(to_modes(source), box)
