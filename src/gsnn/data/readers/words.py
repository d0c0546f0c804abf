"""The words of a column of a text table as whole numbers, floats, lists of numbers, or as words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .raw import LISTS, TEXT, Field

NUMBER = r"^[+-]?(\d+\.?\d*([eEdD][+-]?\d+)?|\.\d+([eEdD][+-]?\d+)?|(?i:inf|infinity))$"
LIST = r"^[\[(][\d\s.,eE+\-nNaAoif]*[\])]$"  # [1.5, 2, nan]
MISSING = [
    "",
    "nan",
    "NaN",
    "NAN",
    "-nan",
    "na",
    "NA",
    "N/A",
    "n/a",
    "null",
    "NULL",
    "None",
    "none",
    "--",
    "-",
    "...",
    "\\N",
]


def typed(name: str, column: pa.Array, bad: dict[int, str]) -> Field:
    """A column of words as whole numbers, as floats, or as words."""
    column = pc.utf8_trim_whitespace(column)
    column = pc.if_else(pc.is_in(column, pa.array(MISSING)), pa.scalar(None, pa.string()), column)
    known = len(column) - column.null_count
    if known == 0:
        return _field(name, pa.nulls(len(column), pa.float64()), "float64")
    values, dtype = _numbers(column), "float64"
    if values is None:
        is_number = pc.fill_null(pc.match_substring_regex(column, NUMBER), False)
        strange = pc.and_(pc.invert(is_number), pc.is_valid(column))
        count = pc.sum(strange).as_py()
        if count > max(known // 50, int(known >= 10)):
            return _lists(name, column) or _field(name, column, TEXT)
        for i in np.flatnonzero(strange.to_numpy(zero_copy_only=False)):
            bad.setdefault(int(i), f"{name or 'a column'}: {column[int(i)].as_py()[:40]!r} is no number")
        values = _numbers(pc.if_else(strange, pa.scalar(None, pa.string()), column))
        if values is None:
            return _field(name, column, TEXT)
    if pa.types.is_string(values.type):
        dtype = TEXT
    elif pa.types.is_integer(values.type):
        dtype = "int64"
    return _field(name, values, dtype)


def _field(name: str, values: pa.Array, dtype: str) -> Field:
    return Field(name, dtype, lambda indices, _: values.take(pa.array(indices)))


def _lists(name: str, column: pa.Array) -> Field | None:
    """A column of lists of numbers, as ``[1.5, 2, nan]``; None if it is none."""
    if not pc.all(pc.match_substring_regex(column.drop_null(), LIST)).as_py():
        return None

    def take(indices: np.ndarray, _: object) -> pa.Array:
        words = pc.replace_substring_regex(column.take(pa.array(indices)), r"[\[\]()\s]+", " ")
        words = pc.replace_substring_regex(pc.utf8_trim_whitespace(words), r"\s*,\s*|\s+", ",")
        split = pc.split_pattern(pc.fill_null(words, ""), ",")
        parts = split.flatten()
        parts = pc.if_else(pc.is_in(pc.utf8_lower(parts), pa.array(["", "nan", "none"])), None, parts)
        return pa.ListArray.from_arrays(split.offsets, parts.cast(pa.float64()))

    return Field(name, LISTS, take)


def _numbers(column: pa.Array) -> pa.Array | None:
    """Words as numbers, if they all are; whole numbers beyond 64 bits stay words (they are names)."""
    for kind in (pa.int64(), pa.float64()):
        try:
            values = column.cast(kind)
        except pa.ArrowInvalid:
            continue
        if kind == pa.float64() and pc.all(pc.match_substring_regex(column, r"^\d+$")).as_py():
            return column
        return values
    fortran = pc.replace_substring_regex(column, r"^\+?(-?[\d.]+)[dD]([+-]?\d+)$", r"\1e\2")
    try:
        return pc.replace_substring_regex(fortran, r"^\+", "").cast(pa.float64())
    except pa.ArrowInvalid:
        return None
