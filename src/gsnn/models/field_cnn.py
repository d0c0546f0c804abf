"""A network of periodic maps: band powers, which hold all that a Gaussian field says, and convolutions for the rest."""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.schema import Schema
from ..errors import GsnnError
from .layers import Activation, Images, at_least, flatten, head
from .layers import activation as act


class Periodic(nn.Module):
    """Convolution with the map continued beyond its edges, activation, added to its input where the size is the same.

    Without a norm: the contrast of a map is what is asked for, and a norm would take it away.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, activation: Activation):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 3, stride, 1, padding_mode="circular")
        self.act = act(activation)
        self.adds = stride == 1 and channels_in == channels

    def forward(self, x: Float[Tensor, "object channel y x"]) -> Float[Tensor, "object channel2 y2 x2"]:
        found = self.act(self.conv(x))
        return x + found if self.adds else found


class FieldCNN(Images):
    """Features of a periodic map: convolutions averaged over the map, beside the log power in ``bands`` rings of k.

    A hybrid of summaries that are known to matter with ones that are learned (as Makinen et al. 2024,
    arXiv:2410.07548, do). The convolutions are one at full size and ``depth`` stages, each of half the size and
    ``width`` channels more. ``bands = 0`` leaves the convolutions alone, ``depth = 0`` the band powers.
    """

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        width: int = 16,
        depth: int = 3,
        bands: int = 24,
        hidden: int = 128,
        activation: Activation = "gelu",
        dropout: float = 0.0,
    ):
        super().__init__(inputs, "field-cnn")
        at_least(1, width=width, hidden=hidden, outputs=outputs, **{"depth + bands": depth + bands})
        at_least(0, depth=depth, bands=bands)
        self.rings, channels = bands, 0
        self.blocks = nn.ModuleDict()
        if depth:
            self.blocks["stem"] = Periodic(self.bands, width, 1, activation)
            channels = width * (depth + 1)
        for i in range(1, depth + 1):
            down = Periodic(width * i, width * (i + 1), 2, activation)
            self.blocks[f"stage{i}"] = nn.Sequential(down, Periodic(width * (i + 1), width * (i + 1), 1, activation))
        values = channels + bands * self.bands + sum(c.size for c in self.scalars)
        self.mix = nn.Sequential(
            nn.Linear(values, hidden), act(activation), nn.Linear(hidden, hidden), act(activation), nn.Dropout(dropout)
        )
        self.head = nn.Linear(hidden, outputs)

    def maps(self, x: Float[Tensor, "object band y x"]) -> Float[Tensor, "object channel y2 x2"]:
        for block in self.blocks.values():
            x = block(x)
        return x

    def features(self, **columns: Tensor) -> Float[Tensor, "object feature"]:
        images = torch.cat([columns[c.name] for c in self.images], 1)
        parts = [self.maps(images).mean((-2, -1))] if len(self.blocks) else []
        if self.rings:
            parts.append(ring_powers(images, self.rings).flatten(1))
        if self.scalars:
            parts.append(flatten(columns, self.scalars))
        return self.mix(torch.cat([part.float() for part in parts], 1))

    def forward(self, **columns: Tensor) -> Float[Tensor, "object output"]:
        return head(self.head, self.features(**columns))

    @property
    def last_conv(self) -> nn.Module:
        """The last stage: the maps that are averaged."""
        if not len(self.blocks):
            raise GsnnError("a field-cnn of depth 0 has no maps to explain; use the method 'saliency'")
        return list(self.blocks.values())[-1]


def ring_powers(x: Float[Tensor, "object band y x"], count: int) -> Float[Tensor, "object band ring"]:
    """log(k^1.5 P) in rings of equal width in log k, k in waves a map; 0 where a ring holds no mode.

    The power of matter falls about so steeply in a slab, which makes all rings numbers of one size.
    """
    height, width = x.shape[-2:]
    if x.shape[0] == 0:  # which the transform refuses
        return x.new_zeros(*x.shape[:2], count)
    with torch.autocast(x.device.type, enabled=False) if x.device.type != "meta" else nullcontext():
        power = torch.fft.rfft2(x.float()).abs() ** 2 / (height * width)
        y, z = torch.fft.fftfreq(height, 1 / height), torch.fft.rfftfreq(width, 1 / width)
        k = torch.hypot(y[:, None], z[None]).to(x.device).flatten()
        step = math.log(math.hypot(height / 2, width / 2) * 1.001 + 1) / count
        place = (torch.log(k.clamp(min=0.999)) / step).floor().long().clamp(0, count - 1)
        twice = torch.full((height, width // 2 + 1), 2.0)
        twice[:, 0] = 1
        if width % 2 == 0:
            twice[:, -1] = 1
        weight = twice.to(x.device).flatten() * (k > 0)
        member = nn.functional.one_hot(place, count).float() * weight[:, None]
        total = member.sum(0)
        middle = torch.exp(1.5 * step * (torch.arange(count, device=x.device) + 0.5))
        mean = power.flatten(2) @ (member / total.clamp(min=1))
        return torch.log(mean * middle + 1e-12).where(total > 0, 0.0)
