"""Apertures on batches of images in which every galaxy has its own centre, radius and ellipse.

Positions and radii are in pixels; pixel (0, 0) has its centre at (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ETA = 0.2  # the Petrosian radius is where the brightness is ETA of the mean brightness inside
EXTENT = 1.5  # apertures of C, A and S, in Petrosian radii
FINE = 0.5  # pixels between the radii of a curve of growth


class Growth(NamedTuple):
    """Flux and known area inside the radii 0, FINE, 2 FINE, ..."""

    flux: Float[Tensor, "object radius"]
    area: Float[Tensor, "object radius"]

    def petrosian(self) -> Float[Tensor, " object"]:
        """The first radius where the mean brightness of an annulus 1 pixel wide falls below ETA of that inside.

        Petrosian 1976 (ApJ 209, L1) in the inverse form of the SDSS; the largest radius if it never does.
        """
        step = round(0.5 / FINE)
        ring = (self.flux[:, 2 * step :] - self.flux[:, : -2 * step]) / (
            self.area[:, 2 * step :] - self.area[:, : -2 * step]
        ).clamp_min(1e-3)
        mean = self.flux[:, step:-step] / self.area[:, step:-step].clamp_min(1e-3)
        ratio = ring / mean.clamp_min(1e-30)
        ratio[:, 0] = 1.0
        below = ratio < ETA
        first = torch.where(below.any(1), below.float().argmax(1), ratio.shape[1] - 1).clamp_min(1)[:, None]
        high, low = ratio.gather(1, first - 1), ratio.gather(1, first)
        part = ((high - ETA) / (high - low).clamp_min(1e-6)).clamp(0, 1)
        largest = (self.flux.shape[1] - 1) * FINE / EXTENT
        return ((first - 1 + part + step) * FINE)[:, 0].clamp(1.0, largest)

    def flux_within(self, radius: Float[Tensor, " object"]) -> Float[Tensor, " object"]:
        return _between(self.flux, radius)

    def brightness(self, radius: Float[Tensor, " object"]) -> Float[Tensor, " object"]:
        """The mean brightness of the annulus 1 pixel wide at ``radius``."""
        flux, area = (_between(curve, radius + 0.5) - _between(curve, radius - 0.5) for curve in self)
        return flux / area.clamp_min(1e-3)

    def radius_of(self, share: float, radius: Float[Tensor, " object"]) -> Float[Tensor, " object"]:
        """The radius that holds ``share`` of the flux within ``radius``; NaN where that flux is not positive."""
        total = self.flux_within(radius)
        reached = self.flux >= (share * total)[:, None]
        k = torch.where(reached.any(1), reached.float().argmax(1), self.flux.shape[1] - 1).clamp_min(1)[:, None]
        low, high = self.flux.gather(1, k - 1), self.flux.gather(1, k)
        part = ((share * total[:, None] - low) / (high - low).clamp_min(1e-30)).clamp(0, 1)
        square = (((k - 1) ** 2 + part * (2 * k - 1)) * FINE**2)[:, 0]  # flux grows with the square of the radius
        return torch.where(total > 0, square.clamp_min(0.01).sqrt(), torch.nan)


def _between(curve: Float[Tensor, "object radius"], radius: Float[Tensor, " object"]) -> Float[Tensor, " object"]:
    """A curve of growth at any radius, linear in the square of the radius."""
    k = (radius / FINE).clamp(0, curve.shape[1] - 1.001)
    low = k.floor().long()
    part = (k**2 - low**2) / (2 * low + 1)
    a, b = curve.gather(1, low[:, None])[:, 0], curve.gather(1, low[:, None] + 1)[:, 0]
    return a + (b - a) * part


def growth(
    image: Float[Tensor, "object y x"],
    valid: Bool[Tensor, "object y x"],
    y: Float[Tensor, " object"],
    x: Float[Tensor, " object"],
    moments: tuple[Tensor, Tensor, Tensor] | None = None,
) -> Growth:
    """The curve of growth of one image an object; see ``growths``."""
    return growths([image], valid, y, x, moments)[0]


def growths(
    images: Sequence[Float[Tensor, "object y x"]],
    valid: Bool[Tensor, "object y x"],
    y: Float[Tensor, " object"],
    x: Float[Tensor, " object"],
    moments: tuple[Tensor, Tensor, Tensor] | None = None,
) -> list[Growth]:
    """Curves of growth of several bands, in circles, or with ``moments`` (yy, xx, yx) in ellipses by semi-major axis.

    Every pixel is four of half its size, each shared linearly between the two radii that its width touches.
    """
    n, height, width = valid.shape
    count = int(0.75 * max(height, width) / FINE) + 3
    yy, xx, yx = _metric(moments, y)
    known = valid.to(images[0].dtype)
    values = (
        torch.stack([*(torch.where(valid, image, 0) for image in images), known], -1).reshape(n * height * width, -1)
        / 4
    )
    sums = values.new_zeros(n * count, values.shape[1])
    base = (torch.arange(n) * count)[:, None, None]
    for oy in (-0.25, 0.25):
        dy = (torch.arange(height) + oy - y[:, None])[:, :, None]
        for ox in (-0.25, 0.25):
            dx = (torch.arange(width) + ox - x[:, None])[:, None, :]
            u = (yy * dy**2 + xx * dx**2 + 2 * yx * dy * dx).clamp_min(0).sqrt() / FINE - 0.5
            first = u.floor() + 1
            inner = (first - u).reshape(-1, 1)
            index = (first.long().clamp(0, count - 2) + base).reshape(-1)
            sums.index_add_(0, index, values * inner)
            sums.index_add_(0, index + 1, values * (1 - inner))
    *flux, area = sums.view(n, count, -1).cumsum(1)[:, :-1].unbind(2)
    return [Growth(one, area) for one in flux]


def _metric(moments: tuple[Tensor, Tensor, Tensor] | None, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The quadratic form whose root is the semi-major axis of the ellipse through a point."""
    if moments is None:
        one = torch.ones_like(like)[:, None, None]
        return one, one, torch.zeros_like(one)
    yy, xx, yx = moments
    mean, half = (yy + xx) / 2, (((yy - xx) / 2) ** 2 + yx**2).sqrt()
    long, short = (mean + half).clamp_min(1e-6), torch.maximum(mean - half, 0.01 * (mean + half)).clamp_min(1e-6)
    # rebuilt from its axes, the short one at least a tenth of the long one
    cos, sin = (torch.where(half > 0, (xx - yy) / (2 * half.clamp_min(1e-12)), 1), yx / half.clamp_min(1e-12))
    stretch = (long / short - 1) / 2
    return tuple(t[:, None, None] for t in (1 + stretch * (1 + cos), 1 + stretch * (1 - cos), -stretch * sin))


