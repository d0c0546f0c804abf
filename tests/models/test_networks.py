"""What must hold for every network. A new one joins by its name in the table of parts."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_networks import GRAPHS, IMAGES, KINDS, SEQUENCES, changed, columns, schema, small

from gsnn.config import PARTS, build
from gsnn.data.schema import Column, Schema
from gsnn.errors import ConfigError, GsnnError

VARIANTS = [{"name": name} for name in PARTS["model"]] + [
    {"name": "mlp", "widths": [7, 7, 5], "norm": "layer", "residual": True, "activation": "mish"},
    {"name": "cnn", "width": 5, "depth": 1, "activation": "swish"},
    {"name": "resnet", "width": 8, "blocks": [1, 2], "stem": "strided"},
    {"name": "transformer", "heads": 2, "kv_heads": 1, "causal": True, "rotary": "2d"},
    {"name": "resnet", "width": 8, "blocks": [1], "norm": "frozen-batch", "activation": "elu"},
    {"name": "unet", "width": 8, "depth": 1, "boundary": "periodic", "residual": False, "activation": "relu"},
    {"name": "rnn", "cell": "lstm", "bidirectional": True, "pool": "attention", "layers": 1},
    {"name": "rnn", "cell": "rnn", "pool": "last", "clock": False},
    {"name": "graph", "radius": 1.5, "aggregate": ["attention"], "pool": ["mean", "count"], "depth": 1},
    {"name": "egnn", "shells": 3, "reach": 2.0},
]


def cases():
    for spec in VARIANTS:
        for kinds in KINDS.get(spec["name"], (("image",), ("image", "table"), ("images", "table"), ("table",))):
            setting = "-".join(str(v) for k, v in spec.items() if k != "name")
            yield pytest.param(spec, schema(*kinds), id=f"{spec['name']} {setting} {'+'.join(kinds)}")


def make(spec, inputs, outputs=4, seed=0):
    torch.manual_seed(seed)
    return build(small(spec), "model", inputs, outputs)


EXPORTED = {"rnn", "wavenet", "time-transformer"}  # of the sequences, whose export takes seconds: the others are slow


def exports():
    """Every case; of the sequences some at once, and the others where there is time (``slow``)."""
    for case in cases():
        spec, inputs = case.values
        at_once = spec["name"] in EXPORTED and len(spec) == 1 and "lc" in inputs
        slow = spec["name"] in SEQUENCES and not at_once
        yield pytest.param(spec, inputs, id=case.id, marks=[pytest.mark.slow] if slow else [])
    yield pytest.param({"name": "rnn", "step": "visit"}, schema("curve", "table"), id="rnn visit curve+table")


def readable(name):
    if name in ("joint", "candidate-cnn", "mass-map", "healpix-cnn") or name in GRAPHS:
        return schema(*KINDS[name][0])
    return schema("curve" if name in SEQUENCES else "image")


class OneDict(torch.nn.Module):
    """For torch.export, which takes dynamic shapes of a dict but (torch 2.13) not of keyword arguments by any name."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, columns):
        return self.network(**columns)


@pytest.mark.parametrize(("spec", "inputs"), list(exports()))
def test_it_exports_with_any_number_of_objects(spec, inputs):
    net, given = make(spec, inputs).eval(), columns(inputs)
    objects = torch.export.Dim("objects", min=1, max=4096)
    shapes = {"columns": {name: {0: objects} for name in given}}
    program = torch.export.export(OneDict(net), (given,), dynamic_shapes=shapes)
    other = columns(inputs, n=3, seed=1)
    torch.testing.assert_close(program.module()(other), net(**other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("spec", "inputs"), list(cases()))
class TestEvery:
    def test_shapes_and_the_head_after_the_features(self, spec, inputs):
        net, given = make(spec, inputs), columns(inputs)
        out, features = net(**given), net.features(**given)
        assert out.shape == (5, 4)
        torch.testing.assert_close(net.head(features), out)
        assert isinstance(net.head, torch.nn.Linear)
        assert out.std(0).min() > 0  # objects are told apart

    def test_every_column_counts(self, spec, inputs):
        net, given = make(spec, inputs), columns(inputs)
        for name, values in given.items():
            if not name.endswith(".valid"):
                assert (net(**{**given, name: changed(values)}) - net(**given)).abs().max() > 1e-4, name

    def test_the_gradient_reaches_every_parameter(self, spec, inputs):
        net = make(spec, inputs)
        (net(**columns(inputs)) ** 2).sum().backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name

    def test_one_seed_is_one_network(self, spec, inputs):
        a, b, c = make(spec, inputs), make(spec, inputs), make(spec, inputs, seed=1)
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))
        assert any(not torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters()))

    @pytest.mark.parametrize("training", [True, False])
    def test_an_object_does_not_depend_on_its_batch(self, spec, inputs, training):
        net, given = make(spec, inputs).train(training), columns(inputs)
        alone = torch.cat([net(**{name: x[i : i + 1] for name, x in given.items()}) for i in range(5)])
        torch.testing.assert_close(net(**given), alone, rtol=1e-4, atol=1e-5)

    def test_saved_equals_loaded(self, spec, inputs, tmp_path):
        net, other = make(spec, inputs), make(spec, inputs, seed=1)
        save_file(net.state_dict(), tmp_path / "network.safetensors")
        other.load_state_dict(load_file(tmp_path / "network.safetensors"))
        given = columns(inputs)
        torch.testing.assert_close(other(**given), net(**given), rtol=0, atol=0)

    def test_bfloat16_autocast_is_near_and_its_head_float32(self, spec, inputs):
        net, given = make(spec, inputs).to(memory_format=torch.channels_last), columns(inputs)
        given = {n: x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for n, x in given.items()}
        with torch.autocast("cpu", torch.bfloat16):
            out = net(**given)
        out.sum().backward()
        assert out.dtype == torch.float32
        exact = net(**given)
        assert (out - exact).abs().max() < 0.06 * exact.abs().max()

    def test_shapes_are_known_on_the_meta_device(self, spec, inputs):
        with torch.device("meta"):
            net = build(small(spec), "model", inputs, 4)
        given = {name: values.to("meta") for name, values in columns(inputs, n=2).items()}
        with torch.device("meta"):
            assert net(**given).shape == (2, 4)

    def test_no_object_is_no_answer(self, spec, inputs):
        assert make(spec, inputs)(**columns(inputs, n=0)).shape == (0, 4)


