"""The small pieces that the networks share: activations, norms, and the way from named columns to tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.schema import Column, Schema
from ..errors import GsnnError, suggest

Activation = Literal["sigmoid", "tanh", "relu", "leaky-relu", "elu", "swish", "mish", "gelu"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,  # Nair & Hinton 2010
    "leaky-relu": nn.LeakyReLU,  # Maas et al. 2013
    "elu": nn.ELU,  # Clevert et al. 2016, arXiv:1511.07289
    "swish": nn.SiLU,  # Ramachandran et al. 2017, arXiv:1710.05941
    "mish": nn.Mish,  # Misra 2019, arXiv:1908.08681
    "gelu": nn.GELU,  # Hendrycks & Gimpel 2016, arXiv:1606.08415
}


def activation(name: Activation) -> nn.Module:
    """A fresh activation module."""
    if name not in _ACTIVATIONS:
        raise GsnnError(f"no activation is called {name!r}; {suggest(name, get_args(Activation))}")
    return _ACTIVATIONS[name]()


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm (Wu & He 2018, arXiv:1803.08494) in groups of four or eight channels, else in one group.

    Smaller groups would leave nothing of a map of one pixel: a group of one value is always normalised to zero.
    """
    size = math.gcd(channels, 8)
    return nn.GroupNorm(channels // size if size >= 4 else 1, channels)


def at_least(lowest: int, **settings: int | Iterable[int]) -> None:
    """Refuse settings that count something and are below ``lowest``."""
    for name, value in settings.items():
        if min([value] if isinstance(value, int) else value, default=lowest) < lowest:
            raise GsnnError(f"{name} = {value} is too small: give at least {lowest}")


def readable(inputs: Schema, network: str, kinds: Iterable[str]) -> tuple[Column, ...]:
    """The columns of ``inputs`` in the schema's order, or one sentence on the one that ``network`` cannot read."""
    kinds = tuple(kinds)
    if not len(inputs):
        raise GsnnError(
            f"the network {network!r} has no input; name columns of kind {' or '.join(kinds)} in [data] inputs"
        )
    for column in inputs.columns:
        if column.kind not in kinds:
            raise GsnnError(
                f"the network {network!r} cannot read column {column.name!r} of kind {column.kind!r}; "
                f"it reads {' and '.join(kinds)}: leave the column out of [data] inputs or choose another network"
            )
    return inputs.columns


def flatten(
    columns: Mapping[str, Tensor], names: Mapping[str, Column] | Iterable[Column]
) -> Float[Tensor, "object value"]:
    """Scalars and dense columns side by side, one row of values an object."""
    return torch.cat([columns[c.name].reshape(-1, c.size) for c in names], 1)


def head(linear: nn.Linear, features: Float[Tensor, "*object feature"]) -> Float[Tensor, "*object output"]:
    """The last layer as its weights are, float32 even under autocast: bfloat16 would round a redshift to 3 digits."""
    if features.device.type == "meta":  # shapes only: there is no autocast to leave
        return linear(features.to(linear.weight.dtype))
    with torch.autocast(features.device.type, enabled=False):
        return linear(features.to(linear.weight.dtype))


class Images(nn.Module):
    """What the networks of images share: images stacked along their bands -> maps -> mean over the sky -> head.

    A subclass builds ``self.maps`` (images to feature maps), says how many channels they have by :meth:`finish`,
    and names the module whose output Grad-CAM reads, ``last_conv``. Scalars, where there are any, join the features
    through one hidden layer, so that they can change what the image means.
    """

    head: nn.Linear
    last_conv: nn.Module

    def __init__(self, inputs: Schema, network: str):
        super().__init__()
        columns = readable(inputs, network, ("image", "scalar"))
        self.images = tuple(c for c in columns if c.kind == "image")
        self.scalars = tuple(c for c in columns if c.kind == "scalar")
        if not self.images:
            raise GsnnError(
                f"the network {network!r} needs an image, and [data] inputs holds none; choose 'mlp' for a table"
            )
        for column in self.images:
            if len(column.shape) != 3:
                raise GsnnError(f"the image {column.name!r} must have the shape (band, y, x), not {column.shape}")
            if column.shape[1:] != self.images[0].shape[1:]:
                raise GsnnError(
                    f"the images {self.images[0].name!r} and {column.name!r} differ in size "
                    f"({self.images[0].shape[1:]} and {column.shape[1:]}); cut them to one size to stack them"
                )
        self.bands = sum(c.shape[0] for c in self.images)

    def finish(self, channels: int, outputs: int, act: Activation, dropout: float) -> None:
        """The layers after the maps."""
        values = sum(c.size for c in self.scalars)
        self.join = nn.Sequential(nn.Linear(channels + values, channels), activation(act)) if values else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, outputs)

    def features(self, **columns: Tensor) -> Float[Tensor, "object feature"]:
        """What the head sees: maps averaged over the sky, joined by the scalars."""
        images = (
            torch.cat([columns[c.name] for c in self.images], 1)
            if len(self.images) > 1
            else columns[self.images[0].name]
        )
        pooled = self.maps(images).mean((-2, -1))
        if self.scalars:
            pooled = torch.cat([pooled, flatten(columns, self.scalars).to(pooled.dtype)], 1)
        return self.join(pooled)

    def forward(self, **columns: Tensor) -> Float[Tensor, "object output"]:
        return head(self.head, self.dropout(self.features(**columns)))
