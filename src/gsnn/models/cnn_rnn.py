"""Convolutions, then a recurrent network: local shapes first, and their order in time on a shorter sequence."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..data.schema import Schema
from ..errors import GsnnError
from .cnn1d import Convolutions
from .layers import Activation, at_least
from .rnn import Cell, Recurrent
from .sequences import Pooling, Sequences


class Hybrid(nn.Module):
    """The states of the convolutions are the steps of the recurrent layers."""

    def __init__(self, convolutions: Convolutions, recurrent: Recurrent, stride: int):
        super().__init__()
        self.convolutions, self.recurrent, self.stride = convolutions, recurrent, stride

    def forward(
        self,
        x: Float[Tensor, "object step feature"],
        time: Float[Tensor, "object step"],
        valid: Bool[Tensor, "object step"] | None,
    ) -> Float[Tensor, "object step2 width"]:
        short = time[:, :: self.stride], None if valid is None else valid[:, :: self.stride]
        return self.recurrent(self.convolutions(x, time, valid), *short)


class CNNRNN(Sequences):
    """``depth`` stages of convolutions as in ``cnn1d``, then ``layers`` of cells as in ``rnn``, of the same ``width``.

    The recurrence, which no device can do in parallel, runs over ``stride ** (depth - 1)`` times fewer steps.
    """

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        cell: Cell = "lstm",
        width: int = 48,
        depth: int = 3,
        size: int = 5,
        stride: int = 2,
        layers: int = 1,
        bidirectional: bool = True,
        pool: Pooling = "max",
        activation: Activation = "gelu",
        dropout: float = 0.0,
        clock: bool = True,
    ):
        at_least(1, width=width, depth=depth, size=size, stride=stride, layers=layers)
        if bidirectional and (width % 2 or pool == "last"):
            raise GsnnError(
                f'a bidirectional cnn-rnn needs an even width (not {width}) and pool = "mean", "max" or "attention", '
                f"not {pool!r}; or set bidirectional = false"
            )
        shorter = stride ** (depth - 1)

        def encoder(features: int) -> Hybrid:
            convolutions = Convolutions(features, width, depth, size, stride, activation)
            return Hybrid(convolutions, Recurrent(width, width, layers, cell, bidirectional, dropout), shorter)

        super().__init__(
            inputs, "cnn-rnn", encoder, width, outputs, pool=pool, act=activation, dropout=dropout, clock=clock,
            stride=shorter,
        )  # fmt: skip
