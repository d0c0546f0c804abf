"""Planets of real stars in the light curves of Kepler and TESS: found by the search, checked with published periods."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gsnn.data.detrend import flattened
from gsnn.data.fold import phase
from gsnn.data.transit_candidates import TransitCandidates
from gsnn.data.transit_search import masked, search, single_dips

pytestmark = pytest.mark.real
if not os.environ.get("GSNN_DATA"):
    pytest.skip("set GSNN_DATA to the folder with the real data", allow_module_level=True)
DATA = Path(os.environ["GSNN_DATA"]) / "kepler_tess_fits"


@pytest.mark.parametrize(
    ("pattern", "period"),
    [("kplr010666592*_slc.fits", 2.2047354), ("hlsp_tess-data-alerts*00025155310*_lc.fits", 3.2888)],
    ids=["HAT-P-7 b (Pal et al. 2008)", "WASP-126 b (Maxted et al. 2016)"],
)
def test_a_hot_jupiter_is_found_with_its_period(pattern, period):
    (path,) = DATA.glob(pattern)
    batch = TransitCandidates(of={"name": "files", "path": str(path)}).rows(np.arange(1), 0)
    row = batch.to_pylist()[0]
    assert row["bls_period"] == pytest.approx(period, rel=1e-3)
    assert row["bls_sde"] > 10
    assert row["odd_even"] < 3


def test_long_period_planets_of_kepler_90_are_single_dips():
    source = TransitCandidates(of={"name": "files", "path": str(DATA / "kepler90")}, cadence_minutes=29.4244)
    (curve,) = source.curves(source.source.rows(np.arange(1), 0))
    flat = flattened(curve, window=2.5)
    first, second, *_ = single_dips(flat, durations=(0.15, 0.25, 0.4, 0.6), least=5.0)
    for dip, (period, epoch), depth in (
        (first, (331.597, 140.499), 8e-3),  # Kepler-90 h
        (second, (210.601, 147.057), 4e-3),  # Kepler-90 g, whose times vary by hours
    ):
        assert abs(phase(np.array([dip.epoch]), period, epoch)[0][0]) < 0.3
        assert dip.depth == pytest.approx(depth, rel=0.3)
        assert dip.snr > 30
        flat = masked(flat, dip, width=2.0)
    found = search(flat, shortest=3.0, longest=130.0, durations=(0.15, 0.25, 0.4, 0.6))[0]
    assert found.period == pytest.approx(59.737, rel=2e-3)  # Kepler-90 d
