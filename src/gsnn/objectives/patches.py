"""What learning from patches without targets shares: a network of tokens, and what a patch should be."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..data.schema import Schema
from ..errors import ConfigError
from .base import Batch, MakeNetwork
from .surrogate import Surrogate

Loss = Literal["huber", "l2"]
Normalise = Literal["patch", "transform"]


class Patches(Surrogate):
    """The network's head says what is in a patch, token by token; a linear probe of its features answers the study.

    A patch is told in the units of the fitted transform (asinh of flux for images), or with ``normalise = "patch"``
    less its own mean and over its own standard deviation (He et al. 2022, arXiv:2111.06377); single numbers always in
    the former. ``loss`` is Huber's (1964, doi:10.1214/aoms/1177703732; squares up to 1, then linear) or the square,
    a mean over the values of a patch, summed over patches.
    """

    causal: bool

    def __init__(
        self,
        inputs: Schema,
        targets: Schema,
        make: MakeNetwork,
        *,
        loss: Loss = "huber",
        normalise: Normalise = "transform",
    ):
        name = "next-patch" if self.causal else "masked-patch"
        with torch.device("meta"):  # how many values a token has, the network knows
            sketch = make(inputs, 1)
        if not hasattr(sketch, "pieces"):
            raise ConfigError(f"{name} needs a network of tokens: set name = 'transformer'", ("model", "name"))
        if sketch.causal != self.causal:
            sees = "what comes before only" if self.causal else "all that is not masked"
            raise ConfigError(f"{name} needs a network that sees {sees}: set it {self.causal!s}", ("model", "causal"))
        if sketch.tokens < 2:
            raise ConfigError(f"{name} needs at least 2 tokens, and an object is one: lower patch", ("model", "patch"))
        super().__init__(inputs, targets, make, sketch.token_size)
        self.loss, self.normalise = loss, normalise

    def decode(self, tokens: Float[Tensor, "object token width"]) -> Float[Tensor, "object token value"]:
        return self.network.read(tokens)

    def truth(self, batch: Batch) -> tuple[Float[Tensor, "object token value"], Float[Tensor, "token value"]]:
        """What every patch is, of all slices, and the share of each value in its mean (0 beyond an edge)."""
        pieces, real = self.network.pieces(**self.columns(batch))
        count = real.sum(1, keepdim=True)
        share = real / count
        if self.normalise == "patch":
            mean = (pieces * share).sum(-1, keepdim=True)
            scale = ((pieces - mean).square() * share).sum(-1, keepdim=True).sqrt() + 1e-3
            pieces = torch.where(count > 1, (pieces - mean) / scale, pieces)
        return pieces, share

    def sums(
        self,
        out: Float[Tensor, "object held value"],
        truth: Float[Tensor, "object token value"],
        share: Float[Tensor, "token value"],
        counts: Float[Tensor, "object token"],
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """The loss of the tokens that count; ``out`` is of this process's slice, the others of all tokens."""
        held = self.network.places.held
        out, truth, share, counts = out.float(), truth[:, held], share[held], counts[:, held]
        if self.loss == "huber":
            each = F.huber_loss(out, truth, reduction="none")
        else:
            each = (out - truth).square()
        return {self.loss: (((each * share).sum(-1) * counts).sum(), counts.sum())}
