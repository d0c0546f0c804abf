"""Images beside sequences: a small convolutional network of the one and a recurrent one of the other, joined."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.schema import Schema
from ..errors import GsnnError
from .cnn import CNN
from .layers import Activation, head, readable
from .layers import activation as make_activation
from .rnn import RNN, Cell
from .sequences import SEQUENCES, Pooling


class Joint(nn.Module):
    """What an alert holds: stamps by ``cnn``, curves and numbers by ``rnn``; a hidden layer of ``width`` joins them.

    ``channels`` and ``depth`` are those of the convolutions, ``cell`` and ``layers`` those of the recurrence.
    """

    head: nn.Linear

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        width: int = 48,
        channels: int = 16,
        depth: int = 4,
        cell: Cell = "lstm",
        layers: int = 1,
        pool: Pooling = "mean",
        activation: Activation = "gelu",
        dropout: float = 0.0,
    ):
        super().__init__()
        columns = readable(inputs, "joint", ("image", *SEQUENCES, "scalar"))
        images = [c for c in columns if c.kind == "image"]
        if not images or not any(c.kind in SEQUENCES for c in columns):
            raise GsnnError(
                f"the network 'joint' needs an image and a sequence ({', '.join(SEQUENCES)}); choose 'cnn' where there "
                "are images alone, 'rnn' where there are sequences alone"
            )
        self.images = CNN(Schema.of(images), outputs, width=channels, depth=depth, activation=activation)
        rest = Schema.of(c for c in columns if c.kind != "image")
        self.sequences = RNN(rest, outputs, width=width, layers=layers, cell=cell, pool=pool, activation=activation)
        both = self.images.head.in_features + self.sequences.head.in_features
        self.images.head = self.sequences.head = nn.Identity()  # only what they see is asked for
        self.join = nn.Sequential(nn.Linear(both, width), make_activation(activation))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)

    @property
    def last_conv(self) -> nn.Module:
        return self.images.last_conv

    def features(self, **columns: Tensor) -> Float[Tensor, "object width"]:
        """What the head sees of an object."""
        seen = [network.features(**columns) for network in (self.images, self.sequences)]
        return self.join(torch.cat([part.to(seen[0].dtype) for part in seen], 1))

    def forward(self, **columns: Tensor) -> Float[Tensor, "object output"]:
        return head(self.head, self.dropout(self.features(**columns)))
