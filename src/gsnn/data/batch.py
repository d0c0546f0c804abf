"""Columns of a survey as the tensors of a batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from .unequal import Unequal


def tensors(columns: Mapping[str, np.ndarray | Unequal], rows: Int64[np.ndarray, " object"]) -> dict[str, Tensor]:
    """``row`` and every column by its name: integers as they are, all else float32; of unequal length: padded."""
    out = {"row": torch.tensor(rows)}
    for name, values in columns.items():
        if isinstance(values, Unequal):
            out |= {f"{name}.{part}": torch.tensor(padded) for part, padded in values.padded().items()}
        else:
            out[name] = torch.tensor(values if values.dtype in (np.uint8, np.int64) else values.astype(np.float32))
    return out
