"""Where answers go, exactly once: Parquet parts, a webhook, or a topic of Kafka.

Exactly once means that the answers and the place where the stream goes on are one act. A Parquet part carries that
place in its metadata and appears by a rename: who was killed before it has written nothing, and who was killed after it
has nothing left to write. A webhook is sent the parts, each under a key that stays the same however often it is sent. A
topic takes answers and place in one transaction of Kafka.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import GsnnError, on_disk
from ..spread.fragments import read_json, write_json
from .broker import ANSWER, Link, Positions, Say, client, kafka, merged, partitions

KEY = b"gsnn.alerts"  # in the metadata of a part: where the stream goes on behind it
MERGE = 256  # parts that become one
PATIENCE = 60.0  # seconds between tries, at most
DELIVERED = "delivered.json"


class Stopped(Exception):
    """The watch was asked to end while it waited."""


class Sink(Protocol):
    def place(self, topic: str, part: int) -> int | None:
        """The offset at which a partition goes on, behind all that was answered; None if nothing of it was."""
        ...

    def write(self, answers: pa.Table, positions: Positions) -> None:
        """Both or neither."""
        ...

    def close(self) -> None: ...


# ------------------------------------------------------------------ Parquet


class Parts:
    """``part-00000012.parquet`` in a folder, one a batch; each ``MERGE`` of them become ``part-<first>-<last>``."""

    def __init__(self, folder: Path):
        self.folder = folder
        for path in folder.glob(".part-*"):
            path.unlink()  # of a process that was killed
        self.last, whole = -1, self._whole()
        for first, last, path in _parts(folder):
            if first == last <= whole:
                path.unlink()  # its rows stand in a merged part
            self.last = max(self.last, last)
        self._positions: Positions = {}
        if self.last >= 0:
            self._positions = _about(self.newest())["positions"]

    def _whole(self) -> int:
        """The last part that was merged."""
        return max((last for first, last, _ in _parts(self.folder) if last > first), default=-1)

    def newest(self) -> Path:
        return max(_parts(self.folder), key=lambda one: one[1])[2]

    def path(self, part: int) -> Path:
        return self.folder / f"part-{part:08d}.parquet"

    def place(self, topic: str, part: int) -> int | None:
        return self._positions.get(topic, {}).get(part)

    def write(self, answers: pa.Table, positions: Positions) -> None:
        self.merge()
        self._positions = merged(self._positions, positions)
        self._store(answers, self.path(self.last + 1))
        self.last += 1

    def _store(self, answers: pa.Table, path: Path) -> None:
        """Whole or not at all, also after a power cut."""
        about = json.dumps({"positions": self._positions})
        partial = path.with_name(f".{path.name}")
        with on_disk(f"write {path}"):
            with open(partial, "wb") as file:
                pq.write_table(answers.replace_schema_metadata({KEY: about}), file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
            _to_disk(self.folder)

    def merge(self) -> None:
        """So that a night is a hundred files and not thirty thousand."""
        first = self._whole() + 1
        if self.last - first + 1 < MERGE:
            return
        some = [self.path(part) for part in range(first, self.last + 1)]
        answers = pa.concat_tables([pq.read_table(path) for path in some])
        self._store(answers, self.folder / f"part-{first:08d}-{self.last:08d}.parquet")
        for path in some:
            path.unlink()

    def close(self) -> None:
        """Every part is on the disk already."""


def _to_disk(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _parts(folder: Path) -> list[tuple[int, int, Path]]:
    """First and last number of each part, and its path, in their order."""
    found = []
    for path in folder.glob("part-*.parquet"):
        numbers = path.stem.split("-")[1:]
        if all(number.isdigit() for number in numbers) and 1 <= len(numbers) <= 2:
            found.append((int(numbers[0]), int(numbers[-1]), path))
    return sorted(found)


def _about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads((pq.read_schema(path).metadata or {})[KEY])
        return {**about, "positions": merged(about["positions"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise GsnnError(
            f"{path} is damaged ({error}), and it says where the stream goes on; restore it from a copy, or choose "
            "another --out"
        ) from error


def answers(folder: str | Path) -> pa.Table:
    """All answers in a folder, in the order in which they were given; may be called while a watch goes on."""
    folder = Path(folder)
    for _ in range(10):
        found = _parts(folder)
        whole = max((last for first, last, _ in found if last > first), default=-1)
        try:
            tables = [pq.read_table(path) for first, last, path in found if last > first or first > whole]
        except FileNotFoundError:
            continue  # merged in the meantime
        if tables:
            return pa.concat_tables([table.replace_schema_metadata() for table in tables])
        break
    raise GsnnError(f"{folder} holds no answers; `gsnn watch --out {folder}` writes some")


# ------------------------------------------------------------------ a webhook


class Webhook:
    """Parts that are also sent to a URL, in their order, as JSON: ``{"key": ..., "answers": [...]}``.

    A part stands on the disk before it is sent. It is sent until the other side says that it has it (2xx), always under
    the same key (header ``Idempotency-Key``, draft-ietf-httpapi-idempotency-key-header): who looks at keys acts once.
    """

    def __init__(self, parts: Parts, url: str, name: str, say: Say, stopped: Callable[[], bool]):
        if url.split(":")[0] not in ("http", "https"):
            raise GsnnError(f"--webhook {url} is no address of the web, as in https://host/alerts")
        self.parts, self.url, self.name, self.say, self.stopped = parts, url, name, say, stopped
        self.sent = (read_json(parts.folder / DELIVERED) or {"part": -1})["part"]
        self._deliver()

    def place(self, topic: str, part: int) -> int | None:
        return self.parts.place(topic, part)

    def write(self, answers: pa.Table, positions: Positions) -> None:
        self.parts.write(answers, positions)
        self._deliver()

    def _deliver(self) -> None:
        while self.sent < self.parts.last:
            part = self.sent + 1
            rows = plain(pq.read_table(self.parts.path(part)))
            if rows:
                key = f"{self.name}-{part:08d}"
                self._insist(key, json.dumps({"key": key, "answers": rows}).encode())
            write_json(self.parts.folder / DELIVERED, {"part": part})
            self.sent = part

    def _insist(self, key: str, body: bytes) -> None:
        wait, told = 0.5, False
        while (reason := self._post(key, body)) is not None:
            if not told:
                self.say(f"the webhook {self.url} does not take an answer ({reason}); trying again until it does")
                told = True
            end = time.monotonic() + wait
            while time.monotonic() < end:
                if self.stopped():
                    raise Stopped
                time.sleep(0.05)
            wait = min(2 * wait, PATIENCE)
        if told:
            self.say(f"the webhook {self.url} takes answers again")

    def _post(self, key: str, body: bytes) -> str | None:
        """None once the other side has it; else why not."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": f'"{key}"'}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url, body, headers), timeout=30):
                return None
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (401, 403, 404, 408, 409, 425, 429):
                raise GsnnError(
                    f"the webhook {self.url} refuses an answer ({error.code} {error.reason}); it is kept in "
                    f"{self.parts.folder}: mend the webhook and type the same line again"
                ) from error
            return f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            return str(getattr(error, "reason", None) or error or type(error).__name__)

    def close(self) -> None:
        """Nothing is held open."""


