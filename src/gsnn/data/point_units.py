"""Clouds of points in the units of a network: features standardised, positions as they are."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import GsnnError
from .points import Points
from .transforms import Transform, _moments


class PointUnits(Transform):
    """Each feature of the nodes gets zero mean and unit variance over the training part.

    Positions stay in their own unit: a network measures distances by a length that it is told, so that it and the
    periodic box mean the same.
    """

    def __init__(self, features: int = 0):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    def fit(self, points: Points) -> None:
        if not len(points.position):
            raise GsnnError("the training clouds hold no point")
        self.mean, self.scale = _moments(torch.from_numpy(points.feature))

    def forward(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """``feature`` [object, node, feature] in the network's units; 0 where a node is not valid."""
        if "feature" not in parts:
            return parts
        units = (parts["feature"].float() - self.mean) / self.scale
        return {**parts, "feature": torch.where(parts["valid"][..., None], units.nan_to_num(0, 0, 0), 0.0)}
