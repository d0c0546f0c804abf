"""``gsnn watch``: alerts from a broker, answered by a finished run, each exactly once."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from ..errors import GsnnError, on_disk
from ..progress import Progress
from ..run import Run, locked
from ..spread.fragments import belonging, digest, read_json, write_json
from ..steps.evaluate import read_table
from ..training.metrics import from_environment
from . import figures
from .broker import Feed, Positions, settings_of
from .registry import Away, Registry
from .sinks import Parts, Sink, Stopped, Topic, Webhook
from .workers import Under, workers

WATCH = "watch.json"
METRICS = "metrics.jsonl"
_TIME = pa.timestamp("ms", tz="UTC")
_FIRST = {"topic": pa.string(), "partition": pa.int32(), "offset": pa.int64()}


class Batch(NamedTuple):
    messages: list[Any]
    received: float  # seconds since 1970
    under: Under


def watch(
    run: Run,
    broker: str,
    topics: Sequence[str],
    *,
    out: str | Path = "answers",
    to_topic: str | None = None,
    webhook: str | None = None,
    kafka: str | Path | None = None,
    schemas: str | None = None,
    batch: int = 256,
    seconds: float = 0.25,
    nproc: int = 1,
    start: Literal["beginning", "now"] = "beginning",
    until_end: bool = False,
    every: float = 10.0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Answer the alerts of ``topics`` (names, or patterns as ``ztf_*``) until a signal says to end.

    Answers go to Parquet parts in ``out`` (read them by :func:`gsnn.serve.sinks.answers`), from there to ``webhook``
    too, or to ``to_topic`` instead. ``kafka`` is a file of settings of librdkafka, ``schemas`` a registry or a folder
    for packets that only name their schema. A batch is what comes within ``seconds``, at most ``batch`` alerts.
    ``until_end`` ends when all that the broker holds is answered. The same call again goes on where this one ended,
    also if it was killed.

    Returns the last event of ``out/metrics.jsonl``.
    """
    progress, out = progress or Progress(), Path(out)
    if to_topic and webhook:
        raise GsnnError("--to-topic and --webhook exclude each other; start one `gsnn watch` for each, each with --out")
    if batch < 1 or not 0 < seconds <= 60 or not every > 0:
        raise GsnnError(
            f"--batch {batch} must be at least 1, --seconds {seconds:g} within 60, --every {every:g} positive"
        )
    if to_topic in topics:
        raise GsnnError(f"--to-topic {to_topic} is a topic that is read; choose another")
    settings, registry = settings_of(kafka), Registry(schemas)
    with on_disk(f"write {out}"), _stopping() as stopped, contextlib.ExitStack() as held:
        out.mkdir(parents=True, exist_ok=True)
        held.enter_context(locked(out))
        team = workers(run, nproc)
        held.callback(team.close)
        mine, name = _about(run, topics, out, to_topic)
        progress.say(f"watching {', '.join(topics)} at {broker}")
        loop = None
        try:
            sink: Sink
            if to_topic:
                sink = Topic(broker, to_topic, name, progress.say, stopped, settings)
            else:
                sink = Parts(out)
                if webhook:
                    sink = Webhook(sink, webhook, mine, progress.say, stopped)
            held.callback(sink.close)
            feed = Feed(broker, topics, sink.place, progress.say, settings=settings, start=start)
            held.callback(feed.close)
            loop = _Loop(feed, sink, team, registry, figures.Figures(_expected(run)), progress, out, every, stopped)
            held.callback(loop.close)
            loop.work(batch, seconds, until_end, pinned=start == "beginning")
        except Stopped:
            pass  # what is under way is answered when the same line is typed again
        return loop.tell() if loop else {}


