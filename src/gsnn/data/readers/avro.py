"""Alert packets in Avro: single packets as bytes, as they come from a broker, and files and folders of them.

A packet is an Avro object container (ZTF, PGIR, WINTER), or a bare record behind a zero byte and the number of its
schema (LSST; Confluent's wire format). What a record means is in ``alerts.py``. The frame of a container is read here
(Avro specification 1.11, "Object Container Files"), so that a schema is parsed once and not for every packet, and
nothing is unpacked beyond a limit.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ...errors import GsnnError
from ..light_curves import LightCurves
from .alerts import PARTS, SKIES, Sky, alert, unpacked
from .raw import CURVES, TEXT, Field, Raw, Reasons, brief, of_array

MAGIC = b"Obj\x01"
MOST_BYTES = 64 << 20  # of a file of packets, and of a block once it is unpacked
MOST_SCHEMA = 1 << 20

Schemas = Mapping[int, str]


def decode(
    packet: bytes, schemas: Schemas | None = None, *, stamps: bool = True, numbers: bool = True
) -> dict[str, Any]:
    """One alert packet as the columns of a survey.

    ``survey`` ("ztf", "lsst", "pgir" or "winter"), ``id`` (of this detection), ``object_id``, ``ra`` and ``dec``
    [deg], ``light_curve`` (a LightCurve in uJy; ``band`` counts the bands of ``SKIES[survey]``, times are MJD),
    ``stamps`` (float32 [3, y, x]: science, template, difference; NaN outside the image; None if the packet has none),
    and every number of the detection by its name in the packet. ``schemas`` are the schemas (JSON) of a registry by
    number, for packets that only name theirs. Without ``stamps`` or ``numbers`` these are left out.

    Raises GsnnError, one sentence, for whatever is no such packet.
    """
    found = list(_records(packet, schemas))
    if len(found) != 1:
        raise GsnnError(f"the alert packet holds {len(found)} records, and one was expected")
    return alert(*found[0], stamps=stamps, numbers=numbers)


def _records(packet: bytes, schemas: Schemas | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name of the schema and the content of every record."""
    reader = _fastavro()
    try:
        if packet[:4] == MAGIC:
            name, schema, blocks = _container(packet)
        elif packet[:1] == b"\0" and len(packet) > 5:
            name, schema, blocks = _numbered(packet, schemas)
        else:
            raise GsnnError(f"this is no Avro alert packet (it begins with {packet[:8]!r})")
        for count, body in blocks:
            stream = io.BytesIO(body)
            for _ in range(count):
                record = reader.schemaless_reader(stream, schema, None)
                yield name, record
            if stream.tell() != len(body):
                raise GsnnError("the alert packet is damaged: bytes are left over behind its last record")
    except GsnnError:
        raise
    except Exception as error:  # a damaged packet makes the decoder fail in many ways
        raise GsnnError(f"the alert packet is damaged or truncated ({brief(error)})") from error


def _fastavro() -> Any:
    try:
        import fastavro
    except ImportError as error:
        raise GsnnError("reading alert packets needs fastavro: pip install 'gsnn[alerts]'") from error
    return fastavro


def _numbered(packet: bytes, schemas: Schemas | None) -> tuple[str, Any, list[tuple[int, bytes]]]:
    number = int.from_bytes(packet[1:5], "big")
    if number not in (schemas or {}):
        known = ", ".join(map(str, sorted(schemas or {}))) or "none"
        raise GsnnError(f"the alert packet is written with schema {number}, which is not at hand (known: {known})")
    return *_schema((schemas or {})[number].encode()), [(1, packet[5:])]


