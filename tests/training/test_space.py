"""A network on blocks of fields equals the network on whole ones: layer by layer and as a U-Net, in a group of four."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from forked import together
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from gsnn.config import build
from gsnn.data.schema import Column, Schema
from gsnn.errors import GsnnError
from gsnn.training.halo import halo_bytes, part, whole
from gsnn.training.space import shard_space, traffic

SIZE = (8, 8, 16)  # of a field: z, y, x
MESHES = {  # name -> shape, what it cuts in 2-D, what in 3-D
    "4": ((4,), ("x",), None),
    "2x1": ((2, 1), ("y", "x"), ("z", "x")),
    "2x2": ((2, 2), ("y", "x"), ("z", "y")),
    "1x4": ((1, 4), ("y", "x"), ("y", "x")),
    "2x2x1": ((2, 2, 1), None, ("z", "y", "x")),
    "2x2 backwards": ((2, 2), None, ("x", "z")),
}
FOR_LAYERS = [("1x4", 2), ("2x2", 2), ("2x2", 3), ("2x2x1", 3)]
LAYERS: dict[str, Callable[[int], list[nn.Module]]] = {  # of the dimension
    "3": lambda d: [conv(d)(3, 4, 3, padding=1)],
    "3 periodic": lambda d: [conv(d)(3, 4, 3, padding=1, padding_mode="circular")],
    "5 dilated": lambda d: [conv(d)(3, 4, 5, padding=4, dilation=2)],
    "same, even": lambda d: [conv(d)(3, 4, 4, padding="same")],
    "same, even, periodic": lambda d: [conv(d)(3, 4, 2, padding="same", padding_mode="circular")],
    "3 strided": lambda d: [conv(d)(3, 4, 3, stride=2, padding=1)],
    "3 strided, periodic": lambda d: [conv(d)(3, 4, 3, stride=2, padding=1, padding_mode="circular")],
    "2 strided, grouped": lambda d: [conv(d)(3, 6, 2, stride=2, groups=3)],
    "1 strided": lambda d: [conv(d)(3, 4, 1, stride=2)],
    "unequal": lambda d: [conv(d)(3, 4, (3, 5, 1)[:d], padding=(1, 2, 0)[:d], padding_mode="circular")],
    "two, corners": lambda d: [conv(d)(3, 4, 5, padding=2), nn.GELU(), conv(d)(4, 4, 3, padding=1)],
    "transposed 2": lambda d: [up(d)(3, 4, 2, 2)],
    "transposed 4": lambda d: [up(d)(3, 4, 4, 2, padding=1)],
    "transposed 3": lambda d: [up(d)(3, 4, 3, 2, padding=1, output_padding=1)],
    "transposed 1": lambda d: [up(d)(3, 4, 1, 2, output_padding=1)],
    "transposed 3, one": lambda d: [up(d)(3, 4, 3, padding=1)],
    "maximum": lambda d: [(nn.MaxPool2d, nn.MaxPool3d)[d - 2](2)],
    "maximum, overlapping": lambda d: [(nn.MaxPool2d, nn.MaxPool3d)[d - 2](3, 2, 1)],
    "average, overlapping": lambda d: [(nn.AvgPool2d, nn.AvgPool3d)[d - 2](3, 1, 1)],
    "nearest": lambda d: [nn.Upsample(scale_factor=2), conv(d)(3, 4, 3, padding=1)],
    "linear": lambda d: [nn.Upsample(scale_factor=2, mode=("bilinear", "trilinear")[d - 2])],
    "norm": lambda d: [nn.GroupNorm(1, 3), conv(d)(3, 8, 3, padding=1), nn.GroupNorm(2, 8)],
    "norm of far from zero": lambda d: [Far(), nn.GroupNorm(3, 3, affine=False)],
}
NETWORKS = {
    "zero": {"boundary": "zero", "depth": 3},
    "periodic": {"boundary": "periodic", "depth": 3},
    "periodic, plain": {"boundary": "periodic", "depth": 2, "residual": False},
}


class Far(nn.Module):
    def forward(self, x):
        return x + 300


def conv(d: int) -> type[nn.Module]:
    return (nn.Conv2d, nn.Conv3d)[d - 2]


def up(d: int) -> type[nn.Module]:
    return (nn.ConvTranspose2d, nn.ConvTranspose3d)[d - 2]


def unet(d: int, **settings):
    inputs = Schema.of([Column("density", "field", shape=(2, *SIZE[-d:])), Column("redshift", "scalar")])
    return build({"name": "unet", "width": 4, **settings}, "model", inputs, 2)


def field(d: int, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, *SIZE[-d:], generator=torch.Generator().manual_seed(d))


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference in units of the largest value; infinite where the shapes differ."""
    if found.shape != wanted.shape:
        return float("inf")
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6))


def target(like: torch.Tensor) -> torch.Tensor:
    """What the loss multiplies an answer with: without it many gradients would vanish."""
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(9))


