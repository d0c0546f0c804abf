"""Bootstrap intervals: right coverage, paired, repeatable, quick."""

import time

import numpy as np
import pytest

from gsnn.data.schema import Column
from gsnn.errors import GsnnError
from gsnn.evaluation import intervals
from gsnn.evaluation.distributions import Categorical, Mixture, Point
from gsnn.evaluation.intervals import bootstrap, counts, difference, of_metric, paired, replicates
from gsnn.evaluation.metrics import METRICS, get, metrics_for


def gaussian(mean, sigma=1.0):
    mean = np.asarray(mean, float)[:, None]
    return Mixture(np.ones_like(mean), mean, np.full_like(mean, sigma))


def test_resamples_are_counts_of_their_own_address():
    some = counts(50, range(3, 6), 7)
    assert (some.sum(1) == 50).all()
    np.testing.assert_array_equal(some[1:], counts(50, range(4, 6), 7))
    assert (counts(50, range(3, 4), 8) != some[:1]).any()


def test_interval_of_a_mean_is_the_normal_one():
    g = np.random.default_rng(0)
    y = g.normal(size=2000)
    found = bootstrap(METRICS["bias"], Point(np.zeros(2000)), y, seed=1)
    half = 1.96 * y.std() / np.sqrt(2000)
    assert found["value"] == pytest.approx(-y.mean())
    assert found["low"] == pytest.approx(-y.mean() - half, abs=0.1 * half)
    assert found["high"] == pytest.approx(-y.mean() + half, abs=0.1 * half)


def test_coverage_of_the_interval_of_accuracy():
    g = np.random.default_rng(2)
    p = Categorical(np.tile([0.8, 0.2], (150, 1)), ("A", "B"))
    found = [
        bootstrap(METRICS["accuracy"], p, (g.random(150) > 0.8).astype(int), resamples=200, seed=i) for i in range(200)
    ]
    inside = np.mean([f["low"] <= 0.8 <= f["high"] for f in found])
    assert 0.88 <= inside <= 0.99


def test_the_memory_does_not_change_the_numbers(monkeypatch):
    d, y = gaussian(np.linspace(0, 1, 40)), np.linspace(0, 1, 40) ** 2
    metrics = metrics_for(d, Column("z", "scalar"))
    whole = replicates(metrics, [d], y, resamples=30)
    monkeypatch.setattr(intervals, "CELLS", 41 * 7)
    np.testing.assert_allclose(replicates(metrics, [d], y, resamples=30), whole, rtol=1e-12, atol=1e-15)


def test_scores_and_functions_agree():
    d, y = gaussian(np.linspace(0, 1, 40)), np.linspace(0, 1, 40) ** 2
    metrics = metrics_for(d, Column("z", "scalar"))
    found = replicates(metrics, [d], y, resamples=4, seed=5)[1:, 0]
    weight = counts(40, range(1, 5), 5)
    for j, metric in enumerate(metrics):
        np.testing.assert_allclose(found[:, j], metric(d, y, weight), rtol=1e-9, atol=1e-12)


def test_a_paired_difference_is_sharper_than_two_intervals():
    g = np.random.default_rng(3)
    y = g.normal(size=500)
    hard = g.normal(size=500)  # an error that both make
    a, b = Point(y + hard), Point(y + 1.05 * hard)
    rmse = METRICS["rmse"]
    gap = paired(rmse, a, b, y)
    assert gap["verdict"] == "better"
    assert gap["value"] == pytest.approx(bootstrap(rmse, a, y)["value"] - bootstrap(rmse, b, y)["value"])
    alone = bootstrap(rmse, a, y)
    assert gap["high"] - gap["low"] < 0.2 * (alone["high"] - alone["low"])
    assert paired(rmse, b, a, y)["verdict"] == "worse"
    assert paired(rmse, a, a, y) == {"value": 0, "low": 0, "high": 0, "verdict": "same"}


def test_false_alarms_of_the_paired_difference_are_rare():
    g = np.random.default_rng(4)
    verdicts = []
    for i in range(100):
        y, errors = g.normal(size=100), g.normal(size=(2, 100))
        verdicts.append(paired(METRICS["mae"], Point(y + errors[0]), Point(y + errors[1]), y, resamples=200, seed=i))
    assert sum(v["verdict"] != "same" for v in verdicts) <= 14


def test_near_metrics_are_judged_by_their_distance_from_the_goal():
    y = np.random.default_rng(5).normal(size=1000)
    for low, high in ((gaussian(y * 0, 1.0), gaussian(y * 0, 3.0)), (gaussian(y * 0, 1.0), gaussian(y * 0, 0.3))):
        assert paired(METRICS["coverage_68"], low, high, y)["verdict"] == "better"
    assert paired(METRICS["bias"], Point(y - 0.1), Point(y + 0.5), y)["verdict"] == "better"


@pytest.mark.parametrize("name", ["ece", "pit_ks"])
def test_the_interval_of_a_distance_holds_its_value(name):
    g = np.random.default_rng(6)
    if name == "ece":
        p = Categorical(g.dirichlet([1, 1], 300), ("A", "B"))
        truth = (g.random(300) < p.probabilities[:, 1]).astype(int)
    else:
        p, truth = gaussian(np.zeros(300)), g.normal(size=300)
    found = bootstrap(METRICS[name], p, truth)
    assert 0 <= found["low"] < found["value"] < found["high"]


def test_undefined_is_none():
    p = Categorical([[0.6, 0.4], [0.3, 0.7]], ("A", "B"))
    assert bootstrap(METRICS["roc_auc"], p, np.zeros(2, int)) == {"value": None, "low": None, "high": None, "unit": ""}
    assert bootstrap(METRICS["rmse"], Point(np.zeros(0)), np.zeros(0))["value"] is None
    nan = np.full(10, np.nan)
    assert difference(METRICS["rmse"], nan, nan)["verdict"] is None
    with pytest.raises(GsnnError, match="3 predictions for 2 truths"):
        bootstrap(METRICS["rmse"], Point(np.zeros(3)), np.zeros(2))


def test_a_class_that_seldom_occurs_has_no_interval():
    p = Categorical(np.tile([0.6, 0.4], (400, 1)), ("A", "B"))
    truth = np.zeros(400, int)
    found = bootstrap(get("recall[B]", p.classes), p, truth)
    assert found["value"] is None


def test_a_thousand_resamples_of_all_class_metrics_take_seconds():
    g = np.random.default_rng(0)
    p, y = Categorical(g.dirichlet(np.ones(3), 3600), ("A", "B", "C")), g.integers(3, size=3600)
    start = time.process_time()
    replicates(metrics_for(p, Column("kind", "label")), [p], y)
    assert time.process_time() - start < 20  # 3 s on an idle core


def test_objects_that_fail_together_give_wider_intervals():
    """Blocks of ten equal errors hold a tenth of the information, so the interval is wider by sqrt(10)."""
    rng = np.random.default_rng(0)
    error, block = np.repeat(rng.normal(size=100), 10), np.repeat(np.arange(100), 10)
    point, truth = Point(error), np.zeros(1000)
    width = {}
    for name, group in (("alone", None), ("blocks", block)):
        draws = replicates([METRICS["bias"]], [point], truth, resamples=400, group=group)
        found = of_metric(METRICS["bias"], draws[:, 0, 0])
        width[name] = found["high"] - found["low"]
        assert found["value"] == pytest.approx(error.mean())
    assert width["blocks"] / width["alone"] == pytest.approx(np.sqrt(10), rel=0.15)
