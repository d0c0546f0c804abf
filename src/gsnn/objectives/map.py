"""What does the map behind the data look like? The mean of each pixel, and its 68% interval."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..data.schema import Schema
from ..errors import ConfigError
from .base import Batch, MakeNetwork, Objective, Prediction

ENDS = (0.16, 0.84)  # as in gsnn.evaluation.maps
Maps = Float[Tensor, "object channel y x"]


class Map(Objective):
    """Learn a map [channel, y, x] from maps of the same size, by a network with an answer for each voxel.

    The first answer is the mean of the posterior, by the squared error; the others are how far below and above it the
    16% and the 84% quantile of the pixel lie, by their pinball losses (Koenker & Bassett 1978, doi:10.2307/1913643), so
    that the interval covers 68% whatever the shape of the posterior. The moments could be taught as well (Jeffrey &
    Wandelt 2020, arXiv:2011.05991), but a skewed posterior has other quantiles than a Gaussian of its moments.

    ``within`` names an input that is positive where there are data: only there is the map told, taught and judged.
    """

    target_kind = "any"
    dense = True  # an answer for each voxel: gsnn.model asks the network for it together with its features

    def __init__(self, inputs: Schema, targets: Schema, make: MakeNetwork, *, within: str = ""):
        if len(targets) != 1 or len(targets.columns[0].shape) != 3:
            raise ConfigError("map answers one image or field [channel, y, x]", ("data", "target"))
        self.target = targets.columns[0]
        if within and (within not in inputs or inputs[within].shape[1:] != self.target.shape[1:]):
            raise ConfigError(f"{within!r} is no input of the target's size", ("objective", "within"))
        super().__init__(inputs, targets, make, 3 * self.target.shape[0])
        if not hasattr(self.network, "both"):
            raise ConfigError("map needs a network that answers each voxel, as unet does", ("model", "name"))
        self.within = within
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def fit(self, train) -> None:
        some = train.take(np.linspace(0, len(train) - 1, min(len(train), 256)).astype(int))
        values = torch.tensor(some.columns([self.target.name])[self.target.name]).double()
        values = values[torch.isfinite(values)]
        if not len(values) or values.min() == values.max():
            raise ConfigError(f"the target {self.target.name!r} does not vary in the training part", ("data", "target"))
        self.mean, self.scale = values.mean().float(), values.std().float()

    def forward(self, batch: Batch) -> Maps:
        return self.network.read(**self.columns(batch))

    def inside(self, batch: Batch, like: Maps) -> Bool[Tensor, "object channel y x"]:
        """Where the map is told."""
        if not self.within:
            return torch.ones_like(like, dtype=torch.bool)
        return (batch[self.within] > 0).all(1, keepdim=True).expand_as(like)

    def ends(self, out: Maps) -> tuple[Maps, Maps, Maps]:
        """The mean in native units, and how far below and above it the interval ends."""
        value, below, above = out.float().chunk(3, 1)
        if not getattr(self.network, "native", False):
            value = value * self.scale + self.mean
        return value, F.softplus(below) * self.scale, F.softplus(above) * self.scale

    def terms(self, out: Maps, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        value, below, above = self.ends(out)
        truth = batch[self.target.name].float()
        known = self.inside(batch, truth) & torch.isfinite(truth)
        apart = (truth.where(known, 0.0) - value.where(known, 0.0)) / self.scale
        found = {"squared_error": (apart**2).sum()}
        for share, end in zip(ENDS, (-below / self.scale, above / self.scale)):
            off = apart.detach() - end
            found["pinball"] = found.get("pinball", 0) + (torch.maximum(share * off, (share - 1) * off) * known).sum()
        return {name: (value, known.sum()) for name, value in found.items()}

    def predict(self, out: Maps, batch: Batch) -> Prediction:
        from ..evaluation.maps import Maps as Told

        value, below, above = self.ends(out)
        told = (one.cpu().numpy() for one in (value, self.inside(batch, value), value - below, value + above))
        return {self.target.name: Told(*told)}