def disc(
    image: Float[Tensor, "object y x"],
    y: Float[Tensor, " object"],
    x: Float[Tensor, " object"],
    radius: Float[Tensor, " object"],
) -> Float[Tensor, "object y x"]:
    """Roughly the share of each pixel inside a circle: linear over the pixel that the rim crosses."""
    dy = torch.arange(image.shape[-2]) - y[:, None]
    dx = torch.arange(image.shape[-1]) - x[:, None]
    distance = (dy[:, :, None] ** 2 + dx[:, None, :] ** 2).sqrt()
    return (radius[:, None, None] + 0.5 - distance).clamp(0, 1)


def half_turn(
    image: Float[Tensor, "object y x"],
    valid: Bool[Tensor, "object y x"],
    y: Float[Tensor, " object"],
    x: Float[Tensor, " object"],
) -> tuple[Float[Tensor, "object y x"], Bool[Tensor, "object y x"], Float[Tensor, " object"]]:
    """Each image turned by 180 degrees about its own centre (bilinear, zero outside), where that is known with its
    counterpart, and the variance that white noise keeps.

    A turn is a product with one matrix for the rows and one for the columns, each with two entries a row.
    """

    def matrix(centre: Tensor, size: int) -> tuple[Tensor, Tensor]:
        t = torch.arange(size, dtype=image.dtype)
        source = 2 * centre[:, None] - t  # row -> the position it is taken from
        part = (2 * centre) % 1
        return (1 - (source[:, :, None] - t).abs()).clamp_min(0), part**2 + (1 - part) ** 2

    (rows, vy), (columns, vx) = matrix(y, image.shape[-2]), matrix(x, image.shape[-1])
    if valid.all():
        cover = rows.sum(2)[:, :, None] * columns.sum(2)[:, None, :]
    else:
        cover = rows @ valid.to(image.dtype) @ columns.mT
    return rows @ image @ columns.mT, valid & (cover > 0.999), vy * vx


def boxcar(image: Float[Tensor, "object y x"], size: Float[Tensor, " object"]) -> Float[Tensor, "object y x"]:
    """Means over squares of ``size`` (whole pixels), zero outside the image."""

    def matrix(length: int) -> Tensor:
        t = torch.arange(length)
        shift = t[None] - t[:, None] + torch.div(size, 2, rounding_mode="floor")[:, None, None]
        return ((shift >= 0) & (shift < size[:, None, None])).to(image.dtype) / size[:, None, None]

    return matrix(image.shape[-2]) @ image @ matrix(image.shape[-1]).mT
