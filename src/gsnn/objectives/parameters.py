"""What inference from simulations shares: parameters in units of their own, and answers that are draws from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..config import build, normalise
from ..data.schema import Schema
from ..data.transforms import ByColumn, Transform
from ..errors import ConfigError
from .base import Batch, MakeNetwork, Objective, Prediction


class Parameters(Objective):
    """The targets are the parameters of a simulation. A subclass learns, and gives ``sample`` in the same units.

    The prior is the distribution of the parameters in the training part. With the transform "box" it is flat over its
    range, and standard normal in the units of the network.
    """

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        make: MakeNetwork,
        outputs: int,
        draws: int,
        transform: str | dict[str, Any] = "box",
    ):
        spec, path = normalise(transform), ("objective", "transform")
        for column in targets.columns:
            if column.kind != "scalar" or column.shape:
                raise ConfigError(
                    f"{type(self).__name__.lower()} needs numbers for each object, and {column.name!r} is a "
                    f"{column.kind}",
                    ("data", "target"),
                )
        super().__init__(inputs, targets, make, outputs)
        self.names, self.draws = list(targets), draws
        self.transforms = ByColumn({name: build(spec, "transform", 1, path=path) for name in targets})
        if any(type(part).slope is Transform.slope for part in self.transforms.values()):
            raise ConfigError(f"the transform {spec['name']!r} suits no target: it has no slope", path)

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
        """The parameters in the network's units, and which objects have all of them."""
        native = torch.stack([batch[name].float() for name in self.names], 1)
        known = torch.isfinite(native).all(1)
        filled = native.where(known[:, None], native.where(torch.isfinite(native), 0).mean(0, keepdim=True))
        units = [self.transforms[name](filled[:, i : i + 1]) for i, name in enumerate(self.names)]
        return torch.cat(units, 1), known

    def sample(self, out: Tensor, rows: Tensor) -> Float[Tensor, "object draw parameter"]:
        """Draws in the network's units; their random numbers are a function of the row, so that they repeat."""
        raise NotImplementedError

    def predict(self, out: Tensor, batch: Batch) -> Prediction:
        from ..evaluation.draws import Draws

        with torch.autocast(out.device.type, enabled=False):
            made = self.sample(out.float(), batch["row"])
            native = [
                self.transforms[name].inverse(made[..., i].reshape(-1, 1)).view(made.shape[:2])
                for i, name in enumerate(self.names)
            ]
        return {name: Draws(value.double().cpu().numpy()) for name, value in zip(self.names, native)}
