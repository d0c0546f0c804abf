"""Fields of weak lensing: haloes against closed forms, maps against the halo model, surveys with noise and mask."""

import json

import numpy as np
import pytest
import torch
from shear_files import survey

from gsnn.config import build
from gsnn.data.readers.shear_catalogue import ShearOfMap, binned, catalogue, groups, noise_of
from gsnn.data.schema import Schema
from gsnn.data.shear import ARCMIN, convergence_of, multipoles, shear_of
from gsnn.data.source import Source
from gsnn.errors import ConfigError, GsnnError
from gsnn.simulate.halo_model import Universe, bias, growth, profile
from gsnn.simulate.lensing import Lensing, Sky, footprint

SMALL = {"name": "lensing", "side": 32, "pixel": 1.0, "margin": 8, "maps": 6}


def test_growth_is_that_of_einstein_and_de_sitter_without_dark_energy():
    z = np.array([0.0, 0.5, 2.0])
    np.testing.assert_allclose(growth(z, 1.0), 1 / (1 + z), rtol=1e-6)
    assert (growth(z[1:], 0.3) > 1 / (1 + z[1:])).all()


@pytest.mark.parametrize("c", [3.0, 10.0])
def test_the_profile_of_a_halo_is_the_transform_of_nfw(c):
    r = np.linspace(1e-4, c, 20001)
    rho = r / (1 + r) ** 2  # r^2 rho
    for x in (1e-4, 0.5, 3.0):
        wanted = np.trapezoid(rho * np.sinc(x * r / np.pi), r) / np.trapezoid(rho, r)
        assert float(profile(np.array([x]), c)[0]) == pytest.approx(wanted, abs=2e-4)


def test_haloes_hold_less_than_all_matter_and_follow_it():
    universe = Universe(0.3, 0.8, 1.0, 1e12)
    share = (universe.number * universe.strength).sum() / universe.empty
    assert 0.1 < share < 0.6
    mean, followed = universe.followed
    assert 1 < mean < 3
    assert followed == pytest.approx(mean * share)
    assert bias(np.array([1.686 / 3])) > 4 > 1 > bias(np.array([1.686 / 0.5]))[0]


def test_more_and_farther_matter_bends_more():
    both = np.array([300.0, 3000.0])
    middle = Universe(0.3, 0.8, 1.0, 2e12)
    np.testing.assert_allclose(Universe(0.3, 0.88, 1.0, 2e12).linear(both), 1.21 * middle.linear(both), rtol=1e-6)
    assert (Universe(0.3, 0.8, 1.4, 2e12).spectrum(both) > middle.spectrum(both)).all()
    assert (middle.spectrum(both) > 0.5 * middle.linear(both)).all()


def test_maps_have_the_power_of_the_halo_model_no_mean_and_peaks():
    grid, pixel = 128, 1.0
    universe, sky = Universe(0.3, 0.84, 1.4, 1e13), Sky(grid, pixel)
    maps = torch.stack([sky.draw(universe, row, 0) for row in range(24)]).numpy()
    multipole = multipoles(grid, pixel).numpy()
    power = (abs(np.fft.rfft2(maps)) ** 2).mean(0) / grid**2 * (pixel * ARCMIN) ** 2
    for low, high in ((400, 1000), (1000, 3000), (3000, 7000)):
        some = (multipole > low) & (multipole < high)
        assert power[some].mean() == pytest.approx(universe.spectrum(multipole[some]).mean(), rel=0.2)
    assert abs(maps.mean()) < 0.002
    assert ((maps - maps.mean()) ** 3).mean() / maps.std() ** 3 > 1
    assert maps.min() > -universe.empty


def test_is_a_source_whose_rows_are_the_same_alone_and_in_company():
    source = build(SMALL, "source")
    assert isinstance(source, Source)
    batch = source.rows(np.arange(6), 3)
    assert Schema.from_arrow(batch.schema).columns == source.schema().columns
    again = source.rows(np.array([4, 1]), 3)
    for name in batch.schema.names:
        for place, row in enumerate((4, 1)):
            assert again[name][place].as_py() == batch[name][row].as_py()
    assert len(set(batch["id"].to_pylist())) == 6
    assert batch["kappa"][0].as_py() != source.rows(np.arange(1), 4)["kappa"][0].as_py()
    with pytest.raises(IndexError):
        source.rows(np.array([6]), 3)


def maps_of(batch, name, side):
    return np.array(batch[name].to_pylist()).reshape(len(batch), -1, side, side)


def test_the_shear_is_that_of_the_map_under_mask_and_noise():
    source = build(SMALL | {"margin": 0, "shape_noise": 0.01, "density": 1e6}, "source")
    batch = source.rows(np.arange(3), 0)
    shear, noise, kappa = (maps_of(batch, name, 32) for name in ("shear", "noise", "kappa"))
    assert (shear[np.broadcast_to(noise == 0, shear.shape)] == 0).all()
    assert 0.4 < (noise > 0).mean() < 0.95
    clean = shear_of(torch.tensor(kappa[:, 0])).numpy() * (noise > 0)
    assert abs(shear - clean).max() < 6 * noise.max()
    wide = build(SMALL | {"margin": 0}, "source").rows(np.arange(3), 0)
    left = (maps_of(wide, "shear", 32) - clean)[np.broadcast_to(noise > 0, shear.shape)]
    assert left.std() == pytest.approx(0.305 / 71**0.5, rel=0.1)


