"""Changes of periodic boxes that gravity does not notice; see :mod:`gsnn.data.augment`."""

from __future__ import annotations

from itertools import permutations, product

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ..rng import Rng
from .augment import Batch
from .schema import Schema

Box = Float[Tensor, "channel z y x"]
TURNS = [(order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)]


def turned(box: Box, order: tuple[int, ...], flips: tuple[bool, ...]) -> Box:
    """A box with its axes in another order, some of them reversed; three channels are a vector and turn along.

    The voxel at the origin stays where it is, as a lattice of particles must be met again by its mirror image.
    """
    out = box.permute(0, *(1 + i for i in order))
    vector = len(box) == 3
    if vector:
        out = out[list(order)]
    axes = [1 + i for i, flip in enumerate(flips) if flip]
    if axes:
        out = out.flip(axes).roll([1] * len(axes), axes)
        if vector:
            out = out * out.new_tensor([-1.0 if flip else 1.0 for flip in flips]).view(3, 1, 1, 1)
    return out


class Cube(nn.Module):
    """One of the 48 turns and mirror images of a cube, and a shift by whole voxels across its periodic faces.

    All boxes [channel, z, y, x] of an object are changed together, its target with its inputs. A box of three channels
    is taken for a vector field, one of any other number for scalars.
    """

    symmetry = "Gravity knows no direction and no place: a box that is turned, mirrored or moved evolves alike."

    def forward(self, batch: Batch, rng: Rng, inputs: Schema) -> Batch:
        boxes = {n: x for n, x in batch.items() if x.ndim == 5 and len(set(x.shape[2:])) == 1}
        draw = rng.uniform("cube", batch["row"], 4)
        return {**batch, **{name: self._changed(x.float(), draw) for name, x in boxes.items()}}

    def _changed(
        self, x: Float[Tensor, "object channel z y x"], draw: Float[Tensor, "object 4"]
    ) -> Float[Tensor, "object channel z y x"]:
        which: Int64[Tensor, " object"] = (draw[:, 0] * len(TURNS)).long()
        by = (draw[:, 1:] * x.shape[-1]).long()
        return torch.stack(
            [turned(one, *TURNS[int(i)]).roll(tuple(s.tolist()), (1, 2, 3)) for one, i, s in zip(x, which, by)]
        ) if len(x) else x  # fmt: skip
