"""Band powers of Planck's layout, skies drawn from an emulator, and posteriors that the likelihood knows."""

import json

import numpy as np
import planck_files
import pytest
from scipy.io import FortranFile

from gsnn.config import build
from gsnn.data.readers.planck import read_planck
from gsnn.data.survey import Survey
from gsnn.emulator import Emulator
from gsnn.errors import ConfigError, GsnnError
from gsnn.simulate.planck import PARAMETERS, Planck

MIDDLE = np.r_[planck_files.MIDDLE, 1.0]


@pytest.fixture(scope="module")
def sky(toy_sky):
    return Planck(path=str(toy_sky[0]), emulator=str(toy_sky[1]), universes=400)


def test_bins_are_weighted_means_of_cl(toy_sky):
    measured = read_planck(toy_sky[0])
    l = np.arange(2, 2509)  # noqa: E741
    flat = np.ones((1, 3, 1)) * (l * (l + 1) / (2 * np.pi))
    np.testing.assert_allclose(measured.binned(flat * np.array([1, 2, 3])[None, :, None])[0], [
        {"tt": 1, "te": 2, "ee": 3}[one] for one in measured.spectrum
    ], rtol=1e-9)  # fmt: skip
    assert (measured.first <= measured.l).all()
    assert (measured.l <= measured.last).all()
    assert measured.first[0] == 2
    assert measured.last[:2].tolist() == [15, 29]


def test_the_truth_of_the_measurement_has_no_misfit_and_calibration_scales(toy_sky):
    measured, spectra = read_planck(toy_sky[0]), planck_files.spectra(planck_files.MIDDLE[None])
    assert measured.log_likelihood(spectra)[0] == pytest.approx(0, abs=1e-6)
    assert measured.log_likelihood(spectra * 1.02, np.sqrt(1.02))[0] == pytest.approx(0, abs=1e-6)
    assert measured.log_likelihood(spectra * 1.02)[0] < -100


def test_the_upper_triangle_is_the_covariance(toy_sky):
    measured = read_planck(toy_sky[0], low=False)
    np.testing.assert_array_equal(measured.covariance, measured.covariance.T)
    near = measured.covariance[0, 1] / np.sqrt(measured.covariance[0, 0] * measured.covariance[1, 1])
    assert near == pytest.approx(0.2)
    assert len(measured.only("tt")) == 215


def broken(folder, what):
    lite = folder / "planck2018_plik_lite"
    if what == "not positive definite":
        with FortranFile(lite / "c_matrix_plik_v22.dat", "w") as file:
            file.write_record(-np.eye(613).ravel())
    elif what == "not 100 numbers":
        with FortranFile(lite / "c_matrix_plik_v22.dat", "w") as file:
            file.write_record(np.eye(10).ravel())
    elif what == "no Fortran record":
        (lite / "c_matrix_plik_v22.dat").write_bytes(b"\x01\x02\x03")
    elif what == "no covariance":
        (lite / "c_matrix_plik_v22.dat").unlink()
    elif what == "has 613 band powers, not 3":
        np.savetxt(lite / "cl_cmb_plik_v22.dat", np.ones((3, 3)))
    elif what == "no band powers at":
        (lite / "blmin.dat").unlink()
    elif what == "beyond the weights":
        np.savetxt(lite / "bweight.dat", np.ones(20))


@pytest.mark.parametrize("what", [
    "not positive definite", "not 100 numbers", "no Fortran record", "no covariance", "has 613 band powers, not 3",
    "no band powers at", "beyond the weights",
])  # fmt: skip
def test_files_that_are_broken_are_refused_in_a_sentence(tmp_path, what):
    folder = planck_files.band_powers(tmp_path / "data")
    broken(folder, what)
    with pytest.raises(GsnnError, match=what):
        read_planck(folder)


def test_an_emulator_refuses_what_it_was_not_taught(toy_sky):
    emulator = Emulator.load(toy_sky[1])
    found = emulator(planck_files.MIDDLE[None])
    np.testing.assert_allclose(found["spectra"], planck_files.spectra(planck_files.MIDDLE[None]), rtol=0.02, atol=2)
    outside = planck_files.MIDDLE.copy()
    outside[5] = 0.3
    with pytest.raises(GsnnError, match=r"tau = 0.3 lies outside the emulator's box, 0.024 to 0.086"):
        emulator(outside[None])
    with pytest.raises(GsnnError, match="takes points of omega_b"):
        emulator(np.zeros((2, 3)))
    with pytest.raises(GsnnError, match="no emulator at"):
        Emulator.load(toy_sky[1] / "nowhere")


