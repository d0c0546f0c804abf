"""Skies have the spectrum that they are asked for, and the moments of a lognormal field; each row is itself."""

import sys

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from gsnn.baselines.power_spectrum import multipole_powers
from gsnn.config import build
from gsnn.data import sphere
from gsnn.data.schema import Schema
from gsnn.data.source import Source
from gsnn.errors import ConfigError, GsnnError
from gsnn.simulate.sphere_fields import Sky, SphereFields

KINDS = ("gaussian", "lognormal")
OBSERVABLES = ("density", "convergence")
ONE = np.array([0.3]), np.array([0.8])


def skies(count, nside=16, **settings):
    fields = SphereFields(nside=nside, noise=0.0, cut=0.0, **settings)
    made = fields.draw(*(np.repeat(value, count) for value in ONE), torch.arange(count), 0)
    spectrum, empty = fields.sky.spectrum(*ONE)
    return made, spectrum[0], float(empty[0]), fields.sky


@pytest.mark.parametrize("kind", KINDS)
def test_is_a_source_whose_rows_are_the_same_alone_and_in_company(kind):
    fields = build({"name": "sphere-fields", "maps": 20, "kind": kind, "nside": 8}, "source")
    assert isinstance(fields, Source)
    batch = fields.rows(np.arange(20), 3)
    assert Schema.from_arrow(batch.schema).columns == fields.schema().columns
    again = fields.rows(np.array([11, 5]), 3)
    for name in batch.schema.names:
        for place, row in enumerate((11, 5)):
            one, other = again[name][place].as_py(), batch[name][row].as_py()
            assert one == other if isinstance(one, str) else np.allclose(one, other, atol=1e-6, equal_nan=True), name
    assert fields.rows(np.array([], np.int64), 3).num_rows == 0
    assert fields.rows(np.array([7]), 4)["omega_m"][0].as_py() != batch["omega_m"][7].as_py()
    with pytest.raises(IndexError):
        fields.rows(np.array([20]), 3)


