"""Which columns make light curves, and how: rows of observations, lists in cells, or a table for each object.

A column is known by its name: a time (``mjd``, ``hjd``, ``time`` ...), a flux or magnitude (``flux``, ``fluxcal``,
``mag`` ...), its error (``fluxerr``, ``mag_err``, ``sigma`` ...), a band (``band``, ``flt``, ``filter`` ...); a band
may also stand in the name, as in ``mag_g`` and ``time_points_b``. The table ``light_curve`` of a study overrules this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from ...errors import GsnnError, suggest
from ..light_curves import LightCurves
from .raw import CURVES, LISTS, TEXT, Field, Raw, as_lists, clean, values_of, words

EPOCHS = {
    "mjd": "MJD 0", "hmjd": "HMJD 0", "jd": "JD 0", "hjd": "HJD 0", "bjd": "BJD 0", "tjd": "BJD 2457000",
    "btjd": "BJD 2457000", "bkjd": "BJD 2454833", "midpointmjdtai": "MJD 0",
}  # fmt: skip
TIMES = ("time", "times", "t", "date", "obstime", *EPOCHS)
MAGNITUDES = ("mag", "mags", "magnitude", "psfmag", "magpsf")
FLUXES = ("flux", "fluxes", "fluxcal", "psfflux", "light", *MAGNITUDES)
ERRORS = (
    "err", "error", "errors", "unc", "sigma", "sigmapsf",
    *(flux + word for flux in FLUXES for word in ("err", "error", "unc", "sigma")),
    *(word + flux for flux in FLUXES for word in ("e", "d", "err", "error", "sigma")),
)  # fmt: skip
BANDS = ("band", "bands", "flt", "filter", "filters", "filtername", "passband", "filterid", "fid")
FILLERS = ("points", "obs", "values")
ZTF = {"1": "g", "2": "r", "3": "i"}  # the numbers of ZTF's filters
ORDER = "uUBbgGVvrRiIzZyYJHK"  # bands by wavelength
NONE = "unfiltered"  # the band where none is named
NO_MAGNITUDE = 90.0  # magnitudes beyond are the 99s and -99s of tables


@dataclass(frozen=True)
class Wanted:
    """What ``light_curve`` says. ``flux`` may be a list: of one column for each band.

    ``to_flux`` turns magnitudes into microjansky (AB). ``repeated`` says what becomes of several observations in one
    band at one time: the object is set aside, or they are combined, weighted by 1/error^2. ``bad_errors`` says it of
    errors that are not positive: the object is set aside, or the observations are dropped. ``flags`` is a column of
    bits that say what was wrong, and ``quality`` are those that disqualify an observation (all, if it is not given; of
    Kepler and TESS those that mean lost data).
    """

    name: str = "light_curve"
    time: str | None = None
    flux: str | list[str] | None = None
    error: str | list[str] | None = None
    band: str | None = None
    flags: str | None = None
    bands: list[str] | None = None
    unit: str | None = None
    time_unit: str | None = None
    epoch: str | None = None
    to_flux: bool = False
    repeated: Literal["quarantine", "combine"] = "quarantine"
    bad_errors: Literal["quarantine", "drop"] = "quarantine"
    quality: int | None = None

    @classmethod
    def of(cls, table: Mapping[str, Any] | None) -> Wanted:
        """From the table of a study or of ``gsnn ingest``."""
        from pydantic import TypeAdapter, ValidationError

        for key in table or {}:
            if key not in cls.__dataclass_fields__:
                raise GsnnError(f"light_curve: no key {key!r}; {suggest(key, cls.__dataclass_fields__)}")
        try:
            return TypeAdapter(cls).validate_python(dict(table or {}), strict=None)
        except ValidationError as error:
            first = error.errors()[0]
            raise GsnnError(f"light_curve: {first['loc'][0]} = {first['input']!r}: {first['msg'].lower()}") from error


PRESETS = (  # names that a table has, and what they mean
    (
        {"Rad", "Vobs", "errV", "Vgas", "Vdisk", "Vbul"},  # SPARC: Lelli et al. 2016, AJ 152, 157
        Wanted(
            time="Rad",
            flux=["Vobs", "Vgas", "Vdisk", "Vbul"],
            error="errV",
            unit="km/s",
            time_unit="kpc",
            epoch="the centre of the galaxy",
        ),
    ),
)


@dataclass(frozen=True)
class Parts:
    """The columns of one band, or of all bands if ``band`` is ''."""

    band: str
    time: str
    flux: str
    error: str
    flags: str = ""

    @property
    def columns(self) -> list[str]:
        return [name for name in (self.time, self.flux, self.error, self.flags) if name]


def parts_of(names: Sequence[str], wanted: Wanted) -> tuple[list[Parts], Wanted]:
    """Which columns hold times, fluxes and errors ([] if no name says so), and what is wanted, presets included."""
    for known, preset in PRESETS:
        if known <= set(names) and wanted.time is wanted.flux is None:
            given = {k: v for k in Wanted.__dataclass_fields__ if (v := getattr(wanted, k)) != getattr(Wanted(), k)}
            wanted = replace(preset, **given)
    found: dict[str, dict[str, str]] = {"time": {}, "flux": {}, "error": {}}
    for name in names:
        role, band, rank = _role(name)
        if role and (band not in found[role] or rank < _role(found[role][band])[2]):
            found[role][band] = name
    for role in ("time", "flux", "error", "flags"):
        given = getattr(wanted, role)
        for name in [given] if isinstance(given, str) else given or []:
            if name not in names:
                raise GsnnError(f"light_curve: no column {name!r} for {role}; {suggest(name, names)}")
    fluxes = wanted.flux
    if fluxes is None:
        fluxes = {"": found["flux"][""]} if "" in found["flux"] else found["flux"]
    elif isinstance(fluxes, str):
        fluxes = {"": fluxes}
    else:
        fluxes = dict(zip(wanted.bands or fluxes, fluxes))
    parts = []
    for number, (band, flux) in enumerate(fluxes.items()):
        mine = _role(flux)[1] or band
        time = wanted.time or found["time"].get(mine) or found["time"].get("")
        error = wanted.error or found["error"].get(mine) or found["error"].get("")
        error = error[number] if isinstance(error, list) and number < len(error) else error
        if time and isinstance(error, str):
            parts.append(Parts(band, time, flux, error, wanted.flags or ""))
        elif wanted.flux or wanted.time or wanted.error:
            lacking = "time" if not time else "error"
            raise GsnnError(f"light_curve: no column of the {lacking} of {flux!r}; name it by {lacking} = ...")
    return parts, wanted


def _role(name: str) -> tuple[str, str, int]:
    """Role ('' if none), band ('' if none is in the name) and rank among the names of that role."""
    tokens = [token for token in re.split(r"[^0-9A-Za-z]+", name) if token]
    plain = [token for token in tokens if token.lower() not in FILLERS]
    for some, band in ((plain, ""), (plain[:-1], plain[-1] if plain else ""), (plain[1:], plain[0] if plain else "")):
        word = "".join(some).lower()
        for role, known in (("time", TIMES), ("flux", FLUXES), ("error", ERRORS)):
            if word in known:
                return role, band, known.index(word)
    return "", "", 0


def about(parts: Sequence[Parts], wanted: Wanted, bands: Sequence[str], units: Mapping[str, str]) -> dict[str, Any]:
    """What a field of these light curves is, for ``Field``."""
    tokens = re.split(r"[^0-9a-z]+", parts[0].time.lower())
    epoch = next((EPOCHS[token] for token in tokens if token in EPOCHS), "")
    unit = units.get(parts[0].flux) or ("mag" if is_magnitude(parts[0].flux) else "")
    return {
        "kind": "light_curve",
        "unit": "uJy" if wanted.to_flux else wanted.unit or unit,
        "bands": tuple(bands),
        "time_unit": wanted.time_unit or units.get(parts[0].time) or ("d" if epoch else ""),
        "epoch": wanted.epoch or epoch,
    }


def is_magnitude(name: str) -> bool:
    return any(word in MAGNITUDES for word in re.split(r"[^a-z]+", name.lower()))


def by_wavelength(names: Iterable[str]) -> list[str]:
    """Bands from blue to red where they are single letters, else sorted."""
    names = sorted(set(names))
    return sorted(names, key=ORDER.index) if all(len(n) == 1 and n in ORDER for n in names) else names


def bands_of(parts: Sequence[Parts], wanted: Wanted) -> tuple[list[str], list[int]]:
    """The bands of a table without a column of bands, and the number of the band of each of its parts."""
    names = [one.band for one in parts]
    if names == [""]:
        if wanted.bands and len(wanted.bands) > 1:
            raise GsnnError(
                f"light_curve: {len(wanted.bands)} bands, and no column says which an observation is in; name it by "
                "band = ..."
            )
        return wanted.bands or [NONE], [0]
    bands = wanted.bands or (names if wanted.flux else by_wavelength(names))
    strange = [name for name in names if name not in bands]
    if strange:
        raise GsnnError(f"light_curve: there are columns of the band {strange[0]!r}, which is not among its bands")
    return list(bands), [bands.index(name) for name in names]


def numbered(names_: pa.Array, wanted: Wanted, column: str) -> tuple[np.ndarray, list[str]]:
    """The number of each observation's band (255 where ``bands`` does not name it), and the bands."""
    coded = names_.dictionary_encode()
    names = coded.dictionary.to_pylist()
    if column.lower() in ("filterid", "fid") and set(names) <= {*ZTF, None}:
        names = [ZTF.get(name) for name in names]
        bands = wanted.bands or list(ZTF.values())
    else:
        bands = wanted.bands or by_wavelength(name for name in names if name is not None)
    if len(bands) > 255:
        raise GsnnError(f"the column {column!r} names {len(bands)} bands, and a light curve may have 255")
    place = {name: k for k, name in enumerate(bands)}
    table = np.array([*(place.get(name, 255) for name in names), 255], np.uint8)
    return table[np.asarray(coded.indices.fill_null(len(names)))], list(bands)


