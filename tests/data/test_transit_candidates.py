"""Light curves made flat, folded and searched for transits: what must survive, and what must be refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from gsnn.config import PARTS, build
from gsnn.data.detrend import Even, even, flattened, noise, running_biweight, stretches
from gsnn.data.fold import GLOBAL, LOCAL, binned, phase, views
from gsnn.data.light_curves import LightCurve, LightCurves
from gsnn.data.schema import Column, Schema
from gsnn.data.transit_candidates import FACTS, TransitCandidates
from gsnn.data.transit_search import masked, period_grid, search, single_dips
from gsnn.errors import ConfigError, GsnnError

CADENCE = 1 / 48


def curve(days=20.0, depth=1e-2, period=3.1, epoch=1.0, lasts=0.12, sigma=5e-4, slow=0.0, odd=1.0, seed=0) -> Even:
    """Box transits on white noise and a slow wave; ``odd`` scales every second transit."""
    chance = np.random.default_rng(seed)
    time = np.arange(round(days / CADENCE)) * CADENCE
    since, number = phase(time, period, epoch)
    dip = depth * (np.abs(since) < lasts / 2) * np.where(number % 2, odd, 1.0)
    flux = (1 + slow * np.sin(2 * np.pi * time / 7)) * (1 - dip) + sigma * chance.normal(size=len(time))
    return Even(0.0, CADENCE, flux)


def test_an_even_grid_holds_means_and_leaves_gaps():
    time = np.array([10.0, 10.001, 10.002, 10.02, 10.1, np.nan, 10.11])
    flux = np.array([1.0, 2.0, 3.0, 5.0, 7.0, 9.0, np.nan])
    found = even(time, flux, 0.02)
    assert found.flux[:2].tolist() == [2.0, 5.0]
    assert np.isnan(found.flux[2:5]).all()
    assert found.flux[5] == 7.0
    assert np.allclose(found.time[5], 10.1)
    with pytest.raises(GsnnError, match="no observation"):
        even(np.array([1.0]), np.array([np.nan]), 0.02)


def test_the_trend_is_taken_and_the_transit_is_kept():
    found = flattened(curve(slow=0.005, sigma=1e-4))
    since, _ = phase(found.time, 3.1, 1.0)
    inside, away = np.abs(since) < 0.05, np.abs(since) > 0.3
    assert np.nanmedian(found.flux[inside]) == pytest.approx(0.99, abs=5e-4)
    assert np.nanstd(found.flux[away]) < 4e-4
    assert np.isfinite(found.flux).mean() > 0.98


def test_a_gap_is_never_bridged_and_each_stretch_has_its_own_level():
    one = curve(depth=0)
    flux = one.flux.copy()
    flux[400:480] = np.nan
    flux[480:] *= 1.7  # another quarter, another detector
    assert [(p.start, p.stop) for p in stretches(flux, 24)] == [(0, 400), (480, 960)]
    found = flattened(one._replace(flux=flux))
    assert np.isnan(found.flux[400:480]).all()
    assert np.nanmax(np.abs(found.flux - 1)) < 4e-3
    assert stretches(np.full(9, np.nan), 2) == []
    assert np.isnan(flattened(Even(0, CADENCE, np.full(99, np.nan))).flux).all()


def test_only_what_lies_above_is_an_outlier():
    one = curve(depth=0)
    flux = one.flux.copy()
    flux[[100, 300]] = 1.05, 0.95
    found = flattened(one._replace(flux=flux)).flux
    assert np.isnan(found[100])
    assert found[300] == pytest.approx(0.95, abs=2e-3)


def test_the_biweight_ignores_what_is_far_away_and_needs_enough_points():
    flux = torch.ones(1, 101, dtype=torch.float64) + 1e-3 * torch.randn(1, 101, dtype=torch.float64)
    flux[0, 48:53] = 9.0
    assert (running_biweight(flux, 41) - 1).abs().max() < 2e-3
    flux[0, :60] = torch.nan
    trend = running_biweight(flux, 21)
    assert torch.isnan(trend[0, :50]).all()
    assert torch.isfinite(trend[0, 70:]).all()


def test_noise_is_blind_to_slow_changes():
    assert noise(curve(slow=0.005, depth=0).flux) == pytest.approx(5e-4, rel=0.1)
    assert np.isnan(noise(np.full(5, np.nan)))


def test_folding_puts_transits_at_zero_and_counts_them():
    since, number = phase(np.array([1.0, 4.1, 7.3, 2.54, 2.56]), 3.1, 1.0)
    assert np.allclose(since, [0, 0, 0.1, 1.54, -1.54])
    assert number.tolist() == [0, 1, 2, 0, 1]
    means = binned(np.array([-0.9, -0.8, 0.9, 2.0]), np.array([1.0, 3.0, 5.0, 9.0]), 1.0, 4)
    assert means[[0, 3]].tolist() == [2.0, 5.0]
    assert np.isnan(means[1:3]).all()


def test_views_are_in_units_of_their_noise_and_tell_odd_from_even():
    one = curve(depth=5e-3, odd=0.4, days=60)
    whole, local = views(one.time, one.flux, 3.1, 1.0, 0.12, 5e-4)
    assert whole.shape == (1, GLOBAL)
    assert local.shape == (3, LOCAL)
    scatter = np.nanstd(np.r_[whole[0, :80], whole[0, 120:]])
    assert scatter == pytest.approx(1, abs=0.25)
    middle = np.nanmean(local[:, 28:33], 1)
    assert middle[1] / middle[2] == pytest.approx(0.4, abs=0.1)
    nothing = views(one.time, np.full(len(one.time), np.nan), 3.1, 1.0, 0.12, 5e-4)
    assert all(np.isnan(view).all() for view in nothing)


def test_trial_periods_are_close_enough_for_the_duration():
    periods = period_grid(27.0, 0.6, 13.0)
    assert periods[[0, -1]] == pytest.approx([0.6, 13.0])
    assert (np.diff(periods) > 0).all()
    shift = np.diff(periods) * 27.0 / periods[:-1]  # days, at the end of the light curve
    assert (shift < 0.075 * periods[:-1] ** (1 / 3)).all()  # half of a central transit of the Sun, 3.6 h at 3 d
    with pytest.raises(GsnnError, match="longer light curve"):
        period_grid(1.0, 0.6, 0.5)


def test_the_search_finds_planets_one_after_the_other():
    one, two = curve(depth=3e-3, period=3.1), curve(depth=1.5e-3, period=1.87, epoch=0.4, sigma=0)
    flat = flattened(one._replace(flux=one.flux * two.flux))
    first = search(flat, candidates=3)
    assert len(first) == 3
    assert first[0].period == pytest.approx(3.1, rel=3e-3)
    assert abs(phase(np.array([first[0].epoch]), 3.1, 1.0)[0][0]) < 0.04
    assert first[0].depth == pytest.approx(3e-3, rel=0.2)
    assert first[0].sde > 8
    assert search(masked(flat, first[0]))[0].period == pytest.approx(1.87, rel=3e-3)
    assert search(flattened(curve(depth=0)))[0].sde < 8
    with pytest.raises(GsnnError, match="50 observations"):
        search(Even(0, CADENCE, np.r_[np.ones(20), np.full(80, np.nan)]))


def test_single_dips_are_found_once_and_not_beside_gaps():
    one = curve(depth=0, sigma=3e-4, days=30)
    flux = one.flux.copy()
    flux[500:510] -= 4e-3
    flux[700:720] = np.nan
    flux[720:722] -= 6e-3
    found = single_dips(one._replace(flux=flux), durations=(0.1, 0.2, 0.4))
    assert len(found) == 1
    assert found[0].epoch == pytest.approx(504.5 * CADENCE, abs=2 * CADENCE)
    assert found[0].duration == 0.2
    assert single_dips(one, durations=(0.1, 0.2)) == []


class Fake:
    """A source of two irregular light curves, of which the second is empty."""

    def schema(self):
        return Schema.of([Column("id", "id"), Column("lc", "light_curve", bands=("Kepler",), time_unit="d")])

    def __len__(self):
        return 2

    def rows(self, indices, seed):
        one = curve(depth=4e-3)
        some = np.random.default_rng(1).uniform(size=len(one.flux)) > 0.1
        whole = LightCurve(one.time[some] + 131.5, 7e3 * one.flux[some], np.ones(some.sum()), np.zeros(some.sum()))
        curves = LightCurves.of([(whole, [part[:9] for part in whole])[i] for i in indices])
        ids = pa.array([f"s{i}" for i in indices])
        return pa.RecordBatch.from_arrays([ids, curves.to_arrow()], schema=self.schema().arrow())


def test_any_source_of_light_curves_gets_candidates(monkeypatch):
    monkeypatch.setitem(PARTS["source"], "fake", f"{__name__}:Fake")
    monkeypatch.setitem(__import__("sys").modules, __name__, type("M", (), {"Fake": Fake}))
    source = build({"name": "transit-candidates", "of": {"name": "fake"}, "candidates": 2}, "source")
    assert len(source) == 2
    batch = source.rows(np.array([0, 1]), 0)
    reasons = batch.column("quarantine").to_pylist()
    assert reasons[0] is None
    assert "50 observations" in reasons[1]
    row = batch.to_pylist()[0]
    assert row["bls_period"] == pytest.approx(3.1, rel=3e-3)
    assert abs(phase(np.array([row["bls_epoch"]]), 3.1, 132.5)[0][0]) < 0.05
    assert row["odd_even"] < 4
    assert row["secondary"] < 5
    assert {name for name, _, _ in FACTS} < set(row)
    assert np.shape(row["orbit"]) == (2 * GLOBAL,)
    assert np.shape(row["transit"]) == (6 * LOCAL,)
    assert batch.schema.names[:-1] == list(source.schema())


def test_a_source_without_a_light_curve_is_refused():
    with pytest.raises(ConfigError, match="has none"):
        TransitCandidates(of={"name": "galaxies", "objects": 3})
    with pytest.raises(ConfigError, match="'flux'"):
        TransitCandidates(of={"name": "transits", "stars": 3}, column="lc")
    with pytest.raises(ConfigError, match="at least one candidate"):
        TransitCandidates(of={"name": "transits", "stars": 3}, candidates=0)
