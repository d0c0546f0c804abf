"""Light profiles as closed forms in Fourier space, where the point-spread function and the pixel are products.

Everything is a Fourier transform of unit flux (1 at k = 0), k in radians per arcsec, so a profile is as exact in its
steep core as in its wings: no pixel is ever sampled.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_INDICES = np.arange(0.75, 6.3, 0.125)  # Sersic indices of the table
_SIGMAS = np.geomspace(0.008, 20, 13)  # widths of its Gaussians in half-light radii

_NOTHING = -30.0  # exponents stop here: exp(-30) is nothing in float32, and smaller numbers make slow denormals


@cache
def _sersic_table() -> Float[Tensor, "index gaussian"]:
    from scipy.optimize import nnls
    from scipy.special import gamma, gammaincinv

    r = np.geomspace(0.004, 80, 300)
    gaussians = (r[:, None] / _SIGMAS) ** 2 * np.exp(-((r[:, None] / _SIGMAS) ** 2) / 2)  # flux per ln r
    table = []
    for n in _INDICES:
        b = gammaincinv(2 * n, 0.5)
        flux = r**2 * np.exp(-b * r ** (1 / n)) * b ** (2 * n) / (n * gamma(2 * n))
        weight = nnls(gaussians, flux)[0]
        table.append(weight / weight.sum())
    return torch.tensor(np.array(table), dtype=torch.float32)


def sersic_mixture(
    n: Float[Tensor, " object"],
) -> tuple[Float[Tensor, "object gaussian"], Float[Tensor, " gaussian"]]:
    """A Sersic profile of index n (0.75 to 6.25) as round Gaussians: weights (sum 1) and sigmas / half-light radius.

    After Hogg & Lang 2013 (arXiv:1210.6563), with one set of widths for every n: non-negative weights are fitted to the
    flux per ln(radius) at a table of indices and interpolated between them.
    """
    table = _sersic_table().to(n.device)
    place = ((n - _INDICES[0]) / 0.125).clamp(0, len(_INDICES) - 1.001)
    low = place.long()
    weights = torch.lerp(table[low], table[low + 1], (place - low)[:, None])
    return weights, torch.tensor(_SIGMAS, dtype=n.dtype, device=n.device)


def enclosed(
    r: Float[Tensor, " object"], n: Float[Tensor, " object"], radius: Float[Tensor, " object"]
) -> Float[Tensor, " object"]:
    """The share of a round Sersic profile's flux within r, for the half-light ``radius`` (same unit)."""
    weights, sigmas = sersic_mixture(n)
    return (weights * -torch.expm1(-(((r / radius)[:, None] / sigmas) ** 2) / 2)).sum(-1)


def half_light_scale(
    bulge: Float[Tensor, " object"], n: Float[Tensor, " object"], ratio: Float[Tensor, " object"]
) -> Float[Tensor, " object"]:
    """Half-light radius of bulge + exponential disc in units of the disc's, for bulge radius / disc radius = ratio.

    Solved by bisection in ln r; both seen face-on.
    """
    low, high = ratio.clamp(max=1), ratio.clamp(min=1)
    for _ in range(24):
        r = torch.sqrt(low * high)
        x = 1.678347 * r
        inside = bulge * enclosed(r, n, ratio) + (1 - bulge) * (1 - (1 + x) * torch.exp(-x))
        low, high = torch.where(inside < 0.5, r, low), torch.where(inside < 0.5, high, r)
    return torch.sqrt(low * high)


def wavenumbers(count: int, spacing: float) -> tuple[Float[Tensor, "y 1"], Float[Tensor, " kx"]]:
    """(ky, kx) of ``rfft2`` for count x count pixels of ``spacing`` arcsec."""
    ky = torch.fft.fftfreq(count, spacing) * (2 * math.pi)
    return ky[:, None], torch.fft.rfftfreq(count, spacing) * (2 * math.pi)


def rotate(
    ky: Float[Tensor, "y 1"], kx: Float[Tensor, " kx"], position_angle: Float[Tensor, " object"]
) -> tuple[Float[Tensor, "object y kx"], Float[Tensor, "object y kx"]]:
    """k along the major and the minor axis; position angle in radians from +y (north) towards -x (east)."""
    sin, cos = torch.sin(position_angle)[:, None, None], torch.cos(position_angle)[:, None, None]
    return cos * ky - sin * kx, sin * ky + cos * kx


