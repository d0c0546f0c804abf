"""Readers: any file of the sky as a source of rows.

``read`` recognises a file by its content (FITS, HDF5, Parquet, NumPy, text tables, pictures, folders of them), names
its columns so that SQL takes them (letters, digits and ``_``; case is kept) and decides what each one is:

- ``id`` stands first: a column known to hold identifiers that tells the rows apart, else ``<file stem>-<row>``;
- right ascension and declination in degrees become ``ra`` and ``dec`` (float64 positions);
- numbers are scalars (int64, float32 or float64); words of few values are labels with sorted classes, others are text;
- maps of HEALPix pixels become spheres [channel, pixel], NESTED;
- arrays [y, x], [band, y, x] or [y, x, channel] are images (uint8 or float32), other arrays spectra or fields;
- observations become light curves: two tables, one of objects and one of their observations; lists in the cells of a
  table; products of Kepler, TESS and SNANA; Avro alert packets; archives of tables, one an object.

``kinds`` and ``units`` overrule this. What was decided, and what was left out, is told in ``notes``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from ...errors import GsnnError
from ..schema import Schema
from ..source import Source
from .curves import Wanted, with_lists
from .detect import ARCHIVES, IMAGES, detect, find, sort_out
from .raw import Raw, brief, concatenate, of_array, stems, unsuffixed
from .table import Table, infer

__all__ = ["Files", "Table", "read"]


def read(
    source: Any,
    *,
    labels: Any = None,
    observations: Any = None,
    on: str = "id",
    light_curve: Mapping[str, Any] | None = None,
    hdu: int | str | None = None,
    key: str | None = None,
    columns: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    missing: Sequence[float] | None = None,
    crop: int | None = None,
    size: int | None = None,
) -> Source:
    """A source of the rows in ``source``: a path (file, folder or pattern), a list of paths (one after the other), a
    pandas, astropy or Arrow table, a dictionary of arrays [n, ...] or an array.

    ``labels`` is one more such table, whose columns are added to the objects whose ``on`` (or id) is that in its column
    ``on``. ``observations`` is a table with a row an observation, whose column ``on`` says of which object: they become
    light curves. ``light_curve`` says which columns are their times, fluxes, errors and bands, where the names do not
    (``curves.Wanted``); for text tables in a folder or archive it says that each is the light curve of an object.

    ``hdu`` names a part of a FITS file, ``key`` a group or dataset of an HDF5 or npz file. ``columns`` keeps
    these columns alone. ``names`` are the names of columns without a header. ``kinds`` and ``units`` overrule what is
    inferred (``{"class": "label"}``). ``missing`` are numbers that mean "no value" (``[99, -9999]``). ``crop`` and
    ``size`` cut and resample images (pixels).

    Raises GsnnError, one sentence, for whatever cannot be read.
    """
    if isinstance(source, Table):
        return source
    wanted = None if light_curve is None else Wanted.of(light_curve)
    raw, done = _raw(source, hdu, key, names, crop, size, wanted)
    if labels is not None:
        from .join import join

        raw = join(raw, _raw(labels)[0], on, _keys(raw, kinds))
    if observations is not None:
        from .observations import with_observations

        table = _raw(observations)[0]
        raw = with_observations(raw, table, None if on == "id" else on, wanted or Wanted(), _keys(raw, kinds))
    raw = with_lists(raw, wanted)
    if done:
        crop = size = None
    try:
        return infer(raw, columns=columns, kinds=kinds, units=units, missing=missing or (), crop=crop, size=size)
    except (MemoryError, OverflowError) as error:
        raise GsnnError(
            f"{raw.stem} announces more rows than fit into memory ({brief(error)}); is it damaged?"
        ) from error


class Files:
    """The part ``files``: the rows of files as a source. Settings are those of ``read``."""

    def __init__(
        self,
        *,
        path: str | list[str],
        labels: str | None = None,
        observations: str | None = None,
        on: str = "id",
        light_curve: dict[str, Any] | None = None,
        hdu: int | str | None = None,
        key: str | None = None,
        columns: list[str] | None = None,
        names: list[str] | None = None,
        kinds: dict[str, str] | None = None,
        units: dict[str, str] | None = None,
        missing: list[float] | None = None,
        crop: int | None = None,
        size: int | None = None,
    ):
        self._source = read(
            path,
            labels=labels,
            observations=observations,
            on=on,
            light_curve=light_curve,
            hdu=hdu,
            key=key,
            columns=columns,
            names=names,
            kinds=kinds,
            units=units,
            missing=missing,
            crop=crop,
            size=size,
        )
        self.notes: list[str] = self._source.notes

    def schema(self) -> Schema:
        return self._source.schema()

    def __len__(self) -> int:
        return len(self._source)

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int = 0) -> pa.RecordBatch:
        return self._source.rows(indices, seed)


def _raw(
    source: Any,
    hdu: Any = None,
    key: Any = None,
    names: Any = None,
    crop: Any = None,
    size: Any = None,
    wanted: Wanted | None = None,
) -> tuple[Raw, bool]:
    """The fields of any source, and whether its images are cut to size already."""
    if not isinstance(source, (str, os.PathLike, list, tuple)):
        from .memory import read_memory

        return read_memory(source, names), False
    if not isinstance(source, (list, tuple)):
        from .. import hats

        if hats.is_catalogue(source):
            return hats.raw(source), False
    paths, root, notes = _paths(source)
    kind = "picture" if all(path.lower().endswith(_SUFFIXES) for path in paths) and len(paths) > 1 else None
    if root is not None:
        paths, kind, left = sort_out(paths, root)
        notes += left
    kinds = {kind} if kind else {_picture(detect(path)) for path in paths}
    if len(kinds) > 1:
        raise GsnnError(f"these files are of several formats ({', '.join(sorted(kinds))}); read them apart")
    kind = kinds.pop()
    try:
        raw, done = _of_files(paths, root, kind, hdu, key, names, crop, size, wanted)
    except OSError as error:
        raise GsnnError(
            f"cannot open {error.filename or paths[0]}: {(error.strerror or str(error)).lower()}"
        ) from error
    except (MemoryError, OverflowError) as error:
        raise GsnnError(f"{paths[0]} announces more than fits into memory ({brief(error)}); is it damaged?") from error
    raw.notes = [*notes, *raw.notes]
    return raw, done


_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif")


def _picture(kind: str) -> str:
    return "picture" if kind in IMAGES else kind


def _paths(source: Any) -> tuple[list[str], str | None, list[str]]:
    if isinstance(source, (str, os.PathLike)):
        if not os.fspath(source):
            raise GsnnError("the path is empty; name a file, a folder or a pattern")
        paths, root = find(os.fspath(source))
        return paths, root, []
    if not source or not all(isinstance(one, (str, os.PathLike)) for one in source):
        raise GsnnError("a list of files must hold paths, and at least one")
    paths = [path for one in source for path in find(os.fspath(one))[0]]
    return paths, None, []


def _of_files(
    paths: list[str],
    root: str | None,
    kind: str,
    hdu: Any,
    key: Any,
    names: Any,
    crop: Any,
    size: Any,
    wanted: Wanted | None,
) -> tuple[Raw, bool]:
    if kind == "picture":
        from .images import one_each

        return _image_files(paths, root, Raw("", len(paths), [one_each(paths, crop, size)], kind, files=paths)), True
    short = stems(paths)
    if kind == "fits":
        from . import fits, healpix, kepler, snana

        if healpix.is_map(paths[0], hdu):
            return healpix.read_maps(paths, short, hdu), False
        if hdu is None and kepler.is_light_curve(paths[0]):
            return kepler.read_light_curves(paths, wanted or Wanted()), False
        if hdu is None and (heads := snana.heads(paths)):
            return snana.read_snana(heads, stems(heads), wanted or Wanted()), False
        if len(paths) > 1 and _any_images(paths, hdu):
            return _image_files(paths, root, fits.images(paths, hdu, "", crop, size)), True
        if len(paths) == 1 and fits.holds_images(paths[0], hdu):
            return _image_files(paths, root, fits.images(paths, hdu, "", crop, size)), True
    if kind == "avro":
        from .avro import read_avro

        return read_avro(paths, short), False
    if kind in ARCHIVES or (kind == "text" and wanted is not None and len(paths) > 1):
        return _tables(paths, root, kind, names, wanted), False
    raws = [_one(path, stem, kind, hdu, key, names) for path, stem in zip(paths, short)]
    if len(raws) == 2:
        from .observations import is_pair, with_observations

        for first, second in (raws, raws[::-1]):
            if is_pair(first, second):
                return with_observations(first, second, None, wanted or Wanted(), _keys(first, None)), False
    return concatenate(raws), False


def _tables(paths: list[str], root: str | None, kind: str, names: Any, wanted: Wanted | None) -> Raw:
    """One object a text table, of a folder or of an archive."""
    from .archives import members
    from .observations import of_tables
    from .text import read_text

    if kind in ARCHIVES and len(paths) > 1:
        raise GsnnError("several archives cannot be read at once; name one of them")
    files = members(paths[0], kind) if kind in ARCHIVES else [(path, None) for path in paths]
    short = stems([name for name, _ in files])
    tables: list[Raw | str] = []
    for (name, content), stem in zip(files, short):
        try:
            tables.append(read_text(name, stem, names, content))
        except GsnnError as error:
            tables.append(str(error))
    raw = of_tables(tables, unsuffixed(short), wanted or Wanted(), stems([root or paths[0]])[0])
    raw.files = paths
    return raw


def _any_images(paths: list[str], hdu: Any) -> bool:
    """Whether a set of FITS files holds images, by the first that can be opened."""
    from . import fits

    problem: GsnnError | None = None
    for path in paths[:16]:
        try:
            return fits.holds_images(path, hdu)
        except GsnnError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _image_files(paths: list[str], root: str | None, raw: Raw) -> Raw:
    """One object a file: its id is the file's stem, its folders are its class and split."""
    from .folders import columns_of, ids_of

    ids = ids_of(paths)
    raw.stem = ids[0] if len(paths) == 1 else os.path.basename(os.path.normpath(root)) if root else "the images"
    raw.fields = [of_array("id", np.array(ids, dtype=object), kind="id"), *raw.fields, *columns_of(paths, root)]
    return raw


def _one(path: str, stem: str, kind: str, hdu: Any, key: Any, names: Any) -> Raw:
    if kind == "text":
        from .text import read_text

        return read_text(path, stem, names)
    if kind == "fits":
        from .fits import read_fits

        return read_fits(path, stem, hdu)
    if kind == "hdf5":
        from .hdf5 import read_hdf5

        return read_hdf5(path, stem, key)
    if kind == "parquet":
        from .parquet import read_parquet

        return read_parquet(path, stem)
    from .arrays import read_npy, read_npz

    return read_npz(path, stem, key) if kind == "npz" else read_npy(path, stem, names)


def _keys(raw: Raw, kinds: Mapping[str, str] | None) -> pa.Array:
    """The ids that the objects will have."""
    probe = Raw(raw.stem, raw.length, raw.fields, raw.format, raw.bad, [], raw.ids)
    return infer(probe, kinds={name: kind for name, kind in (kinds or {}).items() if kind == "id"}).ids()
