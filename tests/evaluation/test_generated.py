"""The laws of many fields: closed forms of what is measured, and draws that are right or of another law."""

import numpy as np
import pytest
import torch

from gsnn.data.schema import Column
from gsnn.errors import GsnnError
from gsnn.evaluation.distributions import concatenate
from gsnn.evaluation.generated import FieldDraws, edges_of, measure, peaks, told, told_apart
from gsnn.evaluation.judge import judge
from gsnn.evaluation.metrics import METRICS, metrics_for
from gsnn.report.generated import field_draws
from gsnn.steps.control import verdict

FLAT = Column("density", "field", shape=(1, 16, 16), box=32.0)
CUBE = Column("density", "field", shape=(1, 8, 8, 8))
COLUMNS = {"a map": FLAT, "a cube": CUBE}
NAMES = {"power_off", "bispectrum_off", "peaks_off", "contrast_r"}


def skewed(column, n, seed, contrast=1.0):
    """White noise with peaks, of a contrast for each object."""
    random = np.random.default_rng(seed)
    shape = (n, *column.shape)
    strength = np.broadcast_to(contrast, n).reshape(-1, *[1] * (len(shape) - 1))
    return (strength * (random.exponential(size=shape) - 1)).astype(np.float32)


def draws(column, n, seed, count=2, contrast=1.0):
    return FieldDraws(np.stack([skewed(column, n, seed + 100 * i, contrast) for i in range(count)], 1), column)


def score(name, prediction, truth):
    return float(METRICS[name](prediction, truth, np.ones((1, len(truth))))[0])


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_draws_of_the_same_law_are_near_and_others_are_told(column):
    truth = skewed(column, 300, 0)
    same = draws(column, 300, 1)
    gaussian = FieldDraws(np.random.default_rng(2).normal(size=(300, 2, *column.shape)).astype(np.float32), column)
    weak = FieldDraws(same.value / 2, column)
    assert {m.name for m in metrics_for(same, column)} == NAMES
    assert score("power_off", same, truth) < 0.05
    assert score("power_off", gaussian, truth) < 0.05  # it has the power
    assert score("bispectrum_off", gaussian, truth) > 0.8  # and nothing of the bispectrum
    assert score("peaks_off", gaussian, truth) > 0.3 > 3 * score("peaks_off", same, truth)
    assert score("power_off", weak, truth) == pytest.approx(0.75, abs=0.02)
    assert score("bispectrum_off", weak, truth) == pytest.approx(0.875, abs=0.06)


def test_power_and_bispectrum_of_exponential_noise_are_its_moments():
    """Of white noise the power is the variance and the bispectrum the third moment, in the square of a voxel's size."""
    found = measure(skewed(FLAT, 2000, 0), FLAT)
    np.testing.assert_allclose(found.power.mean(0), 1, atol=0.08)
    np.testing.assert_allclose(found.bispectrum.mean(0), 2, atol=0.8)
    assert found.modes.sum() < 256
    assert found.k[-1] == 1


def test_peaks_are_higher_than_all_that_touch_them_across_the_edges():
    field = torch.zeros(1, 8, 8)
    field[0, 0, 0], field[0, 7, 7], field[0, 3, 4] = 2.0, 3.0, 1.0
    heights = peaks(field)[0]
    assert sorted(set(heights.tolist())) == [0.0, 1.0, 3.0]  # 2 touches 3 around the corner
    assert (heights == 3).sum() == (heights == 1).sum() == 1


def test_every_peak_is_in_one_bin():
    found = measure(skewed(FLAT, 20, 0), FLAT)
    counts = found.peaks(edges_of(found))
    np.testing.assert_array_equal(counts.sum(1), [len(h) for h in found.heights])
    assert counts.shape == (20, 8)


