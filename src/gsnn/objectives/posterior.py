"""What values of the parameters could have made this? A conditional normalising flow: neural posterior estimation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from .. import rng
from ..config import build, normalise
from ..data.schema import Schema
from ..data.transforms import ByColumn, Transform
from ..errors import ConfigError
from .base import Batch, MakeNetwork, Objective, Prediction


class Posterior(Objective):
    """Learn p(parameters | data) of simulations (Papamakarios & Murray 2016, arXiv:1605.06376; APT with one round).

    The network makes ``context`` numbers of the data, trained together with a flow over the parameters. ``flow`` is
    "spline" (autoregressive rational-quadratic splines, Durkan et al. 2019, arXiv:1906.04032) or "affine" (a masked
    autoregressive flow, Papamakarios et al. 2017, arXiv:1705.07057), in ``layers`` transformations of ``width``. The
    prior is the distribution of the parameters in the training part. With the transform "box" the posterior has no
    mass outside the range of the prior. Predictions are ``draws`` points an object, the same for every target: their
    random numbers are a function of the row, so that they repeat.
    """

    parts = {"transform": "transform"}

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        make: MakeNetwork,
        *,
        flow: Literal["spline", "affine"] = "spline",
        layers: Annotated[int, Field(ge=1, le=32)] = 3,
        width: Annotated[int, Field(ge=1)] = 64,
        bins: Annotated[int, Field(ge=2, le=64)] = 8,
        context: Annotated[int, Field(ge=1)] = 32,
        draws: Annotated[int, Field(ge=2, le=100_000)] = 1000,
        transform: str | dict[str, Any] = "box",
    ):
        from zuko.flows import MAF, NSF

        for column in targets.columns:
            if column.kind != "scalar" or column.shape:
                raise ConfigError(
                    f"posterior needs numbers for each object, and {column.name!r} is a {column.kind}",
                    ("data", "target"),
                )
        super().__init__(inputs, targets, make, context)
        self.names, self.draws = list(targets), draws
        spec, path = normalise(transform), ("objective", "transform")
        self.transforms = ByColumn({name: build(spec, "transform", 1, path=path) for name in targets})
        if any(type(part).slope is Transform.slope for part in self.transforms.values()):
            raise ConfigError(f"the transform {spec['name']!r} suits no target: it has no slope", path)
        shape = {"transforms": layers, "hidden_features": [width, width], "randperm": False}
        how = {"features": len(self.names), "context": context, **shape}
        self.flow: nn.Module = NSF(bins=bins, **how) if flow == "spline" else MAF(**how)

    def fit(self, train) -> None:
        columns = train.columns(self.names)
        values = np.stack([np.asarray(columns[name], float) for name in self.names], 1)
        values = values[np.isfinite(values).all(1)]
        if len(values) <= len(self.names):
            raise ConfigError(
                f"{len(values)} training simulations cannot teach a posterior of {len(self.names)} parameters; "
                "simulate more",
                ("data", "source"),
            )
        for i, name in enumerate(self.names):
            if values[:, i].min() == values[:, i].max():
                raise ConfigError(f"the target {name!r} does not vary in the training part", ("data", "target"))
            self.transforms[name].fit(torch.tensor(values[:, i : i + 1]).float())

    def truth(self, batch: Batch) -> tuple[Float[Tensor, "object parameter"], Bool[Tensor, " object"]]:
        """The parameters in the flow's units, and which objects have all of them."""
        native = torch.stack([batch[name].float() for name in self.names], 1)
        known = torch.isfinite(native).all(1)
        filled = native.where(known[:, None], native.where(torch.isfinite(native), 0).mean(0, keepdim=True))
        units = [self.transforms[name](filled[:, i : i + 1]) for i, name in enumerate(self.names)]
        return torch.cat(units, 1), known

    def terms(self, out: Tensor, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        theta, known = self.truth(batch)
        with torch.autocast(out.device.type, enabled=False):
            loss = -self.flow(out.float()).log_prob(theta)
        return {"negative_log_likelihood": (loss.where(known, 0).sum(), known.sum())}

    def sample(self, out: Float[Tensor, "object context"], rows: Tensor) -> Float[Tensor, "object draw parameter"]:
        """Draws in native units."""
        count = len(self.names)
        noise = rng.normal(0, "posterior", rows.cpu(), self.draws * count).view(len(out), self.draws, count)
        with torch.autocast(out.device.type, enabled=False):
            made = self.flow(out.float()).transform.inv(noise.to(out.device).transpose(0, 1)).transpose(0, 1)
            native = [self.transforms[n].inverse(made[..., i].reshape(-1, 1)) for i, n in enumerate(self.names)]
        return torch.cat(native, 1).view(len(out), self.draws, count)

    def predict(self, out: Tensor, batch: Batch) -> Prediction:
        from ..evaluation.draws import Draws

        made = self.sample(out, batch["row"]).double().cpu().numpy()
        return {name: Draws(made[..., i]) for i, name in enumerate(self.names)}
