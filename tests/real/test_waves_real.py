"""GW150914 in the strain that recorded it: the published signal-to-noise, our waveform, what our bank finds."""

import h5py
import numpy as np
import pytest
import torch

from gsnn.baselines.templates import Noise, bank_of, coincident, filtered, place
from gsnn.data.readers.gwosc import read_strain
from gsnn.data.readers.windows import StrainWindows
from gsnn.data.strain import density, frequencies, taper, whitener
from gsnn.simulate.binaries import BinaryMergers
from gsnn.simulate.waveforms import Binaries, face_on

MERGER = 1126259462.44
FILES = ("H-H1_LOSC_4_V2-1126259446-32.hdf5", "L-L1_LOSC_4_V2-1126259446-32.hdf5")


@pytest.fixture(scope="module")
def event(data):
    return data / "gwosc_events"


def published(event) -> torch.Tensor:
    """The template that LIGO gives with the event (SEOBNRv2, 41.7 and 29.2 Msun), plus and cross at 4096 samples/s."""
    with h5py.File(event / "GW150914_4_template.hdf5") as file:
        return torch.from_numpy(file["template"][:].astype(np.float64))


def snr_of(spectrum: torch.Tensor, strain: torch.Tensor, rate: float) -> torch.Tensor:
    """|<s|h>| over time for a template's spectrum, by the density of the strain itself, above 20 Hz."""
    power = density(strain, rate, 4.0)
    filter_ = whitener(power, 0.25, strain.shape[-1], rate, 20.0, 1600.0)
    white = spectrum * filter_
    norm = torch.sqrt((white.abs() ** 2).sum() * 2 / strain.shape[-1])
    data = torch.fft.rfft(taper(strain, rate)) * filter_
    return torch.fft.ifft(2 * white.conj() * data / norm, n=strain.shape[-1]).abs()


@pytest.mark.parametrize(("file", "expected"), [(FILES[0], 18.6), (FILES[1], 13.2)])
def test_the_published_template_gives_the_published_signal_to_noise(event, file, expected):
    (one,) = read_strain(event / file)
    assert one.notes == ()
    strain = torch.from_numpy(one.values)
    found = snr_of(torch.fft.rfft(taper(published(event)[0], one.rate)), strain, one.rate)
    assert found.max().item() == pytest.approx(expected, abs=0.9)


def test_our_waveform_is_that_of_the_published_template(event):
    """Match above 0.985 by the noise of the day; the models differ, and so do the masses at which each is best."""
    theirs = torch.fft.rfft(taper(published(event)[0], 4096))
    (one,) = read_strain(event / FILES[0])
    length = theirs.shape[-1] * 2 - 2
    power = density(torch.from_numpy(one.values), one.rate, 4.0)
    filter_ = whitener(power, 0.25, length, 4096, 30.0, 1600.0)
    values = ([41.743], [29.237], [0.355], [-0.769])
    binaries = Binaries(*(torch.tensor(v, dtype=torch.float64) for v in values))
    ours = (face_on(binaries, frequencies(length, 4096))[0]) * filter_
    theirs = theirs * filter_
    overlap = torch.fft.ifft(2 * ours.conj() * theirs, n=length).abs().max()
    norm = torch.sqrt((ours.abs() ** 2).sum() * (theirs.abs() ** 2).sum()) * 2 / length
    assert (overlap / norm).item() > 0.985


def test_our_bank_finds_the_event_in_both_detectors(event):
    """The loudest coincidence of the 32 s is GW150914, with nearly the signal-to-noise of the published search."""
    windows = StrainWindows(path=[str(event / name) for name in FILES], step=1.0)
    assert windows.notes == []
    noise = Noise(windows.density, 0.25, 1024.0, 30.0, 409.6)
    bank = bank_of(place(noise, (25.0, 50.0), 0.3, match=0.95, still=80), noise, 32 * 1024)
    z = filtered(torch.nan_to_num(windows.white), bank).abs()
    total, others = coincident(z**2, 1024.0)
    best, sample = total.max(-1)
    template = int(best.argmax())
    time = windows.start + sample[template].item() / 1024
    assert time == pytest.approx(MERGER, abs=0.05)
    h1 = z[template, 0, sample[template]].item()
    l1 = z[template, 1, others[template, 0, sample[template]]].item()
    assert h1 == pytest.approx(18.5, abs=2.0)
    assert l1 == pytest.approx(13.0, abs=1.5)
    quiet = torch.cat([total[:, : sample[template] - 2048], total[:, sample[template] + 2048 :]], 1)
    assert best.max().sqrt() > 2 * quiet.max().sqrt()
    arrival = (others[template, 0, sample[template]] - sample[template]).item() / 1024
    assert arrival == pytest.approx(-0.007, abs=0.002)  # Livingston heard it 7 ms before Hanford
    assert 25 < bank.binaries.chirp_mass[template] < 36


def test_recorded_noise_of_o3a_is_white_once_whitened(event):
    survey = BinaryMergers(objects=400, signals=0.0, noise=str(event / "mldc1_tutorial_real_noise.hdf"))
    batch = survey.rows(np.arange(400), 0)
    x = np.array(batch["strain"].flatten()).reshape(400, 2, 1024)
    part = np.array(batch["part"].to_pylist())
    for name in ("train", "valid", "test"):
        inside = x[part == name]
        assert 1.4826 * np.median(np.abs(inside)) == pytest.approx(0.88, abs=0.03)  # whatever glitches there are
