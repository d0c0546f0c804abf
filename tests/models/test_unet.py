"""What a U-Net promises besides what every network does (test_networks.py): voxels, boundaries, sizes, dimensions."""

import pytest
import torch
from torch import nn

from gsnn.config import build
from gsnn.data.schema import Column, Schema
from gsnn.errors import GsnnError
from gsnn.model import Model
from gsnn.models.initialise import initialise


def schema(*size, channels=2):
    return Schema.of([Column("density", "field", shape=(channels, *size)), Column("redshift", "scalar")])


def columns(*size, n=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {"density": torch.randn(n, 2, *size, generator=generator), "redshift": torch.rand(n, generator=generator)}


def make(inputs, outputs=3, **settings):
    torch.manual_seed(0)
    return build({"name": "unet", "width": 8, "depth": 3, **settings}, "model", inputs, outputs)


SIZES = [(8, 12), (8, 4, 12)]


@pytest.mark.parametrize("size", SIZES, ids=["2-D", "3-D"])
@pytest.mark.parametrize("boundary", ["zero", "periodic"])
@pytest.mark.parametrize(
    "settings", [{"residual": True}, {"residual": False}, {"film": True}], ids=["residual", "plain", "film"]
)
class TestEvery:
    def test_an_answer_for_each_voxel_whose_mean_is_the_object_s(self, size, boundary, settings):
        net, given = make(schema(*size), boundary=boundary, **settings), columns(*size)
        voxels, answer = net.read(**given), net(**given)
        assert voxels.shape == (3, 3, *size)
        assert answer.shape == (3, 3)
        torch.testing.assert_close(voxels.flatten(2).mean(-1), answer, rtol=1e-4, atol=1e-5)  # the head is linear
        assert voxels.flatten(2).std(-1).min() > 0

    def test_a_periodic_box_has_no_edge(self, size, boundary, settings):
        net, given = make(schema(*size), boundary=boundary, **settings), columns(*size)
        axes, by = tuple(range(-len(size), 0)), (4,) * len(size)  # 2 halvings: whole voxels of the deepest maps
        moved = {**given, "density": given["density"].roll(by, axes)}
        apart = (net.read(**moved) - net.read(**given).roll(by, axes)).abs().max()
        assert apart < 1e-4 if boundary == "periodic" else apart > 1e-2

    def test_a_scalar_is_seen_by_every_voxel(self, size, boundary, settings):
        net, given = make(schema(*size), boundary=boundary, **settings), columns(*size)
        changed = net.read(**{**given, "redshift": given["redshift"] + 1}) - net.read(**given)
        assert changed.abs().amax(1).min() > 0

    def test_gradients_of_voxels_reach_every_parameter(self, size, boundary, settings):
        net = make(schema(*size), boundary=boundary, **settings)
        net.read(**columns(*size)).square().sum().backward()
        assert all(p.grad.abs().max() > 0 for p in net.parameters())

    def test_fields_of_another_size_may_follow(self, size, boundary, settings):
        net = make(schema(*size), boundary=boundary, **settings)
        larger = [2 * n for n in size]
        assert net.read(**columns(*larger)).shape == (3, 3, *larger)
        with pytest.raises(GsnnError, match="multiples of 4"):
            net.read(**columns(*[n + 2 for n in size]))


def test_film_needs_a_scalar_and_adds_no_channel():
    inputs = schema(8, 8)
    with pytest.raises(GsnnError, match="film = true needs a scalar"):
        make(inputs.select(["density"]), film=True)
    plain, film = make(inputs.select(["density"])), make(inputs, film=True)
    assert film.blocks["down0"].conv1.weight.shape == plain.blocks["down0"].conv1.weight.shape


def test_a_voxel_sees_the_whole_of_a_small_field():
    net, given = make(schema(8, 8)), columns(8, 8, n=1)
    given["density"].requires_grad_()
    net.read(**given)[0, 0, 0, 0].backward()
    assert (given["density"].grad != 0).all()


def test_weights_are_those_of_seed_and_name_and_keep_the_spread():
    net = make(schema(8, 8, 8), width=32)
    initialise(net, 3)
    again = make(schema(8, 8, 8), width=32)
    initialise(again, 3)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), again.parameters()))
    x = torch.randn(2, 64, 8, 8, 8)
    for name, module in net.blocks.items():
        if name == "lift0":
            assert 0.7 < module(x).std() < 1.4
        elif name == "up0":
            assert 0.7 < module.conv1(x).std() < 1.4


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ([Column("a", "field", shape=(1, 18, 16))], "multiples of 8, or give depth = 2"),
        ([Column("a", "field", shape=(1, 16))], r"channel, z, y, x"),
        ([Column("a", "field", shape=(1, 8, 8)), Column("b", "field", shape=(1, 8, 8, 8))], "differ in size"),
        ([Column("a", "scalar")], "choose 'mlp'"),
        ([Column("a", "spectrum", shape=(16,))], "cannot read column 'a'"),
    ],
)
def test_what_it_cannot_read_is_refused(columns, words):
    with pytest.raises(GsnnError, match=words):
        build("unet", "model", Schema.of(columns), 2)


@pytest.mark.parametrize("kind", ["classify", "regress"])
def test_objectives_learn_from_fields(kind):
    inputs = schema(8, 8, 8)
    column = {
        "classify": Column("what", "label", classes=("void", "cluster"), dtype="int64"),
        "regress": Column("what", "scalar"),
    }[kind]
    spec = {"model": {"name": "unet", "width": 4, "depth": 2, "boundary": "periodic"}, "objective": {"name": kind}}
    model = Model(inputs, Schema.of([column]), spec, seed=1)
    batch = {"row": torch.arange(6), **columns(8, 8, 8, n=6), "what": torch.arange(6) % 2}
    batch["density"] += 3.0 * batch["what"].view(-1, 1, 1, 1, 1) * torch.randn(2, 8, 8, 8)
    batch["what"] = batch["what"] if kind == "classify" else batch["what"].float()
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        terms = model.terms(batch)
        loss = sum(total / weight for total, weight in terms.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.2
    assert isinstance(model.objective.network.head, nn.Linear)
