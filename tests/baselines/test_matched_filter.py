"""The matched filter: statistics of noise and of known signals, the coverage of the bank, the veto, the baseline."""

import math

import numpy as np
import pytest
import torch

from gsnn.baselines.templates import (
    Noise,
    bank_of,
    chi_squared,
    coincident,
    drawn,
    filtered,
    matches,
    place,
    reweighted,
)
from gsnn.config import build
from gsnn.data.schema import Column, Schema
from gsnn.data.strain import band, frequencies
from gsnn.errors import GsnnError
from gsnn.simulate.binaries import BinaryMergers
from gsnn.simulate.noise import design

RATE, LENGTH, MASSES, SPIN = 512, 1024, (35.0, 50.0), 0.1


@pytest.fixture(scope="module")
def noise() -> Noise:
    return Noise(design(torch.arange(257).double()).repeat(2, 1), 1.0, RATE, 30.0, 0.4 * RATE)


@pytest.fixture(scope="module")
def bank(noise):
    return bank_of(place(noise, MASSES, SPIN, match=0.95, still=60), noise, LENGTH)


def white(objects: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(objects, 2, LENGTH, generator=torch.Generator().manual_seed(seed))
    shape = band(frequencies(LENGTH, RATE), 30, 0.4 * RATE)
    return torch.fft.irfft(torch.fft.rfft(drawn) * shape, n=LENGTH)


def signal(bank, snr: float, turn: float = 0.0, template: int = 0, at: int = 500) -> torch.Tensor:
    """The template itself at a signal-to-noise of ``snr`` in each detector."""
    turned = bank.spectra[template] * np.exp(1j * turn)
    return snr * torch.fft.irfft(turned, n=LENGTH).roll(at, -1)


def test_templates_have_unit_norm_and_match_themselves(bank):
    time = torch.fft.irfft(bank.spectra, n=LENGTH)
    assert torch.allclose((time**2).sum(-1), torch.ones(len(bank), 2), atol=1e-4)
    assert matches(bank.spectra[:, 0], bank.spectra[0, 0])[0].item() == pytest.approx(1, abs=1e-4)


def test_in_noise_both_quadratures_are_standard_normal(bank):
    z = torch.stack([filtered(x, bank)[0] for x in white(60)])
    assert z.real.std().item() == pytest.approx(1, abs=0.03)
    assert z.imag.std().item() == pytest.approx(1, abs=0.03)
    assert z.mean().abs().item() < 0.02


@pytest.mark.parametrize("turn", [0.0, 1.0, 2.5])
def test_a_signal_gives_its_signal_to_noise_at_its_time_whatever_its_phase(bank, turn):
    z = filtered(signal(bank, 12.0, turn), bank)[0]
    assert z.abs().max().item() == pytest.approx(12, abs=0.05)
    assert (z.abs().argmax(-1) == 500).all()
    assert z[0, 500].angle().item() == pytest.approx(turn if turn < math.pi else turn - 2 * math.pi, abs=0.02)


def test_the_bank_covers_what_it_says(noise, bank):
    """Nearly every binary of the ranges has a template of the match that was asked for."""
    fresh = bank_of(drawn(torch.arange(5000, 5060), MASSES, SPIN, seed=9), noise, RATE)
    own = bank_of(bank.binaries, noise, RATE)
    best = torch.stack([matches(own.spectra[:, 0], one).max() for one in fresh.spectra[:, 0]])
    assert (best > 0.95).float().mean() > 0.85
    assert best.min() > 0.9
    assert 2 <= len(bank) < 60


def test_coincidence_takes_no_more_than_the_lights_travel():
    power = torch.zeros(1, 2, 400)
    power[0, 0, 200], power[0, 1, 204] = 36.0, 64.0
    total, place = coincident(power, RATE)
    assert total[0, 200] == 100
    assert place[0, 0, 200] == 204
    power[0, 1] = 0
    power[0, 1, 240] = 64.0
    assert coincident(power, RATE)[0].max() == 64


def test_chi_squared_is_near_one_for_noise_and_signals_and_large_for_glitches(bank):
    template, at = bank.spectra[:1, 0], torch.tensor([500])

    def chi(x: torch.Tensor) -> float:
        return chi_squared(torch.fft.rfft(x[0].float()), template, at, 8).item()

    values = [chi(x) for x in white(200)]
    assert np.mean(values) == pytest.approx(1, abs=0.1)
    assert np.std(values) == pytest.approx(math.sqrt(2 / 14), rel=0.2)
    assert np.mean([chi(x + signal(bank, 20.0)) for x in white(50)]) == pytest.approx(1, abs=0.15)
    wave = torch.sin(2 * math.pi * 60 * torch.arange(LENGTH) / RATE)
    glitch = 4 * wave * torch.exp(-0.5 * ((torch.arange(LENGTH) - 500) / 20) ** 2)
    assert np.mean([chi(x + glitch) for x in white(20)]) > 4
    snr = torch.tensor([10.0, 10.0])
    assert torch.allclose(
        reweighted(snr, torch.tensor([0.7, 8.0])), torch.tensor([10.0, 10 / ((1 + 512) / 2) ** (1 / 6)])
    )


@pytest.fixture(scope="module")
def windows():
    survey = BinaryMergers(objects=240, rate=RATE, masses=MASSES, spin=SPIN, snr=(6.0, 15.0))
    return survey.schema(), survey.rows(np.arange(240), 5)


class View:
    """What a baseline asks of a survey's view."""

    def __init__(self, batch, schema, rows):
        self.batch, self.schema, self.rows = batch, schema, rows

    def __len__(self):
        return len(self.rows)

    def columns(self, names):
        out = {}
        for name in names:
            if name == "strain":
                out[name] = np.array(self.batch[name].flatten()).reshape(-1, 2, RATE)[self.rows]
            else:
                out[name] = (np.array(self.batch[name].to_pylist())[self.rows] == "signal").astype(np.int64)
        return out

    def chunks(self, names, size):
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self)))).columns(names)

    def take(self, places):
        return View(self.batch, self.schema, self.rows[np.asarray(places)])


