"""Morphological statistics of galaxies, a batch at a time: concentration, asymmetry, smoothness, Gini, M20, sizes.

Definitions: Conselice 2003 (ApJS 147, 1; CAS) and Lotz, Primack & Madau 2004 (AJ 128, 163; Gini, M20, segmentation), in
the conventions of statmorph (Rodriguez-Gomez et al. 2019, MNRAS 483, 4140): circular apertures of 1.5 Petrosian radii
around the centre of least asymmetry. One galaxy an image, near its middle. The outline, centre and radii come from the
mean of the bands (each in units of its noise); every band is then measured inside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from .apertures import EXTENT, Growth, boxcar, disc, growths, half_turn
from .outline import Outline, Sky, asymmetry, moments, outline, sky

LARGEST_SIDE = 128  # pixels; larger images are averaged over blocks first


def statistics(images: np.ndarray | Tensor) -> tuple[Float[np.ndarray, "object statistic"], list[str]]:
    """All statistics of ``images`` [object, band, y, x] (any unit, NaN = bad pixel) and their names.

    Per band C, A, S, gini, m20, r50 (pixels), log10 S/N and magnitude (-2.5 log10 of the aperture flux); the shape of
    the mean band; colours between neighbouring bands. NaN where a statistic has no meaning (no source, negative flux).
    """
    images = _floats(images)
    scale = -(-max(images.shape[-2:]) // LARGEST_SIDE)
    images = _block_mean(images, scale)
    skies = [sky(band) for band in images.unbind(1)]
    bands = [band - s.level[:, None, None] for band, s in zip(images.unbind(1), skies)]
    detection = torch.stack([band / s.sigma[:, None, None] for band, s in zip(bands, skies)]).nanmean(0)
    place = outline(detection)
    columns = {
        "ellipticity": place.ellipticity,
        "r_petrosian": place.petrosian * scale,
        "area": place.gini.flatten(1).sum(1).float() * scale**2,
        "shape_asymmetry": shape_asymmetry(place),
        "offset": place.offset / place.petrosian,
    }
    names = [f"_{i}" for i in range(len(bands))]
    if len(bands) > 1:  # the mean of the bands is measured like a band
        bands, skies, names = [detection, *bands], [sky(detection), *skies], ["", *names]
    for name, own in zip(names, measure(bands, skies, place)):
        own["r50"] = own["r50"] * scale
        columns |= {f"{key}{name}": value for key, value in own.items()}
    for blue, red in pairwise(name for name in names if name):
        columns[f"colour{blue}{red}"] = columns[f"magnitude{blue}"] - columns[f"magnitude{red}"]
    return torch.stack(list(columns.values()), 1).numpy(), list(columns)


def _floats(images: np.ndarray | Tensor) -> Tensor:
    """A copy in float32: what comes from a store may not be written to."""
    return images.float() if isinstance(images, Tensor) else torch.tensor(images, dtype=torch.float32)


def central_pixels(images: np.ndarray, side: int = 32) -> tuple[Float[np.ndarray, "object pixel"], list[str]]:
    """The central half of each image (all of it up to 2 ``side`` pixels) averaged down to ``side`` x ``side``."""
    images = torch.nan_to_num(_floats(images), nan=0.0, posinf=0.0, neginf=0.0)
    height, width = (min(n, max(n // 2, 2 * side)) for n in images.shape[-2:])
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    crop = images[..., top : top + height, left : left + width]
    if max(height, width) > side:
        crop = interpolate(crop, size=(min(side, height), min(side, width)), mode="area")
    names = [f"{b}_{y}_{x}" for b, y, x in np.ndindex(*crop.shape[1:])]
    return crop.flatten(1).numpy(), names


def _block_mean(images: Float[Tensor, "object band y x"], scale: int) -> Float[Tensor, "object band y_ x_"]:
    if scale == 1:
        return images.clone()
    known = torch.isfinite(images)
    mean = avg_pool2d(torch.where(known, images, 0), scale)
    return mean / avg_pool2d(known.float(), scale)  # 0/0 = NaN where a whole block is bad


def measure(
    images: Sequence[Float[Tensor, "object y x"]], skies: Sequence[Sky], place: Outline
) -> list[dict[str, Float[Tensor, " object"]]]:
    """The statistics of each sky-subtracted band inside one outline."""
    images = [torch.where(place.valid & torch.isfinite(image), image, 0) for image in images]
    reach, segment = EXTENT * place.petrosian, place.gini & place.valid
    curves = growths(images, place.valid, place.y, place.x)
    return [_measure(*band, place, segment, reach) for band in zip(images, skies, curves)]


def _measure(
    image: Float[Tensor, "object y x"],
    noise: Sky,
    curve: Growth,
    place: Outline,
    segment: Bool[Tensor, "object y x"],
    reach: Float[Tensor, " object"],
) -> dict[str, Float[Tensor, " object"]]:
    flux = curve.flux_within(reach)
    r20, r50, r80 = (curve.radius_of(share, reach) for share in (0.2, 0.5, 0.8))
    positive = torch.where(flux > 0, flux, torch.nan)
    return {
        "C": 5 * torch.log10(r80 / r20),
        "A": asymmetry(image, place.valid, noise.sigma, place.y, place.x, reach),
        "S": smoothness(image, noise.sigma, place),
        "gini": gini(image, segment),
        "m20": m20(image, segment),
        "r50": r50,
        "log_flux_sn": torch.log10(positive / (noise.sigma * reach * torch.pi**0.5)),
        "magnitude": -2.5 * torch.log10(positive),
    }


def shape_asymmetry(place: Outline) -> Float[Tensor, " object"]:
    """The asymmetry of the segment itself, faint features weighing like bright ones (Pawlik et al. 2016, eq. 1)."""
    mask = place.source.float()
    turned = half_turn(mask, torch.ones_like(place.source), place.y, place.x)[0]
    return (mask - turned).abs().sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)


def smoothness(
    image: Float[Tensor, "object y x"], sigma: Float[Tensor, " object"], place: Outline
) -> Float[Tensor, " object"]:
    """S = what exceeds a boxcar of a quarter Petrosian radius, between 0.25 and 1.5 of them, over the flux there.

    Lotz et al. 2004, eq. 11; the sky's own share, sigma sqrt((1 - 1 / size^2) / 2 pi) a pixel, is taken off.
    """
    inner, outer = place.petrosian / 4, EXTENT * place.petrosian
    size = inner.floor().clamp_min(1)
    excess = (image - boxcar(image, size)).clamp_min(0)
    ring = (disc(image, place.y, place.x, outer) - disc(image, place.y, place.x, inner)) * place.valid
    flux = (ring * image).sum((1, 2))
    expected = sigma * ((1 - 1 / size**2) / (2 * torch.pi)).sqrt() * ring.sum((1, 2))
    return ((ring * excess).sum((1, 2)) - expected) / torch.where(flux > 0, flux, torch.nan)


def gini(image: Float[Tensor, "object y x"], mask: Bool[Tensor, "object y x"]) -> Float[Tensor, " object"]:
    """G = sum (2 i - n - 1) |I_i| / (n - 1) sum |I_i|, ascending over n pixels (Lotz et al. 2004, eq. 6)."""
    value = torch.where(mask, image.abs(), -1.0).flatten(1).sort(1).values
    n = mask.flatten(1).sum(1, keepdim=True)
    value = value.clamp_min(0)
    rank = torch.arange(1, value.shape[1] + 1) - (value.shape[1] - n)
    total = value.sum(1) * (n[:, 0] - 1)
    return ((2 * rank - n - 1) * value).sum(1) / torch.where(total > 0, total, torch.nan)


def m20(image: Float[Tensor, "object y x"], mask: Bool[Tensor, "object y x"]) -> Float[Tensor, " object"]:
    """log10 of the second moment of the brightest pixels that hold 20% of the flux, over that of all (eqs. 7 and 8)."""
    image = torch.where(mask, image, 0)
    y, x, _ = moments(image)
    dy, dx = torch.arange(image.shape[-2]) - y[:, None], torch.arange(image.shape[-1]) - x[:, None]
    moment = (image * (dy[:, :, None] ** 2 + dx[:, None, :] ** 2)).flatten(1)
    value, order = image.flatten(1).sort(1, descending=True)
    total = value.sum(1, keepdim=True)
    bright = value.cumsum(1) - value <= 0.2 * total
    share = (moment.gather(1, order) * bright).sum(1) / moment.sum(1)
    return torch.log10(torch.where((total[:, 0] > 0) & (share > 0), share, torch.nan))
