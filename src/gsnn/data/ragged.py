"""Light curves and points in the scratch: the values of a slot one after the other, and where each object begins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn.functional import pad

from .unequal import Unequal

if TYPE_CHECKING:
    from .stream import Scratch


class Ragged:
    """One column of objects of unequal length of a stream, of which ``probe`` is an example.

    ``lengths`` are the values of every object of its view.
    """

    def __init__(self, name: str, probe: Unequal, lengths: Int64[np.ndarray, " object"], slot_rows: int, slots: int):
        self.name, self.lengths = name, lengths
        self.capacity = min(int(lengths.sum()), slot_rows * int(lengths.max(initial=0)))  # values of a slot
        self.slots = slots
        self._like = {part: (values.shape[1:], _stored(values.dtype)) for part, values in probe.parts().items()}
        self._starts: dict[int, Tensor] = {}  # slot -> where the values of each of its objects begin, and the end

    def specs(self) -> dict[str, tuple[int, tuple[int, ...], np.dtype]]:
        """The arrays of the scratch that it needs."""
        return {f"{self.name}.{part}": (self.slots * self.capacity, *like) for part, like in self._like.items()}

    def begin(self, slot: int, places: Int64[np.ndarray, " row"]) -> None:
        """The objects that a slot will hold, in its order."""
        starts = np.concatenate([[0], np.cumsum(self.lengths[places])]).astype(np.int64)
        self._starts[slot] = torch.from_numpy(starts)

    def write(self, scratch: Scratch, slot: int, at: int, some: Unequal) -> None:
        """Put the values of the objects from the ``at``-th of a slot on where they belong."""
        place = slot * self.capacity + int(self._starts[slot][at])
        for part, values in some.parts().items():
            scratch.write(f"{self.name}.{part}", place, values)

    def gather(self, tensors: dict[str, Tensor], slot: int, places: Int64[Tensor, " object"]) -> dict[str, Tensor]:
        """The values of some objects of a slot as tensors [object, step, ...], padded to the longest of them."""
        starts = self._starts[slot]
        first, length = starts[places], starts[places + 1] - starts[places]
        steps = torch.arange(max(int(length.max()) if len(length) else 0, 1))
        valid = steps < length[:, None]
        flat = torch.where(valid, first[:, None] + steps, 0) + slot * self.capacity
        out = {}
        for part, (shape, dtype) in self._like.items():
            values = tensors[f"{self.name}.{part}"][flat]
            there = valid.view(*valid.shape, *(1,) * len(shape))
            out[f"{self.name}.{part}"] = torch.where(there, values.long() if dtype == np.uint8 else values, 0)
        return {**out, f"{self.name}.valid": valid}


def value_bytes(probe: Unequal) -> int:
    """Bytes of a value of an object in the scratch."""
    return sum(_stored(v.dtype).itemsize * math.prod(v.shape[1:]) for v in probe.parts().values())


def _stored(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.uint8) if dtype == np.uint8 else np.dtype(np.float32)


def joined(pieces: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The objects of all pieces in one batch, those of unequal length padded to the longest of all."""
    if len(pieces) == 1:
        return pieces[0]
    out = {}
    for name in pieces[0]:
        parts = [piece[name] for piece in pieces]
        if any(part.shape[1:] != parts[0].shape[1:] for part in parts):
            steps = max(part.shape[1] for part in parts)
            parts = [pad(part, (*(0, 0) * (part.ndim - 2), 0, steps - part.shape[1])) for part in parts]
        out[name] = torch.cat(parts)
    return out
