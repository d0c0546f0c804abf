"""``shard_space``: a convolutional network whose every layer knows that this process holds a block of each field.

The plan stands beside the network: layers keep their names, parameters and settings, and only their ``forward`` goes by
way of the neighbours. Nothing in the network needs to know.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..errors import GsnnError
from .halo import REPEAT, WRAP, Axis, Halo, Maps, Space, extend, halo_bytes, space_of
from .reduce import mean_over_space, norm_over_space

_CONV = {nn.Conv1d: functional.conv1d, nn.Conv2d: functional.conv2d, nn.Conv3d: functional.conv3d}
_TRANSPOSED = {
    nn.ConvTranspose1d: functional.conv_transpose1d,
    nn.ConvTranspose2d: functional.conv_transpose2d,
    nn.ConvTranspose3d: functional.conv_transpose3d,
}
_MAX = {nn.MaxPool1d: functional.max_pool1d, nn.MaxPool2d: functional.max_pool2d, nn.MaxPool3d: functional.max_pool3d}
_AVERAGE = {nn.AvgPool2d: functional.avg_pool2d, nn.AvgPool3d: functional.avg_pool3d}
_MEAN = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_VOXELWISE = (
    nn.Identity, nn.Dropout, nn.Linear, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ReLU, nn.LeakyReLU, nn.ELU,
    nn.SiLU, nn.Mish, nn.GELU, nn.Sigmoid, nn.Tanh, nn.Softplus,
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """How one layer is applied: to its input with ``halos``, and what of the result is this process's own."""

    name: str
    apply: Callable[[Tensor], Tensor]
    halos: tuple[Halo, ...] = ()
    strides: tuple[tuple[int, int], ...] = ()  # (axis, stride) of the axes that are cut


def shard_space(network: nn.Module, mesh: Any, dims: Sequence[Axis]) -> None:
    """Let a convolutional network work on blocks of fields; each dimension of the device ``mesh`` cuts one of ``dims``.

    ``shard_space(network, mesh, ("z", "y"))`` on a mesh of 2 x 2 gives four processes a quarter each; cut the fields by
    :func:`~gsnn.training.halo.part`. Maps (``UNet.read``) are then of this process's block, pooled answers whole and
    the same on all processes. The loss of a step is the sum of all processes' losses, the gradient of a parameter the
    sum of their gradients: a loss of pooled answers counts each object once a process, in its sum as in its weight.

    Raises GsnnError for a layer that cannot be cut, and in the first forward pass for blocks that are smaller than a
    halo, of unequal shapes, or not divisible by a stride. What a module does to whole fields outside of layers
    (a mean written by hand) is not seen.
    """
    space = space_of(mesh, dims)
    for name, module in network.named_modules():
        if isinstance(module, nn.GroupNorm):
            module.forward = partial(norm_over_space, module=module, space=space)
        elif isinstance(module, _MEAN) and set(_each(module.output_size, 1)) == {1}:
            module.forward = partial(mean_over_space, space=space)
        elif (plan := plan_of(name, module, space)) is not None:
            module.forward = partial(_by, plan=plan, space=space)


def traffic(
    network: nn.Module, counts: Sequence[int], dims: Sequence[Axis], shapes: Mapping[str, Sequence[int]]
) -> tuple[int, int]:
    """Bytes that a process in the midst of the others sends for halos: (forward, backward).

    ``counts`` are the pieces along each of ``dims``, ``shapes`` those of the whole columns [object, channel, ..., x].
    Nothing is computed and no other process is needed: a copy of the network runs on the meta device. Norms and means
    add some numbers an object, which are not counted.
    """
    space = space_of(_Counts(tuple(counts)), dims)
    sent, twin = [0, 0], copy.deepcopy(network).to("meta")

    def note(module: nn.Module, given: tuple[Tensor, ...], plan: Plan) -> None:
        cut = [(h.axis, h.before, h.after) for h in plan.halos if space.count(h.axis) > 1]
        size = halo_bytes(given[0].shape, cut, given[0].element_size())
        sent[0] += size
        sent[1] += size * given[0].requires_grad

    for name, module in twin.named_modules():
        if not isinstance(module, (nn.GroupNorm, *_MEAN)) and (plan := plan_of(name, module, space)) is not None:
            module.register_forward_pre_hook(partial(note, plan=plan))
    columns = {}
    for column, shape in shapes.items():
        cut = list(shape)
        for axis in space.axes:
            if len(cut) >= 2 - axis:
                cut[axis] //= space.count(axis)
        columns[column] = torch.empty(cut, device="meta")
    twin(**columns)
    return sent[0], sent[1]