class _Loop:
    """What one watch holds while it works."""

    def __init__(
        self, feed: Feed, sink: Sink, team: Any, registry: Registry, told: figures.Figures, progress: Progress,
        out: Path, every: float, stopped: Callable[[], bool],
    ):  # fmt: skip
        self.feed, self.sink, self.team, self.registry, self.figures = feed, sink, team, registry, told
        self.progress, self.every, self.stopped = progress, every, stopped
        self.under: deque[Batch] = deque()
        self._reasons: set[str] = set()
        self._told = time.monotonic()
        self._log = open(out / METRICS, "a")  # noqa: SIM115
        self._endpoint = from_environment(figures.NAMES)

    def work(self, most: int, seconds: float, until_end: bool, pinned: bool) -> None:
        """``pinned`` means that where the stream begins is known without writing it down."""
        while not self.stopped():
            messages = self.feed.take(most, seconds)
            if not pinned and self.feed.begun:
                pinned = True
                self.sink.write(_laid(self.team.schema.empty_table(), [], 0.0), self.feed.begun)
            if messages:
                packets = [message.value() for message in messages]
                received = time.time()
                self.under.append(Batch(messages, received, self.team.submit(packets, self._schemas(packets))))
            while self.under and (len(self.under) > self.team.ahead or self.under[0].under.future.done()):
                self._finish(self.under.popleft())
            if not messages and not self.under and until_end and self.feed.ended():
                return
            if time.monotonic() - self._told >= self.every:
                self.tell()
        while self.under:
            self._finish(self.under.popleft())

    def _schemas(self, packets: list[bytes | None]) -> dict[int, str]:
        told = False
        while True:
            try:
                return self.registry.of(packets)
            except Away as error:
                if not told:
                    self.progress.say(f"{error}; waiting for it")
                    told = True
                for _ in range(20):
                    if self.stopped():
                        raise Stopped from error
                    time.sleep(0.05)

    def _finish(self, batch: Batch) -> None:
        """Write the answers of a batch, and with them where the stream goes on."""
        answers = _laid(self.team.result(batch.under), batch.messages, time.time())
        self.sink.write(answers, _behind(batch.messages))
        done = time.time()
        alerted = np.array([_alerted(m) for m in batch.messages], float)
        alerted = np.where(alerted > 0, alerted / 1000, batch.received)
        own = np.full(len(alerted), done - batch.received)
        self.figures.add(answers, np.maximum(done - alerted, 0), own)
        for reason in set(answers.column("flag").to_pylist()):
            if reason.startswith("quarantined") and reason not in self._reasons and len(self._reasons) < 20:
                self._reasons.add(reason)
                self.progress.say(f"an alert is {reason}")

    def tell(self) -> dict[str, Any]:
        """An event for the file, the terminal and Prometheus."""
        event = self.figures.event(self.feed.lag(), self.feed.gone)
        self._log.write(json.dumps(event) + "\n")
        self._log.flush()
        if self._endpoint:
            self._endpoint.tell(event)
        self.progress.say(figures.line(event))
        self._told = time.monotonic()
        return event

    def close(self) -> None:
        self._log.close()
        if self._endpoint:
            self._endpoint.close()


def _laid(table: pa.Table, messages: list[Any], answered: float) -> pa.Table:
    """The answers as they are written: which message each belongs to, and when it came and was answered."""
    where = ([m.topic() for m in messages], [m.partition() for m in messages], [m.offset() for m in messages])
    columns = {name: pa.array(values, kind) for (name, kind), values in zip(_FIRST.items(), where)}
    columns |= {name: table.column(name) for name in table.column_names}
    columns["alerted"] = pa.array([_alerted(m) or None for m in messages], pa.int64()).cast(_TIME)
    columns["answered"] = pa.array([round(answered * 1000)] * len(messages), pa.int64()).cast(_TIME)
    return pa.table(columns)


def _alerted(message: Any) -> int:
    """When the broker had a message, in milliseconds since 1970; 0 if it does not say."""
    kind, time_ms = message.timestamp()
    return int(time_ms) if kind else 0


def _behind(messages: list[Any]) -> Positions:
    out: Positions = {}
    for message in messages:  # in the order of their partition
        out.setdefault(message.topic(), {})[message.partition()] = message.offset() + 1
    return out


def _about(run: Run, topics: Sequence[str], out: Path, to_topic: str | None) -> tuple[str, str]:
    """The name of this watch, and that of everyone who would answer the same to the same topic."""
    model = run.path / "fits/main/model"
    belongs = {
        "what": "answers", "run": digest(model / "model.toml", model / "model.safetensors"), "data": sorted(topics),
        "settings": to_topic,
    }  # fmt: skip
    known = read_json(out / WATCH)
    if known is None:
        if any(out.glob("part-*")):
            raise GsnnError(f"{out} holds parts and no {WATCH}; choose another --out")
        known = {"belongs": belongs, "watch": uuid.uuid4().hex[:16]}
        write_json(out / WATCH, known)
    belonging(out, belongs, known, out)
    return known["watch"], "-".join(["gsnn", belongs["run"], *sorted(topics), to_topic or ""])


def _expected(run: Run) -> dict[str, np.ndarray]:
    path = run.path / "predictions.parquet"
    return figures.reference(read_table(path) if path.is_file() else None)


@contextlib.contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or Ctrl-C asked to end: after the batch under way, and at once if asked again."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def stop(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
