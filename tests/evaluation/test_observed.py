"""Tests at one observation: right where nothing is wrong, and small where the posterior or the simulator is wrong."""

import numpy as np
import pytest

from gsnn.errors import GsnnError
from gsnn.evaluation.observed import among, local, predictive

N, S = 500, 200


def posteriors(seed=0, wider=1.0, moved=0.0):
    """Objects whose posterior is standard normal about centres; it is wrong where the first centre is positive."""
    random = np.random.default_rng(seed)
    centre = random.uniform(-2, 2, (N, 2))
    wrong = (centre[:, :1] > 0)[:, None]
    truth = centre + random.standard_normal((N, 2))
    pulls = random.standard_normal((N, S, 2))
    draws = centre[:, None] + np.where(wrong, wider * pulls + moved, pulls)
    return draws, truth, centre


def at(draws, centre, where):
    return draws[np.abs(centre - where).sum(1).argmin()]


def test_an_exact_posterior_passes_the_local_test():
    found = [local(draws, truth, draws[3])["p"] for draws, truth, _ in (posteriors(seed) for seed in range(6))]
    assert 0.1 < np.mean(found) < 0.9
    assert min(found) > 0.01


@pytest.mark.parametrize("how", [{"wider": 0.5}, {"moved": 0.8}])
def test_a_posterior_that_is_wrong_somewhere_fails_there(how):
    draws, truth, centre = posteriors(1, **how)
    there = local(draws, truth, at(draws, centre, np.array([1.5, 0])))
    elsewhere = local(draws, truth, at(draws, centre, np.array([-1.5, 0])))
    assert there["p"] < 0.02
    assert there["value"] > 2 * elsewhere["value"]


def test_a_predictive_check_is_uniform_and_sees_what_no_simulation_does():
    random = np.random.default_rng(0)
    found = [predictive(random.standard_normal((80, 4)), random.standard_normal(4))["p"] for _ in range(150)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.1)
    assert np.mean(np.array(found) < 0.1) < 0.2
    cloud = random.standard_normal((200, 2)) @ np.array([[1, 0.99], [0, 0.14]])
    assert predictive(cloud, np.array([1.5, -1.5]))["p"] < 0.02  # within the range of each, and off their line
    with pytest.raises(GsnnError, match="at least 20 simulations"):
        predictive(cloud[:10], cloud[0])


def test_p_counts_the_value_itself():
    null = np.arange(99.0)
    assert among(1e9, null)["p"] == pytest.approx(0.01)
    assert among(-1, null)["p"] == 1
    assert among(50, np.arange(5000.0))["null"][-1] == 4999
    with pytest.raises(GsnnError, match="at least one"):
        among(0, null[:0])
