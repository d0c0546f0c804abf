"""Maps of the whole sky as HEALPix's own software writes them: a FITS table a map, whole or of a part of the sky.

A map is an object, and each column of its table (temperature, Q, U) a column of kind ``sphere`` of one channel. RING
becomes NESTED; UNSEEN, the header's BAD_DATA, infinities and pixels that a partial map leaves out become NaN. Format:
Gorski et al., HEALPix FITS conventions (healpix.sourceforge.io/data/examples/healpix_fits_specs.pdf).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from ...errors import GsnnError
from ..sphere import nested
from .fits import HDU, choose, opened
from .raw import Field, Raw, Reasons

UNSEEN = -1.6375e30
PIXEL = ("PIXEL", "PIX", "INDEX")  # what the column of a partial map is called that says which pixels it holds
ORDERS = {"RING": "RING", "NESTED": "NESTED", "NEST": "NESTED"}


@dataclass(frozen=True)
class About:
    """What the header of a map says; ``maps`` are its columns with their units."""

    path: str
    nside: int
    order: str
    partial: bool
    maps: dict[str, str]
    bad: float


def is_map(path: str, hdu: HDU = None) -> bool:
    """Whether the table that is meant says that it is a HEALPix map."""
    try:
        with opened(path) as hdus:
            header = choose(hdus, hdu, path).header
            told = str(header.get("PIXTYPE", "")).strip().upper() == "HEALPIX"
            return told or ("NSIDE" in header and "ORDERING" in header)
    except GsnnError:
        return False


def about(path: str, hdu: HDU = None) -> About:
    """The header of a map. Raises GsnnError, one sentence, where it is none that can be read."""
    with opened(path) as hdus:
        one = choose(hdus, hdu, path)
        header, given = one.header, getattr(one, "columns", None)
        columns = {} if given is None else {c.name: (c.unit or "").strip() for c in given if c.format[-1:] in "EDIJK"}
        length = 0 if given is None else int(header.get("NAXIS2", 0)) * _repeat(given, columns)
    order, nside = str(header.get("ORDERING", "")).strip().upper(), header.get("NSIDE")
    if order not in ORDERS:
        said = f"says ORDERING = {order!r}" if order else "does not say in which order its pixels are"
        raise GsnnError(f"{path} {said}; its header needs ORDERING = 'RING' or 'NESTED'")
    if isinstance(nside, bool) or not isinstance(nside, int) or nside < 1 or nside & (nside - 1):
        raise GsnnError(f"{path} says NSIDE = {nside!r}, and the nside of a HEALPix map is a power of two")
    pixel = next((name for name in columns if name.upper() in PIXEL), None)
    partial = str(header.get("INDXSCHM", "")).strip().upper() == "EXPLICIT" or header.get("OBJECT") == "PARTIAL"
    if partial and pixel is None:
        raise GsnnError(f"{path} holds a part of the sky, and no column PIXEL says which pixels; write it with one")
    if not partial and length != 12 * nside**2:
        raise GsnnError(
            f"{path} holds {length} pixels, and a map of NSIDE = {nside} has {12 * nside**2}; is it cut off, or a part "
            "of the sky (INDXSCHM = 'EXPLICIT')?"
        )
    maps = {name: unit for name, unit in columns.items() if not (partial and name == pixel)}
    if not maps:
        raise GsnnError(f"{path} holds no column of numbers beside its pixels")
    bad = header.get("BAD_DATA", UNSEEN)
    return About(path, nside, ORDERS[order], partial, maps, float(bad) if isinstance(bad, (int, float)) else UNSEEN)


def _repeat(columns: Any, names: dict[str, str]) -> int:
    """Pixels in a row of the table."""
    first = next((c for c in columns if c.name in names), None)
    digits = "" if first is None else first.format[:-1]
    return int(digits) if digits.isdigit() else 1


def pixels(told: About, name: str, hdu: HDU = None) -> Float32[np.ndarray, "1 pixel"]:
    """One column of a map in NESTED order, NaN where it says nothing."""
    with opened(told.path, memmap=False) as hdus:
        data = choose(hdus, hdu, told.path).data
        if name not in data.names:
            raise GsnnError(f"{told.path} has no column {name!r}; it has {', '.join(data.names)}")
        values = np.array(data[name], np.float64).ravel()
        if told.partial:
            place = np.array(data[next(n for n in data.names if n.upper() in PIXEL)]).ravel().astype(np.int64)
            if len(place) and not 0 <= place.min() <= place.max() < 12 * told.nside**2:
                raise GsnnError(f"{told.path} names pixels beyond those of NSIDE = {told.nside}")
            whole = np.full(12 * told.nside**2, np.nan)
            whole[place] = values
            values = whole
    unseen = np.isclose(values, UNSEEN, rtol=1e-4) | np.isclose(values, told.bad, rtol=1e-5)
    values = np.where(unseen | ~np.isfinite(values), np.nan, values).astype(np.float32)
    return (nested(values) if told.order == "RING" else values)[None]


def read_maps(paths: Sequence[str], ids: Sequence[str], hdu: HDU = None) -> Raw:
    """A map a row. The first file says which columns there are and how many pixels; one that differs is set aside."""
    first = about(paths[0], hdu)

    def take(name: str):
        def values(indices: np.ndarray, reasons: Reasons) -> np.ndarray:
            made = np.full((len(indices), 1, 12 * first.nside**2), np.nan, np.float32)
            for i, row in enumerate(indices):
                try:
                    told = about(paths[row], hdu)
                    if told.nside != first.nside:
                        raise GsnnError(
                            f"{told.path} has NSIDE = {told.nside}, and the first map, {first.path}, {first.nside}; "
                            "bring them to one nside"
                        )
                    made[i] = pixels(told, name, hdu)
                except GsnnError as error:
                    reasons[i] = reasons[i] or str(error)
            return made

        return values

    shape = (1, 12 * first.nside**2)
    fields = [Field(name, "float32", take(name), shape, "sphere", unit) for name, unit in first.maps.items()]
    raw = Raw(ids[0] if len(paths) == 1 else "the maps", len(paths), fields, "fits", files=list(paths))
    raw.ids = lambda rows: [ids[i] for i in rows]
    return raw
