"""Alert packets in ZTF's public schema, made here: a night for a replay, a test or a benchmark where none is at hand.

The fields are those of ZTF's alerts (Bellm et al. 2019, PASP 131, 018002, and the documentation of its schema 3.3);
those that a made object does not have are filled with plausible numbers, so that a packet costs what a real one costs.
"""

from __future__ import annotations

import gzip
import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from ..data.light_curves import LightCurve
from ..data.readers.alerts import JD_OF_MJD, SKIES
from ..errors import GsnnError, on_disk


def _words(text: str) -> list[str]:
    return text.split()


CLASSES = ("supernova", "variable star")
_MAYBE_FLOAT = _words(
    "diffmaglim xpos ypos magpsf sigmapsf chipsf magap sigmagap distnr magnr sigmagnr chinr sharpnr sky magdiff fwhm "
    "classtar mindtoedge magfromlim seeratio aimage bimage aimagerat bimagerat elong rb ssdistnr ssmagnr sumrat "
    "magapbig sigmagapbig magzpsci magzpsciunc magzpscirms clrcoeff clrcounc"
)
_OWN_FLOAT = _words(
    "sgmag1 srmag1 simag1 szmag1 sgscore1 distpsnr1 sgmag2 srmag2 simag2 szmag2 sgscore2 distpsnr2 sgmag3 srmag3 "
    "simag3 szmag3 sgscore3 distpsnr3 dsnrms ssnrms dsdiff zpclrcov zpmed clrmed clrrms neargaia neargaiabright "
    "maggaia maggaiabright exptime drb"
)
_MAYBE_DOUBLE, _OWN_DOUBLE = ("ra", "dec", "ranr", "decnr", "scorr"), ("jdstarthist", "jdendhist")
_MAYBE_INT, _MAYBE_LONG = ("nid", "rcid", "field", "nneg", "nbad", "tooflag"), ("candid", "tblid")
_OWN_INT = ("ndethist", "ncovhist", "nmtchps", "nframesref", "nmatches")
_MAYBE_WORD = ("pdiffimfilename", "programpi", "isdiffpos", "ssnamenr", "rbversion")


def _maybe(kind: Any) -> list[Any]:
    return ["null", kind]


def _record(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "record",
        "name": f"ztf.alert.{name}",
        "fields": [{"name": n, "type": t} for n, t in fields.items()],
    }


@cache
def schema() -> Any:
    """The schema of a packet, parsed."""
    import fastavro

    seen: dict[str, Any] = {"jd": "double", "fid": "int", "pid": "long", "programid": "int"}
    for names, kind in (
        (_MAYBE_FLOAT, "float"), (_MAYBE_DOUBLE, "double"), (_MAYBE_INT, "int"), (_MAYBE_LONG, "long"),
        (_MAYBE_WORD, "string"),
    ):  # fmt: skip
        seen |= dict.fromkeys(names, _maybe(kind))
    own = {**seen, **dict.fromkeys(_OWN_FLOAT, _maybe("float")), **dict.fromkeys(_OWN_DOUBLE, _maybe("double"))}
    own |= dict.fromkeys(_OWN_INT, "int")
    cutout = _record("cutout", {"fileName": "string", "stampData": "bytes"})
    alert = {
        "schemavsn": "string",
        "publisher": "string",
        "objectId": "string",
        "candid": "long",
        "candidate": _record("candidate", own),
        "prv_candidates": _maybe({"type": "array", "items": _record("prv_candidate", seen)}),
        "cutoutScience": _maybe(cutout),
        "cutoutTemplate": _maybe("ztf.alert.cutout"),
        "cutoutDifference": _maybe("ztf.alert.cutout"),
    }
    fields = [{"name": name, "type": kind} for name, kind in alert.items()]
    return fastavro.parse_schema({"type": "record", "name": "ztf.alert", "fields": fields})


def packet(
    number: int,
    object_id: str,
    ra: float,
    dec: float,
    curve: LightCurve,
    stamps: Float32[np.ndarray, "3 y x"] | None = None,
    **numbers: float,
) -> bytes:
    """One packet: the last observation of ``curve`` (uJy, MJD, bands of ZTF) is the alert, those before its history.

    ``stamps`` are science, template and difference; ``numbers`` any others of the candidate, as ``rb=0.9``.
    """
    import fastavro

    seen = [_seen(number, *one) for one in zip(*(part.tolist() for part in curve))]
    place = {"ra": ra, "dec": dec}
    for one in seen:
        one |= place if one["magpsf"] is not None else {}
    if not seen or seen[-1]["magpsf"] is None:
        raise GsnnError(f"the last observation of {object_id} shows nothing, so no alert can be made of it")
    own = {**dict.fromkeys(_OWN_FLOAT, 0.5), **dict.fromkeys(_OWN_INT, 1), **seen[-1], "candid": number}
    own |= {"jdstarthist": seen[0]["jd"], "jdendhist": seen[-1]["jd"], "ndethist": len(seen), "ssdistnr": -999.0}
    names = [f"cutout{part}" for part in ("Science", "Template", "Difference")]
    cut = (
        [{"fileName": f"candid{number}_{n}.fits.gz", "stampData": _fits(s)} for n, s in zip(names, stamps)]
        if (stamps is not None)
        else [None] * 3
    )
    record = {
        "schemavsn": "3.3", "publisher": "GSNN (made, not observed)", "objectId": object_id, "candid": number,
        "candidate": own | numbers, "prv_candidates": seen[:-1] or None, **dict(zip(names, cut)),
    }  # fmt: skip
    buffer = io.BytesIO()
    fastavro.writer(buffer, schema(), [record], codec="null")
    return buffer.getvalue()


