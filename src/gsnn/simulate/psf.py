"""The point-spread function: a double Gaussian, and the square pixel."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

# Core and wing of the LSST Science Requirements Document (LPM-17): peak ratio 0.1 at twice the width, so the wing holds
# 0.4 / 1.4 of the flux. FWHM_PER_SIGMA solves exp(-x^2/2) + 0.1 exp(-x^2/8) = 0.55 for 2x.
WING, WIDER = 0.4 / 1.4, 2.0
FWHM_PER_SIGMA = 2.46697


def transfer(
    ky: Float[Tensor, "y 1"], kx: Float[Tensor, " kx"], fwhm: Float[Tensor, "object band"], pixel_scale: float
) -> Float[Tensor, "object band y kx"]:
    """Optical transfer function (1 at k = 0) of seeing of ``fwhm`` arcsec and a pixel of ``pixel_scale`` arcsec."""
    sigma = (fwhm / FWHM_PER_SIGMA)[..., None]
    pixel_y, pixel_x = (torch.sinc(k * (pixel_scale / (2 * math.pi))) for k in (ky[:, 0], kx))
    total = 0
    for share, wide in ((1 - WING, 1.0), (WING, WIDER)):
        along = share * pixel_y * torch.exp(-0.5 * (wide * sigma * ky[:, 0]) ** 2)
        across = pixel_x * torch.exp(-0.5 * (wide * sigma * kx) ** 2)
        total = total + along[..., :, None] * across[..., None, :]
    return total
