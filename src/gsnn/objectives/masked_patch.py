"""What is hidden? Masked tokens are told from all the others (Devlin et al. 2019, arXiv:1810.04805).

For images: Bao et al. 2022, BEiT (arXiv:2106.08254); Xie et al. 2022, SimMIM (arXiv:2111.09886), whose target, the
values themselves at every masked token, is the one here.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from ..data.schema import Schema
from ..rng import Rng
from .base import Batch, MakeNetwork
from .patches import Loss, Normalise, Patches

MASK = "masked tokens"  # the column of a batch that says which they are


class MaskedPatch(Patches):
    """A share ``ratio`` of the tokens of each object is replaced by a learnt one, and their patches are the target.

    Which ones is drawn anew for each object and epoch; in validation it is the same every time. Needs
    ``[model] causal = false``.
    """

    causal = False

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        make: MakeNetwork,
        *,
        ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        loss: Loss = "huber",
        normalise: Normalise = "transform",
    ):
        super().__init__(inputs, targets, make, loss=loss, normalise=normalise)
        self.masked = min(max(round(ratio * self.network.tokens), 1), self.network.tokens - 1)
        self.network.add_mask()

    def prepare(self, batch: Batch, rng: Rng) -> Batch:
        place = rng.uniform("mask", batch["row"], self.network.tokens).argsort(dim=1, stable=True).argsort(dim=1)
        return {**batch, MASK: place < self.masked}

    def mask(self, batch: Batch) -> Bool[Tensor, "object token"]:
        """Which of all tokens are hidden; without :meth:`prepare`, those of validation."""
        return batch[MASK] if MASK in batch else self.prepare(batch, Rng(0))[MASK]

    def embed(self, batch: Batch) -> Float[Tensor, "object token width"]:
        return self.network.embed(self.mask(batch), **self.columns(batch))

    def terms(self, out: Float[Tensor, "object token value"], batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        return self.sums(out, *self.truth(batch), self.mask(batch).to(torch.float32))
