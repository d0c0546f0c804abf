"""Clouds of points: objects that are sets of nodes with positions and features, from which networks make graphs.

In Arrow, and so in a survey, a cloud is a struct of two lists, of the coordinates and of the features of its nodes one
after the other. Edges are not stored: what is a neighbour is a question of the network.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from .unequal import Unequal

ARROW = pa.struct({"position": pa.list_(pa.float32()), "feature": pa.list_(pa.float32())})


@dataclass(frozen=True)
class Points(Unequal):
    """The nodes of many objects; object i has the nodes ``offsets[i]`` to ``offsets[i + 1] - 1``.

    Positions are in the unit of their column, features in the order of its ``bands``.
    """

    position: Float32[np.ndarray, "node axis"]
    feature: Float32[np.ndarray, "node feature"]
    offsets: Int64[np.ndarray, " object1"]

    fields: ClassVar = ("position", "feature")

    @classmethod
    def of(cls, clouds: Iterable[tuple[np.ndarray, np.ndarray | None]], axes: int = 3, features: int = 0) -> Points:
        """From one (position [node, axis], feature [node, feature] or None) an object."""
        positions, tables = [np.empty((0, axes), np.float32)], [np.empty((0, features), np.float32)]
        lengths = [0]
        for position, feature in clouds:
            positions.append(np.asarray(position, np.float32).reshape(-1, axes))
            lengths.append(len(positions[-1]))
            table = np.empty((lengths[-1], 0)) if feature is None else feature
            tables.append(np.asarray(table, np.float32).reshape(lengths[-1], features))
        return cls(np.concatenate(positions), np.concatenate(tables), np.cumsum(lengths).astype(np.int64))

    def parts(self) -> dict[str, np.ndarray]:
        """Nodes without features have none in a batch either."""
        return {"position": self.position, **({"feature": self.feature} if self.feature.shape[1] else {})}

    def to_arrow(self) -> pa.StructArray:
        """A column of a record batch."""
        lists = [
            pa.ListArray.from_arrays(
                pa.array((self.offsets * values.shape[1]).astype(np.int32)), pa.array(values.ravel(), pa.float32())
            )
            for values in (self.position, self.feature)
        ]
        return pa.StructArray.from_arrays(lists, fields=list(ARROW))

    @classmethod
    def from_arrow(cls, column: pa.StructArray | pa.ChunkedArray, axes: int, features: int) -> Points:
        """From such a column; an object whose cloud is missing has no node."""
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        position, feature = (column.field(name) for name in cls.fields)
        lengths = np.asarray(position.value_lengths().fill_null(0)) // axes
        flat = [
            part.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, width)
            if width
            else np.empty((int(lengths.sum()), 0), np.float32)
            for part, width in ((position, axes), (feature, features))
        ]
        return cls(*flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def faults(self, box: float | None = None) -> list[str | None]:
        """Why each object cannot be used, or None: every node of a periodic ``box`` lies within 0 and its side."""
        reasons: list[str | None] = [None if n else "the cloud has no point" for n in self.lengths]
        owner = self.object
        found = [
            (owner[~np.isfinite(self.feature).all(1)], "a feature of a point is not a number"),
            (owner[~np.isfinite(self.position).all(1)], "a position of a point is not a number"),
        ]
        if box is not None:
            outside = ((self.position < 0) | (self.position > box)).any(1)
            found.insert(0, (owner[outside], f"a point lies outside the box of {box:g}"))
        for objects, reason in found:
            for one in np.unique(objects):
                reasons[one] = reason
        return reasons
