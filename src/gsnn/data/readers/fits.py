"""FITS: binary and text tables (units from TUNIT, vectors as arrays), images, cubes and folders of images.

Tables and images are memory-mapped, so that a file may be larger than the memory.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Float32

from ...errors import GsnnError
from .detect import detect, find, unzipped
from .images import Header, one_each
from .raw import TEXT, Field, Raw, Reasons, stored

HDU = int | str | None
EXPANSION = 2000  # a compressed image larger than this many times its bytes is taken for a damaged one


@contextmanager
def opened(path: str, memmap: bool = True) -> Iterator[Any]:
    """The HDUs of a file; whatever a damaged one makes astropy raise becomes one sentence."""
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hdus = None
        try:
            with open(path, "rb") as file:
                packed = file.read(2) == b"\x1f\x8b"
            source = io.BytesIO(unzipped(path)) if packed else path
            hdus = fits.open(source, memmap=memmap and not packed, lazy_load_hdus=True)
            yield hdus
        except GsnnError:
            raise
        except Exception as error:
            what = " ".join(str(error).split())[:160] or type(error).__name__
            raise GsnnError(
                f"{path} is a damaged or truncated FITS file ({what}); copy or download it again"
            ) from error
        finally:
            if hdus is not None:
                with np.errstate(all="ignore"):
                    _close(hdus)


def _close(hdus: Any) -> None:
    try:
        hdus.close()
    except Exception:  # closing a damaged file may fail too, and nothing was written
        return


def read_fits(path: str, stem: str, hdu: HDU = None) -> Raw:
    """The fields of one FITS file: of its first table, else of its first image."""
    from astropy.io import fits

    with opened(path) as hdus:
        chosen = choose(hdus, hdu, path)
        _check_size(chosen, path)
        if isinstance(chosen, (fits.BinTableHDU, fits.TableHDU)) and not isinstance(chosen, fits.CompImageHDU):
            return _table(chosen, path, stem)
        scaled = any(word in chosen.header for word in ("BSCALE", "BZERO", "BLANK"))
    with opened(path, memmap=not scaled) as hdus:
        return _line(choose(hdus, hdu, path), path, stem)


def holds_images(path: str, hdu: HDU = None) -> bool:
    """Whether the part of the file that is meant is an image of two axes or more."""
    with opened(path) as hdus:
        chosen = choose(hdus, hdu, path)
        return bool(getattr(chosen, "is_image", False)) and int(chosen.header.get("NAXIS", 0)) >= 2


def choose(hdus: Any, hdu: HDU, path: str) -> Any:
    """The HDU that is meant: the one named, else the primary image, else the first table, else the first image."""
    if hdu is not None:
        try:
            return hdus[hdu]
        except (KeyError, IndexError) as error:
            known = ", ".join(f"{i} {one.name or '-'}" for i, one in enumerate(hdus))
            raise GsnnError(f"{path} has no HDU {hdu!r}; it has {known}") from error
    tables, pictures = [], []
    for one in hdus:
        axes = one.header.get("NAXIS", 0)
        if getattr(one, "is_image", False):
            pictures += [one] if axes else []
        elif hasattr(one, "columns"):
            tables.append(one)
        if pictures and one is hdus[0] and axes >= 2:
            return one
    if not tables and not pictures:
        raise GsnnError(f"{path} holds neither a table nor an image (is it truncated?)")
    return (tables or pictures)[0]


def _check_size(one: Any, path: str) -> None:
    """Refuse a header that announces more than the file holds, before anything is allocated for it."""
    info = one.fileinfo() or {}
    announced, start = int(one.size), int(info.get("datLoc") or 0)
    source = info.get("file")
    held = source.size if source is not None else os.path.getsize(path)
    if announced < 0 or start + announced > held:
        raise GsnnError(
            f"{path} is truncated: its header announces {announced} bytes from byte {start}, and it ends at {held}; "
            "copy or download it again"
        )
    if type(one).__name__ == "CompImageHDU":
        pixels = int(np.prod([float(n) for n in one.shape])) if one.shape else 0
        if not 0 <= pixels * 4 <= held * EXPANSION:
            raise GsnnError(f"{path} is damaged: its compressed image announces {one.shape} pixels in {held} bytes")


def _table(one: Any, path: str, stem: str) -> Raw:
    """The columns of a table, taken from the mapped records: astropy's own view copies all at each slice."""
    data, text_table = one.data, type(one).__name__ == "TableHDU"
    length = 0 if data is None else len(data)
    records = np.empty(0) if data is None else data.view(np.ndarray)
    fields, left = [], []
    for column in one.columns:
        made = _cells(data, column) if text_table else _column(records, column)
        fields.append(made) if made and length else left.append(column.name)
    notes = [f"columns of unequal lists, bits or complex numbers were left out: {', '.join(left)}"] if left else []
    return Raw(stem, length, fields, "fits", notes=notes, files=[path])


