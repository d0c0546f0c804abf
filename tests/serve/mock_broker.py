"""A Kafka for tests: librdkafka's mock cluster, held by a process of its own, so that clients come and go."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

HOLDER = """
import ctypes, glob, os, sys
import confluent_kafka

folder = os.path.dirname(confluent_kafka.__file__)
(path,) = glob.glob(os.path.join(folder + ".libs", "librdkafka*")) or [None]
kafka = ctypes.CDLL(path)
kafka.rd_kafka_new.restype = kafka.rd_kafka_conf_new.restype = ctypes.c_void_p
kafka.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
kafka.rd_kafka_mock_cluster_new.argtypes = [ctypes.c_void_p, ctypes.c_int]
kafka.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
kafka.rd_kafka_mock_cluster_bootstraps.argtypes = [ctypes.c_void_p]
kafka.rd_kafka_mock_topic_create.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
for name in ("rd_kafka_mock_broker_set_down", "rd_kafka_mock_broker_set_up"):
    getattr(kafka, name).argtypes = [ctypes.c_void_p, ctypes.c_int32]
error = ctypes.create_string_buffer(512)
kafka.rd_kafka_new.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
client = kafka.rd_kafka_new(0, kafka.rd_kafka_conf_new(), error, 512)
assert client, error.value
cluster = kafka.rd_kafka_mock_cluster_new(client, 1)
print(kafka.rd_kafka_mock_cluster_bootstraps(cluster).decode(), flush=True)
for line in sys.stdin:
    word, *rest = line.split()
    if word == "topic":
        kafka.rd_kafka_mock_topic_create(cluster, rest[0].encode(), int(rest[1]), 1)
    elif word == "down":
        kafka.rd_kafka_mock_broker_set_down(cluster, 1)
    elif word == "up":
        kafka.rd_kafka_mock_broker_set_up(cluster, 1)
    print("done", flush=True)
"""


class Broker:
    """Its address, and what it can be told: ``topic NAME PARTITIONS``, ``down``, ``up``."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process
        self.address = process.stdout.readline().strip()
        assert ":" in self.address, self.address

    def tell(self, *words: object) -> None:
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == "done"

    def send(self, topic: str, packets: list[bytes | None], partition: int | None = None) -> None:
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.address, "linger.ms": 1})
        for number, packet in enumerate(packets):
            where = {} if partition is None else {"partition": partition}
            producer.produce(topic, packet, key=str(number), **where)
        assert producer.flush(20) == 0


@contextlib.contextmanager
def mock_broker() -> Iterator[Broker]:
    """It ends when its input does, so that nothing is left of a test that was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield Broker(process)
        finally:
            process.kill()
