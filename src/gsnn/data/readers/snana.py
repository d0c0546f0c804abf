"""Supernovae in SNANA's FITS format: a HEAD file with a row a supernova, and a PHOT file with a row an observation.

``PTROBS_MIN`` and ``PTROBS_MAX`` of a supernova are its first and last row of the PHOT file, counted from 1; rows of
MJD = -777 stand between supernovae (SNANA manual, section "FITS data format"; Kessler et al. 2009, PASP 121, 1028).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...errors import GsnnError
from .curves import Wanted, about, floats, gathered, numbered, parts_of
from .fits import opened, read_fits, word
from .raw import CURVES, Field, Raw, concatenate, values_of, words

POINTERS = ("PTROBS_MIN", "PTROBS_MAX")


def heads(paths: Sequence[str]) -> list[str]:
    """The HEAD files among some FITS files; [] if the first HEAD or PHOT file is not among the first few."""
    if not any(_columns(path) & {*POINTERS, "FLUXCAL"} for path in paths[:4]):
        return []
    return [path for path in paths if set(POINTERS) <= _columns(path)]


def _columns(path: str) -> set[str]:
    try:
        with opened(path) as hdus:
            return set(getattr(getattr(hdus[1], "columns", None), "names", None) or ()) if len(hdus) > 1 else set()
    except GsnnError:
        return set()


def read_snana(paths: Sequence[str], short: Sequence[str], wanted: Wanted) -> Raw:
    """The supernovae of some HEAD files, each with its light curve from the PHOT file beside it."""
    return concatenate([_one(path, stem, wanted) for path, stem in zip(paths, short)])


def _one(path: str, stem: str, wanted: Wanted) -> Raw:
    head, there = read_fits(path, stem), _photometry(path)
    table = read_fits(there, os.path.basename(there))
    by_name = {one.name: one for one in table.fields}
    parts, wanted = parts_of(list(by_name), wanted)
    band = by_name.get(wanted.band or "") or by_name.get("BAND") or by_name.get("FLT")
    if not parts or band is None:
        raise GsnnError(f"{there} has no columns MJD, FLUXCAL, FLUXCALERR and BAND")
    low, high = (floats(head, next(one for one in head.fields if one.name == name)) for name in POINTERS)
    bad, owner = dict(head.bad), np.full(table.length, -1, np.int64)
    for row, (first, last) in enumerate(zip(low, high)):
        if not 1 <= first <= last <= table.length:
            if not first > last:  # PTROBS_MIN > PTROBS_MAX: no observation
                bad[row] = f"its rows {first:g} to {last:g} are not in {os.path.basename(there)}"
            continue
        some = slice(int(first) - 1, int(last))
        if (owner[some] >= 0).any():
            bad[row] = f"its rows {first:g} to {last:g} belong to another supernova as well"
            continue
        owner[some] = row
    one = parts[0]
    time, flux, error = (floats(table, by_name[name]) for name in (one.time, one.flux, one.error))
    owner[time == -777] = -1
    names = words(values_of(table, band))
    held = np.flatnonzero(owner >= 0)
    codes, bands = numbered(names.take(held), wanted, band.name)
    curves = gathered(owner[held], head.length, (time[held], flux[held], error[held], codes), wanted)
    field = Field(
        wanted.name, CURVES, lambda rows, _: curves.take(rows), **about([one], wanted, bands, {one.flux: "FLUXCAL"})
    )
    kept = [other for other in head.fields if other.name not in POINTERS]
    notes = [*head.notes, f"{len(held):,} observations in {os.path.basename(there)}"]
    return replace(head, fields=[field, *kept], bad=bad, notes=notes, files=[path, there])


def _photometry(path: str) -> str:
    """The PHOT file that the HEAD file names, beside it and perhaps gzipped."""
    with opened(path) as hdus:
        name = word(hdus[0].header, "PHOTFILE")
    if not name or os.path.basename(name) != name:
        raise GsnnError(f"{path} does not name its file of photometry (PHOTFILE)")
    for ending in ("", ".gz"):
        there = os.path.join(os.path.dirname(path), name + ending)
        if os.path.exists(there):
            return there
    raise GsnnError(
        f"{path} needs the file {name} (or {name}.gz) beside it, which is not there; hdu = 1 reads the table alone"
    )
