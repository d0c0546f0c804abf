"""What must hold of every network of points: it knows neither axes, nor origin, nor order, nor where the box begins."""

import math

import pytest
import torch
from small_networks import columns, schema

from gsnn.config import build
from gsnn.data.schema import Column, Schema
from gsnn.errors import ConfigError, GsnnError
from gsnn.models.graph import edges, geometry, pair_counts, squares

NETWORKS = [
    {"name": "graph"},
    {"name": "graph", "aggregate": ["attention"], "pool": ["mean", "count"]},
    {"name": "graph", "radius": 1.1, "neighbours": 40, "length": 0.3},
    {"name": "graph", "shells": 5, "reach": 1.9, "depth": 1},
    {"name": "egnn", "depth": 3},
    {"name": "egnn", "radius": 1.4},
]
OPEN, BOX = (
    Schema.of([Column("points", "graph", shape=(3,), bands=("mass",), box=box), Column("z", "scalar")])
    for box in (None, 4.0)
)
PLANE = schema("plane")


def cloud(position):
    return {"points.position": position, "points.valid": torch.ones(position.shape[:2], dtype=torch.bool)}


def of(given, count, box=None, radius=None):
    """The edges of a cloud."""
    position = given["points.position"]
    return edges(position, squares(position, given["points.valid"], box), count, box, radius)


def turn(axes, seed):
    """A rotation or a reflection."""
    found, _ = torch.linalg.qr(torch.randn(axes, axes, generator=torch.Generator().manual_seed(seed)).double())
    return found.float()


def moved(given, name, change):
    return {**given, f"{name}.position": change(given[f"{name}.position"])}


def shuffled(given, name):
    """The nodes of each object in another order, with padding that is no longer at the end."""
    order = torch.randperm(given[f"{name}.valid"].shape[1], generator=torch.Generator().manual_seed(3))
    return {k: v[:, order] if k.startswith(f"{name}.") else v for k, v in given.items()}


def padded(given, name):
    """Three more nodes that are none, and stand anywhere."""

    def more(x):
        wide = torch.full((len(x), 3, *x.shape[2:]), 7).to(x.dtype)
        return torch.cat([x, torch.zeros_like(wide) if x.dtype == torch.bool else wide], 1)

    return {k: more(v) if k.startswith(f"{name}.") else v for k, v in given.items()}


def grown(spec, inputs):
    """A network with larger weights than at the start, as training leaves them: its answers differ by more."""
    torch.manual_seed(0)
    net = build({"width": 16, "length": 0.2, **spec}, "model", inputs, 3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= 2
    return net.eval()


def symmetries():
    shift = torch.tensor([1.3, -0.7, 2.9])
    flat = {"turn": lambda p: p @ turn(p.shape[2], 0).T, "shift": lambda p: p + shift[: p.shape[2]]}
    whole = lambda change: lambda g, n: moved(g, n, change)  # noqa: E731
    for inputs, name in ((OPEN, "points"), (PLANE, "members")):
        for key, change in flat.items():
            yield pytest.param(inputs, whole(change), id=f"{name} {key}")
        yield pytest.param(inputs, shuffled, id=f"{name} order")
        yield pytest.param(inputs, padded, id=f"{name} padding")
    box = {
        "wrap": lambda p: (p + shift) % 4.0,
        "images": lambda p: p + 4.0 * torch.tensor([1.0, -2.0, 0.0]),
        "quarter turn": lambda p: torch.stack([4.0 - p[..., 1], p[..., 0], p[..., 2]], 2),
        "mirror": lambda p: 4.0 - p,
    }
    for key, change in box.items():
        yield pytest.param(BOX, whole(change), id=f"box {key}")
    yield pytest.param(BOX, shuffled, id="box order")


@pytest.mark.parametrize(("inputs", "change"), list(symmetries()))
@pytest.mark.parametrize("spec", NETWORKS, ids=lambda s: "-".join(map(str, s.values())))
def test_the_answer_is_the_same_to_1e_5(spec, inputs, change):
    net, given = grown({"neighbours": 6, **spec}, inputs), columns(inputs, n=4, steps=30)
    out = net(**given)
    assert out.std(0).min() > 1e-3  # objects are told apart by 100 times what is allowed
    torch.testing.assert_close(net(**change(given, inputs.columns[0].name)), out, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spec", NETWORKS, ids=lambda s: "-".join(map(str, s.values())))
def test_a_stretched_cloud_is_another(spec):
    net, given = grown(spec, OPEN), columns(OPEN, n=4, steps=30)
    stretched = moved(given, "points", lambda p: p * torch.tensor([1.0, 1.0, 1.3]))
    assert (net(**stretched) - net(**given)).abs().min(0).values.max() > 1e-3


def test_the_displacements_of_egnn_turn_with_the_cloud():
    net, given, turned = grown({"name": "egnn"}, OPEN), columns(OPEN, n=2, steps=12), turn(3, 1)

    def moves(given):
        found = of(given, 5)
        return net.moves(torch.ones(2, 12, 16), found)[1]

    found = moves(given)
    assert found.norm(dim=-1)[given["points.valid"]].min() > 1e-2
    rotated = moves(moved(given, "points", lambda p: p @ turned.T))
    torch.testing.assert_close(rotated, found @ turned.T, rtol=1e-4, atol=1e-5)


def test_edges_are_those_of_a_tree_with_periodic_faces():
    import numpy as np
    from scipy.spatial import cKDTree

    given = columns(BOX, n=3, steps=50)
    found = of(given, 5, 4.0)
    for i in range(3):
        inside = given["points.valid"][i]
        position = given["points.position"][i][inside].double().numpy() % 4.0
        distance, index = cKDTree(position, boxsize=4.0).query(position, 6)
        np.testing.assert_allclose(found.vector[i][inside].norm(dim=-1), distance[:, 1:], rtol=1e-4)
        assert (found.to[i][inside].numpy() == index[:, 1:]).mean() > 0.99
        assert (found.weight[i][inside] == 1).all()
        assert (found.weight[i][~inside] == 0).all()


@pytest.mark.parametrize("box", [None, 4.0])
def test_pairs_are_those_of_the_two_point_function(box):
    import numpy as np

    from gsnn.baselines.two_point import pair_counts as counted

    given, shells = columns(BOX, n=3, steps=50), torch.tensor([0.2, 0.5, 1.0, 1.9])
    square = squares(given["points.position"], given["points.valid"], box)
    found = pair_counts(square, given["points.valid"], shells)
    for i in range(3):
        inside = given["points.position"][i][given["points.valid"][i]].double().numpy()
        volume = np.diff(shells.double().numpy() ** 3) / 1.9**3
        expected = (counted(inside, shells.double().numpy(), box) + 0.5) / (len(inside) ** 2 / 2 * volume)
        np.testing.assert_allclose(found[i].exp(), expected, rtol=1e-5)


@pytest.mark.parametrize("spec", NETWORKS[-2:], ids=lambda s: "-".join(map(str, s.values())))
def test_pieces_that_fit_into_memory_give_the_same(spec, monkeypatch):
    net, given = grown(spec, OPEN), columns(OPEN, n=5, steps=30)
    whole = net(**given)
    monkeypatch.setattr("gsnn.models.graph.PAIRS", 2 * 30**2)
    with torch.no_grad():
        torch.testing.assert_close(net(**given), whole, rtol=1e-5, atol=1e-6)


def test_an_edge_fades_towards_the_linking_length():
    position = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]]])
    found = of(cloud(position), 2, radius=2.0)
    weight = dict(zip(found.to[0, 0].tolist(), found.weight[0, 0].tolist()))
    assert weight[1] == pytest.approx((1 + math.cos(math.pi / 2)) / 2, abs=1e-6)
    assert weight[2] == pytest.approx(0, abs=1e-6)