def make(schema, **settings):
    return build(
        {"name": "matched-filter", "match": 0.9, **settings}, "baseline", schema.select(["strain"]), schema["kind"]
    )


def test_as_a_baseline_it_tells_signals_from_noise(windows):
    schema, batch = windows
    whole = View(batch, schema, np.arange(240))
    baseline = make(schema, rows=80)
    baseline.fit(whole.take(np.arange(100)), whole.take(np.arange(100, 160)), 0)
    found = baseline.predict(whole.take(np.arange(160, 240)))["kind"]
    truth = whole.columns(["kind"])["kind"][160:]
    assert np.allclose(found.probabilities.sum(1), 1)
    assert (found.probabilities > 0).all()
    assert (found.best() == truth).mean() > 0.85
    assert baseline.objects == 80
    assert "templates" in baseline.describe()
    assert "SNR" in baseline.describe()
    assert baseline.seconds > 0
    again = make(schema, rows=80)
    again.fit(whole.take(np.arange(100)), whole.take(np.arange(100, 160)), 0)
    np.testing.assert_array_equal(
        again.predict(whole.take(np.arange(160, 240)))["kind"].probabilities, found.probabilities
    )
    assert len(baseline.predict(whole.take(np.arange(0)))["kind"]) == 0


def test_its_statistic_grows_with_the_signal(windows):
    schema, _ = windows
    baseline = make(schema)
    x = white(1)[0, :, :RATE]
    template = torch.fft.irfft(baseline.bank.spectra[-1], n=LENGTH).roll(400, -1)[:, :RATE]
    found = torch.stack([baseline.statistic((x + snr * template)[None])[0, 0] for snr in (8.0, 12.0, 20.0)])
    expected = math.sqrt(2) * torch.tensor([8.0, 12.0, 20.0])
    assert torch.allclose(found, expected, atol=2.5)
    gone = baseline.statistic(torch.full((1, 2, RATE), torch.nan))
    assert torch.isfinite(gone).all()


def test_what_it_cannot_do_is_told(windows):
    schema, _ = windows
    with pytest.raises(GsnnError, match="one column of strain"):
        build("matched-filter", "baseline", Schema.of([Column("a", "scalar")]), schema["kind"])
    bare = Schema((schema["strain"],))
    with pytest.raises(GsnnError, match="do not say density_1_hz"):
        build("matched-filter", "baseline", bare, schema["kind"])
    with pytest.raises(GsnnError, match="scalar"):
        build("matched-filter", "baseline", schema.select(["strain"]), Column("m", "scalar"))
    raw = BinaryMergers(objects=5, rate=RATE, whiten=False).schema()
    with pytest.raises(GsnnError, match="not whitened"):
        build("matched-filter", "baseline", raw.select(["strain"]), raw["kind"])
