"""Fields have the spectrum that they are asked for; the exact posterior of Gaussian ones is exact."""

import math

import numpy as np
import pytest
import torch

from gsnn.baselines.gaussian_field import GaussianField
from gsnn.baselines.power_spectrum import PowerSpectrum, band_powers, bands
from gsnn.config import build
from gsnn.data.response import polynomial
from gsnn.data.schema import Column, Schema
from gsnn.data.source import Source
from gsnn.errors import ConfigError, GsnnError
from gsnn.evaluation.posteriors import checks
from gsnn.simulate.fields import Fields, multiplicity, wavenumbers
from gsnn.simulate.matter import power, transfer

KINDS = ("gaussian", "lognormal")


class Maps:
    """The contract of a view on maps in memory."""

    def __init__(self, fields, rows, seed=0):
        rows = torch.as_tensor(rows)
        truth = fields.parameters(rows, seed)
        made = fields.draw(truth["omega_m"], truth["sigma_8"], rows, seed)
        self.data = {"map": made[:, None].numpy(), **{name: value.numpy() for name, value in truth.items()}}

    def __len__(self):
        return len(self.data["map"])

    def columns(self, names):
        return {name: self.data[name] for name in names}

    def chunks(self, names, size=100):
        for start in range(0, len(self), size):
            yield {name: self.data[name][start : start + size] for name in names}


def targets(fields):
    return Schema.of([fields.schema()[name] for name in ("omega_m", "sigma_8")])


def inputs(fields):
    return Schema.of([fields.schema()["map"]])


