"""The contract of an objective: what is learned, from which terms, and what a network's output means."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from ..data.schema import Column, Schema
from ..errors import ConfigError
from ..rng import Rng

if TYPE_CHECKING:
    import numpy as np

    from ..data.survey import View
    from ..evaluation.distributions import Distribution

Batch = dict[str, Tensor]
Prediction = dict[str, "Distribution"]
MakeNetwork = Callable[[Schema, int], nn.Module]


def one_field(inputs: Schema, targets: Schema, task: str) -> Column:
    """The single field or image that is the target, of the size of every field and image among the inputs."""
    (target, *others), place = targets.columns, ("data", "target")
    if others or target.kind not in ("field", "image"):
        raise ConfigError(f"{task} one field or image", place)
    for column in inputs.of_kind("field", "image"):
        if column.shape[1:] != target.shape[1:]:
            raise ConfigError(
                f"the target {target.name!r} of {target.shape[1:]} is no field of the size of {column.name!r}, "
                f"{column.shape[1:]}",
                place,
            )
    return target


class Objective(nn.Module):
    """Owns the network. A loss term is a *sum and a weight*, so that any division of a batch gives the same loss.

    ``inputs`` and ``targets`` are schemas; ``make(inputs, outputs)`` builds the network that the study asks for.
    """

    target_kind: ClassVar[str] = "scalar"  # "label" where the target is a class, "any" where the data say what it is
    dense = False  # True where the answer is a value for every voxel: ``predict`` takes the network's ``voxels``
    start_objects = 0  # how many training objects ``start`` is shown; 0 where there is nothing to start
    couples_objects = False  # True where the loss of one object depends on the others (contrastive learning)

    def __init__(self, inputs: Schema, targets: Schema, make: MakeNetwork, outputs: int):
        super().__init__()
        self.inputs, self.targets = inputs, targets
        self.network = make(inputs, outputs)

    def fit(self, train: View) -> None:
        """Statistics of the targets that the loss needs, from the training part."""

    def start(self, batch: Batch) -> None:
        """What is solved before the first step, from training objects: inputs in the network's units, and targets."""

    def prepare(self, batch: Batch, rng: Rng) -> Batch:
        """Noise, masks, views: what changes from epoch to epoch, addressed by ``rng``."""
        return batch

    def columns(self, batch: Batch) -> Batch:
        """What the network reads."""
        return {name: batch[name] for name in self.inputs.tensors}

    @property
    def of_blocks(self) -> bool:
        """Whether the network can be taken apart for a pipeline, as a transformer can."""
        return all(hasattr(self.network, name) for name in ("embed", "blocks", "answer", "read", "after"))

    def forward(self, batch: Batch) -> Tensor:
        """What :meth:`terms` takes. A network of blocks goes the way that a pipeline cuts."""
        if not self.of_blocks:
            return self.network(**self.columns(batch))
        tokens = self.embed(batch)
        for block in self.network.blocks.values():
            tokens = block(tokens)
        return self.decode(tokens)

    def embed(self, batch: Batch) -> Float[Tensor, "object token width"]:
        """What goes into the first block of a network of blocks."""
        return self.network.embed(**self.columns(batch))

    def decode(self, tokens: Float[Tensor, "object token width"]) -> Tensor:
        """What :meth:`terms` takes, from what comes out of the last block."""
        return self.network.answer(tokens)

    def terms(self, out: Tensor, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """(sum over objects, weight) of each term of the loss. The weights follow from the batch alone."""
        raise NotImplementedError

    def read(self, features: Tensor) -> Tensor:
        """What :meth:`predict` makes an answer of, from the network's features [object, feature]."""
        return self.network.head(features)

    def answer(self, **columns: Tensor) -> Tensor:
        """The same from the inputs themselves: what explanations ask."""
        return self.network(**columns)

    def finish(self, features: Tensor, targets: dict[str, np.ndarray]) -> None:
        """What is fitted after training, from the features [object, feature] of training objects and their targets."""

    def predict(self, out: Tensor, batch: Batch) -> Prediction:
        """What the output says about each target, in native units."""
        raise NotImplementedError

    def after_step(self, step: int) -> None:
        """Moving averages and queues."""