def test_masks_differ_from_row_to_row():
    masks = footprint(64, 1.0, torch.arange(3), 0)
    assert (masks[0] != masks[1]).any()
    assert set(np.unique(masks)) == {0.0, 1.0}
    assert (masks[:, 0] == 0).all()
    assert (masks[:, 32, 16:48].mean(1) > 0.5).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"side": 15}, "even number"),
        ({"omega_m": [0.4, 0.3]}, "omega_m lies within"),
        ({"actual": True}, "needs the folder"),
        ({"path": "/nowhere/at-all"}, "one folder with std1.fits"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, said):
    with pytest.raises((ConfigError, GsnnError), match=said):
        build(SMALL | wrong, "source").rows(np.arange(1), 0)


@pytest.fixture
def folder(tmp_path):
    """A small survey, and its values."""
    return tmp_path, survey(tmp_path)


def test_a_catalogue_is_the_mean_in_each_pixel_with_the_second_component_turned(folder):
    path, values = folder
    at, count = values["at"], values["count"]
    shear, noise, middle = catalogue(path)
    assert middle == (np.median(values["ra"]), np.median(values["dec"]))
    np.testing.assert_allclose(noise, values["std1"], atol=1e-12)
    mine = (at[0] == 11) & (at[1] == 17)
    assert count[11, 17] == mine.sum() > 0
    assert shear[0, 11, 17] == pytest.approx(values["e1"][mine].mean())
    assert shear[1, 11, 17] == pytest.approx(-values["e2"][mine].mean())


def test_a_survey_of_its_own_gives_noise_mask_and_what_was_observed(folder):
    path = str(folder[0])
    source = Lensing(path=path, side=16, pixel=0.58, margin=0, maps=2)
    noise = maps_of(source.rows(np.arange(2), 0), "noise", 16)
    assert (noise[0] == noise[1]).all()
    (seen,) = (maps_of(source.observed().rows(np.arange(1), 0), name, 16) for name in ("shear",))
    wanted, one = binned(*catalogue(folder[0])[:2], 2)
    np.testing.assert_allclose(seen[0], wanted, rtol=1e-6)
    np.testing.assert_allclose(noise[0, 0], one, rtol=1e-6)
    assert build(SMALL, "source").observed() is None
    with pytest.raises(ConfigError, match="cannot be binned to 20"):
        Lensing(path=path, side=20).rows(np.arange(1), 0)


def test_binning_weighs_by_the_noise():
    noise = np.array([[0.1, 0.2], [0.0, 0.1]])
    shear = np.arange(8.0).reshape(2, 2, 2)
    mean, left = binned(shear, noise, 2)
    weight = np.where(noise > 0, 1 / np.maximum(noise, 1e-9) ** 2, 0)
    np.testing.assert_allclose(mean[:, 0, 0], (shear * weight).sum((1, 2)) / weight.sum())
    assert left[0, 0] == pytest.approx(weight.sum() ** -0.5)


def test_a_known_map_is_seen_through_the_noise_of_the_survey(folder):
    source = ShearOfMap(path=str(folder[0]), draws=3)
    batch = source.rows(np.arange(3), 1)
    shear, kappa = maps_of(batch, "shear", 32), maps_of(batch, "kappa", 32)
    np.testing.assert_allclose(kappa[0, 0], folder[1]["ktng_kappa360v2"], atol=1e-6)
    assert (shear[0] != shear[1]).any()
    mean = convergence_of(torch.tensor(shear))[:, 0].numpy()
    assert np.isfinite(mean).all()


def test_masks_that_hide_everything_are_refused(folder):
    from astropy.io import fits

    fits.writeto(folder[0] / "std1.fits", np.zeros((32, 32)), overwrite=True)
    with pytest.raises(GsnnError, match="hides everything"):
        noise_of(folder[0])
    fits.writeto(folder[0] / "std1.fits", np.full((32, 32), np.nan), overwrite=True)
    with pytest.raises(GsnnError, match="not finite"):
        noise_of(folder[0])
    fits.writeto(folder[0] / "std1.fits", np.ones((32, 32)), overwrite=True)
    with pytest.raises(GsnnError, match="scatter of e1"):
        catalogue(folder[0])
    (folder[0] / "std1.fits").unlink()
    with pytest.raises(GsnnError, match=r"no std1\.fits"):
        noise_of(folder[0])


def test_groups_have_a_place_a_redshift_and_a_mass(folder):
    np.testing.assert_allclose(groups(folder[0])[1], [150.01, 1.99, 0.2, 2.2])


def test_the_provenance_holds_the_spectrum_of_the_middle():
    known, power = json.loads(build(SMALL, "source").schema().provenance["spectrum"])
    middle = Universe(0.31, 0.84, 1.4, 2e12)
    np.testing.assert_allclose(power, middle.spectrum(np.array(known)), rtol=1e-9)
