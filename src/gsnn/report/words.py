"""Numbers as a reader wants them."""

from __future__ import annotations

import math
from typing import Any

_ACRONYMS = {
    w: w.upper() for w in ("nmad", "crps", "ece", "pit", "ks", "auc", "roc", "pr", "f1", "nll", "rmse", "mae", "mse")
} | {
    "r2": "R²",
    "snr": "S/N",
}


def number(value: Any, digits: int = 3) -> str:
    """Three significant digits, thousands separated, no exponent for everyday sizes; a dash where there is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return "–"
    if isinstance(value, int) or (abs(value) >= 1000 and abs(value) < 1e9):
        return f"{value:,.0f}".replace("-", "−")
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    text = f"{value:.{digits}g}"
    return (f"{value:.0f}" if "e" in text else text).replace("-", "−")


def measured(entry: Any, unit: str = "", sign: bool = False) -> str:
    """``88.4% (86.1 to 90.5)``: as many decimals as the interval deserves, the interval where there is one.

    A fraction is told in per cent, the difference (``sign``) of two fractions in points.
    """
    if not isinstance(entry, dict):
        entry = {"value": entry}
    value, low, high = (entry.get(key) for key in ("value", "low", "high"))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return "–"
    if unit == "fraction":
        value, low, high = (v if v is None else 100 * v for v in (value, low, high))
        unit = "points" if sign else "%"
    tail = "" if not unit else unit if unit == "%" else f" {unit}"
    plus = "+" if sign else ""
    known = all(isinstance(v, (int, float)) and math.isfinite(v) for v in (low, high))
    if not known:
        text = f"{value:{plus}.3g}" if abs(value) < 1000 else f"{value:{plus},.0f}"
        return text.replace("-", "−") + tail
    half = abs(high - low) / 2
    if half < 1e-9 * max(abs(value), 1):  # an interval of no width says nothing of the digits
        half = 0.01 * abs(value) or 0.05
    order = math.floor(math.log10(half))
    decimals = min(8, max(0, (1 if half < 3 * 10**order else 0) - order))
    text = f"{value:{plus},.{decimals}f}{tail} ({low:{plus},.{decimals}f} to {high:{plus},.{decimals}f})"
    return text.replace("-", "−")


def duration(seconds: Any) -> str:
    """``42 s``, ``3 min 10 s``, ``2 h 05 min``, ``3 d 4 h``."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{number(float(seconds), 2)} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    if seconds < 86400:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
    return f"{int(seconds // 86400)} d {int(seconds % 86400 // 3600)} h"


def plain(name: Any) -> str:
    """A column's or metric's name for reading: underscores are spaces, acronyms are capitals."""
    return " ".join(_ACRONYMS.get(word, word) for word in str(name).replace("_", " ").split(" "))


def title(name: Any) -> str:
    """``plain`` with a capital first letter."""
    text = plain(name)
    return text[:1].upper() + text[1:] if len(text) > 2 else text


def slug(name: Any) -> str:
    """A name fit for an id or a file name."""
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in str(name).lower())
