import json
import math

from gsnn.training.log import Log, read


def test_events_are_json_lines(tmp_path):
    log = Log(tmp_path, tensorboard=False)
    log.write({"event": "step", "step": 1, "loss": math.nan})
    log.close()
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"event": "step", "step": 1, "loss": None}


def test_a_resumed_log_forgets_what_its_checkpoint_did_not_see(tmp_path):
    log = Log(tmp_path, tensorboard=False)
    log.write({"event": "step", "step": 1})
    offset = log.offset()
    log.write({"event": "step", "step": 2})
    log.close()
    with open(tmp_path / "log.jsonl", "ab") as file:
        file.write(b'{"event": "st')
    assert [e["step"] for e in read(tmp_path)] == [1, 2]
    log = Log(tmp_path, offset, tensorboard=False)
    log.write({"event": "step", "step": 3})
    assert log.offset() > offset
    log.close()
    assert [e["step"] for e in read(tmp_path)] == [1, 3]


def test_no_log_has_no_events(tmp_path):
    assert read(tmp_path) == []
