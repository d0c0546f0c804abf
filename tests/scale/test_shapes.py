"""Sizes, memory and traffic: against the network itself, and against formulas of the papers."""

import itertools
import math

import pytest
import torch

from gsnn.data.schema import Column, Schema
from gsnn.models.transformer import SIZES, Transformer, hidden, parameters
from gsnn.scale.memory import Layout, in_flight, memory
from gsnn.scale.shapes import Shape, activation, halo, shape_for, unet_activation
from gsnn.scale.traffic import collectives, traffic
from gsnn.training.layout import STAGES

SMALL = Shape(256, 8, 8, 4, 704, patch=64)


def planned(size, patch=192):
    table = SIZES[size]
    return Shape(*table, hidden(table.width), patch=patch)


@pytest.mark.parametrize("size", SIZES)
def test_parameters_are_the_networks_own(size):
    assert planned(size).parameters == parameters(*SIZES[size])


def test_parameters_are_those_that_are_built():
    schema = Schema.of([Column("image", "image", bands=("g",), shape=(1, 16, 16))])
    network = Transformer(schema, 64, size="1M")
    assert planned("1M", 64).parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("size", ["1M", "5M", "1B"])
@pytest.mark.parametrize("causal", [False, True])
def test_activations_are_those_that_autograd_keeps(size, causal):
    """In float32 on the CPU, within 2%; a block of the size at a quarter of the width where it is large."""
    table = SIZES[size]
    width = min(table.width, 512)
    heads = table.heads if width == table.width else 8
    kv = table.kv_heads if width == table.width else 2
    schema = Schema.of([Column("image", "image", bands=("g",), shape=(1, 64, 64))])
    network = Transformer(schema, 8, width=width, layers=1, heads=heads, kv_heads=kv, causal=causal)
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept = {}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    tokens = torch.randn(4, network.tokens, width, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = network.blocks["0"](tokens)
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert out.requires_grad
    shape = Shape(width, 1, heads, kv, hidden(width), patch=64)
    assert activation(shape, 4 * network.tokens, bytes_each=4) == pytest.approx(real, rel=0.02)


@pytest.mark.parametrize("wanted", [10.0**k for k in range(5, 14)])
def test_a_shape_has_the_parameters_that_are_asked_for(wanted):
    shape = shape_for(wanted)
    assert shape.parameters == pytest.approx(wanted, rel=0.02)
    assert shape.width % shape.heads == 0
    assert shape.heads % shape.kv_heads == 0


def test_flops_of_a_token_are_palms():
    shape = planned("1B")
    assert shape.flops(0) == 6 * shape.parameters
    assert shape.flops(4096) - shape.flops(0) == 12 * shape.layers * shape.width * 4096


# ---------------------------------------------------------------------- memory


def test_states_are_sixteen_bytes_a_parameter():
    held = memory(SMALL, Layout(microbatches=2), 1, 64, bytes_each=4)
    assert sum(held[k] for k in ("parameters", "gradients", "optimizer")) == 16 * SMALL.parameters
    assert held["unsharded"] == 0


def test_gradients_take_the_place_of_activations():
    few, many = (memory(SMALL, Layout(), 1, tokens, bytes_each=4) for tokens in (1, 10**6))
    assert few["gradients"] + few["activations"] == 4 * SMALL.parameters
    assert many["gradients"] == 0
    in_buckets = memory(SMALL, Layout(replicate=2), 1, 10**6, bytes_each=4)
    assert in_buckets["gradients"] == 4 * SMALL.parameters


@pytest.mark.parametrize("dimension", ["shard", "tensor", "pipeline"])
def test_more_ranks_hold_less_each(dimension):
    states = []
    for degree in (1, 2, 4):
        held = memory(SMALL, Layout(**{dimension: degree, "microbatches": 4}), 1, 64)
        states.append(held["parameters"] + held["gradients"] + held["optimizer"])
    blocks = 16 * SMALL.layers * SMALL.block_parameters()
    for degree, value in zip((2, 4), states[1:]):
        assert value < states[0]
        assert value == pytest.approx(states[0] - blocks * (1 - 1 / degree), rel=0.05)


def test_padding_of_shards_is_counted():
    """Three ranks share 64 rows as 22 each."""
    assert SMALL.block_parameters(shards=3) > SMALL.block_parameters()
    assert SMALL.block_parameters(shards=3) % 3 == 0


def test_recomputing_keeps_little_and_context_divides_tokens():
    whole = memory(SMALL, Layout(shard=2), 4, 64)["activations"]
    again = memory(SMALL, Layout(shard=2, recompute=True), 4, 64)["activations"]
    halved = memory(SMALL, Layout(context=2), 4, 64)["activations"]
    assert again < whole / 4
    assert halved == pytest.approx(whole / 2)


def test_micro_batches_in_flight():
    assert in_flight(Layout(microbatches=9)) == 1
    assert in_flight(Layout(pipeline=4, microbatches=9)) == 4
    assert in_flight(Layout(pipeline=4, microbatches=2)) == 2
    assert in_flight(Layout(pipeline=4, microbatches=9, schedule="gpipe")) == 9
    assert in_flight(Layout(pipeline=4, microbatches=9, schedule="interleaved-1f1b")) == 4 * (1 + 3 / 8)


def test_the_stages_of_a_schedule_are_the_trainers():
    from gsnn.scale.memory import VIRTUAL

    assert VIRTUAL == STAGES


# ---------------------------------------------------------------------- traffic


def test_replicas_sum_their_gradients():
    sent = traffic(SMALL, Layout(replicate=4), 1, 64)
    assert sent == {
        "replicate": 2 * 3 / 4 * 4 * SMALL.parameters,
        **dict.fromkeys(("shard", "tensor", "pipeline", "context"), 0),
    }


def test_shards_gather_twice_and_reduce_once():
    shape = Shape(256, 8, 8, 4, 704, patch=256)  # every row count divisible by 4
    sent = traffic(shape, Layout(shard=4), 1, 64, bytes_each=4)["shard"]
    ends = shape.end_parameters(4)
    assert sent == pytest.approx(3 / 4 * 4 * (3 * shape.layers * shape.block_parameters(1, 4) + 2 * ends))


def test_tensor_ranks_send_eight_tensors_a_block():
    """8 b s h B (t - 1) / t (Narayanan et al. 2021), and two more for the ends of the stack."""
    sent = traffic(SMALL, Layout(tensor=4), 2, 64, bytes_each=2)["tensor"]
    assert sent == (8 * SMALL.layers + 2) * 2 * 64 * 256 * 2 * 3 / 4


@pytest.mark.parametrize("kv", [8, 4])
def test_ulysses_sends_queries_keys_values_and_outputs(kv):
    """8 b (s / c) h B (c - 1) / c with as many key heads as heads (Jacobs et al. 2023)."""
    shape = Shape(256, 8, 8, kv, 704)
    sent = traffic(shape, Layout(context=4), 2, 64)["context"]
    assert sent == 8 * 8 * 2 * (64 / 4) * (256 + 32 * kv) / 2 * 2 * 3 / 4


def test_a_ring_sends_keys_and_values_on():
    sent = traffic(SMALL, Layout(context=4, attention="ring"), 2, 64, bytes_each=4)["context"]
    slice_bytes = 2 * 2 * (64 / 4) * SMALL.kv_width * 4
    assert sent == SMALL.layers * slice_bytes * (3 + 3 + 4)


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe", "interleaved-1f1b", "zbv-zero-bubble", "dualpipe-v"])
@pytest.mark.parametrize("p", [2, 4])
def test_a_pipeline_crosses_every_boundary_twice(schedule, p):
    """All ranks together: forward and backward over p v - 1 boundaries, less those within the last rank of a V."""
    layout = Layout(pipeline=p, microbatches=8, schedule=schedule)
    total = sum(
        one.sent
        for stage in range(p)
        for one in collectives(SMALL, layout, 2, 64, stage=stage)
        if one.dimension == "pipeline"
    )
    boundaries = p * STAGES[schedule] - 1 - (schedule in ("zbv-zero-bubble", "dualpipe-v"))
    assert total == 2 * boundaries * 8 * 2 * 64 * 256 * 2


def test_every_dimension_that_is_one_is_silent():
    for degrees in itertools.product((1, 2), repeat=5):
        layout = Layout(*degrees, microbatches=4)
        spoken = {one.dimension for one in collectives(SMALL, layout, 1, 64)}
        for name in ("replicate", "tensor", "pipeline"):
            assert (name in spoken) == (getattr(layout, name) > 1)


# ---------------------------------------------------------------------- fields


@pytest.mark.parametrize(("extent", "total"), [((256, 256, 256), 4 / 3), ((1024, 1024), 2)])
def test_the_top_of_a_unet_decides(extent, total):
    top = unet_activation(extent, 16, 1)
    assert unet_activation(extent, 16, 7) == pytest.approx(total * top, rel=0.02)


def test_a_halo_is_two_faces_a_cut_axis_and_twice():
    assert halo((64, 64, 64), (1, 1, 1), 8, 3) == 0
    assert halo((64, 64, 64), (4, 1, 1), 8, 3, batch=2, bytes_each=4) == 2 * 2 * 2 * 8 * 1 * 64 * 64 * 4
    assert halo((64, 64, 64), (2, 2, 1), 8, 5) == 2 * 2 * (2 * 8 * 2 * 32 * 64 * 2)
    assert math.isclose(halo((64, 64), (2, 1), 8, 1), 0)
