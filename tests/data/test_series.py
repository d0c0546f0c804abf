"""What must hold for windows of one long series, for their split in time, and for the forecasts of the baselines."""

from __future__ import annotations

import numpy as np
import pytest

from gsnn.config import build
from gsnn.data.readers.series import Windows, steps_ahead
from gsnn.data.schema import Column, Schema
from gsnn.data.split import SplitSettings, split
from gsnn.data.survey import Survey
from gsnn.errors import ConfigError, GsnnError


def table(path, values, time=None):
    time = 1900 + np.arange(len(values)) / 12 if time is None else time
    path.write_text("date,number\n" + "\n".join(f"{t:.5f},{v:.3f}" for t, v in zip(time, values)) + "\n")
    return str(path)


def windows(path, values, **settings):
    settings = {"length": 24, "horizons": (1, 12), **settings}
    return Windows(path=table(path, values), time="date", value="number", missing=[-1], **settings)


@pytest.fixture
def survey(tmp_path):
    source = windows(tmp_path / "n.csv", np.arange(1000.0))
    return Survey.create(tmp_path / "n.survey", source)


def test_a_window_ends_at_its_origin_and_the_target_lies_the_horizon_after_it(tmp_path):
    source = windows(tmp_path / "n.csv", np.arange(100.0))
    rows = source.rows(np.array([0, 60, 76]), 0)
    series = np.array(rows["series"].to_pylist())
    assert len(source) == 77
    assert series[0].tolist() == list(range(24))
    assert rows["ahead_1"].to_pylist()[:2] == [24.0, 84.0]
    assert rows["ahead_12"].to_pylist()[:2] == [35.0, 95.0]
    assert np.isnan(rows["ahead_1"].to_pylist()[2])  # the future is not known
    assert np.allclose(rows["origin"].to_pylist(), 1900 + np.array([23, 83, 99]) / 12, atol=1e-4)
    assert source.schema()["series"].cadence == pytest.approx(1 / 12, rel=1e-3)


def test_missing_values_stay_missing_and_an_unknown_last_value_sets_the_window_aside(tmp_path):
    values = np.arange(100.0)
    values[30] = -1
    rows = windows(tmp_path / "n.csv", values).rows(np.array([6, 7, 8]), 0)
    series = np.array(rows["series"].to_pylist(), float)
    assert np.isnan(rows["ahead_1"].to_pylist()[0])
    assert np.isnan(series[1, -1])
    assert np.isnan(series[2, -2])
    assert [reason is not None for reason in rows["quarantine"].to_pylist()] == [False, True, False]


@pytest.mark.parametrize(
    ("settings", "time", "words"),
    [
        ({}, np.concatenate([np.arange(50), 60 + np.arange(50)]), "steps by 1, but by 11 after 49"),
        ({}, np.zeros(100), "does not grow"),
        ({"length": 200}, None, "has 100 steps and a window needs 200"),
    ],
)
def test_what_is_no_even_series_is_refused(tmp_path, settings, time, words):
    path = table(tmp_path / "n.csv", np.arange(100.0), time)
    with pytest.raises(GsnnError, match=words):
        Windows(path=path, time="date", value="number", **settings)
    with pytest.raises(ConfigError, match="needs a table"):
        Windows(time="date", value="number")


def test_no_month_is_a_target_in_two_parts_and_every_test_lies_after_all_that_was_learned(survey):
    settings = SplitSettings(by="time", column="origin", fractions=(0.6, 0.2, 0.2), gap=1.0)
    parts = split(survey, settings)
    origin = {
        part: survey.view(getattr(parts, part)).columns(["origin"])["origin"] for part in ("train", "valid", "test")
    }
    months = {part: {round(12 * (t - 1900)) + h for t in found for h in (1, 12)} for part, found in origin.items()}
    assert not months["train"] & months["valid"]
    assert not months["valid"] & months["test"]
    assert max(months["train"]) <= round(12 * (origin["valid"].min() - 1900))  # known when the next part begins
    assert max(months["valid"]) <= round(12 * (origin["test"].min() - 1900))
    assert 22 <= parts.dropped <= 24
    assert np.allclose(parts.realised, (0.6, 0.2, 0.2), atol=0.02)
    leaky = split(survey, settings.model_copy(update={"gap": 0.0}))
    first = survey.view(leaky.valid).columns(["origin"])["origin"].min()
    assert survey.view(leaky.train).columns(["ahead_12"])["ahead_12"].max() > 12 * (first - 1900)


