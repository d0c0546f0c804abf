"""Do these data and these parameters belong together? A classifier: neural ratio estimation."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn

from .. import rng
from ..data.schema import Schema
from ..rng import Rng
from .base import Batch, MakeNetwork
from .parameters import Parameters
from .tempered import sample


class Ratio(Parameters):
    """Learn p(data | parameters) / p(data) of simulations by telling their parameters from others, and sample.

    The network makes ``context`` numbers of the data, trained together with a classifier of ``layers`` hidden layers of
    ``width`` that sees them beside parameters. It picks the true parameters out of ``contrast`` ones, the others from
    the prior, or says that none of them is true (NRE-C with gamma = 1, Miller et al. 2022, arXiv:2210.06170, eqs 7 to
    11; ``contrast = 1`` is the binary classifier of Hermans et al. 2020, arXiv:1903.04057). The posterior is that of
    the prior of the training part, by sequential Monte Carlo within its range.
    """

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        make: MakeNetwork,
        *,
        contrast: Annotated[int, Field(ge=1, le=256)] = 8,
        layers: Annotated[int, Field(ge=1, le=32)] = 3,
        width: Annotated[int, Field(ge=1)] = 128,
        context: Annotated[int, Field(ge=1)] = 32,
        draws: Annotated[int, Field(ge=2, le=100_000)] = 1000,
    ):
        super().__init__(inputs, targets, make, context, draws)
        self.contrast = contrast
        self.of_data, self.of_parameters = nn.Linear(context, width), nn.Linear(len(self.names), width, bias=False)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(layers - 1))
        self.last = nn.Linear(width, 1)

    def log_ratio(
        self, out: Float[Tensor, "object context"], theta: Float[Tensor, "object point parameter"]
    ) -> Float[Tensor, "object point"]:
        x = nn.functional.silu(self.of_data(out)[:, None] + self.of_parameters(theta))
        for layer in self.hidden:
            x = x + nn.functional.silu(layer(x))
        return self.last(x)[..., 0]

    def others(self, rows: Tensor, of: Rng) -> Float[Tensor, "object other parameter"]:
        """Parameters from the prior: ``contrast`` of them, and ``contrast - 1`` beside the true ones."""
        count = 2 * self.contrast - 1
        found = of.normal("ratio/others", rows.cpu(), count * len(self.names))
        return found.view(-1, count, len(self.names)).to(rows.device)

    def prepare(self, batch: Batch, rng: Rng) -> Batch:
        return batch | {"others": self.others(batch["row"], rng)}

    def terms(self, out: Tensor, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        theta, known = self.truth(batch)
        others = batch["others"] if "others" in batch else self.others(batch["row"], rng.Rng(0))
        count = self.contrast
        with torch.autocast(out.device.type, enabled=False):
            found = self.log_ratio(out.float(), torch.cat([theta[:, None], others], 1))
            with_truth, without = found[:, :count], found[:, count:]
            nothing = torch.full_like(found[:, :1], math.log(count))
            right = with_truth[:, 0] - torch.cat([with_truth, nothing], 1).logsumexp(1)
            none = math.log(count) - torch.cat([without, nothing], 1).logsumexp(1)
        return {"contrast": (-0.5 * (right + none).where(known, 0).sum(), known.sum())}

    def sample(self, out: Float[Tensor, "object context"], rows: Tensor) -> Float[Tensor, "object draw parameter"]:
        def log_ratio(theta: Tensor, places: Int64[Tensor, " object"]) -> Tensor:
            return self.log_ratio(out[places], theta)

        with torch.no_grad():
            return sample(log_ratio, rows, self.draws, len(self.names), out.device)
