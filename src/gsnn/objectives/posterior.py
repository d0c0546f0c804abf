"""What values of the parameters could have made this? A conditional normalising flow: neural posterior estimation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from .. import rng
from ..data.schema import Schema
from .base import Batch, MakeNetwork
from .parameters import Parameters

Kind = Literal["spline", "affine"]


def make_flow(kind: Kind, features: int, context: int, *, layers: int, width: int, bins: int) -> nn.Module:
    """A flow over ``features`` numbers given ``context`` others: "spline" (autoregressive rational-quadratic splines,
    Durkan et al. 2019, arXiv:1906.04032) or "affine" (Papamakarios et al. 2017, arXiv:1705.07057)."""
    from zuko.flows import MAF, NSF

    shape = {"transforms": layers, "hidden_features": [width, width], "randperm": False}
    how = {"features": features, "context": context, **shape}
    return NSF(bins=bins, **how) if kind == "spline" else MAF(**how)


class Posterior(Parameters):
    """Learn p(parameters | data) of simulations (Papamakarios & Murray 2016, arXiv:1605.06376; APT with one round).

    The network makes ``context`` numbers of the data, trained together with a flow over the parameters
    (:func:`make_flow`), in ``layers`` transformations of ``width``. The prior is the distribution of the parameters in
    the training part. With the transform "box" the posterior has no mass outside the range of the prior. Predictions
    are ``draws`` points an object, the same for every target.
    """

    parts = {"transform": "transform"}

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
        context: Annotated[int, Field(ge=1)] = 32,
        draws: Annotated[int, Field(ge=2, le=100_000)] = 1000,
        transform: str | dict[str, Any] = "box",
    ):
        super().__init__(inputs, targets, make, context, draws, transform)
        self.flow = make_flow(flow, len(self.names), context, layers=layers, width=width, bins=bins)

    def terms(self, out: Tensor, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        theta, known = self.truth(batch)
        with torch.autocast(out.device.type, enabled=False):
            loss = -self.flow(out.float()).log_prob(theta)
        return {"negative_log_likelihood": (loss.where(known, 0).sum(), known.sum())}

    def sample(self, out: Float[Tensor, "object context"], rows: Tensor) -> Float[Tensor, "object draw parameter"]:
        noise = rng.normal(0, "posterior", rows.cpu(), self.draws * len(self.names))
        noise = noise.view(len(out), self.draws, len(self.names)).to(out.device)
        return self.flow(out).transform.inv(noise.transpose(0, 1)).transpose(0, 1)
