"""Draws from a posterior whose log-probability can be computed: an ensemble sampler, and whether it has converged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import GsnnError
from .draws import Draws

R_HAT = 1.01  # largest for a converged chain (Vehtari et al. 2021, section 4.1)
ENOUGH = 400  # effective draws in the bulk and in the tails (the same)

LogProbability = Callable[[Float[ndarray, "point parameter"]], Float[ndarray, " point"]]
Samples = Float[ndarray, "step chain parameter"]


@dataclass(frozen=True)
class Chain:
    """What a sampler found after its burn-in, and how far it can be believed.

    Every walker is a chain. ``acceptance`` is the share of accepted moves; ``r_hat``, ``ess_bulk`` and ``ess_tail`` are
    those of :func:`r_hat` and :func:`effective`; ``evaluations`` counts log-probabilities, the burn-in's too.
    """

    names: tuple[str, ...]
    samples: Samples
    acceptance: float
    r_hat: Float[ndarray, " parameter"]
    ess_bulk: Float[ndarray, " parameter"]
    ess_tail: Float[ndarray, " parameter"]
    evaluations: int

    @property
    def trouble(self) -> str | None:
        """Why the chain must not be believed, in a sentence; None of one that has converged."""
        worst = int(np.nanargmax(self.r_hat)) if np.isfinite(self.r_hat).any() else 0
        if not self.r_hat[worst] <= R_HAT:
            return f"the chains disagree: R-hat of {self.names[worst]} is {self.r_hat[worst]:.3f}, above {R_HAT}"
        least = np.minimum(self.ess_bulk, self.ess_tail)
        if least.min() < ENOUGH:
            name = self.names[int(least.argmin())]
            return f"the chain is short: {least.min():.0f} effective draws of {name}, fewer than {ENOUGH}"
        return None

    def draws(self, count: int = 1000, seed: int = 0) -> dict[str, Draws]:
        """``count`` draws of one object, by parameter; draw i of all of them is one point."""
        flat = self.samples.reshape(-1, len(self.names))
        some = np.random.default_rng(seed).choice(len(flat), count, replace=len(flat) < count)
        return {name: Draws(flat[None, some, i]) for i, name in enumerate(self.names)}

    def to_dict(self) -> dict[str, Any]:
        """The diagnostics as plain values."""
        each = zip(self.names, self.r_hat, self.ess_bulk, self.ess_tail)
        keys = ("r_hat", "ess_bulk", "ess_tail")
        return {
            "parameters": {name: dict(zip(keys, map(float, values))) for name, *values in each},
            "acceptance": self.acceptance,
            "chains": self.samples.shape[1],
            "steps": self.samples.shape[0],
            "evaluations": self.evaluations,
            "converged": self.trouble is None,
        }


def sample(
    log_probability: LogProbability,
    start: Float[ndarray, "point parameter"],
    names: Sequence[str],
    *,
    walkers: int = 32,
    ensembles: int = 2,
    steps: int = 500,
    most: int = 20_000,
    seed: int = 0,
    strict: bool = True,
) -> Chain:
    """Sample ``log_probability`` until its chains agree, or for ``most`` steps.

    ``log_probability`` takes [point, parameter] and gives [point], up to a constant, -inf outside the prior. ``start``
    are points from which walkers set out, as draws from the prior; those of probability 0 are passed over.
    ``ensembles`` independent ensembles of ``walkers`` move by differential evolution, also across modes (emcee,
    Foreman-Mackey et al. 2013, arXiv:1202.3665; ter Braak & Vrugt 2008, doi:10.1007/s11222-008-9104-9). The number of
    steps is doubled, and the first half of them thrown away, until R-hat and the effective draws are those that Vehtari
    et al. 2021 ask for. GsnnError where that does not happen; with ``strict = False`` the chain comes back with its
    :attr:`Chain.trouble`.
    """
    try:
        import emcee
    except ImportError as error:
        raise GsnnError("MCMC needs emcee: pip install 'gsnn[mcmc]'") from error
    start, count = np.asarray(start, float), len(names)
    if start.ndim != 2 or start.shape[1] != count:
        raise GsnnError(f"MCMC of {count} parameters needs points to start from [point, {count}], not {start.shape}")
    if walkers < 2 * count or walkers % 2 or ensembles < 1:
        raise GsnnError(f"MCMC of {count} parameters needs an even number of at least {2 * count} walkers")
    checked = _checked(log_probability)
    good = start[np.isfinite(checked(start))]
    if len(good) < walkers * ensembles:
        raise GsnnError(
            f"MCMC needs {walkers * ensembles} points of non-zero probability to start from, and {len(good)} of "
            f"{len(start)} have one; give more, or nearer to the data"
        )
    moves = [(emcee.moves.DEMove(), 0.8), (emcee.moves.DESnookerMove(), 0.2)]
    samplers, states = [], []
    for i in range(ensembles):
        random = np.random.RandomState(seed + i).get_state()
        samplers.append(emcee.EnsembleSampler(walkers, count, checked, vectorize=True, moves=moves))
        states.append(emcee.State(good[i * walkers : (i + 1) * walkers], random_state=random))
    done, wanted = 0, min(steps, most)
    while True:
        try:
            states = [s.run_mcmc(state, wanted - done) for s, state in zip(samplers, states)]
        except ValueError as error:  # starting points in a line or a plane
            raise GsnnError(f"MCMC cannot start: {str(error).splitlines()[0]}") from error
        done = wanted
        kept = np.concatenate([s.get_chain(discard=done // 2) for s in samplers], 1)
        found = Chain(
            tuple(names),
            kept,
            float(np.mean([s.acceptance_fraction for s in samplers])),
            r_hat(kept),
            *effective(kept),
            evaluations=len(start) + ensembles * walkers * (done + 1),
        )
        if found.trouble is None or (done >= most and not strict):
            return found
        if done >= most:
            raise GsnnError(f"MCMC has not converged in {done:,} steps: {found.trouble}")
        wanted = min(2 * done, most)


def _checked(log_probability: LogProbability) -> LogProbability:
    """The same, refusing what is no log-probability."""

    def checked(theta: Float[ndarray, "point parameter"]) -> Float[ndarray, " point"]:
        found = np.asarray(log_probability(theta), float)
        if found.shape != theta.shape[:1]:
            raise GsnnError(f"the log-probability of {len(theta)} points is one number each, not {found.shape}")
        if (bad := np.isnan(found) | (found == np.inf)).any():
            raise GsnnError(f"the log-probability is {found[bad][0]} at {theta[bad][0].tolist()}")
        return found

    return checked


def r_hat(samples: Samples) -> Float[ndarray, " parameter"]:
    """Rank-normalised split R-hat, the larger of that of the values and that of their distance to the median.

    1 where all halves of all chains agree (Vehtari et al. 2021, arXiv:1903.08008, section 4.1).
    """
    halves = _split(samples)
    folded = np.abs(halves - np.median(halves, (0, 1)))
    return np.maximum(_r_hat(_normal_scores(halves)), _r_hat(_normal_scores(folded)))


def effective(samples: Samples) -> tuple[Float[ndarray, " parameter"], Float[ndarray, " parameter"]]:
    """How many independent draws the chains are worth: in the bulk, and in the 5% tails (Vehtari et al. 2021, 4.3)."""
    halves = _split(samples)
    bulk = _effective(_normal_scores(halves))
    low, high = np.quantile(halves, [0.05, 0.95], axis=(0, 1))
    tail = np.minimum(_effective((halves <= low).astype(float)), _effective((halves <= high).astype(float)))
    return bulk, tail


def _split(samples: Samples) -> Float[ndarray, "half chain2 parameter"]:
    """Each chain as two, its first and its last half."""
    half = len(samples) // 2
    if half < 4:
        raise GsnnError(f"chains of {len(samples)} steps are too short to be judged")
    return np.concatenate([samples[:half], samples[-half:]], 1)


def _normal_scores(samples: Samples) -> Samples:
    """Ranks over all chains as quantiles of a Gaussian (Vehtari et al. 2021, eq. 14)."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    flat = samples.reshape(-1, samples.shape[2])
    return ndtri((rankdata(flat, axis=0) - 0.375) / (len(flat) + 0.25)).reshape(samples.shape)


