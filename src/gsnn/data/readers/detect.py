"""What a file is, told by its first bytes; and which files of a folder are data."""

from __future__ import annotations

import gzip
import os
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from glob import glob, has_magic

from ...errors import GsnnError, nearest

HEAD = 1 << 16
MAX_TEXT = 1 << 33  # bytes of a table that are held in memory
KNOWN = (
    "FITS, HDF5, Parquet, NumPy .npy and .npz, CSV and other text tables, Avro alert packets, PNG, JPEG, TIFF and GIF"
)
IMAGES = ("png", "jpeg", "tiff", "gif")
ARCHIVES = ("zip", "tar")
_MAGIC = (
    (b"SIMPLE  =", "fits"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"PAR1", "parquet"),
    (b"Obj\x01", "avro"),
    (b"\x93NUMPY", "npy"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"\x1f\x8b", "gzip"),
)
_STRANGERS = (  # formats that people bring and GSNN does not read: name them rather than "unknown"
    (b"SQLite format 3", "an SQLite database; export a table of it as CSV or Parquet"),
    (b"%PDF", "a PDF document"),
    (b"BZh", "a bzip2 archive; decompress it first"),
    (b"\xfd7zXZ", "an xz archive; decompress it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; decompress it first"),
    (b"<?xml", "an XML file; export the table as FITS or CSV"),
    (b"<VOTABLE", "a VOTable; export it as FITS or CSV"),
    (b"<!DOCTYPE", "a web page, not data; was the download refused?"),
    (b"<html", "a web page, not data; was the download refused?"),
    (b"\x80\x04", "a Python pickle, which GSNN never opens because it can run code; save the arrays as .npz"),
    (b"\x80\x03", "a Python pickle, which GSNN never opens because it can run code; save the arrays as .npz"),
    (b"\x80\x05", "a Python pickle, which GSNN never opens because it can run code; save the arrays as .npz"),
    (b"{", "a JSON file; write it as a CSV or Parquet table"),
    (b"[{", "a JSON file; write it as a CSV or Parquet table"),
)


def head(path: str, count: int = HEAD) -> bytes:
    """The first bytes of a file, decompressed if it is gzipped."""
    try:
        if os.path.getsize(path) == 0:
            raise GsnnError(f"{path} is empty (0 bytes); copy or download it again")
        with open(path, "rb") as file:
            start = file.read(count)
    except OSError as error:
        raise GsnnError(f"cannot open {path}: {(error.strerror or str(error)).lower()}") from error
    return unzipped(path, count) if start[:2] == b"\x1f\x8b" else start


def unzipped(path: str, count: int | None = None) -> bytes:
    """The content of a gzip file (its first ``count`` bytes)."""
    limit = MAX_TEXT if count is None else count
    try:
        with gzip.open(path, "rb") as file:
            content = file.read(limit)
    except (OSError, EOFError, zlib.error) as error:
        raise GsnnError(f"{path} is a damaged or truncated gzip file ({error}); copy or download it again") from error
    if count is None and len(content) == MAX_TEXT:
        raise GsnnError(f"{path} holds more than {MAX_TEXT >> 30} GiB once decompressed; convert it to Parquet or HDF5")
    return content


def detect(path: str) -> str:
    """The format of a file: text, fits, hdf5, parquet, avro, npy, npz, zip, tar, png, jpeg, tiff or gif; else one
    sentence."""
    start = head(path)
    for magic, name in _MAGIC:
        if start.startswith(magic):
            if name == "zip":
                return _zip(path)
            return name
    if start[257:262] == b"ustar":
        return "tar"
    for magic, sentence in _STRANGERS:
        if start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(magic):
            raise GsnnError(f"{path} is {sentence}")
    if is_text(start):
        return "text"
    for offset in (512, 1024, 2048):  # an HDF5 file may begin with a block of its user's
        if start[offset : offset + 8] == b"\x89HDF\r\n\x1a\n":
            return "hdf5"
    raise GsnnError(f"{path} is of no format that GSNN knows (it begins with {start[:8]!r}); it reads {KNOWN}")


