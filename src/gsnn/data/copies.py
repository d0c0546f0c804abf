"""A view in which every object stands several times, changed: augmentations for what learns from tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int64
from torch import nn

from ..rng import Rng
from .augment import augment
from .batch import tensors
from .light_curves import LightCurve, LightCurves
from .points import Points
from .schema import CURVE, Schema
from .survey import View
from .unequal import Unequal


class Copies:
    """``view`` with ``copies`` more of each object, behind the ones as they are; the contract of a view.

    Each copy is changed by the augmentations as the network's training objects are in an epoch, so that a baseline
    learns from what the network learns from. Only ``inputs`` change.
    """

    def __init__(self, view: View, changes: Sequence[nn.Module], inputs: Schema, copies: int, seed: int):
        self.view, self.changes, self.inputs, self.seed = view, changes, inputs, seed
        self.rows = np.arange(len(view) * (1 + copies))

    @property
    def schema(self) -> Schema:
        return self.view.schema

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, positions: Int64[np.ndarray, " n"]) -> Copies:
        """The same with the objects at these positions alone."""
        part = object.__new__(Copies)
        part.__dict__.update(self.__dict__, rows=self.rows[np.asarray(positions)])
        return part

    def columns(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Decoded, as a view gives them."""
        return self._read(self.rows, names)

    def chunks(self, names: Sequence[str], size: int = 2048) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(self), size):
            yield self._read(self.rows[start : start + size], names)

    def _read(self, rows: Int64[np.ndarray, " n"], names: Sequence[str]) -> dict[str, np.ndarray]:
        epoch, place = np.divmod(rows, max(len(self.view), 1))
        changed = [name for name in names if name in self.inputs]
        out = self.view.take(place).columns(names)
        if not changed or not epoch.any():
            return out
        whole = self.view.take(place).columns(list(dict.fromkeys([*self.inputs, *names])))
        pieces = {name: [] for name in changed}
        order = np.argsort(epoch, kind="stable")
        for copy in np.unique(epoch):
            some = order[epoch[order] == copy]
            part = {name: taken(value, some) for name, value in whole.items()}
            if copy:
                part = self._changed(part, self.view.rows[place[some]], int(copy))
            for name in changed:
                pieces[name].append(part[name])
        back = np.argsort(order, kind="stable")
        for name, parts in pieces.items():
            joined = type(parts[0]).concatenate if isinstance(parts[0], Unequal) else np.concatenate
            out[name] = taken(joined(parts), back)
        return out

    def _changed(self, part: dict[str, np.ndarray], rows: Int64[np.ndarray, " n"], copy: int) -> dict[str, np.ndarray]:
        """These objects as the augmentations of the epoch ``copy`` make them."""
        batch = tensors({name: part[name] for name in self.inputs}, rows)
        batch = augment(batch, self.changes, Rng(self.seed, copy), self.inputs)
        out = dict(part)
        for name in self.inputs:
            if isinstance(part[name], LightCurves):
                parts = {key: batch[f"{name}.{key}"].numpy() for key in CURVE}
                valid = parts.pop("valid")
                curves = [[parts[key][i][valid[i]] for key in LightCurve._fields] for i in range(len(valid))]
                out[name] = LightCurves.of(curves)
            elif isinstance(part[name], Points):
                valid = batch[f"{name}.valid"].numpy()
                flat = {key: batch[f"{name}.{key}"].numpy()[valid] for key in part[name].parts()}
                out[name] = replace(part[name], **flat)
            else:
                out[name] = batch[name].numpy().astype(part[name].dtype)
        return out


def taken(values: np.ndarray | Unequal, places: Int64[np.ndarray, " n"]) -> np.ndarray | Unequal:
    return values.take(places) if isinstance(values, Unequal) else values[places]
