"""Maps are taught where there are data: sums and weights, quantiles, and a network that corrects the Wiener filter."""

import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.schema import Column, Schema
from gsnn.data.shear import wiener
from gsnn.errors import ConfigError, GsnnError
from gsnn.simulate.lensing import Lensing

SIDE = 32
SOURCE = Lensing(side=SIDE, pixel=1.16, margin=0, maps=8)
SCHEMA = SOURCE.schema()
INPUTS, TARGET = SCHEMA.select(["shear", "noise"]), SCHEMA.select(["kappa"])


@pytest.fixture(scope="module")
def batch():
    rows = SOURCE.rows(np.arange(8), 0)
    arrays = {
        name: torch.tensor(rows[name].to_pylist()).view(8, -1, SIDE, SIDE) for name in ("shear", "noise", "kappa")
    }
    return arrays | {"row": torch.arange(8)}


class Columns:
    def __init__(self, batch):
        self.batch = batch

    def __len__(self):
        return 8

    def take(self, rows):
        return self

    def columns(self, names):
        return {name: self.batch[name].numpy() for name in names}


def objective(model=None, inputs=INPUTS, targets=TARGET, **settings):
    torch.manual_seed(0)
    spec = model or {"name": "mass-map", "width": 8, "depth": 2}
    return build({"name": "map", **settings}, "objective", inputs, targets, lambda i, o: build(spec, "model", i, o))


@pytest.fixture
def fitted(batch):
    made = objective(within="noise")
    made.fit(Columns(batch))
    return made


def test_a_loss_is_the_same_however_the_batch_is_cut(fitted, batch):
    whole = fitted.terms(fitted(batch), batch)
    parts = [{name: value[some] for name, value in batch.items()} for some in (slice(0, 3), slice(3, 8))]
    cut = [fitted.terms(fitted(part), part) for part in parts]
    for name, (total, weight) in whole.items():
        torch.testing.assert_close(sum(c[name][0] for c in cut), total, rtol=1e-4, atol=1e-3)
        assert sum(float(c[name][1]) for c in cut) == float(weight) == float((batch["noise"] > 0).sum())
    sum(total / weight for total, weight in whole.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in fitted.parameters())


def test_what_lies_outside_teaches_nothing(fitted, batch):
    changed = batch | {"kappa": batch["kappa"] + 1e3 * (batch["noise"] == 0)}
    out = fitted(batch)
    for name, (total, _) in fitted.terms(out, batch).items():
        torch.testing.assert_close(fitted.terms(out, changed)[name][0], total)
    unknown = batch | {"kappa": batch["kappa"].clone()}
    unknown["kappa"][2] = torch.nan
    total, weight = fitted.terms(out, unknown)["squared_error"]
    assert torch.isfinite(total)
    assert weight < (batch["noise"] > 0).sum()


def test_the_pinball_loss_is_least_at_the_quantiles(fitted, batch):
    random = torch.Generator().manual_seed(0)
    errors = torch.empty(8, 1, SIDE, SIDE).exponential_(generator=random) - 1.0  # skewed, of mean 0
    like = batch | {"kappa": errors * fitted.scale, "noise": torch.ones_like(batch["noise"])}

    def loss(below, above):
        raw = [torch.log(torch.expm1(torch.full_like(errors, v))) for v in (below, above)]
        return float(fitted.terms(torch.cat([torch.zeros_like(errors), *raw], 1), like)["pinball"][0])

    below, above = 1 + np.log(0.84), -np.log(0.16) - 1  # distances of the quantiles from the mean
    best = loss(below, above)
    assert best < min(loss(below * k, above) for k in (0.8, 1.25))
    assert best < min(loss(below, above * k) for k in (0.8, 1.25))


def test_predictions_are_native_and_their_intervals_hold_the_mean(fitted, batch):
    with torch.no_grad():
        told = fitted.predict(fitted(batch), batch)["kappa"]
    assert (told.low < told.value).all()
    assert (told.value < told.high).all()
    assert (told.inside == (batch["noise"] > 0).numpy()).all()
    assert told.value[told.inside].std() < 0.2


def test_without_weights_the_network_says_the_wiener_filter(fitted, batch):
    network = fitted.network
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    with torch.no_grad():
        out, features = network.both(shear=batch["shear"], noise=batch["noise"])
    solved = wiener(batch["shear"], batch["noise"][:, 0], network.power, iterations=100, tolerance=1e-5)
    torch.testing.assert_close(out[:, 0], solved, atol=0.02 * float(solved.std()), rtol=0)
    assert features.shape == (8, network.head.in_features)


def test_the_network_sees_maps_that_turn_with_the_sky(fitted, batch):
    shear = batch["shear"]
    mirrored = shear.flip(-1) * torch.tensor([1.0, -1.0])[:, None, None]
    kappa = fitted.network.given(shear=shear, noise=batch["noise"])[1]
    other = fitted.network.given(shear=mirrored, noise=batch["noise"].flip(-1))[1]
    torch.testing.assert_close(other, kappa.flip(-1), atol=2e-2, rtol=0)


def test_an_ordinary_unet_learns_maps_too(batch):
    images = Schema.of([Column("noise", "image", shape=(1, SIDE, SIDE))])
    made = objective({"name": "unet", "width": 4, "depth": 2}, images)
    made.fit(Columns(batch))
    value, below, above = made.ends(made(batch))
    assert value.shape == (8, 1, SIDE, SIDE)
    assert bool((below > 0).all())
    assert bool((above > 0).all())
    assert float(value.detach().std()) < 20 * float(made.scale)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"within": "nosie"}, "is no input of the target's size"),
        ({"targets": SCHEMA.select(["omega_m"])}, "answers one image or field"),
        ({"model": {"name": "cnn", "width": 8, "depth": 2}}, "answers each voxel"),
    ],
)
def test_what_cannot_be_is_refused(settings, said):
    with pytest.raises((ConfigError, GsnnError), match=said):
        objective(**settings)
