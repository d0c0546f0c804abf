"""Draws of fields: the loss of a flow, its noise, how draws repeat, and laws that are known in closed form."""

import numpy as np
import pytest
import torch

from gsnn.data.schema import Column, Schema
from gsnn.errors import ConfigError, GsnnError
from gsnn.evaluation.generated import FieldDraws
from gsnn.model import Model
from gsnn.objectives.flow_matching import STATE, TIME
from gsnn.rng import Rng
from gsnn.simulate.mesh import coloured, shell_powers, wavenumbers

SIDE = 8
SCHEMA = Schema.of([
    Column("strength", "scalar"),
    Column("dirty", "image", shape=(1, SIDE, SIDE)),
    Column("map", "field", shape=(1, SIDE, SIDE), box=16.0),
    Column("cube", "field", shape=(2, 4, 4, 4), box=16.0),
    Column("oblong", "field", shape=(1, SIDE, 2 * SIDE)),
])  # fmt: skip
NET = {"name": "unet", "width": 4, "depth": 2, "boundary": "periodic", "film": True}
SETTINGS = {
    "white": {},
    "coloured": {"coloured": True},
    "log": {"transform": {"name": "log", "offset": 9.0}, "coloured": True},
}
every = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)


class Rows:
    """The part of a view that a model is fitted on."""

    def __init__(self, data):
        self.data, self.rows = data, np.arange(len(next(iter(data.values()))))

    def __len__(self):
        return len(self.rows)

    def take(self, positions):
        return Rows({name: value[positions] for name, value in self.data.items()})

    def columns(self, names):
        return {name: self.data[name].numpy() for name in names}


def values(n=24, seed=0):
    random = torch.Generator().manual_seed(seed)
    made = {c.name: torch.randn(n, *c.shape, generator=random) for c in SCHEMA.columns}
    k = wavenumbers(SIDE, 2 * np.pi).clamp(min=1)
    made["map"] = 0.3 * coloured(made["map"][:, 0], (k**-2.0).expand(n, -1, -1), 1.0)[:, None].float() + 1
    return made


def model(inputs=("strength", "dirty"), target="map", net=NET, **objective):
    spec = {"model": net, "objective": {"name": "flow-matching", **{"steps": 2} | objective}}
    made = Model(SCHEMA.select(inputs), SCHEMA.select([target]), spec, seed=0)
    made.fit(Rows(values()))
    return made


def batch(keep=slice(None), **changed):
    given = values() | changed
    return {"row": torch.arange(24)[keep], **{name: value[keep] for name, value in given.items()}}


@every
def test_a_loss_does_not_depend_on_how_a_batch_is_cut_and_reaches_all_weights(settings):
    made = model(**settings)
    for rng in (None, Rng(0, 3)):
        whole = made.terms(batch(), rng)
        parts = [made.terms(batch(keep), rng) for keep in (slice(0, 1), slice(1, 24))]
        for name, (total, weight) in whole.items():
            torch.testing.assert_close(sum(part[name][0] for part in parts), total, rtol=1e-4, atol=1e-4)
            assert sum(float(part[name][1]) for part in parts) == float(weight)
    sum(total / weight for total, weight in whole.values()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in made.parameters())


@every
def test_unknown_fields_weigh_nothing(settings):
    made, hidden = model(**settings), values()["map"].clone()
    hidden[2:] = torch.nan
    (total, weight), (want, count) = (made.terms(given)["flow"] for given in (batch(map=hidden), batch(slice(0, 2))))
    torch.testing.assert_close(total, want, rtol=1e-4, atol=1e-4)
    assert weight == count == 2 * SIDE**2


@every
def test_a_network_that_says_nothing_has_the_loss_of_a_gaussian_field(settings):
    """Of x and e of unit variance (or power, mode by mode) what is left of x - e beyond its part along y is pi / 2.

    Draws are then the noise itself, but for the error of the steps.
    """
    made = model(**settings, steps=30)
    torch.nn.init.zeros_(made.objective.network.head.weight)
    torch.nn.init.zeros_(made.objective.network.head.bias)
    losses = [total / weight for epoch in range(20) for total, weight in made.terms(batch(), Rng(0, epoch)).values()]
    assert torch.stack(losses).detach().mean() == pytest.approx(np.pi / 2, abs=0.1)
    drawn = made.eval()(batch())["map"]
    noise = made.objective.begin(made.transform(batch()), 1)
    want = made.objective.transform.inverse(noise)
    torch.testing.assert_close(torch.tensor(drawn.value[:, 1]), want, rtol=1e-2, atol=1e-2)


