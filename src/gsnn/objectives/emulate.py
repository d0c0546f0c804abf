"""What would the simulator say? Whole curves from a few parameters, by their principal components."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from ..data.pca import PCA
from ..data.schema import DENSE, Schema
from ..data.transforms import ByColumn, Standardise
from ..errors import ConfigError
from .base import Batch, MakeNetwork, Objective, Prediction

FINEST = 1e-4  # of an output in unit variance that is left to a network: float32 says no less
PENALTIES = torch.logspace(-14, 0, 15, dtype=torch.float64)  # of a ridge, in units of its largest eigenvalue


def ridge(
    x: Float[Tensor, "object feature"], y: Float[Tensor, "object output"]
) -> tuple[Float[Tensor, "output feature"], Float[Tensor, " output"], Float[Tensor, " output"]]:
    """Slopes, intercepts and the error on objects that are left out one by one, in closed form, of each output.

    Each has the penalty of its own least error (PRESS: Allen 1974, Technometrics 16, 125).
    """
    middle, centre = x.mean(0), y.mean(0)
    left, size, right = torch.linalg.svd(x - middle, full_matrices=False)
    told = left.T @ (y - centre)
    errors, slopes = [], []
    for penalty in PENALTIES * size[0] ** 2:
        kept = size**2 / (size**2 + penalty)
        own = 1 / len(x) + (left**2) @ kept  # how much of each object's answer is its own
        missed = (y - centre - left @ (kept[:, None] * told)) / (1 - own).clamp(min=1e-9)[:, None]
        errors.append((missed**2).mean(0).sqrt())
        slopes.append((right.T @ ((size / (size**2 + penalty))[:, None] * told)).T)
    least, which = torch.stack(errors).min(0)
    chosen = torch.stack(slopes)[which, torch.arange(y.shape[1])]
    return chosen, centre - chosen @ middle, least


class Emulate(Objective):
    """Learn curves and scalars that follow from the inputs without noise.

    The network gives ``components`` principal components of every band of each curve (:class:`gsnn.data.pca.PCA`,
    fitted on the training part) and every scalar, all of unit variance. Where it gives monomials (``powers`` of the
    mlp), a response surface in them is solved for by ridge regression before training, and the network learns what that
    leaves. In the loss each component counts in units of what is left of it, with the weight (what is left of the
    curve's standardised steps) ** ``weigh``: 2 for their mean squared error, 0 for all components alike. Widths of the
    prediction are the errors on the validation part, step by step.
    """

    target_kind = "any"
    start_objects = 20_000

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        make: MakeNetwork,
        *,
        components: Annotated[int, Field(ge=1)] = 32,
        weigh: Annotated[float, Field(ge=0, le=2)] = 1.0,
    ):
        for column in targets.columns:
            if column.kind not in ("scalar", *DENSE) or len(column.shape) > 2:
                raise ConfigError(
                    f"emulate answers scalars and curves, and {column.name!r} is a {column.kind} of shape "
                    f"{column.shape}",
                    ("data", "target"),
                )
        self.shapes = {c.name: (1, *c.shape)[-2:] if c.shape else () for c in targets.columns}
        kept = {name: min(components, shape[1]) for name, shape in self.shapes.items() if shape}
        self.sizes = [shape[0] * kept[name] if shape else 1 for name, shape in self.shapes.items()]
        super().__init__(inputs, targets, make, sum(self.sizes))
        self.weigh = weigh
        self.transforms = ByColumn(
            {n: PCA(*shape, components=kept[n]) if shape else Standardise(1) for n, shape in self.shapes.items()}
        )
        outputs, features = self.network.head.weight.shape
        self.register_buffer("surface", torch.zeros(outputs, features))
        self.register_buffer("level", torch.zeros(outputs))
        self.register_buffer("left", torch.ones(outputs))
        for name, shape in self.shapes.items():
            self.register_buffer(f"width_{name}", torch.zeros(shape or (1,)))

    def fit(self, train) -> None:
        for name, shape in self.shapes.items():
            values = torch.tensor(train.columns([name])[name]).double()
            values = values[torch.isfinite(values).reshape(len(values), -1).all(1)]
            if len(values) < 2 or bool((values == values[0]).all()):
                raise ConfigError(f"the target {name!r} does not vary in the training part", ("data", "target"))
            self.transforms[name].fit(values.view(len(values), *shape) if shape else values[:, None].float())

    def truth(self, batch: Batch) -> tuple[Float[Tensor, "object output"], Bool[Tensor, "object output"]]:
        """What the network should say, and which of it is known."""
        parts, known = [], []
        for (name, shape), size in zip(self.shapes.items(), self.sizes):
            values = batch[name].float().view(len(batch[name]), *(shape or (1,)))
            good = torch.isfinite(values).flatten(1).all(1)
            values = values.where(good.view(-1, *(1,) * (values.ndim - 1)), 1.0)
            parts.append(self.transforms[name](values).flatten(1))
            known.append(good[:, None].expand(-1, size))
        return torch.cat(parts, 1), torch.cat(known, 1)

    def weights(self) -> Float[Tensor, " output"]:
        """Of each output in the loss; their sum over the outputs of one target is 1."""
        parts = []
        for (name, shape), left in zip(self.shapes.items(), self.left.split(self.sizes)):
            spread = self.transforms[name].spread.flatten() if shape else 1.0
            each = (spread * left) ** self.weigh
            parts.append(each / each.sum())
        return torch.cat(parts)

    def terms(self, out: Tensor, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        truth, known = self.truth(batch)
        error = ((out.float() - truth) / self.left) ** 2 * self.weights()
        return {"squared_error": ((error * known).sum(), known[:, 0].sum())}

    def curves(self, out: Float[Tensor, "object output"]) -> dict[str, Tensor]:
        """Each target in native units: [object, band, step] or [object]."""
        found = {}
        for (name, shape), part in zip(self.shapes.items(), out.float().split(self.sizes, 1)):
            transform = self.transforms[name]
            found[name] = (
                transform.inverse(part.view(len(part), shape[0], -1)) if shape else transform.inverse(part)[:, 0]
            )
        return found

    def start(self, batch: Batch) -> None:
        """The response surface, where the network gives monomials."""
        truth, known = self.truth(batch)
        features = self.network.features(**self.columns(batch))
        some, powers = known.all(1), len(getattr(self.network, "powers", ()))
        y = truth[some].double()
        weight, bias, left = y.new_zeros(y.shape[1], features.shape[1]), y.mean(0), y.std(0)
        if powers:
            weight[:, -powers:], bias, left = ridge(features[some, -powers:].double(), y)
        self.surface, self.level, self.left = (v.float() for v in (weight, bias, left.clamp(min=FINEST)))

    def forward(self, batch: Batch) -> Float[Tensor, "object output"]:
        return self.read(self.network.features(**self.columns(batch)))

    def answer(self, **columns: Tensor) -> Float[Tensor, "object output"]:
        return self.read(self.network.features(**columns))

    def read(self, features: Float[Tensor, "object feature"]) -> Float[Tensor, "object output"]:
        left = self.network.head(features).float() * self.left
        return torch.addmm(self.level, features.float(), self.surface.T) + left

    def measure(self, found: Prediction, truth: dict[str, np.ndarray]) -> None:
        """The widths of later predictions: the root mean squared error of these, which the network did not learn."""
        for name, shape in self.shapes.items():
            error = found[name].best() - np.asarray(truth[name], float).reshape(-1, *shape)
            width = np.sqrt(np.nanmean(error**2, 0)).reshape(shape or (1,))
            self.get_buffer(f"width_{name}").copy_(torch.as_tensor(width))

    def predict(self, out: Tensor, batch: Batch) -> Prediction:
        from ..evaluation.distributions import Mixture, Point
        from ..evaluation.vectors import Vectors

        prediction: Prediction = {}
        for name, value in self.curves(out).items():
            value, width = (
                value.detach().double().cpu().numpy(),
                self.get_buffer(f"width_{name}").double().cpu().numpy(),
            )
            if self.shapes[name]:
                prediction[name] = Vectors(value, width, self.targets[name].bands)
            elif width[0] > 0:
                one = np.ones((len(value), 1))
                prediction[name] = Mixture(one, value[:, None], one * width)
            else:
                prediction[name] = Point(value)
        return prediction