def test_contrast_that_follows_the_object_is_seen_and_the_control_too():
    contrast = np.linspace(0.5, 2, 200)
    truth, follows = skewed(FLAT, 200, 0, contrast), draws(FLAT, 200, 1, contrast=contrast)
    assert score("contrast_r", follows, truth) > 0.9
    assert abs(score("contrast_r", draws(FLAT, 200, 1), truth)) < 0.2
    assert not verdict(follows, truth, 0)["passed"]
    told_nothing = verdict(draws(FLAT, 200, 1), truth, 0)
    assert told_nothing["metric"] == "contrast_r"
    assert told_nothing["passed"]


def test_a_classifier_tells_what_differs_and_is_at_chance_where_nothing_does():
    truth = skewed(FLAT, 200, 0)
    true, given, group = measure(truth, FLAT), np.zeros((200, 0)), np.repeat(np.arange(100), 2)
    same = told_apart(draws(FLAT, 200, 1), true, given, group)
    assert same["low"] < 0.5 < same["high"] + 0.02
    other = told_apart(draws(FLAT, 200, 1, contrast=1.3), true, given, group)
    assert other["low"] > 0.8
    assert told_apart(draws(FLAT, 200, 1), true, given, np.zeros(200, int)) == {}  # too few groups to ask


def test_a_contrast_that_belongs_to_another_object_is_told_by_the_inputs():
    """Marginally alike, wrong for each: only with the inputs beside the field can it be seen."""
    contrast = np.tile([0.7, 1.4], 150)
    truth, given = skewed(FLAT, 300, 0, contrast), contrast[:, None]
    wrong = draws(FLAT, 300, 1, contrast=contrast[::-1])
    true, group = measure(truth, FLAT), np.arange(300)
    assert told_apart(wrong, true, given, group)["low"] > 0.8
    assert told_apart(wrong, true, np.zeros((300, 0)), group)["low"] < 0.56


def test_the_report_draws_shares_and_says_how_far_off():
    truth, group = skewed(FLAT, 60, 0), np.repeat(np.arange(20), 3)
    found = told({"network": draws(FLAT, 60, 1), "weak": draws(FLAT, 60, 2, contrast=0.7)}, truth, truth[:, 0, 0, :1],
                 group)  # fmt: skip
    assert found["groups"] == 20
    assert found["unit"] == "h/Mpc"
    share = found["each"]["network"]["power"]
    assert all(low <= mean <= high for low, mean, high in zip(share["low"], share["mean"], share["high"]))
    np.testing.assert_allclose(found["each"]["weak"]["power"]["mean"], 0.49, atol=0.1)
    drawing = field_draws(found)
    assert "within" in drawing.alt
    assert drawing.data["weak: peaks"] == found["each"]["weak"]["peaks"]["mean"]


def test_draws_are_judged_taken_joined_and_written():
    truth = skewed(FLAT, 40, 0)
    made = draws(FLAT, 40, 1, count=3)
    judged = judge(made, truth, FLAT, baselines={"other": draws(FLAT, 40, 5)}, resamples=20)
    assert judged["headline_metric"] == "power_off"
    assert judged["baselines"]["other"]["power_off"]["difference"]["verdict"] in ("better", "same", "worse")
    back = concatenate([made.take(np.arange(10)), made.take(np.arange(10, 40))])
    np.testing.assert_array_equal(back.value, made.value)
    assert [len(v) for v in made.to_columns("density").values()] == [40] * 3
    np.testing.assert_array_equal(made.best(), made.value[:, 0])
    with pytest.raises(GsnnError, match="different numbers of draws"):
        concatenate([made, draws(FLAT, 4, 1, count=2)])
    with pytest.raises(GsnnError, match="are no values of"):
        FieldDraws(made.value[:, :, :, :8], FLAT)
    with pytest.raises(GsnnError, match="not finite"):
        FieldDraws(np.full((1, 1, 1, 16, 16), np.nan), FLAT)
    with pytest.raises(GsnnError, match="squares and cubes"):
        measure(np.zeros((1, 1, 4, 8)), Column("oblong", "field", shape=(1, 4, 8)))
