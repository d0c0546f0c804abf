"""HATS catalogues: Parquet files by HEALPix pixel, as the Rubin and LSDB community shares its tables of the sky.

The layout is that of the IVOA note on HATS: ``hats.properties`` and ``partition_info.csv`` beside
``dataset/Norder=K/Dir=D/Npix=N.parquet`` (D = N // 10000 * 10000), whose column ``_healpix_29`` is the nested pixel
of order 29. The older layout without ``dataset/``, partitions of several files and collections are read too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from ..errors import GsnnError

HEALPIX_29, ORDER = "_healpix_29", 29
_PROPERTIES = ("hats.properties", "properties", "collection.properties")
_OWN = (HEALPIX_29, "_hipscat_index", "Norder", "Dir", "Npix")  # columns that say where a row lies, and nothing of it
_PARTITION = re.compile(r"Norder=(\d+)/Dir=\d+/Npix=(\d+)([./].*)?$")


def pixels_29(ra: np.ndarray, dec: np.ndarray) -> Int64[np.ndarray, " n"]:
    """Nested pixels of order 29 (0.4 mas) of positions in degrees."""
    from astropy import units
    from astropy_healpix import HEALPix

    grid = HEALPix(1 << ORDER, order="nested")
    return np.asarray(grid.lonlat_to_healpix(np.mod(ra, 360) * units.deg, dec * units.deg), np.int64)


# ---------------------------------------------------------------------------- reading


def is_catalogue(path: Any) -> bool:
    """Whether a folder is a HATS catalogue or a collection of them."""
    if not isinstance(path, (str, os.PathLike)) or not os.path.isdir(path):
        return False
    found = next((Path(path) / name for name in _PROPERTIES if (Path(path) / name).is_file()), None)
    return found is not None and any(key.startswith(("hats_", "obs_collection")) for key in _properties(found))


def _properties(path: Path) -> dict[str, str]:
    """The keys and values of a Java properties file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise GsnnError(f"cannot open {path}: {(error.strerror or str(error)).lower()}") from error
    pairs = (re.split(r"\s*[=:]\s*|\s+", line.strip(), maxsplit=1) for line in lines if line.strip()[:1] not in "#!")
    return {pair[0]: pair[1].replace("\\", "") if len(pair) > 1 else "" for pair in pairs}


def raw(path: str | os.PathLike[str]) -> Any:
    """The rows of a catalogue as fields; its positions are called ra and dec."""
    from .readers.parquet import read_parquet
    from .readers.raw import concatenate

    root = Path(path)
    about = _properties(next(root / name for name in _PROPERTIES if (root / name).is_file()))
    if "hats_primary_table_url" in about and "hats_col_ra" not in about and not (root / "dataset").is_dir():
        primary = root / about["hats_primary_table_url"]
        if not is_catalogue(primary) or primary.resolve() == root.resolve():
            raise GsnnError(f"{root} names the catalogue {primary.name!r}, which is not in it; copy it again")
        return raw(primary)
    if about.get("dataproduct_type", "object") not in ("object", "source"):
        kind = about["dataproduct_type"]
        raise GsnnError(f"{root} is a HATS table of the type {kind!r}; name one of objects or sources")
    files = partitions(root)
    stem = about.get("obs_collection") or root.name
    joined = concatenate([read_parquet(str(file), f"{stem}-{i}") for i, file in enumerate(files)])
    names = {about.get("hats_col_ra"): "ra", about.get("hats_col_dec"): "dec"}
    fields = [replace(f, name=names.get(f.name, f.name)) for f in joined.fields if f.name not in _OWN]
    for old, new in names.items():
        if old is not None and sum(f.name == new for f in fields) != 1:
            raise GsnnError(f"{root} says that its {new} is the column {old!r}, which its files have not, or not alone")
    return replace(joined, stem=stem, fields=fields, format="hats", files=[str(root)])


def partitions(root: Path) -> list[Path]:
    """The files of a catalogue in the order of the sky; one sentence where a partition is missing."""
    found = []
    for folder, _, names in os.walk(root):
        for name in names:
            place = os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
            match = _PARTITION.search(place)
            if match and not name.startswith((".", "_")):
                order, pixel = int(match[1]), int(match[2])
                found.append((pixel << 2 * max(ORDER - order, 0), place, (order, pixel)))
    listed = root / "partition_info.csv"
    if listed.is_file():
        missing = sorted(_listed(listed) - {key for *_, key in found})
        if missing:
            order, pixel = missing[0]
            such = f"Norder={order}, Npix={pixel}"
            raise GsnnError(f"{root} lacks {len(missing)} of its partitions, such as {such}; copy it again")
    if not found:
        raise GsnnError(f"{root} has no partitions (dataset/Norder=K/Dir=D/Npix=N.parquet); copy it again")
    return [root / place for _, place, _ in sorted(found)]


def _listed(path: Path) -> set[tuple[int, int]]:
    import csv

    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {(int(row["Norder"]), int(row["Npix"])) for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise GsnnError(f"{path} is damaged: it must list Norder and Npix ({error})") from error


# ---------------------------------------------------------------------------- writing


def divided(pixels: Int64[np.ndarray, " n"], most: int, deepest: int = 12) -> list[tuple[int, int, int, int]]:
    """Partitions (order, pixel, first, last + 1) of *sorted* pixels of order 29, none with more than ``most`` rows
    unless it is of the order ``deepest`` already; those without rows are left out.
    """
    out, todo = [], [(0, pixel) for pixel in range(12)]
    while todo:
        order, pixel = todo.pop()
        edges = [pixel << 2 * (ORDER - order), (pixel + 1) << 2 * (ORDER - order)]
        first, last = np.searchsorted(pixels, edges).tolist()
        if last - first > most and order < deepest:
            todo += [(order + 1, 4 * pixel + k) for k in range(4)]
        elif last > first:
            out.append((order, pixel, first, last))
    return sorted(out)


def place_of(order: int, pixel: int) -> str:
    return f"Norder={order}/Dir={pixel // 10000 * 10000}/Npix={pixel}.parquet"


def describe(folder: Path, about: Mapping[str, Any], parts: list[tuple[int, int, int, int]]) -> None:
    """Write ``hats.properties`` (and ``properties``, its older name) and ``partition_info.csv``."""
    text = "#HATS catalog\n" + "".join(f"{key}={value}\n" for key, value in about.items())
    for name in _PROPERTIES[:2]:
        (folder / name).write_text(text, encoding="utf-8")
    lines = [f"{order},{pixel}\n" for order, pixel, *_ in parts]
    (folder / "partition_info.csv").write_text("Norder,Npix\n" + "".join(lines))
