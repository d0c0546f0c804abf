"""Weights before training depend on seed, name and index: whole, in shards, in slices by hand or in stages."""

import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gsnn.data.schema import Column, Schema
from gsnn.errors import GsnnError
from gsnn.models import initialise as module
from gsnn.models.initialise import bell, fill, initialise, usual
from gsnn.models.transformer import Transformer
from gsnn.rng import bits

INPUTS = Schema.of([Column("image", "image", shape=(3, 9, 9)), Column("mag", "scalar")])


def make(device="cpu", seed=None):
    with torch.device(device):
        net = Transformer(INPUTS, 7, width=24, layers=2, heads=2, patch=3)
        net.add_mask()
    if seed is not None:
        initialise(net, seed)
    return net


def test_a_bell_of_unit_variance():
    x = bell(bits(1, "test", torch.arange(1 << 20))[:, 0]).double()
    assert abs(x.mean()) < 4e-3
    assert abs(x.var() - 1) < 4e-3
    assert abs((x**4).mean() - 2.7) < 0.02  # 3 - 6 / (5 x 4) of four uniform numbers
    assert 3.2 < x.abs().max() < 3.4642


def test_every_parameter_is_as_its_rule_says():
    net = make(seed=3)
    for name, parameter in net.named_parameters():
        mean, spread = net.initial(name, tuple(parameter.shape))
        if spread == 0:
            assert (parameter == mean).all(), name
        else:
            assert abs(parameter.mean()) < 5 * spread / parameter.numel() ** 0.5, name
            assert abs(parameter.std() / spread - 1) < 4 / parameter.numel() ** 0.5, name
    assert (net.norm.weight == 1).all()
    assert (net.head.bias == 0).all()
    assert net.initial("blocks.0.mlp.down.weight", (24, 64)) == (0.0, 64**-0.5 / 2)  # two layers add four times
    assert net.initial("blocks.0.mlp.up.weight", (64, 24)) == usual("", (64, 24)) == (0.0, 24**-0.5)


def test_names_seeds_and_indices_all_matter():
    a, b, c = make(seed=3).state_dict(), make(seed=3).state_dict(), make(seed=4).state_dict()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name
        assert torch.equal(value, c[name]) == (usual(name, value.shape)[1] == 0), name
    assert not torch.equal(a["blocks.0.attention.q.weight"], a["blocks.1.attention.q.weight"])
    assert a["blocks.0.attention.q.weight"].unique().numel() > 0.9 * 24 * 24


def test_the_global_generator_does_not_matter_and_is_not_touched():
    torch.manual_seed(1)
    a = make(seed=3).state_dict()
    torch.manual_seed(2)
    net, state = make(), torch.get_rng_state()
    initialise(net, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, a[name]) for name, value in net.state_dict().items())


def test_what_was_on_the_meta_device_is_the_same():
    net = make("meta")
    with pytest.raises(GsnnError, match="to_empty"):
        initialise(net, 3)
    net = net.to_empty(device="cpu")
    initialise(net, 3)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in make(seed=3).state_dict().items())
    given = {c.name: torch.randn(2, *c.shape) for c in INPUTS.columns}
    assert torch.equal(net(**given), make(seed=3)(**given))


def test_a_stage_of_a_pipeline_holds_the_weights_of_the_whole():
    whole, stage = make(seed=3).state_dict(), make("meta")
    del stage.blocks["0"], stage.embedding["image0"]
    stage.head = None
    stage = stage.to_empty(device="cpu")
    initialise(stage, 3)
    assert stage.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in stage.state_dict().items())


def test_wrappers_do_not_change_names():
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    whole, net = make(seed=3).state_dict(), make()
    net.blocks["1"] = checkpoint_wrapper(net.blocks["1"])
    compiled = nn.Module()  # as torch.compile makes it, without its import of ten seconds
    compiled._orig_mod = net.embedding["image0"]
    net.embedding["image0"] = compiled
    initialise(net, 3)
    found = {
        n.replace("_checkpoint_wrapped_module.", "").replace("_orig_mod.", ""): p for n, p in net.named_parameters()
    }
    assert all(torch.equal(found[name], value) for name, value in whole.items())


