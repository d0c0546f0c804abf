"""Real files, as they were published. They are found through GSNN_DATA and are no part of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gsnn.data.cutouts import cutouts
from gsnn.data.readers import read
from gsnn.data.source import QUARANTINE
from gsnn.errors import GsnnError

pytestmark = pytest.mark.real
if not os.environ.get("GSNN_DATA"):
    pytest.skip("set GSNN_DATA to the folder with the real data", allow_module_level=True)
DATA = Path(os.environ["GSNN_DATA"])

TABLES = [  # path, rows, a column, its kind, and its first value
    ("boss_dr10_photoz/boss_dr10_0.csv", 6000, "MAG_U", "scalar", 22.744637),
    ("boss_dr10_photoz", 18000, "Z", "scalar", 0.659822),
    ("htru2/pulsar_stars.csv", 17898, "Mean_of_the_integrated_profile", "scalar", 140.5625),
    ("htru2/pulsar_stars.csv", 17898, "target_class", "scalar", 0),
    ("kepler_koi/cumulative.csv", 9564, "koi_disposition", "label", "CONFIRMED"),
    ("photoz_annz_sdss/sdss.ugriz.train", 5000, "col11", "scalar", 0.0932155),
    ("photoz_dc2_rail/test_dc2_training_9816.hdf5", 10225, "mag_i_lsst", "scalar", None),
    ("eros1_variable_stars/train.csv", 2912, "period", "scalar", 2.35495),
    ("linear_rrlyrae/LINEARattributesFinalApr2013.dat.gz", 6146, "logP", "scalar", None),
    ("linear_rrlyrae/RRLyrae.fit", 483, "Per", "scalar", None),
    ("linear_rrlyrae/allLINEARfinal_targets.dat.gz", 7010, "LP1", "scalar", None),
    ("linear_rrlyrae/table2.dat.gz", 483, "type", "label", "ab"),
    ("linear_rrlyrae/table3.dat.gz", 483, "ra", "position", 0.935679),
    ("sdss_dr7_vollim/vollim_dr7_cbp_102709.fits", 120606, "ra", "position", None),
    ("spcc/spcc_head.parquet", 17186, "sim_type", "label", None),
    ("lamost_dr1_spectra/lamost_sample176.parquet", 176, "flux", "spectrum", None),
    ("sunspots_silso/SN_m_tot_V2.0.csv", 3319, "col4", "scalar", 96.7),
    ("sn_distances/JLA/jla_lcparams.txt", 740, "zcmb", "scalar", 0.503084),
    ("sn_distances/DESY5/DES-SN5YR_HD.csv", 1829, "MU", "scalar", 40.5938),
    ("telescope_logs/ZTF_Fields.txt", 1778, "Gal_Long", "scalar", 303.229),
    ("planck2018/COM_PowerSpect_CMB-TT-full_R3.01.txt", 2507, "Dl", "scalar", 225.895),
    ("lensing_cosmos_ktng/e1.fits", 417117, "e1", "scalar", None),
    ("icecube/icecube86.parquet", 5407, "dom_x", "scalar", None),
    ("sn_lightcurves_real/des_sn5yr_LOWZ/DES-SN5YR_LOWZ_HEAD.FITS.gz", 342, "SUBSURVEY", "label", None),
]


@pytest.mark.parametrize(("path", "rows", "name", "kind", "first"), TABLES)
def test_tables(path: str, rows: int, name: str, kind: str, first: object) -> None:
    source = read(DATA / path)
    assert len(source) == rows
    assert source.schema()[name].kind == kind
    batch = source.rows(np.array([0, rows - 1, rows // 2]), 0)
    assert QUARANTINE not in batch.schema.names
    assert len(set(batch["id"].to_pylist())) == 3
    value = batch[name][0].as_py()
    assert value is not None
    if first is not None:
        assert value == (first if isinstance(first, str) else pytest.approx(first, rel=1e-6))


def test_sdss_table_makes_ids_where_the_objids_were_rounded() -> None:
    (path,) = (DATA / "sdss_dr14_10k").glob("*.csv")
    source = read(path)
    schema = source.schema()
    assert schema["class"].classes == ("GALAXY", "QSO", "STAR")
    assert [schema[name].kind for name in ("ra", "dec", "redshift")] == ["position", "position", "scalar"]
    ids = source.rows(np.arange(len(source)), 0)["id"].to_pylist()
    assert len(set(ids)) == 10000
    assert any("'objid' repeats" in note for note in source.notes)


def test_galaxy_zoo_folders() -> None:
    source = read(DATA / "galaxyzoo2_spirals", crop=212, size=64)
    schema = source.schema()
    assert len(source) == 1400
    column = schema["image"]
    assert (column.shape, column.dtype, column.bands) == (
        (3, 64, 64),
        "uint8",
        ("r", "g", "b"),
    )
    assert schema["label"].classes == ("non_spirals", "spirals")
    batch = source.rows(np.array([0, 700, 1399]), 0)
    assert batch["label"].to_pylist() == ["non_spirals", "spirals", "spirals"]
    assert batch["split"].to_pylist() == ["train"] * 3
    pixels = batch["image"].flatten().to_numpy().reshape(3, 3, 64, 64)
    assert pixels[:, :, 28:36, 28:36].mean() > 2 * pixels[:, :, :4, :4].mean()  # a galaxy stands at the centre


def test_fits_images_and_cube() -> None:
    cube = read(DATA / "fits_images/l1448_13co.fits").schema()["image"]
    assert cube.shape == (53, 105, 105)
    assert cube.pixel_scale == pytest.approx(23.0, rel=0.01)
    mosaic = read(DATA / "fits_images/spitzer_example_image.fits").schema()["image"]
    assert (mosaic.unit, mosaic.pixel_scale) == ("MJy/sr", pytest.approx(1.2))
    folder = read(DATA / "fits_images")
    batch = folder.rows(np.arange(len(folder)), 0)
    reasons = [why for why in batch[QUARANTINE].to_pylist() if why]
    assert len(reasons) == len(folder) - 1
    assert any("most others" in why for why in reasons)


@pytest.mark.parametrize("path", ["gwosc_events/O1_events.json", "icecube/prometheus-events.db"])
def test_other_formats_are_refused_by_name(path: str) -> None:
    with pytest.raises(GsnnError, match=r"JSON|SQLite"):
        read(DATA / path)


def test_cutouts_from_a_galactic_mosaic() -> None:
    """The brightest pixel of the Spitzer mosaic (galactic plate carree) is found again by its equatorial position."""
    from astropy.io import fits
    from astropy.wcs import WCS

    path = DATA / "fits_images/spitzer_example_image.fits"
    with fits.open(path) as hdus:
        data, wcs = np.array(hdus[0].data), WCS(hdus[0].header)
    inner = data[20:-20, 20:-20]
    y, x = np.add(np.unravel_index(np.nanargmax(inner), inner.shape), 20)
    sky = wcs.pixel_to_world(x, y).icrs
    source = cutouts(path, {"ra": [sky.ra.deg, sky.ra.deg + 30], "dec": [sky.dec.deg, sky.dec.deg]}, size=9)
    batch = source.rows(np.arange(2), 0)
    assert [bool(why) for why in batch[QUARANTINE].to_pylist()] == [False, True]
    cut = batch["image"].flatten().to_numpy(zero_copy_only=False).reshape(2, 9, 9)[0]
    np.testing.assert_array_equal(cut, data[y - 4 : y + 5, x - 4 : x + 5])
    column = source.schema()["image"]
    assert (column.unit, column.pixel_scale) == ("MJy/sr", pytest.approx(1.2))
