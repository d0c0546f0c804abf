"""A table of labels beside the objects: its columns are added where its key is the object's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from ...errors import GsnnError, suggest
from .raw import Field, Raw, Reasons, arrow_type, clean, to_arrow, values_of, words


def join(objects: Raw, labels: Raw, on: str, keys: pa.Array | None = None) -> Raw:
    """``objects`` with the columns of ``labels``; objects without a label keep missing values.

    The key is the column ``on`` of the labels; of the objects it is the column of that name, or else their id
    (``keys``: what the ids are, null where unknown).
    """
    theirs = _key(labels, on)
    mine = next((one for one in objects.fields if clean([one.name]) == clean([on])), None)
    keys = words(values_of(objects, mine)) if mine is not None else keys
    if keys is None:
        keys = pa.array(objects.made_ids(np.arange(objects.length)))
    row_of: dict[str, int] = {}
    repeated = 0
    for row, key in enumerate(words(values_of(labels, theirs)).to_pylist()):
        if key is not None and row not in labels.bad:
            repeated += key in row_of
            row_of.setdefault(key, row)
    rows = np.array([row_of.get(key, -1) for key in keys.to_pylist()], dtype=np.int64)
    found = int((rows >= 0).sum())
    if not found:
        raise GsnnError(
            f"no object has a label: the objects' keys are like {keys[0].as_py()!r}, "
            f"those in column {theirs.name!r} of {labels.stem} like {next(iter(row_of), None)!r}"
        )
    notes = [f"{found} of {objects.length} objects have a row in {labels.stem}, {objects.length - found} have none"]
    unused = len(row_of) - len(set(rows[rows >= 0].tolist()))
    notes += [f"{unused} rows of {labels.stem} belong to no object"] if unused else []
    notes += [f"{repeated} rows of {labels.stem} repeat a key; the first of each is used"] if repeated else []
    taken = {one.name for one in objects.fields} | {"id"}
    added = [
        _matched(replace(one, name=f"{one.name}_label" if one.name in taken else one.name), rows)
        for one in labels.fields
        if one is not theirs
    ]
    return replace(objects, fields=[*objects.fields, *added], notes=[*objects.notes, *notes])


def _key(labels: Raw, on: str) -> Field:
    names = {clean([one.name])[0]: one for one in labels.fields}
    for name in (clean([on])[0], on):
        if name in names:
            return names[name]
    raise GsnnError(f"the table of labels, {labels.stem}, has no column {on!r}; {suggest(on, names)} (--on names it)")


def _matched(one: Field, rows: np.ndarray) -> Field:
    def take(indices: np.ndarray, reasons: Reasons) -> pa.Array:
        at = rows[indices]
        known = np.flatnonzero(at >= 0)
        if not len(known):
            return pa.nulls(len(indices), arrow_type(one.dtype, one.shape))
        inner: Reasons = [None] * len(known)
        values = to_arrow(one.take(at[known], inner), one.dtype, one.shape)
        for position, why in zip(known, inner):
            reasons[position] = reasons[position] or why
        place = np.zeros(len(indices), dtype=np.int64)
        place[known] = np.arange(len(known))
        return values.take(pa.array(place, mask=at < 0))

    return replace(one, take=take)
