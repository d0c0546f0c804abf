"""Real workers that are killed: processes of this machine, and a Dask scheduler with two workers."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from survey_wide import (
    FRAGMENT,
    OBJECTS,
    assert_same_predictions,
    assert_same_survey,
    gone,
    gsnn,
    kill,
    recorded,
    stamps,
    until,
    workers_of,
)

from gsnn.data.survey import Survey
from gsnn.errors import GsnnError
from gsnn.spread import engines
from gsnn.spread.fragments import workshop
from gsnn.spread.ingest import ingest, source_of
from gsnn.spread.predict import predict

pytest.importorskip("distributed")
FRAGMENTS = OBJECTS // FRAGMENT + 1


class Cluster:
    """A Dask scheduler and workers, each a process of its own."""

    def __init__(self, folder: Path):
        self.folder, self.file, self.processes = folder, folder / "scheduler.json", []
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.workers = [self.worker(), self.worker()]

    def _start(self, kind: str, *words: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "dask", kind, "--scheduler-file", str(self.file), *words]
        with open(self.folder / f"{kind}{len(self.processes)}.log", "w") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder))
        return self.processes[-1]

    def worker(self) -> subprocess.Popen:
        return self._start("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard")

    @property
    def address(self) -> str:
        until(self.file.exists, seconds=60)
        return json.loads(self.file.read_text())["address"]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Started before it is needed, since its processes take seconds to import what they need."""
    made = Cluster(tmp_path_factory.mktemp("dask"))
    yield made
    made.close()


def test_processes_that_are_killed(cluster, table_run, wide, expected, tmp_path):
    """A worker dies, and then the client: nothing is lost but what was at work, and nobody is left behind."""
    out = tmp_path / "found"
    work = workshop(out)
    client = gsnn("predict", table_run.path, wide.path, "--out", out, "--nproc", 2, "--fragment", FRAGMENT)
    until(lambda: recorded(work) >= 2, client)
    kill(workers_of(client.pid)[0])
    until(lambda: recorded(work) >= 12, client)  # by workers that took over
    left = workers_of(client.pid)
    kill(client.pid)
    client.communicate()
    done = recorded(work)
    assert 12 <= done < FRAGMENTS
    assert not out.exists()
    until(lambda: all(map(gone, left)), seconds=20)
    predict(table_run, wide, out)
    assert_same_predictions(expected, out)


def test_dask_workers_and_clients_that_are_killed(cluster, table_run, wide, expected, tmp_path):
    out = tmp_path / "found.parquet"
    work = workshop(out)
    client = gsnn("predict", table_run.path, wide.path, "--out", out, "--dask", cluster.address, "--fragment", FRAGMENT)
    until(lambda: recorded(work) >= 3, client)
    kill(cluster.workers.pop().pid)
    until(lambda: recorded(work) >= 8, client)  # by the other one
    kill(client.pid)
    client.communicate()
    assert 8 <= recorded(work) < FRAGMENTS
    assert not out.exists()
    cluster.workers.append(cluster.worker())
    predict(table_run, wide, out, dask=str(cluster.file))
    assert_same_predictions(expected, out)


def test_dask_makes_the_survey_of_one_process(cluster, tmp_path):
    file = stamps(tmp_path)
    whole = Survey.create(tmp_path / "whole", source_of([str(file)]), codecs={"image": "quantise"})
    parts = ingest([str(file)], tmp_path / "parts", codecs={"image": "quantise"}, dask=cluster.address, fragment=100)
    assert_same_survey(whole, parts)


def test_what_a_worker_says_is_heard(cluster):
    task = {"version": "0.0.1"}
    from gsnn.spread.predict import part

    with pytest.raises(GsnnError, match=r"and you have 0.0.1; install one version everywhere"):
        list(engines.cluster(cluster.address)(part, [task]))


def test_a_fragment_that_kills_every_worker_is_told(monkeypatch):
    monkeypatch.setattr(engines, "DEATHS", 2)
    with pytest.raises(GsnnError, match="2 times in a row a worker process died before a fragment was done"):
        list(engines.processes(2)(os._exit, [1]))


def test_a_scheduler_that_is_not_there_is_told_soon(monkeypatch):
    monkeypatch.setattr(engines, "SECONDS", 2)
    with socket.socket() as silent:  # it listens and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        addresses = [f"tcp://127.0.0.1:{silent.getsockname()[1]}", "tcp://127.0.0.1:9", "nonsense", "nothere.json"]
        for address in addresses:
            begun = time.monotonic()
            with pytest.raises(GsnnError, match=r"no Dask scheduler answers at .*start one by `dask scheduler`"):
                next(engines.cluster(address)(len, [{}]))
            assert time.monotonic() - begun < 6


def test_a_scheduler_that_goes_is_told(cluster):
    """Last: the cluster is gone afterwards."""
    answers = engines.cluster(cluster.address)(time.sleep, [0, *itertools.repeat(60, 4)])
    next(answers)
    cluster.scheduler.send_signal(signal.SIGKILL)
    with pytest.raises(GsnnError, match="has gone; start it, and type the same line again"):
        next(answers)
