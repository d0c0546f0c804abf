"""Draws from many posteriors at once by sequential Monte Carlo: from the prior to each posterior by degrees."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .. import rng

SHARE = 0.5  # of the draws that count after a step: how far a step goes
MOVES = 5  # of every draw after each step
LAST_MOVES = 10
MOST = 50  # steps; the last goes to the end, whatever counts
POINTS = 1 << 18  # looked at in one go

# log L of points [object, point, parameter] for the objects that stand at these places, up to a constant of each
LogLikelihood = Callable[[Float[Tensor, "object point parameter"], Int64[Tensor, " object"]], Tensor]


def sample(
    log_likelihood: LogLikelihood, rows: Int64[Tensor, " object"], draws: int, parameters: int, device: torch.device
) -> Float[Tensor, "object draw parameter"]:
    """Draws from L(theta) times a standard normal prior, for every object at once.

    The likelihood is raised to powers that rise from 0 to 1, each so far above the last that half of the draws still
    count; draws are resampled and moved by Metropolis steps along differences of other draws, which fit the shape of
    the posterior and cross between its modes (Del Moral, Doucet & Jasra 2006, doi:10.1111/j.1467-9868.2006.00553.x; ter
    Braak 2006, doi:10.1007/s11222-006-8769-1). What is random of an object is a function of its row.
    """
    rows = rows.cpu()
    theta = rng.normal(0, "tempered/start", rows, draws * parameters).view(-1, draws, parameters).to(device)
    every = torch.arange(len(rows), device=device)
    likelihood = _in_parts(log_likelihood, theta, every)
    power = torch.zeros(len(rows), device=device)
    for step in range(MOST):
        some = every[power < 1]
        if not len(some):
            break
        start, logs = power[some], likelihood[some]
        reached = _next(start, logs) if step < MOST - 1 else torch.ones_like(start)
        weight = torch.softmax((reached - start)[:, None] * logs, 1).cumsum(1)
        shift = rng.uniform(0, "tempered/resample", rows[some.cpu()], 1, step).to(device)
        at = (torch.arange(draws, device=device) + shift) / draws
        place = torch.searchsorted(weight, (at * weight[:, -1:]).contiguous()).clamp(max=draws - 1)
        points, logs = theta[some].gather(1, place[..., None].expand(-1, -1, parameters)), logs.gather(1, place)
        power[some] = reached
        theta[some], likelihood[some] = points, logs
        for move in range(LAST_MOVES):
            still = some if move < MOVES else some[reached >= 1]
            if not len(still):
                break
            chance = _Chance(rows[still.cpu()], draws, parameters, step * LAST_MOVES + move, device)
            now = theta[still], likelihood[still], power[still]
            theta[still], likelihood[still] = _moved(*now, still, log_likelihood, chance)
    return theta


def _in_parts(log_likelihood: LogLikelihood, theta: Tensor, places: Tensor) -> Float[Tensor, "object point"]:
    size = max(1, POINTS // theta.shape[1])
    parts = [log_likelihood(t, p) for t, p in zip(theta.split(size), places.split(size))]
    return torch.nan_to_num(torch.cat(parts).float(), -1e30, 1e30, -1e30) if parts else theta[..., 0]


def _next(power: Float[Tensor, " object"], logs: Float[Tensor, "object draw"]) -> Float[Tensor, " object"]:
    """The power at which ``SHARE`` of the draws count (Kish's effective number), by bisection; at most 1."""
    apart = logs - logs.amax(1, keepdim=True)

    def counted(to: Tensor) -> Tensor:
        weight = torch.exp((to - power)[:, None] * apart)
        return weight.sum(1) ** 2 / (weight**2).sum(1) / logs.shape[1]

    low, high = power.clone(), torch.ones_like(power)
    for _ in range(40):
        middle = (low + high) / 2
        enough = counted(middle) > SHARE
        low, high = middle.where(enough, low), high.where(enough, middle)
    return torch.ones_like(power).where(counted(torch.ones_like(power)) > SHARE, torch.maximum(high, power * 1.0001))


class _Chance:
    """The random numbers of one move: two other draws, a length, a jitter, and whether to go."""

    def __init__(self, rows: Tensor, draws: int, parameters: int, epoch: int, device: torch.device):
        uniform = rng.uniform(0, "tempered/move", rows, 4 * draws, epoch).view(-1, 4, draws).to(device)
        self.pair = (uniform[:, :2] * draws).long().clamp(max=draws - 1)
        self.length, self.go = uniform[:, 2], uniform[:, 3]
        self.jitter = rng.normal(0, "tempered/jitter", rows, draws * parameters, epoch)
        self.jitter = self.jitter.view(-1, draws, parameters).to(device)


def _moved(
    theta: Float[Tensor, "object draw parameter"],
    logs: Float[Tensor, "object draw"],
    power: Float[Tensor, " object"],
    places: Int64[Tensor, " object"],
    log_likelihood: LogLikelihood,
    chance: _Chance,
) -> tuple[Tensor, Tensor]:
    """One Metropolis step of every draw along the difference of two others: full, to cross modes, one time in five."""
    count = theta.shape[2]
    one, other = (theta.gather(1, p[..., None].expand(-1, -1, count)) for p in chance.pair.unbind(1))
    usual = 2.38 / math.sqrt(2 * count) * (0.2 + chance.length)
    length = torch.ones_like(usual).where(chance.length > 0.8, usual)
    spread = theta.std(1, keepdim=True)
    new = theta + length[..., None] * (one - other) + 0.02 * spread * chance.jitter
    found = _in_parts(log_likelihood, new, places)
    gain = power[:, None] * (found - logs) - 0.5 * ((new**2).sum(2) - (theta**2).sum(2))
    go = torch.log(chance.go.clamp(min=1e-12)) < gain
    return new.where(go[..., None], theta), found.where(go, logs)
