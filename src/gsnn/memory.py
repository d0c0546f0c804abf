"""The memory of this process."""

from __future__ import annotations

import ctypes
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)


@cache
def keep_memory() -> bool:
    """Let glibc keep freed memory for the next step instead of giving it back; whether there is a glibc that can.

    Activations and batches are large, and each would be mapped, faulted in page by page and unmapped again in every
    step: 10 to 15% of the time of a small network on a processor. What a process holds at most does not change.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1) and any(mallopt(_MMAP_THRESHOLD, n) for n in (1 << 30, 32 << 20)))
