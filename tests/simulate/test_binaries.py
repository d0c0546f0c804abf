"""Mergers in noise: purity, truth that the strain bears out, noise that is white, recorded noise cut in time."""

import h5py
import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.schema import Schema
from gsnn.data.source import Source
from gsnn.data.strain import density, frequencies
from gsnn.errors import ConfigError, GsnnError
from gsnn.simulate.binaries import CLASSES, PARTS, BinaryMergers, longest
from gsnn.simulate.cosmology import comoving_distance_mpc, redshift_at
from gsnn.simulate.noise import design
from gsnn.simulate.recorded import stretches

ROWS = np.array([5, 0, 33, 77, 12, 90, 41, 3])


@pytest.fixture(scope="module")
def survey() -> BinaryMergers:
    return BinaryMergers(objects=100, rate=512, masses=(30.0, 60.0))


@pytest.fixture(scope="module")
def every(survey):
    return survey.rows(np.arange(100), 7)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """200 s of white strain of one detector whose loudness grows, so that its parts can be told apart."""
    path = tmp_path_factory.mktemp("record") / "noise.hdf"
    with h5py.File(path, "w") as file:
        noise = 1e-21 * np.random.default_rng(0).standard_normal(200 * 1024)
        data = file.create_dataset("data", data=noise * np.repeat([1, 10, 100], [120 * 1024, 40 * 1024, 40 * 1024]))
        data.attrs["delta_t"], data.attrs["start_time"] = 1 / 1024, 1238205077.0
    return str(path)


def of(batch, name: str) -> np.ndarray:
    column = batch[name]
    return np.array(column.flatten()).reshape(len(column), 2, -1) if name == "strain" else np.array(column.to_pylist())


def test_is_a_source_whose_batches_have_its_schema(survey, every):
    assert isinstance(survey, Source)
    assert isinstance(build({"name": "binaries", "objects": 3}, "source"), BinaryMergers)
    schema = survey.schema()
    assert every.schema == schema.arrow()
    assert Schema.from_arrow(every.schema).columns == schema.columns
    assert schema["strain"].shape == (2, 512)
    assert schema["strain"].cadence == 1 / 512
    assert set(every["kind"].to_pylist()) == set(CLASSES)
    assert set(every["part"].to_pylist()) <= set(PARTS)
    assert np.isfinite(of(every, "strain")).all()
    assert survey.rows(np.array([], dtype=np.int64), 7).num_rows == 0


def test_a_row_is_the_same_alone_in_company_and_in_any_order(survey, every):
    some = survey.rows(ROWS, 7)
    for place, row in enumerate(ROWS):
        for name in ("id", "kind", "part"):
            assert some[name][place].as_py() == every[name][row].as_py()
        np.testing.assert_allclose(of(some, "strain")[place], of(every, "strain")[row], rtol=1e-5, atol=1e-6)
    other = survey.rows(ROWS, 8)
    assert not np.allclose(of(other, "strain"), of(some, "strain"))


def test_only_signals_have_a_truth(every):
    signal = of(every, "kind") == "signal"
    for name in ("mass_1", "snr", "snr_H1", "distance", "gps", "merger"):
        known = np.array([v is not None for v in every[name].to_pylist()])
        assert (known == signal).all()
    mass = np.array([m for m in every["mass_1"].to_pylist() if m], float)
    assert mass.min() >= 30
    assert mass.max() <= 60


def test_the_truth_is_what_the_strain_bears_out(survey):
    """The norm of a whitened signal is its signal-to-noise ratio, and that goes as 1 / distance."""
    drawn = survey.draws(torch.arange(40), 3)
    wave, known = survey.render(drawn, 0)
    norm = (wave**2).sum(-1).sqrt()
    for i, name in enumerate(("snr_H1", "snr_L1")):
        assert torch.allclose(norm[:, i], known[name], rtol=0.03, atol=0.05)
    total = (known["snr_H1"] ** 2 + known["snr_L1"] ** 2).sqrt()
    assert torch.allclose(total, drawn.snr)
    farther = drawn._replace(snr=drawn.snr / 3)
    again, truth = survey.render(farther, 0)
    assert torch.allclose(again * 3, wave, atol=1e-9)
    assert torch.allclose(truth["distance"], 3 * known["distance"])


def test_the_merger_is_where_the_truth_says(survey):
    drawn = survey.draws(torch.arange(40), 3)
    wave, _ = survey.render(drawn, 0)
    peak = wave[:, 0].abs().argmax(-1).double() / 512
    assert (peak - drawn.merger).abs().median() < 0.012
    assert (peak - drawn.merger).abs().max() < 0.06