def is_text(start: bytes) -> bool:
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return True
    control = sum(start.count(bytes([c])) for c in range(32) if c not in (9, 10, 11, 12, 13, 26, 27))
    high = sum(byte >= 128 for byte in start[:4096])
    return b"\0" not in start and control <= len(start) // 100 and high <= max(len(start[:4096]) // 3, 1)


def _zip(path: str) -> str:
    from zipfile import BadZipFile, ZipFile

    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
    except (BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise GsnnError(
            f"{path} is a damaged or truncated zip or npz file ({error}); copy or download it again"
        ) from error
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    return "zip"


def find(source: str) -> tuple[list[str], str | None]:
    """The files that a path means, and the folder they were found under (None for one file or a pattern)."""
    source = os.path.expanduser(source)
    if "\0" in source:
        raise GsnnError(f"{source!r} is no path")
    if os.path.isdir(source):
        paths = sorted(
            os.path.join(root, name)
            for root, folders, names in os.walk(source)
            if not any(part.startswith(".") for part in os.path.relpath(root, source).split(os.sep) if part != ".")
            for name in names
            if not name.startswith((".", "_"))
        )
        if not paths:
            raise GsnnError(f"the folder {source} holds no files")
        return paths, source
    if os.path.exists(source):
        return [source], None
    if has_magic(source):
        paths = sorted(p for p in glob(source, recursive=True) if os.path.isfile(p))
        if not paths:
            raise GsnnError(f"no file matches {source}")
        return paths, None
    folder = os.path.dirname(source) or "."
    if not os.path.isdir(folder):
        raise GsnnError(f"no such file: {source} (there is no folder {folder})")
    near = nearest(os.path.basename(source), os.listdir(folder))
    raise GsnnError(f"no such file: {source}" + (f"; did you mean {near!r}?" if near else ""))


def sort_out(paths: list[str], folder: str) -> tuple[list[str], str, list[str]]:
    """The data files of a folder, their format, and notes on what was left out.

    Files are told apart by content, a few of each extension; pictures come before tables (the table is then mostly
    their labels), and two other formats together are refused.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        groups[os.path.splitext(path)[1].lower()].append(path)
    formats: dict[str, list[str]] = defaultdict(list)
    other: list[str] = []
    for suffix, members in groups.items():
        if suffix in (".md", ".rst", ".html", ".log", ".py", ".toml", ".yaml", ".yml", ".json") or all(
            readme(os.path.basename(path)) for path in members
        ):
            other += members
            continue
        tried = [_or_none(detect, path) for path in members[:: max(1, len(members) // 5)][:6]]
        found = Counter(name for name in tried if name).most_common(1)
        kind = "picture" if found and found[0][0] in IMAGES else found[0][0] if found else None
        (formats[kind] if kind and kind not in ARCHIVES else other).extend(members)
    if not formats:
        raise GsnnError(f"the folder {folder} holds no data that GSNN reads ({len(paths)} files); it reads {KNOWN}")
    if len(formats) > 1:
        best = [kind for kind in ("picture", "fits") if kind in formats and set(formats) <= {kind, "text"}]
        if not best:
            found = " and ".join(f"{len(members)} {kind}" for kind, members in sorted(formats.items()))
            raise GsnnError(
                f"the folder {folder} holds {found} files; name those that are meant, such as {folder}/*.fits"
            )
        other += formats.pop("text")
    kind, chosen = next(iter(formats.items()))
    notes = []
    if other:
        left = ", ".join(os.path.relpath(path, folder) for path in sorted(other)[:5])
        notes.append(f"{len(other)} files were left out: {left}{' ...' if len(other) > 5 else ''}")
    return sorted(chosen), kind, notes


def readme(name: str) -> bool:
    """Whether a file is about data, by its name."""
    return name.lower().lstrip("0_").startswith(("readme", "licen", "provenance", "checksum"))


def _or_none(function: Callable[[str], str], path: str) -> str | None:
    try:
        return function(path)
    except GsnnError:
        return None
