"""Universes of the microwave background: their points, and spectra that physics knows in advance."""

import builtins

import numpy as np
import pytest

from gsnn.errors import ConfigError, GsnnError
from gsnn.simulate import cmb
from gsnn.simulate.cmb import BOX, CMB, MULTIPOLES, PARAMETERS, spectra

FIDUCIAL = np.array([0.02236, 0.1202, 1.04109, 0.9649, 3.045, 0.0544])


@pytest.fixture(scope="module")
def fiducial():
    pytest.importorskip("camb")
    return spectra(FIDUCIAL)


def test_points_fill_the_box_evenly_and_do_not_depend_on_the_length():
    low, high = np.array(list(BOX.values())).T
    theta = CMB(universes=256).parameters(np.arange(256), 3)
    share = (theta - low) / (high - low)
    assert ((share >= 0) & (share <= 1)).all()
    for column in share.T:  # Sobol's points: one in each of 256 equal intervals
        assert (np.bincount((column * 256).astype(int).clip(max=255), minlength=256) == 1).all()
    np.testing.assert_array_equal(CMB(universes=40).parameters(np.array([7, 31]), 3), theta[[7, 31]])
    assert not np.allclose(CMB(universes=256).parameters(np.arange(256), 4), theta)


def test_the_spectra_of_planck_s_universe(fiducial):
    """The first acoustic peak at l = 220.6 (Planck 2018 I, table 5) of 5,733 muK^2, and table 2's derived numbers."""
    tt, te, ee = fiducial["spectra"]
    near = slice(150, 300)
    fit = np.polyfit(MULTIPOLES[200:240], tt[200:240], 2)
    assert -fit[1] / (2 * fit[0]) == pytest.approx(220.6, abs=1.5)
    assert tt[near].max() == pytest.approx(5733, rel=0.01)
    assert (te**2 < tt * ee).all()
    assert fiducial["h0"] == pytest.approx(67.27, abs=0.2)
    assert fiducial["omega_m"] == pytest.approx(0.3166, abs=0.003)
    assert fiducial["sigma_8"] == pytest.approx(0.812, abs=0.002)


def test_amplitude_and_optical_depth_scale_small_scales_by_a_e_minus_two_tau(fiducial):
    """Beyond the horizon of reionisation power goes with A_s exp(-2 tau), but for the little that lensing adds."""
    moved = spectra(FIDUCIAL + np.array([0, 0, 0, 0, 2 * 0.01, 0.01]))["spectra"]
    np.testing.assert_allclose(moved[0, 200:1000] / fiducial["spectra"][0, 200:1000], 1, atol=2e-3)
    assert moved[2, 2] > 1.2 * fiducial["spectra"][2, 2]  # EE of reionisation itself, at l = 4, goes with tau^2


def test_what_camb_refuses_is_set_aside(monkeypatch):
    code = pytest.importorskip("camb")

    def refuses(theta):
        raise code.CAMBError("no\nrecombination")

    monkeypatch.setattr(cmb, "spectra", refuses)
    batch = CMB(universes=3).rows(np.arange(2), 0)
    assert batch.column("quarantine").to_pylist() == ["CAMB: no recombination"] * 2


def test_without_camb_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name == "camb":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(GsnnError, match=r"pip install 'gsnn\[cmb\]'"):
        CMB(universes=2).schema()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"universes": 0}, "at least one universe"),
        ({"tau": (0.1, 0.05)}, "tau rises within"),
        ({"omega_b": (0.0, 0.02)}, "omega_b rises within"),
    ],
)
def test_settings_that_mean_nothing(given, told):
    with pytest.raises(ConfigError, match=told):
        CMB(**given)


def test_rows_are_a_function_of_their_index(monkeypatch):
    pytest.importorskip("camb")
    monkeypatch.setattr(cmb, "spectra", lambda theta: {
        "spectra": np.outer(np.ones(3), MULTIPOLES * theta[0]), "h0": theta[1], "omega_m": theta[2], "sigma_8": 0.8,
    })  # fmt: skip
    source = CMB(universes=20)
    whole, some = source.rows(np.arange(20), 1), source.rows(np.array([11, 3]), 1)
    assert some.equals(whole.take(np.array([11, 3])))
    assert list(PARAMETERS) == list(source.schema())[1:7]
    assert source.rows(np.arange(0), 1).num_rows == 0
    with pytest.raises(IndexError):
        source.rows(np.array([20]), 1)
