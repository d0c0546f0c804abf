"""What comes next? Each token tells the patch after it, as a language model tells words (Radford et al. 2018).

For galaxies: Smith et al. 2024, AstroPT (arXiv:2405.14930), after El-Nouby et al. 2024, AIM (arXiv:2401.08541).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Batch
from .patches import Patches


class NextPatch(Patches):
    """The first patch is told by nobody, and the last token tells nothing. Needs ``[model] causal = true``.

    Without the first, every patch stands in the loss once, in whichever slice of the tokens the one before it is: the
    sums of slices are those of the whole.
    """

    causal = True

    def terms(self, out: Float[Tensor, "object token value"], batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        truth, share = self.truth(batch)
        counts = torch.ones(truth.shape[:2], device=truth.device)
        counts[:, -1] = 0
        return self.sums(out, truth.roll(-1, 1), share.roll(-1, 0), counts)
