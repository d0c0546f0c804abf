"""HDF5: all datasets that share the longest first axis are the columns; read by slices, never whole."""

from __future__ import annotations

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
        what = " ".join(str(error).split())[:160]
        raise GsnnError(f"{path} is a damaged or truncated HDF5 file ({what}); copy or download it again") from error


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
    unit = _attribute(dataset, "units") or _attribute(dataset, "unit")
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


def _attribute(dataset: Any, name: str) -> str:
    try:
        value = dataset.attrs.get(name, "")
    except Exception:  # an attribute that cannot be read only costs its unit
        return ""
    value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return value.strip() if isinstance(value, str) and len(value) < 60 else ""


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