def test_angles_of_a_right_triangle():
    """The neighbours of the corner of (0,0), (1,0), (0,1) have their centre at 45 degrees from either edge."""
    position = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    edge, node = geometry(of(cloud(position), 2), 1e-3)
    torch.testing.assert_close(edge[0, 0, :, 1], torch.full((2,), 0.5**0.5), rtol=1e-3, atol=0)
    assert node[0, 0, 0].item() == pytest.approx(math.log1p(0.5**0.5 / 1e-3), rel=1e-5)


@pytest.mark.parametrize("name", ["graph", "egnn"])
def test_pairs_are_standardised_by_training_clouds(name):
    given = columns(OPEN, n=40, steps=30)
    shells = {"shells": 4, "reach": 1.9}
    made = build({"name": name, **shells}, "model", OPEN, 1)
    told = made.counted(squares(given["points.position"], given["points.valid"], None), given["points.valid"])
    made.start(**given)
    torch.testing.assert_close(made.pairs, torch.stack([told.mean(0), told.std(0, correction=0)]))
    other = build({"name": name, **shells}, "model", OPEN, 1)
    other.load_state_dict(made.state_dict())
    torch.testing.assert_close(other(**given), made(**given))
    build({"name": name}, "model", OPEN, 1).start(**given)  # nothing to measure


@pytest.mark.parametrize("name", ["graph", "egnn"])
class TestRefusals:
    def test_a_linking_length_across_the_box(self, name):
        with pytest.raises(GsnnError, match="half across the periodic box of 4"):
            build({"name": name, "radius": 2.1}, "model", BOX, 1)

    def test_shells_without_a_reach(self, name):
        with pytest.raises(GsnnError, match="need a reach"):
            build({"name": name, "shells": 4}, "model", BOX, 1)

    def test_no_or_two_clouds(self, name):
        for wrong in ([Column("z", "scalar")], [*OPEN.columns, Column("more", "graph", shape=(3,))]):
            with pytest.raises(GsnnError, match="reads one graph"):
                build(name, "model", Schema.of(wrong), 1)

    @pytest.mark.parametrize("wrong", [{"length": 0.0}, {"radius": -1.0}, {"pool": []}, {"pool": ["median"]}])
    def test_settings_that_mean_nothing(self, name, wrong):
        with pytest.raises(ConfigError):
            build({"name": name, **wrong}, "model", OPEN, 1)
