"""Light curves in the scratch: the values of a slot one after the other, and where those of each object begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from .light_curves import LightCurve, LightCurves

if TYPE_CHECKING:
    from .stream import Scratch


class Ragged:
    """One light-curve column of a stream. ``lengths`` are the observations of every object of its view."""

    def __init__(self, name: str, lengths: Int64[np.ndarray, " object"], slot_rows: int, slots: int):
        self.name, self.lengths = name, lengths
        self.capacity = min(int(lengths.sum()), slot_rows * int(lengths.max(initial=0)))  # observations of a slot
        self.slots = slots
        self._starts: dict[int, Tensor] = {}  # slot -> where the values of each of its objects begin, and the end

    def specs(self) -> dict[str, tuple[int, tuple[int, ...], np.dtype]]:
        """The arrays of the scratch that it needs."""
        kinds = {"band": np.dtype(np.uint8)}
        return {
            f"{self.name}.{part}": (self.slots * self.capacity, (), kinds.get(part, np.dtype(np.float32)))
            for part in LightCurve._fields
        }

    def begin(self, slot: int, places: Int64[np.ndarray, " row"]) -> None:
        """The objects that a slot will hold, in its order."""
        starts = np.concatenate([[0], np.cumsum(self.lengths[places])]).astype(np.int64)
        self._starts[slot] = torch.from_numpy(starts)

    def write(self, scratch: Scratch, slot: int, at: int, curves: LightCurves) -> None:
        """Put the light curves of the objects from the ``at``-th of a slot on where they belong."""
        place = slot * self.capacity + int(self._starts[slot][at])
        for part in LightCurve._fields:
            values = curves.since_first() if part == "time" else getattr(curves, part)
            scratch.write(f"{self.name}.{part}", place, values)

    def gather(self, tensors: dict[str, Tensor], slot: int, places: Int64[Tensor, " object"]) -> dict[str, Tensor]:
        """The light curves of some objects of a slot as tensors [object, step], padded to the longest of them."""
        starts = self._starts[slot]
        first, length = starts[places], starts[places + 1] - starts[places]
        steps = torch.arange(max(int(length.max()) if len(length) else 0, 1))
        valid = steps < length[:, None]
        flat = torch.where(valid, first[:, None] + steps, 0) + slot * self.capacity
        out = {}
        for part in LightCurve._fields:
            values = tensors[f"{self.name}.{part}"][flat]
            out[f"{self.name}.{part}"] = torch.where(valid, values.long() if part == "band" else values, 0)
        return {**out, f"{self.name}.valid": valid}


def joined(pieces: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The objects of all pieces in one batch, light curves padded to the longest of all."""
    if len(pieces) == 1:
        return pieces[0]
    out = {}
    for name in pieces[0]:
        parts = [piece[name] for piece in pieces]
        if any(part.shape[1:] != parts[0].shape[1:] for part in parts):
            steps = max(part.shape[1] for part in parts)
            parts = [torch.nn.functional.pad(part, (0, steps - part.shape[1])) for part in parts]
        out[name] = torch.cat(parts)
    return out