def of_layers(make: Callable, d: int, mesh, dims) -> dict[str, float]:
    """Largest differences of answers, of gradients of the input and of parameters; float64 hides none."""
    torch.manual_seed(0)
    alone = nn.Sequential(*make(d)).double()
    torch.manual_seed(0)
    cut = nn.Sequential(*make(d)).double()
    shard_space(cut, mesh, dims)
    given = field(d).double().requires_grad_()
    mine = part(given.detach(), mesh, dims).clone().requires_grad_()
    wanted, found = alone(given), cut(mine)
    weight = target(wanted)
    (wanted * weight).sum().backward()
    (found * part(weight, mesh, dims)).sum().backward()
    return {
        "answer": off(whole(found, mesh, dims), wanted),
        "input": off(whole(mine.grad, mesh, dims), given.grad),
        **{name: off(summed(p.grad, mesh), q.grad) for (name, p), q in zip(cut.named_parameters(), alone.parameters())},
    }


def summed(x: torch.Tensor, mesh) -> torch.Tensor:
    """The sum over the processes of a mesh; where it has two of the four, the other two do the same."""
    x = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(x)
    return x * (mesh.size() / dist.get_world_size())


def of_network(d: int, mesh, dims, pooled: bool, settings: dict) -> dict[str, float]:
    torch.manual_seed(0)
    alone, cut = unet(d, **settings), unet(d, **settings)
    cut.load_state_dict(alone.state_dict())
    shard_space(cut, mesh, dims)
    assert list(cut.state_dict()) == list(alone.state_dict())
    columns = {"density": field(d, channels=2), "redshift": torch.tensor([0.3, 1.0])}
    mine = {**columns, "density": part(columns["density"], mesh, dims)}
    call = "forward" if pooled else "read"
    wanted, found = getattr(alone, call)(**columns), getattr(cut, call)(**mine)
    weight = target(wanted)
    (wanted * weight).sum().backward()
    (found * (weight if pooled else part(weight, mesh, dims))).sum().backward()
    times = mesh.size() if pooled else 1  # every process has a loss of the object: in sum and in weight
    found = found if pooled else whole(found, mesh, dims)
    pairs = {name: (p.grad, q.grad) for (name, p), q in zip(cut.named_parameters(), alone.parameters())}
    scale = max(float(b.abs().max()) for a, b in pairs.values() if b is not None)
    differences = {"answer": off(found, wanted)}
    for name, (a, b) in pairs.items():
        differences[name] = float((summed(a, mesh) / times - b).abs().max()) / scale
    return differences


def sent(mesh, dims, boundary: str) -> dict[str, tuple[int, int]]:
    """Bytes by the formula and bytes that were handed to the network, forward and backward."""
    torch.manual_seed(0)
    network = unet(3, depth=2, boundary=boundary)
    shapes = {"density": (2, 2, *SIZE), "redshift": (2,)}
    counts = [mesh.size(at) for at in range(mesh.ndim)]
    planned = traffic(network, counts, dims, shapes)
    shard_space(network, mesh, dims)
    posted, real = [], dist.batch_isend_irecv

    def count(posts):
        posted.extend(post.tensor.nbytes for post in posts if post.op is dist.isend)
        return real(posts)

    dist.batch_isend_irecv = count
    try:
        mine = part(field(3, channels=2), mesh, dims).clone()
        out = network(density=mine, redshift=torch.ones(2))
        forward = sum(posted)
        out.sum().backward()
    finally:
        dist.batch_isend_irecv = real
    return {"forward": (planned[0], forward), "backward": (planned[1], sum(posted) - forward)}


def sentence(call: Callable, *arguments) -> str:
    try:
        call(*arguments)
    except GsnnError as error:
        return str(error)
    return "nothing was refused"


def refused(mesh) -> dict[str, str]:
    """What four processes along x refuse; each of them must, or the others would wait."""
    dims = ("x",)

    def first(network: nn.Module, x: torch.Tensor) -> str:
        shard_space(network, mesh, dims)
        return sentence(network, x)

    def shard(network: nn.Module) -> str:
        return sentence(shard_space, network, mesh, dims)

    wide = nn.Sequential(nn.Conv2d(1, 1, 7, padding=3))
    return {
        "uneven": sentence(part, torch.ones(1, 1, 8, 18), mesh, dims),
        "no such axis": sentence(part, torch.ones(1, 1), mesh, dims),
        "dims": sentence(part, torch.ones(1, 1, 8, 8), mesh, ("x", "y")),
        "tiny": first(wide, torch.ones(1, 1, 8, 2)),
        "shapes": first(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1)), torch.ones(1, 1, 8, 4 + mesh.get_local_rank())),
        "stride": first(nn.Sequential(nn.Conv2d(1, 1, 2, 2)), torch.ones(1, 1, 8, 3)),
        "shrinks": shard(nn.Sequential(nn.Conv2d(1, 1, 3))),
        "reflect": shard(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"))),
        "batch norm": shard(nn.Sequential(nn.BatchNorm2d(3))),
        "grows": shard(nn.Sequential(nn.ConvTranspose2d(1, 1, 3, 2))),
        "pool": shard(nn.Sequential(nn.AdaptiveAvgPool2d(2))),
        "corners": shard(nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True))),
    }