def test_coloured_noise_has_the_power_of_the_fields_and_follows_the_inputs():
    random = torch.Generator().manual_seed(3)
    strength = torch.rand(1500, generator=random) * 2 - 1  # fields whose contrast follows it
    maps = coloured(torch.randn(1500, SIDE, SIDE, generator=random), torch.ones(1500, SIDE, SIDE // 2 + 1), 1.0).float()
    data = {"strength": strength, "map": (torch.exp(strength).view(-1, 1, 1) * maps)[:, None]}
    made = Model(
        SCHEMA.select(["strength"]), SCHEMA.select(["map"]),
        {"model": NET, "objective": {"name": "flow-matching", "coloured": True}}, seed=0,
    )  # fmt: skip
    made.fit(Rows(data))
    scale = float(made.objective.transform.scale)
    for value, want in ((-0.8, -0.8), (0.0, 0.0), (0.8, 0.8), (5.0, 1.0)):  # beyond the range as at its edge
        asked = made.transform({"row": torch.arange(200), "strength": torch.full((200,), value)})
        noise = torch.cat([made.objective.begin(asked, draw) for draw in range(5)])
        power = shell_powers(noise[:, 0]).mean(0)
        torch.testing.assert_close(power, torch.full_like(power, np.exp(2 * want) / scale**2), rtol=0.2, atol=0)


def test_coloured_noise_of_few_universes_has_their_mean_power_and_does_not_depend_on_autocast():
    data = values(600) | {"strength": torch.arange(600).remainder(3).float()}  # too few for a polynomial
    made = Model(
        SCHEMA.select(["strength"]), SCHEMA.select(["map"]),
        {"model": NET, "objective": {"name": "flow-matching", "coloured": True}}, seed=0,
    )  # fmt: skip
    made.fit(Rows(data))
    asked = made.transform({"row": torch.arange(600), "strength": data["strength"]})
    noise = torch.cat([made.objective.begin(asked, draw) for draw in range(3)])
    want = shell_powers(made.objective.transform(data["map"])[:, 0]).mean(0)
    torch.testing.assert_close(shell_powers(noise[:, 0]).mean(0), want, rtol=0.15, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        again = made.objective.begin(asked, 0)
    torch.testing.assert_close(again, noise[:600], rtol=0, atol=0)


def test_coloured_noise_needs_fields_without_gaps():
    data = values()
    data["map"][:, 0, 0, 0] = torch.nan
    spec = {"model": NET, "objective": {"name": "flow-matching", "coloured": True}}
    made = Model(SCHEMA.select(["strength"]), SCHEMA.select(["map"]), spec)
    with pytest.raises(ConfigError, match="without gaps"):
        made.fit(Rows(data))


def test_time_and_noise_are_new_each_epoch_and_the_same_in_validation():
    made = model().objective
    first, again, later = (made.prepare(batch(), Rng(0, epoch)) for epoch in (0, 0, 1))
    assert torch.equal(first[STATE], again[STATE])
    assert not torch.equal(first[STATE], later[STATE])
    assert first[TIME].min() >= 0
    assert first[TIME].max() < 1
    prepared = model()
    losses = [prepared.terms(batch())["flow"][0] for _ in range(2)]
    assert torch.equal(*losses)


def test_draws_repeat_differ_and_do_not_depend_on_the_batch_or_the_truth():
    made = model(draws=3).eval()
    with torch.no_grad():
        found = made(batch())["map"]
        without = made({name: value for name, value in batch().items() if name != "map"})["map"]
        alone = made(batch(slice(5, 6)))["map"]
    assert isinstance(found, FieldDraws)
    assert found.value.shape == (24, 3, 1, SIDE, SIDE)
    np.testing.assert_array_equal(found.value, without.value)
    np.testing.assert_allclose(alone.value[0], found.value[5], atol=1e-5)
    assert abs(found.value[:, 0] - found.value[:, 1]).min(axis=(1, 2, 3)).max() > 0
    assert set(found.to_columns("map")) == {"prediction", "map_draw_2", "map_draw_3"}


def test_a_law_that_is_known_is_learned():
    """Constant maps whose height is a Gaussian about a number that is given: draws have its mean and width."""
    random = torch.Generator().manual_seed(1)
    strength = torch.randn(512, generator=random)
    height = 2 * strength + 0.5 * torch.randn(512, generator=random)
    data = {"strength": strength, "map": height.view(-1, 1, 1, 1).expand(-1, 1, SIDE, SIDE).clone()}
    net = {"name": "unet", "width": 16, "depth": 1, "norm": "none", "film": True, "boundary": "periodic"}
    spec = {"model": net, "objective": {"name": "flow-matching", "steps": 8, "draws": 100, "coloured": False}}
    made = Model(SCHEMA.select(["strength"]), SCHEMA.select(["map"]), spec, seed=0)
    made.fit(Rows(data))
    optimiser = torch.optim.Adam(made.parameters(), 5e-3)
    falls = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0.05, 400)
    # noise of one number a map, so that the law is one-dimensional
    made.objective.noise = lambda white, _: white[:, :1, None, None].expand(-1, 1, SIDE, SIDE)
    for step in range(400):
        some = torch.randperm(512, generator=random)[:64]
        given = {"row": some, **{name: value[some] for name, value in data.items()}}
        total, weight = made.terms(given, Rng(0, step))["flow"]
        optimiser.zero_grad()
        (total / weight).backward()
        optimiser.step()
        falls.step()
    asked = torch.tensor([-1.0, 0.0, 1.0])
    with torch.no_grad():
        drawn = made.eval()({"row": torch.arange(3), "strength": asked})["map"].value.mean((2, 3, 4))
    np.testing.assert_allclose(drawn.mean(1), 2 * asked, atol=0.3)
    np.testing.assert_allclose(drawn.std(1), 0.5, atol=0.2)


def test_cubes_of_several_channels_are_drawn_too():
    made = model(("strength",), "cube", {**NET, "depth": 1}, coloured=True).eval()
    assert made(batch())["cube"].value.shape == (24, 2, 2, 4, 4, 4)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"target": "strength"}, "draws one field or image"),
        ({"inputs": ("oblong",)}, "is no field of the size"),
        ({"inputs": ("strength",), "target": "oblong", "coloured": True}, "where its sides are equal"),
        ({"inputs": ("strength",), "net": {"name": "mlp"}}, "unet"),
        ({"steps": 0}, "steps"),
        ({"transform": "fourier"}, "transform"),
    ],
)
def test_what_cannot_be_is_refused(settings, match):
    with pytest.raises((ConfigError, GsnnError), match=match):
        model(**settings)


