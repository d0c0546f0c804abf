"""The power spectrum of matter today, by the fitting formula of Eisenstein & Hu 1998 (ApJ 496, 605) without wiggles."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

OMEGA_B, HUBBLE, TILT = 0.049, 0.674, 0.965  # what is not asked for: Planck Collaboration VI 2020, A&A 641, A6
_WARM = 2.7255 / 2.7  # of the microwave background, in units of 2.7 K


def transfer(k: Float[Tensor, " k"], omega_m: Float[Tensor, " object"]) -> Float[Tensor, "object k"]:
    """The transfer function at ``k`` in h/Mpc (eqs 26 and 28 to 31)."""
    matter, share = omega_m[:, None] * HUBBLE**2, OMEGA_B / omega_m[:, None]
    sound = 44.5 * torch.log(9.83 / matter) / math.sqrt(1 + 10 * (OMEGA_B * HUBBLE**2) ** 0.75)  # Mpc
    alpha = 1 - 0.328 * torch.log(431 * matter) * share + 0.38 * torch.log(22.3 * matter) * share**2
    shape = omega_m[:, None] * HUBBLE * (alpha + (1 - alpha) / (1 + (0.43 * k * HUBBLE * sound) ** 4))
    q = k * _WARM**2 / shape
    top = torch.log(2 * math.e + 1.8 * q)
    return top / (top + (14.2 + 731 / (1 + 62.5 * q)) * q**2)


def power(
    k: Float[Tensor, " k"], omega_m: Float[Tensor, " object"], sigma_8: Float[Tensor, " object"]
) -> Float[Tensor, "object k"]:
    """Linear P(k) in (Mpc/h)^3 at ``k`` in h/Mpc; 0 at k = 0.

    ``sigma_8`` is the standard deviation of the matter in spheres of 8 Mpc/h.
    """
    wide = torch.logspace(-4, 1.5, 700, dtype=torch.float64)
    x = 8 * wide
    window = 3 * (torch.sin(x) - x * torch.cos(x)) / x**3
    inside = wide ** (3 + TILT) * transfer(wide, omega_m.double()) ** 2 * window**2 / (2 * math.pi**2)
    variance = torch.trapezoid(inside, torch.log(wide), dim=-1)
    amplitude = sigma_8.double() ** 2 / variance
    safe = k.double().clamp(min=1e-6)
    found = amplitude[:, None] * safe**TILT * transfer(safe, omega_m.double()) ** 2
    return found.where(k > 0, 0.0)