@dataclass(frozen=True)
class _Counts:
    """As much of a device mesh as a plan needs."""

    counts: tuple[int, ...]

    @property
    def ndim(self) -> int:
        return len(self.counts)

    def size(self, at: int) -> int:
        return self.counts[at]

    def get_group(self, at: int) -> None:
        return None


def plan_of(name: str, module: nn.Module, space: Space) -> Plan | None:
    """The plan of a layer, None for one that treats each voxel by itself. Raises GsnnError where it cannot be cut."""
    for kinds, make in ((_CONV, _convolution), (_TRANSPOSED, _transposed), (_MAX, _pool), (_AVERAGE, _pool)):
        for kind, function in kinds.items():
            if isinstance(module, kind):
                axes = range(-int(kind.__name__[-2]), 0)
                if min(space.axes) < axes[0]:
                    raise _cannot(name, module, f"it has no axis {'zyx'[min(space.axes) + 3]!r}")
                return make(name, module, space, list(axes), function)
    if isinstance(module, nn.Upsample):
        return _upsample(name, module, space)
    if isinstance(module, _VOXELWISE) or not type(module).__module__.startswith("torch.nn."):
        return None
    raise _cannot(name, module, "it is not known to treat each voxel by itself")


def _by(x: Maps, plan: Plan, space: Space) -> Float[Tensor, "object channel2 *space2"]:
    space.check(x)
    for axis, stride in plan.strides:
        if x.shape[axis] % stride:
            raise GsnnError(
                f"{plan.name!r} goes by steps of {stride}, and a process holds {x.shape[axis]} voxels along "
                f"{'zyx'[axis + 3]}, which does not divide: cut the field into fewer pieces"
            )
    for halo in plan.halos:
        if max(halo.before, halo.after) > x.shape[halo.axis]:
            raise GsnnError(
                f"{plan.name!r} reaches {max(halo.before, halo.after)} voxels into its neighbours along "
                f"{'zyx'[halo.axis + 3]}, which hold only {x.shape[halo.axis]}: cut the field into fewer pieces"
            )
    return plan.apply(extend(x, plan.halos))


