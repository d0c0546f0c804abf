"""Zip and tar archives of small text tables, a table an object, read without unpacking them to the disk."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Iterator
from zipfile import BadZipFile, ZipFile

from ...errors import GsnnError
from .detect import is_text, readme
from .raw import brief

MOST_BYTES = 1 << 30  # of all members once they are unpacked
MOST_MEMBERS = 1_000_000


def members(path: str, kind: str) -> list[tuple[str, bytes]]:
    """Name and content of every text file in an archive ("zip" or "tar"), in the order of their names."""
    found, total = [], 0
    try:
        for name, content in _zip(path) if kind == "zip" else _tar(path):
            base = os.path.basename(name)
            if base.startswith((".", "_")) or readme(base) or not is_text(content[: 1 << 16]):
                continue
            total += len(content)
            if total > MOST_BYTES or len(found) >= MOST_MEMBERS:
                raise GsnnError(f"{path} unpacks to more than {MOST_BYTES >> 20} MiB; unpack it and read the folder")
            found.append((name, content))
    except GsnnError:
        raise
    except (
        BadZipFile, tarfile.TarError, OSError, ValueError, NotImplementedError, EOFError, RuntimeError, zlib.error,
        MemoryError, OverflowError, KeyError,
    ) as error:  # fmt: skip
        raise GsnnError(
            f"{path} is a damaged or truncated archive ({brief(error)}); copy or download it again"
        ) from error
    if not found:
        raise GsnnError(f"{path} is an archive without text tables; unpack it and read the files in it")
    return sorted(found)


def _zip(path: str) -> Iterator[tuple[str, bytes]]:
    with ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                with archive.open(info) as file:
                    yield info.filename, _limited(file.read(MOST_BYTES + 1), path)


def _tar(path: str) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path, "r:*") as archive:
        for info in archive:
            if info.isreg():
                file = archive.extractfile(info)
                yield info.name, _limited(file.read(MOST_BYTES + 1), path)


def _limited(content: bytes, path: str) -> bytes:
    if len(content) > MOST_BYTES:
        raise GsnnError(f"{path} holds a file of more than {MOST_BYTES >> 20} MiB; unpack it and read the files in it")
    return content