@pytest.mark.parametrize("kind", KINDS)
def test_is_a_source_whose_rows_are_the_same_alone_and_in_company(kind):
    fields = build({"name": "fields", "maps": 50, "kind": kind, "side": 16}, "source")
    assert isinstance(fields, Source)
    assert len(fields) == 50
    batch = fields.rows(np.arange(50), 3)
    assert Schema.from_arrow(batch.schema).columns == fields.schema().columns
    again = fields.rows(np.array([31, 5]), 3)
    for name in batch.schema.names:
        for place, row in enumerate((31, 5)):
            one, other = again[name][place].as_py(), batch[name][row].as_py()
            assert one == other if isinstance(one, str) else np.allclose(one, other, atol=1e-5), name
    assert fields.rows(np.array([], np.int64), 3).num_rows == 0
    assert fields.rows(np.array([7]), 4)["omega_m"][0].as_py() != batch["omega_m"][7].as_py()
    with pytest.raises(IndexError):
        fields.rows(np.array([50]), 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_two_point_function_is_what_was_asked_for(kind):
    fields = Fields(kind=kind, side=32, box=256.0, depth=32.0, noise=0.0)
    n = 1500
    om, s8 = torch.full((n,), 0.3), torch.full((n,), 0.8)
    maps = fields.draw(om, s8, torch.arange(n), 0)
    got = (torch.fft.rfft2(maps.double()).abs() ** 2).mean(0) * fields.slab.pixel / 32**2
    want = fields.slab.spectrum(om[:1], s8[:1])[0]
    k = wavenumbers(32, 256.0)
    for low, high in ((0.02, 0.06), (0.06, 0.15), (0.15, 0.5)):
        inside = (k > low) & (k < high)
        assert float((got[inside] / want[inside]).mean()) == pytest.approx(1, abs=0.03)
    if kind == "lognormal":
        assert maps.min() > -1
        assert float(((maps / maps.std()) ** 3).mean()) > 1


def test_noise_is_white_and_as_strong_as_it_is_said():
    quiet, loud = (Fields(side=32, noise=noise) for noise in (0.0, 0.5))
    one, rows = torch.full((400,), 0.3), torch.arange(400)
    noise = loud.draw(one, one + 0.5, rows, 0) - quiet.draw(one, one + 0.5, rows, 0)
    assert float(noise.std()) == pytest.approx(0.5, rel=0.01)
    assert abs(float((noise[:, 1:] * noise[:, :-1]).mean())) < 0.005


def test_sigma_8_is_the_scatter_in_spheres_and_large_waves_keep_the_tilt():
    k = torch.logspace(-4, 1.5, 3000, dtype=torch.float64)
    found = power(k, torch.tensor([0.2, 0.3, 0.5]), torch.tensor([0.6, 0.8, 1.0]))
    x = 8 * k
    window = 3 * (torch.sin(x) - x * torch.cos(x)) / x**3
    sigma = torch.sqrt(torch.trapezoid(found * k**3 * window**2 / (2 * math.pi**2), torch.log(k)))
    assert sigma.tolist() == pytest.approx([0.6, 0.8, 1.0], rel=1e-3)
    slope = torch.log(found[:, 20] / found[:, 0]) / torch.log(k[20] / k[0])
    assert slope.tolist() == pytest.approx([0.965] * 3, abs=0.02)
    assert transfer(torch.tensor([1e-5]), torch.tensor([0.3])).item() == pytest.approx(1, abs=1e-3)
    assert power(torch.zeros(1), torch.tensor([0.3]), torch.tensor([0.8])).item() == 0


def test_modes_are_counted_once():
    assert multiplicity(16).sum() == 16 * 16
    assert multiplicity(9).sum() == 81
    place = bands(16, 6)
    assert place[0, 0] == -1
    assert set(place.ravel()) <= set(range(-1, 6))
    white = np.random.default_rng(0).standard_normal((400, 16, 16))
    assert np.exp(band_powers(white, 6)).mean(0) == pytest.approx(np.ones(6), rel=0.1)
    assert polynomial(np.ones((1, 2)), 3).shape[1] == 10


@pytest.fixture(scope="module")
def gaussian():
    """Small Gaussian maps with their exact posterior and that of band powers."""
    fields = Fields(maps=3000, kind="gaussian", side=32, box=256.0, depth=32.0, noise=0.2)
    train, valid, test = (Maps(fields, range(*ends)) for ends in ((0, 2000), (2000, 2300), (2300, 2800)))
    found = {}
    for one in (
        GaussianField(inputs(fields), targets(fields), box=256.0, depth=32.0, noise=0.2, grid=64),
        PowerSpectrum(inputs(fields), targets(fields), grid=48),
    ):
        one.fit(train, valid, 0)
        found[type(one).__name__] = one, one.predict(test)
    return found, test, train


@pytest.mark.parametrize("name", ["GaussianField", "PowerSpectrum"])
def test_the_posteriors_of_gaussian_maps_are_calibrated(gaussian, name):
    found, test, train = gaussian
    told = checks(found[name][1], test.data, train.data)
    assert all(one["p"] > 0.01 for one in told["parameters"].values())
    assert told["tarp"]["p"] > 0.01


def test_the_exact_posterior_has_the_width_that_fishers_matrix_promises(gaussian):
    """Where the prior's edges are far: Cramer and Rao allow no less, and a Gaussian field of many modes no more."""
    (one, found), test = gaussian[0]["GaussianField"], gaussian[1].data
    middle = (abs(test["omega_m"] - 0.28) < 0.08) & (abs(test["sigma_8"] - 0.8) < 0.08)
    assert middle.sum() > 20
    for i, name in enumerate(("omega_m", "sigma_8")):
        promised = [
            np.sqrt(np.linalg.inv(one.fisher(a, b))[i, i])
            for a, b in zip(test["omega_m"][middle], test["sigma_8"][middle])
        ]
        assert found[name].sigma()[middle].mean() == pytest.approx(np.mean(promised), rel=0.12)


def test_band_powers_know_no_more_than_the_whole_likelihood(gaussian):
    exact, bands = (gaussian[0][name][1] for name in ("GaussianField", "PowerSpectrum"))
    for name in ("omega_m", "sigma_8"):
        assert 0.98 < bands[name].sigma().mean() / exact[name].sigma().mean() < 1.3


def test_maps_without_a_truth_teach_nothing_and_broken_ones_are_refused():
    fields = Fields(maps=600, kind="gaussian", side=16, depth=32.0)
    view = Maps(fields, range(500))
    one = PowerSpectrum(inputs(fields), targets(fields), bins=6, grid=16)
    view.data["omega_m"] = np.where(np.arange(500) < 20, np.nan, view.data["omega_m"])
    one.fit(view, view, 0)
    assert np.isfinite(one.mean).all()
    view.data["map"][7, 0, 3, 3] = np.nan
    one.fit(view, view, 0)
    with pytest.raises(GsnnError, match="'map' of object 7 holds values that are not finite"):
        one.predict(view)


def test_what_cannot_be_is_refused():
    for settings, match in (
        ({"maps": 0}, "at least one map"),
        ({"side": 9}, "even number"),
        ({"box": -1.0}, "positive"),
        ({"omega_m": (0.5, 0.1)}, "omega_m rises"),
        ({"sigma_8": (0.6, 3.0)}, "sigma_8 rises"),
    ):
        with pytest.raises(ConfigError, match=match):
            Fields(**settings)
    fields = Fields(maps=80, side=16)
    few = Maps(fields, range(60))
    with pytest.raises(GsnnError, match="60 training objects cannot tell the covariance"):
        PowerSpectrum(inputs(fields), targets(fields)).fit(few, few, 0)
    with pytest.raises(ConfigError, match="more than 300,000 points"):
        PowerSpectrum(inputs(fields), Schema.of([Column(n, "scalar") for n in "abc"]), grid=100)
    with pytest.raises(ConfigError, match="in this order"):
        GaussianField(inputs(fields), Schema.of([Column("sigma_8", "scalar")]))
    with pytest.raises(ConfigError, match="reads one image or sphere; name it"):
        PowerSpectrum(Schema.of([Column("x", "scalar")]), targets(fields))
    with pytest.raises(GsnnError, match="has to be fitted"):
        PowerSpectrum(inputs(fields), targets(fields)).predict(few)
