"""The galaxy survey: purity, schema, conservation of light, noise, colours; the class shows in the light alone."""

import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.schema import Schema
from gsnn.data.source import Source
from gsnn.errors import ConfigError
from gsnn.simulate.galaxies import READ_NOISE, ZERO_POINT, Galaxies
from gsnn.simulate.population import CLASSES, SKY, Draw, positions

ROWS = np.array([5, 0, 33, 77, 12, 90, 41])


@pytest.fixture(scope="module")
def survey() -> Galaxies:
    return Galaxies(objects=100)


@pytest.fixture(scope="module")
def batch(survey):
    return survey.rows(ROWS, 7)


def test_is_a_source_whose_batches_have_its_schema(survey, batch):
    assert isinstance(survey, Source)
    assert isinstance(build({"name": "galaxies", "objects": 10}, "source"), Galaxies)
    assert len(survey) == 100
    schema = survey.schema()
    assert batch.schema == schema.arrow()
    assert Schema.from_arrow(batch.schema).columns == schema.columns
    assert schema["morphology"].classes == CLASSES
    assert set(batch["morphology"].to_pylist()) <= set(CLASSES)
    assert len(set(batch["id"].to_pylist())) == len(ROWS)
    for column in schema.of_kind("scalar", "position"):
        assert np.isfinite(batch[column.name].to_numpy()).all(), column.name
    assert np.isfinite(np.asarray(batch["image"].flatten())).all()
    assert survey.rows(np.array([], dtype=np.int64), 7).num_rows == 0


def test_a_row_is_the_same_alone_in_company_and_in_any_order(survey, batch):
    again = survey.rows(np.arange(100), 7)
    for place, row in enumerate(ROWS):
        assert survey.rows(np.array([row]), 7).slice(0, 1).equals(batch.slice(place, 1))
        assert again.slice(row, 1).equals(batch.slice(place, 1))


@pytest.mark.parametrize("size", [2, 3, 17, 30, 45])
def test_columns_do_not_depend_on_the_company_to_the_last_bit(survey, size):
    rows = torch.from_numpy(np.random.default_rng(size).choice(64, size, replace=False))
    some, every = survey.columns(rows, 1), survey.columns(torch.arange(64), 1)
    for name in every:
        assert np.array_equal(some[name], every[name][rows.numpy()]), name


def test_a_seed_is_a_sky(survey, batch):
    other = survey.rows(ROWS, 8)
    assert not np.allclose(other["ra"].to_numpy(), batch["ra"].to_numpy())
    assert other["id"].to_pylist() != batch["id"].to_pylist()


def test_the_length_does_not_change_the_rows(batch):
    assert Galaxies(objects=91).rows(ROWS, 7).equals(batch)


def test_light_is_conserved():
    """All of the flux that the magnitude says falls on a wide stamp."""
    wide = Galaxies(objects=64, size=160, crowding=0.0)
    rows = torch.arange(64)
    galaxies = wide.population(rows, 3)
    flux = wide.scene(rows, 3, galaxies).image[:, 1].sum((1, 2)) * 10 ** (0.4 * (galaxies.magnitude - ZERO_POINT))
    compact = (galaxies.radius < 2.5) & (galaxies.bulge * galaxies.bulge_n < 2.0)
    assert compact.sum() > 20
    assert flux[compact].min() > 0.98
    assert flux.max() < 1.002


def test_light_is_not_negative(survey):
    """Dust takes no more than there is, and band limits ring below the noise."""
    rows = torch.arange(100)
    scene = survey.scene(rows, 7, survey.population(rows, 7))
    assert (scene.image > -0.3 * scene.variance.sqrt()).all()


def test_noise_has_the_stated_variance(survey):
    rows = torch.arange(64)
    scene = survey.scene(rows, 7, survey.population(rows, 7))
    pull = survey.noise(rows, 7, scene) / scene.variance.sqrt()
    assert pull.mean().item() == pytest.approx(0, abs=0.005)
    assert pull.std().item() == pytest.approx(1, abs=0.005)
    camera = survey.schema().provenance
    for band, name in enumerate(survey.bands):
        electrons, sky = camera["electrons_per_nmgy"][name], camera["sky_nmgy_per_pixel"][name]
        empty = (sky * electrons + READ_NOISE**2) / electrons**2
        assert scene.variance[:, band].min().item() == pytest.approx(empty, rel=1e-3)


def test_noise_has_the_skewness_of_counts():
    """At the fewest electrons that are allowed, where it matters most."""
    faint = Galaxies(objects=64, exposure=0.16, bands=("g",), crowding=0.0)
    rows = torch.arange(64)
    scene = faint.scene(rows, 1, faint.population(rows, 1))
    pull = (faint.noise(rows, 1, scene) / scene.variance.sqrt()).double()
    electrons = float(faint.electrons[0])
    counts = scene.variance.double() * electrons**2 - READ_NOISE**2
    expected = (counts / (counts + READ_NOISE**2) ** 1.5).mean().item()
    assert expected > 0.05
    assert (pull**3).mean().item() == pytest.approx(expected, rel=0.15)


def test_longer_exposures_are_deeper_and_see_the_same_galaxies():
    short, long = (Galaxies(objects=16, exposure=e).rows(np.arange(16), 0) for e in (1.0, 4.0))
    assert short["magnitude"].equals(long["magnitude"])
    ratio = long["snr"].to_numpy() / short["snr"].to_numpy()
    assert ((ratio > 1.9) & (ratio < 2.2)).all()


