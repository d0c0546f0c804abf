"""Long lists of row numbers. They live in an unlinked file, so that the memory in use does not grow with the sky."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Integer

from ..errors import GsnnError

LONG = 1_000_000  # shorter lists stay in memory
CHUNK = 1 << 16  # rows looked at in one go, wherever all rows are looked at


def scratch_folder() -> Path:
    """Where decoded rows and long lists go: what GSNN_SCRATCH names, else the system's temporary folder."""
    return Path(os.environ.get("GSNN_SCRATCH") or tempfile.gettempdir())


def empty(n: int, dtype: type = np.int64) -> np.ndarray:
    """An uninitialised array of ``n`` numbers; a long one is mapped from a file that goes with the process."""
    if n <= LONG:
        return np.empty(n, dtype)
    folder, size = scratch_folder(), n * np.dtype(dtype).itemsize
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            reserve(file.fileno(), size)
            return np.asarray(np.memmap(file, dtype, "r+", shape=(n,)))
    except OSError as error:
        raise GsnnError(
            f"the list of {n:,} rows needs {size / 2**20:.0f} MiB in {folder} ({error.strerror}); free some space, "
            "or name another disk by GSNN_SCRATCH"
        ) from error


def reserve(file: int, size: int) -> None:
    """Claim ``size`` bytes of disk for an open file now, so that a full disk is an error here and not a crash later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    zeros = bytes(1 << 20)  # macOS has no such call: writing claims the space as well
    for start in range(0, size, len(zeros)):
        os.write(file, zeros[: size - start])


def chunks(n: int, size: int = CHUNK) -> Iterator[slice]:
    """Slices that cover 0..n-1."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def arange(n: int) -> Int64[np.ndarray, " n"]:
    """0..n-1."""
    out = empty(n)
    for some in chunks(n):
        out[some] = np.arange(some.start, some.stop)
    return out


def where(rows: Int64[np.ndarray, " n"], codes: Integer[np.ndarray, " n"], code: int) -> Int64[np.ndarray, " k"]:
    """The rows whose code is ``code``."""
    out = empty(sum(int((codes[some] == code).sum()) for some in chunks(len(rows))))
    filled = 0
    for some in chunks(len(rows)):
        chosen = rows[some][codes[some] == code]
        out[filled : filled + len(chosen)] = chosen
        filled += len(chosen)
    return out
