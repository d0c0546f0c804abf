"""What a broker of Kafka sends: messages of topics, each once, from given places on, through whatever happens to it."""

from __future__ import annotations

import fnmatch
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..errors import GsnnError

Positions = dict[str, dict[int, int]]  # topic -> partition -> the offset that comes next
Say = Callable[[str], None]
LOOK = 30.0  # seconds after which topics and partitions are looked for again
ANSWER = 5.0  # seconds to wait for the broker's answer to a question
_SILENT = logging.getLogger("gsnn.kafka")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False  # what goes wrong is told in a sentence


def kafka() -> Any:
    """The package confluent_kafka; one sentence where it is missing."""
    try:
        import confluent_kafka
    except ImportError as error:
        raise GsnnError("alerts from Kafka need confluent-kafka: pip install 'gsnn[alerts]'") from error
    return confluent_kafka


def settings_of(path: str | Path | None) -> dict[str, str]:
    """Settings of librdkafka from a file of ``key=value`` lines (security.protocol, sasl.username, ...)."""
    if path is None:
        return {}
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GsnnError(f"--kafka {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    out = {}
    for number, line in enumerate(lines, 1):
        if (line := line.strip()) and not line.startswith("#"):
            key, sign, value = line.partition("=")
            if not sign:
                raise GsnnError(f"{path}:{number} is no `key=value`, as in security.protocol=SASL_SSL")
            out[key.strip()] = value.strip()
    return out


def client(kind: str, broker: str, settings: Mapping[str, Any], own: Mapping[str, Any]) -> Any:
    """A ``Consumer`` or ``Producer`` of confluent_kafka. ``own`` settings are what GSNN depends on."""
    common = {
        "bootstrap.servers": broker, "client.id": "gsnn", "reconnect.backoff.max.ms": 2000, "log_level": 2,
        "socket.keepalive.enable": True,
    }  # fmt: skip
    module = kafka()
    try:
        return getattr(module, kind)({**common, **settings, **own}, logger=_SILENT)
    except (module.KafkaException, TypeError, ValueError) as error:
        reason = error.args[0].str() if isinstance(error, module.KafkaException) else error
        raise GsnnError(f"Kafka refuses its settings ({reason}); see --broker and --kafka") from error


class Link:
    """Whether the broker answers: told once when it goes, and once when it is back."""

    def __init__(self, broker: str, say: Say):
        self.broker, self.say, self.since = broker, say, 0.0

    def failed(self, error: Any) -> None:
        """Kafka's callback for errors; all but the loss of every broker mends itself."""
        codes = kafka().KafkaError
        if error.fatal() or error.code() in (codes._AUTHENTICATION, codes._RESOLVE):
            self.lost(error.str())
        elif error.code() in (codes._ALL_BROKERS_DOWN, codes._TRANSPORT):
            self.lost()

    def lost(self, reason: str = "") -> None:
        if not self.since:
            self.since = time.monotonic()
            self.say(f"the broker {self.broker} does not answer{f' ({reason})' if reason else ''}; waiting for it")

    def works(self) -> None:
        if self.since:
            self.say(f"the broker {self.broker} is back after {time.monotonic() - self.since:.0f} s")
            self.since = 0.0


class Feed:
    """Messages of topics (names, or patterns as ``ztf_*``), each once.

    ``place(topic, partition)`` says where a partition goes on; where it says None, that is the ``beginning`` of what
    the broker holds, or ``now``. Partitions are read by this process alone (they are assigned, not negotiated within a
    group), because where it goes on is one with the answers.
    """

    def __init__(
        self,
        broker: str,
        topics: Sequence[str],
        place: Callable[[str, int], int | None],
        say: Say,
        *,
        settings: Mapping[str, Any] | None = None,
        start: Literal["beginning", "now"] = "beginning",
    ):
        self.topics, self.say, self.link, self.start, self.place = list(topics), say, Link(broker, say), start, place
        self.positions: Positions = {}  # behind what was taken
        self.begun: Positions = {}  # where partitions were begun
        self.gone = 0  # messages that the broker had thrown away before they were read
        self._looked, self._told, self._assigned = -LOOK, False, set[tuple[str, int]]()
        own = {
            "group.id": "gsnn", "enable.auto.commit": False, "enable.auto.offset.store": False,
            "auto.offset.reset": "error", "allow.auto.create.topics": False, "error_cb": self.link.failed,
            "isolation.level": "read_committed", "fetch.wait.max.ms": 100, "queued.max.messages.kbytes": 65536,
        }  # fmt: skip
        self.consumer = client("Consumer", broker, settings or {}, own)

    def take(self, most: int, seconds: float) -> list[Any]:
        """The next messages: as many as come within ``seconds``, at most ``most``. None is taken twice."""
        calm = self._assigned and not self.link.since
        if time.monotonic() - self._looked >= (LOOK if calm else 1.0):
            self.look()
        if not self._assigned:
            self.consumer.poll(seconds)  # callbacks
            return []
        good = []
        for message in self.consumer.consume(most, seconds):
            if message.error() is None:
                good.append(message)
            else:
                self._mend(message)
        if good:
            self.link.works()
        for message in good:
            self.positions[message.topic()][message.partition()] = message.offset() + 1
        return good

    def look(self) -> None:
        """Find the topics and their partitions, and go on where each stands."""
        try:
            found = self.consumer.list_topics(timeout=1.0 if self.link.since else ANSWER).topics
        except kafka().KafkaException as error:
            self.link.failed(error.args[0])
            self.link.lost(error.args[0].str())
            self._looked = time.monotonic()
            return
        self.link.works()
        wanted = {
            (name, part)
            for name, about in found.items()
            if about.error is None and any(fnmatch.fnmatchcase(name, pattern) for pattern in self.topics)
            for part in about.partitions
        }
        if not wanted and not self._told:
            self._told = True
            self.say(f"the broker has no topic {' or '.join(self.topics)} yet; waiting for it")
        first = not self._assigned and all(self.place(*one) is None for one in wanted)
        for topic, part in sorted(wanted - self._assigned):
            if not self._assign(topic, part, first):
                return
        self._looked = time.monotonic()

    def _assign(self, topic: str, part: int, first: bool) -> bool:
        """Whether it could be: a partition that is new while GSNN watches is read from its beginning."""
        module = kafka()
        offset = self.place(topic, part)
        if offset is None:
            try:
                low, high = self.consumer.get_watermark_offsets(module.TopicPartition(topic, part), timeout=ANSWER)
            except module.KafkaException:
                return False
            offset = high if self.start == "now" and first else low
        for places in (self.positions, self.begun):
            places.setdefault(topic, {})[part] = offset
        self.consumer.incremental_assign([module.TopicPartition(topic, part, offset)])
        self._assigned.add((topic, part))
        return True

    def _mend(self, message: Any) -> None:
        """An error in place of a message."""
        module, error = kafka(), message.error()
        if error.code() not in (module.KafkaError._AUTO_OFFSET_RESET, module.KafkaError.OFFSET_OUT_OF_RANGE):
            self.link.failed(error)
            return
        topic, part = message.topic(), message.partition()
        where, place = module.TopicPartition(topic, part), self.positions[topic][part]
        low, high = self.consumer.get_watermark_offsets(where, timeout=ANSWER)
        if place > high:
            raise GsnnError(
                f"the topic {topic} was made anew: partition {part} ends at {high:,}, and {place:,} of its messages "
                "were answered before; choose another --out to answer it from its beginning"
            )
        if place < low:
            self.gone += low - place
            self.say(
                f"{low - place:,} messages of {topic}, partition {part}, were thrown away by the broker before they "
                f"could be answered (its retention is shorter than the lag); going on at {low:,}"
            )
        self.positions[topic][part] = max(place, low)
        self.consumer.incremental_unassign([where])
        self.consumer.incremental_assign([module.TopicPartition(topic, part, max(place, low))])

    def lag(self) -> int:
        """Messages that wait at the broker, as far as its last answers tell."""
        module, waiting = kafka(), 0
        for topic, part in self._assigned:
            try:
                _, high = self.consumer.get_watermark_offsets(module.TopicPartition(topic, part), cached=True)
            except module.KafkaException:
                continue
            waiting += max(high - self.positions[topic][part], 0)
        return waiting

    def ended(self) -> bool:
        """Whether everything that the broker holds now has been taken."""
        module = kafka()
        try:
            return bool(self._assigned) and all(
                self.consumer.get_watermark_offsets(module.TopicPartition(t, p), timeout=ANSWER)[1]
                <= self.positions[t][p]
                for t, p in self._assigned
            )
        except module.KafkaException:
            return False

    def close(self) -> None:
        self.consumer.close()


def merged(*many: Positions) -> Positions:
    """Positions of several places; where two name the same partition the later one counts."""
    out: Positions = {}
    for one in many:
        for topic, parts in one.items():
            out.setdefault(topic, {}).update({int(k): v for k, v in parts.items()})
    return out


def partitions(positions: Positions) -> Iterable[Any]:
    """As Kafka takes them."""
    return [kafka().TopicPartition(t, p, offset) for t, parts in positions.items() for p, offset in parts.items()]
