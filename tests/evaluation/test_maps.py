"""Maps are judged over the pixels that are told, and their parts hold together."""

import numpy as np
import pytest

from gsnn.data.schema import Column
from gsnn.errors import GsnnError
from gsnn.evaluation.judge import judge
from gsnn.evaluation.map_metrics import map_bias, map_coverage, map_interval_score, map_r, map_squared_error
from gsnn.evaluation.maps import Maps

random = np.random.default_rng(0)
SHAPE = (5, 1, 12, 10)
TRUTH = random.normal(0, 2, SHAPE)
INSIDE = random.random(SHAPE) < 0.6


def told(value=None, inside=INSIDE, half=1.0):
    value = np.zeros(SHAPE) if value is None else value
    return Maps(value, inside, value - half, value + half)


def test_only_what_is_inside_counts():
    value = np.where(INSIDE, TRUTH + 0.5, 1e6)
    np.testing.assert_allclose(map_squared_error(told(value), TRUTH), 0.25, rtol=1e-4)
    np.testing.assert_allclose(map_bias(told(value), TRUTH), 0.5, rtol=1e-4)
    np.testing.assert_allclose(map_r(told(value), TRUTH), 1, rtol=1e-5)


def test_correlation_is_that_of_numpy_and_nothing_for_a_constant():
    value = TRUTH + random.normal(0, 1, SHAPE)
    wanted = [np.corrcoef(value[i][INSIDE[i]], TRUTH[i][INSIDE[i]])[0, 1] for i in range(5)]
    np.testing.assert_allclose(map_r(told(value), TRUTH), wanted, rtol=1e-4)
    assert (map_r(told(), TRUTH) == 0).all()


def test_coverage_and_interval_score_are_those_of_the_definition():
    inside = abs(TRUTH) <= 1
    wanted = [inside[i][INSIDE[i]].mean() for i in range(5)]
    np.testing.assert_allclose(map_coverage(told(), TRUTH), wanted)
    price = 2 + 2 / 0.32 * np.maximum(abs(TRUTH) - 1, 0)
    np.testing.assert_allclose(map_interval_score(told(), TRUTH), [price[i][INSIDE[i]].mean() for i in range(5)], 1e-5)


def test_the_interval_score_is_least_for_the_right_width():
    truth, inside = random.normal(0, 1, (1, 1, 200, 200)), np.ones((1, 1, 200, 200), bool)
    zero = np.zeros_like(truth)
    scores = {
        half: map_interval_score(Maps(zero, inside, zero - half, zero + half), truth)[0] for half in (0.7, 1, 1.4)
    }
    assert min(scores, key=scores.get) == 1


def test_taking_and_joining_and_columns():
    whole = told(TRUTH)
    back = Maps.join([whole.take(np.array([0, 1])), whole.take(np.array([2, 3, 4]))])
    np.testing.assert_array_equal(back.value, whole.value)
    np.testing.assert_array_equal(back.high, whole.high)
    bare = Maps(TRUTH, INSIDE)
    assert not bare.proper
    assert Maps.join([bare, whole]).low is None
    columns = whole.to_columns("kappa")
    assert set(columns) == {"prediction", "kappa_low", "kappa_high"}
    first = np.array(columns["prediction"][0].as_py())
    np.testing.assert_array_equal(np.isfinite(first), INSIDE[0].ravel())
    assert set(bare.to_columns("kappa")) == {"prediction"}


def test_values_must_be_finite():
    with pytest.raises(GsnnError, match="finite"):
        Maps(np.where(INSIDE, np.nan, 0), INSIDE)


def test_a_verdict_has_metrics_of_maps_and_points_have_no_intervals():
    column = Column("kappa", "image", shape=SHAPE[1:])
    truth = TRUTH.copy()
    truth[3] = np.nan
    verdict = judge(told(TRUTH), truth, column, baselines={"zero": Maps(np.zeros(SHAPE), INSIDE)}, resamples=30)
    assert verdict["headline_metric"] == "map_rmse"
    assert verdict["n"] == 4
    assert verdict["metrics"]["map_coverage_68"]["value"] == 1
    assert set(verdict["baselines"]["zero"]) == {"map_rmse", "map_r", "map_bias"}
    assert verdict["baselines"]["zero"]["map_rmse"]["difference"]["verdict"] == "better"
