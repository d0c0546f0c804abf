"""A checkpoint written under any layout is read under any other, bit for bit; anything else is one sentence."""

import json
import subprocess
import threading
from functools import cache

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from forked import together
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DeviceMesh, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from gsnn.errors import GsnnError
from gsnn.training import checkpoint, pieces, restore, storage
from gsnn.training.dcp import Reader

SHAPES = {"up.weight": (8, 6), "up.bias": (8,), "down.weight": (6, 8), "down.bias": (6,), "odd": (7, 3, 2), "one": (1,)}


class Net(nn.Module):
    """Even and uneven sizes; fewer rows than processes."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 6)
        self.odd, self.one = nn.Parameter(torch.empty(7, 3, 2)), nn.Parameter(torch.empty(1))


def reference() -> dict[str, torch.Tensor]:
    """The values, by name: every bit pattern counts, NaN with a payload and -0.0 included."""
    random = torch.Generator().manual_seed(3)
    values = {name: torch.randn(shape, generator=random) for name, shape in SHAPES.items()}
    values["odd"].view(-1)[:3] = torch.tensor([-0.0, float("inf"), 1e-42])
    values["odd"].view(torch.int32).view(-1)[4] = 0x7FC00123
    others = {
        "half": torch.randn(9, 2, generator=random).bfloat16(),
        "double": torch.randn(5, 5, generator=random, dtype=torch.float64),
        "steps": torch.tensor(12345678901),
        "mask": torch.randn(11, generator=random) > 0,
        "none": torch.zeros(0, 4),
        "f8": torch.randn(6, 4, generator=random).to(torch.float8_e4m3fn),
    }
    return values | others


def module(values, cut) -> dict[str, torch.Tensor]:
    """The state of a network that ``cut`` has distributed; everything else is plain."""
    net = Net()
    cut(net)
    state = net.state_dict()
    for name in SHAPES:
        fill(state[name], values[name])
    return {**state, **{name: value for name, value in values.items() if name not in SHAPES}}


def fill(target, value):
    """Give a distributed tensor its values by torch's own arithmetic."""
    if not hasattr(target, "to_local"):
        target.copy_(value)
        return
    whole = distribute_tensor(value, target.device_mesh, [Replicate()] * target.device_mesh.ndim, src_data_rank=None)
    target.to_local().copy_(whole.redistribute(target.device_mesh, target.placements).to_local())


def spread(values, mesh, *placements):
    def one(value):
        wanted = [p if not isinstance(p, Shard) or p.dim < value.ndim else Replicate() for p in placements]
        if value.dtype == torch.float8_e4m3fn:
            return value
        return distribute_tensor(value, mesh, wanted, src_data_rank=None)

    return {name: one(value) for name, value in values.items()}


