"""Spectra of fields against closed forms; metrics of fields that are right, half right and unrelated."""

import numpy as np
import pytest
import torch

from gsnn.data.schema import Column
from gsnn.errors import GsnnError
from gsnn.evaluation.distributions import concatenate
from gsnn.evaluation.fields import Fields, bispectrum, densities, spectra, told
from gsnn.evaluation.judge import judge
from gsnn.evaluation.metrics import METRICS, metrics_for
from gsnn.report.spectra import field_spectra
from gsnn.simulate.mesh import to_cells, to_modes, wavenumbers
from gsnn.simulate.nbody import NBody

DENSITY = Column("density", "field", shape=(1, 16, 16, 16))
IMAGE = Column("map", "image", shape=(2, 16, 16))
MOVED = Column("moved", "field", unit="Mpc/h", box=32.0, shape=(3, 16, 16, 16))
COLUMNS = {"a density": DENSITY, "an image": IMAGE, "particles": MOVED}


def noise(column, n=5, seed=0):
    return np.random.default_rng(seed).standard_normal((n, *column.shape)).astype(np.float32)


def score(name, prediction, truth):
    return float(METRICS[name](prediction, truth, np.ones((1, len(truth))))[0])


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_what_is_right_is_right_and_what_is_unrelated_is_unrelated(column):
    truth = noise(column)
    right, other = Fields(truth, column), Fields(noise(column, seed=1), column)
    assert {m.name for m in metrics_for(right, column)} == {"voxel_rmse", "power_error", "correlation"}
    assert score("voxel_rmse", right, truth) == 0
    assert score("power_error", right, truth) == pytest.approx(0, abs=1e-6)
    assert score("correlation", right, truth) == pytest.approx(1, abs=1e-6)
    assert score("voxel_rmse", other, truth) == pytest.approx(np.sqrt(2), rel=0.05)
    assert abs(score("correlation", other, truth)) < 0.3


def test_half_the_field_has_a_quarter_of_the_power_and_all_of_the_correlation():
    truth = noise(DENSITY)
    found = spectra(Fields(truth / 2, DENSITY), truth)
    np.testing.assert_allclose(found.transfer, 0.25, rtol=1e-4)
    np.testing.assert_allclose(found.correlation, 1, rtol=1e-4)
    assert found.k[-1] == 1
    assert score("power_error", Fields(truth / 2, DENSITY), truth) == pytest.approx(0.75, abs=1e-4)


def test_noise_lowers_the_correlation_as_it_must():
    """Of white noise and itself with as much other noise: r = 1 / sqrt(2), P / P true = 2."""
    truth, column = noise(DENSITY, 30), DENSITY
    found = spectra(Fields(truth + noise(column, 30, seed=1), column), truth)
    assert found.correlation[:, 4:].mean() == pytest.approx(np.sqrt(0.5), abs=0.01)
    assert found.transfer[:, 4:].mean() == pytest.approx(2, rel=0.05)


def test_a_wave_stands_in_its_own_shell():
    x = np.arange(16) / 16
    wave = np.broadcast_to(np.cos(2 * np.pi * 3 * x), DENSITY.shape).astype(np.float32)[None]
    found = spectra(Fields(wave, DENSITY), wave)
    assert found.own[0].argmax() == 2  # the third: shells begin at one wave a box
    assert found.own[0].sum() - found.own[0, 2] < 1e-6 * found.own[0, 2]


def test_the_power_of_white_noise_is_the_volume_of_a_voxel():
    column = Column("density", "field", shape=(1, 16, 16, 16), box=32.0)
    found = told({"network": Fields(noise(column, 20), column)}, noise(column, 20, seed=1))
    np.testing.assert_allclose(np.mean(found["truth"][3:]), 8.0, rtol=0.03)
    np.testing.assert_allclose(np.mean(found["each"]["network"]["power"][3:]), 8.0, rtol=0.03)
    assert found["k"][-1] == pytest.approx(np.pi / 2)
    assert found["unit"] == "h/Mpc"


def test_the_bispectrum_of_a_skewed_field_is_that_of_second_order():
    """Of g + b (g^2 - mean) it is 6 b P^2 to lowest order; of a Gaussian field nothing, of a mirror the opposite."""
    generator = torch.Generator().manual_seed(0)
    shell = torch.round(wavenumbers(32, 2 * np.pi, 3))
    white = torch.randn(60, 32, 32, 32, generator=generator, dtype=torch.float64)
    g = to_cells(to_modes(white) * (shell <= 14) * 0.3, 32)
    power = 0.3**2 * 2.0**3  # a box of 64: voxels of 2
    skewed = bispectrum(g + 0.1 * g**2, 64.0)[:, 3:].mean()
    assert skewed == pytest.approx(6 * 0.1 * power**2, rel=0.15)
    assert abs(bispectrum(g, 64.0)[:, 3:].mean()) < 0.1 * skewed
    np.testing.assert_allclose(bispectrum(-g, 64.0), -bispectrum(g, 64.0), atol=1e-12)


def test_particles_are_judged_by_their_density_and_no_mass_is_lost():
    made = densities(noise(MOVED), MOVED)
    assert made.shape == (5, 1, 16, 16, 16)
    assert made.flatten(1).mean(1).abs().max() < 1e-5
    still = densities(np.zeros((1, 3, 16, 16, 16)), MOVED)
    torch.testing.assert_close(still, torch.zeros_like(still))


def test_a_verdict_with_baselines_and_a_figure():
    truth = noise(MOVED)
    close, far = (Fields(truth + size * noise(MOVED, seed=1), MOVED) for size in (0.1, 0.8))
    verdict = judge(close, truth, MOVED, baselines={"2lpt": far}, resamples=50)
    assert verdict["headline_metric"] == "correlation"
    assert verdict["baselines"]["2lpt"]["correlation"]["difference"]["value"] > 0
    assert verdict["calibration"] == {}
    joined = concatenate([close.take(np.arange(2)), close.take(np.arange(2, 5))])
    np.testing.assert_array_equal(joined.value, close.value)
    assert close.to_columns("moved")["prediction"][0].size == 3 * 16**3
    drawn = field_spectra(told({"network": close, "2lpt": far}, truth))
    assert set(drawn.data) >= {"k", "truth", "network: transfer", "2lpt: correlation sd"}
    assert len({len(column) for column in drawn.data.values()}) == 1
    assert "half of the Nyquist frequency r = " in drawn.alt


def test_second_order_goes_further_than_first_with_the_simulation():
    nbody = NBody(boxes=2, side=16, box=128.0, steps=6)
    made = nbody.draw(torch.full((2,), 0.3), torch.full((2,), 0.8), torch.arange(2), 0)
    truth, column = made["nbody"].numpy(), nbody.schema()["nbody"]
    zeldovich, lpt = (spectra(Fields(made[name].numpy(), column), truth) for name in ("zeldovich", "lpt"))
    assert lpt.correlation[:, 0].mean() > zeldovich.correlation[:, 0].mean()


def test_what_cannot_be_is_refused():
    with pytest.raises(GsnnError, match="no values of 'density'"):
        Fields(noise(IMAGE), DENSITY)
    column = Column("density", "field", shape=(1, 16, 8))
    with pytest.raises(GsnnError, match="squares and cubes"):
        spectra(Fields(noise(column), column), noise(column))
