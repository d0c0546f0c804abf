"""Small files of light curves in the formats of the field, as bytes."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping

import numpy as np
from astropy.io import fits


def _bytes(*hdus: object) -> bytes:
    buffer = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(buffer)
    return buffer.getvalue()


def kepler(
    quarter: int = 1,
    level: float = 1000.0,
    star: str = "KIC 11442793",
    cadences: int = 60,
    telescope: str = "Kepler",
    **columns: np.ndarray,
) -> bytes:
    """A long-cadence product: a flux of ``level`` that falls by 1% in cadence 30; NaN in cadence 5."""
    time = 100.0 * quarter + np.arange(cadences) * 0.0204336
    flux = np.full(cadences, level, np.float32)
    flux[30 : min(31, cadences)] *= 0.99
    flux[5:6] = np.nan
    given = {
        "TIME": time,
        "SAP_FLUX": flux * 2,
        "SAP_FLUX_ERR": np.full(cadences, abs(level) * 2e-3, np.float32),
        "PDCSAP_FLUX": flux,
        "PDCSAP_FLUX_ERR": np.full(cadences, abs(level) * 1e-3, np.float32),
        "SAP_QUALITY": np.zeros(cadences, np.int32),
    } | columns
    letters = {"TIME": "D", "SAP_QUALITY": "J"}
    table = fits.BinTableHDU.from_columns(
        [fits.Column(name, letters.get(name, "E"), array=values) for name, values in given.items()]
    )
    first = fits.PrimaryHDU()
    first.header.update({"TELESCOP": telescope, "OBJECT": star, "RA_OBJ": 284.4, "DEC_OBJ": 49.3, "TEFF": 5970})
    first.header["SECTOR" if telescope == "TESS" else "QUARTER"] = quarter
    table.header.update({"BJDREFI": 2454833, "BJDREFF": 0.0, "TIMEDEL": 0.0204336, "EXTNAME": "LIGHTCURVE"})
    return _bytes(first, table)


def snana(pointers: Mapping[str, tuple[int, int]] | None = None) -> tuple[bytes, bytes]:
    """HEAD and PHOT: supernova SN1 has rows 1 to 3, SN2 rows 5 and 6; a row of -777 stands between."""
    pointers = pointers or {"SN1": (1, 3), "SN2": (5, 6)}
    low, high = np.array(list(pointers.values())).T
    head = fits.BinTableHDU.from_columns(
        [
            fits.Column("SNID", "8A", array=np.array(list(pointers))),
            fits.Column("PTROBS_MIN", "J", array=low),
            fits.Column("PTROBS_MAX", "J", array=high),
            fits.Column("REDSHIFT_FINAL", "E", array=np.linspace(0.1, 0.2, len(low))),
        ]
    )
    photometry = fits.BinTableHDU.from_columns(
        [
            fits.Column("MJD", "D", array=[57002.0, 57001.0, 57003.0, -777.0, 58001.0, 58002.0, -777.0]),
            fits.Column("BAND", "4A", array=["g", "r", "g", "-", "z", "r", "-"]),
            fits.Column("FLUXCAL", "E", array=[12.0, 11.0, 13.0, 0.0, 21.0, 22.0, 0.0]),
            fits.Column("FLUXCALERR", "E", array=[1.0, 2.0, 3.0, 0.0, 4.0, 5.0, 0.0]),
        ]
    )
    first = fits.PrimaryHDU()
    first.header["PHOTFILE"] = "SET_PHOT.FITS"
    return _bytes(first, head), _bytes(first.copy(), photometry)


def rotation_curve(distance: float = 3.36, points: int = 4) -> bytes:
    """A table as SPARC writes it."""
    lines = [
        f"# Distance = {distance} Mpc",
        "# Rad\tVobs\terrV\tVgas\tVdisk\tVbul\tSBdisk\tSBbul",
        "# kpc\tkm/s\tkm/s\tkm/s\tkm/s\tkm/s\tL/pc^2\tL/pc^2",
    ]
    lines += [f"{i + 0.5}\t{10 * i + 5}\t1.5\t{i}\t{i + 1}\t0.00\t{30 - i}\t0.00" for i in range(points)]
    return "\n".join(lines).encode()


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
