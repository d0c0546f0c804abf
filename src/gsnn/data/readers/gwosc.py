"""Strain from HDF5 files of the Gravitational Wave Open Science Center and of the mock data challenge MLGWSC-1.

GWOSC: ``strain/Strain`` beside ``meta`` and ``quality/simple/DQmask``, one word a second whose bits say what was good.
Mock data (MLGWSC-1, Schaefer et al. 2023, arXiv:2209.11146): datasets with the attributes ``delta_t`` and
``start_time``, alone or in a group for each detector.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

from ...errors import GsnnError

NEEDED = ("DATA", "CBC_CAT1", "CBC_CAT2")  # flags without which a second is not searched for compact binaries
MOST = 1 << 31  # samples


@dataclass(frozen=True)
class Strain:
    """One detector's strain from GPS second ``start`` on, ``rate`` samples/s; NaN where it must not be used."""

    detector: str
    start: float
    rate: float
    values: Float64[np.ndarray, " time"]
    notes: tuple[str, ...] = field(default=())

    @property
    def seconds(self) -> float:
        return len(self.values) / self.rate


def is_strain(path: str) -> bool:
    """Whether an HDF5 file is laid out as one of the two."""
    try:
        with _open(path) as file:
            return "strain/Strain" in file or next(_mock(file), None) is not None
    except GsnnError:
        return False


def read_strain(path: str | os.PathLike[str]) -> list[Strain]:
    """The strain of every detector in a file. One sentence, a GsnnError, for what cannot be read."""
    path = os.fspath(path)
    with _open(path) as file:
        try:
            if "strain/Strain" in file:
                return [_gwosc(path, file)]
            found = [_mocked(path, name, data) for name, data in _mock(file)]
        except GsnnError:
            raise
        except Exception as error:  # whatever libhdf5 says of a damaged file
            raise _damaged(path, error) from error
    if not found:
        raise GsnnError(
            f"{path} holds no strain: neither 'strain/Strain' (GWOSC) nor a dataset with delta_t and start_time"
        )
    return found


def _damaged(path: str, error: object) -> GsnnError:
    return GsnnError(f"{path} is a damaged or truncated HDF5 file ({' '.join(str(error).split())[:120]}); get it again")


@contextmanager
def _open(path: str) -> Iterator[Any]:
    import h5py

    if not os.path.exists(path):
        raise GsnnError(f"no such file: {path}")
    try:
        file = h5py.File(path, "r", locking=False)
    except Exception as error:
        raise _damaged(path, error) from error
    with file:
        yield file


def _gwosc(path: str, file: Any) -> Strain:
    data = file["strain/Strain"]
    step = float(data.attrs.get("Xspacing", 0))
    start = file["meta/GPSstart"][()] if "meta/GPSstart" in file else data.attrs.get("Xstart")
    if start is None:
        raise GsnnError(f"{path} does not say when it starts (meta/GPSstart); get it again from gwosc.org")
    name = file["meta/Detector"][()] if "meta/Detector" in file else b""
    name = name.decode() if isinstance(name, bytes) else str(name)
    values = _values(path, data, step)
    notes = _missing(values)
    mask = "quality/simple/DQmask"
    if mask in file:
        notes += _flag(path, values, 1 / step, np.asarray(file[mask][:]), file.get("quality/simple/DQShortnames"))
    else:
        notes += ["it has no data-quality flags"]
    return Strain(name or "unknown", float(start), 1 / step, values, tuple(f"{name}: {note}" for note in notes))


def _flag(path: str, values: np.ndarray, rate: float, mask: np.ndarray, names: Any) -> list[str]:
    """NaN in place of the seconds that lack a needed flag; what was taken out."""
    each = round(rate)
    if len(mask) * each != len(values):
        raise GsnnError(
            f"{path} has data-quality flags for {len(mask)} s and strain for {len(values) / rate:g} s; get it again"
        )
    known = [n.decode() if isinstance(n, bytes) else str(n) for n in (names[:] if names is not None else [b"DATA"])]
    notes = []
    for flag in NEEDED:
        if flag not in known:
            continue
        lacking = (mask >> known.index(flag)) & 1 == 0
        if lacking.any():
            values.reshape(len(mask), each)[lacking] = np.nan
            notes.append(f"{int(lacking.sum())} s without the data-quality flag {flag} are taken out")
    return notes


def _missing(values: np.ndarray) -> list[str]:
    gaps = int((~np.isfinite(values)).sum())
    return [f"{gaps} samples are missing"] if gaps else []


def _mock(file: Any) -> Iterator[tuple[str, Any]]:
    import h5py

    for name in file:
        one = file.get(name)
        if isinstance(one, h5py.Dataset) and {"delta_t", "start_time"} <= set(one.attrs):
            yield "", one
        elif isinstance(one, h5py.Group) and len(name) == 2:
            for inner in one.values():
                if isinstance(inner, h5py.Dataset) and {"delta_t", "start_time"} <= set(inner.attrs):
                    yield name, inner


def _mocked(path: str, name: str, data: Any) -> Strain:
    values = _values(path, data, float(data.attrs["delta_t"]))
    notes = _missing(values) + ([] if name else ["the file does not say which detector this is"])
    step = float(data.attrs["delta_t"])
    return Strain(name or "unknown", float(data.attrs["start_time"]), 1 / step, values, tuple(notes))


def _values(path: str, data: Any, step: float) -> np.ndarray:
    if data.ndim != 1 or data.dtype.kind != "f" or not data.shape[0]:
        raise GsnnError(f"{path}: {data.name} is no series of numbers but {data.dtype} of shape {data.shape}")
    if not 1e-6 < step < 1:
        raise GsnnError(f"{path}: {data.name} says that its samples are {step:g} s apart, which no detector's are")
    if data.is_virtual or data.external or data.shape[0] > MOST or data.shape[0] > 2000 * os.path.getsize(path):
        raise GsnnError(f"{path}: {data.name} announces {data.shape[0]} samples, more than the file can hold")
    values = np.asarray(data[:], np.float64)
    if np.nanmax(np.abs(np.where(np.isfinite(values), values, 0)), initial=0) > 1e-3:
        raise GsnnError(
            f"{path}: {data.name} has values of {np.nanmax(np.abs(values)):.2g}; strain is of the order 1e-19"
        )
    return values
