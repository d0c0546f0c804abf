"""NumPy's .npy (memory-mapped) and .npz (memory-mapped where it is not compressed). Nothing is ever unpickled."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from ...errors import GsnnError
from .memory import _left, _mapping, of_numpy
from .raw import Raw

EXPANSION = 1100  # the most that deflate can compress


def read_npy(path: str, stem: str, names: Sequence[str] | None = None) -> Raw:
    """The fields of one saved array."""
    with open(path, "rb") as file:
        values = _mapped(file, path, 0, os.path.getsize(path), path)
    raw = of_numpy(values, stem, names, path)
    raw.format, raw.files = "npy", [path]
    return raw


def read_npz(path: str, stem: str, key: str | None = None) -> Raw:
    """The fields of a set of saved arrays: those that share the first axis of the largest one."""
    arrays: dict[str, np.ndarray] = {}
    try:
        with ZipFile(path) as archive, open(path, "rb") as file:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if key is None or name == key:
                    arrays[name] = _member(archive, file, info, path)
    except GsnnError:
        raise
    except (
        BadZipFile,
        OSError,
        ValueError,
        NotImplementedError,
        EOFError,
        RuntimeError,
        zlib.error,
        MemoryError,
    ) as error:
        what = " ".join(str(error).split())[:160]
        raise GsnnError(f"{path} is a damaged or truncated npz file ({what}); copy or download it again") from error
    if not arrays:
        raise GsnnError(f"{path} holds no array" + (f" called {key!r}" if key else ""))
    if len(arrays) == 1:
        name, values = arrays.popitem()
        raw = of_numpy(values, stem, [name] if values.ndim in (1, 3, 4) else None, path)
    else:
        rows = {name: values for name, values in arrays.items() if values.ndim}
        if not rows:
            raise GsnnError(f"{path} holds single values and no rows")
        length = len(max(rows.values(), key=lambda values: values.size))
        left = [name for name in arrays if name not in rows or len(rows[name]) != length]
        raw = _mapping({name: values for name, values in rows.items() if len(values) == length}, stem)
        raw.notes += _left(left)
    raw.format, raw.files = "npz", [path]
    return raw


def _mapped(file: Any, path: str, start: int, end: int, what: str) -> np.ndarray:
    """The array that begins at byte ``start`` of a file, memory-mapped."""
    file.seek(start)
    shape, fortran, dtype = _header(file, what)
    count = int(np.prod([int(n) for n in shape], dtype=object))
    here = file.tell()
    if count * dtype.itemsize > end - here:
        raise GsnnError(f"{what} is truncated: it announces {shape} values of {dtype} and holds {end - here} bytes")
    if count == 0:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", here, shape, "F" if fortran else "C")


def _header(file: Any, what: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of a saved array."""
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version} of the format")
        reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = reader(file)
    except Exception as error:  # the header is parsed as a literal, which fails in many ways
        text = " ".join(str(error).split())[:160]
        raise GsnnError(f"{what} is a damaged or truncated NumPy file ({text}); copy or download it again") from error
    if dtype.hasobject:
        raise GsnnError(f"{what} holds Python objects, which GSNN never unpickles; save plain arrays")
    if any(n < 0 for n in shape) or len(shape) > 8 or dtype.itemsize == 0:
        raise GsnnError(f"{what} is a damaged NumPy file (shape {shape} of {dtype})")
    return shape, fortran, dtype


def _member(archive: ZipFile, file: Any, info: ZipInfo, path: str) -> np.ndarray:
    what = f"{path}:{info.filename}"
    if info.compress_type == ZIP_STORED and not info.flag_bits & 1:
        file.seek(info.header_offset)
        local = file.read(30)
        if local[:4] != b"PK\x03\x04":
            raise GsnnError(f"{what} is damaged; copy or download it again")
        start = (
            info.header_offset + 30 + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
        )
        return _mapped(file, path, start, min(start + info.file_size, os.path.getsize(path)), what)
    if info.file_size > EXPANSION * max(info.compress_size, 1) or info.compress_size > os.path.getsize(path):
        raise GsnnError(f"{what} is damaged: it announces {info.file_size} bytes in {info.compress_size}")
    with archive.open(info) as stream:
        shape, fortran, dtype = _header(stream, what)
        count = int(np.prod([int(n) for n in shape], dtype=object))
        if count * dtype.itemsize > info.file_size:
            raise GsnnError(f"{what} is truncated: it announces {shape} values of {dtype}")
        data = stream.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise GsnnError(f"{what} is truncated: it holds {len(data)} bytes of {count * dtype.itemsize}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