def test_a_split_in_time_needs_times(survey):
    with pytest.raises(ConfigError, match="needs column ="):
        split(survey, SplitSettings(by="time"))
    with pytest.raises(ConfigError, match="times are numbers"):
        split(survey, SplitSettings(by="time", column="id"))
    with pytest.raises(ConfigError, match='gap needs by = "time"'):
        split(survey, SplitSettings(by="identity", gap=1.0))
    with pytest.raises(GsnnError, match="dropped by gap"):
        split(survey, SplitSettings(by="time", column="origin", gap=60.0))


class Held:
    """The contract of a View on arrays."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(next(iter(self.data.values())))

    def columns(self, names):
        return {name: self.data[name] for name in names}

    def take(self, positions):
        return Held({name: values[positions] for name, values in self.data.items()})


def fitted(name, values, ahead=12, length=48, **settings):
    start = np.arange(len(values) - length - ahead + 1)
    view = Held(
        {"series": values[start[:, None] + np.arange(length)].astype("f4"), "y": values[start + length + ahead - 1]}
    )
    view.data[f"ahead_{ahead}"] = view.data.pop("y")
    inputs = Schema.of([Column("series", "series", shape=(length,))])
    baseline = build({"name": name, **settings}, "baseline", inputs, Column(f"ahead_{ahead}", "scalar", unit="spots"))
    cut = np.array_split(np.arange(len(view)), 3)
    baseline.fit(view.take(cut[0]), view.take(cut[1]), 0)
    test = view.take(cut[2])
    return baseline, baseline.predict(test)[f"ahead_{ahead}"], test


def test_each_baseline_forecasts_what_it_is_made_for():
    rng, steps = np.random.default_rng(0), np.arange(700)
    cycle = 50 + 30 * np.sin(2 * np.pi * steps / 33) + rng.normal(0, 1.0, 700)
    error = {}
    for name, settings in (("persistence", {}), ("lag", {"period": 33}), ("ridge-ar", {})):
        baseline, prediction, test = fitted(name, cycle, **settings)
        error[name] = float(np.sqrt(np.mean((prediction.mean() - test.data["ahead_12"]) ** 2)))
        assert baseline.describe().endswith("training windows.")
        assert baseline.seconds > 0
        assert len(baseline.predict(test.take(np.arange(0)))["ahead_12"]) == 0
        if name != "persistence":  # which is off by the slope of the cycle, not by noise
            assert 0.5 < error[name] / baseline.sigma < 1.6
    assert error["ridge-ar"] < error["lag"] < 1.7 < 20 < error["persistence"]


def test_persistence_and_lag_look_where_they_say():
    values = np.arange(300.0) ** 1.1
    for ahead in (1, 7, 12):
        _, prediction, test = fitted("persistence", values, ahead)
        assert np.allclose(prediction.mean(), test.data["series"][:, -1])
        _, prediction, test = fitted("lag", values, ahead, period=12)
        assert np.allclose(prediction.mean(), test.data["series"][:, -1 - (12 - ahead)])
    _, prediction, test = fitted("lag", values, 15, period=12)  # two periods back
    assert np.allclose(prediction.mean(), test.data["series"][:, -1 - 9])


def test_a_missing_value_counts_as_the_one_before():
    baseline, _, test = fitted("persistence", np.arange(200.0))
    test.data["series"][:, -1] = np.nan
    assert np.array_equal(baseline.predict(test)["ahead_12"].mean(), test.data["series"][:, -2])


@pytest.mark.parametrize("name", ["persistence", "lag", "ridge-ar"])
def test_what_a_forecast_cannot_answer_is_told(name):
    series, target = Column("series", "series", shape=(24,)), Column("ahead_12", "scalar")
    with pytest.raises(GsnnError, match="need one series"):
        build(name, "baseline", Schema.of([Column("a", "scalar")]), target)
    with pytest.raises(GsnnError, match="need one series"):
        build(name, "baseline", Schema.of([series]), Column("ahead_12", "label", classes=("a", "b")))
    with pytest.raises(GsnnError, match="how many steps ahead"):
        steps_ahead(Column("redshift", "scalar"))
    if name == "lag":
        with pytest.raises(GsnnError, match="reach back so far"):
            build(name, "baseline", Schema.of([series]), target)
