"""Light curves from a table with a row an observation, beside a table with a row an object; or from a table an object.

The observations of all objects are held in memory (17 bytes each).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import GsnnError, suggest
from .curves import (
    Wanted,
    about,
    band_column,
    bands_of,
    floats,
    gathered,
    numbered,
    parts_of,
    unflagged,
)
from .identity import IDS
from .raw import CURVES, LISTS, TEXT, Field, Raw, clean, of_array, values_of, words


def with_observations(objects: Raw, table: Raw, on: str | None, wanted: Wanted, keys: pa.Array) -> Raw:
    """``objects`` with the light curves whose observations are the rows of ``table``.

    The key is the column ``on`` of both (or the first identifier that both have); where the objects have no such
    column it is their id, ``keys``.
    """
    theirs, mine = _key(objects, table, on)
    keys = words(values_of(objects, mine)) if mine is not None else keys
    parts, wanted = parts_of([one.name for one in table.fields if one is not theirs], wanted)
    if not parts:
        raise GsnnError(
            f"{table.stem}: no columns are the time, flux and error of observations; name them by light_curve = "
            f"{{ time = ..., flux = ..., error = ... }} (there are {', '.join(one.name for one in table.fields[:20])})"
        )
    owner = np.asarray(pc.index_in(words(values_of(table, theirs)), keys).fill_null(-1)).astype(np.int64)
    if len(owner) and not (owner >= 0).any():
        first = words(theirs.arrow(np.arange(1), [None]))[0].as_py()
        raise GsnnError(
            f"no observation belongs to an object: the objects' keys are like {keys[0].as_py()!r}, those in column "
            f"{theirs.name!r} of {table.stem} like {first!r}"
        )
    owner[list(table.bad)] = -1
    by_name = {one.name: one for one in table.fields}
    band = band_column([one for one in table.fields if one is not theirs], wanted)
    if band is not None:
        codes, bands = numbered(words(values_of(table, band)), wanted, band.name)
    else:
        (bands, fixed), codes = bands_of(parts, wanted), None
    pieces = []
    for k, one in enumerate(parts):
        columns = unflagged([floats(table, by_name[name]) for name in one.columns], one.columns, wanted)
        number = np.full(len(owner), fixed[k], np.uint8) if codes is None else codes
        pieces.append((owner, *columns, number))
    owner, *columns = (np.concatenate(some) for some in zip(*pieces))
    curves = gathered(owner, objects.length, columns, wanted)
    notes = [f"{int((owner >= 0).sum()):,} observations of {int((curves.lengths > 0).sum()):,} objects in {table.stem}"]
    notes += [f"{int((owner < 0).sum()):,} observations belong to no object"] if (owner < 0).any() else []
    units = {one.name: one.unit for one in table.fields}
    field = Field(wanted.name, CURVES, lambda indices, _: curves.take(indices), **about(parts, wanted, bands, units))
    return replace(objects, fields=[field, *objects.fields], notes=[*objects.notes, *notes])


def _key(objects: Raw, table: Raw, on: str | None) -> tuple[Field, Field | None]:
    """The column of the observations that says whose they are, and its like among the objects, if they have it."""
    theirs = {clean([one.name])[0]: one for one in table.fields if not one.shape and one.dtype not in (LISTS, CURVES)}
    mine = {clean([one.name])[0]: one for one in objects.fields if not one.shape and one.dtype not in (LISTS, CURVES)}
    if on is not None:
        name = clean([on])[0]
        if name not in theirs:
            raise GsnnError(f"the observations, {table.stem}, have no column {on!r}; {suggest(on, theirs)}")
        return theirs[name], mine.get(name)
    shared = [name for name in theirs if name in mine]
    known = sorted((n for n in shared if n.lower() in IDS), key=lambda n: IDS.index(n.lower()))
    if known:
        return theirs[known[0]], mine[known[0]]
    alone = sorted((n for n in theirs if n.lower() in IDS), key=lambda n: IDS.index(n.lower()))
    if alone:
        return theirs[alone[0]], None
    raise GsnnError(
        f"the observations, {table.stem}, do not say by an identifier whose they are; name the column by `on` "
        f"(they have {', '.join(list(theirs)[:20])})"
    )


def is_pair(first: Raw, second: Raw) -> bool:
    """Whether ``second`` holds observations of the objects in ``first``."""
    if {one.name for one in first.fields} == {one.name for one in second.fields}:
        return False
    try:
        theirs, mine = _key(first, second, None)
        parts, _ = parts_of([one.name for one in second.fields if one is not theirs], Wanted())
    except GsnnError:
        return False
    if mine is None or not parts:
        return False
    ours, others = (
        pc.count_distinct(words(values_of(raw, one))).as_py() for raw, one in ((first, mine), (second, theirs))
    )
    return ours == first.length and others < second.length


def of_tables(tables: Sequence[Raw | str], names: Sequence[str], wanted: Wanted, stem: str) -> Raw:
    """One object a table: its rows are the observations. A string in place of a table says why it cannot be read.

    Columns that are constant in every table, and the numbers in their comments, are columns of the objects.
    """
    first = next((one for one in tables if isinstance(one, Raw)), None)
    if first is None:
        raise GsnnError(str(tables[0]) if tables else f"{stem} holds no table")
    columns = [one.name for one in first.fields]
    parts, wanted = parts_of(columns, wanted)
    if not parts:
        raise GsnnError(
            f"{first.stem}: no columns are the time, flux and error of observations; name them by light_curve = "
            f"{{ time = ..., flux = ..., error = ... }} (there are {', '.join(columns[:20])})"
        )
    band = band_column(first.fields, wanted)
    used = {name for one in parts for name in one.columns} | ({band.name} if band else set())
    bad: dict[int, str] = {}
    pieces: list[tuple] = []
    seen: list[pa.Array] = []
    extra = {name: np.full(len(tables), np.nan) for name in columns if name not in used}
    facts = {name: np.full(len(tables), np.nan) for one in tables if isinstance(one, Raw) for name in one.facts}
    units = {one.name: one.unit for one in first.fields}
    for k, table in enumerate(tables):
        try:
            if not isinstance(table, Raw):
                raise GsnnError(table)
            by_name = {one.name: one for one in table.fields}
            lacking = next((name for name in used if name not in by_name), None)
            if lacking:
                raise GsnnError(f"it has no column {lacking!r}")
            good = np.ones(table.length, bool)
            good[list(table.bad)] = False
            owner = np.where(good, k, -1)
            read = {n: floats(table, by_name[n]) for n in used if not (band and n == band.name)}
            which = words(values_of(table, by_name[band.name])) if band else None
            for which_part, one in enumerate(parts):
                values = unflagged([read[name] for name in one.columns], one.columns, wanted)
                pieces.append((owner, *values, np.full(len(owner), which_part)))
                seen += [which] if which is not None else []
            for name in extra:
                extra[name][k] = _constant(floats(table, by_name[name])) if _is_number(by_name.get(name)) else np.inf
            for name, (value, unit) in table.facts.items():
                facts[name][k], units[name] = value, unit
        except GsnnError as error:
            bad[k] = str(error)
    if not pieces:
        raise GsnnError(f"no table of {stem} can be used; the first: {bad[min(bad)]}")
    if band:
        codes, bands = numbered(pa.concat_arrays(seen), wanted, band.name)
    else:
        bands, fixed = bands_of(parts, wanted)
        codes = np.array(fixed, np.uint8)[np.concatenate([piece[-1] for piece in pieces])]
    owner, *values = (np.concatenate(some) for some in list(zip(*pieces))[:4])
    curves = gathered(owner, len(tables), [*values, codes], wanted)
    field = Field(wanted.name, CURVES, lambda rows, _: curves.take(rows), **about(parts, wanted, bands, units))
    kept = {name: v for name, v in extra.items() if not np.isinf(v).any() and np.isfinite(v).any()}
    left = [name for name in extra if name not in kept]
    notes = [f"columns that change within an object were left out: {', '.join(left)}"] if left else []
    notes += [f"{len(bad)} of {len(tables)} tables cannot be used; the first: {bad[min(bad)]}"] if bad else []
    ids = of_array("id", np.array(names, dtype=object), kind="id")
    scalars = [of_array(name, values, unit=units.get(name, "")) for name, values in (facts | kept).items()]
    return Raw(stem, len(tables), [ids, field, *scalars], first.format, bad, notes)


def _is_number(one: Field | None) -> bool:
    return one is not None and not one.shape and one.dtype not in (TEXT, LISTS, CURVES)


def _constant(values: np.ndarray) -> float:
    """The one value of a column; infinity if there are several."""
    known = values[np.isfinite(values)]
    return float("nan") if not len(known) else float(known[0]) if np.ptp(known) == 0 else float("inf")