def _column(records: np.ndarray, column: Any) -> Field | None:
    """A column of a binary table: scaled by TSCAL and TZERO, missing where TNULL says so (FITS standard 4.0, 7.3)."""
    name, letter = column.name, str(column.format).lstrip("0123456789")[:1]
    unit = (column.unit or "").strip()
    if name not in (records.dtype.names or ()):
        return None
    dtype = records.dtype[name]
    base, shape = dtype.subdtype or (dtype, ())
    if letter == "A":
        return None if shape else Field(name, TEXT, lambda i, _: records[name][i], unit=unit)
    if letter not in "LBIJKED" or any(n < 1 for n in shape):
        return None
    scale, zero, null = _number(column.bscale, 1), _number(column.bzero, 0), _number(column.null, None)
    scaled, shifted = scale != 1 or zero != 0, scale == 1 and letter in "BIJK" and zero == int(zero)
    big = letter == "K" and zero == 2**63

    def take(indices: np.ndarray, reasons: Reasons) -> np.ndarray:
        values = records[name][indices]
        if letter == "L":
            return values.view(np.uint8).reshape(values.shape) == ord("T") if values.dtype != bool else values
        missing = values == null if null is not None and letter in "BIJK" else None
        if big:
            values = values.astype(np.int64).view(np.uint64) ^ np.uint64(2**63)
        elif shifted and zero:
            values = values.astype(np.int64) + int(zero)
        elif scaled:
            values = values.astype(np.float64) * scale + zero
        return values if missing is None else np.ma.masked_array(values, missing)

    if letter == "L":
        kept = "bool"
    elif big:
        kept = "uint64"
    elif shifted:
        kept = stored(base) if zero == 0 else "int64"
    else:
        kept = "float64" if scaled else stored(base)
    return Field(name, kept, take, shape, unit=unit)


def _number(value: Any, other: Any) -> Any:
    return value if isinstance(value, (int, float, np.number)) and np.isfinite(value) else other


def _cells(data: Any, column: Any) -> Field | None:
    """A column of a text table (they are small, so it is converted as a whole)."""
    values = np.asarray(data.field(column.name))
    if values.ndim != 1 or values.dtype.kind not in "iufSU":
        return None
    dtype = TEXT if values.dtype.kind in "SU" else stored(values.dtype)
    return Field(column.name, dtype, lambda i, _: values[i], unit=(column.unit or "").strip())


def _line(one: Any, path: str, stem: str) -> Raw:
    """A one-dimensional image: a spectrum if its axis has a name, else one value an object."""
    values, unit = one.data, word(one.header, "BUNIT")
    if "CTYPE1" in one.header:
        spectrum = Field(
            "spectrum", stored(values.dtype), lambda i, _: np.repeat(values[None], len(i), 0), values.shape
        )
        return Raw(stem, 1, [spectrum], "fits", files=[path], ids=lambda i: [stem] * len(i))
    field = Field(stem.rsplit("/", 1)[-1], stored(values.dtype), lambda i, _: values[i], unit=unit)
    return Raw(stem, len(values), [field], "fits", files=[path])


def images(paths: Sequence[str], hdu: HDU, stem: str, crop: int | None = None, size: int | None = None) -> Raw:
    """One object a file, with the field ``image`` [band, y, x] in float32 and the file's unit and pixel scale."""

    def header(path: str) -> Header | str:
        try:
            with opened(path) as hdus:
                one = choose(hdus, hdu, path)
                _check_size(one, path)
                shape = one.shape if getattr(one, "is_image", False) else ()
                return (*_shape(shape), "float32") if len(shape) >= 2 else "it holds no image"
        except GsnnError as error:
            return str(error).removeprefix(path).strip()

    def pixels(path: str) -> Float32[np.ndarray, "band y x"]:
        with opened(path, memmap=False) as hdus:  # scaled pixels cannot be mapped, and all are wanted
            data = choose(hdus, hdu, path).data
            return np.array(data, dtype=np.float32).reshape(_shape(data.shape))

    unit, scale, bands = _about(paths, hdu)
    one = one_each(paths, crop, size, header, pixels, unit=unit, pixel_scale=scale, bands=bands)
    return Raw(stem, len(paths), [one], "fits", files=list(paths))


def _shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(band, y, x) of an image or cube; axes before the last two are laid out as bands."""
    return (int(np.prod(shape[:-2])), int(shape[-2]), int(shape[-1]))


def _about(paths: Sequence[str], hdu: HDU) -> tuple[str, float | None, tuple[str, ...]]:
    """Unit, arcsec per pixel and band of the first file that can be opened."""
    for path in paths[:16]:
        try:
            with opened(path) as hdus:
                one = choose(hdus, hdu, path)
                header, flat = one.header, len(one.shape) == 2
        except GsnnError:
            continue
        band = word(header, "FILTER") or word(header, "BAND")
        return word(header, "BUNIT"), pixel_scale(header), (band,) if band and flat else ()
    return "", None, ()


def word(header: Any, name: str) -> str:
    """A word of a header; '' where it is missing, no text or damaged."""
    try:
        value = header.get(name, "")
    except Exception:  # a card that cannot be parsed only costs its word
        return ""
    return value.strip() if isinstance(value, str) else ""


def pixel_scale(header: Any) -> float | None:
    """Arcsec per pixel by the header's world coordinates (the geometric mean of both axes); None without them."""
    from astropy.wcs import WCS
    from astropy.wcs.utils import proj_plane_pixel_area

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wcs = WCS(header).celestial
            scale = float(np.sqrt(proj_plane_pixel_area(wcs))) * 3600 if wcs.has_celestial else float("nan")
    except Exception:  # a header without usable coordinates is no reason to refuse the pixels
        return None
    return round(scale, 6) if np.isfinite(scale) and scale > 0 else None


def fits_files(paths: str | Sequence[str]) -> list[str]:
    """The FITS files that a path, pattern or list means."""
    found = [
        path
        for one in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)
        for path in find(os.fspath(one))[0]
    ]
    strange = [path for path in found if detect(path) != "fits"]
    if strange or not found:
        raise GsnnError(f"{strange[0] if strange else paths} is no FITS file")
    return found
