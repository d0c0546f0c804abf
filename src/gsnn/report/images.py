"""Pixels a person can look at: colour thumbnails, montages, attribution overlays, PNG in a page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from jaxtyping import Float, Num, UInt8
from numpy import ndarray

# Bands from blue to red, for choosing which three become blue, green and red.
_SEQUENCE = ("fuv", "nuv", "u", "b", "g", "v", "r", "i", "z", "y", "j", "h", "k", "ks", "w1", "w2")


def colour_bands(bands: Sequence[str], count: int) -> tuple[int, int, int]:
    """The positions of the bands shown as (red, green, blue): the reddest, the middle one and the bluest.

    Unnamed bands are taken as running from blue to red, except (r, g, b) and (red, green, blue), which are a picture.
    """
    words = [band.lower().split("_")[-1].split("-")[-1] for band in bands]
    if count == 3 and words in (["r", "g", "b"], ["red", "green", "blue"]):
        return 0, 1, 2
    known = len(words) == count and all(word in _SEQUENCE for word in words)
    order = sorted(range(count), key=lambda i: _SEQUENCE.index(words[i])) if known else list(range(count))
    return order[-1], order[(count - 1) // 2], order[0]


def thumbnail(
    image: Num[ndarray, "*object band y x"],
    bands: Sequence[str] = (),
    softening: float = 8.0,
    percentile: float = 99.5,
) -> UInt8[ndarray, "*object y x 3"]:
    """A picture that shows faint arms and bright nuclei at once and keeps colours (Lupton et al. 2004, PASP 116, 133).

    With I the mean over the three bands above the sky, every band is multiplied by asinh(s I / I0) / (I asinh(s)); s is
    ``softening`` and I0 the ``percentile`` of I. A pixel brighter than white is scaled down in all bands alike. The sky
    is the median of the image's border, and NaN pixels are sky. uint8 images are already pictures and stay so.
    """
    image = np.asarray(image)
    if image.ndim < 3:
        image = image[None]
    chosen = list(colour_bands(bands, image.shape[-3]))
    picture = np.moveaxis(image[..., chosen, :, :], -3, -1)
    if image.dtype == np.uint8:
        return np.ascontiguousarray(picture)
    picture = picture.astype(np.float64)
    picture[~np.isfinite(picture)] = np.nan
    border = np.concatenate(
        [
            picture[..., [0, -1], :, :].reshape(*picture.shape[:-3], -1, 3),
            picture[..., :, [0, -1], :].reshape(*picture.shape[:-3], -1, 3),
        ],
        axis=-2,
    )
    border = np.where(np.isfinite(border), border, 0)
    picture = np.nan_to_num(picture - np.median(border, axis=-2)[..., None, None, :])
    intensity = picture.mean(-1, keepdims=True)
    white = np.percentile(intensity, percentile, axis=(-3, -2), keepdims=True)
    noise = 1.4826 * np.median(abs(border.mean(-1) - np.median(border.mean(-1), -1, keepdims=True)), -1)
    white = np.maximum(white, 25 * noise[..., None, None, None])  # a faint object in noise is not stretched to white
    white = np.where(white > 0, white, 1.0)
    positive = np.maximum(intensity, 1e-6 * white)
    picture = picture * np.arcsinh(softening * positive / white) / (positive * np.arcsinh(softening))
    picture = np.clip(picture, 0, None)
    picture /= np.maximum(picture.max(-1, keepdims=True), 1)
    return (picture * 255 + 0.5).astype(np.uint8)


def montage(images: UInt8[ndarray, "m y x 3"], columns: int = 8, gap: int = 2) -> UInt8[ndarray, "height width 3"]:
    """Pictures of one size in a grid, row by row, on white."""
    images = np.asarray(images, np.uint8)
    m, y, x, _ = images.shape
    columns = max(1, min(columns, m))
    rows = -(-m // columns)
    sheet = np.full((rows * (y + gap) - gap if m else 1, columns * (x + gap) - gap if m else 1, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (y + gap), (i % columns) * (x + gap)
        sheet[top : top + y, left : left + x] = image
    return sheet


def overlay(
    image: UInt8[ndarray, "y x 3"], attribution: Float[ndarray, "y x"], strength: float = 0.85
) -> UInt8[ndarray, "y x 3"]:
    """The picture in dimmed grey under its attribution: orange speaks for the answer, blue against it.

    The scale is the map's own 99.5th percentile of |attribution|; zero leaves the grey untouched.
    """
    grey = 0.75 * image.astype(float).mean(-1, keepdims=True)
    size = np.nan_to_num(np.asarray(attribution, float))
    if size.shape != image.shape[:2]:
        rows = np.arange(image.shape[0]) * size.shape[0] // image.shape[0]
        columns = np.arange(image.shape[1]) * size.shape[1] // image.shape[1]
        size = size[rows][:, columns]
    scale = np.percentile(abs(size), 99.5) or abs(size).max() or 1.0
    size = np.clip(size / scale, -1, 1)[..., None]
    hue = np.where(size > 0, np.array([255.0, 140.0, 30.0]), np.array([60.0, 160.0, 255.0]))
    alpha = strength * abs(size)
    return np.clip((1 - alpha) * grey + alpha * hue + 0.5, 0, 255).astype(np.uint8)


def data_uri(image: UInt8[ndarray, "y x 3"], largest: int = 256) -> str:
    """The picture as a ``data:`` address: PNG while small, JPEG (quality 88) where PNG would weigh more than 24 kB."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image))
    if max(picture.size) > largest:
        picture.thumbnail((largest, largest))
    buffer, kind = BytesIO(), "png"
    picture.save(buffer, "PNG", optimize=True)
    if buffer.tell() > 24_000:
        buffer, kind = BytesIO(), "jpeg"
        picture.save(buffer, "JPEG", quality=88, subsampling=0)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()
