"""Whole curves as predictions, and the metrics that judge them."""

import numpy as np
import pytest

from gsnn.data.schema import Column
from gsnn.errors import GsnnError
from gsnn.evaluation.distributions import concatenate
from gsnn.evaluation.judge import judge
from gsnn.evaluation.metrics import METRICS, metrics_for
from gsnn.evaluation.vector_metrics import cosmic_variance, percentile, share_of_variance
from gsnn.evaluation.vectors import Vectors

BANDS = ("tt", "te", "ee")
TARGET = Column("spectra", "spectrum", unit="muK^2", bands=BANDS, shape=(3, 50))


def spectra(n=40, seed=0):
    random = np.random.default_rng(seed)
    tt, ee = random.uniform(50, 60, (n, 1)) * np.ones(50), random.uniform(1, 2, (n, 1)) * np.ones(50)
    return np.stack([tt, 0.3 * np.sqrt(tt * ee), ee], 1)


def test_cosmic_variance_is_the_scatter_of_skies():
    """C_l of many Gaussian skies with 2l + 1 modes each, drawn one by one."""
    truth = np.array([[[50.0] * 9], [[3.0] * 9], [[2.0] * 9]]).reshape(1, 3, 9)
    random = np.random.default_rng(1)
    factor = np.linalg.cholesky([[50, 3], [3, 2]])
    for i, l in enumerate(range(2, 11)):  # noqa: E741
        a = random.normal(size=(20_000, 2 * l + 1, 2)) @ factor.T
        scatter = [(a[..., x] * a[..., y]).mean(1).std() for x, y in ((0, 0), (0, 1), (1, 1))]
        np.testing.assert_allclose(cosmic_variance(truth)[0, :, i], scatter, rtol=0.02)


def test_an_error_of_one_standard_deviation_is_one():
    truth = spectra()
    found = Vectors(truth + cosmic_variance(truth), np.zeros((3, 50)), BANDS)
    np.testing.assert_allclose(share_of_variance(found, truth), 1)
    one = np.ones((1, len(truth)))
    for name in ("cosmic_variance_p99", "cosmic_variance_mean"):
        assert METRICS[name](found, truth, one)[0] == pytest.approx(1)


def test_the_percentile_is_that_of_the_objects_repeated_as_often_as_they_weigh():
    random = np.random.default_rng(2)
    values, weight = random.normal(size=(12, 7)), random.integers(0, 4, (70, 12)).astype(float)
    found = percentile(values, weight, 0.9)
    for row, one in zip(weight, found):
        repeated = np.repeat(values, row.astype(int), 0)
        assert one == np.quantile(repeated, 0.9, method="inverted_cdf")


def test_a_perfect_prediction_explains_everything_and_the_mean_nothing():
    truth, one = spectra(), np.ones((1, 40))
    perfect = Vectors(truth, np.zeros((3, 50)), BANDS)
    mean = Vectors(np.repeat(truth.mean(0, keepdims=True), 40, 0), np.zeros((3, 50)), BANDS)
    assert METRICS["explained"](perfect, truth, one)[0] == 1
    assert METRICS["explained"](mean, truth, one)[0] == pytest.approx(0, abs=1e-9)


def test_widths_that_are_right_cover():
    truth = spectra(400)
    random = np.random.default_rng(3)
    found = Vectors(truth + random.normal(size=truth.shape), np.ones((3, 50)), BANDS)
    assert METRICS["curve_coverage_68"](found, truth, np.ones((1, 400)))[0] == pytest.approx(0.68, abs=0.01)
    np.testing.assert_allclose(found.quantile(np.array([0.5]))[..., 0], found.value)
    assert np.isnan(METRICS["curve_coverage_68"](Vectors(truth, np.zeros((3, 50))), truth, np.ones((1, 400)))[0])


def test_it_is_judged_as_any_prediction():
    truth = spectra()
    close, far = (Vectors(truth * (1 + e), np.zeros((3, 50)), BANDS) for e in (1e-3, 1e-1))
    found = judge(close, truth.reshape(40, -1), TARGET, baselines={"far": far}, resamples=50)
    assert found["headline_metric"] == "cosmic_variance_p99"
    assert found["baselines"]["far"]["cosmic_variance_p99"]["difference"]["verdict"] == "better"
    unknown = truth.copy()
    unknown[3, 1, 7] = np.nan
    assert judge(close, unknown, TARGET, resamples=20)["excluded"] == 1


def test_only_spectra_of_the_background_have_a_cosmic_variance():
    plain = Vectors(spectra()[:, :1], np.zeros((1, 50)))
    names = [m.name for m in metrics_for(plain, Column("flux", "spectrum", shape=(50,)))]
    assert names == ["curve_rms", "explained", "curve_coverage_68"]


def test_parts_join_and_are_taken():
    truth = spectra()
    whole = Vectors(truth, np.ones((3, 50)), BANDS)
    joined = concatenate([whole.take(np.arange(10)), whole.take(np.arange(10, 40))])
    np.testing.assert_array_equal(joined.value, truth)
    columns = joined.to_columns("spectra")
    assert list(columns) == ["prediction", "spectra_low", "spectra_high"]
    assert len(columns["spectra_low"][0]) == 150


def test_widths_that_mean_nothing():
    with pytest.raises(GsnnError, match="Vectors: widths"):
        Vectors(spectra(), -np.ones((3, 50)))
