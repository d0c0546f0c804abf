"""The mixture of several answers: their mean density, and as wide as their disagreement makes it."""

import numpy as np
import pytest

from gsnn.evaluation.distributions import Categorical, Mixture, Point
from gsnn.evaluation.draws import Draws, together
from gsnn.evaluation.ensembles import mixture


def test_draws_stay_together_and_every_member_counts_alike():
    random = np.random.default_rng(0)
    joint = [centre + random.standard_normal((5, 1000, 2)) for centre in (-2, 0, 2)]
    joint = [np.stack([one[..., 0], 10 * one[..., 0]], -1) for one in joint]  # b = 10 a in every draw
    members = [{name: Draws(one[..., i]) for i, name in enumerate("ab")} for one in joint]
    mixed = together({name: mixture([one[name] for one in members]) for name in "ab"})
    assert mixed.shape == (5, 1000, 2)
    np.testing.assert_allclose(mixed[..., 1], 10 * mixed[..., 0])
    assert mixed[..., 0].std(1) == pytest.approx(np.full(5, np.sqrt(1 + 8 / 3)), rel=0.06)
    assert abs(mixed[..., 0].mean()) < 0.05


def test_probabilities_and_densities_are_means():
    classes = ("a", "b")
    one, other = (Categorical(np.array([[p, 1 - p]]), classes) for p in (0.9, 0.3))
    assert mixture([one, other]).probabilities == pytest.approx(np.array([[0.6, 0.4]]))
    unit = np.ones((1, 1))
    one, other = (Mixture(unit, centre * unit, unit) for centre in (-1, 3))
    x = np.array([[-1.0, 0.5, 3.0]])
    np.testing.assert_allclose(mixture([one, other]).pdf(x), (one.pdf(x) + other.pdf(x)) / 2)


def test_answers_without_a_mixture_have_none():
    assert mixture([Point(np.zeros(3)), Point(np.ones(3))]) is None
    assert mixture([Draws(np.zeros((3, 5))), Draws(np.zeros((3, 6)))]) is None
    assert mixture([Draws(np.zeros((3, 5))), Point(np.zeros(3))]) is None
