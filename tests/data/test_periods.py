"""Periods that were put into light curves are found, whatever the bands, the gaps and the zero point of time."""

import numpy as np
import pytest

from gsnn.data.light_curves import LightCurves
from gsnn.data.periods import best_periods


def waves(period, n=80, noise=0.1, bands=2, start=0.0, seed=0):
    random = np.random.default_rng(seed)
    time = np.sort(random.uniform(0, 200, n)) + start
    band = np.arange(n) % bands
    flux = 18 + band + (0.5 - 0.2 * band) * np.sin(2 * np.pi * time / period + band) + noise * random.normal(size=n)
    return time, flux, np.full(n, noise), band


@pytest.mark.parametrize("period", [0.137, 0.61, 3.3, 27.0])
def test_a_period_is_found_to_a_small_part_of_the_phase(period):
    found, share = best_periods(LightCurves.of([waves(period), waves(period, start=59000.0, seed=1)]))
    drift = 200 * np.abs(1 / found - 1 / period)  # turns over the span
    assert drift.max() < 0.1
    assert share.min() > 0.75


def test_two_bands_find_what_one_does_not():
    faint = [waves(0.83, n=44, noise=0.42, seed=s) for s in range(12)]
    one = [tuple(part[curve[3] == 0] for part in curve) for curve in faint]
    right = [
        (np.abs(200 / best_periods(LightCurves.of(curves))[0] - 200 / 0.83) < 0.3).sum() for curves in (one, faint)
    ]
    assert right[1] > right[0]


def test_an_object_does_not_depend_on_its_company_and_noise_explains_little():
    noise = np.random.default_rng(1)
    quiet = (np.arange(60.0), 18 + 0.1 * noise.normal(size=60), np.full(60, 0.1), np.zeros(60, int))
    curves = LightCurves.of([waves(2.0), quiet])
    together, share = best_periods(curves)
    alone, _ = best_periods(curves.take([0]))
    assert together[0] == alone[0]
    assert share[1] < 0.5 < share[0]


def test_what_has_no_period():
    few = (np.arange(3.0), np.ones(3), np.ones(3), np.zeros(3, int))
    flat = (np.arange(20.0), np.ones(20), np.ones(20), np.zeros(20, int))
    period, share = best_periods(LightCurves.of([few, flat]))
    assert np.isnan(period).all()
    assert np.isnan(share).all()
    none, _ = best_periods(LightCurves.of([]))
    assert none.shape == (0,)
