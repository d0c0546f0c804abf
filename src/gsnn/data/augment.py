"""Changes of an object that leave the answer alone: each class says, in ``symmetry``, what it takes for granted.

They act on the inputs in batches of native units, before any transform, and turn integer images into float32. Those
that move pixels (``moves``) would tear inputs from a target that is a map, and are refused there. Every draw has the
address (seed, purpose, row, epoch), so an object is changed alike in any batch, on any rank and after any resume.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from ..errors import GsnnError, suggest
from ..rng import Rng, key
from .schema import Schema

Batch = dict[str, Tensor]
Edge = Literal["reflect", "nearest", "zero"]
_PADDING = {"reflect": "reflection", "nearest": "border", "zero": "zeros"}


def augment(batch: Batch, augmentations: Sequence[nn.Module], rng: Rng, inputs: Schema) -> Batch:
    """Apply the augmentations in their order. Each draws numbers of its own, even where one stands twice."""
    for place, change in enumerate(augmentations):
        batch = change(batch, replace(rng, seed=key(rng.seed, f"augment/{place}")), inputs)
    return batch


def _images(batch: Batch, inputs: Schema) -> dict[str, Float[Tensor, "object band y x"]]:
    return {c.name: batch[c.name] for c in inputs.of_kind("image") if c.name in batch}


def _within(low: float, high: float, **settings: float) -> None:
    for name, value in settings.items():
        if not low <= value <= high:
            raise GsnnError(f"augment: {name} = {value} is outside {low:g} to {high:g}")


def _by_group(x: Tensor, group: Int64[Tensor, " object"], changes: Mapping[int, Sequence]) -> Tensor:
    """``x`` with ``change(x[group == g])`` written where the group is g: one call a group, not one an object."""
    out = x.clone()
    for g, change in changes.items():
        chosen = (group == g).nonzero().flatten()
        if len(chosen):
            out[chosen] = change(x[chosen])
    return out


class Rotate(nn.Module):
    """Turn by 0, 90, 180 or 270 degrees: exact, no pixel is changed (images that are not square: by 0 or 180).

    With ``continuous`` the angle is uniform within +- ``degrees`` and pixels are interpolated bilinearly, which smooths
    the noise; corners from outside follow ``edge``.
    """

    symmetry = "The sky has no preferred direction: an object turned about the line of sight has the same answer."
    moves = True

    def __init__(self, *, continuous: bool = False, degrees: float = 180.0, edge: Edge = "reflect"):
        super().__init__()
        _within(0, 180, degrees=degrees)
        self.continuous, self.degrees, self.edge = continuous, degrees, edge

    def forward(self, batch: Batch, rng: Rng, inputs: Schema) -> Batch:
        images = _images(batch, inputs)
        draw = rng.uniform("rotate", batch["row"])[:, 0]
        if self.continuous:
            angle = (2 * draw - 1) * math.radians(self.degrees)
            return {**batch, **{name: _turn(x.float(), angle, _PADDING[self.edge]) for name, x in images.items()}}
        square = all(x.shape[-1] == x.shape[-2] for x in images.values())
        quarter = (4 * draw).long() if square else 2 * (2 * draw).long()
        turns = {k: lambda x, k=k: torch.rot90(x, k, (-2, -1)) for k in (1, 2, 3)}
        return {**batch, **{name: _by_group(x, quarter, turns).float() for name, x in images.items()}}


def _turn(x: Float[Tensor, "object band y x"], angle: Float[Tensor, " object"], padding: str) -> Tensor:
    """Turn by ``angle`` radians in the sense of ``torch.rot90``; lengths are in pixels, so oblong images fare well."""
    height, width = x.shape[-2:]
    if not len(x):
        return x
    c, s, zero = torch.cos(angle), -torch.sin(angle), torch.zeros_like(angle)
    matrix = torch.stack([c, s * height / width, zero, -s * width / height, c, zero], 1).reshape(-1, 2, 3)
    grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    turned = functional.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return torch.where((angle == 0)[:, None, None, None], x, turned)


class Flip(nn.Module):
    """Mirror left and right, and up and down, each with ``probability``."""

    symmetry = "A galaxy and its mirror image have the same answer (not so for the sense in which spiral arms wind)."
    moves = True

    def __init__(self, *, probability: float = 0.5):
        super().__init__()
        _within(0, 1, probability=probability)
        self.probability = probability

    def forward(self, batch: Batch, rng: Rng, inputs: Schema) -> Batch:
        mirrored = rng.uniform("flip", batch["row"], 2) < self.probability
        group = mirrored[:, 0] + 2 * mirrored[:, 1]
        flips = {g: lambda x, axes=axes: x.flip(axes) for g, axes in ((1, (-1,)), (2, (-2,)), (3, (-2, -1)))}
        return {**batch, **{n: _by_group(x, group, flips).float() for n, x in _images(batch, inputs).items()}}


class Shift(nn.Module):
    """Move by whole pixels, at most ``fraction`` of the size along y and along x; what comes in follows ``edge``."""

    symmetry = "Where an object stands in its cut-out says nothing about it."
    moves = True

    def __init__(self, *, fraction: float = 0.05, edge: Edge = "reflect"):
        super().__init__()
        _within(0, 0.5, fraction=fraction)
        self.fraction, self.edge = fraction, edge

    def forward(self, batch: Batch, rng: Rng, inputs: Schema) -> Batch:
        draw = rng.uniform("shift", batch["row"], 2)
        moved = {}
        for name, x in _images(batch, inputs).items():
            y, inside_y = self._from(draw[:, 0], x.shape[-2])
            x_, inside_x = self._from(draw[:, 1], x.shape[-1])
            place = (y[:, :, None] * x.shape[-1] + x_[:, None, :]).flatten(1)
            image = x.flatten(2).gather(2, place[:, None].expand(-1, x.shape[1], -1)).reshape(x.shape).float()
            if self.edge == "zero":
                image = image * (inside_y[:, :, None] & inside_x[:, None, :])[:, None]
            moved[name] = image
        return {**batch, **moved}

    def _from(self, draw: Float[Tensor, " object"], size: int) -> tuple[Tensor, Tensor]:
        """The pixel that each pixel is copied from, and whether it lies inside the image."""
        most = round(self.fraction * size)
        offset = (draw * (2 * most + 1)).long() - most
        pixel = torch.arange(size, device=draw.device) - offset[:, None]
        inside = (pixel >= 0) & (pixel < size)
        if self.edge == "reflect":  # ... 1 0 | 0 1 2 ...: the edge itself is repeated, so that half a size is allowed
            pixel = torch.where(pixel < 0, -1 - pixel, torch.where(pixel >= size, 2 * size - 1 - pixel, pixel))
        return pixel.clamp(0, size - 1), inside


def sky_sigma(x: Float[Tensor, "object band y x"]) -> Float[Tensor, "object band"]:
    """The noise of the sky in each band: 1.4826 median |d| / sqrt(6) of second differences d = a - 2 b + c along rows.

    A second difference takes away a galaxy's smooth light, the median its core and the stars. Noise that is correlated
    from pixel to pixel (a resampled image) is underestimated. Sixteen rows or a few more are enough: 1000 values of an
    image of 64 pixels tell sigma to 4%.
    """
    if x.shape[-1] < 3:
        raise GsnnError(f"noise: the image is {x.shape[-1]} pixels wide, and its noise needs three to be measured")
    row = x[..., :: max(x.shape[-2] // 16, 1), :].float()
    second = (row[..., 2:] - 2 * row[..., 1:-1] + row[..., :-2]).abs().flatten(2)
    return 1.4826 / math.sqrt(6) * second.median(-1).values


class Noise(nn.Module):
    """Add Gaussian noise: to images ``amplitude`` times the noise of their own sky, band by band (:func:`sky_sigma`).

    ``columns`` names images or scalars and gives their noise in their own unit instead: ``{ mag_g = 0.02 }``.
    An amplitude of 0.5 makes an image 12% noisier, as 1 / (1 + 0.5^2) = 80% of the exposure would.
    """

    symmetry = "A somewhat shorter exposure of the same object has the same answer."

    def __init__(self, *, amplitude: float = 0.5, columns: dict[str, float] = {}):  # noqa: B006 (read only; a TOML default)
        super().__init__()
        _within(0, math.inf, amplitude=amplitude, **columns)
        self.amplitude, self.columns = amplitude, columns

    def forward(self, batch: Batch, rng: Rng, inputs: Schema) -> Batch:
        noisy = dict(batch)
        for name in self.columns:
            if name not in batch or name not in inputs or inputs[name].kind not in ("image", "scalar"):
                raise GsnnError(f"noise: no image or scalar {name!r} among the inputs; {suggest(name, inputs)}")
        for name in {**_images(batch, inputs), **self.columns}:
            x = batch[name].float()
            sigma = self.columns.get(name)
            if sigma is None:
                sigma = self.amplitude * sky_sigma(x)[:, :, None, None] if self.amplitude else 0.0
            normal = rng.normal(f"noise/{name}", batch["row"], x[0].numel()) if len(x) else x
            noisy[name] = x + sigma * normal.reshape(x.shape)
        return noisy


class Blur(nn.Module):
    """Convolve with a Gaussian whose full width at half maximum is uniform in 0 to ``fwhm`` pixels.

    Near the edge the kernel is renormalised to the pixels that exist, so a flat sky stays flat.
    """

    symmetry = "The same object under somewhat worse seeing has the same answer."

    def __init__(self, *, fwhm: float = 1.5):
        super().__init__()
        _within(0, math.inf, fwhm=fwhm)
        self.fwhm = fwhm

    def forward(self, batch: Batch, rng: Rng, inputs: Schema) -> Batch:
        sigma = rng.uniform("blur", batch["row"])[:, 0] * self.fwhm / math.sqrt(8 * math.log(2))
        blurred = {}
        for name, x in _images(batch, inputs).items():
            objects, bands, height, width = x.shape
            along_x = _gaussian(sigma, width)
            along_y = along_x if height == width else _gaussian(sigma, height)
            y = along_y @ x.float().transpose(1, 2).reshape(objects, height, bands * width)  # one product for all bands
            y = y.reshape(objects, height, bands, width).transpose(1, 2).reshape(objects, bands * height, width)
            blurred[name] = (y @ along_x.mT).reshape(x.shape)
        return {**batch, **blurred}


def _gaussian(sigma: Float[Tensor, " object"], size: int) -> Float[Tensor, "object size size"]:
    """The convolution along one axis as a matrix: its rows sum to one, and it is the identity where sigma is zero."""
    pixel = torch.arange(size, device=sigma.device, dtype=torch.float32)
    distance = pixel[:, None] - pixel
    weight = torch.exp(-0.5 * (distance / sigma.clamp(min=1e-3)[:, None, None]) ** 2)
    return weight / weight.sum(-1, keepdim=True)


class BandDropout(nn.Module):
    """Set each band of an image to zero with ``probability``, but never the last one that is left."""

    symmetry = "The answer can still be told, if less surely, where a band was not observed."

    def __init__(self, *, probability: float = 0.1):
        super().__init__()
        _within(0, 1, probability=probability)
        self.probability = probability

    def forward(self, batch: Batch, rng: Rng, inputs: Schema) -> Batch:
        dropped = {}
        for name, x in _images(batch, inputs).items():
            draw = rng.uniform(f"band-dropout/{name}", batch["row"], x.shape[1])
            kept = (draw >= self.probability) | (draw == draw.max(1, keepdim=True).values)
            dropped[name] = x.float() * kept[:, :, None, None]
        return {**batch, **dropped}
