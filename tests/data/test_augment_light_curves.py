"""What must hold for every change of light curves, and what each one does."""

import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.augment_light_curves import Dim, DropBands, DropObservations, Redshift, Truncate
from gsnn.data.light_curves import LightCurves
from gsnn.data.schema import CURVE, Column, Schema
from gsnn.errors import ConfigError, GsnnError
from gsnn.rng import Rng
from gsnn.simulate.cosmology import distance_modulus

EVERY = [
    {"name": "dim", "probability": 1.0},
    {"name": "redshift", "redshift": "z", "probability": 1.0, "stretch": [1.05, 1.2]},
    {"name": "drop-observations"},
    {"name": "drop-bands", "probability": 0.4},
    {"name": "truncate", "probability": 1.0},
]
AT_REST = [
    Dim(magnitudes=0.0),
    Redshift(redshift="z", probability=0.0),
    DropObservations(fraction=0.0),
    DropBands(probability=0.0),
    Truncate(start=0.0, end=0.0),
]
INPUTS = Schema.of(
    [Column("lc", "light_curve", unit="nJy", bands=("g", "r", "i"), time_unit="d"), Column("z", "scalar")]
)


def sky(n=24, peak=400.0, first_row=100):
    """Transients of 20 to 60 observations whose errors are those of the sky, 5, and of their own photons."""
    curves = []
    for row in range(first_row, first_row + n):
        random = np.random.default_rng(row)
        steps = int(random.integers(20, 61))
        time, band = np.sort(random.uniform(0, 100, steps)), random.integers(0, 3, steps)
        flux = peak * np.exp(-0.5 * ((time - 50) / 15) ** 2) * (1 + 0.2 * band)
        error = np.sqrt(25 + 0.1 * flux)
        curves.append((time, flux + error * random.normal(size=steps), error, band))
    batch = {f"lc.{k}": torch.from_numpy(v) for k, v in LightCurves.of(curves).padded().items()}
    rows = torch.arange(first_row, first_row + n)
    return {**batch, "z": 0.1 + 0.3 * torch.rand(n, generator=torch.manual_seed(1)), "row": rows, "kind": rows % 2}


def names(specs):
    return [spec["name"] if isinstance(spec, dict) else type(spec).__name__ for spec in specs]


@pytest.mark.parametrize("spec", EVERY, ids=names(EVERY))
class TestEvery:
    def test_says_its_symmetry(self, spec):
        assert build(spec, "augment").symmetry.endswith(".")

    def test_is_still_a_light_curve_and_leaves_the_rest(self, spec):
        batch = sky()
        before = {name: tensor.clone() for name, tensor in batch.items()}
        after = build(spec, "augment")(batch, Rng(1), INPUTS)
        for name in CURVE:
            assert after[f"lc.{name}"].shape == batch[f"lc.{name}"].shape
            assert after[f"lc.{name}"].dtype == batch[f"lc.{name}"].dtype
            assert torch.equal(batch[f"lc.{name}"], before[f"lc.{name}"])  # the batch given is not written to
        valid, time = after["lc.valid"], after["lc.time"]
        assert valid.any(1).all()
        assert (valid.long().diff(dim=1) <= 0).all()  # padding stands at the end
        assert (time[:, 0] == 0).all()
        assert (time.diff(dim=1)[valid[:, 1:]] >= 0).all()
        assert (after["lc.flux_error"][valid] > 0).all()
        assert after["lc.flux"].isfinite().all()
        for name in ("time", "flux", "flux_error", "band"):
            assert (after[f"lc.{name}"][~valid] == 0).all()
        for name in ("row", "kind"):
            assert torch.equal(after[name], before[name])

    def test_it_does_something_and_something_else_next_epoch(self, spec):
        batch, change = sky(), build(spec, "augment")
        first, second = (change(batch, Rng(1, epoch), INPUTS)["lc.flux"] for epoch in (0, 1))
        assert (first != batch["lc.flux"]).any()
        assert (first != second).any()

    def test_an_object_is_changed_alike_in_any_batch(self, spec):
        batch, change = sky(), build(spec, "augment")
        whole = change(batch, Rng(1), INPUTS)
        some, steps = torch.tensor([7, 2, 11]), batch["lc.valid"].sum(1)[[7, 2, 11]].max()
        part = {k: v[some][:, :steps] if k.startswith("lc.") else v[some] for k, v in batch.items()}
        for name, tensor in change(part, Rng(1), INPUTS).items():
            wanted = whole[name][some][:, :steps] if name.startswith("lc.") else whole[name][some]
            torch.testing.assert_close(tensor, wanted, rtol=1e-4, atol=1e-2)  # of 400: float32 solves a matrix

    def test_an_empty_batch_and_one_without_light_curves(self, spec):
        change = build(spec, "augment")
        empty = change({name: tensor[:0] for name, tensor in sky().items()}, Rng(1), INPUTS)
        assert empty["lc.flux"].shape[0] == 0
        table = {"row": torch.arange(3), "z": torch.rand(3)}
        assert torch.equal(change(table, Rng(1), INPUTS.select(["z"]))["z"], table["z"])


@pytest.mark.parametrize("change", AT_REST, ids=names(AT_REST))
def test_no_amplitude_is_no_change(change):
    batch = sky()
    torch.testing.assert_close(change(batch, Rng(1), INPUTS), batch, rtol=0, atol=0)


