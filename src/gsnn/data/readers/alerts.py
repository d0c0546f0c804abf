"""What the record of an alert packet means: ZTF, LSST, Palomar Gattini-IR (PGIR) and WINTER.

Fluxes are differences to the reference image in microjansky: those of LSST are given, magnitudes m become
10^(-0.4 (m - 23.9)) with the sign of the difference (AB magnitudes; PGIR calibrates on 2MASS, so its fluxes count from
the zero point of Vega). Non-detections enter where their flux was measured (forced photometry) and not as the limits
that older packets give. Schemas: Bellm et al. 2019, PASP 131, 018002 and ZTF's public schemas 3.2 to 4.02 for ZTF;
LSST's alert packet schema (DMTN-093, DPDD) 5 to 11.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from ...errors import GsnnError
from ..light_curves import LightCurve

PARTS = ("science", "template", "difference")
MOST_STAMP = 1 << 20  # bytes of an unpacked stamp
FILL = 1e30  # pixels beyond are fill values: ZTF writes the lowest float32
JD_OF_MJD = 2400000.5
NO_VALUE = (-99.0, -999.0, -9999.0, -99999.0)  # what the packets write for "no value"
NAMES = ("pid", "nid", "tblid", "candid", "rfid", "programid", "visit")  # of files and programmes, not of the sky


@dataclass(frozen=True)
class Sky:
    """What is the same in every alert of a survey: its bands by the numbers or words of the packets, and its stamps."""

    numbers: tuple[Any, ...]
    bands: tuple[str, ...]
    side: int  # pixels of a stamp
    pixel_scale: float | None = None

    def band(self, value: Any) -> int:
        if value not in self.numbers:
            known = ", ".join(self.bands)
            raise GsnnError(f"an observation is in the band {value!r}, which the survey does not have (it has {known})")
        return self.numbers.index(value)


SKIES = {
    "ztf": Sky((1, 2, 3), ("g", "r", "i"), 63, 1.012),
    "lsst": Sky(tuple("ugrizy"), tuple("ugrizy"), 31, 0.2),
    "pgir": Sky((None,), ("J",), 61),
    "winter": Sky((1, 2, 3), ("Y", "J", "H"), 81),
}


def alert(schema: str, record: dict[str, Any], *, stamps: bool = True, numbers: bool = True) -> dict[str, Any]:
    """The columns of one record (those of ``avro.decode``); ``schema`` is the name of its schema, as "ztf.alert"."""
    survey = schema.split(".")[0]
    if survey not in SKIES:
        raise GsnnError(f"the Avro record is a {schema[:40]!r}, not an alert of {', '.join(SKIES)}")
    try:
        return (_of_lsst if survey == "lsst" else _of_candidate)(survey, record, stamps, numbers)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else f"holds what no alert does ({error})"
        raise GsnnError(f"the alert packet of {survey} {what}") from error


def _of_candidate(survey: str, record: dict[str, Any], stamps: bool, numbers: bool) -> dict[str, Any]:
    """ZTF and those that follow its schema: ``candidate``, ``prv_candidates``, and ``fp_hists`` since version 4."""
    sky, own = SKIES[survey], record["candidate"]
    seen = [_forced(sky, one) for one in record.get("fp_hists") or []]
    seen += [_detection(sky, one) for one in (own, *(record.get("prv_candidates") or []))]
    names = [f"cutout{part.title()}" for part in PARTS] + [f"cutout_{part}" for part in PARTS]
    cut = [record[name] for name in names if name in record]
    packed = [one.get("stampData") if isinstance(one, dict) else one for one in cut]
    object_id = record["objectId"] if "objectId" in record else record["objectid"]
    corner = (own.get("xpos"), own.get("ypos"))
    return {
        **_about(survey, record["candid"], object_id, own, seen, packed),
        **({"stamps": _stamps(packed, sky.side, corner)} if stamps else {}),
        **(_numbers(own) if numbers else {}),
    }


def _detection(sky: Sky, one: dict[str, Any]) -> tuple[float, float, float, int] | None:
    """Time [MJD], flux, error [uJy] and band of a detection; None of a limit."""
    magnitude, error = one.get("magpsf"), one.get("sigmapsf")
    if magnitude is None or error is None or magnitude in NO_VALUE or error in NO_VALUE:
        return None
    sign = 1.0 if one.get("isdiffpos") in ("t", "1", True) else -1.0
    flux = 10 ** (-0.4 * (magnitude - 23.9))
    return one["jd"] - JD_OF_MJD, sign * flux, flux * error * np.log(10) / 2.5, sky.band(one.get("fid"))


def _forced(sky: Sky, one: dict[str, Any]) -> tuple[float, float, float, int] | None:
    """The same of forced photometry, given in counts; None where it failed."""
    flux, error, zero = one.get("forcediffimflux"), one.get("forcediffimfluxunc"), one.get("magzpsci")
    if flux is None or error is None or zero is None or flux in NO_VALUE or error in NO_VALUE:
        return None
    unit = 10 ** (-0.4 * (zero - 23.9))
    return one["jd"] - JD_OF_MJD, flux * unit, error * unit, sky.band(one.get("fid"))


def _of_lsst(survey: str, record: dict[str, Any], stamps: bool, numbers: bool) -> dict[str, Any]:
    """LSST: ``diaSource``, ``prvDiaSources``, ``prvDiaForcedSources`` and ``diaObject``."""
    sky, own = SKIES[survey], record["diaSource"]
    sources = [*(record.get("prvDiaForcedSources") or []), own, *(record.get("prvDiaSources") or [])]
    seen = [_source(sky, one) for one in sources]
    packed = [record.get(f"cutout{part.title()}") for part in PARTS]
    whole = record.get("diaObject") or {}
    names = (whole.get("diaObjectId"), own.get("diaObjectId"), own.get("ssObjectId"))
    object_id = next((one for one in names if one), own["diaSourceId"])
    return {
        **_about(survey, own["diaSourceId"], object_id, own, seen, packed),
        **({"stamps": _stamps(packed, sky.side, (None, None))} if stamps else {}),
        **(_numbers(own) if numbers else {}),
    }


def _source(sky: Sky, one: dict[str, Any]) -> tuple[float, float, float, int] | None:
    """Time [MJD, TAI], flux, error [uJy] and band of a source; the names are those of schema 4 on, or older ones."""
    flux, error = (_first(one, f"psfFlux{end}", f"psFlux{end}") for end in ("", "Err"))
    time, band = _first(one, "midpointMjdTai", "midPointTai"), _first(one, "band", "filterName")
    return None if flux is None or error is None else (time, flux / 1000, error / 1000, sky.band(band))


def _first(one: dict[str, Any], *names: str) -> Any:
    return next((one[name] for name in names if one.get(name) is not None), None)


def _about(survey: str, name: Any, object_id: Any, own: dict[str, Any], seen: Iterable, packed: list) -> dict[str, Any]:
    return {
        "survey": survey,
        "id": str(name),
        "object_id": str(object_id),
        "ra": float(own["ra"]),
        "dec": float(own["dec"] if "dec" in own else own["decl"]),
        "light_curve": _light_curve(seen),
        "has_stamps": any(packed),
    }


def _light_curve(seen: Iterable[tuple[float, float, float, int] | None]) -> LightCurve:
    """The observations in order of time; of two of one exposure in one band the first stands."""
    kept: dict[tuple[int, int], tuple[float, float, float, int]] = {}
    for one in seen:
        if one is not None:
            kept.setdefault((round(one[0] * 1e5), one[3]), one)  # to a second
    rows = sorted(kept.values())
    time, flux, error, band = zip(*rows) if rows else ((), (), (), ())
    return LightCurve(np.array(time, float), np.float32(flux), np.float32(error), np.array(band, np.uint8))


def _numbers(own: dict[str, Any]) -> dict[str, float]:
    """Every number of the detection; NaN where there is none."""
    out = {}
    for name, value in own.items():
        if name in NAMES or name in ("ra", "dec", "decl") or name.lower().endswith(("id", "id1", "id2", "id3")):
            continue
        if name.startswith("objectid") or isinstance(value, (dict, list, bytes)):
            continue
        if name == "isdiffpos":
            value = value in ("t", "1", True)
        if value is None or isinstance(value, (bool, int, float)):
            out[name] = float("nan") if value is None or value in NO_VALUE else float(value)
    return out


def _stamps(
    packed: list[bytes | None], side: int, corner: tuple[float | None, float | None]
) -> Float32[np.ndarray, "3 y x"] | None:
    """Science, template and difference; ``corner`` is where the object lies on its image [pixel]."""
    if not any(packed):
        return None
    out = np.full((len(PARTS), side, side), np.nan, np.float32)
    for plane, data in zip(out, packed):
        if data:
            _lay(plane, _pixels(data), corner)
    return out


def _lay(plane: np.ndarray, pixels: np.ndarray, corner: tuple[float | None, float | None]) -> None:
    """Put a stamp into a square with the object at the centre. A stamp that the edge of the image cuts lies at the side
    away from that edge, which ``corner`` tells."""
    into, out_of = [], []
    for length, have, place in zip(plane.shape, pixels.shape, corner[::-1]):
        if have >= length:
            into.append(slice(None))
            out_of.append(slice((have - length) // 2, (have - length) // 2 + length))
            continue
        near = place is not None and place <= length / 2
        start = (length - have) // 2 if place is None else length - have if near else 0
        into.append(slice(start, start + have))
        out_of.append(slice(None))
    plane[tuple(into)] = pixels[tuple(out_of)]


def _pixels(data: bytes) -> Float32[np.ndarray, "y x"]:
    """The image of a small FITS file, gzipped or not (FITS standard 4.0, 4 and 5); a tenth of the time of a library."""
    if data[:2] == b"\x1f\x8b":
        data = unpacked(data, MOST_STAMP)
    if data[:6] != b"SIMPLE" or len(data) > MOST_STAMP:
        raise GsnnError(f"a stamp of the alert packet is no FITS image (it begins with {data[:8]!r})")
    cards: dict[bytes, bytes] = {}
    for at in range(0, len(data), 80):
        card = data[at : at + 80]
        if card[:8].rstrip() == b"END":
            break
        cards[card[:8].rstrip()] = card[9:].split(b"/")[0].strip()
    else:
        raise GsnnError("a stamp of the alert packet is truncated: its header has no end")
    numbers = {name: float(cards.get(name, default)) for name, default in _CARDS}
    kind = {-64: ">f8", -32: ">f4", 8: "u1", 16: ">i2", 32: ">i4", 64: ">i8"}.get(int(numbers[b"BITPIX"]))
    shape = (int(numbers[b"NAXIS2"]), int(numbers[b"NAXIS1"]))
    if kind is None or numbers[b"NAXIS"] != 2 or not 0 < min(shape) <= max(shape) <= 4096:
        raise GsnnError("a stamp of the alert packet is no image of two axes")
    start, count = at + 80 + (-(at + 80)) % 2880, shape[0] * shape[1]
    if len(data) < start + count * np.dtype(kind).itemsize:
        raise GsnnError(f"a stamp of the alert packet is truncated: it announces {shape[0]} x {shape[1]} pixels")
    pixels = np.frombuffer(data, kind, count, start).reshape(shape).astype(np.float32)
    pixels[~(np.abs(pixels) < FILL)] = np.nan
    scale, zero = numbers[b"BSCALE"], numbers[b"BZERO"]
    return pixels if scale == 1 and zero == 0 else pixels * np.float32(scale) + np.float32(zero)


_CARDS = ((b"BITPIX", 0), (b"NAXIS", 0), (b"NAXIS1", 0), (b"NAXIS2", 0), (b"BSCALE", 1), (b"BZERO", 0))


def unpacked(data: bytes, most: int, window: int = 31) -> bytes:
    """Deflated (``window`` -15) or gzipped (31) bytes, refused beyond ``most``: a few of them may hide gigabytes."""
    engine = zlib.decompressobj(window)
    out = engine.decompress(data, most)
    if engine.unconsumed_tail:
        raise GsnnError(f"the alert packet unpacks to more than {most >> 10} KiB, which no alert needs")
    if not engine.eof:
        raise GsnnError("the alert packet is damaged or truncated (a compressed part ends early)")
    return out
