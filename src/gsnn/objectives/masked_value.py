"""What was hidden? Values are told from all the others, those before and those after."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from ..data.schema import Schema
from ..rng import Rng
from .base import Batch, MakeNetwork
from .values import Values, valid_steps

MASK = "hidden steps"  # the column of a batch that says which they are

Share = Annotated[float, Field(gt=0, lt=1)]
Span = Annotated[int, Field(ge=1)]


class MaskedValue(Values):
    """A share ``ratio`` of the steps of each object is hidden, in runs of ``span``, and their values are the target.

    The time and the band of what is hidden are known, its value and its error are not (Donoso-Oliva et al. 2023,
    ASTROMER, arXiv:2205.01677, after Devlin et al. 2019, arXiv:1810.04805). What is hidden is drawn anew for each
    object and epoch; in validation it is the same every time.
    """

    causal, who = False, "masked-value"

    def __init__(self, inputs: Schema, targets: Schema, make: MakeNetwork, *, ratio: Share = 0.3, span: Span = 1):
        super().__init__(inputs, targets, make)
        self.ratio, self.span = ratio, span

    def prepare(self, batch: Batch, rng: Rng) -> Batch:
        valid = valid_steps(self.column, batch)
        runs = -(-valid.shape[1] // self.span)
        drawn = rng.uniform("mask", batch["row"], runs).to(valid.device) < self.ratio
        return {**batch, MASK: drawn.repeat_interleave(self.span, 1)[:, : valid.shape[1]] & valid}

    def mask(self, batch: Batch) -> Bool[Tensor, "object step"]:
        """Which steps are hidden; without :meth:`prepare`, those of validation."""
        return batch[MASK] if MASK in batch else self.prepare(batch, Rng(0))[MASK]

    def hide(self, batch: Batch, mask: Bool[Tensor, "object step"]) -> Batch:
        """What the network reads: NaN where a value is hidden."""
        columns, name = self.columns(batch), self.column.name
        parts = (f"{name}.flux", f"{name}.flux_error") if self.column.kind == "light_curve" else (name,)
        for part in parts:
            hidden = mask if columns[part].ndim == 2 else mask[:, None]
            columns[part] = columns[part].masked_fill(hidden, torch.nan)
        return columns

    def forward(self, batch: Batch) -> Float[Tensor, "object step value"]:
        return self.network.read(self.network.hidden(**self.hide(batch, self.mask(batch))))

    def terms(self, out: Float[Tensor, "object step value"], batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        truth, error, known = self.truth(batch)
        return self.likelihood(out, truth, error, known & self.mask(batch)[..., None])
