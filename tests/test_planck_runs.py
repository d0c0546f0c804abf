"""The study `planck` from its files to the answer, on a sky by a formula."""

import numpy as np
import planck_files
import pytest

from gsnn.report.band_powers import band_powers
from gsnn.run import run
from gsnn.simulate.planck import PARAMETERS
from gsnn.study import Study

pytestmark = pytest.mark.slow  # fifteen seconds: a whole study with its page

SMALL = (
    "data.source.universes=500", "data.split.fractions=[0.8, 0.1, 0.1]", "train.epochs=2", "train.batch=32",
    "model.width=16", "objective.width=16", "objective.draws=200", "evaluate.baselines=['linear']",
    "evaluate.control=false", "evaluate.resamples=30",
)  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planck")
    planck_files.emulator(folder)
    data = planck_files.band_powers(folder / "data")
    study = Study.load("planck", (*SMALL, f"data.source.emulator={folder / 'emulator'}"))
    return run(study, data=str(data), out=folder / "run")


def test_the_observed_sky_is_answered_and_flagged(done):
    said = done.answer["observed"]["network"]
    assert set(said) == set(PARAMETERS)
    assert done.answer["observed_unlike_training"] is True  # measured without noise, which no sky is
    with np.load(done.path / "posteriors.npz") as kept:
        assert kept["id"][0] == "observed"
        assert kept["draws.network"].shape[1:] == (200, 7)


def test_the_measured_spectra_stand_in_the_report(done):
    with np.load(done.path / "fitted.npz") as kept:
        given = dict(kept)
    assert given["theory"].shape == (3, 2507)
    assert len(given["l"]) == len(given["model"]) == 615
    assert "The measured spectra" in done.report.read_text()
    drawing = band_powers(given)
    np.testing.assert_allclose(drawing.data["pull"], (given["value"] - given["model"]) / given["sigma"])
    assert drawing.alt.startswith("Power spectra TT, TE, EE of 615 bins")
