"""Every message is answered once, whatever happens to the process, the broker or the other side of a webhook."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gsnn.errors import GsnnError
from gsnn.progress import Progress
from gsnn.serve import sinks
from gsnn.serve.sinks import answers
from gsnn.serve.watch import watch


class Ear(Progress):
    """What was said."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)

    def hears(self, word, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not any(word in text for text in self.said):
            time.sleep(0.05)
        assert any(word in text for text in self.said), self.said
        return True


def rows(folder):
    return answers(folder).to_pylist()


def places(table_rows):
    return Counter((row["topic"], row["partition"], row["offset"]) for row in table_rows)


def all_once(found, sent):
    """Each of ``sent`` messages once, and the offsets of every partition without a gap."""
    counts = places(found)
    assert set(counts.values()) == {1}
    assert len(counts) == sent
    for topic, part in {key[:2] for key in counts}:
        offsets = sorted(key[2] for key in counts if key[:2] == (topic, part))
        assert offsets == list(range(len(offsets)))


def test_every_message_is_answered_once_and_the_same_line_goes_on(curves_run, broker, packets, tmp_path):
    ear = Ear()
    broker.tell("topic", "ztf", 3)
    broker.send("ztf", [*packets[:20], b"poison", None])
    about = {"out": tmp_path / "out", "until_end": True, "progress": ear, "batch": 8}
    event = watch(curves_run, broker.address, ["ztf"], **about)
    assert event["alerts"] == 22
    assert event["quarantined"] == 2
    assert event["lag"] == 0
    assert 0 < event["latency_p50_s"] <= event["latency_p99_s"] < 60
    assert watch(curves_run, broker.address, ["ztf"], **about)["alerts"] == 0
    broker.send("ztf", packets[20:25])
    assert watch(curves_run, broker.address, ["ztf"], **about)["alerts"] == 5
    all_once(rows(tmp_path / "out"), 27)
    assert ear.hears("quarantined: the message is empty")
    lines = (tmp_path / "out/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["alerts"] for line in lines] == [22, 0, 5]


def test_a_folder_belongs_to_one_run_and_its_topics(curves_run, stamps_run, broker, packets, tmp_path):
    broker.send("ztf", packets[:2])
    watch(curves_run, broker.address, ["ztf"], out=tmp_path / "out", until_end=True)
    with pytest.raises(GsnnError, match="belongs to another run"):
        watch(stamps_run, broker.address, ["ztf"], out=tmp_path / "out", until_end=True)
    with pytest.raises(GsnnError, match="belongs to other data"):
        watch(curves_run, broker.address, ["other"], out=tmp_path / "out", until_end=True)


def test_now_leaves_out_what_came_before(curves_run, broker, packets, tmp_path):
    broker.tell("topic", "ztf", 1)
    broker.send("ztf", packets[:5])
    about = {"out": tmp_path / "out", "until_end": True, "start": "now"}
    assert watch(curves_run, broker.address, ["ztf"], **about)["alerts"] == 0
    broker.send("ztf", packets[5:8])
    assert watch(curves_run, broker.address, ["ztf"], **about)["alerts"] == 3  # came while nobody watched
    assert [row["offset"] for row in rows(tmp_path / "out")] == [5, 6, 7]


def test_a_broker_that_goes_away_is_waited_for(curves_run, broker, packets, tmp_path):
    broker.tell("topic", "ztf", 2)
    broker.send("ztf", packets[:6])
    with watching(curves_run, broker.address, ["ztf"], out=tmp_path / "out") as ear:
        answered(tmp_path / "out", 6)
        broker.tell("down")
        assert ear.hears("does not answer")
        broker.tell("up")
        assert ear.hears("is back after", 30)
        broker.send("ztf", packets[6:9])
        answered(tmp_path / "out", 9)
    assert sum("does not answer" in text for text in ear.said) == 1
    all_once(rows(tmp_path / "out"), 9)


def test_what_the_broker_threw_away_is_told(curves_run, broker, packets, tmp_path):
    """The mock cluster keeps 5 MB of a partition: the first packets of these are gone before they are read."""
    broker.tell("topic", "ztf", 1)
    broker.send("ztf", [packet * 8 for packet in packets[:20]])
    ear = Ear()
    event = watch(curves_run, broker.address, ["ztf"], out=tmp_path / "out", until_end=True, progress=ear)
    assert event["alerts"] + event["gone"] <= 20
    broker.send("ztf", [packet * 8 for packet in packets[:20]])
    event = watch(curves_run, broker.address, ["ztf"], out=tmp_path / "out", until_end=True, progress=ear)
    assert event["gone"] > 0
    assert ear.hears("thrown away")
    assert event["alerts"] + event["gone"] == 20


def test_a_topic_that_was_made_anew_is_refused(curves_run, packets, broker, another_broker, tmp_path):
    broker.tell("topic", "ztf", 1)
    broker.send("ztf", packets[:6])
    watch(curves_run, broker.address, ["ztf"], out=tmp_path / "out", until_end=True)
    another_broker.tell("topic", "ztf", 1)
    another_broker.send("ztf", packets[:2])
    with pytest.raises(GsnnError, match="was made anew"):
        watch(curves_run, another_broker.address, ["ztf"], out=tmp_path / "out")


# ------------------------------------------------------------------ processes that are killed


@contextlib.contextmanager
def watching(*args, **options):
    """A watch in a thread, ended afterwards; what it says."""
    from gsnn.serve import watch as module

    ear, leave = Ear(), threading.Event()
    before = module._stopping
    module._stopping = lambda: contextlib.nullcontext(leave.is_set)
    failed = []

    def work():
        try:
            watch(*args, progress=ear, **options)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield ear
    finally:
        leave.set()
        thread.join(30)
        module._stopping = before
    assert not failed, failed


def answered(folder, count, seconds=40):
    """Wait for so many answers."""
    end, found = time.monotonic() + seconds, 0
    while time.monotonic() < end and found < count:
        with contextlib.suppress(GsnnError):
            found = answers(folder).num_rows
        time.sleep(0.05)
    assert found >= count


def forked(*args, **options):
    """A watch in a process of its own, without importing anything again."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        watch(*args, **options)
        status = 0
    finally:
        os._exit(status)


def storm(run, broker, packets, out, kills, chance, **options):
    """Kill the watch ``kills`` times at random while packets come, then let it answer the rest. How many came."""
    broker.tell("topic", "ztf", 4)
    sent = 0
    for _ in range(kills):
        some = chance.sample(packets, 12)
        broker.send("ztf", some)
        sent += len(some)
        child = forked(run, broker.address, ["ztf"], out=out, batch=4, seconds=0.02, **options)
        time.sleep(chance.uniform(0.05, 0.6))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    child = forked(run, broker.address, ["ztf"], out=out, batch=64, until_end=True, **options)
    assert os.waitpid(child, 0)[1] == 0
    return sent


def small(packets):
    """Packets without stamps, of which the mock cluster keeps many."""
    from gsnn.data.readers.avro import decode
    from gsnn.serve.packets import packet

    found = [decode(one, stamps=False) for one in packets]
    return [packet(int(a["id"]), a["object_id"], a["ra"], a["dec"], a["light_curve"]) for a in found]


KILLS = [pytest.param(6, id="some"), pytest.param(100, id="many", marks=pytest.mark.slow)]


@pytest.mark.parametrize("kills", KILLS)
def test_killed_at_random_nothing_is_lost_or_repeated(kills, curves_run, broker, packets, tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "MERGE", 7)  # so that merging is interrupted too
    curves_run.model  # noqa: B018  loaded before the forks
    sent = storm(curves_run, broker, small(packets), tmp_path / "out", kills, random.Random(kills))
    found = rows(tmp_path / "out")
    all_once(found, sent)
    by_id = {}
    for row in found:  # the same packet has the same answer in every life
        assert abs(by_id.setdefault(row["id"], row["supernova_p"]) - row["supernova_p"]) < 1e-5


class Receiver:
    """The other side of a webhook: keeps what it got by key, fails at times, and may be told to refuse."""

    def __init__(self, chance=0.0):
        self.bodies, self.tries, self.status = {}, 0, 200
        receiver = self
        random_ = random.Random(3)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.tries += 1
                status = receiver.status
                if random_.random() < chance:  # taken, but the sender never learns of it
                    status = 503
                if receiver.status == 200:
                    key = self.headers["Idempotency-Key"]
                    assert receiver.bodies.setdefault(key, body) == body
                self.send_response(status)
                self.end_headers()

            def log_message(self, *said):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/alerts"

    def rows(self):
        return [row for body in self.bodies.values() for row in json.loads(body)["answers"]]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize("kills", KILLS)
def test_a_webhook_that_looks_at_keys_acts_once(kills, curves_run, broker, packets, tmp_path):
    curves_run.model  # noqa: B018
    with Receiver(chance=0.1) as receiver:
        sent = storm(
            curves_run, broker, small(packets), tmp_path / "out", kills, random.Random(kills), webhook=receiver.url
        )
        all_once(receiver.rows(), sent)
        assert places(receiver.rows()) == places(rows(tmp_path / "out"))
        assert receiver.tries > len(receiver.bodies)


def test_a_webhook_is_waited_for_and_a_refusal_ends_the_watch(curves_run, broker, packets, tmp_path):
    broker.tell("topic", "ztf", 1)
    broker.send("ztf", packets[:3])
    with Receiver() as receiver:
        receiver.status = 503
        with watching(curves_run, broker.address, ["ztf"], out=tmp_path / "out", webhook=receiver.url) as ear:
            assert ear.hears("does not take an answer (503")
            receiver.status = 200
            assert ear.hears("takes answers again")
        all_once(receiver.rows(), 3)
        receiver.status = 400
        broker.send("ztf", packets[3:5])
        with pytest.raises(GsnnError, match="refuses an answer"):
            watch(curves_run, broker.address, ["ztf"], out=tmp_path / "out", webhook=receiver.url, until_end=True)
        receiver.status = 200
        watch(curves_run, broker.address, ["ztf"], out=tmp_path / "out", webhook=receiver.url, until_end=True)
        all_once(receiver.rows(), 5)


def test_sigterm_ends_a_watch_between_batches(curves_run, broker, packets, tmp_path):
    curves_run.model  # noqa: B018
    broker.tell("topic", "ztf", 1)
    broker.send("ztf", packets[:10])
    child = forked(curves_run, broker.address, ["ztf"], out=tmp_path / "out")
    answered(tmp_path / "out", 10)
    os.kill(child, signal.SIGTERM)
    assert os.waitpid(child, 0)[1] == 0
    all_once(rows(tmp_path / "out"), 10)
    assert json.loads((tmp_path / "out/metrics.jsonl").read_text().splitlines()[-1])["alerts"] == 10


# ------------------------------------------------------------------ several processes, other places


DEADLY = """
import os
import gsnn.data.readers.avro as avro

decode = avro.decode

def deadly(packet, *more, **options):
    if packet == b"this packet kills":
        os._exit(9)
    return decode(packet, *more, **options)

avro.decode = deadly
"""


def test_the_command_with_several_processes_sets_a_packet_aside_that_kills_one(curves_run, broker, packets, tmp_path):
    broker.tell("topic", "ztf", 1)
    broker.send("ztf", [*small(packets)[:9], b"this packet kills", *small(packets)[9:20]])
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    words = ["watch", curves_run.path, "--broker", broker.address, "--topic", "ztf", "--out", tmp_path / "out"]
    words += ["--nproc", 2, "--batch", 6, "--end"]
    told = subprocess.run(
        [sys.executable, "-m", "gsnn.cli", *map(str, words)],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert "21 alerts answered" in told.stdout
    assert "1 set aside" in told.stdout
    found = rows(tmp_path / "out")
    assert [row["offset"] for row in found] == list(range(21))
    assert [row["offset"] for row in found if row["flag"].startswith("quarantined")] == [9]


def test_answers_go_to_a_topic(curves_run, broker, packets, tmp_path):
    """In one transaction with the offsets. The mock cluster knows the protocol of transactions alone: it neither keeps
    their offsets nor hides what was undone, so what a restart does is tested on a :class:`Ledger`."""
    from confluent_kafka import Consumer, TopicPartition

    broker.tell("topic", "ztf", 2)
    broker.tell("topic", "answers", 1)
    broker.send("ztf", [*packets[:5], b"poison"])
    event = watch(curves_run, broker.address, ["ztf"], out=tmp_path / "out", to_topic="answers", until_end=True)
    assert event["alerts"] == 6
    reader = Consumer({"bootstrap.servers": broker.address, "group.id": "reader"})
    reader.assign([TopicPartition("answers", 0, 0)])
    got, end = [], time.monotonic() + 20
    while len(got) < 6 and time.monotonic() < end:
        got += [m for m in reader.consume(10, 0.2) if m.error() is None]
    reader.close()
    found = [json.loads(message.value()) for message in got]
    all_once(found, 6)
    assert {row["flag"][:11] for row in found} <= {"", "unlike trai", "quarantined"}
    assert not list((tmp_path / "out").glob("part-*"))
