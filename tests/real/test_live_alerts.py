"""Packets as ZTF, PGIR and WINTER have sent them, through a broker."""

from __future__ import annotations

import pytest

from gsnn.data.readers import read
from gsnn.data.survey import Survey
from gsnn.run import run
from gsnn.serve.replay import replay
from gsnn.serve.sinks import answers
from gsnn.serve.trial import broker
from gsnn.serve.watch import watch
from gsnn.study import Study

pytestmark = pytest.mark.real


def test_real_packets_are_answered_once_and_those_of_other_surveys_set_aside(data, tmp_path):
    from gsnn.serve.packets import night

    packets = night(tmp_path / "night", 60)
    survey = Survey.create(tmp_path / "survey", read(str(packets), labels=str(tmp_path / "night-labels.csv"), on="id"))
    study = {
        "question": "Is this alert a supernova or a variable star?",
        "schema": 1,
        "data": {"source": "files", "inputs": ["light_curve", "stamps"], "target": "kind"},
        "model": {"name": "joint", "width": 8, "channels": 4, "depth": 2},
        "objective": {"name": "classify"},
        "train": {"epochs": 1},
    }
    study["data"]["split"] = {"by": "identity"}
    one = run(Study.from_dict(study, name="alerts"), data=survey, out=tmp_path / "run", only_train=True)
    folder = data / "alert_packets_avro"
    with broker() as address:
        sent = replay(folder, address, "alerts", rate=100)
        watch(one, address, ["alerts"], out=tmp_path / "out", until_end=True)
    table = answers(tmp_path / "out").to_pylist()
    assert len(table) == sent == 66
    assert len({(row["partition"], row["offset"]) for row in table}) == 66
    reasons = [row["flag"] for row in table if row["flag"].startswith("quarantined")]
    assert sum("pgir" in reason or "winter" in reason for reason in reasons) == 28
    ids = {row["id"] for row in table if row["id"]}
    assert {path.stem for path in (folder / "ztf_alerts").rglob("*.avro")} <= ids
