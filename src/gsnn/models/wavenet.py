"""Dilated convolutions: a field of view that doubles with every layer, at a cost that grows linearly with length."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..data.schema import Schema
from .cnn1d import Convolution
from .layers import Activation, at_least
from .sequences import Pooling, Sequences


class Gated(nn.Module):
    """tanh(a) * sigmoid(b) of a dilated convolution; added to the input, and handed to the sum of all layers.

    van den Oord et al. 2016 (arXiv:1609.03499), eq. 2 and fig. 4.
    """

    def __init__(self, width: int, size: int, dilation: int, causal: bool):
        super().__init__()
        self.conv = Convolution(width, 2 * width, size, dilation=dilation, causal=causal)
        self.residual, self.skip = nn.Linear(width, width), nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "object step width"], valid: Bool[Tensor, "object step"] | None
    ) -> tuple[Float[Tensor, "object step width"], Float[Tensor, "object step width"]]:
        a, b = self.conv(x, valid).chunk(2, 2)
        y = torch.tanh(a) * torch.sigmoid(b)
        return x + self.residual(y), self.skip(y)


class Dilated(nn.Module):
    """``cycles`` times ``layers`` gated layers with dilations 1, 2, 4, ...; their sum through one more layer.

    The residual of the last layer leads nowhere, so it has none.
    """

    def __init__(self, features: int, width: int, layers: int, cycles: int, size: int, causal: bool, dropout: float):
        super().__init__()
        self.stem = nn.Linear(features, width)
        self.layers = nn.ModuleList(Gated(width, size, 2**i, causal) for _ in range(cycles) for i in range(layers))
        self.layers[-1].residual = nn.Identity()
        self.out, self.dropout = nn.Linear(width, width), nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "object step feature"],
        time: Float[Tensor, "object step"],
        valid: Bool[Tensor, "object step"] | None,
    ) -> Float[Tensor, "object step width"]:
        x, total = self.stem(x), 0.0
        for layer in self.layers:
            x, skip = layer(self.dropout(x), valid)
            total = total + skip
        return torch.relu(self.out(torch.relu(total / math.sqrt(len(self.layers)))))


class WaveNet(Sequences):
    """``cycles`` times ``layers`` dilated, gated convolutions of ``size`` steps, with a state for every step.

    It sees ``sees`` steps back: 1 + cycles (size - 1) (2 ** layers - 1), and with ``causal = false`` half of that to
    either side, which suits denoising and inpainting.
    """

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        width: int = 32,
        layers: int = 7,
        cycles: int = 1,
        size: int = 2,
        causal: bool = True,
        pool: Pooling = "max",
        activation: Activation = "gelu",
        dropout: float = 0.0,
        clock: bool = True,
    ):
        at_least(1, width=width, layers=layers, cycles=cycles, size=size)
        super().__init__(
            inputs, "wavenet", lambda features: Dilated(features, width, layers, cycles, size, causal, dropout), width,
            outputs, pool=pool, act=activation, dropout=dropout, clock=clock, causal=causal,
        )  # fmt: skip
        self.sees = 1 + cycles * (size - 1) * (2**layers - 1)
