"""The shapes that annotations promise, checked at run time: what the import hook of conftest.py puts around functions.

Only arrays are checked, against annotations of arrays: a list in the place of an array is numpy's business, and whether
a table of settings has the right types is GSNN's own, so tests hand over wrong ones on purpose.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy as np


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with the shapes and types of its arrays checked; names of axes are bound by jaxtyping around it."""
    signature = inspect.signature(function)
    named = {name: p.annotation for name, p in signature.parameters.items()}
    hints = {name: hint for name, hint in named.items() if _array(hint)}
    returned = signature.return_annotation if _array(signature.return_annotation) else None
    if not hints and returned is None:
        return function

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        for name, hint in hints.items():
            _check(name, given.get(name), hint)
        out = function(*args, **kwargs)
        if returned is not None:
            _check("the result", out, returned)
        return out

    return checked


def _array(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)


def _check(name: str, value: Any, hint: Any) -> None:
    torch = sys.modules.get("torch")
    arrays = (np.ndarray, torch.Tensor) if torch else (np.ndarray,)
    if isinstance(value, arrays) and hint.array_type in arrays and not isinstance(value, hint):
        raise TypeError(f"{name} is {value.dtype}{list(value.shape)}, not {hint}")
