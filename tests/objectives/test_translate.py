"""Fields from fields: sums and weights, native units, the residual, the density, symmetry."""

import pytest
import torch

from gsnn.config import build
from gsnn.data.augment_fields import TURNS, Cube, turned
from gsnn.data.schema import Column, Schema
from gsnn.errors import ConfigError, GsnnError
from gsnn.evaluation.fields import Fields
from gsnn.model import Model
from gsnn.rng import Rng
from gsnn.simulate.nbody import NBody
from gsnn.simulate.particle_mesh import simulate

NBODY = NBody(boxes=6, side=8, box=32.0, steps=3)
SCHEMA = NBODY.schema()
NET = {"name": "unet", "width": 4, "depth": 2, "boundary": "periodic", "norm": "none"}


class Boxes:
    """The part of a view that a model is fitted on."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(next(iter(self.data.values())))

    def take(self, positions):
        return Boxes({name: value[positions] for name, value in self.data.items()})

    def columns(self, names):
        return {name: self.data[name].numpy() for name in names}


@pytest.fixture(scope="module")
def data():
    rows = torch.arange(6)
    truth = NBODY.parameters(rows, 0)
    return NBODY.draw(truth["omega_m"], truth["sigma_8"], rows, 0)


def model(data, inputs=("lpt",), net=NET, **objective):
    spec = {"model": net, "objective": {"name": "translate", **objective}}
    made = Model(SCHEMA.select(inputs), SCHEMA.select(["nbody"]), spec, seed=0)
    made.fit(Boxes(data))
    return made


def batch(data, keep=slice(None)):
    return {"row": torch.arange(6)[keep], **{name: value[keep] for name, value in data.items()}}


SETTINGS = [{}, {"residual": "lpt"}, {"residual": "lpt", "density": 0.5}, {"loss": "l1"}]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_loss_does_not_depend_on_how_a_batch_is_cut_and_reaches_all_weights(data, settings):
    made = model(data, **settings)
    whole = made.terms(batch(data))
    parts = [made.terms(batch(data, keep)) for keep in (slice(0, 1), slice(1, 6))]
    for name, (total, weight) in whole.items():
        torch.testing.assert_close(sum(part[name][0] for part in parts), total, rtol=1e-4, atol=1e-4)
        assert sum(float(part[name][1]) for part in parts) == float(weight)
    sum(total / weight for total, weight in whole.values()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in made.parameters())


@pytest.mark.parametrize("settings", SETTINGS)
def test_unknown_voxels_weigh_nothing(data, settings):
    made, given = model(data, **settings), batch(data)
    given["nbody"] = given["nbody"].clone()
    given["nbody"][2:] = torch.nan
    for name, (total, weight) in made.terms(given).items():
        want = made.terms(batch(data, slice(0, 2)))[name]
        torch.testing.assert_close(total, want[0], rtol=1e-4, atol=1e-4)
        assert weight == want[1]


def test_a_network_that_says_nothing_leaves_the_residual_as_it_is(data):
    made = model(data, residual="lpt")
    torch.nn.init.zeros_(made.objective.network.head.weight)
    torch.nn.init.zeros_(made.objective.network.head.bias)
    with torch.no_grad():
        found, features = made.eval().answer(batch(data))
    assert isinstance(found["nbody"], Fields)
    torch.testing.assert_close(torch.tensor(found["nbody"].value), data["lpt"])
    assert features.shape == (6, 4)
    total, weight = made.terms(batch(data))["l2"]
    assert float(total / weight) == pytest.approx(1, abs=1e-3)  # errors count in the spread of what is to be learned


def test_training_comes_closer_than_perturbation_theory(data):
    made = model(data, residual="lpt", density=0.1, net={**NET, "relative": True})
    optimiser = torch.optim.Adam(made.parameters(), 1e-2)
    for step in range(40):
        given = Cube()(batch(data), Rng(0, step), made.inputs)
        loss = sum(total / weight for total, weight in made.terms(given).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        total, weight = made.eval().terms(batch(data))["l2"]
    assert float(total / weight) < 0.9


@pytest.mark.parametrize("relative", [False, True])
def test_matter_that_moves_alike_and_boxes_that_are_shifted(data, relative):
    made = model(data, residual="lpt", net={**NET, "relative": relative}).eval()
    with torch.no_grad():
        found = made(batch(data))["nbody"].value
        shifted = made({"row": torch.arange(6), "lpt": data["lpt"].roll((2, 4, 6), (2, 3, 4))})["nbody"].value
        moved = made({"row": torch.arange(6), "lpt": data["lpt"] + 3.0})["nbody"].value
    torch.testing.assert_close(torch.tensor(shifted), torch.tensor(found).roll((2, 4, 6), (2, 3, 4)), atol=1e-4, rtol=0)
    apart = abs(moved - found - 3.0).max()
    assert apart < 1e-3 if relative else apart > 1e-3


def test_a_turned_universe_evolves_into_the_turned_one():
    """What the augmentation takes for granted, by the simulation itself; displacements turn as vectors."""
    linear = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    omega = torch.tensor([0.3])
    moved, _ = simulate(linear, omega, 64.0, steps=2, refine=1)
    for order, flips in TURNS[3][::7]:
        again, _ = simulate(turned(linear, order, flips)[None, 0], omega, 64.0, steps=2, refine=1)
        torch.testing.assert_close(again[0], turned(moved[0], order, flips), atol=1e-6, rtol=1e-6)


def test_the_cube_has_48_elements_and_changes_input_and_target_alike(data):
    box = torch.arange(3 * 64.0).view(3, 4, 4, 4)
    seen = {tuple(turned(box, *turn).flatten().tolist()) for turn in TURNS[3]}
    assert len(seen) == 48
    given = batch(data)
    made = Cube()(given, Rng(0), SCHEMA)
    same = Cube()({**given, "nbody": given["lpt"]}, Rng(0), SCHEMA)
    torch.testing.assert_close(same["nbody"], made["lpt"])
    assert not torch.equal(made["lpt"], given["lpt"])
    for one, other in zip(made["lpt"], given["lpt"]):
        torch.testing.assert_close(one.abs().sum(), other.abs().sum())
    alone = Cube()({name: value[4:5] for name, value in given.items()}, Rng(0), SCHEMA)
    torch.testing.assert_close(alone["lpt"][0], made["lpt"][4])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"residual": "nbody"}, "is no input field of the shape"),
        ({"targets": ("omega_m",)}, "learns one field"),
        ({"targets": ("nbody", "zeldovich")}, "learns one field"),
        ({"net": {"name": "mlp"}}, "unet"),
    ],
)
def test_what_cannot_be_is_refused(settings, match):
    settings = dict(settings)
    targets, net = SCHEMA.select(settings.pop("targets", ("nbody",))), settings.pop("net", NET)
    with pytest.raises((ConfigError, GsnnError), match=match):
        Model(SCHEMA.select(["lpt"]), targets, {"model": net, "objective": {"name": "translate", **settings}})


def test_images_are_translated_too_but_have_no_density():
    image, other = Column("dirty", "image", shape=(2, 8, 8)), Column("clean", "image", shape=(1, 8, 8))
    net = {"name": "unet", "width": 4, "depth": 2}
    schemas = Schema.of([image]), Schema.of([other])
    made = Model(*schemas, {"model": net, "objective": {"name": "translate"}})
    x = {"dirty": torch.randn(6, 2, 8, 8), "clean": torch.randn(6, 1, 8, 8)}
    made.fit(Boxes(x))
    assert made({"row": torch.arange(6), **x})["clean"].value.shape == (6, 1, 8, 8)
    with pytest.raises(ConfigError, match="has no density"):
        Model(*schemas, {"model": net, "objective": {"name": "translate", "density": 1.0}})
    with pytest.raises(GsnnError, match="needs boundary = 'periodic'"):
        build({**net, "relative": True}, "model", schemas[0], 1)
