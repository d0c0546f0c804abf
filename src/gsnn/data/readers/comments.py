"""What the comments above a text table say of its columns: units and descriptions.

Understood are ``# COLUMN koi_period: Orbital Period [days]`` (the NASA Exoplanet Archive), ``# period: Orbital Period
[days]``, and the ``# - {name: period, unit: d, description: Orbital period}`` of ECSV (Astropy's APE 6).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_LINE = re.compile(r"[#%]+\s*(?:COLUMN\s+)?(\S+?)\s*:\s+(.*?)\s*(?:\[(.*)\])?\s*$")
_ECSV = re.compile(r"[#%]+\s*-\s*\{(.*?)\}?\s*$")
_PAIR = re.compile(r"(name|unit|description):\s*('[^']*'|\"[^\"]*\"|[^,}]*)")


_FACT = re.compile(r"[#%]+\s*([A-Za-z]\w*)\s*=\s*([+-]?[\d.]+(?:[eE][+-]?\d+)?)\s*([A-Za-z]\S*)?\s*$")


def facts(comments: Iterable[str]) -> dict[str, tuple[float, str]]:
    """Numbers that hold for the whole table, with their units: ``# Distance = 3.36 Mpc``."""
    out = {}
    for line in comments:
        if found := _FACT.match(line.strip()):
            try:
                out[found[1]] = (float(found[2]), found[3] or "")
            except ValueError:  # 1.2.3
                continue
    return out


def described(comments: Iterable[str], names: Iterable[str]) -> dict[str, dict[str, str]]:
    """``{name: {"unit": ..., "description": ...}}`` of the columns of which a comment says something."""
    known, out = set(names) - {""}, {}
    for line in comments:
        if found := _ECSV.match(line.strip()):
            pairs = {key: value.strip(" '\"") for key, value in _PAIR.findall(found[1])}
            name, text, unit = pairs.get("name", ""), pairs.get("description", ""), pairs.get("unit", "")
        elif found := _LINE.match(line.strip()):
            name, text, unit = found[1], found[2], (found[3] or "").strip()
        else:
            continue
        if name in known:
            out[name] = {"unit": unit, "description": text}
    return out
