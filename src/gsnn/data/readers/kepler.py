"""Light curves of Kepler, K2 and TESS as their pipelines write them: a FITS file a star and quarter (or sector).

The quarters of a star are stitched: each is divided by its median flux, since the detector, and so the sensitivity,
changes between them. Cadences without a time or a flux, with a flux of no positive error, or with flags that
disqualify them are dropped. Formats: Kepler Archive Manual (KDMC-10008), TESS Science Data Products (EXP-TESS-ARC-ICD).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import GsnnError
from ..light_curves import LightCurve, LightCurves
from .curves import Wanted
from .fits import opened
from .raw import CURVES, TEXT, Field, Raw, Reasons, of_array

KEPLER_BAD = 1 | 2 | 4 | 8 | 32 | 256 | 1 << 14 | 1 << 16 | 1 << 20
TESS_BAD = 1 | 2 | 4 | 8 | 16 | 32 | 128 | 512 | 1 << 14
# attitude tweaks, safe modes, coarse and Earth pointing, desaturations, manual exclusions; Kepler: detector anomalies,
# no data, thruster firings; TESS: Argabrightenings, impulsive outliers, bad calibration
STAR = {  # what the headers say of the star, and its unit
    "RA_OBJ": ("ra", "deg"), "DEC_OBJ": ("dec", "deg"), "KEPMAG": ("kepmag", "mag"), "TESSMAG": ("tessmag", "mag"),
    "TEFF": ("teff", "K"), "LOGG": ("logg", "dex"), "FEH": ("feh", "dex"), "MH": ("feh", "dex"),
    "RADIUS": ("radius", "solRad"), "PMRA": ("pmra", ""), "PMDEC": ("pmdec", ""), "EBMINUSV": ("ebv", "mag"),
}  # fmt: skip


def is_light_curve(path: str) -> bool:
    """Whether a FITS file is such a product."""
    try:
        with opened(path) as hdus:
            if len(hdus) < 2 or str(hdus[0].header.get("TELESCOP", "")).strip().lower() not in ("kepler", "tess"):
                return False
            names = set(getattr(getattr(hdus[1], "columns", None), "names", None) or ())
            return "TIME" in names and bool({"PDCSAP_FLUX", "SAP_FLUX"} & names)
    except GsnnError:
        return False


def read_light_curves(paths: Sequence[str], wanted: Wanted) -> Raw:
    """A star a row, with all its quarters or sectors in one light curve; those that cannot be used are told of."""
    stars: dict[tuple[str, bool], list[dict[str, Any]]] = defaultdict(list)
    bad: list[tuple[str, str]] = []
    for path in paths:
        try:
            about = _header(path)
            stars[about["star"], about["short"]].append(about)
        except GsnnError as error:
            bad.append((path, str(error)))
    if not stars:
        raise GsnnError(bad[0][1] if bad else "there are no light curves to read")
    missions = sorted({one["mission"] for files in stars.values() for one in files})
    if len(missions) > 1:
        raise GsnnError(f"these are light curves of {' and '.join(missions)}, whose times differ; read them apart")
    keys = sorted(stars)
    twice = {star for star, short in keys if short and (star, False) in stars}
    ids = [f"{star} short cadence" if short and star in twice else star for star, short in keys]
    files = [sorted(stars[key], key=lambda one: (one["number"], one["path"])) for key in keys]
    column = wanted.flux if isinstance(wanted.flux, str) else "PDCSAP_FLUX"
    if column not in ("PDCSAP_FLUX", "SAP_FLUX"):
        raise GsnnError(f"light_curve: flux = {column!r}; Kepler and TESS have PDCSAP_FLUX and SAP_FLUX")
    quality = wanted.quality if wanted.quality is not None else KEPLER_BAD if missions == ["Kepler"] else TESS_BAD

    @lru_cache(maxsize=64)
    def stitched(row: int) -> tuple[LightCurve, str]:
        pieces, left = [], []
        for one in files[row]:
            try:
                pieces.append(_quarter(one["path"], column, quality))
            except GsnnError as error:
                left.append(f"{one['what']}: {error}")
        return _joined(pieces), "; ".join(left)

    def curves(rows: np.ndarray, reasons: Reasons) -> LightCurves:
        found = [stitched(int(row)) for row in rows]
        for at, (curve, left) in enumerate(found):
            if not len(curve.time):
                reasons[at] = reasons[at] or f"no part of the light curve can be used ({left})"
        return LightCurves.of([curve for curve, _ in found])

    def left_out(rows: np.ndarray, _: Reasons) -> pa.Array:
        return pa.array([stitched(int(row))[1] or None for row in rows], pa.string())

    first = files[0][0]
    about = {"kind": "light_curve", "bands": (missions[0],), "time_unit": "d", "epoch": first["epoch"]}
    what = f"{column} over its median in each part"
    fields = [of_array("id", np.array(ids, dtype=object), kind="id")]
    fields.append(Field(wanted.name, CURVES, curves, description=what, **about))
    for name, unit in dict(STAR.values()).items():
        values = np.array([one[0]["about"].get(name, np.nan) for one in files], float)
        if np.isfinite(values).any():
            fields.append(of_array(name, values, unit=unit))
    fields.append(of_array("cadence", np.array([one[0]["cadence"] for one in files]), unit="d"))
    fields.append(of_array("parts", np.array([len(one) for one in files]), description="quarters or sectors"))
    fields.append(Field("left_out", TEXT, left_out, kind="text", description="parts that cannot be used, and why"))
    notes = [f"{len(bad)} of {len(paths)} files were left out; the first: {bad[0][1]}"] if bad else []
    notes += [f"light curves: {len(keys)}, from {len(paths) - len(bad)} files of {missions[0]}"]
    return Raw(ids[0], len(keys), fields, "fits", notes=notes, files=list(paths))


def _header(path: str) -> dict[str, Any]:
    """Star, mission, quarter or sector, cadence and what the headers say of the star."""
    with opened(path) as hdus:
        first, table = hdus[0].header, hdus[1].header
        mission = "TESS" if str(first.get("TELESCOP")).strip().lower() == "tess" else "Kepler"
        reference = float(table.get("BJDREFI", 0)) + float(table.get("BJDREFF", 0))
        number = next((first[key] for key in ("QUARTER", "SECTOR", "CAMPAIGN") if first.get(key) is not None), 0)
        name = "SECTOR" if mission == "TESS" else "CAMPAIGN" if "CAMPAIGN" in first else "QUARTER"
        star = str(first.get("OBJECT") or "").strip() or path
        about = {new: first[key] for key, (new, _) in STAR.items() if isinstance(first.get(key), (int, float))}
        cadence = float(table.get("TIMEDEL") or np.nan)
    return {
        "path": path, "mission": mission, "star": star, "number": number, "what": f"{name.lower()} {number}",
        "short": cadence < 0.005, "cadence": cadence, "epoch": f"BJD {reference:.10g}", "about": about,
    }  # fmt: skip


def _quarter(path: str, column: str, quality: int) -> LightCurve:
    """One quarter or sector, divided by its median flux."""
    with opened(path) as hdus:
        table = hdus[1].data
        if column not in table.names:
            raise GsnnError(f"it has no {column}")
        flags = next((n for n in ("SAP_QUALITY", "QUALITY") if n in table.names), None)
        time, flux, error = (np.asarray(table[n], float) for n in ("TIME", column, f"{column}_ERR"))
        good = np.ones(len(time), bool) if flags is None else (np.asarray(table[flags]).astype(np.int64) & quality) == 0
    good &= np.isfinite(time) & np.isfinite(flux) & (error > 0)
    if not good.any():
        what = (
            "no flux is a number"
            if not np.isfinite(flux).any()
            else "no cadence has a flux, a positive error and no flag"
        )
        raise GsnnError(what)
    time, flux, error = time[good], flux[good], error[good]
    median = float(np.median(flux))
    if not median > 0:
        raise GsnnError(f"its median flux, {median:g}, is not positive")
    return LightCurve(time, np.float32(flux / median), np.float32(error / median), np.zeros(len(time), np.uint8))


def _joined(pieces: Sequence[LightCurve]) -> LightCurve:
    if not pieces:
        return LightCurve(np.empty(0), np.empty(0, np.float32), np.empty(0, np.float32), np.empty(0, np.uint8))
    return LightCurve(*(np.concatenate(parts) for parts in zip(*pieces)))
