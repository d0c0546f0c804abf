"""Ctrl-C is never lost: where Python swallows it, inside a callback of the garbage collector, it is said again."""

from __future__ import annotations

import _thread
import sys
import time
from typing import Any

_AGAIN_AFTER_SECONDS = 0.02  # long enough that the callback which swallowed it has ended


def keep_interrupts() -> None:
    """From now on a KeyboardInterrupt that Python reports as "Exception ignored in ..." comes again a moment later."""
    told = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if unraisable.exc_type is not None and issubclass(unraisable.exc_type, KeyboardInterrupt):
            _thread.start_new_thread(_again, ())
        else:
            told(unraisable)

    sys.unraisablehook = hook


def _again() -> None:
    time.sleep(_AGAIN_AFTER_SECONDS)
    _thread.interrupt_main()
