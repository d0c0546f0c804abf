"""Response surfaces: what follows from a few parameters, as a polynomial of them."""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

STEPS = 20
Values = TypeVar("Values", np.ndarray, Tensor)


def polynomial(theta: Values, degree: int) -> Values:
    """All products of at most ``degree`` of the parameters [object, parameter]: [object, term], 1 first."""
    terms = [theta[:, :0].prod(1)]
    for order in range(1, degree + 1):
        products = combinations_with_replacement(range(theta.shape[1]), order)
        terms += [theta[:, list(which)].prod(1) for which in products]
    return torch.stack(terms, 1) if isinstance(theta, Tensor) else np.stack(terms, 1)


def response_of_powers(
    terms: Float[np.ndarray, "object term"], power: Float[np.ndarray, "object shell"]
) -> Float[np.ndarray, "term shell"]:
    """The coefficients of ln P in each shell that make these powers most likely, each of them a mean over its modes.

    A generalised linear model of gamma variates with a logarithmic link, whose steps of Fisher scoring are least
    squares of ``power / P - 1`` (McCullagh & Nelder 1989, section 8.4).
    """
    found = np.linalg.lstsq(terms, np.log(power), rcond=None)[0]
    found[0] += np.log((power / np.exp(terms @ found)).mean(0))  # ln P of few modes scatters, and lies too low
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.ones(power.shape[1])
        for _ in range(STEPS):
            step = np.linalg.lstsq(terms, power / np.exp(terms @ found) - 1, rcond=None)[0]
            more = found + length * step
            better = unlikeliness(terms @ more, power) < unlikeliness(terms @ found, power)
            found, length = np.where(better, more, found), np.where(better, 1.0, length / 2)
    return found


def unlikeliness(ln_p: Float[np.ndarray, "object shell"], power: Float[np.ndarray, "object shell"]) -> np.ndarray:
    """-ln of the likelihood of powers over the modes of a shell, a mean over objects, but for a constant."""
    return (power / np.exp(ln_p) + ln_p).mean(0)
