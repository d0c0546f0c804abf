"""The microwave sky in Planck's bands: units against closed forms, purity, and spectra that are what they should be."""

import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.components import beam
from gsnn.data.source import Source
from gsnn.errors import ConfigError
from gsnn.simulate import foregrounds
from gsnn.simulate.foregrounds import CHANNELS, COMPONENTS, Foregrounds, hot_gas, thermodynamic


@pytest.fixture(scope="module")
def sky():
    return Foregrounds(patches=64, side=32)


def test_units_of_the_background():
    """Planck's law: dT_RJ / dT = x^2 e^x / (e^x - 1)^2, by finite differences; the null of hot gas at 217.5 GHz."""
    for ghz in (30.0, 143.0, 353.0):
        x = ghz * foregrounds.GHZ

        def antenna(kelvin, x=x):
            return x / np.expm1(x / kelvin)

        slope = (antenna(foregrounds.T_CMB + 1e-5) - antenna(foregrounds.T_CMB - 1e-5)) / 2e-5
        assert float(thermodynamic(ghz)) == pytest.approx(1 / slope, rel=1e-6)
    assert hot_gas(1e-3) == pytest.approx(-2, abs=1e-6)  # Rayleigh-Jeans
    assert hot_gas(217.0) < 0 < hot_gas(218.0)


def test_rows_are_pure_and_of_their_schema(sky):
    assert isinstance(sky, Source)
    assert isinstance(build({"name": "foregrounds", "patches": 3}, "source"), Foregrounds)
    rows = np.array([7, 0, 40])
    batch = sky.rows(rows, 3)
    assert batch.schema == sky.schema().arrow()
    for place, row in enumerate(rows):
        alone = sky.rows(np.array([row]), 3)
        for name in ("maps", "cmb"):
            mine = np.asarray(batch[name].slice(place, 1).flatten())
            assert np.allclose(mine, np.asarray(alone[name].flatten()), atol=1e-4)
    assert sky.rows(np.array([], dtype=np.int64), 3).num_rows == 0
    assert np.abs(np.asarray(batch["maps"].flatten()).reshape(3, 7, -1).mean(2)).max() < 1e-2


def test_the_background_has_its_spectrum(sky):
    known, power = foregrounds.background()
    drawn = sky.columns(torch.arange(64), 0)["cmb"][:, 0]
    area = (sky.pixel * foregrounds.ARCMIN) ** 2
    modes = np.abs(np.fft.rfft2(drawn.astype(float), norm="ortho")) ** 2 * area
    want = torch.from_numpy(np.interp(sky.multipole.numpy(), known, power)) * beam(sky.multipole, sky.beam) ** 2
    for low, high in ((150, 500), (500, 900), (900, 1300)):
        ring = ((sky.multipole > low) & (sky.multipole < high)).numpy()
        assert modes[:, ring].sum() / (64 * want.numpy()[ring].sum()) == pytest.approx(1, abs=0.1)


def test_each_component_is_brightest_where_it_should_be(sky):
    parts = sky.components(torch.arange(16), 0)
    assert tuple(parts) == COMPONENTS
    level = {name: one.std((2, 3)).median(0).values for name, one in parts.items()}
    assert (level["synchrotron"].diff() < 0).all()
    assert (level["dust"].diff() > 0).all()
    assert level["hot gas"].argmin() == list(CHANNELS).index("217")
    assert (parts["hot gas"][:, 0] <= 0).all()
    assert (parts["hot gas"][:, -1] >= 0).all()
    assert (parts["radio sources"] >= 0).all()
    bright = Foregrounds(patches=16, side=32, brightness=(4.0, 4.0)).components(torch.arange(16), 0)
    quiet = Foregrounds(patches=16, side=32, brightness=(1.0, 1.0)).components(torch.arange(16), 0)
    assert torch.allclose(bright["dust"], 4 * quiet["dust"])
    assert torch.equal(bright["hot gas"], quiet["hot gas"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"patches": 0}, "at least one"),
        ({"side": 33}, "even"),
        ({"bands": ("30", "545")}, "545"),
        ({"bands": ("30",)}, "two bands"),
        ({"pixel": 20.0}, "sample"),
        ({"brightness": (2.0, 1.0)}, "least before"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        Foregrounds(**settings)