def test_a_target_that_does_not_vary_is_refused():
    spec = {"model": NET, "objective": {"name": "flow-matching"}}
    made = Model(SCHEMA.select(["strength"]), SCHEMA.select(["map"]), spec)
    with pytest.raises(ConfigError, match="does not vary"):
        made.fit(Rows(values() | {"map": torch.ones(24, 1, SIDE, SIDE)}))


SIDE_OF_SKY = 16
TOLD = {"spectrum": "[[10, 1000000], [1e-5, 1e-15]]"}
SKY = Schema.of(
    [
        Column("shear", "image", shape=(2, SIDE_OF_SKY, SIDE_OF_SKY), pixel_scale=60.0),
        Column("noise", "image", shape=(1, SIDE_OF_SKY, SIDE_OF_SKY), pixel_scale=60.0),
        Column("kappa", "image", shape=(1, SIDE_OF_SKY, SIDE_OF_SKY), pixel_scale=60.0),
    ],
    **TOLD,
)


def sky(n=8):
    random = torch.Generator().manual_seed(2)
    made = {c.name: 0.02 * torch.randn(n, *c.shape, generator=random) for c in SKY.columns}
    made["noise"] = torch.full_like(made["noise"], 0.3)
    made["noise"][:, :, :, :4] = 0
    return made


def mapper(**objective):
    net = {"name": "mass-map", "width": 4, "depth": 2, "iterations": 2}
    settings = {"name": "flow-matching", "answer": "map", "within": "noise", "steps": 2, "draws": 6, **objective}
    spec = {"model": net, "objective": settings, "transforms": {"shear": "native", "noise": "native"}}
    made = Model(SKY.select(["shear", "noise"]), SKY.select(["kappa"]), spec, seed=0)
    made.fit(Rows(sky()))
    return made


def test_maps_are_told_by_draws_that_begin_at_the_wiener_filter():
    made = mapper().eval()
    given = {"row": torch.arange(8), **sky()}
    with torch.no_grad():
        found = made({name: value for name, value in given.items() if name != "kappa"})["kappa"]
        drawn = made.objective.sample(made.transform(given)).numpy()
    np.testing.assert_allclose(found.value, drawn.mean(1), atol=1e-6)
    assert not found.inside[..., :4].any()
    assert found.inside[..., 4:].all()
    assert (found.low <= found.high).all()
    between = np.partition(drawn, 1, axis=1)[:, [0, 1]]  # of six draws the 16% lies between the lowest two
    assert (found.low >= between[:, 0] - 1e-6).all()
    assert (found.low <= between[:, 1] + 1e-6).all()
    torch.nn.init.zeros_(made.objective.network.head.weight)
    torch.nn.init.zeros_(made.objective.network.head.bias)
    first = made.objective.network.fixed(shear=given["shear"], noise=given["noise"])["mass-map.wiener"]
    scale = made.objective.transform.scale
    with torch.no_grad():
        apart = made(given)["kappa"].value - first.numpy()
    assert abs(apart.mean()) < 3 * float(scale) / np.sqrt(6 * apart.size)
    assert apart.std() == pytest.approx(float(scale) / np.sqrt(6), rel=0.15)


def test_a_flow_of_maps_learns():
    made = mapper()
    given = {"row": torch.arange(8), **sky()}
    total, weight = made.terms(given, Rng(0))["flow"]
    (total / weight).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in made.parameters())
    for settings, match in (({"draws": 2}, "at least 4 draws"), ({"within": "z"}, "names an input")):
        with pytest.raises(ConfigError, match=match):
            mapper(**settings)
