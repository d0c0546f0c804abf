"""Haloes of dark matter on a flat sky: how many, where, how they bend light; the halo model of the convergence.

All matter above a least mass sits in haloes of Navarro, Frenk & White, which follow the large-scale structure with
their bias; the rest is smooth (Cooray & Sheth 2002, astro-ph/0206508). Lengths are comoving Mpc/h, masses Msun/h and
within 200 times the mean density.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import sici

from .matter import power

HUBBLE_DISTANCE = 2997.92458  # c / (100 km/s/Mpc) in Mpc/h
CRITICAL = 2.77536627e11  # density in Msun/h / (Mpc/h)^3
COLLAPSE = 1.686  # contrast of a spherical collapse
CONTRAST = 200.0  # of a halo to the mean density
SCATTER = 0.15  # of log10 of the concentration (Duffy et al. 2008)
NODES = (-(3**0.5), 0.0, 3**0.5), (1 / 6, 2 / 3, 1 / 6)  # Gauss and Hermite's: exact up to the fifth moment


def growth(z: Float[np.ndarray, " z"], omega_m: float) -> Float[np.ndarray, " z"]:
    """The linear growth factor, 1 today (Carroll, Press & Turner 1992, ARA&A 30, 499, eq. 29)."""

    def unscaled(z):
        rate = omega_m * (1 + z) ** 3 + 1 - omega_m
        matter, dark = omega_m * (1 + z) ** 3 / rate, (1 - omega_m) / rate
        slowed = matter ** (4 / 7) - dark + (1 + matter / 2) * (1 + dark / 70)
        return 2.5 * matter / slowed / (1 + z)

    return unscaled(z) / unscaled(np.zeros(1))


def concentration(mass: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Duffy et al. 2008 (MNRAS 390, L64), table 1, full sample, of 200 times the mean density."""
    return 10.14 * (mass / 2e12) ** -0.081 * (1 + z) ** -1.01


def abundance(sigma: np.ndarray, z: np.ndarray) -> np.ndarray:
    """f(sigma) of Tinker et al. 2008 (arXiv:0803.2706), eqs 3 and 5 to 8, at 200 times the mean density."""
    grow = 1 + np.minimum(z, 3.0)
    alpha = 10 ** -((0.75 / np.log10(CONTRAST / 75)) ** 1.2)
    a, b = 1.47 * grow**-0.06, 2.57 * grow**-alpha
    return 0.186 * grow**-0.14 * ((sigma / b) ** -a + 1) * np.exp(-1.19 / sigma**2)


def bias(sigma: np.ndarray) -> np.ndarray:
    """Large-scale bias (Tinker et al. 2010, arXiv:1001.3162, eq. 6 and table 2)."""
    nu, y = COLLAPSE / sigma, np.log10(CONTRAST)
    a = 1 + 0.24 * y * np.exp(-((4 / y) ** 4))
    c = 0.019 + 0.107 * y + 0.19 * np.exp(-((4 / y) ** 4))
    high = nu ** (0.44 * y - 0.88)
    return 1 - a * high / (high + COLLAPSE ** (0.44 * y - 0.88)) + 0.183 * nu**1.5 + c * nu**2.4


def profile(x: np.ndarray, c: float) -> np.ndarray:
    """Fourier transform at k r_s = ``x`` of a halo of unit mass that ends at c r_s (Cooray & Sheth 2002, eq. 81)."""
    x = np.maximum(x, 1e-6)
    si, ci = sici(x)
    far_si, far_ci = sici((1 + c) * x)
    top = np.sin(x) * (far_si - si) - np.sin(c * x) / ((1 + c) * x) + np.cos(x) * (far_ci - ci)
    return top / (np.log1p(c) - c / (1 + c))