def test_skies_are_a_function_of_their_index_and_noise_is_white(sky):
    whole, some = sky.rows(np.arange(400), 2), sky.rows(np.array([301, 5]), 2)
    assert some.select(["id", *PARAMETERS]).equals(whole.take(np.array([301, 5])).select(["id", *PARAMETERS]))
    modes = np.array(whole.column("modes").to_pylist())
    np.testing.assert_allclose(np.array(some.column("modes").to_pylist()), modes[[301, 5]], rtol=1e-4, atol=1e-3)
    assert sky.lost < 0.05
    misfit = whole.column("misfit").to_numpy()
    assert abs(misfit.mean()) < 0.2
    assert 0.8 < misfit.std() < 1.2
    tau = whole.column("tau").to_numpy()
    assert tau.mean() == pytest.approx(0.0544, abs=0.002)
    assert tau.std() == pytest.approx(0.0073, rel=0.15)
    assert sky.rows(np.arange(0), 2).num_rows == 0


def test_modes_keep_the_likelihood(sky):
    """chi^2 between two universes is that of their modes alone: what the other directions hold is below the noise."""
    question = sky.question
    theta = question.prior(np.random.default_rng(0).uniform(0.3, 0.7, (20, 7)))
    pulls = question.measured.pulls(question.predicted(theta))
    whole = ((pulls[1:] - pulls[:1]) ** 2).sum(1)
    modes = sky.seen(pulls)["modes"]
    np.testing.assert_allclose(((modes[1:] - modes[:1]) ** 2).sum(1), whole, rtol=0.01, atol=0.3)


def test_the_observed_sky_is_the_measurement_itself(sky):
    observed = sky.observed()
    assert len(observed) == 1
    row = observed.rows(np.arange(1), 0)
    assert all(np.isnan(row.column(name)[0].as_py()) for name in PARAMETERS)
    assert row.column("misfit")[0].as_py() < -10  # the toy's measurement has no noise at all
    with pytest.raises(IndexError):
        observed.rows(np.array([1]), 0)


def test_the_posterior_of_the_likelihood_covers_and_finds_the_measurement_s_universe(sky, tmp_path):
    view = Survey.create(tmp_path / "s", sky).view()
    inputs, targets = view.schema.select(["modes", "misfit"]), view.schema.select(list(PARAMETERS))
    one = build({"name": "planck-likelihood", "proposals": 1000}, "baseline", inputs, targets)
    one.fit(view, view, 0)
    few = view.take(np.arange(12))
    found, truth = one.predict(few), few.columns(list(PARAMETERS))
    z = np.stack([(found[n].mean() - truth[n]) / found[n].sigma() for n in PARAMETERS], 1)
    assert (abs(z) < 4.5).all()
    assert 0.7 < z.std() < 1.35
    observed = Survey.create(tmp_path / "o", sky.observed()).view()
    said = one.predict(observed)
    for name, true in zip(PARAMETERS, MIDDLE):
        assert abs(said[name].mean()[0] - true) < 1.5 * said[name].sigma()[0], name
    assert "which count" in one.describe()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"path": None}, "band powers are needed"),
        ({"emulator": ""}, "a trained emulator is needed"),
        ({"universes": 0}, "at least one universe"),
        ({"modes": 615}, "have 1 to 614 modes"),
        ({"tau": (0.05, 0.0)}, "widths of the priors are positive"),
    ],
)
def test_settings_that_mean_nothing(toy_sky, given, told):
    with pytest.raises(ConfigError, match=told):
        Planck(**{"path": str(toy_sky[0]), "emulator": str(toy_sky[1]), **given})


def test_a_posterior_needs_more_simulations_than_parameters(sky, tmp_path):
    view = Survey.create(tmp_path / "s", sky).view().take(np.arange(7))

    def make(schema, outputs):
        return build({"name": "mlp", "width": 4, "depth": 1}, "model", schema, outputs)

    objective = build(
        "posterior", "objective", view.schema.select(["modes"]), view.schema.select(list(PARAMETERS)), make
    )
    with pytest.raises(ConfigError, match="7 training simulations cannot teach a posterior of 7 parameters"):
        objective.fit(view)


def test_the_survey_says_from_what_it_was_made(sky):
    about = sky.schema().provenance["measured"]
    again = Planck(**{k: tuple(v) if k == "tau" else v for k, v in json.loads(json.dumps(about)).items()})
    np.testing.assert_allclose(np.abs(np.diag(again.basis.T @ sky.basis)), 1, atol=1e-6)
