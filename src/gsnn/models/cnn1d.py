"""A convolutional network along time or wavelength: local shapes, whatever their place."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..data.schema import Schema
from .layers import Activation, activation, at_least
from .sequences import Pooling, Sequences, covered


class Convolution(nn.Module):
    """A convolution over steps; what is beyond the sequence, or padding, is zero.

    A causal one looks at a step and those before it. Steps lie before channels in memory, as the norms want them: a
    convolution of images of one row, channels last, is as fast as one of channels first, and nothing is copied.
    """

    def __init__(self, channels_in: int, channels: int, size: int, *, stride: int = 1, dilation: int = 1, causal=False):
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels, size, stride, dilation=dilation)
        reach = dilation * (size - 1)
        self.around = (reach, 0) if causal else (reach // 2, reach - reach // 2)

    def forward(
        self, x: Float[Tensor, "object step channel"], valid: Bool[Tensor, "object step"] | None
    ) -> Float[Tensor, "object step2 channel2"]:
        x = F.pad(covered(x, valid), (0, 0, *self.around)).transpose(1, 2)[:, :, None]
        conv = self.conv
        y = F.conv2d(x, conv.weight[:, :, None], conv.bias, (1, *conv.stride), 0, (1, *conv.dilation))
        return y[:, :, 0].transpose(1, 2)


class Layer(nn.Module):
    """Convolution, LayerNorm over the channels of each step (Ba et al. 2016, arXiv:1607.06450), activation.

    A norm over steps would let padding, and the future, into every step. Without ``norm`` loud stays loud.
    """

    def __init__(
        self, channels_in: int, channels: int, size: int, act: Activation, *, stride: int = 1, norm: bool = True
    ):
        super().__init__()
        self.conv = Convolution(channels_in, channels, size, stride=stride)
        self.norm = nn.LayerNorm(channels) if norm else nn.Identity()
        self.activation = activation(act)

    def forward(
        self, x: Float[Tensor, "object step channel"], valid: Bool[Tensor, "object step"] | None
    ) -> Float[Tensor, "object step2 channel2"]:
        return self.activation(self.norm(self.conv(x, valid)))


class Convolutions(nn.Module):
    """A layer that changes the channels, then for each of ``depth - 1`` stages one that strides and one added to it."""

    def __init__(
        self, features: int, width: int, depth: int, size: int, stride: int, act: Activation, norm: bool = True
    ):
        super().__init__()
        self.stride = stride
        self.stem = Layer(features, width, size, act, norm=norm)
        self.down = nn.ModuleList(Layer(width, width, size, act, stride=stride, norm=norm) for _ in range(depth - 1))
        self.refine = nn.ModuleList(Layer(width, width, size, act, norm=norm) for _ in range(depth - 1))

    def forward(
        self,
        x: Float[Tensor, "object step feature"],
        time: Float[Tensor, "object step"],
        valid: Bool[Tensor, "object step"] | None,
    ) -> Float[Tensor, "object step2 width"]:
        x = self.stem(x, valid)
        for down, refine in zip(self.down, self.refine):
            x = down(x, valid)
            valid = None if valid is None else valid[:, :: self.stride]
            x = x + refine(x, valid)
        return x


class CNN1d(Sequences):
    """``depth`` stages of convolutions of ``size`` steps, each after the first ``stride`` times shorter, then a pool.

    A state sees about ``2 size stride ** (depth - 1)`` steps, so depth grows with the logarithm of what must be seen.
    With ``stride = 1`` there is a state for every step. ``norm = "none"`` lets the answer grow with the input: a norm
    forgets how loud a signal is, and with it how rare.
    """

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        width: int = 48,
        depth: int = 4,
        size: int = 5,
        stride: int = 2,
        pool: Pooling = "max",
        activation: Activation = "gelu",
        norm: Literal["layer", "none"] = "layer",
        dropout: float = 0.0,
        clock: bool = True,
    ):
        at_least(1, width=width, depth=depth, size=size, stride=stride)
        how = (width, depth, size, stride, activation, norm == "layer")
        super().__init__(
            inputs, "cnn1d", lambda features: Convolutions(features, *how), width, outputs,
            pool=pool, act=activation, dropout=dropout, clock=clock, stride=stride ** (depth - 1),
        )  # fmt: skip
