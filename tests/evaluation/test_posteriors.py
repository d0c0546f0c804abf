"""The checks of posteriors pass an exact one and fail those that are wrong in the ways that posteriors are."""

import numpy as np
import pytest

from gsnn.errors import GsnnError
from gsnn.evaluation.draws import Draws
from gsnn.evaluation.posteriors import checks, highest_density, ranks, tarp, two_samples, uniform

N, S = 800, 300
RHO = 0.9


def pairs(n, seed, rho=RHO):
    """Standard normal pairs of correlation rho."""
    x = np.random.default_rng(seed).standard_normal((n, 2))
    return x @ np.linalg.cholesky([[1, rho], [rho, 1]]).T


def exact(wider=1.0, moved=0.0, rho=RHO):
    """Objects with centres of their own; truth and draws from the same posterior but for what is asked."""
    centre = np.random.default_rng(9).uniform(-5, 5, (N, 2))
    truth = centre + pairs(N, 1)
    return centre[:, None] + moved + wider * pairs(N * S, 2, rho).reshape(N, S, 2), truth


def told(**how):
    draws, truth = exact(**how)
    found = {name: Draws(draws[..., i]) for i, name in enumerate("ab")}
    prior = {name: np.random.default_rng(3).uniform(-5, 5, 5000) for name in "ab"}
    return checks(found, dict(zip("ab", truth.T)), prior)


def test_an_exact_posterior_passes():
    found = told()
    assert found["n"] == N
    assert all(one["p"] > 0.01 for one in found["parameters"].values())
    assert found["tarp"]["p"] > 0.01
    assert found["highest_density"]["p"] > 0.01
    assert all(0.9 < one["z"] < 1.1 for one in found["parameters"].values())
    assert all(
        one["contraction"] == pytest.approx(1 - 1 / (100 / 12), abs=0.02) for one in found["parameters"].values()
    )
    assert found["correlation"][0][1] == pytest.approx(RHO, abs=0.02)


@pytest.mark.parametrize("how", [{"wider": 0.7}, {"wider": 1.4}, {"moved": 0.3}])
def test_one_that_is_too_sure_too_shy_or_moved_fails(how):
    found = told(**how)
    assert min(one["p"] for one in found["parameters"].values()) < 1e-3


def test_a_wrong_correlation_is_seen_by_the_joint_coverage_alone():
    found = told(rho=-RHO)
    assert all(one["p"] > 0.01 for one in found["parameters"].values())
    assert found["tarp"]["p"] < 1e-3


def test_regions_of_highest_density_see_width_and_correlation_whatever_the_shape():
    for wider in (0.7, 1.4):  # a pair of Gaussians: half of the mass is claimed within r^2 = 2 ln 2 wider^2
        found = highest_density(*exact(wider=wider))
        assert found["coverage"][9] == pytest.approx(1 - 0.5**wider**2, abs=0.05)
    assert highest_density(*exact(rho=-RHO))["coverage"][9] < 0.3
    random = np.random.default_rng(4)
    ring = random.uniform(0, 2 * np.pi, (500, 501))  # truth and draws on a ring, which is no ellipse
    points = np.stack([np.cos(ring), np.sin(ring)], -1) + 0.05 * random.standard_normal((500, 501, 2))
    assert highest_density(points[:, 1:], points[:, 0])["p"] > 0.01


def test_ranks_count_the_draws_below_the_truth():
    draws = np.arange(10.0).reshape(1, 10, 1)
    assert ranks(draws, np.array([[3.5]])).tolist() == [[4]]
    counts = uniform(np.arange(1000), 999)
    assert sum(counts["ranks"]) == 1000
    assert counts["p"] > 0.9


def test_joint_coverage_does_not_depend_on_units():
    draws, truth = exact()
    one = tarp(draws, truth, np.ones(2))
    scale = np.array([1e-3, 1e4])
    other = tarp(draws * scale, truth * scale, scale)
    assert other["coverage"] == pytest.approx(one["coverage"], abs=2e-3)


def test_objects_without_a_truth_are_left_out_and_points_have_no_posterior():
    draws, truth = exact()
    truth = truth.copy()
    truth[:300, 0] = np.nan
    found = {name: Draws(draws[..., i]) for i, name in enumerate("ab")}
    prior = {name: np.arange(10.0) for name in "ab"}
    assert checks(found, dict(zip("ab", truth.T)), prior)["n"] == N - 300
    assert checks({"a": found["a"], "b": object()}, {}, prior) == {}


def test_a_classifier_tells_two_posteriors_apart_and_not_one_from_itself():
    assert two_samples(pairs(1500, 0), pairs(1500, 1)) == pytest.approx(0.5, abs=0.04)
    assert two_samples(pairs(800, 0), pairs(800, 1, rho=-RHO)) > 0.7
    with pytest.raises(GsnnError, match="at least 100"):
        two_samples(pairs(50, 0), pairs(800, 1))


def test_posteriors_of_different_numbers_of_draws_do_not_join():
    with pytest.raises(GsnnError, match="different numbers of draws"):
        Draws.join([Draws(np.zeros((2, 5))), Draws(np.zeros((2, 6)))])
    with pytest.raises(GsnnError, match="at least two draws"):
        Draws(np.zeros((3, 1)))
