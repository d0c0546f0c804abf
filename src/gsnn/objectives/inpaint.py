"""What stands in the gaps? Runs of a series are hidden and told from what surrounds them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..data.schema import Schema
from .base import Batch, MakeNetwork
from .masked_value import MaskedValue, Share, Span


class Inpaint(MaskedValue):
    """As ``masked-value``, with longer runs: what is learned is to fill gaps, and :meth:`restored` fills real ones.

    Give ``span`` the length of the gaps that are to be filled.
    """

    who = "inpaint"

    def __init__(self, inputs: Schema, targets: Schema, make: MakeNetwork, *, ratio: Share = 0.2, span: Span = 8):
        super().__init__(inputs, targets, make, ratio=ratio, span=span)

    def restored(
        self, batch: Batch
    ) -> tuple[Float[Tensor, "object step channel"], Float[Tensor, "object step channel"]]:
        """Values and widths in network units: what was measured and its error, and the network's word in the gaps.

        ``batch`` is in network units, with NaN where a value is missing.
        """
        truth, error, known = self.truth(batch)
        with torch.no_grad():
            mean, width = self.gaussian(self.network.read(self.network.hidden(**self.columns(batch))))
        return truth.where(known, mean), error.where(known, width)
