"""Scaling laws: the loss of a network of N parameters after D tokens, L(N, D) = A / N^alpha + B / D^beta + E."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import GsnnError

HUBER = 1e-3  # delta of the Huber loss of log(loss): Hoffmann et al. 2022, arXiv:2203.15556, appendix D.3
FEWEST = 6  # points for five coefficients


@dataclass(frozen=True)
class Law:
    """L(N, D) = A / N^alpha + B / D^beta + E (Hoffmann et al. 2022, arXiv:2203.15556, equation 2)."""

    A: float
    B: float
    E: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        """The loss (nats a token) after ``tokens`` tokens."""
        return self.A / parameters**self.alpha + self.B / tokens**self.beta + self.E

    def optimal(self, flops: float) -> tuple[float, float]:
        """The (parameters, tokens) of least loss for so many FLOPs, 6 N D (equation 4 of the same paper)."""
        exponent = 1 / (self.alpha + self.beta)
        g = (self.alpha * self.A / (self.beta * self.B)) ** exponent
        parameters = g * (flops / 6) ** (self.beta * exponent)
        return parameters, flops / 6 / parameters

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


PUBLISHED = Law(406.4, 410.7, 1.69, 0.34, 0.28)  # Hoffmann et al. 2022, arXiv:2203.15556
REPLICATION = Law(482.01, 2085.43, 1.8172, 0.3478, 0.3658)  # Besiroglu et al. 2024, arXiv:2404.10102
LAWS = {"published": PUBLISHED, "replication": REPLICATION}


def best_batch(flops: float) -> float:
    """Tokens a step that suit a run of so many FLOPs: 0.2920 C^0.3271 (DeepSeek-AI 2024, arXiv:2401.02954)."""
    return 0.2920 * flops**0.3271


def fit(parameters: Sequence[float], tokens: Sequence[float], losses: Sequence[float], starts: int = 24) -> Law:
    """The law through points (N, D, loss): the Huber loss of log(loss), by L-BFGS from the best of a grid of starts.

    As Hoffmann et al. 2022, arXiv:2203.15556, section 3.3 and appendix D.3. Raises GsnnError where the points cannot
    decide: fewer than six, or of one size or budget.
    """
    n, d, y = _points(parameters, tokens, losses)
    return _law(_minimise(n, d, y, _grid(n, d, y, starts)))


def fit_intervals(
    parameters: Sequence[float],
    tokens: Sequence[float],
    losses: Sequence[float],
    *,
    resamples: int = 100,
    seed: int = 0,
    level: float = 0.8,
) -> tuple[Law, dict[str, tuple[float, float]], list[Law]]:
    """The law, the interval of each coefficient by the bootstrap over points, and the resampled laws.

    Hoffmann et al. give 80% intervals; ``level`` is another. Resamples that hold fewer than six different points are
    drawn again.
    """
    n, d, y = _points(parameters, tokens, losses)
    best = _minimise(n, d, y, _grid(n, d, y, 24))
    chance, laws = np.random.default_rng(seed), []
    few = min(FEWEST, len(n)) - (len(n) == FEWEST)
    while len(laws) < resamples:
        chosen = chance.integers(0, len(n), len(n))
        if len(np.unique(chosen)) >= few:
            again = np.vstack([best, best * chance.uniform(0.8, 1.2, (2, 5))])
            laws.append(_law(_minimise(n[chosen], d[chosen], y[chosen], again)))
    tail = (1 - level) / 2
    ends = {
        name: tuple(np.quantile([getattr(law, name) for law in laws], [tail, 1 - tail]).tolist())
        for name in Law.__dataclass_fields__
    }
    return _law(best), ends, laws


def _points(*columns: Sequence[float]) -> tuple[Float[ndarray, " n"], ...]:
    n, d, y = (np.asarray(column, float) for column in columns)
    if len({len(n), len(d), len(y)}) != 1 or len(n) < FEWEST:
        raise GsnnError(f"a scaling law of five coefficients needs at least {FEWEST} trainings, not {len(n)}")
    if not all(np.isfinite(v).all() and (v > 0).all() for v in (n, d, y)):
        raise GsnnError("a scaling law needs sizes, budgets and losses above 0; a log density is not such a loss")
    for what, values in (("sizes", n), ("budgets", d)):
        if len(np.unique(values)) < 2:
            raise GsnnError(f"a scaling law needs at least two {what}")
    return np.log(n), np.log(d), np.log(y)


def _grid(n: ndarray, d: ndarray, y: ndarray, keep: int) -> Float[ndarray, "start coefficient"]:
    """The best ``keep`` of a grid over (log A, log B, log E, alpha, beta), scaled to the points."""
    low = y.min()
    shares = np.log([0.02, 0.2, 1.0])
    grid = []
    for alpha in (0.1, 0.3, 0.6, 1.0):
        for beta in (0.1, 0.3, 0.6, 1.0):
            for e in (low - 3, low - 1, low - 0.3, low - 0.05):
                for share_a in shares:
                    for share_b in shares:
                        grid.append(
                            (
                                y.mean() + share_a + alpha * n.mean(),
                                y.mean() + share_b + beta * d.mean(),
                                e,
                                alpha,
                                beta,
                            )
                        )
    grid = np.array(grid)
    return grid[np.argsort([_objective(one, n, d, y)[0] for one in grid], kind="stable")[:keep]]


def _objective(x: ndarray, n: ndarray, d: ndarray, y: ndarray) -> tuple[float, ndarray]:
    """Sum of the Huber loss of LSE(a - alpha log N, b - beta log D, e) - log L, and its gradient."""
    a, b, e, alpha, beta = x
    terms = np.stack([a - alpha * n, b - beta * d, np.full_like(n, e)])
    top = terms.max(0)
    weights = np.exp(terms - top)
    total = weights.sum(0)
    error = top + np.log(total) - y
    small = np.abs(error) <= HUBER
    value = np.where(small, 0.5 * error**2, HUBER * (np.abs(error) - 0.5 * HUBER)).sum()
    slope = np.clip(error, -HUBER, HUBER) * weights / total
    gradient = np.array([slope[0].sum(), slope[1].sum(), slope[2].sum(), -(slope[0] * n).sum(), -(slope[1] * d).sum()])
    return value / HUBER, gradient / HUBER


def _minimise(n: ndarray, d: ndarray, y: ndarray, starts: ndarray) -> Float[ndarray, " coefficient"]:
    """The best minimum over the starts. Coordinates are centred: log A and alpha are otherwise nearly one direction."""
    from scipy.optimize import minimize

    cn, cd = n.mean(), d.mean()
    bounds = [(None, None), (None, None), (y.min() - 12, y.min()), (1e-3, 3), (1e-3, 3)]

    def centred(x: ndarray) -> tuple[float, ndarray]:
        return _objective(x, n - cn, d - cd, y)

    best, least = None, np.inf
    for start in starts:
        x = start - np.array([start[3] * cn, start[4] * cd, 0, 0, 0])
        found = minimize(
            centred,
            x,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 2000, "ftol": 1e-14, "gtol": 1e-10},
        )
        if found.fun < least:
            best, least = found.x, found.fun
    return best + np.array([best[3] * cn, best[4] * cd, 0, 0, 0])


def _law(x: ndarray) -> Law:
    a, b, e, alpha, beta = x
    return Law(float(np.exp(a)), float(np.exp(b)), float(np.exp(e)), float(alpha), float(beta))