def gathered(
    owner: Int64[np.ndarray, " observation"], objects: int, columns: Sequence[np.ndarray], wanted: Wanted
) -> LightCurves:
    """Light curves of observations (time, flux, error, band) that ``owner`` gives to objects; -1 is of none.

    An observation without a time or a flux is none. Magnitudes become fluxes if that is wanted, and observations with
    bad errors or repeated times what is wanted of them.
    """
    time, flux, error, band = columns
    flux, error = np.asarray(flux, float), np.asarray(error, float)
    good = (owner >= 0) & np.isfinite(time) & np.isfinite(flux)
    if wanted.bad_errors == "drop":
        good &= error > 0
    owner, time, flux, error, band = (part[good] for part in (owner, time, flux, error, band))
    if wanted.to_flux:
        flux = 10 ** (-0.4 * (flux - 23.9))
        error = error * flux * np.log(10) / 2.5
    order = np.lexsort((band, time, owner))
    owner, time, flux, error, band = (part[order] for part in (owner, time, flux, error, band))
    if wanted.repeated == "combine" and len(owner):
        owner, time, flux, error, band = _combined(owner, time, flux, error, band)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=objects))]).astype(np.int64)
    return LightCurves(
        time.astype(np.float64), flux.astype(np.float32), error.astype(np.float32), band.astype(np.uint8), offsets
    )