def _variances(samples: Samples) -> tuple[ndarray, ndarray]:
    """Within the chains, and of all together as the chains would have it (Vehtari et al. 2021, eqs 1 to 3)."""
    n = len(samples)
    within = samples.var(0, ddof=1).mean(0)
    return within, (n - 1) / n * within + samples.mean(0).var(0, ddof=1)


def _r_hat(samples: Samples) -> Float[ndarray, " parameter"]:
    within, whole = _variances(samples)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(whole / within)


def _effective(samples: Samples) -> Float[ndarray, " parameter"]:
    """Vehtari et al. 2021, eqs 10 to 13, the sum ended where pairs of autocorrelations turn negative (Geyer 1992)."""
    n, chains, _ = samples.shape
    within, whole = _variances(samples)
    centred = np.fft.rfft(samples - samples.mean(0), 2 * n, axis=0)
    covariance = np.fft.irfft(np.abs(centred) ** 2, axis=0)[:n].mean(1) / n  # of each lag [lag, parameter]
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = 1 - (within - covariance * n / (n - 1)) / whole
    rho[0] = 1
    pairs = rho[: n - n % 2].reshape(-1, 2, rho.shape[1]).sum(1)
    pairs = np.minimum.accumulate(np.where(np.logical_and.accumulate(pairs > 0), pairs, 0), 0)
    time = np.maximum(2 * pairs.sum(0) - 1, 1 / np.log10(n * chains))
    return np.where(whole > 0, n * chains / time, 0.0)
