"""Changes of periodic boxes that gravity does not notice; see :mod:`gsnn.data.augment`."""

from __future__ import annotations

from itertools import permutations, product

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ..rng import Rng
from .augment import Batch
from .schema import Schema

Box = Float[Tensor, "channel *space"]
Boxes = Float[Tensor, "object channel *space"]
TURNS = {
    space: [(order, flips) for order in permutations(range(space)) for flips in product((False, True), repeat=space)]
    for space in (2, 3)
}


def turned(box: Box, order: tuple[int, ...], flips: tuple[bool, ...]) -> Box:
    """A box with its axes in another order, some reversed; as many channels as axes are a vector and turn along.

    The voxel at the origin stays where it is, as a lattice of particles must be met again by its mirror image.
    """
    out = box.permute(0, *(1 + i for i in order))
    vector = len(box) == len(order)
    if vector:
        out = out[list(order)]
    axes = [1 + i for i, flip in enumerate(flips) if flip]
    if axes:
        out = out.flip(axes).roll([1] * len(axes), axes)
        if vector:
            out = out * out.new_tensor([-1.0 if flip else 1.0 for flip in flips]).view(-1, *[1] * len(order))
    return out


class Cube(nn.Module):
    """One of the 48 turns and mirror images of a cube, or 8 of a square, and a shift by whole voxels across its faces.

    All boxes [channel, z, y, x] or [channel, y, x] of an object are changed together, its target with its inputs. A box
    of as many channels as axes is taken for a vector field, one of any other number for scalars.
    """

    symmetry = "Gravity knows no direction and no place: a box that is turned, mirrored or moved evolves alike."

    def forward(self, batch: Batch, rng: Rng, inputs: Schema) -> Batch:
        boxes = {n: x for n, x in batch.items() if x.ndim in (4, 5) and len(set(x.shape[2:])) == 1}
        draw = rng.uniform("cube", batch["row"], 4)
        return {**batch, **{name: self._changed(x.float(), draw) for name, x in boxes.items()}}

    def _changed(self, x: Boxes, draw: Float[Tensor, "object 4"]) -> Boxes:
        space = x.ndim - 2
        which: Int64[Tensor, " object"] = (draw[:, 0] * len(TURNS[space])).long()
        by, axes = (draw[:, 1 : 1 + space] * x.shape[-1]).long(), tuple(range(1, 1 + space))
        made = [turned(one, *TURNS[space][int(i)]).roll(tuple(s.tolist()), axes) for one, i, s in zip(x, which, by)]
        return torch.stack(made) if made else x
