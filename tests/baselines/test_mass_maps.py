"""Kaiser & Squires and the Wiener filter as baselines: tuned on validation, with widths that hold."""

import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.schema import Column, Schema
from gsnn.data.shear import power_of, shear_of
from gsnn.errors import ConfigError, GsnnError
from gsnn.evaluation.map_metrics import map_coverage, map_squared_error

SIDE = 32
SPECTRUM = "[[10, 1000000], [1e-5, 1e-15]]"  # falls as l^-2


class Maps:
    """The contract of a view on Gaussian skies in memory."""

    def __init__(self, schema, count=40, amplitude=1.0, seed=0, masked=True):
        draw = torch.Generator().manual_seed(seed)
        power = amplitude * power_of(schema.select(["shear", "noise"]), schema["shear"])
        sky = torch.fft.rfft2(torch.randn(count, SIDE, SIDE, generator=draw, dtype=torch.float64)) * power.sqrt()
        kappa = torch.fft.irfft2(sky, s=(SIDE, SIDE))
        noise = torch.full((count, 1, SIDE, SIDE), 0.3, dtype=torch.float64) * kappa.std()
        if masked:
            noise[:, :, :6] = 0
            noise[:, :, :, 20:] *= 2
        grain = torch.randn(count, 2, SIDE, SIDE, generator=draw, dtype=torch.float64)
        shear = (shear_of(kappa) + grain * noise) * (noise > 0)
        self.data = {"shear": shear, "noise": noise, "kappa": kappa[:, None]}
        self.data = {name: value.float().numpy() for name, value in self.data.items()}

    def __len__(self):
        return len(self.data["kappa"])

    def take(self, rows):
        other = object.__new__(Maps)
        other.data = {name: value[rows] for name, value in self.data.items()}
        return other

    def chunks(self, names, size):
        for start in range(0, len(self), size):
            yield {name: self.data[name][start : start + size] for name in names}


@pytest.fixture(scope="module")
def schema():
    scale = {"pixel_scale": 60.0}
    columns = [
        Column("shear", "image", shape=(2, SIDE, SIDE), **scale),
        Column("noise", "image", shape=(1, SIDE, SIDE), **scale),
        Column("kappa", "image", shape=(1, SIDE, SIDE), **scale),
    ]
    return Schema.of(columns, spectrum=SPECTRUM)


def fitted(schema, spec, view):
    made = build(spec, "baseline", schema.select(["shear", "noise"]), schema["kappa"])
    made.fit(view, view, 0)
    return made


def error(found, view):
    return float(map_squared_error(found, view.data["kappa"]).mean())


@pytest.mark.parametrize("amplitude", [1.0, 2.0])
def test_the_wiener_filter_finds_the_amplitude_and_beats_kaiser_squires(schema, amplitude):
    view = Maps(schema, amplitude=amplitude)
    filtered, inverted = (fitted(schema, name, view) for name in ("wiener", "kaiser-squires"))
    assert filtered.chosen == pytest.approx(amplitude, rel=0.2)
    assert error(filtered.predict(view)["kappa"], view) < error(inverted.predict(view)["kappa"], view)
    assert f"times {filtered.chosen:g}" in filtered.describe()
    assert "arcmin" in inverted.describe()


@pytest.mark.parametrize("masked", [True, False])
def test_its_intervals_cover_what_they_say_on_gaussian_skies(schema, masked):
    view = Maps(schema, masked=masked)
    told = fitted(schema, {"name": "wiener", "realisations": 64}, view).predict(view)["kappa"]
    assert float(map_coverage(told, view.data["kappa"]).mean()) == pytest.approx(0.68, abs=0.02)
    assert not fitted(schema, "kaiser-squires", view).predict(view)["kappa"].proper


def test_a_smoothing_that_is_given_is_not_tuned(schema):
    view = Maps(schema, count=4)
    assert fitted(schema, {"name": "kaiser-squires", "smoothing": 3.0}, view).chosen == 3.0


def test_only_what_was_observed_is_told(schema):
    view = Maps(schema, count=3)
    for name in ("wiener", "kaiser-squires"):
        told = fitted(schema, name, view).predict(view)["kappa"]
        assert (told.inside == (view.data["noise"] > 0)).all()
        assert len(told.take(np.array([2]))) == 1


def test_a_mask_that_hides_everything_is_refused(schema):
    view = Maps(schema, count=2)
    view.data["noise"][1] = 0
    with pytest.raises(GsnnError, match="hides everything"):
        fitted(schema, "wiener", view)


def test_a_target_that_is_no_map_is_refused(schema):
    with pytest.raises(ConfigError, match="answers a map"):
        build("wiener", "baseline", schema.select(["shear", "noise"]), schema["shear"])