def _combined(owner: np.ndarray, time: np.ndarray, flux: np.ndarray, error: np.ndarray, band: np.ndarray) -> tuple:
    """One observation for each object, time and band: means weighted by 1/error^2."""
    change = (np.diff(owner) != 0) | (np.diff(time) != 0) | (np.diff(band) != 0)
    first = np.flatnonzero(np.concatenate([[True], change]))
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(error > 0, error, np.nan) ** -2.0
        total = np.add.reduceat(weight, first)
        mean, scatter = np.add.reduceat(weight * flux, first) / total, total**-0.5
    alone = np.diff(np.append(first, len(owner))) == 1
    mean, scatter = np.where(alone, flux[first], mean), np.where(alone, error[first], scatter)
    return owner[first], time[first], mean, scatter, band[first]


def without_stand_ins(values: np.ndarray, name: str) -> np.ndarray:
    """Magnitudes of 99 and -99 are none."""
    values = np.asarray(values, float)
    return np.where(np.abs(values) >= NO_MAGNITUDE, np.nan, values) if is_magnitude(name) else values


def unflagged(columns: Sequence[np.ndarray], names: Sequence[str], wanted: Wanted) -> list[np.ndarray]:
    """Time, flux and error of the columns of a part: without stand-ins, and without a flux where a flag forbids it."""
    time, flux, error = (without_stand_ins(values, name) for values, name in zip(columns[:3], names))
    for flags in columns[3:]:
        bits = np.nan_to_num(flags).astype(np.int64) & (-1 if wanted.quality is None else wanted.quality)
        flux = np.where(bits == 0, flux, np.nan)
    return [time, flux, error]


