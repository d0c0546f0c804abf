"""A network that judges several candidates of an object with the same eyes, and answers for the best of them."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.schema import Column, Schema
from ..errors import GsnnError
from .cnn1d import CNN1d
from .layers import Activation, activation, at_least, flatten, head, readable
from .sequences import Pooling


class CandidateCNN(nn.Module):
    """One 1-D CNN for every candidate; the largest of each of their features is the object's (Zaheer et al. 2017).

    A series of the shape (candidates c, length) holds c channels of each candidate, one candidate after the other: the
    views of a transit folded at the best few periods (``gsnn.data.transit_candidates``), as in the two-branch network
    of Shallue & Vanderburg 2018 (AJ 155, 94), one branch a column. No candidate is preferred for its rank. Scalars join
    after the pooling; ``width``, ``depth``, ``size``, ``stride`` and ``pool`` are those of ``cnn1d``.
    """

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        candidates: int = 3,
        width: int = 24,
        depth: int = 4,
        size: int = 5,
        stride: int = 2,
        pool: Pooling = "max",
        activation: Activation = "gelu",
        dropout: float = 0.0,
    ):
        super().__init__()
        at_least(1, candidates=candidates)
        columns = readable(inputs, "candidate-cnn", ("series", "scalar"))
        self.series = tuple(c for c in columns if c.kind == "series")
        self.scalars = tuple(c for c in columns if c.kind == "scalar")
        if not self.series:
            raise GsnnError("the network 'candidate-cnn' needs a series with a channel for each candidate")
        self.candidates = candidates
        self.each = CNN1d(
            Schema.of(self._of_one(c) for c in self.series), outputs, width=width, depth=depth, size=size,
            stride=stride, pool=pool, activation=activation,
        )  # fmt: skip
        del self.each.head
        values = sum(c.size for c in self.scalars)
        self.join = _joined(width + values, width, activation) if values else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)

    def _of_one(self, column: Column) -> Column:
        if len(column.shape) != 2 or column.shape[0] % self.candidates:
            raise GsnnError(
                f"the network 'candidate-cnn' reads a series of {self.candidates} candidates, and {column.name!r} has "
                f"the shape {column.shape}; set [model] candidates to the number that the source gives"
            )
        return replace(column, shape=(column.shape[0] // self.candidates, column.shape[1]))

    def features(self, **columns: Tensor) -> Float[Tensor, "object width"]:
        """What the head sees of an object."""
        parts = {}
        for column in self.series:
            channels, length = column.shape
            parts[column.name] = columns[column.name].reshape(-1, channels // self.candidates, length)
        found = self.each.features(**parts)
        best = found.view(-1, self.candidates, found.shape[1]).amax(1)
        if self.scalars:
            best = torch.cat([best, flatten(columns, self.scalars).to(best.dtype)], 1)
        return self.join(best)

    def forward(self, **columns: Tensor) -> Float[Tensor, "object output"]:
        return head(self.head, self.dropout(self.features(**columns)))


def _joined(values: int, width: int, act: Activation) -> nn.Module:
    return nn.Sequential(nn.Linear(values, width), activation(act))
