"""Where answers go: parts that are merged, and transactions of Kafka that fail."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gsnn.errors import GsnnError
from gsnn.serve import sinks
from gsnn.serve.sinks import answers


def test_parts_become_one_and_a_merge_that_was_cut_off_is_mended(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "MERGE", 3)
    parts = sinks.Parts(tmp_path)
    for number in range(7):
        parts.write(pa.table({"offset": [number]}), {"t": {0: number + 1}})
    assert sorted(path.name for path in tmp_path.glob("part-*")) == [
        "part-00000000-00000002.parquet", "part-00000003-00000005.parquet", "part-00000006.parquet",
    ]  # fmt: skip
    table = pq.read_table(tmp_path / "part-00000006.parquet")
    for cut in (4, 5):  # as if it had been killed before these were removed
        pq.write_table(table, parts.path(cut))
    (tmp_path / ".part-00000007.parquet").write_bytes(b"half")
    assert answers(tmp_path).column("offset").to_pylist() == list(range(7))
    again = sinks.Parts(tmp_path)
    assert (again.last, again.place("t", 0), again.place("t", 1)) == (6, 7, None)
    assert len(list(tmp_path.iterdir())) == 3
    (tmp_path / "part-00000006.parquet").write_bytes(b"damaged")
    with pytest.raises(GsnnError, match="says where the stream goes on"):
        sinks.Parts(tmp_path)


# ------------------------------------------------------------------ transactions


class Ledger:
    """What a broker of Kafka does with transactions, and errors that it is told to answer with, each once."""

    def __init__(self):
        self.answers, self.offsets, self.open, self.errors = [], {}, None, {}

    def error(self, call):
        from confluent_kafka import KafkaError, KafkaException

        if call in self.errors:
            code, about = self.errors.pop(call)
            raise KafkaException(KafkaError(getattr(KafkaError, code), "told to", **about))

    def init_transactions(self, *_):
        self.error("init")

    def begin_transaction(self):
        self.open = ([], {})

    def produce(self, topic, value, key):
        self.error("produce")
        self.open[0].append(json.loads(value))

    def send_offsets_to_transaction(self, offsets, *_):
        self.error("offsets")
        self.open[1].update({(one.topic, one.partition): one.offset for one in offsets})

    def commit_transaction(self, *_):
        self.error("commit")
        self.answers += self.open[0]
        self.offsets |= self.open[1]
        self.open = None

    def abort_transaction(self, *_):
        self.error("abort")
        self.open = None

    def committed(self, partitions, **_):
        from confluent_kafka import TopicPartition

        return [
            TopicPartition(p.topic, p.partition, self.offsets.get((p.topic, p.partition), -1001)) for p in partitions
        ]

    def consumer_group_metadata(self):
        return "group"

    def poll(self, *_):
        return 0


@pytest.mark.parametrize("call", ["init", "offsets", "commit", "abort"])
@pytest.mark.parametrize("kind", [("_TIMED_OUT", {"retriable": True}), ("_STATE", {"txn_requires_abort": True})])
def test_a_transaction_that_fails_is_done_again_whole(call, kind, monkeypatch):
    ledger = Ledger()
    monkeypatch.setattr(sinks, "client", lambda *_: ledger)
    if call in ("init", "abort") and "txn_requires_abort" in kind[1]:
        pytest.skip("no transaction is open")
    if call == "abort":
        ledger.errors["commit"] = ("_STATE", {"txn_requires_abort": True})
    ledger.errors[call] = kind
    topic = sinks.Topic("host", "answers", "me", lambda text: None, lambda: False)
    table = pa.table({"id": ["a", "b"], "object_id": ["A", None], "offset": [3, 4]})
    assert topic.place("ztf", 0) is None
    topic.write(table, {"ztf": {0: 5}})
    assert not ledger.errors
    assert [row["offset"] for row in ledger.answers] == [3, 4]
    assert topic.place("ztf", 0) == 5


def test_who_is_shut_out_by_another_watch_ends(monkeypatch):
    ledger = Ledger()
    monkeypatch.setattr(sinks, "client", lambda *_: ledger)
    ledger.errors["commit"] = ("_FENCED", {"fatal": True})
    topic = sinks.Topic("host", "answers", "me", lambda text: None, lambda: False)
    with pytest.raises(GsnnError, match="another `gsnn watch`"):
        topic.write(pa.table({"id": ["a"], "object_id": ["A"]}), {"ztf": {0: 1}})
    assert ledger.answers == []
