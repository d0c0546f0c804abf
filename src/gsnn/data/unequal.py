"""Objects of unequal length: the values of many lie one after the other, and ``offsets`` say where each begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Self

import numpy as np
from jaxtyping import Int64


class Unequal:
    """What light curves and clouds of points share; object i has the values ``offsets[i]`` to ``offsets[i + 1] - 1``.

    A subclass is a frozen dataclass of the arrays named in ``fields``, each [value, ...], and of ``offsets``. ``parts``
    gives the arrays as they stand in a batch, ``to_arrow`` a column of a record batch.
    """

    fields: ClassVar[tuple[str, ...]]
    offsets: Int64[np.ndarray, " object1"]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64[np.ndarray, " object"]:
        """Values an object."""
        return np.diff(self.offsets)

    @property
    def object(self) -> Int64[np.ndarray, " value"]:
        """The object that each value belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, places: np.ndarray | Sequence[int]) -> Self:
        """The objects at these places, in that order."""
        places = np.arange(len(self))[np.asarray(places)]
        lengths = self.lengths[places]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = np.arange(offsets[-1]) + np.repeat(self.offsets[places] - offsets[:-1], lengths)
        return type(self)(*(getattr(self, name)[flat] for name in self.fields), offsets)

    def where(self, chosen: np.ndarray) -> Self:
        """The same objects with the values for which ``chosen`` [value] holds."""
        counts = np.bincount(self.object[chosen], minlength=len(self))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return type(self)(*(getattr(self, name)[chosen] for name in self.fields), offsets)

    @classmethod
    def concatenate(cls, pieces: Sequence[Self]) -> Self:
        """The objects of all pieces, one after the other."""
        lengths = np.concatenate([piece.lengths for piece in pieces])
        flat = [np.concatenate([getattr(p, name) for p in pieces]) for name in cls.fields]
        return cls(*flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def row_bytes(self) -> Iterator[bytes]:
        """The bytes of each object's values, for its checksum."""
        arrays = [getattr(self, name) for name in self.fields]
        for start, stop in zip(self.offsets[:-1], self.offsets[1:]):
            yield b"".join(array[start:stop].tobytes() for array in arrays)

    def parts(self) -> dict[str, np.ndarray]:
        """The arrays [value, ...] as they stand in a batch, by the name of the part."""
        return {name: getattr(self, name) for name in self.fields}

    def padded(self) -> dict[str, np.ndarray]:
        """The parts and ``valid``, each [object, step, ...]; 0 after an object's last value."""
        steps = max(int(self.lengths.max(initial=0)), 1)
        valid = np.arange(steps) < self.lengths[:, None]
        out: dict[str, np.ndarray] = {}
        for name, values in self.parts().items():
            kind = np.int64 if np.issubdtype(values.dtype, np.integer) else np.float32
            out[name] = np.zeros((len(self), steps, *values.shape[1:]), kind)
            out[name][valid] = values
        return {**out, "valid": valid}
