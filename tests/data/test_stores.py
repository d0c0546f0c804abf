"""Surveys in an object store: a real S3 API server (moto's) in a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest

from gsnn.data import stores
from gsnn.data.stream import Stream
from gsnn.data.survey import Survey
from gsnn.errors import GsnnError

SECRETS = {"AWS_ACCESS_KEY_ID": "sky", "AWS_SECRET_ACCESS_KEY": "sky", "AWS_DEFAULT_REGION": "us-east-1"}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def serve():
    """A server with the bucket ``sky``, and its address."""
    pytest.importorskip("moto.server")
    host = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "moto.server", "-p", host.rsplit(":", 1)[1]]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{host}/moto-api/", timeout=5).close()
            break
        except OSError:
            assert time.monotonic() < until, "moto's server does not start"
            assert server.poll() is None
            time.sleep(0.1)
    with urllib.request.urlopen(urllib.request.Request(f"{host}/sky", method="PUT"), timeout=10):
        return server, host


@pytest.fixture(scope="module")
def server():
    running, host = serve()
    yield host
    running.kill()
    running.wait()


@pytest.fixture
def store(server, monkeypatch):
    point_at(monkeypatch, server)
    return f"s3://sky/{os.urandom(4).hex()}"


def point_at(monkeypatch, host):
    stores.reach.cache_clear()
    for name, value in {**SECRETS, "AWS_ENDPOINT_URL": host}.items():
        monkeypatch.setenv(name, value)


def test_a_survey_in_a_store_is_like_any_other(store, toy, sky, tmp_path):
    given = {"image": "quantise"}
    near = Survey.create(tmp_path / "near", toy(sky(60, size=8), {5: "no flux"}), codecs=given)
    far = Survey.create(f"{store}/far.survey", toy(sky(60, size=8), {5: "no flux"}), codecs=given)
    assert far.path == f"{store}/far.survey"
    assert far.digest == near.digest
    assert far.verify() == []
    assert far.quarantined() == near.quarantined() == [{"id": "o5", "reason": "no flux"}]
    np.testing.assert_array_equal(far.where("g < 20"), near.where("g < 20"))
    rows = np.array([30, 2, 58])
    for name in near.schema:
        np.testing.assert_array_equal(far.take(rows, [name])[name], near.take(rows, [name])[name])
    assert "g_r" in far.derive({"g_r": "g - r"}).schema
    np.testing.assert_array_equal(far.cone(137.5, 40, 3e5), near.cone(137.5, 40, 3e5))


def test_a_survey_in_a_store_grows_and_is_replaced(store, toy, sky):
    path = f"{store}/s"
    Survey.create(path, toy(sky(20), {3: "no flux"}))
    grown = Survey.open(path).append(toy(sky(10, first=20), {0: "no light"}))
    assert len(Survey.open(path)) == len(grown) == 28
    assert [row["reason"] for row in grown.quarantined()] == ["no flux", "no light"]
    assert grown.verify() == []
    with pytest.raises(GsnnError, match="exists already"):
        Survey.create(path, toy(sky(5)))
    new = Survey.create(path, toy(sky(5)), overwrite=True)
    assert len(new) == 5
    assert new.quarantined() == []
    assert new.verify() == []


def test_a_stream_fills_its_scratch_from_the_store(store, toy, sky, tmp_path):
    survey = Survey.create(f"{store}/s", toy(sky(100, size=8)))
    want = survey.view().columns(["image"])["image"]
    seen = []
    with Stream(survey.view(), ["image"], batch=16, scratch=tmp_path) as stream:
        for batch in stream.batches():
            np.testing.assert_array_equal(batch["image"].numpy(), want[batch["row"].numpy()])
            seen += batch["row"].tolist()
    assert sorted(seen) == list(range(100))


def test_a_source_that_fails_leaves_no_survey_in_the_store(store, toy, sky):
    with pytest.raises(GsnnError, match="none of the 3 rows"):
        Survey.create(f"{store}/s", toy(sky(3), {0: "x", 1: "x", 2: "x"}))
    assert not stores.is_survey(f"{store}/s")
    assert len(Survey.create(f"{store}/s", toy(sky(3)))) == 3


def test_the_command_goes_from_files_to_a_store_and_on(store, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from gsnn.cli import app

    monkeypatch.chdir(tmp_path)
    lines = [f"o{i},{i * 1.1:.2f},{i % 60},{20 + i / 7:.3f},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "t.csv").write_text("id,ra,dec,mag,kind\n" + "\n".join(lines) + "\n")
    done = CliRunner().invoke(app, ["ingest", "t.csv", "--out", f"{store}/t.survey"])
    assert done.exit_code == 0, done.output + str(done.exception)
    done = CliRunner().invoke(app, ["survey", f"{store}/t.survey", "--verify", "--where", "dec < 20"])
    assert done.exit_code == 0, done.output + str(done.exception)
    assert "all 40 rows match" in done.output
    done = CliRunner().invoke(app, ["new", "study.toml", "--from", f"{store}/t.survey", "--target", "kind"])
    assert done.exit_code == 0, done.output + str(done.exception)
    assert f"{store}/t.survey" in (tmp_path / "study.toml").read_text()


def test_a_run_reads_a_store(store, toy, sky, tmp_path, no_figures):
    from gsnn.run import run
    from gsnn.study import Study

    table = {
        "question": "Which?",
        "data": {"source": f"{store}/s", "inputs": ["g", "r"], "target": "kind"},
        "model": {"name": "mlp"},
        "objective": {"name": "classify"},
        "train": {"epochs": 1, "batch": 32},
        "evaluate": {"baselines": ["prior"]},
        "explain": {"methods": []},
    }
    Survey.create(f"{store}/s", toy(sky(240)))
    finished = run(Study.from_dict(table), out=tmp_path / "run")
    assert finished.answer["survey"]["objects"] == 240
    assert len(finished.ground.survey) == 240


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("s3://sky/nothing.survey", "is not a survey"),
        ("s3://no-such-bucket/s", "bucket does not exist"),
        ("s4://sky/s", "no store speaks s4://; known: az, gs, s3"),
        ("http://sky/s", "no store speaks http://"),
    ],
)
def test_what_is_not_there_is_told(store, path, words):
    with pytest.raises(GsnnError, match=words) as caught:
        Survey.open(path)
    assert "\n" not in str(caught.value)


def test_a_store_that_dies_is_one_sentence_within_seconds(toy, sky, monkeypatch, tmp_path):
    running, host = serve()
    point_at(monkeypatch, host)
    survey = Survey.create("s3://sky/s", toy(sky(40)))
    running.send_signal(signal.SIGKILL)
    running.wait()
    for reading in (
        lambda: survey.take(np.arange(3), ["g"]),
        lambda: Survey.open("s3://sky/s"),
        lambda: Survey.create("s3://sky/t", toy(sky(4))),
        lambda: stream_of(survey, tmp_path),
    ):
        start = time.monotonic()
        with pytest.raises(GsnnError, match=r"no answer|cannot reach") as caught:
            reading()
        assert time.monotonic() - start < 60
        assert "\n" not in str(caught.value)
        assert "/home/" not in str(caught.value)


def stream_of(survey, folder):
    with Stream(survey.view(np.arange(40)), ["g"], batch=8, scratch=folder) as stream:
        list(stream.batches())


@pytest.mark.parametrize("what", ["closed", "silent", "unknown"])
def test_a_host_that_cannot_be_reached_is_told_in_seconds(monkeypatch, what):
    with socket.socket() as quiet:
        quiet.bind(("127.0.0.1", 0))
        if what == "silent":
            quiet.listen()  # connections are taken, and nothing is ever said
        port = quiet.getsockname()[1]
        host = "http://no-such-host.invalid:80" if what == "unknown" else f"http://127.0.0.1:{port}"
        point_at(monkeypatch, host)
        monkeypatch.setattr(stores, "_SECONDS", 2)
        start = time.monotonic()
        with pytest.raises(GsnnError, match=f"cannot reach the object store at {host} .*check the network"):
            Survey.open("s3://sky/s")
        assert time.monotonic() - start < 15


@pytest.mark.parametrize(
    ("path", "remote"),
    [("s3://a/b", True), ("gs://a/b", True), ("az://a/b", True), ("/a/b", False), ("a/b://c", False), ("C:/x", False)],
)
def test_addresses_are_told_from_folders(path, remote):
    assert stores.is_remote(path) is remote


def test_options_follow_the_environment(monkeypatch):
    for name in [n for n in os.environ if n.startswith(("AWS_", "AZURE_"))]:
        monkeypatch.delenv(name)
    assert stores.endpoint("s3://a") == "https://s3.us-east-1.amazonaws.com"
    assert "aws_endpoint" not in stores.options("s3://a")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert stores.endpoint("s3://a") == "https://s3.eu-west-1.amazonaws.com"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://disk.local:9000")
    assert stores.options("s3://a")["aws_endpoint"] == "http://disk.local:9000"
    assert stores.options("s3://a")["allow_http"] == "true"
    assert "aws_endpoint" not in stores.options("gs://a")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "stars")
    assert stores.endpoint("az://a") == "https://stars.blob.core.windows.net"
    assert stores.options("/a/b") is None


def test_a_survey_is_ingested_into_a_store_by_fragments(store, tmp_path, monkeypatch):
    """Interrupted and damaged, it is gone on with; nobody sees it before it is whole."""
    from gsnn.spread import ingest

    lines = [f"o{k},{k},{-95 if k in (5, 70) else k % 80},{k * 3 % 360}" for k in range(200)]
    (tmp_path / "a.csv").write_text("\n".join(["id,x,dec,ra", *lines]) + "\n")
    monkeypatch.chdir(tmp_path)
    near, out, true = Survey.create("near", ingest.source_of(["a.csv"])), f"{store}/far.survey", ingest.part

    def interrupted(task):
        if task["number"] == 3:
            raise KeyboardInterrupt
        return true(task)

    monkeypatch.setattr(ingest, "part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ingest.ingest(["a.csv"], out, fragment=50)
    assert not stores.is_survey(out)
    record = tmp_path / ".far.survey.parts" / "000001.json"
    record.write_text(record.read_text().replace(".lance", ".lost"))
    asked = []
    monkeypatch.setattr(ingest, "part", lambda task: asked.append(task["number"]) or true(task))
    far = ingest.ingest(["a.csv"], out)
    assert asked == [1, 3, 2, 3]  # what is missing, and then those whose rows have other numbers by now
    assert far.digest == near.digest
    assert far.dataset.to_table().equals(near.dataset.to_table())
    assert far.quarantined() == near.quarantined()
    assert not record.parent.exists()
    with pytest.raises(GsnnError, match="exists already"):
        ingest.ingest(["a.csv"], out)
