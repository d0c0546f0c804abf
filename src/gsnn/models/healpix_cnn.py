"""A network of the whole sky: convolutions over a HEALPix pixel and its eight neighbours that know no direction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ..data import sphere
from ..data.schema import Schema, nside_of
from ..errors import GsnnError
from .harmonics import BandPowers
from .layers import Activation, at_least, flatten, head, readable
from .layers import activation as act

FACES = sphere.FACES


@lru_cache(maxsize=16)
def _bordered(nside: int) -> Int64[np.ndarray, " place"]:
    """Which place of the faces stands at each place of the faces with their borders."""
    nested = sphere.faces(nside).ravel()
    return np.argsort(nested)[sphere.bordered(nside).ravel()]


class Around(nn.Module):
    """Convolution over a pixel, the mean of the four sharing a side with it and that of the four sharing a point.

    Krachmalnicoff & Tomasi 2019 (arXiv:1902.04083) give each of the nine a weight of its own, which makes a feature
    depend on where north is. With one weight for sides and one for points (as graph convolutions have:
    Perraudin et al. 2019, arXiv:1810.12186) the layer commutes with the sixteen rotations and mirrors that map the
    pixels onto each other, and nearly with all others. Then the activation, and the input where the size is the same.
    """

    def __init__(self, channels_in: int, channels: int, activation: Activation):
        super().__init__()
        bound = 1 / math.sqrt(3 * channels_in)
        self.weight = nn.Parameter(torch.empty(channels, channels_in, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.act = act(activation)
        self.adds = channels_in == channels

    def kernel(self) -> Float[Tensor, "channel channel_in 3 3"]:
        middle, side, corner = self.weight.unbind(-1)
        rows = [corner / 4, side / 4, corner / 4], [side / 4, middle, side / 4], [corner / 4, side / 4, corner / 4]
        return torch.stack([torch.stack(row, -1) for row in rows], -2)

    def forward(self, x: Float[Tensor, "object channel place"]) -> Float[Tensor, "object channel2 place"]:
        side = math.isqrt(x.shape[-1] // FACES)
        place = torch.from_numpy(_bordered(side)).to(x.device)
        wide = x.index_select(2, place).unflatten(-1, (FACES * (side + 2), side + 2))
        found = nn.functional.conv2d(wide, self.kernel(), self.bias, padding=(1, 0))  # faces stand below each other
        found = self.act(found.unflatten(-2, (FACES, side + 2))[:, :, :, 1:-1].flatten(2))
        return x + found if self.adds else found


def coarser(x: Float[Tensor, "object channel place"]) -> Float[Tensor, "object channel place4"]:
    """The mean over the four children of each pixel of the next level."""
    side = math.isqrt(x.shape[-1] // FACES)
    return nn.functional.avg_pool2d(x.unflatten(-1, (FACES * side, side)), 2).flatten(2)


class HealpixCNN(nn.Module):
    """Features of maps of the sky: moments of convolutions at each scale, beside the log power in ``bands`` of l.

    A hybrid of summaries that are known to matter with ones that are learned, as ``field-cnn``. The convolutions are
    one at full resolution and ``depth`` stages, each at half of it and ``width`` channels more; of every channel of
    every level the mean and the log of the variance over the sky that was seen go on. No norm: the contrast of a map is
    what is asked for. Which pixels are known is an input, and what stands in the others changes nothing. ``bands = 0``
    leaves the convolutions alone. Scalars join at the end.
    """

    head: nn.Linear

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
        super().__init__()
        at_least(1, width=width, hidden=hidden, outputs=outputs)
        at_least(0, depth=depth, bands=bands)
        columns = readable(inputs, "healpix-cnn", ("sphere", "scalar"))
        self.spheres = tuple(c for c in columns if c.kind == "sphere")
        self.scalars = tuple(c for c in columns if c.kind == "scalar")
        if not self.spheres:
            raise GsnnError("the network 'healpix-cnn' needs a sphere, and [data] inputs holds none")
        sizes = {c.name: nside_of(c.shape[1]) for c in self.spheres}
        self.nside = next(iter(sizes.values()))
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{name} {nside}" for name, nside in sizes.items())
            raise GsnnError(f"the spheres differ in nside ({told}); bring them to one to stack them")
        if 2**depth > self.nside:
            raise GsnnError(
                f"depth = {depth} halves nside {self.nside} too often; give at most {self.nside.bit_length() - 1}"
            )
        channels = sum(c.shape[0] for c in self.spheres)
        self.blocks = nn.ModuleDict({"stem": Around(2 * channels, width, activation)})
        for i in range(1, depth + 1):
            wider = Around(width * i, width * (i + 1), activation)
            self.blocks[f"stage{i}"] = nn.Sequential(wider, Around(width * (i + 1), width * (i + 1), activation))
        self.band_powers = BandPowers(self.nside, bands) if bands else None
        values = width * (depth + 1) * (depth + 2) + sum(c.size for c in self.scalars)
        values += channels * (self.band_powers.count if self.band_powers else 0)
        self.mix = nn.Sequential(
            nn.Linear(values, hidden), act(activation), nn.Linear(hidden, hidden), act(activation), nn.Dropout(dropout)
        )
        self.head = nn.Linear(hidden, outputs)

    def seen(self, columns: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """All channels [object, channel, pixel], 0 where nothing is known, and where something is."""
        known = torch.cat([columns[f"{c.name}.known"] for c in self.spheres], 1)
        return torch.cat([columns[c.name] for c in self.spheres], 1).where(known, 0), known

    def start(self, **columns: Tensor) -> None:
        """Before any step: the scale of the powers, from some training maps."""
        if self.band_powers:
            sky, known = self.seen(columns)
            self.band_powers.fit(sky.float(), known.float())

    def features(self, **columns: Tensor) -> Float[Tensor, "object feature"]:
        sky, known = self.seen(columns)
        place = torch.from_numpy(sphere.faces(self.nside).ravel()).to(sky.device)
        share = known.any(1, keepdim=True).to(sky.dtype)[..., place]
        x, parts = torch.cat([sky, known.to(sky.dtype)], 1)[..., place], []
        for i, block in enumerate(self.blocks.values()):
            if i:
                x, share = coarser(x), coarser(share)
            x = block(x)
            parts += moments(x, share)
        if self.band_powers:
            with _exactly(sky):
                parts.append(self.band_powers(sky.float(), known.float()).flatten(1))
        if self.scalars:
            parts.append(flatten(columns, self.scalars).float())
        return self.mix(torch.cat(parts, 1))

    def forward(self, **columns: Tensor) -> Float[Tensor, "object output"]:
        return head(self.head, self.features(**columns))


def _exactly(x: Tensor) -> AbstractContextManager:
    """Float32 even under autocast; shapes alone have no autocast to leave."""
    return torch.autocast(x.device.type, enabled=False) if x.device.type != "meta" else nullcontext()


def moments(
    x: Float[Tensor, "object channel place"], weight: Float[Tensor, "object 1 place"]
) -> tuple[Float[Tensor, "object channel"], Float[Tensor, "object channel"]]:
    """The weighted mean of each map, and the log of its variance."""
    with _exactly(x):
        x, weight = x.float(), weight.float().transpose(1, 2)
        total = weight.sum(1, keepdim=True).clamp(min=1e-6)
        mean, square = torch.bmm(x, weight) / total, torch.bmm(x * x, weight) / total
        return mean[..., 0], torch.log((square - mean**2).clamp(min=0)[..., 0] + 1e-6)