def test_snr_is_that_of_a_matched_filter():
    """The scatter of the best amplitude of the true shape, over many draws of the noise, is 1 / snr."""
    survey = Galaxies(objects=8, crowding=0.0)
    rows = torch.arange(8)
    scene = survey.scene(rows, 5, survey.population(rows, 5))
    shape, variance = scene.image[:, 1], scene.variance[:, 1]
    weight = shape / variance
    draws = torch.stack([survey.noise(rows, seed, scene)[:, 1] for seed in range(300)])
    amplitude = (draws * weight).sum((2, 3)) / (shape * weight).sum((1, 2))
    assert torch.allclose(amplitude.std(0) * scene.snr, torch.ones(8), atol=0.2)


def test_snr_leaves_out_chance_neighbours():
    rows = torch.arange(32)
    snr = []
    for crowding in (0.0, 1.0):
        survey = Galaxies(objects=32, crowding=crowding)
        snr.append(survey.scene(rows, 5, survey.population(rows, 5)).snr)
    assert ((snr[1] / snr[0]) < 1.001).all()  # a neighbour only adds noise
    assert ((snr[1] / snr[0]) > 0.5).all()


def test_bands_may_come_without_r_and_one_band_equals_itself():
    all_three, alone = Galaxies(objects=4), Galaxies(objects=4, bands=("i",))
    rows = torch.arange(4)
    a = all_three.scene(rows, 2, all_three.population(rows, 2))
    b = alone.scene(rows, 2, alone.population(rows, 2))
    assert torch.allclose(a.image[:, 2:], b.image, rtol=1e-4, atol=1e-5)
    assert torch.allclose(a.snr, b.snr, rtol=1e-4)


def test_young_galaxies_are_blue_and_both_rare_kinds_exist(survey):
    rows = torch.arange(1000)
    galaxies = Galaxies(objects=1000, crowding=0.0).population(rows, 0)
    smooth, spiral = (galaxies.disc_young[galaxies.label == label] for label in (0, 1))
    assert smooth.mean() < 0.3 < spiral.mean()
    assert (smooth > 0.45).float().mean() > 0.05
    assert (spiral < 0.3).float().mean() > 0.05
    quiet = Galaxies(objects=64, crowding=0.0)
    rows = torch.arange(64)
    galaxies = quiet.population(rows, 0)
    flux = quiet.scene(rows, 0, galaxies).image.sum((2, 3))
    colour = -2.5 * torch.log10(flux[:, 0] / flux[:, 1])  # g - r
    assert torch.corrcoef(torch.stack([colour, galaxies.disc_young]))[0, 1] < -0.5


def test_nothing_but_the_light_gives_the_class_away():
    galaxies = Galaxies(objects=20000).population(torch.arange(20000), 1)
    ra, dec = positions(Draw(1, torch.arange(20000)))
    for values in (galaxies.magnitude, galaxies.redshift, galaxies.radius, galaxies.angle, ra, dec):
        values = (values - values.mean()) / values.std()
        means = torch.stack([values[galaxies.label == label].mean() for label in range(4)])
        assert means.abs().max() < 0.06
    assert torch.allclose(galaxies.label.bincount() / 20000, torch.tensor([0.3, 0.3, 0.2, 0.2]), atol=0.015)


def test_positions_fill_the_patch_in_many_pixels():
    from astropy import units
    from astropy_healpix import HEALPix

    ra, dec = (value.numpy() for value in positions(Draw(0, torch.arange(4000))))
    assert ra.dtype == np.float64
    assert ra.min() >= SKY[0]
    assert ra.max() <= SKY[1]
    assert dec.min() >= SKY[2]
    assert dec.max() <= SKY[3]
    pixels = HEALPix(nside=512, order="nested").lonlat_to_healpix(ra * units.deg, dec * units.deg)
    assert len(np.unique(pixels)) > 2000


def test_two_cores_would_not_disagree(batch):
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        assert Galaxies(objects=100).rows(ROWS, 7).equals(batch)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"objects": 0}, "objects"),
        ({"size": 15}, "size"),
        ({"size": 18}, "size"),
        ({"bands": ["g", "y"]}, "bands"),
        ({"bands": []}, "bands"),
        ({"bands": ["g", "g"]}, "bands"),
        ({"pixel_scale": 0.7}, "pixel_scale"),
        ({"pixel_scale": float("1e-9")}, "size"),
        ({"seeing": 0.0}, "pixel_scale"),
        ({"exposure": 0.0}, "exposure"),
        ({"exposure": 0.001}, "exposure"),
        ({"magnitudes": [20.0, 15.0]}, "magnitudes"),
        ({"fractions": [0.5, 0.5, 0.5, 0.5]}, "fractions"),
        ({"crowding": 1.5}, "crowding"),
        ({"crowdng": 0.5}, "crowdng"),
        ({"objects": "many"}, "objects"),
    ],
)
def test_impossible_settings_are_one_sentence_at_their_key(settings, key):
    with pytest.raises(ConfigError) as error:
        build({"name": "galaxies", **settings}, "source", path=("data", "source"))
    assert error.value.path[-1] == key
    assert "\n" not in str(error.value)