def test_noise_is_white_in_the_band():
    noise = BinaryMergers(objects=300, signals=0.0, rate=512).rows(np.arange(300), 1)
    x = torch.from_numpy(of(noise, "strain")).double().reshape(-1)
    power, f = density(x, 512, 1.0) * 256, frequencies(512, 512)
    assert power[(f > 35) & (f < 195)].mean().item() == pytest.approx(1, abs=0.05)
    assert power[f < 15].max() < 0.05
    pair = of(noise, "strain")
    assert abs(np.corrcoef(pair[:, 0].ravel(), pair[:, 1].ravel())[0, 1]) < 0.02


def test_strain_that_is_not_whitened_has_the_colour_of_the_detector():
    raw = BinaryMergers(objects=400, signals=0.0, rate=512, whiten=False)
    x = torch.from_numpy(of(raw.rows(np.arange(400), 1), "strain")[:, 0]).double()
    f = frequencies(512, 512)
    power = (torch.fft.rfft(x * torch.hann_window(512)).abs() ** 2).mean(0) * 2 / (512 * 512 * 0.375)
    ratio = power * 1e-42 / design(f)
    assert ratio[(f > 40) & (f < 190)].mean().item() == pytest.approx(1, abs=0.1)
    assert raw.schema()["strain"].unit == "1e-21"


def test_design_is_that_of_advanced_ligo():
    """Within 11% of the density that the fit stands for (LALSimulation's SimNoisePSDaLIGOZeroDetHighPower)."""
    f = torch.tensor([30.0, 50.0, 100.0, 215.0, 500.0, 1000.0], dtype=torch.float64)
    known = torch.tensor([8.676e-47, 2.476e-47, 1.523e-47, 1.309e-47, 1.507e-47, 2.732e-47], dtype=torch.float64)
    assert torch.allclose(design(f) / known, torch.ones(6).double(), atol=0.11)


def test_recorded_noise_is_cut_in_time_and_whitened_by_itself(record):
    survey = BinaryMergers(objects=200, noise=record, rate=512, signals=0.0)
    batch = survey.rows(np.arange(200), 0)
    x, part = of(batch, "strain"), of(batch, "part")
    assert np.isfinite(x).all()
    for name in PARTS:
        assert x[part == name].std() == pytest.approx(0.87, abs=0.1)  # the loud parts too
    known = survey.schema().provenance["density_1_hz"]["H1"]
    assert known[100] == pytest.approx(1e-42 * 2 / 1024, rel=0.3)  # the training part's


def test_detectors_of_one_record_never_see_the_same_noise(record):
    x = of(BinaryMergers(objects=300, noise=record, rate=512, signals=0.0).rows(np.arange(300), 0), "strain")
    each = (x[:, 0] * x[:, 1]).mean(-1) / (x[:, 0].std(-1) * x[:, 1].std(-1))
    assert np.abs(each).max() < 0.4


def test_gaps_are_left_out_and_short_records_refused(record):
    (noise,) = stretches([record], ("H1",), 512, 30.0, (1.0,))
    one = noise[0]
    one.white[20 * 512 : 21 * 512] = torch.nan
    starts = one.starts(512)
    assert not ((starts > 19 * 512) & (starts < 21 * 512)).any()
    assert len(starts) > 150 * 512
    with pytest.raises(GsnnError, match="bring a longer record"):
        stretches([record], ("H1",), 512, 30.0, (0.95, 0.05))


@pytest.mark.parametrize(
    ("bad", "key"),
    [
        ({"masses": (60.0, 15.0)}, "masses"),
        ({"merger": (0.5, 1.5)}, "merger"),
        ({"parts": (0.5, 0.2, 0.2)}, "parts"),
        ({"low": 200.0, "rate": 512}, "rate"),
        ({"detectors": ("H1", "K1x")}, "K1x"),
        ({"snr": (0.0, 5.0)}, "snr"),
    ],
)
def test_settings_that_cannot_be_drawn_are_refused(bad, key):
    with pytest.raises((ConfigError, GsnnError), match=key):
        BinaryMergers(objects=3, **bad)


def test_how_long_a_binary_takes():
    """Equal masses of 1.4 suns take 54 s from 30 Hz (Peters 1964: 5/256 eta^-1 (pi M f)^(-8/3) M)."""
    assert longest(1.4, 30.0) == pytest.approx(54, abs=1.5)


def test_redshift_is_the_inverse_of_distance():
    z = torch.tensor([0.01, 0.1, 0.5, 1.0, 2.5], dtype=torch.float64)
    assert torch.allclose(redshift_at(comoving_distance_mpc(z) * (1 + z)), z, rtol=1e-4)
    assert torch.isnan(redshift_at(torch.tensor([1e6]).double())).all()
