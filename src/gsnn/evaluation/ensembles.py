"""Several networks as one answer: the mixture of what each of them says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .distributions import Categorical, Distribution
from .draws import Draws
from .mixture import Mixture


def mixture(members: Sequence[Distribution]) -> Distribution | None:
    """Every member with the same weight; None of distributions that have no mixture of their own kind.

    Networks of different seeds err differently, and where they disagree their mixture is wider than each: of posteriors
    it is the usual cure of overconfidence (Hermans et al. 2022, arXiv:2110.06581, section 4.2). Draw i of a mixture is
    draw i of member i modulo their number, so that draws of several parameters still belong together.
    """
    first, count = members[0], len(members)
    if any(type(one) is not type(first) for one in members):
        return None
    if isinstance(first, Draws):
        if len({one.value.shape for one in members}) > 1:
            return None
        turn = np.arange(first.value.shape[1]) % count
        return Draws(np.stack([one.value for one in members])[turn, :, np.arange(len(turn))].T)
    if isinstance(first, Categorical):
        return Categorical(np.mean([one.probabilities for one in members], 0), first.classes)
    if isinstance(first, Mixture):
        parts = [np.concatenate([getattr(one, name) for one in members], 1) for name in ("weight", "centre", "sigma")]
        return Mixture(parts[0] / count, *parts[1:])
    return None
