"""Does an explanation depend on what was learned? The check of Adebayo et al. 2018 (arXiv:1810.03292).

A map that looks the same for a network whose weights are noise shows the picture's edges, not the network's reasons.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import GsnnError

LIMIT = 0.5  # above this mean rank correlation a map says more about the picture than about the network


@dataclass(frozen=True)
class Sanity:
    """Mean rank correlation of the absolute maps of trained and randomised networks; of each object NaN where flat."""

    correlation: float
    by_object: Float[np.ndarray, " object"]
    limit: float = LIMIT

    @property
    def passed(self) -> bool:
        return abs(self.correlation) < self.limit

    @property
    def verdict(self) -> str:
        says = "depends on what was learned" if self.passed else "hardly depends on what was learned; do not trust it"
        return f"The explanation {says}: rank correlation {self.correlation:.2f} with that of a randomised network."


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy of ``model`` whose network is noise.

    Each tensor of weights is drawn anew from a Gaussian of its own mean and spread. A tensor of one repeated value (a
    norm that never moved) stays as it is; statistics of the transforms are kept.
    """
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.objective.network.parameters():
            noise = torch.randn(weight.shape, generator=generator).to(weight)
            weight.copy_(weight.mean() + noise * weight.std(correction=0))
    return model


def randomisation_check(
    explainer: Callable[[nn.Module, dict[str, Tensor]], Tensor],
    model: nn.Module,
    batch: dict[str, Tensor],
    *,
    seed: int = 0,
    copies: int = 3,
) -> Sanity:
    """Compare the maps of ``model`` with those of ``copies`` randomised networks, object by object."""
    trained = explainer(model, batch)
    noise = [explainer(randomised(model, seed + i), batch) for i in range(copies)]
    by_object = np.array([_defined_mean([rank_correlation(a, m[i]) for m in noise]) for i, a in enumerate(trained)])
    if not np.isfinite(by_object).any():
        raise GsnnError(
            "the explanations are flat for every object, so they cannot be compared; "
            "choose another method in [explain] methods"
        )
    return Sanity(float(np.nanmean(by_object)), by_object)


def rank_correlation(a: Float[Tensor, "*place"], b: Float[Tensor, "*place"]) -> float:
    """Spearman's correlation of |a| and |b| where both are defined; NaN where one of them is flat."""
    from scipy.stats import rankdata

    sizes = np.stack([x.detach().abs().flatten().cpu().numpy() for x in (a, b)])
    ranks = [rankdata(x) for x in sizes[:, np.isfinite(sizes).all(0)]]
    if any(len(r) < 2 or np.ptp(r) == 0 for r in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def _defined_mean(values: list[float]) -> float:
    defined = [v for v in values if np.isfinite(v)]
    return float(np.mean(defined)) if defined else float("nan")