def two_dimensional(net, mesh):
    parallelize_module(net, mesh["tensor"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    fully_shard(net, mesh=mesh["shard"])


@cache  # all processes make a mesh together, also one that they are not in
def line(world):
    return DeviceMesh("cpu", list(range(world)))


@cache
def plane(*names):
    return init_device_mesh("cpu", (2, 2), mesh_dim_names=names)


def stage(values, rank, world):
    """A pipeline: every name on one process."""
    return {name: value for i, (name, value) in enumerate(values.items()) if i % world == rank}


# name -> (processes, tensors of a process)
LAYOUTS = {
    "replicated": (4, lambda v, rank: v),
    "fsdp": (4, lambda v, rank: module(v, lambda net: fully_shard(net, mesh=line(4)))),
    "fsdp of two": (2, lambda v, rank: module(v, lambda net: fully_shard(net, mesh=line(2)))),
    "fsdp of three": (3, lambda v, rank: module(v, lambda net: fully_shard(net, mesh=line(3)))),
    "hsdp": (4, lambda v, rank: module(v, lambda net: fully_shard(net, mesh=plane("replicate", "shard")))),
    "fsdp x tensor": (4, lambda v, rank: module(v, lambda net: two_dimensional(net, plane("shard", "tensor")))),
    "rows": (4, lambda v, rank: spread(v, line(4), Shard(0))),
    "columns": (3, lambda v, rank: spread(v, line(3), Shard(1))),
    "rows x columns": (4, lambda v, rank: spread(v, plane("a", "b"), Shard(0), Shard(1))),
    "replicas of rows": (4, lambda v, rank: spread(v, plane("a", "b"), Replicate(), Shard(0))),
    "pipeline": (4, lambda v, rank: stage(v, rank, 4)),
    "alone": (1, lambda v, rank: v),
}


def bits(tensor):
    return tensor.reshape(-1).view(torch.uint8) if tensor.numel() else tensor


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def every_pair(rank, folder):
    groups = {world: dist.new_group(list(range(world))) for world in (1, 2, 3, 4)}
    for world in groups:
        line(world)
    values = reference()
    zeros = {name: torch.zeros_like(value) for name, value in values.items()}
    wrong, files = [], {}

    def tensors(name, given):
        world, made = LAYOUTS[name]
        return made({k: v.clone() for k, v in given.items()}, rank) if rank < world else None

    for name, (world, _) in LAYOUTS.items():
        mine = tensors(name, values)
        if mine is not None:
            path = checkpoint.save(folder / name, 7, mine, {"layout": name}, group=groups[world]).wait()
            files[name] = sorted(p.name for p in path.iterdir())
    for reader, (world, _) in LAYOUTS.items():
        for writer in LAYOUTS:
            like = tensors(reader, zeros)
            if like is None:
                continue
            damaged = []
            step, state = checkpoint.load(folder / writer, like, damaged, group=groups[world])
            if (step, state, damaged) != (7, {"layout": writer}, []):
                wrong.append((writer, reader, step, state, damaged))
            for name, value in like.items():
                if not torch.equal(bits(whole(value)), bits(values[name])):
                    wrong.append((writer, reader, name))
        dist.barrier()
    return wrong, files


def by_torch(rank, folder):
    """Every layout read by torch's own planner, which knows nothing of ours."""
    values, wrong = reference(), []
    for name in LAYOUTS:
        for reader in ("fsdp x tensor", "rows x columns", "replicated"):
            like = LAYOUTS[reader][1]({k: torch.zeros_like(v) for k, v in values.items()}, rank)
            dcp.load(like, storage_reader=Reader(folder / name / "step-00000007"))
            wrong += [(name, reader, k) for k, v in like.items() if not torch.equal(bits(whole(v)), bits(values[k]))]
    return wrong


def test_every_pair_of_layouts(tmp_path):
    results = together(4, every_pair, tmp_path)
    assert [wrong for wrong, _ in results] == [[]] * 4
    for name, files in results[0][1].items():
        count = LAYOUTS[name][0]
        assert files == ["SHA256SUMS", "manifest.json", *(storage.file_name(i) for i in range(count))]
    assert together(4, by_torch, tmp_path) == [[]] * 4
    values = reference()
    whole_size = sum(v.numel() * v.element_size() for v in values.values())
    for name in LAYOUTS:  # one process without a group reads what any number wrote, and no value is written twice
        like = {k: torch.zeros_like(v) for k, v in values.items()}
        assert checkpoint.load(tmp_path / name, like) == (7, {"layout": name})
        assert all(torch.equal(bits(like[k]), bits(values[k])) for k in values)
        path = tmp_path / name / "step-00000007"
        headers = [int.from_bytes(f.read_bytes()[:8], "little") + 8 for f in path.glob("*.safetensors")]
        assert sum(f.stat().st_size for f in path.glob("*.safetensors")) - sum(headers) == whole_size
        subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=path, check=True, capture_output=True)


# ------------------------------------------------------------------ one process


def test_the_newest_are_kept_and_a_step_reached_again_replaces(tmp_path):
    for step in (1, 2, 10, 30):
        checkpoint.save(tmp_path, step, {"a": torch.full((2,), float(step))}, {})
    checkpoint.save(tmp_path, 30, {"a": torch.zeros(2)}, {}).wait()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010", "step-00000030"]
    like = {"a": torch.ones(2)}
    assert checkpoint.load(tmp_path, like)[0] == 30
    assert (like["a"] == 0).all()
    checkpoint.save(tmp_path, 20, {"a": torch.zeros(2)}, {}).wait()  # gone back: what was later is of another attempt
    assert checkpoint.latest(tmp_path).step == 20


def test_none_is_none(tmp_path):
    assert checkpoint.load(tmp_path, {}) is None
    assert checkpoint.latest(tmp_path / "nowhere") is None


def test_a_checkpoint_about_to_be_replaced_still_counts(tmp_path):
    path = checkpoint.save(tmp_path, 5, {"a": torch.ones(2)}, {"x": 1}).wait()
    path.rename(path.with_name("step-00000005.old"))  # as if killed between the two renames
    assert checkpoint.latest(tmp_path).state == {"x": 1}
    checkpoint.save(tmp_path, 5, {"a": torch.ones(2)}, {"x": 2}).wait()
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000005"]


def test_what_is_written_is_what_was_when_saved(tmp_path, monkeypatch):
    """The training goes on while the thread writes; the next save waits, and copies into the same memory."""
    go, written = threading.Event(), storage.write_tensors
    monkeypatch.setattr(storage, "write_tensors", lambda *args: go.wait(20) and written(*args))
    value = torch.zeros(1000)
    first = checkpoint.save(tmp_path, 1, {"a": value}, {})
    value += 1
    assert not first.path.exists()
    threading.Timer(0.2, go.set).start()
    memory = first.memory.data_ptr()
    second = checkpoint.save(tmp_path, 2, {"a": value}, {})
    assert first.path.exists()
    assert second.memory.data_ptr() == memory
    second.wait()
    assert second.memory is None
    like = {"a": torch.empty(1000)}
    checkpoint.load(tmp_path, like)
    assert (like["a"] == 1).all()
    assert next(restore.read_checkpoint(first.path).read(["a"])).abs().max() == 0


@pytest.mark.parametrize(
    ("like", "words"),
    [
        ({"a": torch.zeros(3), "c": torch.zeros(1)}, ["it lacks 'c'", "it alone has 'b'"]),
        ({"a": torch.zeros(3), "b": torch.zeros(4, 2)}, ["'b' is F32 [2, 4] there and F32 [4, 2] here"]),
        ({"a": torch.zeros(3).half(), "b": torch.zeros(2, 4)}, ["'a' is F32 [3] there and F16 [3] here"]),
        ({f"x{i}": torch.zeros(1) for i in range(9)}, ["it lacks 'x0', 'x1', 'x2' and 6 more"]),
    ],
)
def test_another_network_is_told_by_its_names(tmp_path, like, words):
    checkpoint.save(tmp_path, 1, {"a": torch.ones(3), "b": torch.ones(2, 4)}, {}).wait()
    with pytest.raises(GsnnError, match="of another network or optimiser") as error:
        checkpoint.load(tmp_path, like)
    assert all(word in str(error.value) for word in words)
    assert all((value == 0).all() for value in like.values())


def test_pieces_that_are_not_the_whole_are_refused(tmp_path):
    there = {"a": ["F32", [4], [[[0], [2]]]]}
    with pytest.raises(GsnnError, match="'a' that the processes hold do not make up the whole"):
        pieces.Plan.of([there, there])
    with pytest.raises(GsnnError, match="'a' is of another shape or type on process 1"):
        pieces.Plan.of([there, {"a": ["F64", [4], [[[2], [2]]]]}])
    with pytest.raises(GsnnError, match=r"'a' is of torch\.complex64"):
        checkpoint.save(tmp_path, 1, {"a": torch.zeros(2, dtype=torch.complex64)}, {})


def test_the_manifest_says_it_all_without_pickle(tmp_path):
    path = checkpoint.save(tmp_path, 3, {"é": torch.ones(2, 3)}, {"x": 0.1 + 0.2, "y": [None, "é"]}).wait()
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["step"], manifest["state"]) == (3, {"x": 0.1 + 0.2, "y": [None, "é"]})
    assert manifest["tensors"] == {"é": {"dtype": "F32", "shape": [2, 3], "chunks": [[[0, 0], [2, 3], 0]]}}
    assert all(b"\x80\x04" not in p.read_bytes()[:200] for p in path.iterdir())


