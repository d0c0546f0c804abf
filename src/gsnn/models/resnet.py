"""The residual network (He et al. 2016, arXiv:1512.03385) of basic blocks, cut so that a pipeline can take it apart."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.schema import Schema
from ..errors import GsnnError
from .layers import Activation, Images, activation, at_least, group_norm

Norm = Literal["group", "frozen-batch"]


class FrozenBatchNorm(nn.Module):
    """BatchNorm with its statistics held fixed: an affine map a channel, which couples no objects. Buffers only.

    It is the identity (to 1e-5) until weights are loaded, so a network trained from scratch wants GroupNorm.
    """

    def __init__(self, channels: int):
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Float[Tensor, "object channel y x"]) -> Float[Tensor, "object channel y x"]:
        scale = self.weight * torch.rsqrt(self.running_var + 1e-5)
        shift = self.bias - self.running_mean * scale
        return x * scale.to(x.dtype)[:, None, None] + shift.to(x.dtype)[:, None, None]


def _norm(kind: Norm, channels: int) -> nn.Module:
    return group_norm(channels) if kind == "group" else FrozenBatchNorm(channels)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (the same, or a 1 x 1 convolution where the shape changes)."""

    def __init__(self, channels_in: int, channels: int, stride: int, norm: Norm, act: Activation):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = _norm(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = _norm(norm, channels)
        self.act, self.stride = activation(act), stride
        self.downsample = None
        if stride > 1 or channels_in != channels:
            self.downsample = nn.Sequential(nn.Conv2d(channels_in, channels, 1, bias=False), _norm(norm, channels))

    def forward(self, x: Float[Tensor, "object channel y x"]) -> Float[Tensor, "object channel2 y2 x2"]:
        # A strided 1 x 1 convolution reads every second pixel; taken apart because PyTorch 2.13's bfloat16 kernel
        # for it corrupts memory on a CPU (8 to 16 channels, channels_last, backward).
        shortcut = x if self.downsample is None else self.downsample(x[..., :: self.stride, :: self.stride])
        x = self.act(self.bn1(self.conv1(x)))
        return self.act(self.bn2(self.conv2(x)) + shortcut)


class ResNet(Images):
    """``len(blocks)`` stages of basic blocks; the first of ``width`` channels, each later one twice as many.

    ``stem = "small"`` keeps the full resolution (a 3 x 3 convolution: cut-outs of a few tens of pixels); ``"strided"``
    is ImageNet's (7 x 7, then max-pooling: a quarter of the size). With ``width = 64``, ``stem = "strided"`` and
    ``norm = "frozen-batch"`` it is ResNet-18, and with ``blocks = [3, 4, 6, 3]`` besides ResNet-34, whose ImageNet
    weights :func:`load_imagenet` reads exactly.

    The parts stand in a flat ``nn.ModuleDict`` (``stem``, ``layer1_0``, ``layer1_1``, ...): a pipeline stage keeps some
    names and deletes the others.
    """

    def __init__(
        self,
        inputs: Schema,
        outputs: int,
        *,
        width: int = 32,
        blocks: tuple[int, ...] = (2, 2, 2, 2),
        stem: Literal["small", "strided"] = "small",
        norm: Norm = "group",
        activation: Activation = "relu",
        dropout: float = 0.0,
    ):
        super().__init__(inputs, "resnet")
        at_least(1, width=width, blocks=blocks, outputs=outputs)
        if not blocks:
            raise GsnnError(
                "blocks = [] leaves the network 'resnet' empty: give the blocks of each stage, as [2, 2, 2, 2]"
            )
        self.stem = stem
        self.blocks = nn.ModuleDict({"stem": _stem(stem, self.bands, width, norm, activation)})
        channels = width
        for stage, count in enumerate(blocks):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                after = width * 2**stage
                self.blocks[f"layer{stage + 1}_{i}"] = BasicBlock(channels, after, stride, norm, activation)
                channels = after
        self.finish(channels, outputs, activation, dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # He et al. 2015, eq. 14

    def maps(self, x: Float[Tensor, "object band y x"]) -> Float[Tensor, "object channel y2 x2"]:
        for block in self.blocks.values():
            x = block(x)
        return x

    @property
    def last_conv(self) -> nn.Module:
        """The last block: the maps that are averaged."""
        return list(self.blocks.values())[-1]


def _stem(kind: str, bands: int, width: int, norm: Norm, act: Activation) -> nn.Sequential:
    if kind == "small":
        return nn.Sequential(nn.Conv2d(bands, width, 3, 1, 1, bias=False), _norm(norm, width), activation(act))
    conv = nn.Conv2d(bands, width, 7, 2, 3, bias=False)
    return nn.Sequential(conv, _norm(norm, width), activation(act), nn.MaxPool2d(3, 2, 1))


def load_imagenet(network: ResNet, path: str | Path) -> list[str]:
    """Load weights in torchvision's layout (``conv1``, ``bn1``, ``layer1.0.conv1``, ..., ``fc``) from safetensors.

    With ``norm = "frozen-batch"`` the features then equal torchvision's in evaluation. With GroupNorm the convolutions
    are loaded and the norms start afresh, since a BatchNorm's statistics mean nothing to it. The classes of ``fc`` are
    not the sky's and are left. With a number of bands other than three, each band gets the mean of the three kernels
    times 3 / bands, so that a grey image excites the first layer as before. Inputs are expected as ImageNet's: scaled
    to 0..1, less (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225).

    Returns the names in the file that were not used. Raises GsnnError where file and network do not fit.
    """
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except Exception as error:
        raise GsnnError(f"cannot read the weights {str(path)!r} as safetensors: {error}") from error
    if network.stem != "strided":
        raise GsnnError('ImageNet\'s weights need [model] stem = "strided": the small stem has other kernels')
    named = {_torchvision_name(name): tensor for name, tensor in network.state_dict().items()}
    wanted = {
        name for name in named if name.startswith(("conv1", "layer")) or ".running_" in name or name.startswith("bn1")
    }
    frozen = any(isinstance(module, FrozenBatchNorm) for module in network.modules())
    norms = {name for name in wanted if ".bn" in name or name.startswith("bn1") or ".downsample.1." in name}
    wanted = wanted if frozen else wanted - norms
    first = tensors.get("conv1.weight")
    if first is not None and network.bands != first.shape[1]:
        mean = first.mean(1, keepdim=True) * (first.shape[1] / network.bands)
        tensors["conv1.weight"] = mean.expand(-1, network.bands, -1, -1)
    for name in sorted(wanted):
        if name not in tensors:
            raise GsnnError(
                f"the weights {str(path)!r} hold no {name!r}; this network is deeper: give the blocks of that file"
            )
        if tensors[name].shape != named[name].shape:
            raise GsnnError(
                f"{name!r} has shape {tuple(tensors[name].shape)} in {str(path)!r}, and {tuple(named[name].shape)} "
                "in the network; ResNet-18 and ResNet-34 need [model] width = 64"
            )
    unused = sorted(name for name in tensors if name not in wanted and not name.endswith("num_batches_tracked"))
    deeper = [
        name
        for name in unused
        if name.startswith("layer") and (frozen or name.endswith(("conv1.weight", "conv2.weight")))
    ]
    if deeper:
        raise GsnnError(
            f"the weights {str(path)!r} hold {deeper[0]!r}, which this network has not; give the blocks of that file"
        )
    with torch.no_grad():
        for name in wanted:
            named[name].copy_(tensors[name])
    return unused


def _torchvision_name(name: str) -> str:
    """``blocks.layer1_0.conv1.weight`` -> ``layer1.0.conv1.weight``; ``blocks.stem.0.weight`` -> ``conv1.weight``."""
    name = name.removeprefix("blocks.")
    if name.startswith("layer"):
        return name.replace("_", ".", 1)
    return name.replace("stem.0.", "conv1.").replace("stem.1.", "bn1.")
