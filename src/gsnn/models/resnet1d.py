"""A residual network along time or wavelength: deep stacks of convolutions that learn what to add."""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..data.schema import Schema
from .cnn1d import Convolution
from .layers import Activation, activation, at_least
from .sequences import Pooling, Sequences


class Block(nn.Module):
    """Norm, activation, convolution, twice, added to the input (He et al. 2016, arXiv:1603.05027, pre-activation)."""

    def __init__(self, channels_in: int, channels: int, size: int, stride: int, act: Activation):
        super().__init__()
        self.norm1, self.norm2, self.activation = nn.LayerNorm(channels_in), nn.LayerNorm(channels), activation(act)
        self.conv1 = Convolution(channels_in, channels, size, stride=stride)
        self.conv2 = Convolution(channels, channels, size)
        same = channels_in == channels and stride == 1
        self.short = None if same else Convolution(channels_in, channels, 1, stride=stride)
        self.stride = stride

    def forward(
        self, x: Float[Tensor, "object step channel"], valid: Bool[Tensor, "object step"] | None
    ) -> tuple[Float[Tensor, "object step2 channel2"], Bool[Tensor, "object step2"] | None]:
        after = None if valid is None else valid[:, :: self.stride]
        y = self.conv1(self.activation(self.norm1(x)), valid)
        y = self.conv2(self.activation(self.norm2(y)), after)
        return (x if self.short is None else self.short(x, valid)) + y, after


class Residual(nn.Module):
    """A stem, ``blocks[i]`` blocks of each width, and a last norm."""

    def __init__(
        self, features: int, widths: list[int], blocks: tuple[int, ...], size: int, stride: int, act: Activation
    ):
        super().__init__()
        self.stem = Convolution(features, widths[0], size)
        self.blocks = nn.ModuleList()
        for i, ((before, width), count) in enumerate(zip(pairwise([widths[0], *widths]), blocks)):
            self.blocks.append(Block(before, width, size, stride if i else 1, act))
            self.blocks.extend(Block(width, width, size, 1, act) for _ in range(count - 1))
        self.norm, self.activation = nn.LayerNorm(widths[-1]), activation(act)

    def forward(
        self,
        x: Float[Tensor, "object step feature"],
        time: Float[Tensor, "object step"],
        valid: Bool[Tensor, "object step"] | None,
    ) -> Float[Tensor, "object step2 width"]:
        x = self.stem(x, valid)
        for block in self.blocks:
            x, valid = block(x, valid)
        return self.activation(self.norm(x))


class ResNet1d(Sequences):
    """Groups of ``blocks`` residual blocks; each group after the first is ``stride`` times shorter and twice as wide.

    After He et al. 2016 (arXiv:1512.03385) along one axis, as Wang et al. 2017 (arXiv:1611.06455) do for series.
    ``width`` is that of the first group.
    """

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        width: int = 32,
        blocks: tuple[int, ...] = (2, 2, 2),
        size: int = 5,
        stride: int = 2,
        pool: Pooling = "max",
        activation: Activation = "gelu",
        dropout: float = 0.0,
        clock: bool = True,
    ):
        at_least(1, width=width, blocks=blocks, size=size, stride=stride, groups=len(blocks))
        widths = [width * 2**i for i in range(len(blocks))]
        super().__init__(
            inputs, "resnet1d", lambda features: Residual(features, widths, blocks, size, stride, activation),
            widths[-1], outputs, pool=pool, act=activation, dropout=dropout, clock=clock,
            stride=stride ** (len(blocks) - 1),
        )  # fmt: skip
