"""Live alerts: rates, latencies and what a kill costs, on librdkafka's mock cluster beside the watch on the same cores.

    python benchmarks/alerts.py RUN --packets FOLDER --out results/alerts.json

``decode``: packets decoded, and answered without a broker, for each second of one core. ``drain``: packets that wait at
the broker are answered as fast as can be by ``--nproc`` processes, by the clock. ``core``: the same by one process, for
each second of a core that it used (Kafka and writing included), which other work on the machine disturbs less.
``live``: packets come at ``--rate``; lag, and latency from the broker to the written answer. ``storm``: the same for
``--minutes`` while the watch is killed (SIGKILL) every ``--kill-every`` seconds on average and started again; every
message must be answered once.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
_spec = importlib.util.spec_from_file_location("mock_broker", ROOT / "tests/serve/mock_broker.py")
mock = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(mock)
PARTITIONS = 64  # of which the mock cluster keeps 5 MB each
EACH = 40  # packets of a partition that are sure to fit


def rate(call, packets, seconds):
    """Packets for each second of a core."""
    call(packets)
    start, count = time.process_time(), 0
    while time.process_time() - start < seconds:
        call(packets)
        count += len(packets)
    return count / (time.process_time() - start)


def alone(run, packets, seconds):
    import torch

    from gsnn.data.readers.avro import decode
    from gsnn.serve.workers import answerer

    torch.set_num_threads(1)
    answer = answerer(run, threads=1)
    some = (packets * (256 // len(packets) + 1))[:256]
    return {
        "decode_with_stamps_per_core_s": rate(lambda all_: [decode(p) for p in all_], some, seconds),
        "decode_without_stamps_per_core_s": rate(lambda all_: [decode(p, stamps=False) for p in all_], some, seconds),
        "answered_per_core_s": rate(answer, some, seconds),
    }


def command(run, broker, out, nproc, *more):
    words = [sys.executable, "-m", "gsnn.cli", "watch", run, "--broker", broker.address, "--topic", "alerts"]
    return list(map(str, [*words, "--out", out, "--nproc", nproc, "--every", 1, *more]))


def events(out):
    path = Path(out) / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def drain(run, packets, nproc, count, folder):
    """The rate is that between the first and the last answer: how long a watch takes to begin is no part of it."""
    from gsnn.serve.sinks import answers

    with mock.mock_broker() as broker:
        broker.tell("topic", "alerts", PARTITIONS)
        for part in range(-(-count // EACH)):
            numbers = range(part * EACH, min((part + 1) * EACH, count))
            broker.send("alerts", [packets[number % len(packets)] for number in numbers], part)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command(run, broker, folder, nproc, "--end"), check=True, capture_output=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        # a watch of nothing: what it costs to begin
        subprocess.run(command(run, broker, folder, nproc, "--end"), check=True, capture_output=True)
        idle = resource.getrusage(resource.RUSAGE_CHILDREN)
    core_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    begin_s = idle.ru_utime + idle.ru_stime - used.ru_utime - used.ru_stime
    table = answers(folder)
    at = np.sort(table.column("answered").to_numpy().astype("datetime64[ms]").astype(np.int64)) / 1000
    first = int((at == at[0]).sum())
    assert table.num_rows == count, (table.num_rows, count)
    return {
        "nproc": nproc, "alerts": count, "alerts_per_s": (count - first) / (at[-1] - at[0]),
        **({"alerts_per_core_s": count / (core_s - begin_s), "begin_core_s": begin_s} if nproc == 1 else {}),
    }  # fmt: skip


def stripped(packet):
    """The same packet without stamps."""
    import fastavro

    reader = fastavro.reader(io.BytesIO(packet))
    record = {name: None if name.startswith("cutout") else value for name, value in next(reader).items()}
    out = io.BytesIO()
    fastavro.writer(out, fastavro.parse_schema(reader.writer_schema), [record])
    return out.getvalue()


class Sender(threading.Thread):
    """Packets at a rate; how many were taken."""

    def __init__(self, broker, packets, per_s):
        super().__init__(daemon=True)
        self.broker, self.packets, self.per_s, self.sent, self.leave = broker, packets, per_s, 0, threading.Event()

    def run(self):
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.broker.address, "linger.ms": 5, "enable.idempotence": True})
        start = time.monotonic()
        while not self.leave.is_set():
            if self.sent < (time.monotonic() - start) * self.per_s:
                where = {"partition": self.sent % PARTITIONS}
                producer.produce("alerts", self.packets[self.sent % len(self.packets)], key=str(self.sent), **where)
                self.sent += 1
                producer.poll(0)
            else:
                producer.poll(0.005)
        assert producer.flush(30) == 0

    def stop(self):
        self.leave.set()
        self.join()
        return self.sent


def live(run, packets, nproc, per_s, seconds, folder):
    with mock.mock_broker() as broker:
        broker.tell("topic", "alerts", PARTITIONS)
        with subprocess.Popen(
            command(run, broker, folder, nproc), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as watch:
            while not events(folder):
                time.sleep(0.1)
            sender = Sender(broker, packets, per_s)
            sender.start()
            time.sleep(5)  # until it runs evenly
            start = time.time()
            time.sleep(seconds)
            stop, sent = time.time(), sender.stop()
            time.sleep(3)
            watch.send_signal(signal.SIGTERM)
        during = [e for e in events(folder) if start <= e["time"] <= stop]
    return {"nproc": nproc, "asked_per_s": per_s, **latencies(folder, start, stop), "sent": sent,
            "lag_at_the_end": during[-1]["lag"], "gone": events(folder)[-1]["gone"]}  # fmt: skip


def latencies(folder, start=0.0, stop=np.inf):
    """Of the answers given between two moments."""
    from gsnn.serve.sinks import answers

    table = answers(folder)
    alerted, answered = (
        table.column(n).to_numpy().astype("datetime64[ms]").astype(np.int64) / 1000 for n in ("alerted", "answered")
    )
    within = (answered >= start) & (answered <= stop)
    wait = (answered - alerted)[within]
    span = answered[within].max() - answered[within].min()
    return {
        "answered_per_s": within.sum() / span,
        **{f"latency_p{q}_s": float(np.percentile(wait, q)) for q in (50, 99)},
    }


def storm(run, packets, nproc, per_s, minutes, every, folder, seed=0):
    from gsnn.serve.sinks import answers

    chance, kills, back = random.Random(seed), 0, []
    with mock.mock_broker() as broker:
        broker.tell("topic", "alerts", PARTITIONS)
        sender = Sender(broker, packets, per_s)
        sender.start()
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            before, began = len(events(folder)), time.monotonic()
            with subprocess.Popen(
                command(run, broker, folder, nproc), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as watch:
                life = chance.expovariate(1 / every)
                while time.monotonic() < min(began + life, end):
                    time.sleep(0.05)
                    if len(back) == kills and len(events(folder)) > before:
                        back.append(time.monotonic() - began)
                if len(back) == kills:
                    back.append(float("nan"))  # killed before it said anything
                watch.send_signal(signal.SIGKILL)
                kills += 1
        sent = sender.stop()
        subprocess.run(command(run, broker, folder, nproc, "--end"), check=True, capture_output=True)
    table = answers(folder)
    seen = Counter(zip(table.column("partition").to_pylist(), table.column("offset").to_pylist()))
    top = Counter(k for k, _ in seen)
    gone = sum(e["gone"] for e in events(folder))
    return {"nproc": nproc, "minutes": minutes, "asked_per_s": per_s, "kills": kills, "sent": sent,
            "answered": table.num_rows, "doubled": sum(n - 1 for n in seen.values()),
            "lost": sent - len(seen), "gone": gone, "partitions": len(top), **latencies(folder),
            "seconds_to_first_figures_after_a_kill": float(np.nanmedian(back))}  # fmt: skip


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("run", type=Path)
    ask.add_argument("--packets", type=Path, help="a folder of packets; without it made ones")
    ask.add_argument("--strip", action="store_true", help="leave the stamps out of them")
    ask.add_argument("--out", type=Path, required=True)
    ask.add_argument("--name", default="alerts", help="the key of the result")
    ask.add_argument("--what", nargs="+", default=["decode", "core", "drain", "live", "storm"])
    ask.add_argument("--nproc", type=int, default=2)
    ask.add_argument("--count", type=int, default=2400)
    ask.add_argument("--rate", type=float, default=350)
    ask.add_argument("--seconds", type=float, default=30)
    ask.add_argument("--minutes", type=float, default=10)
    ask.add_argument("--kill-every", type=float, default=20)
    asked = ask.parse_args()
    from gsnn.run import Run
    from gsnn.serve.packets import made

    if asked.packets:
        packets = [path.read_bytes() for path in sorted(asked.packets.rglob("*.avro"))]
    else:
        packets = [made(number)[0] for number in range(60)]
    packets = [stripped(one) for one in packets] if asked.strip else packets
    found = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    mine = found.setdefault(asked.name, {})
    mine["packets"] = {"files": len(packets), "mean_bytes": sum(map(len, packets)) / len(packets)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for what in asked.what:
            if what == "decode":
                result = alone(Run(asked.run), packets, 5)
            elif what in ("core", "drain"):
                result = drain(asked.run, packets, 1 if what == "core" else asked.nproc, asked.count, folder / what)
            elif what == "live":
                result = live(asked.run, packets, asked.nproc, asked.rate, asked.seconds, folder / what)
            else:
                result = storm(
                    asked.run, packets, asked.nproc, asked.rate, asked.minutes, asked.kill_every, folder / what
                )
            mine[what] = {**result, "load_average": os.getloadavg()[0], "cores": os.cpu_count()}
            print(what, json.dumps(mine[what]), flush=True)
            asked.out.write_text(json.dumps(found, indent=1) + "\n")
            shutil.rmtree(folder / what, ignore_errors=True)


if __name__ == "__main__":
    main()
