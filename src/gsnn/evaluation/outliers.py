"""Objects unlike any that the network was trained on: the Mahalanobis distance in the space of its features.

After Lee et al. (2018, arXiv:1807.03888), with one Gaussian for all classes; an object further out than all but one in
a thousand of the validation objects is flagged.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Outliers(nn.Module):
    """Mean, whitening matrix and threshold of the features, saved with the model."""

    def __init__(self, features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("whiten", torch.zeros(features, features))
        self.register_buffer("threshold", torch.tensor(float("inf")))

    def fit(self, train: Float[Tensor, "n feature"], valid: Float[Tensor, "m feature"]) -> None:
        train = train.double()
        mean = train.mean(0)
        covariance = (train - mean).T @ (train - mean) / max(len(train) - 1, 1)
        ridge = 1e-3 * covariance.diagonal().mean().clamp(min=1e-12)
        power, axes = torch.linalg.eigh(covariance + ridge * torch.eye(len(covariance), dtype=torch.float64))
        self.mean = mean.float()
        self.whiten = (axes @ torch.diag(power.clamp(min=1e-12) ** -0.5)).float()
        distance = self(valid)
        # with few validation objects the largest distance, with a margin, stands for the quantile
        self.threshold = torch.maximum(torch.quantile(distance.double(), 0.999), 1.1 * distance.max()).float()

    def forward(self, features: Float[Tensor, "n feature"]) -> Float[Tensor, " n"]:
        """The distance of each object."""
        return torch.linalg.vector_norm((features.float() - self.mean) @ self.whiten, dim=1)
