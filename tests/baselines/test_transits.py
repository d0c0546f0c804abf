"""Box and transit least squares as baselines: they find what is planted, and say what they lack."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from gsnn.baselines.transits import least_squares
from gsnn.config import build
from gsnn.data.detrend import Even, flattened
from gsnn.data.schema import Column, Schema
from gsnn.errors import GsnnError

CADENCE = 1 / 48
TARGET = Column("planet", "label", classes=("planet", "no planet"))
FLUX = Column("flux", "series", shape=(480,), cadence=CADENCE)
INPUTS = Schema.of([Column("teff", "scalar")])


class FakeView:
    """The contract of gsnn.data.survey.View on columns in memory."""

    def __init__(self, schema: Schema, data: dict[str, np.ndarray], rows: np.ndarray):
        self.schema, self.data, self.rows = schema, data, rows

    def __len__(self) -> int:
        return len(self.rows)

    def columns(self, names):
        return {name: self.data[name][self.rows] for name in names}

    def chunks(self, names, size=2048):
        for start in range(0, len(self), size):
            yield {name: self.data[name][self.rows[start : start + size]] for name in names}

    def take(self, positions):
        return FakeView(self.schema, self.data, self.rows[np.asarray(positions)])


def stars(n=60, seed=0):
    """Ten days of white noise, every other star with a transit of 1% that lasts 2.4 hours."""
    chance = np.random.default_rng(seed)
    time = np.arange(480) * CADENCE
    planet = np.arange(n) % 2 == 0
    period, epoch = chance.uniform(1.2, 3, (2, n))
    since = (time - epoch[:, None] + period[:, None] / 2) % period[:, None] - period[:, None] / 2
    flux = 1 - 1e-2 * planet[:, None] * (np.abs(since) < 0.05) + 2e-3 * chance.normal(size=(n, 480))
    flux[:, 200:215] = np.nan
    data = {"flux": flux.astype(np.float32), "planet": np.where(planet, 0, 1), "teff": np.full(n, 5000.0)}
    return FakeView(Schema.of([FLUX, TARGET, *INPUTS.columns]), data, np.arange(n)), period


def test_box_least_squares_tells_planets_from_noise():
    view, _ = stars()
    baseline = build({"name": "bls", "most": 30}, "baseline", INPUTS, TARGET)
    baseline.fit(view.take(np.arange(36)), view.take(np.arange(36, 48)), 0)
    test = view.take(np.arange(48, 60))
    first, again = (baseline.predict(test)["planet"] for _ in range(2))
    assert (first.best() == test.columns(["planet"])["planet"]).mean() > 0.9
    assert np.array_equal(first.probabilities, again.probabilities)
    assert "Box least squares on flux" in baseline.describe()
    assert str(baseline.objects) in baseline.describe()
    assert baseline.objects == 30
    assert baseline.seconds > 0
    assert len(baseline.predict(test.take(np.arange(0)))["planet"]) == 0


def test_a_light_curve_that_cannot_be_searched_still_gets_an_answer():
    view, _ = stars(24)
    view.data["flux"][::5] = np.nan
    baseline = build({"name": "bls"}, "baseline", INPUTS, TARGET)
    baseline.fit(view.take(np.arange(12)), view.take(np.arange(12, 18)), 0)
    p = baseline.predict(view)["planet"].probabilities
    assert np.isfinite(p).all()
    assert np.isnan(baseline.matrix(view)[::5]).all()


def test_says_what_it_lacks(monkeypatch):
    view, _ = stars(8)
    with pytest.raises(GsnnError, match="no light curve 'lc'"):
        build({"name": "bls", "column": "lc"}, "baseline", INPUTS, TARGET).fit(view, view, 0)
    with pytest.raises(GsnnError, match="scalar"):
        build("bls", "baseline", INPUTS, Column("teff", "scalar"))
    with pytest.raises(GsnnError, match="fitted before"):
        build("bls", "baseline", INPUTS, TARGET).predict(view)
    monkeypatch.setitem(sys.modules, "transitleastsquares", None)
    with pytest.raises(GsnnError, match="pip install 'gsnn\\[transits\\]'"):
        build("tls", "baseline", INPUTS, TARGET)


@pytest.mark.slow
def test_transit_least_squares_finds_the_period():
    pytest.importorskip("transitleastsquares")
    view, period = stars(6)
    flat = flattened(Even(0.0, CADENCE, view.data["flux"][0].astype(float)))
    found = least_squares(flat)
    assert found.period == pytest.approx(period[0], rel=5e-3)
    assert found.depth == pytest.approx(1e-2, rel=0.3)
    baseline = build({"name": "tls"}, "baseline", INPUTS, TARGET)
    baseline.fit(view, view, 0)
    assert (baseline.predict(view)["planet"].best() == view.data["planet"]).all()
    with pytest.raises(GsnnError, match="50 observations"):
        least_squares(flat._replace(flux=np.full(480, np.nan)))
