"""The U-Net of images and fields: an answer for each object, or for each voxel.

Ronneberger et al. 2015, arXiv:1505.04597; in three dimensions Çiçek et al. 2016, arXiv:1606.06650.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.schema import Schema
from ..errors import GsnnError
from .initialise import usual
from .layers import Activation, activation, at_least, flatten, group_norm, head, readable

Boundary = Literal["zero", "periodic"]
Norm = Literal["group", "none"]
Maps = Float[Tensor, "object channel *space"]

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
# A mean, where the papers take the maximum: its gradient does not jump to another voxel by a rounding error, so that it
# is the same on one process and on many.
_HALVE = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
_MEAN = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


class Block(nn.Module):
    """Twice a convolution of size 3, norm and activation; with ``residual`` added to what came in.

    ``conditions`` numbers that are known of the whole object scale and shift each channel after the first norm (FiLM:
    Perez et al. 2018, arXiv:1709.07871).
    """

    def __init__(
        self, space: int, channels_in: int, channels: int, boundary: Boundary, act: Activation, residual: bool,
        norm: Norm, conditions: int = 0,
    ):  # fmt: skip
        super().__init__()
        how = {"padding": 1, "padding_mode": "circular" if boundary == "periodic" else "zeros", "bias": norm == "none"}
        conv = _CONV[space]
        self.conv1 = conv(channels_in, channels, 3, **how)
        self.norm1 = group_norm(channels) if norm == "group" else nn.Identity()
        self.conv2 = conv(channels, channels, 3, **how)
        self.norm2 = group_norm(channels) if norm == "group" else nn.Identity()
        self.act = activation(act)
        self.shortcut = None
        if residual:
            self.shortcut = nn.Identity() if channels_in == channels else conv(channels_in, channels, 1, bias=False)
        self.film = nn.Linear(conditions, 2 * channels) if conditions else None

    def forward(
        self, x: Maps, condition: Float[Tensor, "object number"] | None = None
    ) -> Float[Tensor, "object channel2 *space"]:
        out = self.norm1(self.conv1(x))
        if self.film is not None:
            scale, shift = self.film(condition).view(len(x), -1, *[1] * (x.ndim - 2)).chunk(2, 1)
            out = out * (1 + scale) + shift
        out = self.norm2(self.conv2(self.act(out)))
        return self.act(out if self.shortcut is None else out + self.shortcut(x))


class UNet(nn.Module):
    """``depth`` levels of blocks, the first of ``width`` channels, each lower one of twice as many at half the size.

    Reads fields of the shape (channel, y, x) or (channel, z, y, x), images (band, y, x) and scalars. Fields of one size
    are stacked; a scalar is a channel that is the same everywhere, so that it can change the answer of every voxel.
    ``boundary = "periodic"`` is for simulated boxes, whose opposite faces are neighbours. ``norm = "none"`` is for
    fields whose contrast matters: a norm over the field would take it away, and make a voxel depend on all others. The
    sizes must be divisible by 2^(depth - 1); fields of other sizes than the schema's may follow. With ``relative`` the
    network sees the differences of neighbours along each axis in place of the fields, for fields whose constant part
    means nothing: where all matter moves alike, nothing happens. With ``film`` scalars are no channels: they scale and
    shift the channels of every block, so that each level knows them.

    :meth:`forward` answers for the object (the last maps averaged over all voxels, then the head), :meth:`read` for
    each voxel (the head on its own features). The parts stand in a flat ``nn.ModuleDict``: ``down0``, ``down1``, ...,
    ``middle``, ..., ``up1``, ``up0``; ``lift1`` and ``lift0`` double the size before the latter.
    """

    head: nn.Linear

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        width: int = 16,
        depth: int = 4,
        boundary: Boundary = "zero",
        residual: bool = True,
        norm: Norm = "group",
        relative: bool = False,
        film: bool = False,
        activation: Activation = "gelu",
        dropout: float = 0.0,
    ):
        super().__init__()
        columns = readable(inputs, "unet", ("field", "image", "scalar"))
        at_least(1, width=width, depth=depth, outputs=outputs)
        self.fields = tuple(c for c in columns if c.kind != "scalar")
        self.scalars = tuple(c for c in columns if c.kind == "scalar")
        self.depth, self.space = depth, _space(self.fields)
        _halves(self.fields[0].shape[1:], depth)
        space, levels = self.space, [width * 2**level for level in range(depth)]
        self.relative = relative
        if relative and boundary != "periodic":
            raise GsnnError("relative = true needs boundary = 'periodic': at an edge there is no neighbour")
        numbers = sum(c.size for c in self.scalars)
        if film and not numbers:
            raise GsnnError("film = true needs a scalar among the inputs that channels can be scaled by")
        self.film, conditions = None, 0
        if film:
            conditions = 4 * width
            self.film = nn.Sequential(
                nn.Linear(numbers, conditions), nn.SiLU(), nn.Linear(conditions, conditions), nn.SiLU()
            )
        channels = sum(c.shape[0] for c in self.fields) * (space if relative else 1) + (0 if film else numbers)
        self.blocks = nn.ModuleDict()
        for level, after in enumerate(levels):
            name = "middle" if level == depth - 1 else f"down{level}"
            self.blocks[name] = Block(space, channels, after, boundary, activation, residual, norm, conditions)
            channels = after
        for level, after in reversed(list(enumerate(levels[:-1]))):
            self.blocks[f"lift{level}"] = _UP[space](channels, after, 2, 2)
            self.blocks[f"up{level}"] = Block(space, 2 * after, after, boundary, activation, residual, norm, conditions)
            channels = after
        self.halve = _HALVE[space](2)
        self.mean = _MEAN[space](1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)

    def initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        """As usual, but a voxel that is doubled has as many inputs as there are channels (shape: in, out, 2, 2, 2)."""
        if "lift" in name and len(shape) > 1:
            return 0.0, shape[0] ** -0.5
        return usual(name, shape)

    def stacked(self, **columns: Tensor) -> Maps:
        """What goes into the first block."""
        fields = [columns[c.name] for c in self.fields]
        size = fields[0].shape[2:]
        _halves(tuple(size), self.depth)
        if self.relative:
            fields = [field.roll(-1, 2 + axis) - field for field in fields for axis in range(self.space)]
        for c in self.scalars if self.film is None else ():
            values = columns[c.name].reshape(-1, c.size, *[1] * self.space)
            fields.append(values.to(fields[0].dtype).expand(-1, -1, *size))
        return torch.cat(fields, 1) if len(fields) > 1 else fields[0]

    def maps(self, **columns: Tensor) -> Maps:
        """Features of each voxel, before the head."""
        condition = None if self.film is None else self.film(flatten(columns, self.scalars))
        return self.through(self.stacked(**columns), condition)

    def through(
        self, x: Maps, condition: Float[Tensor, "object number"] | None = None
    ) -> Float[Tensor, "object channel2 *space"]:
        """What the blocks make of stacked fields, with the ``condition`` of ``film``."""
        skips = []
        for level in range(self.depth - 1):
            x = self.blocks[f"down{level}"](x, condition)
            skips.append(x)
            x = self.halve(x)
        x = self.blocks["middle"](x, condition)
        for level in reversed(range(self.depth - 1)):
            x = torch.cat([self.blocks[f"lift{level}"](x), skips.pop()], 1)
            x = self.blocks[f"up{level}"](x, condition)
        return x

    def both(self, **columns: Tensor) -> tuple[Float[Tensor, "object output *space"], Float[Tensor, "object feature"]]:
        """The answer for each voxel, and the features of the object, in one go."""
        return self.told(self.maps(**columns))

    def told(self, maps: Maps) -> tuple[Float[Tensor, "object output *space"], Float[Tensor, "object feature"]]:
        """The answer for each voxel from its features, and the features of the object."""
        return head(self.head, self.dropout(maps).movedim(1, -1)).movedim(-1, 1), self.mean(maps).flatten(1)

    def read(self, **columns: Tensor) -> Float[Tensor, "object output *space"]:
        """The answer for each voxel."""
        return self.both(**columns)[0]

    def features(self, **columns: Tensor) -> Float[Tensor, "object feature"]:
        """What the head sees of an object: the last maps averaged over all voxels."""
        return self.mean(self.maps(**columns)).flatten(1)

    def forward(self, **columns: Tensor) -> Float[Tensor, "object output"]:
        return head(self.head, self.dropout(self.features(**columns)))

    @property
    def last_conv(self) -> nn.Module:
        """The last block: the maps that are averaged."""
        return self.blocks["up0" if self.depth > 1 else "middle"]


def _space(fields: tuple) -> int:
    """How many dimensions the fields have, all of one size."""
    if not fields:
        raise GsnnError(
            "the network 'unet' needs a field or an image, and [data] inputs holds none; choose 'mlp' for a table"
        )
    for column in fields:
        if len(column.shape) not in (3, 4):
            raise GsnnError(
                f"the {column.kind} {column.name!r} must have the shape (channel or band, y, x) or "
                f"(channel, z, y, x), not {column.shape}"
            )
        if column.shape[1:] != fields[0].shape[1:]:
            raise GsnnError(
                f"the fields {fields[0].name!r} and {column.name!r} differ in size ({fields[0].shape[1:]} and "
                f"{column.shape[1:]}); cut them to one size to stack them"
            )
    return len(fields[0].shape) - 1


def _halves(size: tuple[int, ...], depth: int) -> None:
    """Refuse a size that cannot be halved at every level."""
    step = 2 ** (depth - 1)
    if any(n % step for n in size):
        shape = " x ".join(map(str, size))
        can = min(((n & -n).bit_length() for n in size if n), default=1)  # one more than the power of two in each size
        raise GsnnError(
            f"a field of {shape} cannot be halved {depth - 1} times, as a U-Net of depth {depth} does: cut it to "
            f"multiples of {step}, or give depth = {can}"
        )
