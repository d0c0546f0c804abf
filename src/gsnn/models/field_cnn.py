"""A network of periodic maps: band powers, which hold all that a Gaussian field says, and convolutions for the rest."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.schema import Schema
from .layers import Activation, Images, activation, at_least


class Periodic(nn.Module):
    """Convolution with the map continued beyond its edges, activation, added to its input where the size is the same.

    Without a norm: the contrast of a map is what is asked for, and a norm would take it away.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, act: Activation):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 3, stride, 1, padding_mode="circular")
        self.act = activation(act)
        self.adds = stride == 1 and channels_in == channels

    def forward(self, x: Float[Tensor, "object channel y x"]) -> Float[Tensor, "object channel2 y2 x2"]:
        found = self.act(self.conv(x))
        return x + found if self.adds else found


class FieldCNN(Images):
    """Features of a periodic map: convolutions averaged over the map, beside the log power in ``bands`` rings of k.

    A hybrid of summaries that are known to matter with ones that are learned (as Makinen et al. 2024,
    arXiv:2410.07548, do). ``bands = 0`` leaves the convolutions alone, ``depth = 0`` the band powers. The power is
    k^2 P(k) of the map as it comes, which varies little from ring to ring.
    """

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        width: int = 16,
        depth: int = 4,
        bands: int = 16,
        hidden: int = 128,
        activation: Activation = "gelu",
        dropout: float = 0.0,
    ):
        super().__init__(inputs, "field-cnn")
        at_least(1, width=width, hidden=hidden, outputs=outputs)
        at_least(0, depth=depth, bands=bands)
        at_least(1, **{"depth + bands": depth + bands})
        self.rings, act = bands, activation
        shape = self.images[0].shape[1:]
        self.blocks, channels = nn.ModuleDict(), self.bands
        for i in range(depth):
            self.blocks[f"stage{i}"] = nn.Sequential(
                Periodic(channels, width * (i + 1), 2 if i else 1, act),
                Periodic(width * (i + 1), width * (i + 1), 1, act),
            )
            channels = width * (i + 1)
        features = channels * bool(depth)
        if bands:
            ring, gain = rings(shape, bands)
            self.register_buffer("ring", ring, persistent=False)
            self.register_buffer("gain", gain, persistent=False)
            features += bands * self.bands
        self.mix = nn.Sequential(nn.Linear(features, hidden), _act(act), nn.Linear(hidden, hidden), _act(act))
        self.finish(hidden, outputs, act, dropout)

    def power(self, x: Float[Tensor, "object band y x"]) -> Float[Tensor, "object feature"]:
        """log(k^2 P) in the rings; one without a mode stays 0."""
        with torch.autocast(x.device.type, enabled=False):
            square = torch.fft.rfft2(x.float()).abs() ** 2 / math.prod(x.shape[-2:])
            total = square.flatten(2) @ self.ring
            return torch.log(total * self.gain + 1e-12).where(self.gain > 0, 0).flatten(1)

    def maps(self, x: Float[Tensor, "object band y x"]) -> Float[Tensor, "object channel y2 x2"]:
        for block in self.blocks.values():
            x = block(x)
        return x

    def features(self, **columns: Tensor) -> Float[Tensor, "object feature"]:
        images = torch.cat([columns[c.name] for c in self.images], 1)
        parts = [self.maps(images).float().mean((-2, -1))] if len(self.blocks) else []
        if self.rings:
            parts.append(self.power(images))
        mixed = self.mix(torch.cat(parts, 1))
        if self.scalars:
            mixed = torch.cat([mixed, *(columns[c.name].reshape(-1, 1).to(mixed.dtype) for c in self.scalars)], 1)
        return self.join(mixed)

    @property
    def last_conv(self) -> nn.Module:
        """The last stage: the maps that are averaged."""
        return list(self.blocks.values())[-1]


def rings(shape: tuple[int, int], count: int) -> tuple[Float[Tensor, "mode ring"], Float[Tensor, " ring"]]:
    """The weight of each mode of rfft2 in the mean over its ring, equally wide in log k, and k^2 of each ring.

    k in waves a map; the ring of k^2 0 holds no mode.
    """
    height, width = shape
    y, x = torch.fft.fftfreq(height, 1 / height), torch.fft.rfftfreq(width, 1 / width)
    k = torch.hypot(y[:, None], x[None]).flatten()
    twice = torch.full((height, width // 2 + 1), 2.0)
    twice[:, 0] = 1
    if width % 2 == 0:
        twice[:, -1] = 1
    edges = torch.logspace(math.log10(0.99), math.log10(float(k.max()) * 1.001), count + 1)
    place = torch.bucketize(k, edges, right=True) - 1
    weight = torch.zeros(len(k), count)
    inside = (place >= 0) & (k > 0)
    weight[inside.nonzero()[:, 0], place[inside].clamp(max=count - 1)] = twice.flatten()[inside]
    total = weight.sum(0)
    middle = (edges[1:] * edges[:-1]).where(total > 0, 0)
    return weight / total.clamp(min=1), middle


def _act(name: Activation) -> nn.Module:
    return activation(name)
