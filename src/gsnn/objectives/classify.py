"""Which class is it? Cross-entropy with optional class weights and label smoothing."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.schema import Schema
from ..errors import ConfigError
from .base import Batch, MakeNetwork, Objective, Prediction


class Classify(Objective):
    """Softmax over the classes of one label. Objects whose label is unknown (-1) weigh nothing.

    ``class_weights="balanced"`` weighs each class by the inverse of its share of the training part;
    ``label_smoothing`` in [0, 1) mixes the truth with the uniform distribution (Szegedy et al. 2016, arXiv:1512.00567).
    """

    target_kind = "label"

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        make: MakeNetwork,
        *,
        class_weights: Literal["none", "balanced"] = "none",
        label_smoothing: float = 0.0,
    ):
        if len(targets) != 1:
            raise ConfigError(f"classify learns one label, not {' and '.join(targets) or 'none'}", ("data", "target"))
        (self.target,) = targets
        column = targets[self.target]
        if column.kind != "label":
            raise ConfigError(f"classify needs a label, and {self.target!r} is a {column.kind}", ("data", "target"))
        if len(column.classes) < 2:
            raise ConfigError(
                f"column {self.target!r} has one class only ({', '.join(column.classes) or 'none'}), "
                "so there is nothing to tell apart",
                ("data", "target"),
            )
        if not 0 <= label_smoothing < 1:
            raise ConfigError("must be at least 0 and below 1", ("objective", "label_smoothing"))
        super().__init__(inputs, targets, make, len(column.classes))
        self.classes, self.class_weights, self.label_smoothing = column.classes, class_weights, label_smoothing
        self.register_buffer("weight", torch.ones(len(column.classes)))
        self.register_buffer("temperature", torch.ones(()))  # fitted on validation after training (Guo et al. 2017)

    def fit(self, train) -> None:
        labels = train.columns([self.target])[self.target]
        counts = np.bincount(labels[labels >= 0], minlength=len(self.classes))
        if (counts > 0).sum() < 2:
            raise ConfigError(
                f"the training part holds one class of {self.target!r} only; change [data] where or split",
                ("data", "target"),
            )
        if self.class_weights == "balanced":
            share = counts / counts.sum()
            balanced = np.where(counts > 0, 1 / np.maximum(share * (counts > 0).sum(), 1e-12), 0)
            self.weight = torch.as_tensor(balanced, dtype=torch.float32)

    def terms(self, out: Tensor, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        truth = batch[self.target]
        known = truth >= 0
        truth = truth.clamp(min=0)
        weight = self.weight[truth] * known
        loss = F.cross_entropy(out.float(), truth, reduction="none", label_smoothing=self.label_smoothing)
        return {"cross_entropy": ((loss * weight).sum(), weight.sum())}

    def predict(self, out: Tensor, batch: Batch) -> Prediction:
        from ..evaluation.distributions import Categorical

        probabilities = torch.softmax(out.double() / self.temperature.double(), 1).cpu().numpy()
        return {self.target: Categorical(probabilities, self.classes)}
