"""What a run cost counts all attempts at it."""

import json

import pytest
from tiny import TABLE, change

from gsnn.run import run
from gsnn.spent import FILE, Spent
from gsnn.study import Study
from gsnn.training.energy import Meter


def test_a_run_that_goes_on_counts_what_came_before(tmp_path, table_survey):
    study = Study.from_dict(change(TABLE, train__epochs=1, evaluate__baselines=["prior"]))
    folder = tmp_path / "run"
    run(study, data=table_survey, out=folder, only_train=True)
    first = json.loads((folder / FILE).read_text())
    assert set(first["seconds"]) == {"data", "train"}
    first["seconds"]["train"] += 1000  # as if the first attempt had been long
    first["kwh"] += 7
    (folder / FILE).write_text(json.dumps(first))
    answer = run(study, data=table_survey, out=folder).answer
    assert 1000 < answer["seconds"]["train"] < 1100
    assert 7 < answer["energy_kwh"] < 7.1
    assert answer["co2e_g"] > 1000
    assert set(answer["seconds"]) == {"data", "train", "controls and seeds", "evaluate", "explain"}


def test_the_counter_of_a_whole_machine_is_told_from_an_estimate(tmp_path):
    """What other processes use is in the first, and is added to the second alone."""
    assert not Meter(tmp_path / "nothing").of_machine
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "energy_uj").write_text("1000")
    (package / "max_energy_range_uj").write_text("100000")
    assert Meter(tmp_path).of_machine


def test_an_attempt_that_breaks_is_counted(tmp_path, table_survey, monkeypatch):
    study = Study.from_dict(change(TABLE, train__epochs=1, evaluate__baselines=["prior"]))
    monkeypatch.setattr("gsnn.walk.Walk.judge", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(study, data=table_survey, out=tmp_path / "run")
    found = json.loads((tmp_path / "run" / FILE).read_text())
    assert found["seconds"]["train"] > 0
    assert found["kwh"] > 0


@pytest.mark.parametrize("text", ["", "[]", '{"seconds": 3, "kwh": 1}', '{"seconds": {"train": "x"}, "kwh": 1}'])
def test_what_cannot_be_read_counts_nothing(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    found = Spent(tmp_path)
    found.keep()
    assert set(found.seconds) == {"data"}
    assert found.seconds["data"] < 60
