"""Small alert packets in the public schemas of ZTF and LSST, as bytes."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import fastavro
import numpy as np

NUMBER, WORD = ["null", "double"], ["null", "string"]


def _record(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    optional = {"default": None}
    listed = [
        {"name": key, "type": kind, **(optional if isinstance(kind, list) and kind[0] == "null" else {})}
        for key, kind in fields.items()
    ]
    return {"type": "record", "name": name, "fields": listed}


def _many(items: Any) -> list[Any]:
    return ["null", {"type": "array", "items": items}]


_SEEN = {"jd": "double", "fid": "int", "pid": "long", "isdiffpos": WORD, "magpsf": NUMBER, "sigmapsf": NUMBER}
_OWN = {
    "ra": "double", "dec": "double", "candid": "long", "rb": NUMBER, "drb": NUMBER, "ssdistnr": NUMBER,
    "ssnamenr": WORD, "ndethist": "int", "xpos": NUMBER, "ypos": NUMBER,
}  # fmt: skip
_FORCED = {
    "jd": "double", "fid": "int", "procstatus": WORD, "magzpsci": NUMBER, "forcediffimflux": NUMBER,
    "forcediffimfluxunc": NUMBER,
}  # fmt: skip
_CUTOUT = {"fileName": "string", "stampData": "bytes"}
ZTF = _record(
    "ztf.alert",
    {
        "schemavsn": "string",
        "objectId": "string",
        "candid": "long",
        "candidate": _record("ztf.alert.candidate", {**_SEEN, **_OWN}),
        "prv_candidates": _many(_record("ztf.alert.prv_candidate", _SEEN)),
        "fp_hists": _many(_record("ztf.alert.fp_hist", _FORCED)),
        "cutoutScience": ["null", _record("ztf.alert.cutout", _CUTOUT)],
        "cutoutTemplate": ["null", "ztf.alert.cutout"],
        "cutoutDifference": ["null", "ztf.alert.cutout"],
    },
)
_SOURCE = {
    "diaSourceId": "long", "visit": "long", "detector": "int", "diaObjectId": ["null", "long"],
    "ssObjectId": ["null", "long"], "midpointMjdTai": "double", "ra": "double", "dec": "double", "x": "float",
    "y": "float", "psfFlux": NUMBER, "psfFluxErr": NUMBER, "reliability": NUMBER, "band": WORD, "snr": NUMBER,
}  # fmt: skip
_POINT = {
    "diaForcedSourceId": "long", "diaObjectId": "long", "ra": "double", "dec": "double", "visit": "long",
    "midpointMjdTai": "double", "psfFlux": NUMBER, "psfFluxErr": NUMBER, "band": WORD,
}  # fmt: skip
LSST = _record(
    "alert",
    {
        "diaSourceId": "long",
        "diaSource": _record("diaSource", _SOURCE),
        "prvDiaSources": _many("lsst.v10_0.diaSource"),
        "prvDiaForcedSources": _many(_record("diaForcedSource", _POINT)),
        "diaObject": ["null", _record("diaObject", {"diaObjectId": "long", "nDiaSources": "int"})],
        "cutoutDifference": ["null", "bytes"],
        "cutoutScience": ["null", "bytes"],
        "cutoutTemplate": ["null", "bytes"],
    },
) | {"namespace": "lsst.v10_0"}


def stamp(value: float = 0.0, shape: tuple[int, int] = (63, 63), packed: bool = True, fill: bool = False) -> bytes:
    """A FITS image that counts its pixels from ``value`` on; with ``fill`` the last is the lowest number there is."""
    from astropy.io import fits

    buffer = io.BytesIO()
    pixels = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + np.float32(value)
    pixels[-1, -1] = np.finfo(np.float32).min if fill else pixels[-1, -1]
    fits.PrimaryHDU(pixels).writeto(buffer)
    return gzip.compress(buffer.getvalue(), mtime=0) if packed else buffer.getvalue()


def ztf_record(number: int = 1, previous: int = 3, **changes: Any) -> dict[str, Any]:
    """A ZTF alert: magnitudes brighten by 0.1 a day; every other previous exposure shows nothing."""

    def seen(i: int) -> dict[str, Any]:
        found = i == previous or i % 2 == 0
        about = {"isdiffpos": "t", "magpsf": 20 - 0.1 * i, "sigmapsf": 0.1} if found else {}
        return {"jd": 2460000.5 + i, "fid": 1 + i % 2, "pid": i, **about}

    own = {
        **seen(previous), "ra": 10.0 + number, "dec": -5.0, "candid": number, "rb": 0.9, "drb": 0.99,
        "ssdistnr": -999.0, "ssnamenr": "null", "ndethist": 2, "xpos": 1000.0, "ypos": 1000.0,
    }  # fmt: skip
    cut = {"fileName": "stamp.fits.gz", "stampData": stamp(number)}
    record = {
        "schemavsn": "4.02",
        "objectId": f"ZTF26{number:06d}",
        "candid": number,
        "candidate": own,
        "prv_candidates": [seen(i) for i in range(previous)],
        "fp_hists": None,
        **{f"cutout{part}": cut for part in ("Science", "Template", "Difference")},
    }
    record["candidate"] = own | changes.pop("candidate", {})
    return record | changes


def lsst_record(number: int = 1, **changes: Any) -> dict[str, Any]:
    """An LSST alert: flux 1000 nJy now and 500 nJy before, forced photometry of 20 nJy the night before that."""

    def source(i: int, time: float, flux: float) -> dict[str, Any]:
        return {
            "diaSourceId": i, "visit": i, "detector": 3, "diaObjectId": 77, "midpointMjdTai": time, "ra": 150.0,
            "dec": 2.0, "x": 100.0, "y": 200.0, "psfFlux": flux, "psfFluxErr": 10.0, "reliability": 0.8, "band": "r",
        }  # fmt: skip

    point = {
        "diaForcedSourceId": 5, "diaObjectId": 77, "ra": 150.0, "dec": 2.0, "visit": 3, "midpointMjdTai": 61000.0,
        "psfFlux": 20.0, "psfFluxErr": 15.0, "band": "i",
    }  # fmt: skip
    return {
        "diaSourceId": number,
        "diaSource": source(number, 61002.0, 1000.0),
        "prvDiaSources": [source(number + 1, 61001.0, 500.0)],
        "prvDiaForcedSources": [point],
        "diaObject": {"diaObjectId": 77, "nDiaSources": 2},
        **{f"cutout{part}": stamp(number, (31, 31), False) for part in ("Science", "Template", "Difference")},
    } | changes


def container(schema: dict[str, Any], *records: dict[str, Any], codec: str = "null") -> bytes:
    """An Avro object container with these records."""
    buffer = io.BytesIO()
    fastavro.writer(buffer, fastavro.parse_schema(schema), records, codec=codec, sync_marker=bytes(range(16)))
    return buffer.getvalue()


def numbered(schema: dict[str, Any], record: dict[str, Any], number: int) -> bytes:
    """A bare record behind the number of its schema, as a registry's clients write it."""
    buffer = io.BytesIO(b"\0" + number.to_bytes(4, "big"))
    buffer.seek(5)
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema), record)
    return buffer.getvalue()


LSST_JSON = json.dumps(LSST)
