"""Recurrent networks: a state that is carried from step to step. Cost grows linearly with length."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..data.schema import Schema
from ..errors import GsnnError
from .layers import Activation, at_least
from .sequences import Pooling, Sequences, Step, covered

Cell = Literal["rnn", "lstm", "gru"]
CELLS: dict[str, type[nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def backwards(
    x: Float[Tensor, "object step feature"], valid: Bool[Tensor, "object step"] | None
) -> Float[Tensor, "object step feature"]:
    """The valid steps of each object in reverse order; padding stays at the end. Twice is the identity."""
    if valid is None:
        return x.flip(1)
    steps = torch.arange(x.shape[1], device=x.device)
    back = valid.sum(1, keepdim=True) - 1 - steps
    return x.gather(1, torch.where(back < 0, steps, back)[..., None].expand_as(x))


def remember(layer: nn.LSTM) -> None:
    """Begin with open forget gates, a bias of 1 (Gers et al. 2000, doi:10.1162/089976600300015015; Jozefowicz 2015)."""
    with torch.no_grad():
        forget = slice(layer.hidden_size, 2 * layer.hidden_size)
        layer.bias_ih_l0[forget] = 1
        layer.bias_hh_l0[forget] = 0


class Recurrent(nn.Module):
    """Layers of one cell; with ``bidirectional`` half of the width reads from the end.

    States begin small, and are brought to unit size by a LayerNorm at the end. Steps are never packed: what follows the
    last step changes nothing before it, and the backward half reads the valid steps in reverse, so that padding costs
    time and nothing else. The recurrence is float32 even under autocast: over hundreds of steps a state in bfloat16
    forgets.
    """

    def __init__(self, features: int, width: int, layers: int, cell: Cell, bidirectional: bool, dropout: float):
        super().__init__()
        make, self.both = CELLS[cell], bidirectional
        each = width // 2 if bidirectional else width
        sizes = [features, *[width] * (layers - 1)]
        self.ahead = nn.ModuleList(make(size, each, batch_first=True) for size in sizes)
        self.back = nn.ModuleList(make(size, each, batch_first=True) for size in sizes if bidirectional)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(width)
        if cell == "lstm":
            for layer in (*self.ahead, *self.back):
                remember(layer)

    def forward(
        self,
        x: Float[Tensor, "object step feature"],
        time: Float[Tensor, "object step"],
        valid: Bool[Tensor, "object step"] | None,
    ) -> Float[Tensor, "object step width"]:
        if x.device.type == "meta":
            return self.read(x, valid)
        with torch.autocast(x.device.type, enabled=False):
            return self.read(x.float(), valid)

    def read(
        self, x: Float[Tensor, "object step feature"], valid: Bool[Tensor, "object step"] | None
    ) -> Float[Tensor, "object step width"]:
        for i, ahead in enumerate(self.ahead):
            x = covered(self.dropout(x) if i else x, valid)
            states = [ahead(x)[0]]
            if self.both:
                states.append(backwards(self.back[i](backwards(x, valid))[0], valid))
            x = torch.cat(states, 2) if self.both else states[0]
        return self.norm(x)


class RNN(Sequences):
    """``layers`` of cells: "rnn" (Elman 1990), "lstm" (Hochreiter & Schmidhuber 1997) or "gru" (Cho et al. 2014).

    On a processor PyTorch runs "lstm" as one kernel and the others step by step, three to four times slower.

    What a gap in time means is learned: each step knows how long ago the one before was. Forwards alone it is causal,
    and can answer at every step; ``bidirectional`` (Schuster & Paliwal 1997) reads from both ends, with half of
    ``width`` each. With ``step = "visit"`` observations at the same time, one or more a band, are one step.
    """

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        cell: Cell = "lstm",
        width: int = 64,
        layers: int = 2,
        bidirectional: bool = False,
        pool: Pooling = "max",
        activation: Activation = "gelu",
        dropout: float = 0.0,
        clock: bool = True,
        step: Step = "observation",
    ):
        at_least(1, width=width, layers=layers)
        if bidirectional and width % 2:
            raise GsnnError(f"width = {width} cannot be halved between the two directions: give an even one")
        if bidirectional and pool == "last":
            raise GsnnError(
                'pool = "last" sees one step of what is read from the end; take "mean", "max" or "attention", '
                "or bidirectional = false"
            )
        super().__init__(
            inputs, "rnn", lambda features: Recurrent(features, width, layers, cell, bidirectional, dropout), width,
            outputs, pool=pool, act=activation, dropout=dropout, clock=clock, causal=not bidirectional, step=step,
        )  # fmt: skip
