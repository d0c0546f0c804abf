"""What learning from the values of a sequence shares: which sequence, what is known of it, and the likelihood."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..data.schema import SEQUENCES, Column, Schema
from ..errors import ConfigError, GsnnError
from .base import Batch, MakeNetwork
from .surrogate import Surrogate

FLOOR = 1e-3  # smallest width of a predicted value, in network units


def one_sequence(inputs: Schema, who: str) -> Column:
    """The sequence among the inputs; ConfigError where there is none, or more than one."""
    found = inputs.of_kind(*SEQUENCES)
    if len(found) != 1:
        names = " and ".join(repr(c.name) for c in found) or "none"
        raise ConfigError(f"{who} needs one light curve or series among the inputs, not {names}", ("data", "inputs"))
    return found[0]


def valid_steps(column: Column, batch: Batch) -> Bool[Tensor, "object step"]:
    """Which steps of a batch are the objects' own."""
    if column.kind == "light_curve":
        return batch[f"{column.name}.valid"]
    values = batch[column.name]
    return torch.ones(values.shape[0], values.shape[-1], dtype=torch.bool, device=values.device)


class Values(Surrogate):
    """The network's head says what value stands at a step, as a Gaussian [mean, raw width] for each channel.

    Values are told in network units. The width of the prediction and the error of the measurement add in quadrature, so
    that a noisy value is not asked to be predicted better than it was measured. Unknown values weigh nothing.
    """

    causal: bool
    who: str

    def __init__(self, inputs: Schema, targets: Schema, make: MakeNetwork):
        self.column = one_sequence(inputs, self.who)
        self.channels = 1 if self.column.kind == "light_curve" else (1, *self.column.shape)[-2]
        with torch.device("meta"):
            sketch = make(inputs, 1)
        if not hasattr(sketch, "running"):
            raise ConfigError(f"{self.who} needs a network of sequences, as rnn or wavenet", ("model", "name"))
        try:
            sketch.only()
        except GsnnError as error:
            raise ConfigError(f"{self.who}: {error}", ("model", "name")) from error
        if sketch.decodes:
            raise ConfigError(
                f"{self.who} asks the states themselves, and this network decodes them: take rnn or wavenet",
                ("model", "name"),
            )
        if sketch.causal != self.causal:
            wants = (
                "what came before only: an rnn, or causal = true"
                if self.causal
                else ("what comes before and after: a bidirectional rnn, or causal = false")
            )
            raise ConfigError(f"{self.who} needs a network that sees {wants}", ("model", "name"))
        if sketch.pool == "attention":
            raise ConfigError(
                f"{self.who} does not teach attention where to look: take mean, max or last", ("model", "pool")
            )
        super().__init__(inputs, targets, make, 2 * self.channels)

    def columns(self, batch: Batch) -> Batch:
        """What the network reads: NaN where a series has a gap, which the transform has filled."""
        columns, name = super().columns(batch), self.column.name
        if f"{name}.known" in batch:
            columns[name] = columns[name].masked_fill(~batch[f"{name}.known"], torch.nan)
        return columns

    def truth(
        self, batch: Batch
    ) -> tuple[
        Float[Tensor, "object step channel"], Float[Tensor, "object step channel"], Bool[Tensor, "object step channel"]
    ]:
        """Values, their errors (0 where there are none), and which of them are known."""
        if self.column.kind == "light_curve":
            flux, error = (batch[f"{self.column.name}.{part}"][..., None] for part in ("flux", "flux_error"))
            known = torch.isfinite(flux) & valid_steps(self.column, batch)[..., None]
            return flux.where(known, 0), error.where(known & torch.isfinite(error), 0), known
        values = self.columns(batch)[self.column.name]
        values = values.reshape(values.shape[0], self.channels, values.shape[-1]).transpose(1, 2)
        known = torch.isfinite(values)
        return values.where(known, 0), torch.zeros_like(values), known

    def gaussian(
        self, out: Float[Tensor, "object step value"]
    ) -> tuple[Float[Tensor, "object step channel"], Float[Tensor, "object step channel"]]:
        """Mean and width of what the network says, without the error of a measurement."""
        mean, width = out.float().chunk(2, 2)
        return mean, F.softplus(width) + FLOOR

    def likelihood(
        self,
        out: Float[Tensor, "object step value"],
        truth: Float[Tensor, "object step channel"],
        error: Float[Tensor, "object step channel"],
        counts: Bool[Tensor, "object step channel"],
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """The negative log likelihood of the values that count, and how many they are."""
        mean, width = self.gaussian(out)
        variance = width**2 + error**2
        each = 0.5 * ((truth - mean) ** 2 / variance + torch.log(variance) + math.log(2 * math.pi))
        return {"negative_log_likelihood": ((each * counts).sum(), counts.sum())}