def test_a_dimmed_object_has_the_noise_that_it_would_have():
    """A source of 200 with errors of sky 5 and photons 10: its scatter after dimming is what its errors say."""
    n, steps = 400, 40
    sky2, photons2 = 25.0, 100.0
    error = torch.full((n, steps), (sky2 + photons2) ** 0.5)
    error[:, ::2] = sky2**0.5  # before the explosion
    level = torch.zeros(n, steps)
    level[:, 1::2] = 200.0
    batch = {
        "lc.time": torch.arange(float(steps)).expand(n, -1),
        "lc.flux": level + error * torch.randn(n, steps, generator=torch.manual_seed(0)),
        "lc.flux_error": error,
        "lc.band": torch.zeros(n, steps, dtype=torch.long),
        "lc.valid": torch.ones(n, steps, dtype=torch.bool),
        "row": torch.arange(n),
    }
    batch["lc.flux_error"][:, 1] = error[0, 0]  # so that the median of the band is that of the sky
    inputs = Schema.of([Column("lc", "light_curve", unit="nJy", bands=("g",))])
    after = Dim(magnitudes=2.0, probability=1.0)(batch, Rng(3), inputs)
    bright = slice(3, None, 2)
    k = after["lc.flux"][:, bright].mean(1, keepdim=True) / 200
    assert 0.1 < k.min() < 0.25
    assert 0.9 < k.max() < 1.1
    wanted = (sky2 + k * photons2) ** 0.5
    assert torch.allclose(after["lc.flux_error"][:, bright], wanted.expand(-1, steps // 2 - 1), rtol=0.1)
    pull = (after["lc.flux"][:, bright] - 200 * k) / after["lc.flux_error"][:, bright]
    assert abs(pull.std() - 1) < 0.05


def test_a_redshift_dims_and_stretches_as_the_universe_does():
    batch = sky(peak=40000.0)
    change = Redshift(redshift="z", probability=1.0, stretch=(1.2, 1.2), detection=0.0)
    after = change(batch, Rng(2), INPUTS)
    torch.testing.assert_close(1 + after["z"], 1.2 * (1 + batch["z"]))
    fainter = 10 ** (-0.4 * (distance_modulus(after["z"]) - distance_modulus(batch["z"]))) * 1.2
    # what is seen in r came from 6260 / 1.2 Angstrom, between g and r
    before_r, after_r = ([c["lc.flux"][i][c["lc.band"][i] == 1].max() for i in range(24)] for c in (batch, after))
    ratio = torch.tensor(after_r) / torch.tensor(before_r) / fainter
    assert 0.75 < ratio.median() < 1.05

    def width(c, i):
        own = c["lc.valid"][i] & (c["lc.band"][i] == 1)
        t, f = c["lc.time"][i][own].double(), c["lc.flux"][i][own].double().clamp(min=0)
        mean = (t * f).sum() / f.sum()
        return ((t - mean) ** 2 * f).sum().div(f.sum()).sqrt()

    stretch = torch.stack([width(after, i) / width(batch, i) for i in range(24)])
    assert 1.1 < stretch.median() < 1.3


def test_the_same_redshift_gives_back_the_light_within_its_noise():
    batch = sky()
    change = Redshift(redshift="z", probability=1.0, stretch=(1.0, 1.0), detection=0.0)
    after = change(batch, Rng(2), INPUTS)
    pull = (after["lc.flux"] - batch["lc.flux"]) / batch["lc.flux_error"].clamp(min=1e-6)
    assert pull[batch["lc.valid"]].std() < 1.5


@pytest.mark.parametrize("spec", [EVERY[0], EVERY[1]], ids=["dim", "redshift"])
def test_what_a_survey_would_not_have_found_stays(spec):
    batch = sky(peak=30.0)
    strict = build({**spec, "detection": 1e4}, "augment")
    torch.testing.assert_close(strict(batch, Rng(1), INPUTS), batch, rtol=0, atol=0)


def test_a_band_is_left_and_dropped_bands_are_gone():
    batch = sky(n=200)
    after = DropBands(probability=0.9)(batch, Rng(1), INPUTS)
    bands = torch.stack([(after["lc.valid"] & (after["lc.band"] == k)).any(1) for k in range(3)], 1).sum(1)
    assert bands.min() == 1
    assert (bands == 1).float().mean() > 0.5


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Redshift(redshift="z", stretch=(2.0, 1.0)), "stretch"),
        (lambda: Truncate(start=0.6, end=0.5), "leave nothing"),
        (lambda: build({"name": "dim", "magnitudes": -1.0}, "augment"), "greater than or equal"),
        (lambda: build({"name": "redshift"}, "augment"), "needed"),
        (lambda: Redshift(redshift="zz")(sky(), Rng(1), INPUTS), "holds the redshift; known: z"),
        (lambda: Redshift(redshift="z")(sky(), Rng(1), _other_bands()), "no wavelength is known of band 'a'"),
    ],
)
def test_mistakes_are_told(make, words):
    with pytest.raises((ConfigError, GsnnError), match=words):
        make()


def _other_bands():
    return Schema.of([Column("lc", "light_curve", bands=("a", "b", "c")), Column("z", "scalar")])
