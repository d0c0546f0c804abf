"""Shear and convergence on a flat sky: Kaiser & Squires's relation, and the Wiener filter of a masked, noisy shear map.

Maps are [..., y, x] with x the last axis. Column 0 lies in the west and column -1 in the east where right ascension
grows with x; the components of the shear are along the axes of the map. Power is that of a pixel: C_l / pixel^2, with
the pixel in radians.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import GsnnError
from .schema import Column, Schema

ARCMIN = math.pi / 180 / 60


def _frequencies(side: int) -> tuple[Float[np.ndarray, "y 1"], Float[np.ndarray, "1 x2"]]:
    return np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]


def multipoles(side: int, pixel: float) -> Float[Tensor, "y x2"]:
    """|l| of the modes of ``rfft2`` of a map of ``side`` pixels of ``pixel`` arcmin."""
    return torch.from_numpy(np.hypot(*_frequencies(side)) * (2 * math.pi / (pixel * ARCMIN)))


def directions(side: int) -> Float[Tensor, "2 y x2"]:
    """cos and sin of twice the angle of each mode, (0, 0) for the mean (Kaiser & Squires 1993, ApJ 404, 441).

    A mode at the Nyquist frequency has no sign on the grid, and so no second component.
    """
    return torch.from_numpy(_directions(side))


@lru_cache(maxsize=16)  # of arrays: a tensor that was made while a network is traced would be none later
def _directions(side: int) -> Float[np.ndarray, "2 y x2"]:
    y, x = _frequencies(side)
    square = np.maximum(x**2 + y**2, 1e-30)
    cos, sin = (x**2 - y**2) / square, 2 * x * y / square
    if side % 2 == 0:
        edge = np.zeros(cos.shape, bool)
        edge[side // 2], edge[:, -1] = True, True
        cos, sin = np.where(edge, np.where(cos < 0, -1.0, 1.0), cos), np.where(edge, 0.0, sin)
    cos[0, 0] = 0
    return np.stack([cos, sin])


def twice(side: int) -> Float[Tensor, " x2"]:
    """How many modes of the plane each column of ``rfft2`` stands for: 2, and 1 of what has no partner."""
    count = np.full(side // 2 + 1, 2.0)
    count[0] = 1
    if side % 2 == 0:
        count[-1] = 1
    return torch.from_numpy(count)


def shear_of(kappa: Float[Tensor, "*objects y x"]) -> Float[Tensor, "*objects 2 y x"]:
    """The shear of a periodic map of the convergence."""
    modes = torch.fft.rfft2(kappa).unsqueeze(-3) * directions(kappa.shape[-1]).to(kappa)
    return torch.fft.irfft2(modes, s=kappa.shape[-2:])


def convergence_of(shear: Float[Tensor, "*objects 2 y x"]) -> Float[Tensor, "*objects 2 y x"]:
    """The E mode (the convergence, of mean zero) and the B mode (which lensing does not make) of a shear map."""
    cos, sin = directions(shear.shape[-1]).to(shear)
    first, second = torch.fft.rfft2(shear).unbind(-3)
    modes = torch.stack([cos * first + sin * second, cos * second - sin * first], -3)
    return torch.fft.irfft2(modes, s=shear.shape[-2:])


def weights(noise: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1 / noise^2, and 0 where there are no data (noise 0)."""
    return torch.where(noise > 0, noise.clamp(min=1e-9) ** -2, 0.0)


def smooth(maps: Float[Tensor, "*objects y x"], sigma: float) -> Float[Tensor, "*objects y x"]:
    """Convolved with a Gaussian of ``sigma`` pixels, periodically."""
    if not sigma:
        return maps
    side = maps.shape[-1]
    beam = torch.exp(-0.5 * (multipoles(side, 1 / ARCMIN) * sigma) ** 2).to(maps)
    return torch.fft.irfft2(torch.fft.rfft2(maps) * beam, s=maps.shape[-2:])


def wiener(
    shear: Float[Tensor, "object 2 y x"],
    noise: Float[Tensor, "object y x"],
    power: Float[Tensor, "y x2"],
    *,
    iterations: int = 100,
    tolerance: float = 1e-4,
) -> Float[Tensor, "object y x"]:
    """The mean of the convergence given the shear, if both it and the noise are Gaussian: exact for any mask and noise.

    ``noise`` is the standard deviation of either component in a pixel, 0 where nothing was observed. Solves
    (S^-1 + D* N^-1 D) kappa = D* N^-1 shear by conjugate gradients in units of S^1/2, where ``power`` is S (as Jeffrey
    et al. 2018, MNRAS 479, 2871, eq. 17, who iterate with a messenger field instead: Elsner & Wandelt 2013,
    arXiv:1211.0585). Ends when the residual is ``tolerance`` of what it was; with 0 after all ``iterations``.
    """
    side = shear.shape[-1]
    amplitude, count = power.to(shear).sqrt(), twice(side).to(shear)
    turn = directions(side).to(shear) * amplitude
    weight = weights(noise)[:, None]

    def back(maps: Tensor) -> Tensor:
        return (torch.fft.rfft2(maps) * turn).sum(-3)

    def inside(one: Tensor, other: Tensor) -> Float[Tensor, "object 1 1"]:
        return ((one.real * other.real + one.imag * other.imag) * count).sum((-2, -1), keepdim=True)

    left = back(weight * shear)
    found, way = torch.zeros_like(left), left.clone()
    size = start = inside(left, left)
    for _ in range(iterations):
        there = way + back(weight * torch.fft.irfft2(way.unsqueeze(-3) * turn, s=(side, side)))
        step = size / inside(way, there).clamp(min=1e-30)
        found, left = found + step * way, left - step * there
        new = inside(left, left)
        if tolerance and bool((new <= tolerance**2 * start).all()):
            break
        way, size = left + (new / size.clamp(min=1e-30)) * way, new
    return torch.fft.irfft2(found * amplitude, s=(side, side))


def power_of(inputs: Schema, column: Column) -> Float[Tensor, "y x2"]:
    """The power of a pixel at each mode, from the spectrum in the provenance of simulated shear maps."""
    told = inputs.provenance.get("spectrum")
    if not told or not column.pixel_scale:
        raise GsnnError(
            "these shear maps do not say which spectrum the convergence has; make them by the simulator 'lensing'"
        )
    known, power = np.array(json.loads(told))
    pixel = column.pixel_scale / 60
    multipole = multipoles(column.shape[-1], pixel).numpy()
    values = np.exp(np.interp(np.log(np.maximum(multipole, known[0])), np.log(known), np.log(power)))
    values[0, 0] = 0  # shear does not know the mean
    return torch.from_numpy(values / (pixel * ARCMIN) ** 2)


def deviation(power: Float[Tensor, "y x2"]) -> float:
    """The standard deviation of a pixel of maps of this power."""
    return math.sqrt(float((power * twice(len(power))).sum()) / len(power) ** 2)


def shear_columns(inputs: Schema) -> tuple[Column, Column]:
    """The shear (2 bands) and its noise (1 band) among the inputs."""
    found = [next((c for c in inputs.of_kind("image") if c.shape[0] == bands), None) for bands in (2, 1)]
    if None in found or found[0].shape[1:] != found[1].shape[1:] or found[0].shape[1] != found[0].shape[2]:
        raise GsnnError("needs two square images of one size among the inputs: a shear of 2 bands, and its noise")
    return found[0], found[1]
