"""Light curves as numbers: what was put into them comes out, and trees can tell them apart."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from gsnn.baselines.base import features
from gsnn.baselines.bazin import Segments, Shape, fit
from gsnn.baselines.light_curves import statistics, transient
from gsnn.baselines.variability import variability
from gsnn.config import build
from gsnn.data.light_curves import LightCurves
from gsnn.data.schema import Column
from gsnn.data.survey import Survey

LC = Column("lc", "light_curve", unit="nJy", bands=("g", "r"), time_unit="d")
MAG = Column("lc", "light_curve", unit="mag", bands=("g", "r"), time_unit="d")


def shapes(n=80, noise=1.0, seed=0):
    """Transients of Bazin's shape with known parameters, peaks of 50 in g and 80 in r."""
    random = np.random.default_rng(seed)
    truth = Shape(random.uniform(30, 60, n), np.log(random.uniform(2.5, 6, n)), np.log(random.uniform(15, 45, n)))
    curves = []
    for i in range(n):
        time = np.sort(random.uniform(0, 130, 70)) + 57000
        band = np.arange(70) % 2
        light = truth.take(np.array([i]))(time - 57000) * np.where(band, 80, 50)
        curves.append((time, light + noise * random.normal(size=70), np.full(70, noise), band))
    return LightCurves.of(curves), truth


def test_a_fit_finds_the_shape():
    curves, truth = shapes()
    whole, each, amplitude = fit(Segments.of(curves), len(curves))
    assert np.median(np.abs(whole.peak - 57000 - truth.peak)) < 0.5
    assert np.median(np.abs(whole.fall - truth.fall)) < 0.05
    assert np.median(np.abs(whole.rise - truth.rise)) < 0.1
    assert np.median(amplitude[0::2]) == pytest.approx(50, rel=0.03)
    assert np.median(amplitude[1::2]) == pytest.approx(80, rel=0.03)
    rise, fall = each.half()
    assert each(each.peak + fall) == pytest.approx(0.5, abs=1e-3)
    assert each(each.peak - rise) == pytest.approx(0.5, abs=1e-3)


def test_slopes_are_those_of_the_function():
    shape = Shape(np.array([3.0]), np.array([1.0]), np.array([3.0]))
    time = np.linspace(-20, 80, 30)
    value, slopes = shape.slopes(time)
    scale = np.exp(shape._log(shape.peak))  # the derivatives hold the peak's height
    for i in range(3):
        moved = [a.copy() for a in (shape.t0, shape.rise, shape.fall)]
        moved[i] += 1e-5
        after = np.exp(Shape(*moved)._log(time)) / scale
        assert slopes[i] == pytest.approx((after - value) / 1e-5, abs=1e-3)


def test_statistics_of_transients_say_what_they_are():
    curves, truth = shapes()
    found = transient(curves, LC.bands)
    assert np.median(found["snr"]) > 100
    assert 10 ** np.median(found["peak_g"]) == pytest.approx(50, rel=0.05)
    assert np.median(found["colour_g_r"]) == pytest.approx(2.5 * np.log10(80 / 50), abs=0.05)
    assert np.median(found["chi2"]) == pytest.approx(1, abs=0.1)
    assert np.corrcoef(found["fall_r"], np.exp(truth.fall))[0, 1] > 0.95
    assert np.corrcoef(found["before"], truth.peak)[0, 1] > 0.95


def test_a_zero_point_of_time_changes_nothing():
    curves, _ = shapes(12)
    later = LightCurves(curves.time + 3000, curves.flux, curves.flux_error, curves.band, curves.offsets)
    here, there = (statistics(c, LC)[0] for c in (curves, later))
    np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-4)


def test_an_object_does_not_depend_on_its_company():
    curves, _ = shapes(20)
    whole, _ = statistics(curves, LC)
    some, _ = statistics(curves.take([3, 17]), LC)
    np.testing.assert_allclose(some, whole[[3, 17]], rtol=1e-6)


