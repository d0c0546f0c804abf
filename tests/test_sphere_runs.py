"""The study of the whole sky from the question to the report, small; and what a run on spheres answers and shows."""

import json
import sys

import healpy
import numpy as np
import pytest
from typer.testing import CliRunner

from gsnn.cli import app
from gsnn.errors import GsnnError
from gsnn.report import spheres
from gsnn.run import Run
from gsnn.simulate.sphere_fields import SphereFields
from gsnn.study import Study

SMALL = (
    "data.source.maps=300", "data.source.nside=8", "data.split.fractions=[0.6, 0.2, 0.2]", "train.epochs=1",
    "model.width=4", "model.bands=6", "objective.draws=60", "evaluate.control_epochs=1", "evaluate.resamples=50",
    'evaluate.baselines=[{name="power-spectrum", bins=6, grid=12}]',
)  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sky") / "run"
    words = ["run", "full-sky", "--out", str(folder), *(word for one in SMALL for word in ("--set", one))]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    return folder


def test_the_whole_sky_is_answered_beside_its_band_powers(done):
    answer = json.loads((done / "answer.json").read_text())
    assert set(answer["posterior"]) == {"network", "power-spectrum"}
    assert answer["controls"]["permuted"]["chance"] == 0
    page = (done / "report.html").read_text()
    assert "could not be drawn" not in page
    for word in ("Joint coverage", "Simulation-based calibration", "Posterior of lognormal"):
        assert word in page
    audit = {one["check"]: one for one in json.loads((done / "audit.json").read_text())["findings"]}
    assert audit["masked sky"]["level"] == "ok"
    assert "37.5% of sky" in audit["masked sky"]["sentence"]
    assert audit["missing values"]["level"] == "ok"
    with np.load(done / "examples.npz") as file:
        assert file["images"].shape[1:] == (spheres.HEIGHT, 2 * spheres.HEIGHT, 3)


def test_one_sky_is_drawn_and_another_nside_is_refused(done, tmp_path):
    run = Run(done)
    name = str(np.load(done / "examples.npz")["ids"][0])
    assert run.show(name, out=tmp_path / "one.png")["picture"] == str(tmp_path / "one.png")
    for nside in (4, 8):
        (sky,) = SphereFields(maps=3, nside=nside, cut=30.0).rows(np.array([2]), 0)["sky"].to_pylist()
        values = np.nan_to_num(np.array(sky), nan=healpy.UNSEEN)
        healpy.write_map(tmp_path / f"sky{nside}.fits", values, nest=True, column_names=["sky"], dtype=np.float32)
    with pytest.raises(GsnnError, match="column 'sky' has nside 4, expected 8"):
        run.predict(str(tmp_path / "sky4.fits"))
    found = run.predict(str(tmp_path / "sky8.fits")).to_pylist()
    assert len(found) == 1
    assert found[0]["id"] == "sky8"
    assert 0.1 < found[0]["omega_m_prediction" if "omega_m_prediction" in found[0] else "prediction"] < 0.5


def test_without_healpy_the_study_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "healpy", None)
    with pytest.raises(GsnnError, match=r"pip install 'gsnn\[sphere\]'"):
        Study.load("full-sky", SMALL).run(out=tmp_path / "run")


def test_a_picture_has_north_above_and_east_on_the_left():
    nside = 8
    place = spheres.projected(nside, 40)
    assert place.shape == (40, 80)
    assert (place[0, :20] == -1).all()
    assert set(np.unique(place[place >= 0])) == set(range(12 * nside**2))  # every pixel is shown
    from astropy_healpix import healpix_to_lonlat

    lon, lat = (v.to_value("deg") for v in healpix_to_lonlat(np.maximum(place, 0), nside, order="nested"))
    assert lat[1, 40] > 70
    assert lat[-2, 40] < -70
    assert 60 < lon[20, 20] < 120
    assert 240 < lon[20, 60] < 300
    sky = np.where(lat.max() > 0, np.arange(12.0 * nside**2), 0)
    sky[:100] = np.nan
    (picture,) = spheres.pictures(sky[None, None], 40)
    masked = [int(spheres.MASKED[i : i + 2], 16) for i in (1, 3, 5)]
    assert (picture[(place >= 0) & (place < 100)] == masked).all()
    assert (picture[place < 0] == [int(spheres.SPACE[i : i + 2], 16) for i in (1, 3, 5)]).all()
    assert (spheres.pictures(np.full((1, 1, 768), np.nan), 40)[0][place >= 0] == masked).all()
