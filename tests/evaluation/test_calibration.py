"""Calibration tables see what they should see."""

import numpy as np
import pytest
from scipy import stats

from gsnn.errors import GsnnError
from gsnn.evaluation.calibration import coverage, pit_histogram, reliability, temperature, wilson, with_temperature
from gsnn.evaluation.distributions import Categorical


def sure(sharpness, n=4000, seed=0):
    """Probabilities sharpened by ``sharpness`` over the calibrated ones."""
    g = np.random.default_rng(seed)
    logit = g.normal(0, 1.5, (n, 3))
    p = np.exp(logit) / np.exp(logit).sum(1, keepdims=True)
    truth = (g.random(n)[:, None] > p.cumsum(1)).sum(1)
    q = p**sharpness
    return Categorical(q / q.sum(1, keepdims=True), ("A", "B", "C")), truth


def test_wilson_agrees_with_scipy():
    for hits, n in ((0, 10), (3, 10), (10, 10), (70, 1000)):
        there = stats.binomtest(hits, n).proportion_ci(method="wilson")
        np.testing.assert_allclose(wilson(np.array(hits), np.array(n)), (there.low, there.high), atol=1e-12)
    assert tuple(map(float, wilson(np.array(0), np.array(0)))) == (0, 1)


@pytest.mark.parametrize(("sharpness", "inside"), [(1, True), (3, False)])
def test_reliability(sharpness, inside):
    p, truth = sure(sharpness)
    rows = reliability(p.probabilities.max(1), p.best() == truth, 10)
    assert sum(row["n"] for row in rows) == 4000
    held = np.mean([row["low"] - 0.02 <= row["confidence"] <= row["high"] + 0.02 for row in rows])
    assert (held >= 0.9) == inside
    assert len(reliability(np.array([0.7]), np.array([True]))) == 1
    assert reliability(np.zeros(0), np.zeros(0, bool)) == []


@pytest.mark.parametrize(("width", "flat"), [(1.0, True), (0.5, False), (2.0, False)])
def test_pit_and_coverage(width, flat):
    pit = stats.norm(scale=width).cdf(np.random.default_rng(1).normal(size=4000))
    found = pit_histogram(pit)
    assert sum(found["counts"]) == 4000
    counts = np.array(found["counts"])
    assert (np.mean((counts >= found["low"]) & (counts <= found["high"])) >= 0.8) == flat
    rows = coverage(pit)
    assert all((row["low"] <= row["nominal"] <= row["high"]) == flat for row in rows[6:12])
    if not flat:
        assert (rows[9]["empirical"] < rows[9]["nominal"]) == (width < 1)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_temperature_undoes_overconfidence(sharpness):
    p, truth = sure(sharpness)
    found = temperature(p, np.r_[truth[:3999], -1])
    assert found == pytest.approx(sharpness, rel=0.1)
    calm = with_temperature(p, found)
    np.testing.assert_array_equal(calm.best(), p.best())
    np.testing.assert_allclose(with_temperature(p, 1.0).probabilities, p.probabilities)


def test_temperature_of_certain_predictions_is_finite():
    p = Categorical(np.eye(2)[[0, 1, 1, 0]], ("A", "B"))
    assert 0.05 <= temperature(p, np.array([0, 1, 0, 1])) <= 20
    with pytest.raises(GsnnError, match="no object has a known class"):
        temperature(p, np.full(4, -1))
