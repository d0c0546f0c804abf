"""The simulated stars: pure rows, noise of the covariance that it states, and truths that are true."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.detrend import Even, flattened
from gsnn.data.fold import phase
from gsnn.errors import ConfigError
from gsnn.simulate.stellar_noise import gaussian_process, oscillator, spectrum, wandering
from gsnn.simulate.transit import Orbit
from gsnn.simulate.transits import KINDS, Companion, Star, Transits, light

SUN = Star(1.0, 1.0, 5777.0, 0.35, 0.22)


def drawn(stars=40, **changed):
    return build({"name": "transits", "stars": stars, **changed}, "source")


def test_rows_are_a_function_of_index_and_seed():
    source = drawn()
    batch = source.rows(np.array([5, 2, 7]), 3)
    again = source.rows(np.array([7, 5]), 3)
    rows = [str(row) for row in batch.to_pylist()]  # NaN equals NaN as text
    assert [rows[2], rows[0]] == [str(row) for row in again.to_pylist()]
    assert str(source.rows(np.array([5]), 4).to_pylist()[0]) != rows[0]
    assert batch.schema.names == list(source.schema())
    assert len(source.rows(np.array([], int), 0)) == 0
    with pytest.raises(IndexError):
        source.rows(np.array([40]), 0)


@pytest.fixture(scope="module")
def table():
    return drawn(60).rows(np.arange(60), 1).to_pandas()


def test_all_kinds_are_there_and_have_the_signal_that_they_state(table):
    assert set(table.kind) == set(KINDS)
    assert ((table.planet == "planet") == table.kind.str.contains("planet")).all()
    nothing = table[table.kind == "nothing"]
    assert (nothing.snr == 0).all()
    assert nothing.period.isna().all()
    some = table[table.kind == "planet"]
    assert some.snr.between(3.0, 45).mean() > 0.8
    time, found = np.arange(len(table.flux[0])) / 48, []
    for row in some[some.snr > 8].itertuples():
        flat = flattened(Even(0, 1 / 48, np.asarray(row.flux, float))).flux
        since, _ = phase(time, row.period, row.epoch)
        inside, near = np.abs(since) < row.duration / 2, np.abs(np.abs(since) - 1.5 * row.duration) < row.duration / 2
        found.append(1e6 * (np.nanmean(flat[near]) - np.nanmean(flat[inside])) / row.depth)
    assert np.median(found) == pytest.approx(1, abs=0.25)


def test_a_gap_stands_in_the_middle_and_fluxes_are_near_one(table):
    flux = np.stack(table.flux.to_numpy())
    assert np.isnan(flux[:, 640:675]).all()
    assert np.isfinite(flux).mean() > 0.9
    assert np.abs(np.nanmedian(flux, 1) - 1).max() < 0.1


def test_the_processes_have_the_covariance_of_celerite():
    chance, lags = np.random.default_rng(0), np.array([0, 6, 12, 24])
    steps, cadence = 400, 1 / 48

    def covariance(power):
        many = np.stack([gaussian_process(steps, cadence, power, chance) for _ in range(1200)])
        return np.array([(many[:, : steps - lag] * many[:, lag:]).mean() for lag in lags])

    tau = lags * cadence
    assert covariance(lambda w: wandering(w, 2.0, 0.3)) == pytest.approx(4 * np.exp(-tau / 0.3), abs=0.35)
    quality, period = 6.0, 1.0
    w0 = 2 * np.pi / period
    eta = np.sqrt(1 - 1 / (4 * quality**2))
    angle = eta * w0 * tau
    expected = np.exp(-w0 * tau / 2 / quality) * (np.cos(angle) + np.sin(angle) / (2 * eta * quality))
    assert covariance(lambda w: oscillator(w, 1.0, period, quality)) == pytest.approx(expected, abs=0.12)
    omega = np.linspace(0.1, 100, 50)
    assert (spectrum(omega, granulation=1e-4, rotation=1e-3, period=9.0, drift=1e-4) > 0).all()


def test_a_binary_has_two_eclipses_and_other_light_makes_them_shallow():
    orbit = Orbit(*(torch.tensor([v], dtype=torch.float64) for v in (4.0, 1.0, 12.0, 0.1, 0.0, 0.0)))
    time = np.linspace(0, 4, 400, endpoint=False)
    pair = Companion(orbit, 0.6, light=0.25)
    flux = light(time, SUN, pair, 0.02)
    assert flux[100] == flux.min() < 0.8
    assert flux[300] == pytest.approx(1 / 1.25, abs=2e-3)  # the companion is hidden whole
    assert flux[200] == 1
    blended = light(time, SUN, Companion(orbit, 0.6, light=0.25, share=0.1), 0.02)
    assert 1 - blended == pytest.approx(0.1 * (1 - flux))
    waves = light(time, SUN, Companion(orbit, 0.6, light=0.25, waves=0.01), 0.02)
    assert waves[200] == pytest.approx(1.01)  # at quadrature the stars show their long sides
    assert waves[150] == pytest.approx(1.0)
    planet = light(time, SUN, Companion(orbit, 0.1), 0.02)
    assert planet[300] == 1
    assert 1 - planet.min() == pytest.approx(0.0118, abs=1e-3)


@pytest.mark.parametrize(
    ("wrong", "about"),
    [
        ({"stars": 0}, "at least one star"),
        ({"days": 2.0}, "5 to 1500 days"),
        ({"periods": [1.0, 20.0]}, "two transits"),
        ({"snr": [9.0, 3.0]}, "before the high one"),
        ({"fractions": [1.0, 0.5, 0.0, 0.0, 0.0]}, "add up to 1"),
    ],
)
def test_says_what_cannot_be_drawn(wrong, about):
    with pytest.raises(ConfigError, match=about):
        Transits(**{"stars": 4, **{k: tuple(v) if isinstance(v, list) else v for k, v in wrong.items()}})
