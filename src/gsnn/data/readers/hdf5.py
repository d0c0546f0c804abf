"""HDF5: all datasets that share the longest first axis are the columns; read by slices, never whole."""

from __future__ import annotations

import mmap
import os
from collections import defaultdict
from typing import Any

import numpy as np

from ...errors import GsnnError, suggest
from .raw import TEXT, Field, Raw, Reasons, stored

EXPANSION = 2000  # compression beyond this is taken for a damaged header
MOST = 10_000  # datasets looked at
# Galaxy10 keeps class numbers alone; the names are those of its documentation (Leung & Bovy, astroNN), by image size.
GALAXY10 = {
    256: (
        "disturbed",
        "merging",
        "round smooth",
        "in-between round smooth",
        "cigar shaped smooth",
        "barred spiral",
        "unbarred tight spiral",
        "unbarred loose spiral",
        "edge-on without bulge",
        "edge-on with bulge",
    ),
    69: (
        "face-on disk without spiral",
        "completely round smooth",
        "in-between round smooth",
        "cigar shaped smooth",
        "edge-on disk with rounded bulge",
        "edge-on disk with boxy bulge",
        "edge-on disk without bulge",
        "face-on disk with tight spiral",
        "face-on disk with medium spiral",
        "face-on disk with loose spiral",
    ),
}


