"""How much is it? Points (L1, L2) or densities (a Gaussian, a mixture of Gaussians) of one or more quantities."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ..config import build, normalise
from ..data.schema import Schema
from ..data.transforms import ByColumn, Standardise, TargetTransform, Transform
from ..errors import ConfigError
from .base import Batch, MakeNetwork, Objective, Prediction


def _log_normal(distance: Tensor, sigma: Tensor) -> Tensor:
    return -0.5 * (distance / sigma) ** 2 - torch.log(sigma) - 0.5 * math.log(2 * math.pi)


def _self_overlap(log_weight: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """The integral of p squared of a Gaussian mixture: [object, target, component] -> [object, target]."""
    distance = mean[..., :, None] - mean[..., None, :]
    width = torch.sqrt(sigma[..., :, None] ** 2 + sigma[..., None, :] ** 2)
    pair = log_weight[..., :, None] + log_weight[..., None, :] + _log_normal(distance, width)
    return torch.logsumexp(pair.flatten(-2), -1).exp()


class Regress(Objective):
    """Learn scalars. ``loss`` is "l1" or "l2" (a point), "gaussian" (Nix & Weigend 1994) or "mixture" (Bishop 1994).

    Targets are transformed (``transform``, fitted on the training part) and predictions come back in native units with
    the Jacobian of the transform. Objects whose target is missing weigh nothing. ``sigma_floor`` is the smallest
    width of a component, in units of the target's spread. ``score`` says what a mixture minimises: the negative log
    likelihood, the conditional density estimation loss (Izbicki & Lee 2017, arXiv:1704.08095), which weighs the core
    of the density over its wings, or their sum.
    """

    parts = {"transform": "transform"}

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        make: MakeNetwork,
        *,
        loss: Literal["l1", "l2", "gaussian", "mixture"] = "gaussian",
        components: Annotated[int, Field(ge=1, le=64)] = 5,
        score: Literal["likelihood", "cde", "both"] = "likelihood",
        transform: str | dict[str, Any] = "standardise",
        sigma_floor: Annotated[float, Field(gt=0)] = 1e-3,
    ):
        for column in targets.columns:
            if column.kind not in ("scalar", "position") or column.shape:
                raise ConfigError(
                    f"regress needs a number for each object, and {column.name!r} is a {column.kind}",
                    ("data", "target"),
                )
        self.loss, self.score, self.sigma_floor = loss, score, sigma_floor
        self.components = {"l1": 0, "l2": 0, "gaussian": 1, "mixture": components}[loss]
        self.names = list(targets)
        super().__init__(inputs, targets, make, len(targets) * max(3 * self.components, 1))
        spec, path = normalise(transform), ("objective", "transform")
        self.transforms = ByColumn({name: build(spec, "transform", 1, path=path) for name in targets})
        if any(type(part).slope is Transform.slope for part in self.transforms.values()):
            raise ConfigError(f"the transform {spec['name']!r} suits no target: it has no slope", path)

    def fit(self, train) -> None:
        columns = train.columns(self.names)
        for name in self.names:
            values = torch.tensor(columns[name]).float()
            values = values[torch.isfinite(values)]
            if len(values) < 2 or values.min() == values.max():
                raise ConfigError(f"the target {name!r} does not vary in the training part", ("data", "target"))
            self.transforms[name].fit(values[:, None])

    def mixture(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights, means and sigmas [object, target, component] of the mixture, in transformed units."""
        raw = out.float().view(len(out), len(self.names), 3, self.components)
        log_weight = torch.log_softmax(raw[:, :, 0], -1)
        return log_weight, raw[:, :, 1], F.softplus(raw[:, :, 2]) + self.sigma_floor

    def terms(self, out: Tensor, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        native = torch.stack([batch[name].float() for name in self.names], 1)
        known = torch.isfinite(native)
        truth = [self.transforms[n](native[:, i : i + 1].nan_to_num(1.0, 1.0, 1.0)) for i, n in enumerate(self.names)]
        y = torch.cat(truth, 1)
        if not self.components:
            guess = out.float().view_as(y)
            loss = (guess - y).abs() if self.loss == "l1" else (guess - y) ** 2
            return {self.loss: ((loss * known).sum(), known.sum())}
        log_weight, mean, sigma = self.mixture(out)
        log_density = torch.logsumexp(log_weight + _log_normal(y[..., None] - mean, sigma), -1)
        found = {}
        if self.score != "cde":
            found["negative_log_likelihood"] = -log_density
        if self.score != "likelihood":
            found["cde"] = _self_overlap(log_weight, mean, sigma) - 2 * log_density.exp()
        return {name: ((value * known).sum(), known.sum()) for name, value in found.items()}

    @cached_property
    def _bijections(self) -> dict[str, TargetTransform]:
        return {name: TargetTransform(self.transforms[name]) for name in self.names}

    def predict(self, out: Tensor, batch: Batch) -> Prediction:
        from ..evaluation.distributions import Mixture, Point, Warped

        prediction: Prediction = {}
        for i, name in enumerate(self.names):
            bijection = self._bijections[name]
            if not self.components:
                raw = out.double().view(len(out), -1)[:, i].cpu().numpy()
                prediction[name] = Point(bijection.inverse(raw))
                continue
            log_weight, mean, sigma = (p[:, i].double().cpu() for p in self.mixture(out))
            weight = torch.softmax(log_weight, -1).numpy()
            transform = self.transforms[name]
            if isinstance(
                transform, Standardise
            ):  # an affine map of a mixture is a mixture: exact, and closed forms apply
                scale = transform.scale.double().cpu().numpy()
                mean_native = mean.numpy() * scale + transform.mean.double().cpu().numpy()
                prediction[name] = Mixture(weight, mean_native, sigma.numpy() * scale)
            else:
                prediction[name] = Warped(Mixture(weight, mean.numpy(), sigma.numpy()), bijection)
        return prediction
