"""ImageNet's weights: the network must be ResNet-18 to the last digit, written here a second time from the paper."""

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from gsnn.data.schema import Column, Schema
from gsnn.errors import GsnnError
from gsnn.models.resnet import ResNet, load_imagenet

EIGHTEEN = {"stem": "strided", "norm": "frozen-batch"}


def inputs(bands=3, size=40):
    return Schema.of([Column("image", "image", shape=(bands, size, size))])


def weights(width, blocks=(2, 2, 2, 2)):
    """Random weights in torchvision's layout."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}

    def conv(name, out, into, size):
        tensors[f"{name}.weight"] = torch.randn(out, into, size, size, generator=generator) / (into * size**2) ** 0.5

    def norm(name, n):
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{name}.{part}"] = torch.rand(n, generator=generator) + (0.5 if part == "running_var" else 0.0)
        tensors[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("conv1", width, 3, 7)
    norm("bn1", width)
    before = width
    for stage, count in enumerate(blocks, 1):
        after = width * 2 ** (stage - 1)
        for i in range(count):
            block = f"layer{stage}.{i}"
            conv(f"{block}.conv1", after, before, 3)
            norm(f"{block}.bn1", after)
            conv(f"{block}.conv2", after, after, 3)
            norm(f"{block}.bn2", after)
            if i == 0 and stage > 1:
                conv(f"{block}.downsample.0", after, before, 1)
                norm(f"{block}.downsample.1", after)
            before = after
    tensors["fc.weight"] = torch.randn(1000, before, generator=generator)
    tensors["fc.bias"] = torch.randn(1000, generator=generator)
    return tensors


def reference(w, x, blocks=(2, 2, 2, 2)):
    """ResNet's features by its paper (He et al. 2016, table 1), from functions alone."""

    def norm(x, name):
        parts = (w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, training=False, eps=1e-5)

    x = F.relu(norm(F.conv2d(x, w["conv1.weight"], stride=2, padding=3), "bn1"))
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, count in enumerate(blocks, 1):
        for i in range(count):
            block, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            y = F.relu(norm(F.conv2d(x, w[f"{block}.conv1.weight"], stride=stride, padding=1), f"{block}.bn1"))
            y = norm(F.conv2d(y, w[f"{block}.conv2.weight"], padding=1), f"{block}.bn2")
            if f"{block}.downsample.0.weight" in w:
                x = norm(F.conv2d(x, w[f"{block}.downsample.0.weight"], stride=stride), f"{block}.downsample.1")
            x = F.relu(x + y)
    return x.mean((2, 3))


@pytest.mark.parametrize("blocks", [(2, 2, 2, 2), (3, 4, 6, 3)], ids=["18", "34"])
@pytest.mark.parametrize("size", [40, 63])
def test_it_is_the_resnet_of_imagenet(tmp_path, blocks, size):
    width, w = 16, weights(16, blocks)
    save_file(w, tmp_path / "resnet.safetensors")
    net = ResNet(inputs(), 5, width=width, blocks=blocks, **EIGHTEEN)
    unused = load_imagenet(net, tmp_path / "resnet.safetensors")
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net.features(image=x), reference(w, x, blocks), rtol=1e-4, atol=1e-4)
    assert unused == ["fc.bias", "fc.weight"]


def test_resnet_18_has_the_parameters_of_resnet_18():
    with torch.device("meta"):
        net = ResNet(inputs(), 1000, width=64, **EIGHTEEN)
    learned = sum(p.numel() for p in net.parameters())
    affine = sum(b.numel() for name, b in net.named_buffers() if name.endswith(("weight", "bias")))
    assert learned + affine == 11_689_512  # what torchvision documents for resnet18


def test_frozen_norms_stay_frozen(tmp_path):
    save_file(weights(16), tmp_path / "resnet.safetensors")
    net = ResNet(inputs(), 5, width=16, **EIGHTEEN)
    load_imagenet(net, tmp_path / "resnet.safetensors")
    before = {name: b.clone() for name, b in net.named_buffers()}
    net.train()(image=torch.randn(2, 3, 40, 40)).sum().backward()
    torch.optim.SGD(net.parameters(), lr=1.0).step()
    assert all(torch.equal(b, before[name]) for name, b in net.named_buffers())


def test_group_norm_takes_the_convolutions_only(tmp_path):
    w = weights(16)
    save_file(w, tmp_path / "resnet.safetensors")
    net = ResNet(inputs(), 5, width=16, stem="strided")
    unused = load_imagenet(net, tmp_path / "resnet.safetensors")
    assert torch.equal(net.blocks["layer3_0"].downsample[0].weight, w["layer3.0.downsample.0.weight"])
    assert "bn1.running_mean" in unused
    assert "layer1.0.conv1.weight" not in unused


def test_five_bands_of_a_grey_image_excite_the_first_layer_as_three(tmp_path):
    save_file(weights(16), tmp_path / "resnet.safetensors")
    three, five = (ResNet(inputs(bands), 5, width=16, **EIGHTEEN) for bands in (3, 5))
    for net in (three, five):
        load_imagenet(net, tmp_path / "resnet.safetensors")
    grey = torch.randn(2, 1, 40, 40)
    features = [net.features(image=grey.expand(-1, net.bands, -1, -1)) for net in (three, five)]
    torch.testing.assert_close(*features, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"width": 16, "norm": "frozen-batch"}, "strided"),
        ({"width": 8, **EIGHTEEN}, "shape"),
        ({"width": 16, "blocks": (3, 4, 6, 3), **EIGHTEEN}, "deeper"),
        ({"width": 16, "blocks": (1, 1, 1, 1), **EIGHTEEN}, "has not"),
    ],
    ids=["stem", "width", "deeper", "shallower"],
)
def test_weights_of_another_network_are_refused(tmp_path, settings, says):
    save_file(weights(16), tmp_path / "resnet.safetensors")
    with pytest.raises(GsnnError, match=says):
        load_imagenet(ResNet(inputs(), 5, **settings), tmp_path / "resnet.safetensors")


def test_a_file_that_holds_no_weights_is_refused(tmp_path):
    (tmp_path / "resnet.pth").write_bytes(b"PK\x03\x04 a pickle")
    for name in ("resnet.pth", "absent.safetensors"):
        with pytest.raises(GsnnError, match=name):
            load_imagenet(ResNet(inputs(), 5, width=16, **EIGHTEEN), tmp_path / name)


def test_a_pipeline_stage_may_keep_some_blocks():
    net = ResNet(inputs(), 5, width=8, blocks=(1, 2))
    x = torch.randn(2, 3, 40, 40)
    whole = net.maps(x)
    names = list(net.blocks)
    assert names == ["stem", "layer1_0", "layer2_0", "layer2_1"]
    for name in names[:2]:
        x = net.blocks[name](x)
        del net.blocks[name]
    torch.testing.assert_close(net.maps(x), whole)