def read_hdf5(path: str, stem: str, key: str | None = None) -> Raw:
    """The fields of an HDF5 file, or of the group or dataset ``key`` in it."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            found = _datasets(file, key, path)
            length, chosen = _longest(found, path)
            fields, left = [], []
            for name, where in _names(chosen).items():
                made = _fields(path, name, where, file[where])
                fields += made
                left += [] if made else [where]
            left += [where for where in found if where not in chosen]
            notes = [f"datasets of another length or type were left out: {', '.join(left[:8])}"] if left else []
            fields = _galaxy10(file, fields)
            return Raw(stem, length, fields, "hdf5", notes=notes, files=[path])
    except GsnnError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: str, why: object) -> GsnnError:
    what = " ".join(str(why).split())[:160]
    return GsnnError(f"{path} is a damaged or truncated HDF5 file ({what}); copy or download it again")


def _datasets(file: Any, key: str | None, path: str) -> dict[str, tuple[int, ...]]:
    """Path and shape of every dataset that lives in the file itself (nothing behind a link to another file)."""
    import h5py

    start = file
    if key is not None:
        if key not in file:
            raise GsnnError(f"{path} has no {key!r} in it; {suggest(key, list(file))}")
        start = file[key]
    found: dict[str, tuple[int, ...]] = {}
    todo, seen = [start], set()
    while todo and len(seen) < MOST:
        one = todo.pop()
        if one.name in seen:
            continue
        seen.add(one.name)
        if isinstance(one, h5py.Dataset):
            outside = one.is_virtual or one.external
            if one.shape and not outside and len(one.shape) >= 1 and one.shape[0] > 0:
                found[one.name] = one.shape
        elif isinstance(one, h5py.Group):
            for name in one:
                if isinstance(one.get(name, getlink=True), h5py.HardLink):
                    todo.append(one[name])
    if not found:
        raise GsnnError(f"{path} holds no dataset with rows" + (f" under {key!r}" if key else ""))
    return found


def _longest(found: dict[str, tuple[int, ...]], path: str) -> tuple[int, list[str]]:
    """The length that holds the most values, and the datasets of that length."""
    held = os.path.getsize(path)
    sizes: dict[int, float] = defaultdict(float)
    for shape in found.values():
        sizes[shape[0]] += float(np.prod([float(n) for n in shape]))
    length = max(sizes, key=lambda n: (sizes[n], n))
    if sizes[length] > held * EXPANSION:
        raise GsnnError(f"{path} is damaged: it announces {sizes[length]:.3g} values in a file of {held} bytes")
    return length, sorted(where for where, shape in found.items() if shape[0] == length)


def _names(paths: list[str]) -> dict[str, str]:
    """A column name for each dataset: its own, or with its groups where two share one."""
    last = [path.rsplit("/", 1)[-1] for path in paths]
    return {name if last.count(name) == 1 else path.strip("/"): path for name, path in zip(last, paths)}


def _fields(path: str, name: str, where: str, dataset: Any) -> list[Field]:
    import h5py

    dtype, shape = dataset.dtype, dataset.shape[1:]
    _check_words(path, dataset)
    unit = _attribute(path, dataset, "units") or _attribute(path, dataset, "unit")
    if dtype.names:
        if shape:
            return []
        return [one for part in dtype.names for one in _part(path, part, where, dtype[part], part, ())]
    if h5py.check_string_dtype(dtype) is not None:
        return [] if shape else [Field(name, TEXT, _taker(path, where, None), unit=unit)]
    return _part(path, name, where, dtype, None, shape, unit)


def _part(
    path: str, name: str, where: str, dtype: np.dtype, part: str | None, shape: tuple[int, ...], unit: str = ""
) -> list[Field]:
    if dtype.subdtype:
        dtype, inner = dtype.subdtype
        shape = (*shape, *inner)
    if dtype.kind == "S" or (dtype.kind == "O" and part):
        return [] if shape else [Field(name, TEXT, _taker(path, where, part), unit=unit)]
    if dtype.kind not in "iufb":
        return []
    if any(n < 1 for n in shape):
        return []
    return [Field(name, stored(dtype), _taker(path, where, part), shape, unit=unit)]


def _attribute(path: str, dataset: Any, name: str) -> str:
    try:
        if name not in dataset.attrs:
            return ""
        _check_words(path, dataset.attrs.get_id(name))
        value = dataset.attrs[name]
    except GsnnError:
        raise
    except Exception:  # an attribute that cannot be read only costs its unit
        return ""
    value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return value.strip() if isinstance(value, str) and len(value) < 60 else ""


def _check_words(path: str, one: Any) -> None:
    """Refuse words of any length that libhdf5 2.0 would walk for ever or fill the memory for.

    They lie in global heaps ("GCOL"; an object without a size never ends), and each cell holds a length, which may
    announce 4 GiB, and a place in a heap. Layout: HDF5 file format specification 3.0, III.E. Compressed cells are not
    looked at.
    """
    if one.dtype.kind != "O" and not any(one.dtype[part].kind == "O" for part in one.dtype.names or ()):
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for start, count in _cells(one):
            lengths = np.frombuffer(data[start : start + 16 * count], "<u4")[::4]
            if lengths.max(initial=0) > len(data):
                raise _damaged(path, f"a word of {lengths.max()} bytes")
        start = -1
        while (start := data.find(b"GCOL\x01", start + 1)) >= 0:
            here, end = start + 16, start + int.from_bytes(data[start + 8 : start + 16], "little")
            while here + 16 <= min(end, len(data)):
                number = int.from_bytes(data[here : here + 2], "little")
                length = int.from_bytes(data[here + 8 : here + 16], "little")
                step = 16 + (length + 7) // 8 * 8 if number else length  # free space counts its own header
                if step < 16 or here + step > end:
                    raise _damaged(path, f"its words at byte {here}")
                here += step


def _cells(one: Any) -> list[tuple[int, int]]:
    """Where the 16-byte cells of a dataset of words lie in the file (byte, number), if they lie there as they are."""
    import h5py

    if not isinstance(one, h5py.Dataset) or one.dtype.kind != "O" or one.compression or one.shuffle or one.fletcher32:
        return []
    if one.chunks is None:
        start = one.id.get_offset()
        return [] if start is None else [(int(start), int(one.size))]
    chunks = [one.id.get_chunk_info(i) for i in range(one.id.get_num_chunks())]
    return [(int(chunk.byte_offset), int(chunk.size) // 16) for chunk in chunks]


def _taker(path: str, where: str, part: str | None) -> Any:
    """Rows of a dataset: each run of consecutive rows is one slice, and the file is opened for the time of the call."""

    def take(indices: np.ndarray, reasons: Reasons) -> np.ndarray:
        import h5py

        unique, inverse = np.unique(indices, return_inverse=True)
        breaks = np.flatnonzero(np.diff(unique) > 1) + 1
        with h5py.File(path, "r", locking=False) as file:
            dataset = file[where]
            if part is not None:
                dataset = dataset.fields(part)
            pieces = [dataset[int(run[0]) : int(run[-1]) + 1] for run in np.split(unique, breaks)]
        return np.concatenate(pieces)[inverse]

    return take


def _galaxy10(file: Any, fields: list[Field]) -> list[Field]:
    """Galaxy10 (``images`` [n, y, x, 3] and ``ans``): its class names and its pixel scale."""
    from dataclasses import replace

    by_name = {one.name: one for one in fields}
    images, answers = by_name.get("images"), by_name.get("ans")
    if images is None or answers is None or len(images.shape) != 3 or answers.shape:
        return fields
    names = GALAXY10.get(images.shape[0])
    scale = None
    if "pxscale" in by_name:
        scales = np.unique(np.asarray(file["pxscale"][:64], dtype=float))
        scale = float(scales[0]) if len(scales) == 1 and scales[0] > 0 else None
    fields = [replace(one, pixel_scale=scale) if one is images else one for one in fields]
    if names:
        take = answers.take

        def named(indices: np.ndarray, reasons: Reasons) -> np.ndarray:
            codes = take(indices, reasons)
            return np.array([names[c] if 0 <= c < len(names) else None for c in codes.tolist()], dtype=object)

        new = replace(answers, dtype=TEXT, take=named, kind="label", classes=names)
        return [new if one is answers else one for one in fields]
    return [replace(one, kind="label") if one is answers else one for one in fields]
