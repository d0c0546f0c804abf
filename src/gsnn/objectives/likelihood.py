"""How probable would these data be? A flow over the data given the parameters: neural likelihood estimation."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from ..data.schema import Schema
from ..errors import ConfigError
from .base import Batch, MakeNetwork
from .parameters import Parameters
from .posterior import Kind, make_flow
from .tempered import sample

MOST = 64  # numbers that a flow is over
REACH = 5.0  # of summaries: zuko's splines act on -5 to 5


class Likelihood(Parameters):
    """Learn p(data | parameters) of simulations (Papamakarios et al. 2019, arXiv:1805.07226) and sample its posterior.

    What the flow is over depends on the network. A ``perceptron`` has no hidden layer: the flow is over the data
    themselves, of at most 64 numbers. Any other network makes ``summaries`` numbers of them (0: one for each
    parameter; more than the data have makes a density that no flow can learn), which a second flow, of the parameters
    given the summaries, teaches to keep what is known (variational mutual information, Jeffrey et al. 2021,
    arXiv:2009.08459). The likelihood does not depend on the prior of the training part; the posterior is that of a
    flat prior over its range, by sequential Monte Carlo.
    """

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        make: MakeNetwork,
        *,
        flow: Kind = "spline",
        layers: Annotated[int, Field(ge=1, le=32)] = 3,
        width: Annotated[int, Field(ge=1)] = 64,
        bins: Annotated[int, Field(ge=2, le=64)] = 8,
        summaries: Annotated[int, Field(ge=0, le=MOST)] = 0,
        draws: Annotated[int, Field(ge=2, le=100_000)] = 1000,
    ):
        outputs = summaries or len(targets)
        super().__init__(inputs, targets, make, outputs, draws)
        learned = [name for name, _ in self.network.named_parameters() if not name.startswith("head.")]
        self.of_data, shape = not learned, {"layers": layers, "width": width, "bins": bins}
        if self.of_data:
            outputs = self.network.head.in_features
            if outputs > MOST:
                raise ConfigError(
                    f"a likelihood of {outputs} numbers is beyond a flow (at most {MOST}); take a network that makes "
                    "summaries of them",
                    ("model", "name"),
                )
            self.network.head.requires_grad_(False)  # which nothing asks
        else:
            self.teacher = make_flow(flow, len(self.names), outputs, **shape)
        self.flow = make_flow(flow, outputs, len(self.names), **shape)

    def forward(self, batch: Batch) -> Float[Tensor, "object summary"]:
        if self.of_data:
            return self.network.features(**self.columns(batch))
        return self._bounded(super().forward(batch))

    def read(self, features: Tensor) -> Float[Tensor, "object summary"]:
        return features if self.of_data else self._bounded(super().read(features))

    @staticmethod
    def _bounded(out: Tensor) -> Tensor:
        return REACH * torch.tanh(out.float() / REACH)

    def terms(self, out: Tensor, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        theta, known = self.truth(batch)
        with torch.autocast(out.device.type, enabled=False):
            found = {"negative_log_likelihood": -self.flow(theta).log_prob(out.float().detach())}
            if not self.of_data:
                found["summaries"] = -self.teacher(out.float()).log_prob(theta)
        return {name: (loss.where(known, 0).sum(), known.sum()) for name, loss in found.items()}

    def sample(self, out: Float[Tensor, "object summary"], rows: Tensor) -> Float[Tensor, "object draw parameter"]:
        def log_likelihood(theta: Tensor, places: Int64[Tensor, " object"]) -> Tensor:
            return self.flow(theta).log_prob(out[places, None].expand(-1, theta.shape[1], -1))

        with torch.no_grad():
            return sample(log_likelihood, rows, self.draws, len(self.names), out.device)