@pytest.mark.parametrize("chunk", [1, 50, 1 << 22])
def test_slices_by_hand_and_the_size_of_chunks(chunk, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    name, shape = "w", (11, 3, 5)
    whole = torch.empty(shape)
    fill(whole, [torch.arange(n) for n in shape], shape, 5, name, 0.5, 2.0)
    for rows, last in (([3, 4, 10], [0, 4]), ([0], [1, 2, 3])):
        part = torch.empty(len(rows), 3, len(last), dtype=torch.float32)
        fill(part, [torch.tensor(rows), torch.arange(3), torch.tensor(last)], shape, 5, name, 0.5, 2.0)
        assert torch.equal(part, whole[rows][:, :, last])


def test_any_module_and_any_precision():
    def some():
        return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Conv1d(2, 3, 4))

    a, b = some(), some().bfloat16()
    initialise(a, 1)
    initialise(b, 1)
    assert all(torch.equal(q, p.bfloat16()) for p, q in zip(a.parameters(), b.parameters()))
    assert (a[1].weight == 1).all()
    assert not a[1].bias.any()
    assert a[2].weight.detach().std() == pytest.approx(8**-0.5, rel=0.5)


# ------------------------------------------------------------------ shards of simulated processes


def held(folder, sizes, cut):
    """What each of the processes of a mesh of ``sizes`` holds: name -> one tensor a rank. Nothing is sent.

    ``cut(network, mesh)`` shards a network that is on the meta device. A fork each, for torch keeps a rank for good.
    """
    import torch.distributed.fsdp
    import torch.distributed.tensor.parallel  # once, and not in every fork
    from torch.testing._internal.distributed import fake_pg  # noqa: F401

    parts = {}
    for rank in range(torch.Size(sizes.values()).numel()):
        child = os.fork()
        if not child:
            status = 1
            try:
                save_file(_of_rank(rank, sizes, cut), folder / f"{rank}.safetensors")
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        for name, tensor in load_file(folder / f"{rank}.safetensors").items():
            parts.setdefault(name, []).append(tensor)
    return parts


def _of_rank(rank, sizes, cut):
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    world = torch.Size(sizes.values()).numel()
    dist.init_process_group("fake", rank=rank, world_size=world, store=FakeStore())
    net = make("meta")
    cut(net, init_device_mesh("cpu", tuple(sizes.values()), mesh_dim_names=tuple(sizes)))
    initialise(net.to_empty(device="cpu"), 3)
    found = {n: p.to_local() if hasattr(p, "to_local") else p for n, p in net.named_parameters()}
    return {name: tensor.detach().clone() for name, tensor in found.items()}


@pytest.mark.parametrize("sizes", [{"shard": 4}, {"replicate": 2, "shard": 3}], ids=str)
def test_shards_of_fsdp_are_those_of_the_whole(tmp_path, sizes):
    def cut(net, mesh):
        from torch.distributed.fsdp import fully_shard

        for block in net.blocks.values():
            fully_shard(block, mesh=mesh)
        fully_shard(net, mesh=mesh)

    parts, shards = held(tmp_path, sizes, cut), sizes["shard"]
    for name, value in make(seed=3).state_dict().items():
        for first in range(0, len(parts[name]), shards):
            assert torch.equal(torch.cat(parts[name][first : first + shards]), value), name


def test_shards_of_tensor_parallelism_below_fsdp_are_those_of_the_whole(tmp_path):
    def cut(net, mesh):
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

        plan = {f"attention.{x}": ColwiseParallel() for x in "qkv"} | {"attention.o": RowwiseParallel()}
        plan |= {"mlp.gate": ColwiseParallel(), "mlp.up": ColwiseParallel(), "mlp.down": RowwiseParallel()}
        for block in net.blocks.values():
            parallelize_module(block, mesh["tensor"], plan)
            fully_shard(block, mesh=mesh["shard"])

    parts = held(tmp_path, {"shard": 3, "tensor": 2}, cut)
    for name, value in make(seed=3).state_dict().items():
        columns = name.endswith((".o.weight", ".down.weight"))
        divided = columns or name.endswith(tuple(f".{x}.weight" for x in ("q", "k", "v", "gate", "up")))
        for tensor in range(2):
            mine = value.chunk(2, int(columns))[tensor] if divided else value
            found = parts[name][tensor::2]
            assert torch.equal(torch.cat(found) if name.startswith("blocks") else found[0], mine), name