def everything(rank: int) -> dict:
    """All cases, on one process of four."""
    found: dict = {"layers": {}, "networks": {}, "bytes": {}}
    for name, (shape, dims2, dims3) in MESHES.items():
        if math.prod(shape) == 4:
            mesh = init_device_mesh("cpu", shape)
        else:  # two pairs, each a group of its own
            mesh = init_device_mesh("cpu", (2, *shape), mesh_dim_names=("pair", "a", "b"))["a", "b"]
        for d, dims in ((2, dims2), (3, dims3)):
            if dims is None:
                continue
            for layer, make in LAYERS.items() if (name, d) in FOR_LAYERS else ():
                found["layers"][name, d, layer] = of_layers(make, d, mesh, dims)
            for network, settings in NETWORKS.items():
                for pooled in (False, True) if d == 3 else (network == "zero",):
                    found["networks"][name, d, network, pooled] = of_network(d, mesh, dims, pooled, settings)
    for name in ("2x2", "1x4"):
        shape, _, dims = MESHES[name]
        mesh = init_device_mesh("cpu", shape)
        found["bytes"][name, "periodic"] = sent(mesh, dims, "periodic")
        found["bytes"][name, "zero"] = sent(mesh, dims, "zero")
    found["refused"] = refused(init_device_mesh("cpu", (4,)))
    return found


@pytest.fixture(scope="module")
def found() -> list[dict]:
    """What each of the four processes saw."""
    return together(4, everything, seconds=240)


def worst(found: list[dict], kind: str, case: tuple) -> tuple[float, str]:
    return max(
        (value, f"{name} on {rank}") for rank, one in enumerate(found) for name, value in one[kind][case].items()
    )


def cases() -> list[tuple[str, int]]:
    return [(name, d) for name, (_, *dims) in MESHES.items() for d in (2, 3) if dims[d - 2]]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_on_blocks_is_the_layer(found, layer):
    for name, d in FOR_LAYERS:
        value, what = worst(found, "layers", (name, d, layer))
        assert value < 1e-10, (name, d, what)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("pooled", [False, True], ids=["each voxel", "each object"])
def test_a_unet_on_blocks_is_the_unet(found, network, pooled):
    seen = [(name, d) for name, d in cases() if (name, d, network, pooled) in found[0]["networks"]]
    assert len(seen) >= 4
    for name, d in seen:
        value, what = worst(found, "networks", (name, d, network, pooled))
        assert value < 5e-6, (name, d, what)


def test_what_is_sent_is_what_the_formula_says(found):
    for name in ("2x2", "1x4"):
        for rank, one in enumerate(found):
            for way, (planned, real) in one["bytes"][name, "periodic"].items():
                assert planned == real > 0, (name, rank, way)
            for way, (planned, real) in one["bytes"][name, "zero"].items():
                inner = name == "1x4" and rank in (1, 2)  # a process at the edge has fewer neighbours
                assert real == planned if inner else 0 < real < planned, (name, rank, way)


def test_bytes_of_a_halo_by_hand():
    # 2 objects, 3 channels, 4 x 5 voxels: faces along y of 5, then along x of 4 and the two halos of y
    assert halo_bytes((2, 3, 4, 5), [(-2, 1, 1)]) == 2 * 3 * 5 * 2 * 4
    assert halo_bytes((2, 3, 4, 5), [(-2, 1, 1), (-1, 2, 0)], 2) == 2 * 3 * (5 * 2 + (4 + 2) * 2) * 2


def test_layouts_that_cannot_be_are_refused_on_every_process(found):
    for one in found:
        said = one["refused"]
        for what, words in {
            "uneven": "18 voxels along x cannot be cut into 4 equal pieces",
            "no such axis": "no axis 'x'",
            "dims": "give as many different axes",
            "tiny": "reaches 3 voxels into its neighbours along x, which hold only 2",
            "shapes": "pieces of different shapes",
            "stride": "steps of 2, and a process holds 3 voxels",
            "shrinks": "its result is not 1/1 of the field's size",
            "reflect": "padding is 'reflect'",
            "batch norm": "BatchNorm2d",
            "grows": "its result is not 2 times the field's size",
            "pool": "AdaptiveAvgPool2d",
            "corners": "align_corners",
        }.items():
            assert words in said[what], said[what]


def test_a_cut_axis_that_the_layer_has_not_is_refused():
    with pytest.raises(GsnnError, match="no axis 'z'"):
        traffic(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1)), (2,), ("z",), {})
