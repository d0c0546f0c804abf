"""What is measured next? Each observation tells the flux of the one after it, whose time and band it is given."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.schema import Schema
from .base import Batch, MakeNetwork
from .values import Values

ASKED = ("time", "since_last", "since_last_in_band", "band_")  # what is known of an observation before it is made


class NextValue(Values):
    """A causal network's state, and the time and band of the next observation, through one hidden layer to its flux.

    A surrogate task (Smith & Geach 2023, doi:10.1098/rsos.221454, sect. 8; for light curves Pan et al. 2024,
    arXiv:2405.17156): whoever tells the next value has understood the object. In an evenly sampled series there is
    nothing to ask but the next value.
    """

    causal, who = True, "next-value"

    def __init__(self, inputs: Schema, targets: Schema, make: MakeNetwork):
        super().__init__(inputs, targets, make)
        names = self.network.names(self.column)
        self.asked = [i for i, name in enumerate(names) if name.startswith(ASKED)]
        width = self.network.width
        self.ask = nn.Sequential(nn.Linear(width + len(self.asked), width), nn.GELU())

    def forward(self, batch: Batch) -> Float[Tensor, "object step value"]:
        columns = self.columns(batch)
        state = self.network.hidden(**columns)[:, :-1]
        asked = self.network.steps(self.column, columns).x[:, 1:, self.asked]
        return self.network.read(self.ask(torch.cat([state, asked.to(state.dtype)], 2)))

    def terms(self, out: Float[Tensor, "object step value"], batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        return self.likelihood(out, *(part[:, 1:] for part in self.truth(batch)))
