"""Haloes of dark matter and the galaxies in them: how many, how heavy, where, and how fast.

Masses are in solar masses, within the sphere of 200 times the critical density; lengths in Mpc, speeds in km/s, today.
The relations were fitted by their authors to definitions of the mass that differ by 10 to 40%: one shift of all masses.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import erf, lambertw

from .matter import HUBBLE, power

GRAVITY = 4.30091727e-9  # Mpc (km/s)^2 / Msun
CRITICAL = 2.77536627e11 * HUBBLE**2  # Msun / Mpc^3
OMEGA_M, SIGMA_8 = 0.315, 0.811  # Planck Collaboration VI 2020
COLLAPSE = 1.686
# Zheng, Coil & Zehavi 2007 (ApJ 667, 760), Table 1: SDSS galaxies brighter than M_r = -19 + 5 log h, masses in Msun/h
MINIMUM, WIDTH, CUT, SATELLITE, SLOPE = 11.60, 0.26, 11.49, 12.83, 1.02


def deviation(
    mass: Float[np.ndarray, " mass"], omega_m: float = OMEGA_M, sigma_8: float = SIGMA_8
) -> Float[np.ndarray, " mass"]:
    """The standard deviation of matter in spheres that hold ``mass`` on average, by the linear spectrum."""
    k = torch.logspace(-4, 2.5, 2000, dtype=torch.float64)  # h/Mpc
    spectrum = power(k, torch.tensor([omega_m]), torch.tensor([sigma_8]))[0].numpy()
    k = k.numpy()
    radius = np.cbrt(3 * mass / (4 * np.pi * omega_m * CRITICAL)) * HUBBLE
    x = radius[:, None] * k
    window = np.where(x < 1e-2, 1 - x**2 / 10, 3 * (np.sin(x) - x * np.cos(x)) / np.maximum(x, 1e-2) ** 3)
    return np.sqrt(np.trapezoid(spectrum * window**2 * k**3 / (2 * np.pi**2), np.log(k), axis=1))


def multiplicity(nu: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """The share of matter in haloes per unit of ln(nu), nu = 1.686 / deviation: Sheth & Tormen 1999, eq. 10."""
    scaled = 0.707 * nu**2
    return 0.3222 * np.sqrt(2 * scaled / np.pi) * (1 + scaled**-0.3) * np.exp(-scaled / 2)


def mass_function(
    mass: Float[np.ndarray, " mass"], omega_m: float = OMEGA_M, sigma_8: float = SIGMA_8
) -> Float[np.ndarray, " mass"]:
    """Haloes per Mpc^3 and per unit of ln(mass): Sheth & Tormen 1999 (MNRAS 308, 119)."""
    nu = COLLAPSE / deviation(mass, omega_m, sigma_8)
    return omega_m * CRITICAL / mass * multiplicity(nu) * np.gradient(np.log(nu), np.log(mass))


def stellar_mass(log_mass: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """log10 of the median stellar mass of the central galaxy: Moster, Naab & White 2013 (MNRAS 428, 3121), eq. 2."""
    x = 10.0 ** (log_mass - 11.590)
    return log_mass + np.log10(2 * 0.0351 / (x**-1.376 + x**0.608))


def centrals(log_mass: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """The chance that a halo has a central galaxy above the threshold (Zheng et al. 2007, eq. 1)."""
    return (1 + erf((log_mass + np.log10(HUBBLE) - MINIMUM) / WIDTH)) / 2


def satellites(log_mass: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """The mean number of satellite galaxies above the threshold (Zheng et al. 2007, eq. 3)."""
    mass = 10.0**log_mass * HUBBLE
    return centrals(log_mass) * (np.maximum(mass - 10**CUT, 0) / 10**SATELLITE) ** SLOPE


def radius_200(log_mass: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """The radius in Mpc within which the mean density is 200 times the critical one."""
    return np.cbrt(3 * 10.0**log_mass / (800 * np.pi * CRITICAL))


def concentration(log_mass: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """The median r_200 over the scale radius: Dutton & Maccio 2014 (MNRAS 441, 3359), eq. 8 at redshift 0.

    The scatter is 0.11 dex.
    """
    return 10 ** (0.905 - 0.101 * (log_mass + np.log10(HUBBLE) - 12))


def enclosed(x: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """The mass within x scale radii over 4 pi rho_s r_s^3 (Navarro, Frenk & White 1997, ApJ 490, 493)."""
    return np.log1p(x) - x / (1 + x)


def radii(
    share: Float[np.ndarray, "*any"], concentration: Float[np.ndarray, "*any"] | float
) -> Float[np.ndarray, "*any"]:
    """The radius over r_200 within which this share of the mass lies (Robotham & Howlett 2018, arXiv:1805.09550)."""
    inside = share * enclosed(np.asarray(concentration))
    return (-1 / lambertw(-np.exp(-inside - 1)).real - 1) / concentration


@cache
def _dispersions(count: int = 400) -> tuple[Float[np.ndarray, " x"], Float[np.ndarray, " x"]]:
    """x and x (1 + x)^2 int_x^inf m(s) / (s^3 (1 + s)^2) ds, the integral on a grid that is even in ln s."""
    s = np.geomspace(1e-4, 1e4, 40 * count)
    value = enclosed(s) / (s**2 * (1 + s) ** 2)  # times ds / s
    steps = (value[1:] + value[:-1]) / 2 * np.diff(np.log(s))
    beyond = np.concatenate([np.cumsum(steps[::-1])[::-1], [0]])
    x = np.geomspace(1e-3, 1e3, count)
    return x, x * (1 + x) ** 2 * np.interp(np.log(x), np.log(s), beyond)


def dispersion(
    radius: Float[np.ndarray, "*any"], log_mass: Float[np.ndarray, "*any"], concentration: Float[np.ndarray, "*any"]
) -> Float[np.ndarray, "*any"]:
    """Speed along any axis, one standard deviation in km/s, at ``radius`` (over r_200) in an NFW halo.

    The Jeans equation with isotropic orbits (Lokas & Mamon 2001, MNRAS 321, 155, eq. 13 with beta = 0).
    """
    x, shape = _dispersions()
    at = np.interp(np.log(np.maximum(radius * concentration, x[0])), np.log(x), shape)
    scale = GRAVITY * 10.0**log_mass / enclosed(concentration) / (radius_200(log_mass) / concentration)
    return np.sqrt(scale * at)


class Masses:
    """log10 masses of haloes between two limits, as often as the mass function has them."""

    def __init__(self, low: float, high: float, weight: Float[np.ndarray, " mass"] | None = None, count: int = 400):
        self.log_mass = np.linspace(low, high, count)
        density = mass_function(10.0**self.log_mass) * (1 if weight is None else weight)
        steps = np.diff(self.log_mass) * np.log(10) * (density[1:] + density[:-1]) / 2
        self.density = steps.sum()  # of such haloes, per Mpc^3
        self.share = np.concatenate([[0], np.cumsum(steps)]) / steps.sum()

    def __call__(self, share: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        """The mass below which this share of the haloes lies."""
        return np.interp(share, self.share, self.log_mass)