@pytest.mark.parametrize("observable", OBSERVABLES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_spectrum_of_many_skies_is_what_was_asked_for(kind, observable):
    count = 160
    made, want, _, sky = skies(count, kind=kind, observable=observable)
    got = sphere.spectrum(made, 2 * sky.nside)
    ell = np.arange(2, 2 * sky.nside + 1)
    ratio, cosmic = got.mean(0)[2:] / want[ell], np.sqrt(2 / (2 * ell + 1))
    scatter = got.std(0)[2:] / want[ell]
    error = np.maximum(scatter, cosmic) / np.sqrt(count)
    assert (abs(ratio - 1) < 4.5 * error + 0.01).all()
    for some in (ell < 8, (ell >= 8) & (ell < 16), ell >= 16):
        assert abs(ratio[some].mean() - 1) < 4 * np.sqrt((error[some] ** 2).sum()) / some.sum() + 0.01
    if kind == "gaussian":
        assert np.allclose(scatter / cosmic, 1, atol=0.35)


@pytest.mark.parametrize("observable", OBSERVABLES)
def test_lognormal_pixels_have_the_moments_of_a_lognormal(observable):
    made, want, empty, sky = skies(300, kind="lognormal", observable=observable)
    x = made / empty
    variance = ((2 * sky.multipole + 1) * want).sum() / (4 * np.pi) / empty**2
    assert x.min() > -1
    each = x.mean(1).std() / np.sqrt(len(x))
    assert x.mean() == pytest.approx(0, abs=4 * each)
    assert x.var() == pytest.approx(variance, rel=0.04)
    skewness = (x**3).mean() / x.var() ** 1.5
    assert skewness == pytest.approx(3 * np.sqrt(variance) + variance**1.5, rel=0.12)
    log = np.log1p(x)
    assert ((log - log.mean()) ** 3).mean() / log.var() ** 1.5 == pytest.approx(0, abs=0.05)


def test_the_gaussian_inside_gives_the_correlation_back():
    sky = Sky(16, "density", 0.6, (0.05, 0.1))
    spectrum, empty = sky.spectrum(*ONE)
    inner, variance = sky.gaussian_of(spectrum, empty)
    legendre, _ = sky._legendre
    degree = (2 * sky.multipole + 1) / (4 * np.pi)
    want, got = legendre @ (spectrum[0] * degree), np.expm1(legendre @ (inner[0] * degree))
    assert np.allclose(got, want, atol=0.01 * want.max())
    assert variance[0] == pytest.approx(np.log1p((spectrum[0] * degree).sum()), rel=0.02)
    # where the field is faint it is Gaussian
    faint, _ = sky.gaussian_of(1e-8 * spectrum, empty)
    assert np.allclose(faint, 1e-8 * spectrum, rtol=1e-4)


def test_contrast_goes_with_sigma_8_and_light_bends_more_before_more_matter():
    sky = Sky(16, "convergence", 0.6, (0.05, 0.1))
    spectrum, empty = sky.spectrum(np.array([0.3, 0.3, 0.45]), np.array([0.5, 1.0, 0.5]))
    assert np.allclose(spectrum[1], 4 * spectrum[0])
    assert empty[0] == empty[1] < empty[2]
    assert (spectrum[2] > spectrum[0])[8:].all()


def test_noise_is_white_and_the_milky_way_hides_its_plane():
    fields = SphereFields(nside=8, noise=0.3, cut=20.0, maps=40)
    quiet = SphereFields(nside=8, noise=0.0, cut=0.0, maps=40)
    noisy, plain = (np.array(f.rows(np.arange(40), 0)["sky"].to_pylist(), float) for f in (fields, quiet))
    hidden = abs(sphere.latitudes(8)) < 20
    assert np.array_equal(np.isnan(noisy).all(0), hidden)
    assert np.array_equal(np.isnan(noisy).any(0), hidden)
    assert np.isfinite(plain).all()
    grain = (noisy - plain)[:, ~hidden]
    assert grain.std() == pytest.approx(0.3, rel=0.03)
    assert abs(np.corrcoef(grain[:, :-1].ravel(), grain[:, 1:].ravel())[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"nside": 12}, "the nside of a HEALPix map is a power of two, not 12"),
        ({"between": (0.1, 0.05)}, "a shell rises in redshift"),
        ({"omega_m": (0.5, 0.1)}, "omega_m rises within"),
        ({"cut": 90.0}, "less than 90"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        build({"name": "sphere-fields", **settings}, "source")


def test_without_healpy_the_sky_cannot_be_made_and_the_flat_one_can(monkeypatch):
    monkeypatch.setitem(sys.modules, "healpy", None)
    with pytest.raises(GsnnError, match=r"pip install 'gsnn\[sphere\]'"):
        build({"name": "sphere-fields"}, "source")
    assert build({"name": "fields", "maps": 2, "side": 8}, "source").rows(np.arange(2), 0).num_rows == 2


def posterior_of(name, settings, train=240, test=120, nside=8, **source):
    """Widths, errors and ranks of a baseline on skies of universes over the whole prior."""
    fields = SphereFields(nside=nside, maps=2000, **source)
    schema = fields.schema()
    inputs, targets = schema.select(["sky"]), schema.select(["omega_m", "sigma_8"])
    baseline = build({"name": name, **settings}, "baseline", inputs, targets)
    views = [Skies(fields, np.arange(0, train)), Skies(fields, np.arange(train, train + 80))]
    held = Skies(fields, np.arange(train + 80, train + 80 + test))
    baseline.fit(*views, 0)
    return baseline, held, baseline.predict(held)


class Skies:
    """The contract of a view on skies in memory."""

    def __init__(self, fields, rows):
        batch = fields.rows(rows, 0)
        shape = fields.schema()["sky"].shape
        self.data = {n: np.array(batch[n].to_pylist(), float) for n in ("sky", "omega_m", "sigma_8")}
        self.data["sky"] = self.data["sky"].reshape(-1, *shape)

    def __len__(self):
        return len(self.data["sky"])

    def columns(self, names):
        return {name: self.data[name] for name in names}

    def chunks(self, names, size=100):
        for start in range(0, len(self), size):
            yield {name: self.data[name][start : start + size] for name in names}


def test_the_exact_posterior_of_a_whole_gaussian_sky_is_exact():
    given = {"kind": "gaussian", "noise": 0.2, "cut": 0.0}
    baseline, held, found = posterior_of("gaussian-sphere", {"noise": 0.2, "grid": 48}, 120, 300, **given)
    for name in ("omega_m", "sigma_8"):
        ranks = (found[name].value < held.data[name][:, None]).mean(1)
        assert kstest(ranks, "uniform").pvalue > 0.01
    assert "l = 2 to 16" in baseline.describe()
    # far from the edges of a wide prior the width is that of Fisher's matrix
    matrix = baseline.fisher(0.3, 0.8)
    assert (np.linalg.eigvalsh(matrix) > 0).all()
    log = baseline.log_likelihood(held.data["sky"])
    best = baseline.points[log.argmax(1)]
    truth = np.stack([held.data["omega_m"], held.data["sigma_8"]], 1)
    apart = best - truth
    within = np.array([a @ baseline.fisher(*t) @ a for a, t in zip(apart, truth)])
    assert np.median(within) < 4  # of a chi-square of two: 1.4; edges of the prior and cosmic variance widen it


def test_the_exact_posterior_refuses_a_mask():
    with pytest.raises(GsnnError, match="whole skies only, and pixels are masked"):
        posterior_of("gaussian-sphere", {"grid": 16}, 60, 10, kind="gaussian", cut=20.0)


def test_band_powers_of_a_masked_sky_are_calibrated():
    _, held, found = posterior_of("power-spectrum", {"bins": 6, "grid": 40}, 700, 250, kind="lognormal", cut=20.0)
    for name in ("omega_m", "sigma_8"):
        ranks = (found[name].value < held.data[name][:, None]).mean(1)
        assert kstest(ranks, "uniform").pvalue > 0.005
        assert found[name].value.std(1).mean() < 0.95 * held.data[name].std()


def test_band_powers_hold_every_multipole_once():
    white = np.random.default_rng(0).normal(size=(200, 768))
    powers = multipole_powers(white, 6)
    assert powers.shape == (200, 6)
    assert np.allclose(np.exp(powers).mean(0)[:5], 4 * np.pi / 768, rtol=0.06)
    cut = np.where(abs(sphere.latitudes(8)) < 20, np.nan, white)
    assert np.allclose(np.exp(multipole_powers(cut, 6)).mean(0)[1:5], 4 * np.pi / 768, rtol=0.08)
    assert np.allclose(multipole_powers(white + 5, 6), powers, atol=1e-6)  # the mean of a map is not used