# ------------------------------------------------------------------ a topic


class Topic:
    """Answers as JSON messages of a topic, and the place of the stream, in one transaction.

    ``name`` is who writes: a second process of that name shuts out the first, whose open transaction is undone. The
    place is kept by the broker as the offsets of a group of that name. Readers see an answer once it is final if they
    read ``isolation.level=read_committed``.
    """

    def __init__(
        self,
        broker: str,
        topic: str,
        name: str,
        say: Say,
        stopped: Callable[[], bool],
        settings: Mapping[str, Any] | None = None,
    ):
        self.topic, self.stopped = topic, stopped
        self.link = Link(broker, say)
        own = {"transactional.id": name, "error_cb": self.link.failed, "linger.ms": 5, "compression.type": "zstd"}
        self.producer = client("Producer", broker, settings or {}, own)
        self.group = client("Consumer", broker, settings or {}, {"group.id": name, "enable.auto.commit": False})
        self._insist(lambda: self.producer.init_transactions(ANSWER))

    def place(self, topic: str, part: int) -> int | None:
        """What was committed."""
        wanted = [kafka().TopicPartition(topic, part)]
        found = self._insist(lambda: self.group.committed(wanted, timeout=ANSWER))[0].offset
        return found if found >= 0 else None

    def write(self, answers: pa.Table, positions: Positions) -> None:
        rows, offsets, module = plain(answers), list(partitions(positions)), kafka()
        while True:
            try:
                self.producer.begin_transaction()
                for row in rows:
                    self._produce(row)
                group = self.group.consumer_group_metadata()
                self._insist(lambda g=group: self.producer.send_offsets_to_transaction(offsets, g, ANSWER))
                self._insist(lambda: self.producer.commit_transaction(ANSWER))
                self.link.works()
                return
            except module.KafkaException as error:
                if not error.args[0].txn_requires_abort():
                    raise _refused(self.topic, error.args[0]) from error
                self._insist(lambda: self.producer.abort_transaction(ANSWER))

    def _produce(self, row: dict[str, Any]) -> None:
        value = json.dumps(row).encode()
        while True:
            try:
                self.producer.produce(self.topic, value, key=row["object_id"] or row["id"])
                self.producer.poll(0)
                return
            except BufferError:
                self.producer.poll(0.05)

    def _insist(self, call: Callable[[], Any]) -> Any:
        """Until it succeeds, or fails for good."""
        module = kafka()
        while True:
            try:
                return call()
            except module.KafkaException as error:
                reason = error.args[0]
                if reason.fatal():
                    raise _refused(self.topic, reason) from error
                waits = reason.retriable() or reason.code() in (
                    module.KafkaError._TIMED_OUT, module.KafkaError._TRANSPORT, module.KafkaError._ALL_BROKERS_DOWN,
                )  # fmt: skip
                if reason.txn_requires_abort() or not waits:
                    raise
                self.link.lost(reason.str())
                if self.stopped():
                    raise Stopped from error
                self.producer.poll(0.1)

    def close(self) -> None:
        self.group.close()
        self.producer.flush(1)


def _refused(topic: str, error: Any) -> GsnnError:
    codes = kafka().KafkaError
    if error.code() in (codes._FENCED, codes.INVALID_PRODUCER_EPOCH, codes.PRODUCER_FENCED):
        return GsnnError(f"another `gsnn watch` of the same run and topics now writes to {topic}; this one ends")
    return GsnnError(f"the topic {topic} takes no answers: {error.str()}")


def plain(answers: pa.Table) -> list[dict[str, Any]]:
    """Rows as JSON can hold them: times as ISO 8601, numbers that are none as null."""

    def one(value: Any) -> Any:
        if isinstance(value, float) and value != value:
            return None
        return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else value

    return [{name: one(value) for name, value in row.items()} for row in answers.to_pylist()]
