"""Supernovae: simple truths of the physics, and a survey that repeats, keeps its schema and detects what it should."""

import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.light_curves import LightCurves
from gsnn.data.schema import Schema
from gsnn.data.source import Source
from gsnn.errors import ConfigError
from gsnn.simulate import cosmology, dust, nights
from gsnn.simulate.explosions import TYPES, _kept, decay, draw_explosions, flux_at_10pc, luminosity, radioactive
from gsnn.simulate.population import Draw
from gsnn.simulate.supernovae import ZERO_POINT, Supernovae

N = 100


@pytest.fixture(scope="module")
def survey():
    return Supernovae(objects=N)


@pytest.fixture(scope="module")
def batch(survey):
    return survey.rows(np.arange(40), 7)


def explosions(kind, n=300):
    return draw_explosions(Draw(1, torch.arange(n), "test"), torch.full((n,), TYPES.index(kind)))


def magnitudes(e, wavelength, last=80):
    """Absolute AB magnitudes at a rest-frame wavelength, a day apart."""
    n = len(e.kind)
    days = torch.arange(1.0, last).expand(n, -1)
    return ZERO_POINT - 2.5 * torch.log10(flux_at_10pc(e, days, torch.full((*days.shape, 1), wavelength))[..., 0])


def test_a_ia_is_a_standard_candle():
    """Absolute B magnitude -19.3 within 0.15 in scatter, and a decline of about 1.1 mag in 15 days (Phillips 1993)."""
    m = magnitudes(explosions("Ia"), 4400.0)
    peak, when = m.min(1)
    assert abs(peak.median() + 19.3) < 0.1
    assert peak.std() < 0.15
    decline = m.gather(1, when[:, None] + 15)[:, 0] - peak
    assert abs(decline.median() - 1.15) < 0.2
    assert 12 < when.float().median() < 20


def test_brighter_ia_are_slower():
    m = magnitudes(explosions("Ia"), 4400.0)
    peak, when = m.min(1)
    decline = m.gather(1, when[:, None] + 15)[:, 0] - peak
    assert torch.corrcoef(torch.stack([peak, decline]))[0, 1] > 0.3


@pytest.mark.parametrize(("kind", "low", "high"), [("Ibc", -18.3, -17.0), ("II", -17.7, -16.4)])
def test_others_are_fainter(kind, low, high):
    assert low < magnitudes(explosions(kind), 5500.0).min(1).values.median() < high


def test_a_type_ii_has_a_plateau_and_then_falls():
    """In the red it loses less than half a magnitude from day 40 to day 70, and more than one from 70 to 150."""
    m = magnitudes(explosions("II"), 6500.0, 160)
    assert (m[:, 70] - m[:, 40]).median() < 0.6
    assert (m[:, 150] - m[:, 70]).median() > 1.0


def test_the_rule_of_arnett():
    """At its maximum, the luminosity is the heating of that moment (Arnett 1982)."""
    tau = torch.tensor([6.0, 10.0, 17.3, 30.0])
    days = torch.arange(0.5, 80, 0.05).expand(4, -1)
    light = radioactive(days, tau)
    peak, when = light.max(1)
    torch.testing.assert_close(peak, decay(days[0][when]), rtol=5e-3, atol=0)


def test_the_spectrum_radiates_the_luminosity():
    """4 pi d^2 times the integral of f_nu over frequency is L, with and without lines of iron."""
    e = explosions("Ia", 5)
    days = torch.full((5, 1), 15.0)
    wave = torch.logspace(2.5, 6, 6000)
    flux = flux_at_10pc(e, days, wave.expand(5, 1, -1))[:, 0].double()
    nu = 2.99792458e18 / wave.double()
    total = torch.trapezoid(flux.flip(-1), nu.flip(-1)) * 1e-32 * 4 * np.pi * (10 * 3.0856776e18) ** 2 / 1e42
    torch.testing.assert_close(total, luminosity(e, days)[:, 0].double(), rtol=0.01, atol=0)
    assert _kept(torch.tensor([40.0])) == pytest.approx(1.0, abs=1e-3)


def test_time_is_stretched_by_one_plus_z_and_light_dims_as_distance_says():
    survey, e = Supernovae(bands=("r",), depth=(24.0,)), explosions("Ia", 4)
    survey.waves = torch.full_like(survey.waves, 6000.0)
    none, z = torch.zeros(4), torch.tensor([0.1, 0.3, 0.5, 0.8])
    night = torch.arange(5.0, 60.0).expand(4, -1)
    rest = night / (1 + z)[:, None]
    seen = survey.flux(e, rest, z, none, none)
    here = flux_at_10pc(e, rest, (6000 / (1 + z))[:, None, None].expand(-1, night.shape[1], 1))[..., 0]
    modulus = -2.5 * torch.log10(seen / here / (1 + z)[:, None])
    torch.testing.assert_close(modulus, cosmology.distance_modulus(z)[:, None].expand_as(modulus), rtol=1e-4, atol=1e-3)


