"""A sampler finds posteriors that are known, says when it has not, and its diagnostics see what chains do wrong."""

import builtins

import numpy as np
import pytest

from gsnn.errors import GsnnError
from gsnn.evaluation.draws import together
from gsnn.evaluation.mcmc import effective, r_hat, sample

pytest.importorskip("emcee")

COVARIANCE = np.array([[1.0, 0.8], [0.8, 2.0]])
MEAN = np.array([3.0, -1.0])
INVERSE = np.linalg.inv(COVARIANCE)


def gaussian(theta):
    apart = theta - MEAN
    return -0.5 * np.einsum("ni,ij,nj->n", apart, INVERSE, apart)


def start(n=200, wide=5.0):
    return np.random.default_rng(0).uniform(-wide, wide, (n, 2))


def autoregressive(rho, steps=1000, chains=8, seed=0):
    """Standard normal chains whose neighbours have the correlation rho."""
    random = np.random.default_rng(seed)
    out = np.empty((steps, chains, 1))
    out[0] = random.standard_normal((chains, 1))
    for i in range(1, steps):
        out[i] = rho * out[i - 1] + np.sqrt(1 - rho**2) * random.standard_normal((chains, 1))
    return out


def test_a_gaussian_is_sampled_with_its_mean_and_covariance():
    chain = sample(gaussian, start(), ["a", "b"], walkers=16)
    assert chain.trouble is None
    assert 0.2 < chain.acceptance < 0.9
    flat = chain.samples.reshape(-1, 2)
    error = np.sqrt(np.diag(COVARIANCE) / chain.ess_bulk)
    assert (np.abs(flat.mean(0) - MEAN) < 4 * error).all()
    np.testing.assert_allclose(np.cov(flat.T), COVARIANCE, rtol=0.15)
    draws = chain.draws(700)
    assert together(draws).shape == (1, 700, 2)
    assert draws["a"].mean()[0] == pytest.approx(3, abs=0.2)
    again = [sample(gaussian, start(), ["a", "b"], steps=100, most=100, strict=False).samples for _ in range(2)]
    np.testing.assert_array_equal(*again)
    assert chain.to_dict()["converged"]


def test_the_prior_is_where_the_log_probability_is_finite():
    chain = sample(
        lambda t: np.where((t > 0).all(1) & (t < 1).all(1), 0.0, -np.inf), start(900, 1.0), ["a", "b"], walkers=16
    )
    flat = chain.samples.reshape(-1, 2)
    assert ((flat > 0) & (flat < 1)).all()
    np.testing.assert_allclose(flat.std(0), 12**-0.5, rtol=0.06)


def test_chains_in_two_places_have_not_converged():
    """Two islands with nothing between them that is ever crossed."""

    def islands(theta):
        return np.where(np.abs(np.abs(theta[:, 0]) - 4e3) < 1, 0.0, -np.inf)

    random = np.random.default_rng(1)
    far = random.uniform(-0.9, 0.9, (64, 2)) + np.repeat([[-4e3, 0], [4e3, 0]], 32, 0)
    lone = lambda t: islands(t) - 0.5 * t[:, 1] ** 2  # noqa: E731
    with pytest.raises(GsnnError, match=r"has not converged in 400 steps: the chains disagree: R-hat of a"):
        sample(lone, far, ["a", "b"], most=400)
    assert "R-hat of a" in sample(lone, far, ["a", "b"], most=400, strict=False).trouble
    with pytest.raises(GsnnError, match="has not converged in 40 steps"):
        sample(gaussian, start(), ["a", "b"], steps=40, most=40)


def test_effective_draws_are_those_of_an_autoregression():
    """(1 - rho) / (1 + rho) of all, and more than all where neighbours are opposed."""
    for rho in (0.0, 0.5, 0.9):
        bulk, tail = effective(autoregressive(rho, 4000))
        assert bulk[0] == pytest.approx(32_000 * (1 - rho) / (1 + rho), rel=0.15)
        assert tail[0] > 0.5 * bulk[0]
    assert effective(autoregressive(-0.5, 4000))[0][0] > 40_000


def test_r_hat_is_one_for_equal_chains_and_sees_what_differs():
    good = autoregressive(0.3)
    assert r_hat(good)[0] < 1.01
    moved = good + np.linspace(0, 1, 8)[:, None]
    drifting = good + np.linspace(-1, 1, 1000)[:, None, None]
    wider = good * np.where(np.arange(8) < 4, 1, 3)[:, None]
    for bad in (moved, drifting, wider):
        assert r_hat(bad)[0] > 1.02
    one = r_hat(autoregressive(0.3, seed=3))
    np.testing.assert_allclose(r_hat(np.exp(autoregressive(0.3, seed=3))), one, rtol=0.02)  # ranks, not values


def test_what_cannot_be_sampled_is_told_in_a_sentence(monkeypatch):
    for match, change in (
        (r"points to start from \[point, 3\]", {"names": ["a", "b", "c"]}),
        ("even number of at least 4 walkers", {"walkers": 3}),
        ("and 20 of 20 have one", {"start": start(20)}),
        (r"200 points is one number each, not \(200, 2\)", {"log_probability": lambda t: t}),
        ("is nan at", {"log_probability": lambda t: t[:, 0] * np.nan}),
        ("cannot start", {"start": np.ones((200, 2))}),
    ):
        with pytest.raises(GsnnError, match=match):
            sample(**{"log_probability": gaussian, "start": start(), "names": ["a", "b"]} | change)
    real = builtins.__import__

    def without(name, *rest):
        if name == "emcee":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(GsnnError, match=r"gsnn\[mcmc\]"):
        sample(gaussian, start(), ["a", "b"])
