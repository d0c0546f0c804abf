"""Scaling laws: what was put in comes out."""

import numpy as np
import pytest

from gsnn.errors import GsnnError
from gsnn.scale import laws


def ladder(law, noise, sizes=6, seed=0):
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(5e7, 1e10, sizes), np.geomspace(1e9, 3e11, sizes)))
    return n, d, law.loss(n, d) * np.exp(np.random.default_rng(seed).normal(0, noise, n.size))


@pytest.mark.parametrize("law", laws.LAWS.values(), ids=laws.LAWS)
def test_a_law_is_found_again_from_its_own_points(law):
    found = laws.fit(*ladder(law, 0.0))
    for name, value in law.to_dict().items():
        assert getattr(found, name) == pytest.approx(value, rel=0.02), name


def test_a_law_of_another_scale_is_found_again():
    truth = laws.Law(3.0, 8.0, 0.3, 0.5, 0.4)
    n, d = (v.ravel() for v in np.meshgrid([300, 1000, 4000, 16000], [500, 2000, 8000, 32000]))
    found = laws.fit(n, d, truth.loss(n, d))
    assert found.alpha == pytest.approx(0.5, rel=0.03)
    assert found.beta == pytest.approx(0.4, rel=0.03)


def test_intervals_hold_the_truth_and_grow_with_the_noise():
    quiet = laws.fit_intervals(*ladder(laws.REPLICATION, 0.001), resamples=20, level=0.95)[1]
    law, loud, resampled = laws.fit_intervals(*ladder(laws.REPLICATION, 0.004), resamples=20, level=0.95)
    assert len(resampled) == 20
    assert abs(law.E - laws.REPLICATION.E) < 0.05
    for name in ("alpha", "beta", "E"):
        (a, b), (c, d) = quiet[name], loud[name]
        assert 0 < b - a < d - c
        assert a <= laws.fit(*ladder(laws.REPLICATION, 0.001)).to_dict()[name] * 1.02
        assert c - 0.03 <= laws.REPLICATION.to_dict()[name] <= d + 0.03, name


def test_one_wild_training_does_not_move_the_law():
    n, d, y = ladder(laws.REPLICATION, 0.0)
    y[17] *= 1.5
    assert laws.fit(n, d, y).alpha == pytest.approx(laws.REPLICATION.alpha, rel=0.02)


def test_the_optimum_is_one():
    for law in laws.LAWS.values():
        n, d = law.optimal(1e22)
        assert all(law.loss(n, d) < law.loss(n * x, d / x) for x in (0.7, 0.95, 1.05, 1.5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n, d, y: (n[:5], d[:5], y[:5]), "at least 6 trainings, not 5"),
        (lambda n, d, y: (n, d, -y), "above 0"),
        (lambda n, d, y: (n * 0 + 7, d, y), "at least two sizes"),
        (lambda n, d, y: (n, d * 0 + 7, y), "at least two budgets"),
        (lambda n, d, y: (n, d, y * np.nan), "above 0"),
    ],
)
def test_points_that_decide_nothing_are_refused(change, message):
    with pytest.raises(GsnnError, match=message):
        laws.fit(*change(*ladder(laws.REPLICATION, 0.0)))
