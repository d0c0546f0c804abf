"""Random fields have the spectrum that they were fitted to, and follow the inputs; lognormal ones have peaks too."""

import numpy as np
import pytest
import torch

from gsnn.baselines.random_fields import GaussianMaps, LognormalMaps
from gsnn.data.schema import Column, Schema
from gsnn.errors import GsnnError
from gsnn.evaluation.generated import measure
from gsnn.simulate.mesh import coloured, wavenumbers

SIDE = 16
MAP = Column("map", "field", shape=(1, SIDE, SIDE), box=float(SIDE))
INPUTS = Schema.of([Column("strength", "scalar")])
KINDS = {"gaussian": GaussianMaps, "lognormal": LognormalMaps}


class View:
    def __init__(self, data, rows):
        self.data, self.rows = data, np.asarray(rows)

    def __len__(self):
        return len(self.rows)

    def columns(self, names):
        return {name: self.data[name][self.rows] for name in names}

    def chunks(self, names, count):
        for start in range(0, len(self.rows), count):
            yield {name: self.data[name][self.rows[start : start + count]] for name in names}


@pytest.fixture(scope="module")
def data():
    """Lognormal maps of a mean of 1, whose contrast goes with the strength."""
    random = torch.Generator().manual_seed(0)
    strength = torch.linspace(0.3, 0.8, 3000)[torch.randperm(3000, generator=random)]
    k = wavenumbers(SIDE, 2 * np.pi)
    spectrum = torch.where(k > 0, 8 / k.clamp(min=1) ** 1.5, 0.0)
    white = torch.randn(3000, SIDE, SIDE, generator=random)
    g = coloured(white, spectrum.float().expand(3000, -1, -1), 1.0) * strength[:, None, None]
    made = torch.exp(g - g.var((1, 2), keepdim=True) / 2)
    return {"map": made[:, None].numpy(), "strength": strength.numpy()}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_draws_have_the_power_of_the_fields_at_every_strength(data, kind):
    made = kind(INPUTS, MAP)
    made.fit(View(data, range(2000)), View(data, range(2000, 2400)), 0)
    test = np.arange(2400, 3000)
    found = made.predict(View(data, test))["map"]
    assert found.value.shape == (600, 2, 1, SIDE, SIDE)
    for some in (data["strength"][test] < 0.5, data["strength"][test] > 0.6):
        own = found.take(np.flatnonzero(some)).measured
        true = measure(data["map"][test[some]], MAP)
        np.testing.assert_allclose(own.power.mean(0)[:6], true.power.mean(0)[:6], rtol=0.2)
    own, true = found.measured.bispectrum.mean(0), measure(data["map"][test], MAP).bispectrum.mean(0)
    if kind is GaussianMaps:
        assert (abs(own) < 0.3 * true).all()
    else:
        assert found.value.min() >= data["map"][:2000].min() - 1e-5
        np.testing.assert_allclose(own[:2], true[:2], rtol=0.4)
    assert "2000 training fields" in made.describe()
    np.testing.assert_array_equal(made.predict(View(data, test[5:7]))["map"].value, found.value[5:7])


def test_without_inputs_there_is_one_spectrum(data):
    made = GaussianMaps(Schema.of([]), MAP)
    made.fit(View(data, range(500)), View(data, range(500, 700)), 0)
    own = made.predict(View(data, range(700, 1200)))["map"].measured.power.mean(0)
    np.testing.assert_allclose(own[:6], measure(data["map"][700:1200], MAP).power.mean(0)[:6], rtol=0.2)


@pytest.mark.parametrize(
    ("inputs", "target", "match"),
    [
        (INPUTS, Column("z", "scalar"), "one channel and equal sides"),
        (INPUTS, Column("map", "field", shape=(2, 8, 8)), "one channel and equal sides"),
        (INPUTS, Column("map", "field", shape=(1, 8, 4)), "one channel and equal sides"),
        (Schema.of([Column("image", "image", shape=(1, 8, 8))]), MAP, "give scalars"),
    ],
)
def test_what_cannot_be_is_refused(inputs, target, match):
    with pytest.raises(GsnnError, match=match):
        GaussianMaps(inputs, target)
