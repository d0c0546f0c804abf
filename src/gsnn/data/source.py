"""What a survey is made from. Readers of files and simulators of the sky share this one contract."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from .schema import Schema

QUARANTINE = "quarantine"


@runtime_checkable
class Source(Protocol):
    """Rows of the sky, known by index.

    ``rows`` is pure: the same indices and seed give the same rows, in any order and in any process. Its batch has the
    columns of ``schema()`` in that order. A row that cannot be read is still answered: the batch then has one more
    column, ``quarantine`` (string), with the reason (null where the row is good), and the survey sets the row aside.
    """

    def schema(self) -> Schema: ...

    def __len__(self) -> int: ...

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch: ...