def _container(packet: bytes) -> tuple[str, Any, list[tuple[int, bytes]]]:
    """The schema, and the number of records and the content of every block."""
    about, at = _header(packet)
    codec = about.get(b"avro.codec", b"null").decode("ascii", "replace")
    if codec not in ("null", "deflate"):
        raise GsnnError(f"the alert packet is compressed with {codec[:20]!r}; GSNN reads plain and deflated ones")
    sync, at, blocks = packet[at : at + 16], at + 16, []
    while at < len(packet):
        count, at = _long(packet, at)
        body, at = _bytes(packet, at)
        if packet[at : at + 16] != sync or len(sync) < 16:
            raise GsnnError("the alert packet is damaged or truncated (the mark behind its records is missing)")
        at += 16
        if codec == "deflate":
            body = unpacked(body, MOST_BYTES, -15)
        if not 0 <= count <= len(body):
            raise GsnnError(f"the alert packet is damaged: it announces {count} records in {len(body)} bytes")
        blocks.append((count, body))
    return *_schema(about.get(b"avro.schema", b"")), blocks


def _header(packet: bytes) -> tuple[dict[bytes, bytes], int]:
    at, about = 4, {}
    while True:
        count, at = _long(packet, at)
        if count == 0:
            return about, at
        if count < 0:  # then the size of the block in bytes follows
            count, (_, at) = -count, _long(packet, at)
        for _ in range(min(count, 100)):
            key, at = _bytes(packet, at)
            about[key], at = _bytes(packet, at)


def _long(data: bytes, at: int) -> tuple[int, int]:
    """A zigzag whole number of variable length, and where it ends."""
    value = shift = 0
    while shift < 64:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return (value >> 1) ^ -(value & 1), at
    raise ValueError("a number without an end")


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = _long(data, at)
    if not 0 <= length <= len(data) - at:
        raise ValueError(f"{length} bytes are announced and {len(data) - at} are left")
    return data[at : at + length], at + length


@lru_cache(64)
def _schema(text: bytes) -> tuple[str, Any]:
    """The full name of a schema, and the schema as the decoder takes it."""
    if len(text) > MOST_SCHEMA:
        raise GsnnError(f"the alert packet's schema has {len(text)} bytes; it is damaged")
    schema = json.loads(text)
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise GsnnError("the alert packet holds no records")
    if not _fits(schema, {}):
        raise GsnnError("the alert packet's schema has lists of nothing, whose length no packet bounds")
    parsed = _fastavro().parse_schema(schema)
    return str(parsed["name"]), parsed


def _fits(schema: Any, named: dict[str, Any]) -> bool:
    """Whether every item of every list in a schema takes at least a byte."""
    if isinstance(schema, list):
        return all(_fits(one, named) for one in schema)
    if not isinstance(schema, dict):
        return True
    named[str(schema.get("name"))] = schema
    kind = schema.get("type")
    if kind == "record":
        return all(_fits(one.get("type"), named) for one in schema.get("fields", []))
    if kind in ("array", "map"):
        items = schema.get("items", schema.get("values"))
        return _fits(items, named) and (kind == "map" or not _empty(items, named, 0))
    return _fits(kind, named) if isinstance(kind, (dict, list)) else True


def _empty(schema: Any, named: dict[str, Any], depth: int) -> bool:
    """Whether a value of this type may take no byte at all."""
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    if schema == "null" or depth > 20:
        return True
    if not isinstance(schema, dict):
        return False
    if schema.get("type") == "record":
        return all(_empty(one.get("type"), named, depth + 1) for one in schema.get("fields", []))
    if schema.get("type") == "fixed":
        return not schema.get("size")
    return _empty(schema.get("type"), named, depth + 1) if schema.get("type") in ("null", *named) else False


