"""Norms and means over fields of which each process holds a block: the sums go over all processes."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .halo import Maps, Space


def norm_over_space(x: Maps, module: nn.GroupNorm, space: Space) -> Maps:
    """GroupNorm (Wu & He 2018, arXiv:1803.08494) with the statistics of the whole field."""
    return _GroupNorm.apply(x, module.weight, module.bias, module.num_groups, module.eps, space)


def mean_over_space(x: Maps, space: Space) -> Float[Tensor, "object channel *one"]:
    """The mean over the whole field, with axes of one voxel in its place; the same on all processes."""
    return _Sum.apply(x.mean(tuple(range(2, x.ndim)), keepdim=True) / space.processes, space)


class _Sum(torch.autograd.Function):
    """A sum over processes, each of which has a loss of its own that depends on it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, space: Space) -> Tensor:
        ctx.space = space
        return space.add(x.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(grad, ctx.space), None


class _GroupNorm(torch.autograd.Function):
    """Keeps its input and two numbers a group, as torch's own does; one sum over processes in each direction."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Any, bias: Any, groups: int, eps: float, space: Space) -> Tensor:
        high = torch.promote_types(x.dtype, torch.float32)
        grouped = x.unflatten(1, (groups, -1)).to(high)
        var, mean = torch.var_mean(grouped, tuple(range(2, grouped.ndim)), correction=0)
        # float64: E[x^2] - E[x]^2 of float32 would lose what lies far from zero
        mean, square = space.add(torch.stack([mean.double(), var.double() + mean.double() ** 2])) / space.processes
        rstd = (square - mean**2 + eps).rsqrt().to(high)
        mean = mean.to(high)
        scale, shift = _affine(mean, rstd, weight, bias, x)
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.space = space
        return torch.addcmul(shift, x.to(high), scale).to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        out, groups = x.dtype, mean.shape[1]
        x, grad = x.to(mean.dtype), grad.to(mean.dtype)
        over = tuple(range(2, x.ndim))
        product, plain = (grad * x).sum(over), grad.sum(over)  # [object, channel], of this process
        centred = (product - plain * mean.repeat_interleave(x.shape[1] // groups, 1)).unflatten(1, (groups, -1))
        centred = (centred * rstd[..., None]).flatten(1)  # sum of grad times the normalised x
        w = 1 if weight is None else weight
        sums = torch.stack([(part * w).unflatten(1, (groups, -1)).sum(-1) for part in (centred, plain)])
        sums = ctx.space.add(sums) / (x.numel() / max(mean.numel(), 1) * ctx.space.processes)
        slope = -(rstd**2) * sums[0]
        shift = -rstd * sums[1] - slope * mean
        scale, _ = _affine(mean, rstd, weight, None, x)
        back = torch.addcmul(_spread(shift, x), x, _spread(slope, x)).addcmul_(grad, scale).to(out)
        return back, None if weight is None else centred.sum(0), None if weight is None else plain.sum(0), *[None] * 3


def _affine(mean: Tensor, rstd: Tensor, weight: Any, bias: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift of each channel of each object, as ``x`` is shaped."""
    scale = _spread(rstd, x)
    line = [1, -1, *[1] * (x.ndim - 2)]
    if weight is not None:
        scale = scale * weight.view(line)
    shift = -_spread(mean, x) * scale
    return scale, shift if bias is None else shift + bias.view(line)


def _spread(values: Tensor, x: Tensor) -> Tensor:
    """[object, group] -> [object, channel, 1, ...]."""
    return values.repeat_interleave(x.shape[1] // values.shape[1], 1).reshape(*x.shape[:2], *[1] * (x.ndim - 2))