@dataclass(frozen=True)
class Universe:
    """One cosmology before sources whose mean redshift is ``source`` (n(z) ~ z^2 exp(-(z/z0)^1.5), Smail et al. 1994).

    Haloes lie in cells of mass (from ``least`` to 3e15) and redshift.
    """

    omega_m: float
    sigma_8: float
    source: float
    least: float
    masses: int = 40
    shells: int = 24

    @cached_property
    def z(self) -> Float[np.ndarray, " shell"]:
        return (np.arange(self.shells) + 0.5) * (2.5 * self.source / self.shells)

    @cached_property
    def distance(self) -> Float[np.ndarray, " shell"]:
        """Comoving distance of the middle of each shell."""
        return self.distance_of(self.z)

    def distance_of(self, z: np.ndarray) -> np.ndarray:
        fine = np.linspace(0, 5 * self.source, 2001)
        rate = 1 / np.sqrt(self.omega_m * (1 + fine) ** 3 + 1 - self.omega_m)
        table = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2) * fine[1]])
        return HUBBLE_DISTANCE * np.interp(z, fine, table)

    @cached_property
    def depth(self) -> Float[np.ndarray, " shell"]:
        """Comoving thickness of each shell."""
        edges = np.arange(self.shells + 1) * (2.5 * self.source / self.shells)
        return np.diff(self.distance_of(edges))

    @cached_property
    def kernel(self) -> Float[np.ndarray, " shell"]:
        """W(chi) in h/Mpc: the convergence is the integral of W times the overdensity (Bartelmann & Schneider 2001,
        astro-ph/9912508, eq. 6.18)."""
        z = np.linspace(0.01, 5 * self.source, 600)
        many = z**2 * np.exp(-((z / (self.source / 1.505)) ** 1.5))  # the mean is 1.505 z0
        far = self.distance_of(z)
        lens = np.maximum(far[None] - self.distance[:, None], 0) / far[None]
        share = (lens * many).sum(1) / many.sum()
        return 1.5 * self.omega_m / HUBBLE_DISTANCE**2 * (1 + self.z) * self.distance * share

    @cached_property
    def empty(self) -> float:
        """Minus the convergence of a line of sight without matter."""
        return float((self.kernel * self.depth).sum())

    @cached_property
    def mass(self) -> Float[np.ndarray, " mass"]:
        """The middle of each cell in log mass."""
        edges = np.linspace(np.log(self.least), np.log(3e15), self.masses + 1)
        return np.exp((edges[1:] + edges[:-1]) / 2)

    def _linear(self, k: np.ndarray) -> np.ndarray:
        one = torch.tensor([[self.omega_m], [self.sigma_8]], dtype=torch.float64)
        return power(torch.as_tensor(k), one[0], one[1])[0].numpy()

    @cached_property
    def sigma(self) -> Float[np.ndarray, "mass shell"]:
        """Standard deviation of the linear matter in spheres that hold each mass."""
        k = np.logspace(-3, 2, 400)
        radius = (3 * self.mass / (4 * np.pi * CRITICAL * self.omega_m)) ** (1 / 3)
        x = k * radius[:, None]
        window = 3 * (np.sin(x) - x * np.cos(x)) / x**3
        today = np.sqrt(np.trapezoid(k**3 * self._linear(k) * window**2 / (2 * np.pi**2), np.log(k), axis=1))
        return today[:, None] * growth(self.z, self.omega_m)

    @cached_property
    def number(self) -> Float[np.ndarray, "mass shell"]:
        """Haloes per steradian in each cell."""
        step = np.log(3e15 / self.least) / self.masses
        steep = -np.gradient(np.log(self.sigma[:, 0]), step)[:, None]
        density = abundance(self.sigma, self.z) * (CRITICAL * self.omega_m / self.mass)[:, None] * steep * step
        return density * self.distance**2 * self.depth

    @cached_property
    def strength(self) -> Float[np.ndarray, "mass shell"]:
        """The convergence of one halo, integrated over the sky in steradian."""
        return self.mass[:, None] / (CRITICAL * self.omega_m) * self.kernel / self.distance**2

    @cached_property
    def scale(self) -> Float[np.ndarray, "mass shell"]:
        """The angle of 1/c of a halo's radius, in radians."""
        radius = (3 * self.mass / (4 * np.pi * CONTRAST * CRITICAL * self.omega_m)) ** (1 / 3)
        return radius[:, None] / concentration(self.mass[:, None], self.z) / self.distance

    @cached_property
    def followed(self) -> tuple[float, float]:
        """The bias of haloes, weighed by the light they bend, and that times the share of all matter in them."""
        weight = self.number * self.strength
        mean = float((weight * bias(self.sigma)).sum() / weight.sum())
        return mean, mean * float(weight.sum()) / self.empty

    def linear(self, multipole: Float[np.ndarray, " l"]) -> Float[np.ndarray, " l"]:
        """C_l of the convergence by linear theory (Limber's approximation)."""
        k = (multipole[:, None] + 0.5) / self.distance
        grid = np.logspace(-4, 3, 600)
        found = np.exp(np.interp(np.log(k), np.log(grid), np.log(self._linear(grid))))
        weight = self.kernel**2 / self.distance**2 * self.depth * growth(self.z, self.omega_m) ** 2
        return found @ weight

    def spectrum(self, multipole: Float[np.ndarray, " l"]) -> Float[np.ndarray, " l"]:
        """C_l of the convergence by the halo model: what two haloes and the smooth rest share, and each with itself."""
        ends = np.quantile(np.log(self.scale), [0, 1])
        angles = np.exp(np.linspace(*ends, 24))
        own = np.zeros(len(multipole))
        shape, total = np.zeros(len(multipole)), float((self.number * self.strength * bias(self.sigma)).sum())
        place = np.rint((np.log(self.scale) - ends[0]) / (ends[1] - ends[0]) * 23).astype(int)
        c = concentration(self.mass[:, None], self.z)
        for i, angle in enumerate(angles):
            some = place == i
            if some.any():
                weight = self.number[some] * self.strength[some]
                u = profile(multipole * angle, float(np.average(c[some], weights=weight)))
                own += (weight * self.strength[some]).sum() * u**2
                shape += (weight * bias(self.sigma)[some]).sum() / total * u
        follow = self.followed[1]
        return self.linear(multipole) * (1 - follow + follow * shape) ** 2 + own
