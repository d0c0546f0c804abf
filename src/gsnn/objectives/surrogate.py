"""What learning without targets shares: a surrogate task trains the network, and a linear probe answers the study."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from ..data.schema import Schema
from .base import Batch, MakeNetwork, Objective, Prediction
from .probe import Probe, read


class Surrogate(Objective):
    """The network learns what its data can ask of themselves (Smith & Geach 2023, doi:10.1098/rsos.221454, sect. 8).

    Its features are then an embedding: after training, a probe of each target is fitted to those of training objects.
    """

    target_kind = "any"

    def __init__(self, inputs: Schema, targets: Schema, make: MakeNetwork, outputs: int):
        super().__init__(inputs, targets, make, outputs)
        self.probes = nn.ModuleList(Probe(column, self.network.head.in_features) for column in targets.columns)

    def fit(self, train) -> None:
        columns = train.columns(list(self.targets))
        for probe in self.probes:
            probe.known(columns[probe.column.name])

    def read(self, features: Float[Tensor, "object feature"]) -> Float[Tensor, "object output"]:
        return read(self.probes, features)

    def answer(self, **columns: Tensor) -> Float[Tensor, "object output"]:
        return self.read(self.network.features(**columns))

    def finish(self, features: Float[Tensor, "object feature"], targets: dict[str, np.ndarray]) -> None:
        for probe in self.probes:
            probe.fit(features, targets[probe.column.name])

    def predict(self, out: Tensor, batch: Batch) -> Prediction:
        parts = out.split([probe.outputs for probe in self.probes], 1)
        return {probe.column.name: probe.predict(part) for probe, part in zip(self.probes, parts)}