@pytest.mark.parametrize("name", PARTS["model"])
class TestRefusals:
    def test_nothing_to_read(self, name):
        with pytest.raises(GsnnError, match=name):
            build(name, "model", Schema.of([]), 2)

    def test_a_column_that_it_cannot_read(self, name):
        curves = name in SEQUENCES or name == "joint"
        strange = Column("cells", "field", shape=(9, 9)) if curves else Column("cells", "light_curve")
        with pytest.raises(GsnnError, match=f"'cells'.*{strange.kind}"):
            build(name, "model", Schema.of([*readable(name).columns, strange]), 2)

    def test_no_output(self, name):
        with pytest.raises(GsnnError, match="outputs = 0"):
            build(name, "model", readable(name), 0)

    def test_a_width_of_nothing(self, name):
        if name != "perceptron":
            with pytest.raises(GsnnError, match="width = 0"):
                build({"name": name, "width": 0}, "model", readable(name), 2)

    def test_a_misspelt_setting(self, name):
        with pytest.raises(ConfigError, match="no such key"):
            build({"name": name, "widht": 3}, "model", readable(name), 2)


@pytest.mark.parametrize("name", sorted(IMAGES))
class TestImages:
    def test_a_table_is_refused_with_advice(self, name):
        with pytest.raises(GsnnError, match="mlp"):
            build(name, "model", schema("table"), 2)

    def test_images_of_two_sizes_are_refused(self, name):
        other = Column("wide", "image", shape=(1, 9, 9))
        with pytest.raises(GsnnError, match="differ in size"):
            build(name, "model", schema("image").with_column(other), 2)

    def test_an_image_without_bands_is_refused(self, name):
        with pytest.raises(GsnnError, match="band, y, x"):
            build(name, "model", Schema.of([Column("image", "image", shape=(9, 9))]), 2)

    @pytest.mark.parametrize(("y", "x"), [(1, 1), (7, 23), (40, 33)])
    def test_uneven_sizes(self, name, y, x):
        if name == "unet":
            pytest.skip("halves and doubles its maps: tests/models/test_unet.py")
        inputs = schema("image", y=y, x=x)
        assert make({"name": name}, inputs)(**columns(inputs)).isfinite().all()

    def test_the_last_maps_are_those_that_are_averaged(self, name):
        if name == "field-cnn":
            pytest.skip("mixes the averages with band powers: tests/models/test_field_cnn.py")
        inputs = schema("image")
        net, seen = make({"name": name}, inputs), {}
        net.last_conv.register_forward_hook(lambda module, given, out: seen.update(maps=out))
        features = net.features(**columns(inputs))
        torch.testing.assert_close(seen["maps"].mean((2, 3)), features)

    def test_dropout_acts_in_training_only(self, name):
        inputs = schema("image")
        net, given = make({"name": name, "dropout": 0.5}, inputs), columns(inputs)
        assert not torch.equal(net(**given), net(**given))
        assert torch.equal(net.eval()(**given), net(**given))


def test_the_default_cnn_has_a_fifth_of_a_million_parameters():
    net = build("cnn", "model", schema("image", y=64, x=64), 3)
    assert 0.15e6 < sum(p.numel() for p in net.parameters()) < 0.35e6
