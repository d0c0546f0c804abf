"""The sky as tokens: patches of images, segments of spectra and series, single numbers of a catalogue."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..data.schema import Column
from ..errors import GsnnError

PLANE, LINE = ("image", "field"), ("spectrum", "series", "strain")
READS = (*PLANE, *LINE, "scalar")


class Tokens(nn.Module):
    """A column as ``count`` tokens: its pieces by a linear map, plus what says which column (of numbers: which) it is.

    Images are cut into squares of ``patch`` pixels in all bands, row by row (Dosovitskiy et al. 2021,
    arXiv:2010.11929); what has a length into segments of ``segment`` values in all channels; each number is a token.
    Pieces over the edge are filled with 0. ``grid`` holds the rows and columns of pieces, ``size`` the values of one.
    """

    def __init__(self, column: Column, width: int, patch: int, segment: int):
        super().__init__()
        self.name, (self.box, self.piece) = column.name, _box(column, patch, segment)
        self.grid = tuple(math.ceil(n / p) for n, p in zip(self.box[1:], self.piece))
        self.count, self.size = math.prod(self.grid), self.box[0] * math.prod(self.piece)
        self.linear = nn.Linear(self.size, width, bias=False)
        self.modality = nn.Parameter(torch.empty(self.count if column.kind == "scalar" else 1, width))

    def cut(self, x: Float[Tensor, " object *shape"]) -> Float[Tensor, "object token value"]:
        """The pieces."""
        (rows, columns), (height, width) = self.grid, self.piece
        x = x.reshape(x.shape[0], *self.box)
        x = nn.functional.pad(x, (0, columns * width - self.box[2], 0, rows * height - self.box[1]))
        x = x.reshape(x.shape[0], self.box[0], rows, height, columns, width)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(x.shape[0], self.count, self.size)

    def inside(self, device: torch.device) -> Bool[Tensor, "token value"]:
        """Which values of the pieces are the column's own, and not beyond its edge."""
        return self.cut(torch.ones(1, *self.box, device=device))[0] > 0

    def forward(
        self, x: Float[Tensor, " object *shape"], hidden: Float[Tensor, "object token 1"] | None = None
    ) -> Float[Tensor, "object token width"]:
        """Tokens; of those where ``hidden`` is 1 only the modality is left."""
        tokens = self.linear(self.cut(x))
        return (tokens if hidden is None else tokens * (1 - hidden)) + self.modality


def _box(column: Column, patch: int, segment: int) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Any column as (band, y, x), and the (y, x) of a piece."""
    if column.kind == "scalar":
        return (1, 1, column.size), (1, 1)
    if column.kind in PLANE and len(column.shape) == 3:
        return column.shape, (patch, patch)
    if column.kind in LINE and len(column.shape) in (1, 2):
        return (*(1, *column.shape)[-2:-1], 1, column.shape[-1]), (1, segment)
    wants = "(band, y, x)" if column.kind in PLANE else "(length) or (channel, length)"
    raise GsnnError(
        f"the network 'transformer' cannot read column {column.name!r}: a {column.kind} needs the shape {wants}, "
        f"not {column.shape}; leave the column out of [data] inputs or choose another network"
    )