def test_dust_follows_its_law():
    """A(B)/A(V), A(V), A(I)/A(V) and A(K)/A(V) of Cardelli, Clayton & Mathis 1989, table 3 (to 3%)."""
    law = dust.extinction(torch.tensor([4400.0, 5500.0, 9000.0, 22000.0]))
    for found, wanted in zip(law.tolist(), (1.337, 1.0, 0.479, 0.114)):
        assert found == pytest.approx(wanted, rel=0.03)
    assert dust.extinction(torch.tensor([2175.0])) > dust.extinction(torch.tensor([2600.0]))  # the bump
    assert -2.5 * torch.log10(dust.transmission(torch.tensor(2.0), torch.tensor(5500.0))) == pytest.approx(
        2.0, rel=0.01
    )


def test_clouds_come_in_spells_and_take_their_share():
    night = torch.arange(20000)
    up = nights.clear(night, 3, 0.7).float()
    assert up.mean() == pytest.approx(0.7, abs=0.02)
    assert torch.corrcoef(torch.stack([up[1:], up[:-1]]))[0, 1] > 0.3
    assert torch.equal(nights.clear(night[50:60], 3, 0.7), up[50:60].bool())
    assert nights.clear(night, 3, 1.0).all()


def test_is_a_source_whose_batches_have_its_schema(survey, batch):
    assert isinstance(survey, Source)
    assert len(build({"name": "supernovae", "objects": 10}, "source")) == 10
    schema = survey.schema()
    assert batch.schema == schema.arrow()
    assert Schema.from_arrow(batch.schema).columns == schema.columns
    assert set(batch["type"].to_pylist()) == set(TYPES)
    assert LightCurves.from_arrow(batch["lc"]).faults(4) == [None] * 40
    for column in schema.of_kind("scalar"):
        assert np.isfinite(batch[column.name].to_numpy()).all(), column.name
    assert survey.rows(np.array([], dtype=np.int64), 7).num_rows == 0
    with pytest.raises(IndexError):
        survey.rows(np.array([N]), 7)


def test_a_row_is_the_same_alone_and_in_company(survey, batch):
    some = survey.rows(np.array([31, 5, 12]), 7)
    for place, row in enumerate((31, 5, 12)):
        assert some.slice(place, 1).equals(batch.slice(row, 1)), row
    assert not survey.rows(np.array([5]), 8).slice(0, 1).equals(batch.slice(5, 1))


def test_what_is_kept_was_detected_and_faint_types_are_nearer(batch):
    curves, kind = LightCurves.from_arrow(batch["lc"]), np.array(batch["type"].to_pylist())
    twice = [(one.flux > 5 * one.flux_error).sum() >= 2 for one in curves]
    assert np.mean(twice) > 0.94  # what 40 tries did not find stays in, so that shares of types are as asked
    z = batch["redshift"].to_numpy()
    assert np.median(z[kind == "Ia"]) > np.median(z[kind == "II"]) + 0.1
    away = np.abs(batch["host_z"].to_numpy() - z) / batch["host_z_error"].to_numpy()
    assert 0.3 < np.median(away) < 1.1


def test_noise_is_what_the_errors_say():
    """Before the explosion there is nothing: flux over error is a standard normal number."""
    batch = Supernovae(objects=60, nights=300).rows(np.arange(60), 3)
    early = []
    for one, peak, z in zip(
        LightCurves.from_arrow(batch["lc"]), batch["peak_time"].to_numpy(), batch["redshift"].to_numpy()
    ):
        early.append((one.flux / one.flux_error)[one.time < peak - 40 * (1 + z)])
    ratio = np.concatenate(early)
    assert len(ratio) > 500
    assert abs(ratio.mean()) < 0.1
    assert ratio.std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bands": ["g", "rr"]}, "no band 'rr'"),
        ({"depth": [24.0]}, "limiting magnitude"),
        ({"fractions": [0.5, 0.5, 0.5]}, "add up to 1"),
        ({"clear": 0.0}, "greater than"),
    ],
)
def test_settings_that_cannot_be_drawn(settings, words):
    with pytest.raises(ConfigError, match=words):
        build({"name": "supernovae", **settings}, "source")
