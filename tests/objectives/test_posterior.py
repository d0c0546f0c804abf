"""A neural posterior against one that can be written down, and what must hold of its draws."""

import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.schema import Column, Schema
from gsnn.errors import ConfigError
from gsnn.evaluation.draws import Draws, together

INPUTS = Schema.of([Column("x", "scalar"), Column("y", "scalar")])
TARGETS = Schema.of([Column("a", "scalar"), Column("b", "scalar")])
NOISE = 0.4


def linear(n, seed):
    """x = a + b + noise, y = a - b + noise under a standard normal prior."""
    random = torch.Generator().manual_seed(seed)
    a, b, e, f = torch.randn(4, n, generator=random)
    given = {"a": a, "b": b, "x": a + b + NOISE * e, "y": a - b + NOISE * f}
    return given | {"row": torch.arange(n)}


class Columns:
    def __init__(self, values):
        self.values = values

    def columns(self, names):
        return {name: self.values[name].numpy() for name in names}


def posterior(values, **settings):
    torch.manual_seed(0)

    def make(inputs, outputs):
        return build({"name": "mlp", "width": 32, "depth": 2}, "model", inputs, outputs)

    spec = {"name": "posterior", "transform": "standardise", "width": 32, **settings}
    made = build(spec, "objective", INPUTS, TARGETS, make)
    made.fit(Columns(values))
    return made


@pytest.fixture(scope="module")
def trained():
    values = linear(16000, 0)
    one = posterior(values, layers=2)
    optimiser = torch.optim.Adam(one.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, 500)
    for step in range(500):
        some = {name: value[step * 256 % 15744 :][:256] for name, value in values.items()}
        ((total, weight),) = one.terms(one(some), some).values()
        optimiser.zero_grad()
        (total / weight).backward()
        optimiser.step()
        schedule.step()
    return one.eval()


def test_a_linear_model_gets_the_posterior_of_the_textbook(trained):
    """Mean A^T (A A^T + noise^2)^-1 d, covariance 1 - A^T (...)^-1 A (Bishop 2006, eqs 2.116 and 2.117)."""
    seen = linear(300, 1)
    with torch.no_grad():
        draws = together(trained.predict(trained(seen), seen))
    design = np.array([[1, 1], [1, -1]])
    gain = design.T @ np.linalg.inv(design @ design.T + NOISE**2 * np.eye(2))
    mean = np.stack([seen["x"], seen["y"]], 1) @ gain.T
    sigma = np.sqrt(np.diag(np.eye(2) - gain @ design))
    assert np.abs(draws.std(1).mean(0) / sigma - 1).max() < 0.05
    assert np.abs((draws.mean(1) - mean) / sigma).mean() < 0.1


def test_draws_are_a_function_of_the_row_alone(trained):
    seen = linear(40, 2)
    with torch.no_grad():
        whole = together(trained.predict(trained(seen), seen))
        some = {name: value[[31, 5]] for name, value in seen.items()}
        again = together(trained.predict(trained(some), some))
    np.testing.assert_allclose(again, whole[[31, 5]], rtol=1e-4, atol=1e-5)
    assert not np.allclose(whole[0], whole[1])


def test_no_draw_leaves_the_box_of_the_prior():
    values = {name: torch.rand(500) for name in ("a", "b", "x", "y")}
    one = posterior(values, transform="box", draws=2000).eval()
    seen = {name: torch.full((4,), 1e3 if name in "xy" else 0.5) for name in values} | {"row": torch.arange(4)}
    with torch.no_grad():
        draws = together(one.predict(one(seen), seen))
    assert draws.shape == (4, 2000, 2)
    assert (draws >= -0.01).all()
    assert (draws <= 1.01).all()


def test_what_cannot_be_inferred_is_refused():
    def refuse(match, values, **settings):
        with pytest.raises(ConfigError, match=match):
            posterior(values, **settings)

    good = {name: torch.rand(50) for name in ("a", "b")}
    refuse("2 training simulations cannot teach a posterior of 2 parameters", {k: v[:2] for k, v in good.items()})
    refuse("'b' does not vary", good | {"b": torch.ones(50)})
    refuse("has no slope", good, transform="whiten")
    kind = Schema.of([Column("kind", "label", classes=("p", "q"))])
    with pytest.raises(ConfigError, match="'kind' is a label"):
        build("posterior", "objective", INPUTS, kind, lambda i, o: torch.nn.Linear(2, o))


def test_draws_are_the_distribution_that_they_say():
    random = np.random.default_rng(0)
    one = Draws(random.normal(3, 2, (5, 4000)))
    assert one.sigma() == pytest.approx(np.full(5, 2), rel=0.05)
    assert one.quantile(np.array([0.16, 0.5, 0.84])).mean(0) == pytest.approx([1, 3, 5], abs=0.1)
    assert one.cdf(np.full(5, 3.0)) == pytest.approx(np.full(5, 0.5), abs=0.03)
    assert one.pdf(np.full(5, 3.0)) == pytest.approx(np.full(5, 0.1995), rel=0.1)
    assert one.cdf(np.full((5, 2), [[-1e9, 1e9]])) == pytest.approx(np.full((5, 2), [[0, 1]]), abs=2e-4)