def _seen(number: int, time: float, flux: float, error: float, band: int) -> dict[str, Any]:
    """A row of the history; what is fainter than three times its error is a limit."""
    about: dict[str, Any] = {
        "jd": time + JD_OF_MJD, "fid": SKIES["ztf"].numbers[band], "pid": round(time * 1e5), "programid": 1,
        "diffmaglim": 23.9 - 2.5 * np.log10(5 * error), "magpsf": None,
    }  # fmt: skip
    if abs(flux) < 3 * error:
        return about
    filled = {**dict.fromkeys(_MAYBE_FLOAT, 1.5), **dict.fromkeys(_MAYBE_INT, 3), **dict.fromkeys(_MAYBE_WORD, "made")}
    size = 1.0857362 * error / abs(flux)  # 2.5 / ln 10
    found = {"magpsf": 23.9 - 2.5 * np.log10(abs(flux)), "sigmapsf": size, "isdiffpos": "t" if flux > 0 else "f"}
    middle = {"xpos": 1500.0, "ypos": 1500.0, "candid": number, "scorr": abs(flux) / error, "rb": 0.9}
    return {**filled, **about, **found, **middle}


def _fits(image: Float32[np.ndarray, "y x"]) -> bytes:
    """A gzipped FITS file of one image (FITS standard 4.0)."""
    cards = {"SIMPLE": "T", "BITPIX": "-32", "NAXIS": "2", "NAXIS1": str(image.shape[1]), "NAXIS2": str(image.shape[0])}
    text = "".join(f"{name:<8}= {value:>20}".ljust(80) for name, value in cards.items()) + "END".ljust(80)
    data = image.astype(">f4").tobytes()
    return gzip.compress(text.ljust(2880).encode() + data + b"\0" * (-len(data) % 2880), 6, mtime=0)


# ------------------------------------------------------------------ a night


def made(number: int, seed: int = 0) -> tuple[bytes, str]:
    """Packet ``number`` of a night, and what it is: a supernova beside a galaxy, or a variable star."""
    chance = np.random.default_rng([seed, number])
    kind = CLASSES[int(chance.integers(len(CLASSES)))]
    candid, object_id = 2_000_000_000_000_000_000 + number, f"ZTF26m{number:07d}"
    while True:
        time = 60000 + np.sort(chance.uniform(0, 40, int(chance.integers(8, 32))))
        band = chance.integers(0, 2, len(time)).astype(np.uint8)
        error = chance.uniform(4, 8, len(time)).astype(np.float32)
        flux = (_supernova if kind == CLASSES[0] else _star)(time, band, chance) + error * chance.normal(size=len(time))
        if abs(flux[-1]) > 5 * error[-1]:
            break
    curve = LightCurve(time, flux.astype(np.float32), error, band)
    ra, dec = float(chance.uniform(0, 360)), float(np.degrees(np.arcsin(chance.uniform(-0.5, 0.99))))
    numbers = {"rb": float(chance.uniform(0.5, 1)), "drb": float(chance.uniform(0.9, 1)), "fwhm": 2.0}
    return packet(candid, object_id, ra, dec, curve, _stamps(kind, float(flux[-1]), chance), **numbers), kind


def _supernova(time: np.ndarray, band: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Flux [uJy] that rises and falls: Bazin et al. 2009, A&A 499, 653, equation 1; redder as it ages."""
    start, rise, fall = 60000 + chance.uniform(5, 30), chance.uniform(2, 5), chance.uniform(15, 40)
    since = time - start
    shape = np.exp(-since / (fall * np.where(band == 0, 0.7, 1.0))) / (1 + np.exp(-since / rise))
    return 10 ** chance.uniform(1.7, 2.8) * shape


def _star(time: np.ndarray, band: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """The difference [uJy] of a sinusoid to its mean, larger in the blue."""
    phase = time / 10 ** chance.uniform(-0.5, 1.2) + chance.uniform()
    return 10 ** chance.uniform(1.7, 2.8) * np.sin(2 * np.pi * phase) * np.where(band == 0, 1.3, 1.0)


def _stamps(kind: str, flux: float, chance: np.random.Generator) -> Float32[np.ndarray, "3 y x"]:
    """Science, template and difference: a source at the centre that changed by ``flux``, on what was there before."""
    side = SKIES["ztf"].side
    y, x = np.mgrid[:side, :side] - side // 2
    point = np.exp(-(x**2 + y**2) / (2 * 0.85**2))
    if kind == CLASSES[0]:
        dx, dy = chance.normal(0, 4, 2)
        before = 300 * np.exp(-np.hypot(x - dx, (y - dy) * chance.uniform(1, 2)) / chance.uniform(1.5, 4))
    else:
        before = 10 ** chance.uniform(2.5, 3.5) * point
    noise = chance.normal(0, 5, (2, side, side))
    template = before + 0.3 * noise[0]
    science = before + flux * point + noise[1]
    return np.stack([science, template, science - template]).astype(np.float32)


def night(folder: str | Path, alerts: int = 300, seed: int = 0) -> Path:
    """``alerts`` packets in ``folder``, a file each, and beside it ``<folder>-labels.csv``: the id and kind of each."""
    folder = Path(folder)
    with on_disk(f"write {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["id,kind"]
        for number in range(alerts):
            content, kind = made(number, seed)
            candid = 2_000_000_000_000_000_000 + number
            (folder / f"{candid}.avro").write_bytes(content)
            lines.append(f"{candid},{kind}")
        folder.with_name(f"{folder.name}-labels.csv").write_text("\n".join(lines) + "\n")
    return folder
