"""The figures of a stream, each against what it must be."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import ks_2samp

from gsnn.serve import figures
from gsnn.training.metrics import text


def test_ks_is_that_of_scipy():
    chance = np.random.default_rng(0)
    for shift in (0.0, 0.3, 3.0):
        a, b = chance.normal(size=301), chance.normal(shift, size=77).round(1)
        assert figures.ks(a, b) == pytest.approx(ks_2samp(a, b).statistic)


def test_psi_by_hand_and_at_rest():
    """Two bins, half expected in each and a quarter and three quarters found: (1/4) ln 3 twice over."""
    expected, found = np.repeat([0.0, 1.0], 50_000), np.repeat([0.0, 1.0], [25_000, 75_000])
    assert figures.psi(expected, found, bins=2) == pytest.approx(0.25 * np.log(1.5) + 0.25 * np.log(2), rel=1e-3)
    chance = np.random.default_rng(1)
    same = [figures.psi(chance.normal(size=500), chance.normal(size=1000)) for _ in range(50)]
    assert np.mean(same) == pytest.approx(9 * (1 / 500 + 1 / 1000), rel=0.25)
    assert figures.psi(chance.normal(size=500), chance.normal(2, size=500)) > 0.25


def test_counts_latencies_and_drift():
    expected = {"a_p": np.linspace(0, 1, 500)}
    one = figures.Figures(expected)
    for _ in range(4):
        flag = ["", "unlike training", "quarantined: why", ""] * 25
        values = pa.array([None if f.startswith("quarantined") else 0.9 for f in flag], pa.float64())
        one.add(pa.table({"a_p": values, "flag": flag}), np.linspace(0, 1, 100), np.full(100, 0.25))
    event = one.event(lag=7, gone=3)
    assert (event["alerts"], event["quarantined"], event["lag"], event["gone"]) == (400, 100, 7, 3)
    assert event["latency_p50_s"] == pytest.approx(0.5, abs=0.01)
    assert event["latency_p99_s"] == pytest.approx(0.99, abs=0.01)
    assert event["own_p99_s"] == pytest.approx(0.25)
    assert event["unlike_training"] == pytest.approx(1 / 3)
    assert event["ks"] == pytest.approx(0.9, abs=0.01)
    assert event["psi"] > 1
    told = text(event, figures.NAMES)
    assert "gsnn_alerts_total 400.0" in told
    assert "gsnn_alert_latency_p99_seconds 0.9" in told
    assert "latency_p99_s" not in one.event(0)


def test_only_numbers_of_the_test_predictions_are_compared():
    table = pa.table({"id": ["a"], "prediction": ["x"], "x_p": [0.5], "y_p": [float("nan")], "truth": ["x"]})
    assert set(figures.reference(table)) == {"x_p"}
    assert figures.reference(None) == {}
