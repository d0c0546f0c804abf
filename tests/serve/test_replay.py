"""A night is sent again, in the order of its observations and at the pace that was asked for."""

from __future__ import annotations

import http.server
import json
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gsnn.data.readers.avro import decode
from gsnn.errors import GsnnError
from gsnn.serve.registry import Away, Registry
from gsnn.serve.replay import pace, packets, replay
from gsnn.serve.sinks import answers
from gsnn.serve.watch import watch


@pytest.fixture
def folder(tmp_path, request):
    from gsnn.serve.packets import night

    return night(tmp_path / "night", 12, seed=4)


def test_packets_come_in_the_order_of_their_observation(folder):
    found = packets(folder)
    times = [decode(one.content.read_bytes())["light_curve"].time[-1] * 86400 for one in found]
    assert times == sorted(times)
    assert [one.time for one in found] == pytest.approx(times)
    rate = [after for after, _ in pace(found, 4.0, None)]
    assert rate == [number / 4 for number in range(12)]
    fast = [after for after, _ in pace(found, None, 60.0)]
    assert fast == pytest.approx([(time - times[0]) / 60 for time in times])


def test_a_replayed_night_is_answered(folder, curves_run, broker, tmp_path):
    (folder / "poison.avro").write_bytes(b"poison")
    assert replay(folder, broker.address, "ztf", rate=200) == 13
    watch(curves_run, broker.address, ["ztf"], out=tmp_path / "out", until_end=True)
    found = answers(tmp_path / "out").column("id").to_pylist()
    assert sorted(filter(None, found)) == sorted(path.stem for path in folder.glob("2*.avro"))
    assert found.count(None) == 1


def test_packets_in_parquet(folder, tmp_path):
    contents = [path.read_bytes() for path in sorted(folder.glob("*.avro"))]
    pq.write_table(pa.table({"packet": contents}), tmp_path / "night.parquet")
    assert [one.content for one in packets(tmp_path / "night.parquet")] == [
        one.content.read_bytes() for one in packets(folder)
    ]
    times = [float(-i) for i in range(12)]
    pq.write_table(pa.table({"packet": contents, "time": times}), tmp_path / "back.parquet")
    assert [one.content for one in packets(tmp_path / "back.parquet")] == contents[::-1]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path / "nowhere", "neither a folder"),
        (lambda path: path, "no alert packets"),
        (lambda path: path / "text.parquet", "no Parquet file"),
        (lambda path: path / "other.parquet", "no column 'packet'"),
    ],
)
def test_what_cannot_be_replayed_is_told(make, sentence, tmp_path):
    (tmp_path / "text.parquet").write_text("text")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    with pytest.raises(GsnnError, match=sentence):
        packets(make(tmp_path))


def test_schemas_from_a_registry_and_from_a_folder(tmp_path):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            number = int(self.path.rsplit("/", 1)[1])
            asked.append(number)
            status, body = {5: (200, {"schema": "five"}), 7: (503, {})}.get(number, (404, {}))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *said):
            pass

    named = [b"\0" + number.to_bytes(4, "big") + b"body" for number in (5, 6, 5)]
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    registry = Registry(f"http://127.0.0.1:{server.server_address[1]}/")
    for _ in range(3):
        assert registry.of([*named, b"Obj\x01", None, b""]) == {5: "five"}
    assert sorted(asked) == [5, 6]
    with pytest.raises(Away, match="503"):
        registry.of([b"\0\0\0\0\7body"])
    server.shutdown()
    server.server_close()
    with pytest.raises(Away, match="does not answer"):
        registry.of([b"\0\0\0\0\7body"])
    (tmp_path / "5.avsc").write_text("five")
    assert Registry(str(tmp_path)).of(named) == {5: "five"}
    assert Registry(None).of(named) == {}
    with pytest.raises(GsnnError, match="neither a folder nor"):
        Registry("nowhere")
