"""Linear combinations of frequencies: exact where they should be, and never better than the least error."""

import json
import math

import numpy as np
import pytest
import torch

from gsnn.baselines.component_separation import ILC, FrequencyWiener
from gsnn.data.components import beam, combine, covariance, lost, plane, rings, shares, to_modes
from gsnn.data.schema import Column, Schema
from gsnn.data.shear import ARCMIN, multipoles, twice
from gsnn.errors import GsnnError

SIDE, PIXEL = 32, 10.0
SPECTRUM = [[2, 4000], [1e-3, 1e-3]]


def schema(beams=(30.0, 15.0, 10.0), **more) -> Schema:
    bands = tuple("abc"[: len(beams)])
    maps = Column("maps", "image", bands=bands, shape=(len(beams), SIDE, SIDE), pixel_scale=60 * PIXEL)
    return Schema.of([maps], beams_arcmin=json.dumps(beams), beam_arcmin="12", spectrum=json.dumps(SPECTRUM), **more)


def skies(n: int, noise: float = 1.0, seed: int = 0, beams=(30.0, 15.0, 10.0)):
    """White skies behind beams with a foreground that grows from band to band, and white noise."""
    random = np.random.default_rng(seed)
    multipole = multipoles(SIDE, PIXEL)
    cmb, front = (torch.tensor(random.normal(size=(n, SIDE, SIDE))) for _ in range(2))
    cmb = cmb * math.sqrt(1e-3) / (PIXEL * ARCMIN)
    bands = [cmb + k * 20 * front for k in (0.3, 1.0, 3.0)]
    seen = [torch.fft.irfft2(torch.fft.rfft2(b) * beam(multipole, f)) for b, f in zip(bands, beams)]
    maps = torch.stack(seen, 1) + noise * torch.tensor(random.normal(size=(n, 3, SIDE, SIDE)))
    truth = torch.fft.irfft2(torch.fft.rfft2(cmb) * beam(multipole, 12.0))
    return maps, truth - truth.mean((1, 2), keepdim=True)


def test_all_modes_are_counted_once():
    place, counts = rings(multipoles(SIDE, PIXEL))
    assert float(counts.sum()) == float(twice(SIDE).sum() * SIDE) == SIDE**2
    assert place.max() == len(counts) - 1
    assert counts.min() >= 1
    where = plane(schema(), schema()["maps"])
    assert torch.allclose(where.average.sum(1), torch.ones(len(counts), dtype=torch.float64))


def test_a_component_that_all_bands_see_alike_is_left_as_it_is():
    """The internal combination has unit response to the background at every mode, whatever is in front."""
    where = plane(schema(), schema()["maps"])
    maps, _ = skies(4)
    weight = shares(covariance(to_modes(maps), where), where, wiener=False)
    assert torch.allclose((weight * where.seen).sum(1), where.wanted.expand(4, -1, -1), atol=1e-9)


def test_without_noise_a_foreground_of_one_law_is_gone():
    beams = (14.0, 12.0, 10.0)
    where = plane(schema(beams), schema(beams)["maps"])
    maps, truth = skies(64, noise=1e-4, beams=beams)
    usual = covariance(to_modes(maps), where).mean(0, keepdim=True)
    told = combine(to_modes(maps), shares(usual, where, wiener=False))
    assert float((told - truth).std()) < 0.02 * float(truth.std())


def test_the_wiener_filter_errs_as_it_says_and_less_than_others():
    where = plane(schema(), schema()["maps"])
    maps, _ = skies(200, noise=6.0, seed=1)
    usual = covariance(to_modes(maps), where).mean(0)
    known = plane(schema(covariance=json.dumps(usual.tolist())), schema()["maps"])
    new, truth = skies(200, noise=6.0, seed=2)
    errors = {
        wiener: float((combine(to_modes(new), shares(usual[None], where, wiener=wiener)) - truth).square().mean())
        for wiener in (True, False)
    }
    assert errors[True] < errors[False]
    told = float((where.power * where.wanted**2 * lost(known)).flatten() @ twice(SIDE).repeat(SIDE)) / SIDE**2
    assert errors[True] == pytest.approx(told, rel=0.1)
    assert float(lost(where).min()) == 1


class View:
    """The little of a view that a baseline asks."""

    def __init__(self, maps, truth):
        self.data = {"maps": maps.float().numpy(), "cmb": truth[:, None].float().numpy()}

    def __len__(self):
        return len(self.data["maps"])

    def take(self, rows):
        some = object.__new__(View)
        some.data = {name: value[rows] for name, value in self.data.items()}
        return some

    def chunks(self, names, size):
        for i in range(0, len(self), size):
            yield {name: self.data[name][i : i + size] for name in names}


@pytest.mark.parametrize("kind", [ILC, FrequencyWiener])
def test_baselines_choose_their_mix_and_cover(kind):
    target = Column("cmb", "image", shape=(1, SIDE, SIDE))
    baseline = kind(schema(), target)
    baseline.fit(View(*skies(100, seed=1)), View(*skies(40, seed=2)), 0)
    maps, truth = skies(40, seed=3)
    told = baseline.predict(View(maps, truth))["cmb"]
    inside = (told.low <= truth[:, None].numpy()) & (truth[:, None].numpy() <= told.high)
    assert inside.mean() == pytest.approx(0.68, abs=0.03)
    assert baseline.chosen > 0.5  # the patch's own covariance has few modes
    assert str(baseline.chosen) in baseline.describe()


def test_maps_that_do_not_say_their_beams_are_refused():
    plain = Schema.of([schema()["maps"]])
    with pytest.raises(GsnnError, match="which beams"):
        plane(plain, plain["maps"])
    wrong = schema(beams=(30.0, 15.0))
    with pytest.raises(GsnnError, match="2 beams"):
        plane(wrong, schema()["maps"])
    target = Column("cmb", "image", shape=(1, 16, 16))
    with pytest.raises(GsnnError, match="not 'cmb'"):
        ILC(schema(), target)


def test_broken_pixels_are_refused():
    maps, truth = skies(4)
    maps[0, 0, 0, 0] = torch.nan
    baseline = ILC(schema(), Column("cmb", "image", shape=(1, SIDE, SIDE)))
    with pytest.raises(GsnnError, match="not finite"):
        baseline.fit(View(maps, truth), View(maps, truth), 0)