def read_avro(paths: Sequence[str], short: Sequence[str]) -> Raw:
    """Alert packets in files: a row each, with its light curve, its stamps and the numbers of the detection.

    All are looked at once, without their stamps; those are unpacked when they are asked for.
    """
    where: list[tuple[int, int]] = []  # file and record of each row
    found: list[dict[str, Any] | None] = []
    bad: dict[int, str] = {}
    for k, path in enumerate(paths):
        first = len(where)
        try:
            for i, (name, record) in enumerate(_records(_content(path))):
                where.append((k, i))
                found.append(None)
                try:
                    found[-1] = alert(name, record, stamps=False)
                except GsnnError as error:
                    bad[len(where) - 1] = str(error)
        except GsnnError as error:
            bad[len(where)] = str(error)
            where.append((k, len(where) - first))
            found.append(None)
    good = [one for one in found if one]
    if not good:
        raise GsnnError(f"{paths[0]}: {bad[min(bad)]}" if bad else f"{paths[0]} holds no alert packet")
    survey = max(SKIES, key=lambda name: sum(one["survey"] == name for one in good))
    for row, one in enumerate(found):
        if one and one["survey"] != survey:
            bad[row], found[row] = f"an alert of {one['survey']} among those of {survey}", None
    ids = [one["id"] if one else None for one in found]
    made = [f"{short[k]}-{i}" if i else short[k] for k, i in where]
    fields = _fields(paths, where, found, SKIES[survey])
    names = [one or other for one, other in zip(ids, made)]
    notes = [f"alerts of {survey}"]
    notes += [f"{len(bad)} of {len(where)} packets cannot be used; the first: {bad[min(bad)]}"] if bad else []
    fields = [of_array("id", np.array(names, dtype=object), kind="id"), *fields]
    return Raw(short[0], len(where), fields, "avro", bad, notes, lambda rows: [made[i] for i in rows], list(paths))


def _content(path: str) -> bytes:
    if os.path.getsize(path) > MOST_BYTES:
        raise GsnnError(f"{path} holds more than {MOST_BYTES >> 20} MiB; alert packets are small")
    with open(path, "rb") as file:
        return file.read()


def _fields(paths: Sequence[str], where: list, found: list[dict[str, Any] | None], sky: Sky) -> list[Field]:
    """Object, position, light curve, stamps and numbers of the packets."""
    good = [one for one in found if one]
    words = np.array([one["object_id"] if one else None for one in found], dtype=object)
    fields = [Field("object_id", TEXT, lambda rows, _: words[rows], kind="text", description="the object alerted of")]
    for name in ("ra", "dec"):
        fields.append(of_array(name, _column(found, name, np.float64), kind="position", unit="deg"))
    empty = (np.empty(0),) * 4
    curves = LightCurves.of([one["light_curve"] if one else empty for one in found])
    about = {"kind": "light_curve", "unit": "uJy", "bands": sky.bands, "time_unit": "d", "epoch": "MJD 0"}
    fields.append(Field("light_curve", CURVES, lambda rows, _: curves.take(rows), **about))
    if any(one["has_stamps"] for one in good):
        shape = (len(PARTS), sky.side, sky.side)
        about = {"kind": "image", "bands": PARTS, "pixel_scale": sky.pixel_scale}
        fields.append(Field("stamps", "float32", _stamps(paths, where, shape), shape, **about))
    taken = {"survey", "has_stamps", "id", *(one.name for one in fields)}
    numbers = dict.fromkeys(name for one in good for name in one if name not in taken)
    for name in numbers:
        dtype = np.float64 if name.startswith("jd") or "Mjd" in name else np.float32
        fields.append(of_array(name, _column(found, name, dtype), kind="scalar"))
    return fields


def _column(found: list[dict[str, Any] | None], name: str, dtype: type) -> np.ndarray:
    return np.array([one.get(name, np.nan) if one else np.nan for one in found], dtype)


def _stamps(paths: Sequence[str], where: list[tuple[int, int]], shape: tuple[int, ...]) -> Any:
    def take(rows: np.ndarray, reasons: Reasons) -> np.ndarray:
        out = np.full((len(rows), *shape), np.nan, np.float32)
        for at, row in enumerate(rows):
            if reasons[at]:
                continue
            file, number = where[row]
            try:
                record = list(_records(_content(paths[file])))[number]
                stamps = alert(*record)["stamps"]
            except GsnnError as error:
                reasons[at] = str(error)
            else:
                out[at] = np.nan if stamps is None else stamps
        return out

    return take
