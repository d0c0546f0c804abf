"""``gsnn replay``: the packets of a night to a topic again, at a rate or as fast as they came."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from ..data.readers.avro import MAGIC, decode
from ..errors import GsnnError
from ..progress import Progress
from .broker import Link, client, settings_of


class Packet(NamedTuple):
    """Where a packet lies; ``time`` is that of its observation [s]."""

    time: float
    name: str
    content: bytes | Path


def packets(path: str | Path) -> list[Packet]:
    """The packets of a folder of Avro files, or of the binary column ``packet`` of a Parquet file, in order of time.

    Of packets whose time cannot be read (damaged ones, or such that only name their schema) the order is that of their
    names, or of the column ``time`` [s] of a Parquet file; they are replayed as they are.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.rglob("*.avro"))
        if not files:
            raise GsnnError(f"{path} holds no alert packets (*.avro)")
        return _sorted([(str(file), file, None) for file in files])
    if not path.is_file():
        raise GsnnError(f"{path} is neither a folder of packets nor a Parquet file")
    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as error:
        raise GsnnError(f"{path} is no Parquet file ({error})") from error
    if "packet" not in table.column_names:
        raise GsnnError(f"{path} has no column 'packet'; it has {', '.join(table.column_names)}")
    times = table.column("time").to_pylist() if "time" in table.column_names else [None] * table.num_rows
    column = table.column("packet").to_pylist()
    return _sorted([(f"{i:09d}", content, at) for i, (content, at) in enumerate(zip(column, times))])


def _sorted(found: list[tuple[str, Any, Any]]) -> list[Packet]:
    out, last = [], 0.0
    for name, content, at in found:
        last = _observed(content, last) if at is None else float(at)
        out.append(Packet(last, name, content))
    return sorted(out, key=lambda one: (one.time, one.name))


def _observed(content: bytes | Path, otherwise: float) -> float:
    """When the alert was observed [s since MJD 0]."""
    content = content.read_bytes() if isinstance(content, Path) else content
    if content[:4] != MAGIC:
        return otherwise
    try:
        return float(decode(content, stamps=False)["light_curve"].time[-1]) * 86400
    except (GsnnError, IndexError):
        return otherwise


def pace(found: list[Packet], rate: float | None, speed: float | None) -> Iterator[tuple[float, Packet]]:
    """Each packet, and how many seconds after the first it is sent."""
    for number, one in enumerate(found):
        if rate:
            yield number / rate, one
        else:
            yield ((one.time - found[0].time) / speed if speed else 0.0), one


def replay(
    path: str | Path,
    broker: str,
    topic: str,
    *,
    rate: float | None = None,
    speed: float | None = None,
    repeat: bool = False,
    kafka: str | Path | None = None,
    progress: Progress | None = None,
) -> int:
    """Send the packets of ``path``: ``rate`` of them a second, or ``speed`` times as fast as they were observed, or as
    fast as the broker takes them; once, or until interrupted. How many were sent.
    """
    progress = progress or Progress()
    if rate is not None and speed is not None:
        raise GsnnError("--rate and --speed exclude each other")
    if (rate is not None and not rate > 0) or (speed is not None and not speed > 0):
        raise GsnnError("--rate and --speed must be above 0")
    found, link = packets(path), Link(broker, progress.say)
    own = {"enable.idempotence": True, "error_cb": link.failed, "linger.ms": 5, "message.max.bytes": 64 << 20}
    producer = client("Producer", broker, settings_of(kafka), own)
    failed: list[str] = []

    def delivered(error: Any, message: Any) -> None:
        if error is not None:
            failed.append(error.str())
        else:
            link.works()

    sent = 0
    try:
        while True:
            began = time.monotonic()
            for after, one in pace(found, rate, speed):
                while (left := began + after - time.monotonic()) > 0:
                    producer.poll(min(left, 0.1))
                content = one.content.read_bytes() if isinstance(one.content, Path) else one.content
                _produce(producer, topic, content, one.name, delivered)
                sent += 1
                if failed:
                    raise GsnnError(f"the topic {topic} takes no packets: {failed[0]}")
                if not sent % 100:
                    progress.at("replaying", sent, len(found))
            if not repeat:
                break
    finally:
        while producer.flush(1.0) and not failed:
            pass
        progress.done()
    if failed:
        raise GsnnError(f"the topic {topic} takes no packets: {failed[0]}")
    return sent


def _produce(producer: Any, topic: str, content: bytes, name: str, delivered: Any) -> None:
    while True:
        try:
            producer.produce(topic, content, key=name, on_delivery=delivered)
            producer.poll(0)
            return
        except BufferError:  # its queue is full: the broker takes them more slowly
            producer.poll(0.05)
