"""Posterior, likelihood and ratio answer one question, whose exact posterior under a flat prior is on a grid."""

import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.schema import Column, Schema
from gsnn.errors import ConfigError
from gsnn.evaluation.draws import together
from gsnn.rng import Rng

INPUTS = Schema.of([Column("x", "scalar"), Column("y", "scalar")])
TARGETS = Schema.of([Column("a", "scalar"), Column("b", "scalar")])
NOISE, STEPS = 0.15, 600
MLP = {"name": "mlp", "width": 32, "depth": 2}
CASES = {
    "posterior": ({"name": "posterior", "layers": 2, "width": 32}, MLP),
    "likelihood of the data": ({"name": "likelihood", "layers": 2, "width": 32, "draws": 600}, {"name": "perceptron"}),
    "likelihood of summaries": ({"name": "likelihood", "layers": 2, "width": 32, "draws": 600}, MLP),
    "ratio": ({"name": "ratio", "width": 64, "draws": 600}, MLP),
    "binary ratio": ({"name": "ratio", "width": 64, "contrast": 1, "draws": 600}, MLP),
}


def flat(n, seed):
    """x = a + b + noise, y = a - b + noise; a and b flat within -1 to 1."""
    random = torch.Generator().manual_seed(seed)
    a, b = 2 * torch.rand(2, n, generator=random) - 1
    e, f = torch.randn(2, n, generator=random)
    return {"a": a, "b": b, "x": a + b + NOISE * e, "y": a - b + NOISE * f, "row": torch.arange(n)}


def exact(seen, cells=200):
    """Mean and width of the posterior of each object."""
    axis = (np.arange(cells) + 0.5) / cells * 2 - 1
    a, b = np.meshgrid(axis, axis, indexing="ij")
    x, y = (seen[name].numpy()[:, None, None] for name in "xy")
    weight = np.exp(-0.5 * ((x - a - b) ** 2 + (y - a + b) ** 2) / NOISE**2)
    weight /= weight.sum((1, 2), keepdims=True)
    mean = np.stack([(weight * one).sum((1, 2)) for one in (a, b)], 1)
    square = np.stack([(weight * one**2).sum((1, 2)) for one in (a, b)], 1)
    return mean, np.sqrt(square - mean**2)


class Columns:
    def __init__(self, values):
        self.values = values

    def columns(self, names):
        return {name: self.values[name].numpy() for name in names}


def objective(spec, network, values, inputs=INPUTS):
    torch.manual_seed(0)
    made = build(spec, "objective", inputs, TARGETS, lambda i, o: build(network, "model", i, o))
    made.fit(Columns(values))
    return made


SLOW = ("likelihood of summaries", "binary ratio")


@pytest.mark.parametrize(
    ("spec", "network"),
    [pytest.param(*case, id=name, marks=pytest.mark.slow if name in SLOW else ()) for name, case in CASES.items()],
)
def test_each_finds_the_exact_posterior(spec, network):
    values = flat(16000, 0)
    one = objective(spec, network, values)
    optimiser = torch.optim.Adam([p for p in one.parameters() if p.requires_grad], 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, STEPS)
    for step in range(STEPS):
        some = {name: value[step * 256 % 15744 :][:256] for name, value in values.items()}
        some = one.prepare(some, Rng(0, step))
        loss = sum(total / weight for total, weight in one.terms(one(some), some).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    one.eval()
    seen = flat(60, 1)
    mean, sigma = exact(seen)
    with torch.no_grad():
        draws = together(one.predict(one(seen), seen))
    assert np.abs(draws.std(1).mean(0) / sigma.mean(0) - 1).max() < 0.08
    assert (np.abs(draws.mean(1) - mean) / sigma).mean() < 0.13
    assert np.abs(draws).max() < 1.01  # no draw leaves the box of the prior


def test_a_likelihood_of_too_many_numbers_is_refused():
    wide = Schema.of([Column("curve", "series", shape=(65,))])
    with pytest.raises(ConfigError, match="65 numbers is beyond a flow"):
        objective({"name": "likelihood"}, {"name": "perceptron"}, flat(50, 0), wide)


def test_a_ratio_is_one_where_the_data_say_nothing():
    """NRE-C learns the ratio itself, not a multiple of it: without any training the optimum of blind data is 0."""
    values = flat(4000, 0) | {name: torch.zeros(4000) for name in "xy"}
    one = objective({"name": "ratio", "width": 16, "layers": 1}, MLP, values)
    optimiser = torch.optim.Adam(one.parameters(), 1e-2)
    for step in range(150):
        some = one.prepare({name: value[step % 15 * 256 :][:256] for name, value in values.items()}, Rng(0, step))
        ((total, weight),) = one.terms(one(some), some).values()
        optimiser.zero_grad()
        (total / weight).backward()
        optimiser.step()
    with torch.no_grad():
        found = one.log_ratio(one(some), torch.randn(len(some["row"]), 20, 2))
    assert found.abs().mean() < 0.15
