"""A small convolutional network for cut-outs: minutes, not hours, on a laptop's processor."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from ..data.schema import Schema
from .layers import Activation, Images, activation, at_least, group_norm


class Conv(nn.Sequential):
    """Convolution, GroupNorm, activation."""

    def __init__(self, channels_in: int, channels: int, size: int, stride: int, act: Activation):
        conv = nn.Conv2d(channels_in, channels, size, stride, size // 2, bias=False)
        super().__init__(conv, group_norm(channels), activation(act))


class Stage(nn.Module):
    """Halve the size while changing the channels, then one convolution added to its own input."""

    def __init__(self, channels_in: int, channels: int, act: Activation):
        super().__init__()
        self.down = Conv(channels_in, channels, 3, 2, act)
        self.refine = Conv(channels, channels, 3, 1, act)

    def forward(self, x: Float[Tensor, "object channel y x"]) -> Float[Tensor, "object channel2 y2 x2"]:
        x = self.down(x)
        return x + self.refine(x)


class CNN(Images):
    """A strided 5 x 5 stem of ``width`` channels, then ``depth - 1`` stages: half the size, ``width`` channels more.

    The stem halves the size at once, because at full resolution the first layer alone would cost more than all others.
    With the defaults: 0.2 M parameters.
    """

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        width: int = 24,
        depth: int = 4,
        activation: Activation = "gelu",
        dropout: float = 0.0,
    ):
        super().__init__(inputs, "cnn")
        at_least(1, width=width, depth=depth, outputs=outputs)
        self.blocks = nn.ModuleDict({"stem": Conv(self.bands, width, 5, 2, activation)})
        for i in range(1, depth):
            self.blocks[f"stage{i}"] = Stage(width * i, width * (i + 1), activation)
        self.finish(width * depth, outputs, activation, dropout)

    def maps(self, x: Float[Tensor, "object band y x"]) -> Float[Tensor, "object channel y2 x2"]:
        for block in self.blocks.values():
            x = block(x)
        return x

    @property
    def last_conv(self) -> nn.Module:
        """The last stage: the maps that are averaged."""
        return list(self.blocks.values())[-1]
