"""Strain: noise that is measured, made white and cut to a band, beside scipy and on noise of known density."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import welch

from gsnn.data.strain import at, band, density, frequencies, median_bias, resample, whiten
from gsnn.errors import GsnnError

RATE = 512


def coloured(seconds: int = 64, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise whose density falls as (50 Hz / f)^4 + 1, in 1e-46 / Hz, and its frequencies."""
    length = RATE * seconds
    f = frequencies(length, RATE)
    power = 1e-46 * ((50 / f.clamp(min=5)) ** 4 + 1)
    white = torch.from_numpy(np.random.default_rng(seed).standard_normal(length))
    return torch.fft.irfft(torch.fft.rfft(white) * torch.sqrt(power * RATE / 2)), f


def truth(f: torch.Tensor) -> torch.Tensor:
    return 1e-46 * ((50 / f.clamp(min=5)) ** 4 + 1)


def test_density_is_that_of_scipy_and_of_the_noise():
    noise, _ = coloured()
    ours = density(noise, RATE, 2.0)
    f, theirs = welch(noise.numpy(), RATE, nperseg=2 * RATE, average="median", detrend="constant")
    np.testing.assert_allclose(ours.numpy()[1:-1], theirs[1:-1], rtol=1e-6)
    inner = slice(20, -20)
    assert (ours / truth(torch.from_numpy(f)))[inner].mean().item() == pytest.approx(1, abs=0.03)


def test_density_is_little_moved_by_a_glitch_and_reads_around_gaps():
    noise, _ = coloured()
    clean = density(noise, RATE, 2.0)[20:-20]
    loud = noise.clone()
    loud[5000:5400] += 1e-21
    assert (density(loud, RATE, 2.0)[20:-20] / clean).mean().item() == pytest.approx(1, abs=0.1)
    gap = noise.clone()
    gap[3000:4000] = torch.nan
    assert (density(gap, RATE, 2.0)[20:-20] / clean).mean().item() == pytest.approx(1, abs=0.05)
    with pytest.raises(GsnnError, match="without a gap"):
        density(torch.full((4096,), torch.nan), RATE, 2.0)
    with pytest.raises(GsnnError, match="too short"):
        density(noise[:100], RATE, 2.0)


def test_median_of_exponentials():
    assert median_bias(1) == 1
    assert median_bias(10001) == pytest.approx(math.log(2), abs=1e-3)
    draws = np.median(np.random.default_rng(0).exponential(size=(20000, 9)), axis=1).mean()
    assert median_bias(9) == pytest.approx(draws, rel=0.01)


def test_whitened_noise_is_white_inside_the_band():
    noise, _ = coloured(128)
    white = whiten(
        torch.stack([noise, noise * 3]), torch.stack([truth(frequencies(RATE, RATE))] * 2), 1.0, RATE, 30, 200
    )
    quiet = white[0, RATE:-RATE]
    power = density(quiet, RATE, 1.0) * RATE / 2
    f = frequencies(RATE, RATE)
    assert power[(f >= 32) & (f <= 195)].mean().item() == pytest.approx(1, abs=0.03)
    assert power[(f < 15) | (f > 235)].max() < 1e-3
    assert torch.allclose(white[1], 3 * white[0])
    gap = noise.clone()
    gap[1000:1010] = torch.nan
    assert torch.isnan(whiten(gap, truth(frequencies(RATE, RATE)), 1.0, RATE, 30, 200)).sum() == 10


def test_band_has_no_sharp_edge():
    f = torch.linspace(0, 256, 2000, dtype=torch.float64)
    shape = band(f, 30, 200)
    assert (shape[(f >= 30) & (f <= 200)] == 1).all()
    assert (shape[(f <= 20) | (f >= 225)] == 0).all()
    assert shape.diff().abs().max() < 0.03


def test_between_known_frequencies_a_density_is_straight():
    known = torch.tensor([0.0, 2.0, 6.0], dtype=torch.float64)
    wanted = torch.tensor([0.5, 1.0, 1.5, 1.999], dtype=torch.float64)
    assert torch.allclose(at(known, 1.0, wanted), torch.tensor([1.0, 2.0, 4.0, 5.996]).double(), atol=1e-2)


def test_resampling_keeps_waves_below_the_new_limit_and_drops_those_above():
    time = torch.arange(4 * 4096, dtype=torch.float64) / 4096
    low, high = torch.sin(2 * math.pi * 100 * time), torch.sin(2 * math.pi * 900 * time)
    made = resample(torch.stack([low, high]), 4096, 1024)
    assert made.shape == (2, 4096)
    assert torch.allclose(made[0, 200:-200], low[::4][200:-200], atol=2e-3)
    assert made[1, 200:-200].abs().max() < 1e-3
    with pytest.raises(GsnnError, match="whole part"):
        resample(low, 4096, 1000)
