"""Where a galaxy is in its image: sky, segment, centre and Petrosian radius, for a batch of images at once.

Lotz, Primack & Madau 2004 (AJ 128, 163, sec. 3) for the segment, Conselice 2003 (ApJS 147, 1) for the centre.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool2d

from .apertures import EXTENT, disc, growth, half_turn


class Sky(NamedTuple):
    level: Float[Tensor, " object"]
    sigma: Float[Tensor, " object"]


class Outline(NamedTuple):
    """Where the galaxy is: lengths in pixels, pixel (0, 0) has its centre at (0, 0)."""

    valid: Bool[Tensor, "object y x"]  # pixels that are known and not of a neighbour
    source: Bool[Tensor, "object y x"]  # the segment of the galaxy above the sky
    gini: Bool[Tensor, "object y x"]  # the segment within which Gini and M20 are taken
    y: Float[Tensor, " object"]
    x: Float[Tensor, " object"]
    petrosian: Float[Tensor, " object"]
    ellipticity: Float[Tensor, " object"]
    offset: Float[Tensor, " object"]  # from the centroid to the centre of least asymmetry


def sky(images: Float[Tensor, "object y x"]) -> Sky:
    """Level and noise of the border, an eighth of the image wide: median and half of 16% to 84%, clipped at 3 sigma."""
    height, width = images.shape[-2:]
    edge = max(1, min(height, width) // 8)
    border = torch.ones(height, width, dtype=torch.bool)
    border[edge : height - edge, edge : width - edge] = False
    values = images[:, border]
    values = torch.where(torch.isfinite(values), values, torch.inf)  # sorted to the end, outside of every range
    values = torch.from_numpy(np.sort(values.numpy(), 1))
    low, high = torch.zeros(len(values), 1), torch.isfinite(values).sum(1, keepdim=True).float()
    for _ in range(4):
        at = [(low + q * (high - low - 1)).round().long().clamp(0, values.shape[1] - 1) for q in (0.1587, 0.5, 0.8413)]
        q16, level, q84 = (values.gather(1, index) for index in at)
        sigma = (q84 - q16) / 2
        low, high = (
            (values < level - 3 * sigma).sum(1, keepdim=True),
            (values <= level + 3 * sigma).sum(1, keepdim=True),
        )
    level, sigma = (torch.nan_to_num(t[:, 0], nan=0.0, posinf=0.0) for t in (level, sigma))
    # a border without noise (simulations, 8-bit images): a part in 3000 of the brightest keeps divisions finite
    tiny = 3e-4 * torch.nan_to_num(images, nan=0.0, posinf=0.0, neginf=0.0).flatten(1).abs().amax(1) + 1e-30
    return Sky(level, torch.maximum(sigma, tiny))


def outline(image: Float[Tensor, "object y x"]) -> Outline:
    """Outlines on sky-subtracted images with noise of about 1 or less a pixel."""
    known = torch.isfinite(image)
    image = torch.where(known, image, 0)
    smooth = gaussian(image, torch.full((len(image),), 1.5))
    level, sigma = sky(smooth)
    above = smooth > (level + 1.5 * sigma)[:, None, None]
    source = connected(above, brightest(smooth, above))
    neighbour = max_pool2d((above & ~source).float(), 3, 1, 1) > 0
    valid = known & ~(neighbour & ~source)
    image = torch.where(valid, image, 0)
    y, x, cov = moments(image.clamp_min(0) * source)
    axis = (((cov[0] - cov[1]) / 2) ** 2 + cov[2] ** 2).sqrt()
    mean = (cov[0] + cov[1]) / 2
    ratio = ((mean - axis).clamp_min(1e-6) / (mean + axis).clamp_min(1e-6)).sqrt()
    reach = EXTENT * growth(image, valid, y, x).petrosian()
    cy, cx = least_asymmetric_centre(image, valid, source, y, x, reach)
    petrosian = growth(image, valid, cy, cx).petrosian()
    # the elliptical Petrosian radius sets the brightness at which the segment of Gini ends (Lotz et al. 2004, sec. 3)
    ellipse = growth(image, valid, cy, cx, cov)
    long = ellipse.petrosian()
    soft = gaussian(image, 0.2 * long)
    rim = growth(soft, torch.ones_like(valid), cy, cx, cov).brightness(long)
    bright = soft >= rim[:, None, None]
    gini = connected(bright, brightest(soft, bright))
    return Outline(valid, source, gini, cy, cx, petrosian, 1 - ratio, torch.hypot(cy - y, cx - x))


def least_asymmetric_centre(
    image: Float[Tensor, "object y x"],
    valid: Bool[Tensor, "object y x"],
    source: Bool[Tensor, "object y x"],
    y: Float[Tensor, " object"],
    x: Float[Tensor, " object"],
    reach: Float[Tensor, " object"],
) -> tuple[Float[Tensor, " object"], Float[Tensor, " object"]]:
    """The centre about which a half turn changes the galaxy least, to 1/16 pixel.

    sum (I - I180)^2 over an image that is zero outside the segment is 2 (sum I^2 - (I * I)(2 c)), so one Fourier
    transform gives it for every half-pixel centre c; the absolute asymmetry is then walked downhill from the best.
    """
    height, width = image.shape[-2:]
    spectrum = torch.fft.rfft2(image * source, s=(2 * height, 2 * width))
    match = torch.fft.irfft2(spectrum**2, s=(2 * height, 2 * width))
    ty, tx = torch.arange(2 * height) / 2, torch.arange(2 * width) / 2
    limit = 1 + 0.2 * source.flatten(1).sum(1).float().sqrt()
    near = ((ty - y[:, None]).abs() <= limit[:, None])[:, :, None] & ((tx - x[:, None]).abs() <= limit[:, None])[
        :, None
    ]
    best = torch.where(near, match, -torch.inf).flatten(1).argmax(1)
    cy, cx = (best // (2 * width)) / 2, (best % (2 * width)) / 2
    noise = sky(image).sigma
    least = asymmetry(image, valid, noise, cy, cx, reach)
    for step in (0.25, 0.25, 0.125, 0.0625):
        for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            ny, nx = cy + dy * step, cx + dx * step
            found = asymmetry(image, valid, noise, ny, nx, reach)
            better = found < least
            cy, cx, least = torch.where(better, ny, cy), torch.where(better, nx, cx), torch.where(better, found, least)
    return cy, cx


def asymmetry(
    image: Float[Tensor, "object y x"],
    valid: Bool[Tensor, "object y x"],
    sigma: Float[Tensor, " object"],
    y: Float[Tensor, " object"],
    x: Float[Tensor, " object"],
    reach: Float[Tensor, " object"],
) -> Float[Tensor, " object"]:
    """A = (sum |I - I180| - its expectation for the sky alone) / sum |I| inside ``reach`` (Conselice 2003, eq. 1).

    White noise of ``sigma`` gives sqrt(2 / pi) sigma sqrt(1 + v) a pixel, where v < 1 is what the interpolation of
    the turned image leaves of its variance; so a centre between pixels is not preferred for its smoother noise.
    """
    turned, both, variance = half_turn(image, valid, y, x)
    weight = disc(image, y, x, reach) * both
    expected = 0.7978846 * sigma * (1 + variance).sqrt() * weight.sum((1, 2))
    total = (weight * image.abs()).sum((1, 2))
    return ((weight * (image - turned).abs()).sum((1, 2)) - expected) / total.clamp_min(1e-30)


def gaussian(image: Float[Tensor, "object y x"], sigma: Float[Tensor, " object"]) -> Float[Tensor, "object y x"]:
    """Each image smoothed by its own Gaussian (pixels), zero outside: a product with two Toeplitz matrices."""

    def matrix(size: int) -> Tensor:
        t = torch.arange(size, dtype=image.dtype)
        kernel = torch.exp(-0.5 * ((t[:, None] - t) / sigma.clamp_min(1e-3)[:, None, None]) ** 2)
        return kernel / (2.5066283 * sigma.clamp_min(0.3989423)[:, None, None])

    height, width = image.shape[-2:]
    return matrix(height) @ image @ matrix(width)


def brightest(image: Float[Tensor, "object y x"], within: Bool[Tensor, "object y x"]) -> Bool[Tensor, "object y x"]:
    """One pixel an image: the brightest of ``within`` after weighing by nearness to the middle."""
    height, width = image.shape[-2:]
    y, x = (torch.arange(size) - (size - 1) / 2 for size in (height, width))
    weight = torch.exp(-0.5 * ((y[:, None] / (height / 8)) ** 2 + (x / (width / 8)) ** 2))
    score = torch.where(within, image.clamp_min(0) * weight, -1).flatten(1)
    seed = torch.zeros_like(score, dtype=torch.bool)
    seed[torch.arange(len(seed)), score.argmax(1)] = True
    return seed.view_as(within)


def connected(mask: Bool[Tensor, "object y x"], seed: Bool[Tensor, "object y x"]) -> Bool[Tensor, "object y x"]:
    """The 8-connected part of ``mask`` that holds the one pixel of ``seed``; that pixel alone if it lies outside."""
    from scipy.ndimage import label

    within = torch.zeros(3, 3, 3, dtype=torch.bool)
    within[1] = True  # neighbours in y and x, never from one image to the next
    parts = torch.from_numpy(label(mask.numpy(), within.numpy())[0])
    own = parts[seed][:, None, None]
    return torch.where(own > 0, parts == own, seed)


def moments(weight: Float[Tensor, "object y x"]) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Centroid y, x and the second moments (yy, xx, yx) of non-negative weights; the middle where all are zero."""
    height, width = weight.shape[-2:]
    total = weight.sum((1, 2))
    weight = torch.where((total > 0)[:, None, None], weight, 1.0)
    total = weight.sum((1, 2))
    row, column = weight.sum(2) / total[:, None], weight.sum(1) / total[:, None]
    ty, tx = torch.arange(height, dtype=weight.dtype), torch.arange(width, dtype=weight.dtype)
    y, x = row @ ty, column @ tx
    dy, dx = ty - y[:, None], tx - x[:, None]
    yx = torch.einsum("nyx,ny,nx->n", weight, dy, dx) / total
    return y, x, ((row * dy**2).sum(1), (column * dx**2).sum(1), yx)
