"""Encoder and decoder with attention: from a sequence to a sequence, as forecasts need."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..data.schema import Schema
from ..errors import GsnnError
from .layers import Activation, at_least, flatten
from .rnn import Cell, Recurrent
from .sequences import Sequences


class Decoder(nn.Module):
    """``horizon`` states, each from the one before and from the steps that it asks for.

    Additive attention (Bahdanau et al. 2015, arXiv:1409.0473, sect. 3.1); what the decoder is fed is the context and
    the number of its step, not its own last answer, so that errors do not feed on themselves.
    """

    def __init__(self, width: int, horizon: int):
        super().__init__()
        self.step = nn.Parameter(torch.randn(horizon, width) * width**-0.5)
        self.query, self.key, self.score = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 1)
        self.cell = nn.GRUCell(2 * width, width)

    def forward(
        self,
        start: Float[Tensor, "object width"],
        states: Float[Tensor, "object step width"],
        valid: Bool[Tensor, "object step"],
    ) -> Float[Tensor, "object horizon width"]:
        keys, state, out = self.key(states), start, []
        for step in self.step:
            score = self.score(torch.tanh(keys + self.query(state)[:, None]))[..., 0]
            weight = torch.softmax(score.masked_fill(~valid, -1e4), 1)
            context = (weight[..., None] * states).sum(1)
            state = self.cell(torch.cat([context, step.expand_as(context)], 1), state)
            out.append(state)
        return torch.stack(out, 1)


class Seq2Seq(Sequences):
    """``layers`` of cells read the sequence, and a decoder writes ``horizon`` states, which the head sees side by side.

    Sutskever et al. 2014 (arXiv:1409.3215) with attention. Give ``horizon`` the number of steps that are forecast.
    """

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        cell: Cell = "lstm",
        width: int = 48,
        layers: int = 1,
        horizon: int = 8,
        activation: Activation = "gelu",
        dropout: float = 0.0,
        clock: bool = True,
    ):
        at_least(1, width=width, layers=layers, horizon=horizon)
        super().__init__(
            inputs, "seq2seq", lambda features: Recurrent(features, width, layers, cell, False, dropout), width,
            outputs, pool="last", act=activation, dropout=dropout, clock=clock, causal=True,
        )  # fmt: skip
        self.horizon = horizon
        self.decoder = Decoder(width, horizon)
        self.head = nn.Linear(horizon * width, outputs)

    def features(self, **columns: Tensor) -> Float[Tensor, "object feature"]:
        """The states of the decoder, one after the other."""
        states, valid, start = [], [], []
        for i, _ in enumerate(self.sequences):
            state, real = self.encode(i, columns)
            start.append(self.pools[str(i)](state, real))
            states.append(state)
            valid.append(torch.ones_like(state[..., 0], dtype=torch.bool) if real is None else real)
        if self.scalars:
            start.append(flatten(columns, self.scalars).to(start[0].dtype))
        decoded = self.decoder(self.join(torch.cat(start, 1)), torch.cat(states, 1), torch.cat(valid, 1))
        return decoded.flatten(1)

    def running(self, **columns: Tensor) -> Float[Tensor, "object step width"]:
        raise GsnnError(
            "the network 'seq2seq' decodes once, from every step, so it has no answer on the way; choose rnn or wavenet"
        )
