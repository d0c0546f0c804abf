"""Convolutional networks on fields that several processes share out: each holds a block of the voxels of every object.

Before a convolution, neighbours exchange the borders that its kernel reaches into (halos), one axis after the other so
that corners travel by way of the faces; norms and means sum over all processes. Outputs and gradients are those of one
process. PyTorch's own DTensor gives convolutions of a divided axis a wrong shape, hence by hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from ..errors import GsnnError

AXES = {"z": -3, "y": -2, "x": -1}
Axis = Literal["z", "y", "x"]
Maps = Float[Tensor, "object channel *space"]

WRAP, REPEAT = "wrap", "repeat"  # what lies beyond the edge of a field: its other side, or its last value


@dataclass
class Space:
    """The processes that share out the voxels, and along which axis each dimension of their mesh cuts."""

    mesh: Any
    axes: tuple[int, ...]  # negative: from the end of a tensor
    checked: bool = field(default=False, repr=False)

    def group(self, axis: int) -> dist.ProcessGroup | None:
        """The processes along an axis, in order; None where it is not cut."""
        if axis not in self.axes or self.mesh.size(at := self.axes.index(axis)) == 1:
            return None
        return self.mesh.get_group(at)

    def count(self, axis: int) -> int:
        """Pieces of an axis."""
        return self.mesh.size(self.axes.index(axis)) if axis in self.axes else 1

    @property
    def processes(self) -> int:
        return math.prod(self.mesh.size(at) for at in range(len(self.axes)))

    def add(self, x: Tensor) -> Tensor:
        """The sum over all processes, in place; each gets the same bits."""
        for axis in self.axes:
            if (group := self.group(axis)) is not None:
                dist.all_reduce(x, group=group)
        return x

    def check(self, x: Tensor) -> None:
        """Refuse pieces of different sizes, once: all processes get here with their first piece."""
        if self.checked:
            return
        mine = torch.tensor(x.shape, device=x.device)
        for axis in self.axes:
            if (group := self.group(axis)) is not None:
                least, most = mine.clone(), mine.clone()
                dist.all_reduce(least, dist.ReduceOp.MIN, group=group)
                dist.all_reduce(most, dist.ReduceOp.MAX, group=group)
                if not torch.equal(least, most):
                    raise GsnnError(
                        f"the processes hold pieces of different shapes, {least.tolist()} to {most.tolist()}: cut the "
                        "fields by gsnn.training.halo.part, into equal pieces"
                    )
        self.checked = True


def space_of(mesh: Any, dims: Sequence[Axis]) -> Space:
    """A device mesh whose dimensions cut the axes ``dims``, as ``("z", "y")``. Raises GsnnError where they cannot."""
    dims = tuple(dims)
    if len(dims) != mesh.ndim or len(set(dims)) != len(dims) or any(d not in AXES for d in dims):
        raise GsnnError(
            f"a mesh of {mesh.ndim} dimension{'s' * (mesh.ndim != 1)} cannot cut the axes {list(dims)}: give as many "
            "different axes of 'z', 'y' and 'x'"
        )
    return Space(mesh, tuple(AXES[d] for d in dims))


def part(x: Tensor, mesh: Any, dims: Sequence[Axis]) -> Tensor:
    """This process's block of a field [object channel z y x]: a view. Raises GsnnError where a size does not divide."""
    space = space_of(mesh, dims)
    for at, axis in enumerate(space.axes):
        if x.ndim < 2 - axis:  # objects and channels come before
            raise GsnnError(f"a tensor of shape {tuple(x.shape)} has no axis {dims[at]!r} in [object channel z y x]")
        whole, count = x.shape[axis], mesh.size(at)
        if whole % count:
            raise GsnnError(
                f"a field of {whole} voxels along {dims[at]} cannot be cut into {count} equal pieces: "
                f"use a size or a number of processes that divides"
            )
        x = x.narrow(axis, mesh.get_local_rank(at) * (whole // count), whole // count)
    return x


@torch.no_grad()
def whole(x: Tensor, mesh: Any, dims: Sequence[Axis]) -> Tensor:
    """The field of which each process holds a block, on all of them: the inverse of :func:`part`, without gradient."""
    space = space_of(mesh, dims)
    for axis in space.axes:
        if (group := space.group(axis)) is not None:
            pieces = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(group.size())]
            dist.all_gather(pieces, x.contiguous(), group=group)
            x = torch.cat(pieces, axis)
    return x


@dataclass(frozen=True)
class Halo:
    """What is added along an axis: voxels before and after, of the neighbours in ``group`` or from beyond the edge."""

    axis: int
    before: int
    after: int
    edge: float | str = 0.0  # WRAP, REPEAT or a value
    group: Any = None


def extend(x: Maps, halos: Sequence[Halo]) -> Float[Tensor, "object channel *wider"]:
    """``x`` with its halos, differentiable: the backward pass sends the gradients of halos back and adds them."""
    halos = tuple(halo for halo in halos if halo.before or halo.after)
    return _Extend.apply(x, halos) if halos else x


def halo_bytes(shape: Sequence[int], halos: Sequence[tuple[int, int, int]], bytes_each: int = 4) -> int:
    """Bytes that a process in the midst of the others sends for the halos of one tensor, and as many backward.

    ``shape`` is that of its block, [object, channel, (z,) y, x]; ``halos`` are (axis, before, after) of the axes that
    are cut, in order: an axis is exchanged with the halos of those before it, which is what fills the corners. At the
    edge of a field that is not periodic less is sent.
    """
    shape, total = list(shape), 0
    for axis, before, after in halos:
        total += (before + after) * math.prod(shape) // shape[axis]
        shape[axis] += before + after
    return total * bytes_each


class _Extend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, halos: tuple[Halo, ...]) -> Tensor:
        shape = list(x.shape)
        for halo in halos:
            shape[halo.axis] += halo.before + halo.after
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_format(x))
        _within(out, halos, x.shape).copy_(x)
        for at, halo in enumerate(halos):
            _fill(_within(out, halos[at + 1 :], x.shape), halo)
        ctx.halos, ctx.shape = halos, x.shape
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.clone()
        for at, halo in reversed(list(enumerate(ctx.halos))):
            _give_back(_within(grad, ctx.halos[at + 1 :], ctx.shape), halo)
        return _within(grad, ctx.halos, ctx.shape), None