# ------------------------------------------------------------------ many processes


def troubles(rank, folder, monkeypatch_error):
    """Names that differ, another step, a disk full on one process only: each told to all."""
    said = {}

    def tell(key, call):
        try:
            said[key] = str(call())
        except GsnnError as error:
            said[key] = str(error)

    mesh = line(2)
    tensors = {"a": distribute_tensor(torch.arange(8.0), mesh, [Shard(0)]), f"only{rank}": torch.ones(3)}
    checkpoint.save(folder, 1, tensors, {}).wait()
    tell("names", lambda: checkpoint.load(folder, {"a": tensors["a"], f"mine{rank}": torch.ones(3)}))
    tell("steps", lambda: checkpoint.save(folder, 2 + rank, tensors, {}))
    tell("shape", lambda: checkpoint.save(folder, 2, {"a": torch.zeros(3 + rank)}, {}))
    whole_write = storage.write_tensors
    if rank == 1:
        storage.write_tensors = monkeypatch_error
    tell("full", lambda: checkpoint.save(folder, 2, tensors, {}).wait())
    pending = checkpoint.save(folder, 2, tensors, {})
    tell("full again", lambda: checkpoint.save(folder, 3, tensors, {}))
    del pending
    storage.write_tensors = whole_write
    dist.barrier()
    like = {"a": torch.zeros(8), "only0": torch.zeros(3), "only1": torch.zeros(3)}
    tell("after", lambda: checkpoint.load(folder, like))
    tell("mended", lambda: checkpoint.save(folder, 4, tensors, {}).wait().name)
    dist.barrier()
    said["left"] = sorted(p.name for p in folder.iterdir())
    return said


def _full(*_):
    raise OSError(28, "No space left on device")


def test_trouble_on_one_process_is_told_to_all(tmp_path):
    first, second = together(2, troubles, tmp_path, _full)
    for said in (first, second):
        assert "it lacks 'mine0', 'mine1'; it alone has 'only0', 'only1'" in said["names"]
        assert "different steps at once: [2, 3]" in said["steps"]
        assert "'a' is of another shape or type on process 1" in said["shape"]
        assert "step 2" in said["full"]
        assert "the disk is full" in said["full"]
        assert "the disk is full" in said["full again"]
        assert said["after"] == "(1, {})"
        assert said["mended"] == "step-00000004"
        assert said["left"] == ["step-00000001", "step-00000004"]
    assert "process 1 could not write its part" in first["full"]