def _convolution(name: str, module: Any, space: Space, axes: list[int], function: Callable) -> Plan:
    if module.padding_mode not in ("zeros", "circular"):
        raise _cannot(name, module, f"its padding is {module.padding_mode!r}, not 'zeros' or 'circular'")
    edge = WRAP if module.padding_mode == "circular" else 0.0
    reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size)]
    if module.padding == "same":
        padding = [(r // 2, r - r // 2) for r in reach]
    else:
        padding = [(p, p) for p in _each(0 if module.padding == "valid" else module.padding, len(axes))]
    halos, rest, strides = _halos(name, module, space, axes, reach, module.stride, padding, edge)

    def apply(x: Tensor) -> Tensor:
        return function(x, module.weight, module.bias, module.stride, rest, module.dilation, module.groups)

    return Plan(name, apply, halos, strides)


def _pool(name: str, module: Any, space: Space, axes: list[int], function: Callable) -> Plan:
    of = len(axes)
    kernel, padding = _each(module.kernel_size, of), _each(module.padding, of)
    stride, most = _each(module.stride, of), hasattr(module, "dilation")
    reach = [d * (k - 1) for k, d in zip(kernel, _each(module.dilation if most else 1, of))]
    if getattr(module, "return_indices", False):
        raise _cannot(name, module, "it returns indices")
    if not most and any(padding) and not module.count_include_pad:
        raise _cannot(name, module, "it does not count the padding")
    if module.ceil_mode and any(r + 1 != s or p for r, s, p in zip(reach, stride, padding)):
        raise _cannot(name, module, "its windows overlap and ceil_mode is on")
    pairs = [(p, p) for p in padding]
    edge = float("-inf") if most else 0.0
    halos, rest, strides = _halos(name, module, space, axes, reach, stride, pairs, edge)
    more = {"dilation": module.dilation} if most else {"divisor_override": module.divisor_override}
    return Plan(name, partial(function, kernel_size=kernel, stride=stride, padding=rest, **more), halos, strides)


def _halos(
    name: str,
    module: nn.Module,
    space: Space,
    axes: Iterable[int],
    reach: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    edge: float | str,
) -> tuple[tuple[Halo, ...], list[int], tuple[tuple[int, int], ...]]:
    """Halos of the axes that are cut, then of those that torch cannot pad so; the padding left to torch; the strides.

    A process owns n voxels and n / s results; the window of the first begins ``before`` in front of its first voxel.
    """
    cut, local, rest, strides = [], [], [], []
    for axis, r, s, (before, behind) in zip(axes, reach, stride, padding):
        if space.count(axis) > 1:
            if not 1 - s <= before + behind - r <= 0:
                raise _cannot(name, module, f"its result is not 1/{s} of the field's size along {'zyx'[axis + 3]}")
            after = max(r - before - (s - 1), 0)
            cut.append(Halo(axis, before, after, edge, space.group(axis)))
            strides.append((axis, s))
        elif edge == WRAP or before != behind:
            local.append(Halo(axis, before, behind, edge))
        rest.append(0 if space.count(axis) > 1 or edge == WRAP or before != behind else before)
    return (*cut, *local), rest, tuple(strides)


def _transposed(name: str, module: Any, space: Space, axes: list[int], function: Callable) -> Plan:
    """Result o is a sum over voxels i with i s - p + d t = o, t = 0 .. k - 1; the neighbours' results are cut away."""
    halos, rest, extra, crops = [], list(module.padding), list(module.output_padding), []
    for at, axis in enumerate(axes):
        if space.count(axis) == 1:
            continue
        s, p, reach = module.stride[at], module.padding[at], module.dilation[at] * (module.kernel_size[at] - 1)
        if reach + module.output_padding[at] + 1 != s + 2 * p:
            raise _cannot(name, module, f"its result is not {s} times the field's size along {'zyx'[axis + 3]}")
        before, after = max((reach - p) // s, 0), max((s - 1 + p) // s, 0)
        halos.append(Halo(axis, before, after, 0.0, space.group(axis)))
        rest[at], extra[at] = 0, max(p - (after - 1) * s - reach - 1, 0)
        crops.append((axis, p + before * s, s, before + after))

    def apply(x: Tensor) -> Tensor:
        out = function(x, module.weight, module.bias, module.stride, rest, extra, module.groups, module.dilation)
        return _crop(out, x, crops)

    return Plan(name, apply, tuple(halos))


def _upsample(name: str, module: nn.Upsample, space: Space) -> Plan:
    scales = {module.scale_factor} if not isinstance(module.scale_factor, tuple) else set(module.scale_factor)
    factor = next(iter(scales))
    if len(scales) > 1 or factor is None or factor != int(factor):
        raise _cannot(name, module, "its factor is not one whole number")
    if module.align_corners or module.mode == "bicubic":
        raise _cannot(name, module, "only 'nearest' and linear modes without align_corners can be")
    linear, s = module.mode.endswith("linear"), int(factor)
    halos = tuple(Halo(a, 1, 1, REPEAT, space.group(a)) for a in sorted(space.axes) if linear and space.count(a) > 1)
    crops = [(halo.axis, s, s, 2) for halo in halos]

    def apply(x: Tensor) -> Tensor:
        return _crop(functional.interpolate(x, scale_factor=s, mode=module.mode), x, crops)

    return Plan(name, apply, halos)


def _crop(out: Tensor, x: Tensor, crops: Iterable[tuple[int, int, int, int]]) -> Tensor:
    """``(axis, start, stride, halo)``: of the result only what stands for the own voxels of ``x``."""
    for axis, start, stride, halo in crops:
        out = out.narrow(axis, start, (x.shape[axis] - halo) * stride)
    return out


def _each(value: int | Sequence[int], of: int) -> list[int]:
    return [value] * of if isinstance(value, int) else list(value)


def _cannot(name: str, module: nn.Module, why: str) -> GsnnError:
    return GsnnError(f"{name!r} ({type(module).__name__}) cannot be cut in space: {why}")
