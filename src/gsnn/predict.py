"""A trained model on data: predictions as distributions, and as the table that users get."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from .data.schema import Schema
from .data.stream import Stream
from .data.survey import View
from .errors import GsnnError
from .model import Model
from .training.runtime import Runtime

if TYPE_CHECKING:
    from .evaluation.distributions import Distribution

BATCH = 256
VALUES = 1 << 23  # of the inputs of a batch: fewer objects where each is large
_PIECE = 1 << 17  # objects whose predictions are held at once when writing a file


def batch_for(inputs: Schema, most: int = BATCH) -> int:
    """How many objects go through a network together."""
    return max(1, min(most, VALUES // max(sum(column.size for column in inputs.columns), 1)))


def predict_view(
    model: Model,
    view: View,
    runtime: Runtime,
    *,
    scratch: Path | None = None,
    at: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Distribution], Tensor]:
    """Predictions of every object of the view, in its order, and their distance from the training objects."""
    from .evaluation.distributions import concatenate

    parts: dict[str, list[Distribution]] = {name: [] for name in model.targets}
    distances, done = [], 0
    runtime.prepare()
    runtime.place(model).eval()
    with (
        Stream(view, list(model.inputs), batch=batch_for(model.inputs), shuffle=False, scratch=scratch) as stream,
        torch.inference_mode(),
    ):
        for batch in stream.batches():
            batch = runtime.place_batch(batch)
            with runtime.autocast():
                prediction, features = model.answer(batch)
            distances.append(model.outliers(features).cpu())
            for name, distribution in prediction.items():
                parts[name].append(distribution)
            done += len(batch["row"])
            at(done, len(view))
    return {name: concatenate(some) for name, some in parts.items()}, torch.cat(distances)


def flags(model: Model, columns: Mapping[str, np.ndarray], distance: Tensor) -> np.ndarray:
    """'' for an ordinary object, 'unlike training' or 'missing NAME' otherwise; ``columns`` are the scalars."""
    out = np.where(distance.numpy() > float(model.outliers.threshold), "unlike training", "").astype(object)
    for name in reversed(scalars(model)):
        out[~np.isfinite(columns[name].astype(float))] = f"missing {name}"
    return out


def scalars(model: Model) -> list[str]:
    """The inputs that are numbers, one an object."""
    return [c.name for c in model.inputs.columns if c.kind == "scalar"]


def columns_of(predictions: dict[str, Distribution]) -> dict[str, Any]:
    """Prediction and probabilities or quantiles; one block of columns a target."""
    columns: dict[str, Any] = {}
    for name, distribution in predictions.items():
        block = distribution.to_columns(name)
        if len(predictions) > 1:
            block = {key if key.startswith(name) else f"{name}_{key}": value for key, value in block.items()}
        columns.update(block)
    return columns


def table_of(
    predictions: dict[str, Distribution],
    view: View,
    model: Model,
    distance: Tensor,
    extra: dict[str, Any] | None = None,
) -> pa.Table:
    """Columns id, prediction, probabilities or quantiles, flag; one block of columns a target."""
    columns: dict[str, Any] = {"id": view.columns(["id"])["id"], **columns_of(predictions)}
    columns["flag"] = flags(model, view.columns(scalars(model)) if scalars(model) else {}, distance)
    return pa.table({**columns, **(extra or {})})


def compatible(model: Model, view: View) -> None:
    """Refuse data of another schema, saying what differs."""
    difference = model.inputs.difference(view.schema)
    if difference:
        raise GsnnError(f"these data do not fit the network: {difference}")
