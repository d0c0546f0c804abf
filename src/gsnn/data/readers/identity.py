"""The id of each row: a column that tells the rows apart, or one that the reader makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import GsnnError
from .raw import TEXT, Field, Raw, Reasons, values_of, words

IDS = [
    "id",
    "objid",
    "obj_id",
    "objectid",
    "object_id",
    "source_id",
    "sourceid",
    "specobjid",
    "targetid",
    "target_id",
    "galaxyid",
    "galaxy_id",
    "gal_id",
    "dr7objid",
    "dr8objid",
    "iauname",
    "obsid",
    "kepoi_name",
    "snid",
    "cid",
    "designation",
    "name",
    "index",
    "unnamed_0",
    "col1",
]


class Ids:
    """The id of each row: a column of the file if it tells the rows apart, else ``<file stem>-<row>``."""

    def __init__(self, raw: Raw, values: pa.Array | None = None, origin: str = ""):
        self.raw, self.values, self.origin = raw, values, origin
        self.repeated: dict[int, int] = {}
        if values is not None:
            codes = values.dictionary_encode().indices
            codes = pc.fill_null(codes, -1).to_numpy(zero_copy_only=False)
            _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
            again = np.flatnonzero((first[inverse] != np.arange(len(codes))) & (codes >= 0))
            self.repeated = {int(i): int(first[inverse[i]]) for i in again}

    def take(self, indices: np.ndarray, reasons: Reasons) -> pa.Array:
        if self.values is None:
            return pa.array(self.raw.made_ids(indices), pa.string())
        found = self.values.take(pa.array(indices)).to_pylist()
        for position, i in enumerate(indices):
            if found[position] is None:
                found[position] = self.raw.made_ids(np.array([i]))[0]
            elif int(i) in self.repeated:
                reasons[position] = reasons[position] or (
                    f"the id {found[position]!r} stands already in row {self.repeated[int(i)]}"
                )
                found[position] = f"{found[position]}#{i}"
        return pa.array(found, pa.string())


def choose_ids(raw: Raw, fields: list[Field], kinds: Mapping[str, str]) -> tuple[Ids, list[Field]]:
    stated = [one for one in fields if kinds.get(one.name, one.kind) == "id"]
    if len(stated) > 1:
        raise GsnnError(f"{stated[0].name!r} and {stated[1].name!r} cannot both be the id; keep one of them")
    named = sorted((one for one in fields if one.name.lower() in IDS), key=lambda one: IDS.index(one.name.lower()))
    for one in stated or named:
        whole = one.dtype == TEXT or one.dtype in ("int64", "uint64", "float64", "uint8")
        made_up = one.name == "col1" and one.dtype != TEXT  # a first column without a name is an id only if it is words
        if one.shape or not whole or (not stated and (one.name in kinds or made_up)):
            continue
        values = values_of(raw, one)
        if pa.types.is_floating(values.type) and not stated and not _whole(values):
            continue
        origin = one.description or ("" if one.name == "id" else one.name)
        ids = Ids(raw, words(values), origin)
        repeats, blanks = len(ids.repeated), ids.values.null_count
        if stated or (2 * repeats < raw.length and repeats <= max(1, raw.length // 50) and 2 * blanks < raw.length):
            if one.name != "id":
                raw.notes.append(f"the column {one.name!r} is the id")
            if repeats:
                raw.notes.append(f"{repeats} rows repeat the id of an earlier row and are set aside")
            if blanks:
                raw.notes.append(f"{blanks} rows have no id and are named {raw.made_ids(np.array([0]))[0]!r} and so on")
            return ids, [other for other in fields if other is not one]
        raw.notes.append(f"the column {one.name!r} repeats itself, so it is not the id")
    fields = [replace(one, name="id_") if one.name == "id" else one for one in fields]
    return Ids(raw), fields


def _whole(values: pa.Array) -> bool:
    values = values.drop_null()
    return len(values) > 0 and bool(pc.all(pc.equal(values, pc.floor(values))).as_py())