def _format(x: Tensor) -> torch.memory_format:
    """How the values lie: channels first, or last where convolutions were asked to."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    if last and x.is_contiguous(memory_format=last) and not x.is_contiguous():
        return last
    return torch.contiguous_format


def _within(x: Tensor, halos: Sequence[Halo], shape: Sequence[int]) -> Tensor:
    """A view without the halos of these axes."""
    for halo in halos:
        x = x.narrow(halo.axis, halo.before, shape[halo.axis])
    return x


def _pieces(x: Tensor, halo: Halo) -> tuple[Tensor, Tensor, Tensor]:
    """Views: the halo before, the own voxels, the halo after."""
    return x.split([halo.before, x.shape[halo.axis] - halo.before - halo.after, halo.after], halo.axis)


def _fill(x: Tensor, halo: Halo) -> None:
    """Write the two halos of an axis."""
    before, own, after = _pieces(x, halo)
    n = own.shape[halo.axis]
    first, last = own.narrow(halo.axis, 0, halo.after), own.narrow(halo.axis, n - halo.before, halo.before)
    for mine, theirs, edge in zip((before, after), _trade(first, last, halo, (before, after)), (0, n - 1)):
        if theirs is not None:
            mine.copy_(theirs)
        elif halo.edge == REPEAT:
            mine.copy_(own.narrow(halo.axis, edge, 1).expand_as(mine))
        else:
            mine.fill_(halo.edge)


def _give_back(grad: Tensor, halo: Halo) -> None:
    """Add the gradients of halos to those of the voxels that the halos are copies of."""
    before, own, after = _pieces(grad, halo)
    n = own.shape[halo.axis]
    first, last = own.narrow(halo.axis, 0, halo.after), own.narrow(halo.axis, n - halo.before, halo.before)
    from_previous, from_next = _trade(before, after, halo, (first, last))
    for mine, theirs, lost, edge in ((first, from_previous, before, 0), (last, from_next, after, n - 1)):
        if theirs is not None:
            mine += theirs
        elif halo.edge == REPEAT:
            own.narrow(halo.axis, edge, 1).add_(lost.sum(halo.axis, keepdim=True))


def _trade(
    to_previous: Tensor, to_next: Tensor, halo: Halo, like: tuple[Tensor, Tensor]
) -> tuple[Tensor | None, Tensor | None]:
    """What the previous and the next process send, of the shapes of ``like``; None where there is none.

    Both sides post in the same order, so that two processes that are each other's neighbours on both sides agree.
    """
    wrap, group = halo.edge == WRAP, halo.group
    if group is None:
        return (to_next, to_previous) if wrap else (None, None)
    rank, count = group.rank(), group.size()
    previous = dist.get_global_rank(group, (rank - 1) % count) if wrap or rank > 0 else None
    next_ = dist.get_global_rank(group, (rank + 1) % count) if wrap or rank + 1 < count else None
    got = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in like]
    posts = [
        (dist.isend, to_previous, previous),
        (dist.isend, to_next, next_),
        (dist.irecv, got[1], next_),
        (dist.irecv, got[0], previous),
    ]
    posts = [dist.P2POp(do, x.contiguous(), peer, group) for do, x, peer in posts if peer is not None and x.numel()]
    for work in dist.batch_isend_irecv(posts) if posts else ():
        work.wait()
    return got[0] if previous is not None else None, got[1] if next_ is not None else None