@pytest.mark.parametrize("column", [LC, MAG], ids=["flux", "mag"])
def test_hardly_anything_observed_is_no_error(column):
    one = (np.array([1.0]), np.array([5.0]), np.array([1.0]), np.array([0]))
    same = (np.arange(3.0), np.full(3, 5.0), np.ones(3), np.ones(3, int))
    found, names = statistics(LightCurves.of([one, same]), column, np.array([1.0, np.nan]))
    assert found.shape == (2, len(names))
    assert len(set(names)) == len(names)
    none, again = statistics(LightCurves.of([]), column, np.empty(0))
    assert none.shape == (0, len(again))
    assert again == names


def stars(n=60, seed=1):
    """Sawtooth pulsators and eclipsing binaries of unequal depth, in magnitudes, with their periods."""
    random = np.random.default_rng(seed)
    curves, period, binary = [], random.uniform(0.3, 5, n), np.arange(n) % 2 == 1
    for i in range(n):
        time = np.sort(random.uniform(0, 400, 160))
        phase, band = time / period[i] % 1, np.arange(160) % 2
        saw = 0.5 * phase / 0.8 * (phase < 0.8) + 0.5 * (1 - phase) / 0.2 * (phase >= 0.8)
        half = phase % 1
        dips = 0.7 * np.exp(-0.5 * ((half - 0.25) / 0.04) ** 2) + 0.3 * np.exp(-0.5 * ((half - 0.75) / 0.04) ** 2)
        light = np.where(binary[i], dips, saw) * np.where(band, 0.7, 1.0)
        curves.append((time, 18 - 0.4 * band + light + 0.02 * random.normal(size=160), np.full(160, 0.02), band))
    return LightCurves.of(curves), period, binary


def test_statistics_of_variables_say_what_they_are():
    curves, period, binary = stars()
    found = variability(curves, MAG.bands, period)
    assert np.median(found["colour_g_r"]) == pytest.approx(0.4, abs=0.15)
    assert np.median(found["amplitude_g"][~binary]) == pytest.approx(0.45, abs=0.06)
    assert (found["skew_g"][binary] > 1).all()  # mostly bright, seldom faint
    assert np.median(found["left_g"][~binary]) < 0.05
    assert 0.18 < np.median(found["rise_g"][~binary]) < 0.32  # 0.2, as three harmonics show it
    wrong = variability(curves, MAG.bands, period * 1.37)
    assert np.median(wrong["left_g"]) > 0.7
    # at half of the period the two minima of a binary fall on each other: the fold at twice the period tells them apart
    halved = variability(curves, MAG.bands, np.where(binary, period / 2, period))
    assert np.median(halved["minima_g"][binary]) > 0.15


def test_baselines_tell_light_curves_apart(tmp_path):
    survey = Survey.create(tmp_path / "sky", tiny.curve_rows(160), seed=0)
    inputs, target = survey.schema.select(["lc"]), survey.schema["kind"]
    train, valid, test = (survey.view(np.arange(a, b)) for a, b in ((0, 90), (90, 120), (120, 160)))
    matrix, names = features(train, inputs)
    assert matrix.shape == (90, len(names))
    assert all(name.startswith("lc.") for name in names)
    for name, small in (("forest", {"trees": 30}), ("boosting", {"iterations": 20}), ("logistic", {})):
        baseline = build({"name": name, **small}, "baseline", inputs, target)
        baseline.fit(train, valid, 0)
        answer = baseline.predict(test)["kind"].best()
        assert (answer == test.columns(["kind"])["kind"]).mean() > 0.75, name


def test_the_period_among_the_inputs_folds_and_else_one_is_looked_for(tmp_path):
    curves, period, _ = stars(12)
    columns = {
        Column("id", "id"): [str(i) for i in range(12)],
        MAG: curves,
        Column("period", "scalar"): period.tolist(),
    }
    survey = Survey.create(tmp_path / "sky", tiny.Rows(columns), seed=0)
    view = survey.view(np.arange(12))
    given, names = features(view, survey.schema.select(["lc", "period"]))
    found, others = features(view, survey.schema.select(["lc"]))
    assert "lc.sine" in others
    assert "lc.sine" not in names
    for matrix, own in ((given, names), (found, others)):
        assert np.isfinite(matrix[:, own.index("lc.r21_g")]).all()
    near = 10 ** (found[:, others.index("lc.log_period")] - given[:, names.index("lc.log_period")])
    assert (np.abs(near[0::2] - 1) < 0.01).all()  # the pulsating ones
