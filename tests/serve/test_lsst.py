"""LSST's alerts: bare records behind the number of their schema, which a registry or a folder holds."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from gsnn.data.readers import read
from gsnn.data.survey import Survey
from gsnn.run import run
from gsnn.serve.sinks import answers
from gsnn.serve.watch import watch
from gsnn.study import Study

_spec = importlib.util.spec_from_file_location("made_packets", Path(__file__).parents[1] / "packets.py")
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)


def record(number):
    """A source that brightens, or one that fades."""
    one = made.lsst_record(number, prvDiaForcedSources=None)
    one["diaObject"] = None
    one["diaSource"] = {**one["diaSource"], "psfFlux": 1000.0 if number % 2 else 100.0, "diaObjectId": number}
    return one


@pytest.fixture(scope="module")
def lsst_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lsst")
    (folder / "night").mkdir()
    for number in range(100, 160):
        (folder / "night" / f"{number}.avro").write_bytes(made.container(made.LSST, record(number)))
    labels = "\n".join(f"{n},{'brighter' if n % 2 else 'fainter'}" for n in range(100, 160))
    (folder / "labels.csv").write_text(f"id,kind\n{labels}\n")
    survey = Survey.create(folder / "survey", read(str(folder / "night"), labels=str(folder / "labels.csv"), on="id"))
    study = {
        "question": "Does it brighten or fade?",
        "schema": 1,
        "data": {"source": "files", "inputs": ["light_curve", "reliability"], "target": "kind"},
        "model": {"name": "rnn", "width": 8, "layers": 1},
        "objective": {"name": "classify"},
        "train": {"epochs": 1},
    }
    study["data"]["split"] = {"by": "identity"}
    return run(Study.from_dict(study, name="lsst"), data=survey, out=folder / "run", only_train=True)


def test_numbered_packets_are_answered_as_those_with_their_schema(lsst_run, broker, tmp_path):
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas/703.avsc").write_text(made.LSST_JSON)
    broker.tell("topic", "lsst-alerts", 1)
    numbered = [made.numbered(made.LSST, record(n), 703) for n in range(8)]
    whole = [made.container(made.LSST, record(n)) for n in range(8)]
    unknown = made.numbered(made.LSST, record(9), 704)
    broker.send("lsst-alerts", [*numbered, unknown, *whole])
    about = {"out": tmp_path / "out", "until_end": True, "schemas": str(tmp_path / "schemas")}
    assert watch(lsst_run, broker.address, ["lsst-*"], **about)["quarantined"] == 1
    table = answers(tmp_path / "out").to_pylist()
    assert "schema 704" in table[8]["flag"]
    first, again = table[:8], table[9:]
    assert [row["id"] for row in first] == [row["id"] for row in again] == [str(n) for n in range(8)]
    np.testing.assert_allclose([r["brighter_p"] for r in first], [r["brighter_p"] for r in again], atol=1e-6)