def sersic(
    major: Float[Tensor, "object y kx"],
    minor: Float[Tensor, "object y kx"],
    n: Float[Tensor, " object"],
    radius: Float[Tensor, " object"],
    q: Float[Tensor, " object"],
    frame: float,
) -> Float[Tensor, "object y kx"]:
    """An elliptical Sersic profile of half-light ``radius`` (arcsec) along the major axis and axis ratio q.

    A Fourier series of a frame of so many arcsec wraps the wings round. A Gaussian much wider than the frame would
    fall on it whole, where it should be as faint as at its centre; its weight is lowered to that, 1 / u of it, with
    u = 2 pi sigma^2 q / frame^2, and smoothly so between (flux in the stamp then agrees to 1% for n = 4).
    """
    weights, sigmas = sersic_mixture(n)
    u = (radius[:, None] * sigmas) ** 2 * q[:, None] * (2 * math.pi / frame**2)
    weights = weights * torch.exp(torch.log(1 + u**3) / -3)
    square = (minor * q[:, None, None]).square_().add_(major**2).mul_((-0.5 * radius**2)[:, None, None])
    total, term = torch.zeros_like(square), torch.empty_like(square)
    for weight, sigma in zip(weights.unbind(-1), sigmas.tolist()):
        torch.mul(square, sigma**2, out=term)
        total.add_(term.clamp_(min=_NOTHING).exp_().mul_(weight[:, None, None]))
    return total


def disc(
    major: Float[Tensor, "object y kx"],
    minor: Float[Tensor, "object y kx"],
    scale: Float[Tensor, " object"],
    height: Float[Tensor, " object"],
    cos_i: Float[Tensor, " object"],
) -> Float[Tensor, "object y kx"]:
    """A transparent disc exp(-R / scale) sech^2(z / height) seen at inclination i.

    By the projection-slice theorem it is the slice through the three-dimensional transform: (1 + s^2)^(-3/2) of the
    exponential times x / sinh(x), x = pi k_z height / 2, of sech^2 (van der Kruit & Searle 1981).
    """
    scale, height, cos_i = scale[:, None, None], height[:, None, None], cos_i[:, None, None]
    plane = (minor * cos_i).square_().add_(major**2).mul_(scale**2).add_(1).rsqrt_()
    x = (minor * (height * torch.sqrt(1 - cos_i**2) * (math.pi / 2))).abs_().clamp_(1e-2, -_NOTHING)
    fade = torch.exp(-x)
    sinh = 1 / fade
    return (plane * plane).mul_(plane).mul_(x.mul_(2)).div_(sinh.sub_(fade))


def knots(
    ky: Float[Tensor, "y 1"],
    kx: Float[Tensor, " kx"],
    x: Float[Tensor, "object knot"],
    y: Float[Tensor, "object knot"],
    sigma: Float[Tensor, "object knot"],
    flux: Float[Tensor, "object knot"],
) -> Float[Tensor, "object y 2 kx"]:
    """Many round Gaussians at (x, y) arcsec, as real and imaginary part.

    Each separates, exp(-sigma^2 k^2 / 2 - i k x) = f(k_x) g(k_y), so that their sum is one matrix product.
    """
    cos_x, sin_x = _wave(kx, x, sigma)
    cos_y, sin_y = _wave(ky[:, 0], y, sigma)
    along = torch.cat([cos_y, sin_y], 1) * torch.cat([flux, flux], 1)[..., None]
    across = torch.cat([torch.cat([cos_x, -sin_x], 2), torch.cat([-sin_x, -cos_x], 2)], 1)
    return (along.transpose(1, 2) @ across).unflatten(2, (2, len(kx)))


def _wave(
    k: Float[Tensor, " k"], x: Float[Tensor, "object knot"], sigma: Float[Tensor, "object knot"]
) -> tuple[Float[Tensor, "object knot k"], Float[Tensor, "object knot k"]]:
    """exp(-sigma^2 k^2 / 2) times cos(k x) and sin(k x)."""
    fade = (sigma[..., None] * k).square_().mul_(-0.5).clamp_(min=_NOTHING).exp_()
    turn = x[..., None] * k
    return torch.cos(turn).mul_(fade), turn.sin_().mul_(fade)