def with_lists(raw: Raw, given: Wanted | None) -> Raw:
    """``raw`` with the light curves that lie in its cells as lists; other lists are left out, and that is told."""
    if any(one.dtype == CURVES for one in raw.fields):  # it has light curves already
        return _without_lists(raw, [one.name for one in raw.fields if one.dtype == LISTS])
    likely = [one.name for one in raw.fields if one.dtype == LISTS or one.listed]
    if likely and parts_of(likely, given or Wanted())[0]:  # lists that only happen to have one length belong to them
        raw = replace(raw, fields=[as_lists(one) for one in raw.fields])
    lists = {one.name: one for one in raw.fields if one.dtype == LISTS}
    if not lists:
        if given is not None:
            raise GsnnError(f"{raw.stem} has no columns that hold light curves; take light_curve out of its settings")
        return raw
    parts, wanted = parts_of(list(lists), given or Wanted())
    used = {name for one in parts for name in one.columns}
    left = [name for name in lists if name not in used]
    rest = [one for one in raw.fields if one.dtype != LISTS]
    if not parts:
        if given is not None:
            raise GsnnError(
                f"{raw.stem}: no columns of lists are the time, flux and error of a light curve; name them by "
                f"light_curve = {{ time = ..., flux = ..., error = ... }} (there are {', '.join(lists)})"
            )
        return _without_lists(raw, left)
    band = band_column(rest, wanted)
    if band is None:
        bands, fixed = bands_of(parts, wanted)
    else:
        codes, bands = numbered(words(values_of(raw, band)), wanted, band.name)
        fixed = [0] * len(parts)
    units = {one.name: one.unit for one in raw.fields}

    def take(indices: np.ndarray, reasons: list[str | None]) -> LightCurves:
        pieces = []
        for one, its in zip(parts, fixed):
            columns, lengths = [], []
            for name in one.columns:
                values = lists[name].arrow(indices, reasons)
                lengths.append(np.asarray(values.value_lengths().fill_null(0)))
                columns.append(np.asarray(values.flatten().cast(pa.float64())))
            uneven = np.any([length != lengths[0] for length in lengths], axis=0)
            for at in np.flatnonzero(uneven):
                told = ", ".join(f"{name} {length[at]}" for name, length in zip(one.columns, lengths))
                reasons[at] = reasons[at] or f"its lists are of unequal lengths: {told}"
            rows = np.arange(len(indices))
            keep = [~uneven.repeat(length) for length in lengths]
            columns = unflagged([column[some] for column, some in zip(columns, keep)], one.columns, wanted)
            owner = rows.repeat(np.where(uneven, 0, lengths[0]))
            number = codes[indices][owner] if band is not None else np.full(len(owner), its)
            pieces.append((owner, *columns, number))
        owner, *columns = (np.concatenate(some) for some in zip(*pieces))
        return gathered(owner, len(indices), columns, wanted)

    field = Field(wanted.name, CURVES, take, **about(parts, wanted, bands, units))
    raw = _without_lists(raw, left)
    return replace(raw, fields=[field, *(one for one in rest if one is not band)])


def _without_lists(raw: Raw, left: Sequence[str]) -> Raw:
    """Without lists, of which those in ``left`` are told."""
    notes = [f"columns of unequal lists were left out: {', '.join(left)}"] if left else []
    return replace(raw, fields=[one for one in raw.fields if one.dtype != LISTS], notes=[*raw.notes, *notes])


def band_column(fields: Iterable[Field], wanted: Wanted) -> Field | None:
    by_name = {clean([one.name])[0]: one for one in fields if not one.shape and one.dtype not in (LISTS, CURVES)}
    if wanted.band is not None:
        if wanted.band not in by_name:
            raise GsnnError(f"light_curve: no column {wanted.band!r} for band; {suggest(wanted.band, by_name)}")
        return by_name[wanted.band]
    found = [one for name, one in by_name.items() if name.lower() in BANDS]
    return min(found, key=lambda one: BANDS.index(one.name.lower()), default=None)


def floats(raw: Raw, one: Field) -> np.ndarray:
    """A column as floats, NaN where it is missing."""
    if one.dtype == TEXT:
        raise GsnnError(f"{raw.stem}: the column {one.name!r} holds words, and a light curve is of numbers")
    return np.asarray(values_of(raw, one).cast(pa.float64()).fill_null(np.nan))
