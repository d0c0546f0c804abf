"""Light curves and alert packets as they were published, counted against what their publishers say."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gsnn.data.light_curves import LightCurves
from gsnn.data.readers import read
from gsnn.data.source import QUARANTINE

pytestmark = pytest.mark.real
if not os.environ.get("GSNN_DATA"):
    pytest.skip("set GSNN_DATA to the folder with the real data", allow_module_level=True)
DATA = Path(os.environ["GSNN_DATA"])

SUPERNOVAE, REAL, LINEAR = DATA / "spcc", DATA / "sn_lightcurves_real", DATA / "linear_rrlyrae"
EROS, ZTF = DATA / "eros1_variable_stars", DATA / "ztf_dr5_lightcurves" / "ztf_000250_zg_c01_q1_dr5.parquet"
S82 = ["ra", "dec", *(f"{word}_{band}" for band in "ugriz" for word in ("mjd", "mag", "err"))]
REPEATED = "two observations in one band have the same time"
FILES = {  # what to read, how, objects, observations, bands, and why objects are set aside
    "spcc": ([SUPERNOVAE / "spcc_head.parquet", SUPERNOVAE / "spcc_obs.parquet"], {}, 17186, 1_653_415, "griz",
             {"an error of the flux is not positive": 1}),
    "pantheonplus": ([REAL / "pantheonplus_heads.parquet", REAL / "pantheonplus_obs.parquet"], {}, 1102, 66_401, "griz",
                     {REPEATED: 4, "the light curve has no observation": 3}),
    "des-foundation": (REAL / "des_sn5yr_Foundation", {}, 185, 6195 - 185, "griz", {REPEATED: 2}),
    "des-lowz": (REAL / "des_sn5yr_LOWZ", {}, 342, 36_974 - 342, 30, {REPEATED: 97}),
    "eros": (EROS / "train.csv", {"labels": EROS / "train_varlength_features.csv.gz", "on": "col1"}, 2912,
             346_171 + 342_342, "br", {}),
    "stripe-82": (LINEAR / "table1.tar.gz", {"names": S82}, 483, 5 * 28_449 - 6049 - 54, "ugriz", {REPEATED: 2}),
    "sparc": (DATA / "sparc_rotmod" / "Rotmod_LTG.zip", {}, 175, 4 * 3391, 4, {}),
    "ztf-dr5": (ZTF, {}, 5449, 106_588, "gri", {REPEATED: 887}),
    "ztf-dr5-combined": (ZTF, {"light_curve": {"repeated": "combine"}}, 5449, None, "gri", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_light_curves(name: str) -> None:
    path, how, objects, observations, bands, aside = FILES[name]
    source = read(path, **how)
    batch = source.rows(np.arange(len(source)), 0)
    assert len(source) == objects
    reasons = batch[QUARANTINE].to_pylist() if QUARANTINE in batch.schema.names else []
    assert Counter(reason for reason in reasons if reason) == aside
    column = source.schema().of_kind("light_curve")[0]
    assert column.bands == tuple(bands) if isinstance(bands, str) else len(column.bands) == bands
    curves = LightCurves.from_arrow(batch[column.name])
    assert observations is None or len(curves.flux) == observations
    if "nepochs" in batch.schema.names and observations:
        np.testing.assert_array_equal(curves.lengths, batch["nepochs"].to_numpy())
    if "nobs" in batch.schema.names:
        np.testing.assert_array_equal(curves.lengths, batch["nobs"].to_numpy())


def test_galaxies_of_sparc_have_their_distance() -> None:
    source = read(DATA / "sparc_rotmod" / "Rotmod_LTG.zip")
    batch = source.rows(np.arange(175), 0)
    at = batch["id"].to_pylist().index("CamB")
    assert batch["Distance"][at].as_py() == 3.36
    curve = LightCurves.from_arrow(batch["light_curve"])[at]
    np.testing.assert_allclose(curve.flux[curve.band == 0][:2], [1.99, 4.84], rtol=1e-6)
    np.testing.assert_allclose(curve.time[curve.band == 0][:2], [0.16, 0.41])


def test_kepler_90_is_stitched_of_three_quarters() -> None:
    source = read(DATA / "kepler_tess_fits" / "kepler90")
    batch = source.rows(np.arange(1), 0)
    curve = LightCurves.from_arrow(batch["light_curve"])[0]
    assert batch["id"].to_pylist() == ["KIC 11442793"]
    assert (batch["parts"].to_pylist(), batch["left_out"].to_pylist()) == ([3], [None])
    whole = 4370 - 236 + 1021 - 13 + 4634 - 148  # cadences with a flux; of those none is flagged as unusable
    assert len(curve.time) == whole
    assert np.diff(curve.time).min() > 0.02
    assert 275 < np.ptp(curve.time) < 280
    assert np.median(curve.flux) == pytest.approx(1, abs=1e-4)
    assert 1e-5 < np.median(curve.flux_error) < 1e-3
    assert source.schema()["light_curve"].epoch == "BJD 2454833"


def test_single_products_of_kepler_and_tess() -> None:
    folder = DATA / "kepler_tess_fits"
    tess = read(folder / "hlsp_tess-data-alerts_tess_phot_00025155310-s01_tess_v1_lc.fits")
    kepler = read(folder / "kplr010666592-2009131110544_slc.fits")
    for source, star, epoch, least in (
        (tess, "TIC 25155310", "BJD 2457000", 18_000),
        (kepler, "KIC 10666592", "BJD 2454833", 14_000),
    ):
        batch = source.rows(np.arange(1), 0)
        assert batch["id"].to_pylist() == [star]
        assert source.schema()["light_curve"].epoch == epoch
        assert LightCurves.from_arrow(batch["light_curve"]).lengths[0] > least


@pytest.mark.parametrize(("name", "rows", "missing"), [("d", 75_818, 3247), ("m", 3319, 0), ("ms", 3319, 12)])
def test_sunspot_numbers(name: str, rows: int, missing: int) -> None:
    """Dashes and -1 stand for no value; the numbers of the year are in order."""
    source = read(DATA / "sunspots_silso" / f"SN_{name}_tot_V2.0.csv", missing=[-1])
    assert len(source) == rows
    number, year = ("col5", "col4") if name == "d" else ("col4", "col3")
    batch = source.rows(np.arange(rows), 0)
    assert batch[number].null_count == missing
    assert (np.diff(batch[year].to_numpy()) > 0).all()


PACKETS = [  # folder, packets, side of a stamp, bands
    ("ztf_alerts/20200202", 12, 63, ("g", "r", "i")),
    ("ztf_alerts/20231012", 24, 63, ("g", "r", "i")),
    ("ztf_official_samples", 2, 63, ("g", "r", "i")),
    ("pgir_alerts", 17, 61, ("J",)),
    ("wntr_alerts", 11, 81, ("Y", "J", "H")),
]


@pytest.mark.parametrize(("folder", "count", "side", "bands"), PACKETS)
def test_alert_packets(folder: str, count: int, side: int, bands: tuple[str, ...]) -> None:
    pytest.importorskip("fastavro")
    source = read(DATA / "alert_packets_avro" / folder)
    batch = source.rows(np.arange(count), 0)
    assert len(source) == count
    assert QUARANTINE not in batch.schema.names
    assert source.schema()["stamps"].shape == (3, side, side)
    assert source.schema()["light_curve"].bands == bands
    curves = LightCurves.from_arrow(batch["light_curve"])
    assert curves.lengths.min() >= 1
    assert 58000 < curves.time.min() < curves.time.max() < 60500
    stamps = np.array(batch["stamps"].flatten()).reshape(count, 3, side, side)
    assert np.isfinite(stamps).mean() > 0.85  # WINTER's have NaN in them
    assert np.nanmean(np.abs(stamps[:, 0] - stamps[:, 2])) > 0  # science is not the difference


def test_forced_photometry_of_ztf_is_used() -> None:
    """Schema 4.01 has 258 measured forced fluxes in these 24 packets (statuses 0 and 56); older packets have none."""
    fastavro = pytest.importorskip("fastavro")
    status = Counter()
    for path in sorted((DATA / "alert_packets_avro" / "ztf_alerts/20231012").iterdir()):
        with open(path, "rb") as file:
            (record,) = fastavro.reader(file)
        status.update(one["procstatus"] for one in record["fp_hists"] or [])
    assert status == {"0": 242, "56": 16, "61": 153, "55": 5}
    batch = read(DATA / "alert_packets_avro" / "ztf_alerts/20231012").rows(np.arange(24), 0)
    assert len(LightCurves.from_arrow(batch["light_curve"]).flux) >= 258
