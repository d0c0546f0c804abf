"""One field from others: a value for every voxel."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ..data.schema import Schema
from ..errors import ConfigError, suggest
from ..simulate.mesh import lattice, paint, shell_powers
from .base import Batch, MakeNetwork, Objective, Prediction, one_field

Voxels = Float[Tensor, "object channel *space"]
MOST = 64  # training objects from which the spread of the target is measured


class Translate(Objective):
    """Learn a field or an image (``target``) of the size of the inputs, voxel by voxel. ``loss`` is "l1" or "l2".

    ``residual`` names an input of the target's shape and unit to which the network's answer is added: perturbation
    theory, say, of which the network learns what is wrong. Errors count in units of the spread of what is to be
    learned: each channel's own, or one for the displacements of particles, whose axes are alike. For these ``density``
    weighs a second term: the squared error of the density, painted by cloud in cell on the lattice, in units of its
    variance (the Lagrangian and the Eulerian loss of Jamieson et al. 2023, arXiv:2206.04594), and ``power`` a third:
    the squared error of P / P true - 1 of that density, a mean over shells up to the Nyquist frequency, without which
    what cannot be foreseen is left out and P is too low. Voxels whose truth is missing weigh nothing.
    """

    target_kind = "any"
    dense = True  # gsnn.model asks the network for voxels and features together

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        make: MakeNetwork,
        *,
        residual: str = "",
        loss: Literal["l1", "l2"] = "l2",
        density: Annotated[float, Field(ge=0)] = 0.0,
        power: Annotated[float, Field(ge=0)] = 0.0,
    ):
        self.target = one_field(inputs, targets, "translate learns")
        alike = [c.name for c in inputs.of_kind("field") if (c.shape, c.unit) == (self.target.shape, self.target.unit)]
        if residual and residual not in alike:
            raise ConfigError(
                f"{residual!r} is no input field of the shape and unit of {self.target.name!r}; "
                f"{suggest(residual, alike)}",
                ("objective", "residual"),
            )
        for name, weight in (("density", density), ("power", power)):
            if weight and not self.target.moves:
                raise ConfigError(
                    f"{self.target.name!r} is no displacement of particles, so that it has no density: leave it out",
                    ("objective", name),
                )
        self.residual, self.loss, self.density, self.power = residual, loss, density, power
        super().__init__(inputs, targets, make, self.target.shape[0])
        if not hasattr(self.network, "both"):
            raise ConfigError("translate needs a network that answers each voxel: unet", ("model", "name"))
        self.register_buffer("centre", torch.zeros(self.target.shape[0]))
        self.register_buffer("scale", torch.ones(self.target.shape[0]))
        self.register_buffer("contrast", torch.ones(()))  # the variance of the density

    def fit(self, train) -> None:
        some = train.take(np.linspace(0, len(train) - 1, min(len(train), MOST)).astype(int))
        names = [self.target.name] + ([self.residual] if self.residual else [])
        columns = {name: torch.tensor(value).float() for name, value in some.columns(names).items()}
        truth = columns[self.target.name]
        wrong = truth - columns[self.residual] if self.residual else truth
        flat = wrong.transpose(0, 1).flatten(1).double()
        if self.target.moves:
            flat = flat.reshape(1, -1)
        good = torch.isfinite(flat)
        count = good.sum(1).clamp(min=1)
        mean = flat.where(good, 0).sum(1) / count
        mean = torch.zeros_like(mean) if self.target.moves else mean  # no direction is preferred
        scale = ((flat - mean[:, None]).where(good, 0) ** 2).sum(1).div(count).sqrt()
        if not (scale > 0).all():
            raise ConfigError(f"the target {self.target.name!r} does not vary in the training part", ("data", "target"))
        self.centre, self.scale = (one.float().expand(self.target.shape[0]).clone() for one in (mean, scale))
        if self.density:
            self.contrast = self.painted(truth[torch.isfinite(truth).flatten(1).all(1)]).var()

    def painted(self, moved: Voxels) -> Float[Tensor, "object ..."]:
        """The overdensity of particles that have moved so far from their lattice."""
        side, box = moved.shape[-1], self.target.box
        return paint(lattice(side, box, moved.ndim - 2).to(moved) + moved, side, box)

    def forward(self, batch: Batch) -> Voxels:
        return self.network.read(**self.columns(batch))

    def native(self, out: Voxels, batch: Batch) -> Voxels:
        """The field in its own unit."""
        shape = (-1, *(1,) * (out.ndim - 2))
        field = out.float() * self.scale.view(shape) + self.centre.view(shape)
        return field + batch[f"{self.residual}.native"].float() if self.residual else field

    def terms(self, out: Voxels, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        with torch.autocast(out.device.type, enabled=False):
            truth, made = batch[self.target.name].float(), self.native(out, batch)
            known = torch.isfinite(truth)
            truth = truth.where(known, made.detach())
            wrong = (made - truth) / self.scale.view(-1, *(1,) * (out.ndim - 2))
            each = wrong.abs() if self.loss == "l1" else wrong**2
            found = {self.loss: (each.sum(), known.sum())}
            if self.density or self.power:
                whole = known.flatten(1).all(1)
                both = self.painted(made), self.painted(truth)
                if self.density:
                    each = (both[0] - both[1]).square().flatten(1).mean(1) / self.contrast
                    found["density"] = (self.density * each.where(whole, 0).sum(), whole.sum())
                if self.power:
                    resolved = slice(1, truth.shape[-1] // 2 + 1)
                    own, true = (shell_powers(one)[:, resolved] for one in both)
                    each = (own / true.clamp(min=1e-30) - 1).square().mean(1)
                    found["power"] = (self.power * each.where(whole, 0).sum(), whole.sum())
        return found

    def predict(self, out: Voxels, batch: Batch) -> Prediction:
        from ..evaluation.fields import Fields

        return {self.target.name: Fields(self.native(out, batch).detach().cpu().numpy(), self.target)}
