"""The ``[train]`` table of a study. The descriptions are the documentation."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

DIMENSIONS = ("pipeline", "replicate", "shard", "context", "tensor")
_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Schedule = Literal[
    "gpipe",
    "1f1b",
    "interleaved-1f1b",
    "looped-bfs",
    "interleaved-zero-bubble",
    "zbv-zero-bubble",
    "dualpipe-v",
]


class Layout(BaseModel):
    """How the training is cut over processes: the product of the five degrees is their number."""

    model_config = _STRICT

    replicate: int = Field(1, ge=1, description="copies of the network, each of which learns from a share of the batch")
    shard: int = Field(1, ge=1, description="processes that share out weights, gradients and optimiser (FSDP)")
    tensor: int = Field(1, ge=1, description="processes that share out the matrices of each block")
    pipeline: int = Field(1, ge=1, description="processes that hold the blocks one after the other")
    context: int = Field(1, ge=1, description="processes that share out the tokens of each object")
    schedule: Schedule = Field("1f1b", description="the order of forward and backward passes in a pipeline")
    microbatches: int = Field(0, ge=0, description="pieces of a batch in a pipeline; 0 = as many as the schedule needs")
    attention: Literal["ulysses", "ring"] = Field("ulysses", description="how attention crosses the context processes")
    recompute: bool = Field(False, description="compute activations again in the backward pass instead of keeping them")

    @property
    def degrees(self) -> dict[str, int]:
        """The degree of each dimension, the outermost first."""
        return {name: getattr(self, name) for name in DIMENSIONS}

    @property
    def processes(self) -> int:
        return math.prod(self.degrees.values())

    @property
    def alone(self) -> Layout:
        """What of it concerns a training by one process."""
        return self.model_copy(update=dict.fromkeys(DIMENSIONS, 1))


class Train(BaseModel):
    """How the objective is minimised."""

    model_config = _STRICT

    epochs: int = Field(10, ge=1, description="passes over the training split")
    max_steps: int | None = Field(None, ge=1, description="stop after this many steps, whatever the epochs")
    max_seconds: float | None = Field(
        None, gt=0, description="stop after this much training time (seconds); the result then depends on the machine"
    )
    batch: int = Field(128, ge=1, description="objects per step")
    accumulate: int = Field(
        1, ge=1, description="micro-batches that a step's batch is cut into to save memory; the result is the same"
    )
    optimizer: Literal["adamw", "sgd", "rmsprop"] = Field("adamw", description="the rule that turns gradients to steps")
    learning_rate: float = Field(1e-3, gt=0, description="the peak learning rate")
    weight_decay: float = Field(0.01, ge=0, description="shrinkage of weight matrices (not of biases and norms)")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd and rmsprop, first beta of adamw")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="the learning rate after the warm-up")
    warmup: float = Field(0.05, ge=0, le=1, description="fraction of the steps over which the learning rate rises")
    clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0 = no clipping")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of an exponential moving average of the weights; 0 = off")
    patience: int = Field(
        0, ge=0, description="stop after this many epochs without improvement of the validation loss; 0 = never"
    )
    freeze: tuple[str, ...] = Field((), description="names of parts of the network that do not learn, e.g. 'stem'")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where a short probe trains at least 1.2 times faster with it, else float32"
    )
    device: str = Field("auto", description="auto: the GPU if there is one, else the CPU; or a name such as 'cuda:1'")
    compile: bool = Field(False, description="compile the network with torch.compile (a minute, then often faster)")
    checkpoint_seconds: float = Field(
        30.0,
        ge=0,
        description="longest time between checkpoints (longer where a checkpoint is slow: at most 1% of time)",
    )
    layout: Layout = Field(Layout(), description="processes to train on")

    @model_validator(mode="after")
    def _micro_batches(self) -> Train:
        if self.accumulate > self.batch:
            raise PydanticCustomError(
                "accumulate",
                "a batch of {batch} objects cannot be cut into {accumulate} micro-batches: lower accumulate",
                {"batch": self.batch, "accumulate": self.accumulate},
            )
        return self

    def identity(self) -> dict:
        """What a resumed run must share with the one it continues: everything that can change the weights.

        The layout cannot: a run goes on under another one.
        """
        return self.model_dump(mode="json", exclude={"checkpoint_seconds", "max_seconds", "device", "layout"})
