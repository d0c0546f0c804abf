"""The shapes that annotations promise, checked at run time: what the import hook of conftest.py puts around functions.

Only annotations of arrays are checked: whether a table of settings has the right types is GSNN's own work, and tests hand
over wrong ones on purpose.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

ARRAY = re.compile(r"\b(Float|Float32|Float64|Int|Int64|Integer|UInt8|Bool|Shaped|Num|Real|Complex)\[")
_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with the shapes of its arrays checked; every other annotation is left to the reader."""
    if not isinstance(function, types.FunctionType):
        return function
    arrays = {name: hint for name, hint in function.__annotations__.items() if ARRAY.search(str(hint))}
    if not arrays:
        return function
    everything, function.__annotations__ = function.__annotations__, arrays
    checked = _beartype(function)
    function.__annotations__ = checked.__annotations__ = everything
    return checked
