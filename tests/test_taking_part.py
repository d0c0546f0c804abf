"""Which objects take part: what ``where`` leaves out is told, and a class that it leaves nothing of is no class."""

import json

import numpy as np
import pytest
from tiny import TABLE, Rows, change, table, table_rows

from gsnn.data.schema import Column
from gsnn.data.survey import Survey
from gsnn.progress import Progress, amount
from gsnn.run import run
from gsnn.study import Study

pytestmark = pytest.mark.usefixtures("no_figures")


class Said(Progress):
    def __init__(self):
        self.lines = []

    def step(self, number, detail=""):
        self.lines.append(f"{number} {detail}")

    def say(self, text):
        self.lines.append(text)


def three_classes(n=240, first=0, kinds=("candidate", "quasar", "star")):
    """The small table in which every third object is a candidate that no one has classified."""
    values = table(n, first)
    columns = {c: v for c, v in table_rows(n, first).columns.items() if c.name != "kind"}
    kind = np.where(np.arange(n) % 3 == 0, kinds[0], values["kind"])
    return Rows({**columns, Column("kind", "label", classes=kinds, dtype="int64"): kind.tolist()})


WITHOUT = change(
    TABLE, data__where="kind != 'candidate'", evaluate__control=True, train__epochs=4, evaluate__baselines=["prior"],
    explain__methods=[],
)  # fmt: skip


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    return Survey.create(tmp_path_factory.mktemp("three") / "sky", three_classes())


@pytest.fixture(scope="module")
def done(sky, tmp_path_factory):
    said = Said()
    folder = tmp_path_factory.mktemp("three") / "run"
    return run(Study.from_dict(WITHOUT, name="three"), data=sky, out=folder, progress=said), said.lines


def test_a_class_without_objects_is_nowhere(done):
    finished, _ = done
    answer, audit = finished.answer, json.loads((finished.path / "audit.json").read_text())
    assert answer["target"]["classes"] == ["quasar", "star"]
    assert answer["confusion"]["classes"] == ["quasar", "star"]
    assert not [name for name in answer["metrics"] if "candidate" in name]
    assert set(audit["classes"]) == {"quasar", "star"}
    assert "candidate_p" not in finished.predictions.column_names
    assert finished.model.targets["kind"].classes == ("quasar", "star")
    assert "candidate" not in (finished.path / "card.md").read_text().replace("kind != 'candidate'", "")


def test_chance_counts_the_classes_that_occur(done):
    control = done[0].answer["controls"]["permuted"]
    assert control["chance"] == 0.5
    assert control["passed"] is True


def test_what_is_left_out_is_told(done, sky):
    line = next(line for line in done[1] if line.startswith("2 "))
    objects = done[0].answer["objects"]
    assert line.startswith(f"2 160 of 240 objects ({objects['train']} training, {objects['valid']} validation, ")
    assert line.endswith("left out: 80 by where")
    assert sum(objects.values()) == 160
    assert done[0].answer["left_out"] == {"by where": 80}
    checked = Study.from_dict(WITHOUT).check(data=sky)
    assert "left out: 80 by where" in checked[0]


def test_what_takes_part_whole_is_told_without_reasons(table_survey):
    assert "240 objects (" in Study.from_dict(TABLE).check(data=table_survey)[0]
    assert "left out" not in Study.from_dict(TABLE).check(data=table_survey)[0]


@pytest.mark.parametrize("kinds", [("candidate", "quasar", "star"), ("nova", "quasar", "star"), ("zwicky",) * 3])
def test_other_data_have_the_classes_that_were_learned(done, tmp_path, kinds):
    """Whatever other classes they know, and in whichever order: the truth stays the truth."""
    names = tuple(dict.fromkeys((kinds[0], "star", "quasar")))
    rows = three_classes(90, 3000, kinds)
    rows.columns = {
        Column("kind", "label", classes=names, dtype="int64") if c.name == "kind" else c: v
        for c, v in rows.columns.items()
    }
    said = Said()
    study = run(Study.from_dict(WITHOUT, name="three"), data=done[0].resolved["data"], out=done[0].path)
    verdict = study.evaluate(Survey.create(tmp_path / "other", rows), said)
    assert verdict["objects"] == 60
    assert verdict["metrics"]["accuracy"]["value"] > 0.6
    reason = "30 by where" if kinds[0] == "candidate" else "30 without a known kind"
    assert said.lines == [f"judged on 60 of 90 objects; left out: {reason}"]


def test_objects_seen_in_training_are_counted_aloud(table_run, copied, table_survey):
    said, objects = Said(), table_run.answer["objects"]
    copied(table_run).evaluate(table_survey, said)
    seen = objects["train"] + objects["valid"]
    assert said.lines == [
        f"judged on {objects['test']} of 240 objects; left out: {seen} that the network was trained on"
    ]


def test_no_explanation_is_said_to_be_none(done):
    assert "5 no explanation asked for ([explain] methods)" in done[1]


def test_what_a_run_will_take_counts_every_training(done):
    line = next(line for line in done[1] if line.startswith("expected"))
    assert " for training and the control, then the judging; " in line
    assert "kB of scratch" in line


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (4100, "4.1 kB"),
        (410_000, "410 kB"),
        (999_600, "1.0 MB"),
        (2.6e15, "2600 TB"),
    ],
)
def test_amounts(size, text):
    assert amount(size) == text


# ------------------------------------------------------------------ what does not fit is told before the training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluate__baselines": ["prior", "cas-forest"]}, r"\[evaluate.baselines\] 1: baseline cas-forest: none of"),
        ({"evaluate__baselines": ["linear"]}, r"\[evaluate.baselines\] 0: baseline linear"),
        ({"explain__methods": ["occlusion", "grad-cam"]}, r"\[explain.methods\] 1: grad-cam needs a convolutional"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_training(table_survey, tmp_path, changes, message):
    from gsnn.errors import GsnnError

    study = Study.from_dict(change(TABLE, **changes))
    with pytest.raises(GsnnError, match=message):
        run(study, data=table_survey, out=tmp_path / "run")
    assert not (tmp_path / "run/fits").exists()


# ------------------------------------------------------------------ and what fails stands in the answer


def test_a_leak_stands_in_the_answer(tmp_path):
    survey = Survey.create(tmp_path / "sky", table_rows(leak=True))
    study = change(TABLE, data__inputs=["g", "r", "score"], explain__methods=[], evaluate__baselines=["prior"])
    done = run(Study.from_dict(study), data=survey, out=tmp_path / "run")
    assert done.answer["answer"].endswith("; do not trust it: the leakage check fails (label leakage)")
    assert "do not trust it: the leakage check fails" in (done.path / "card.md").read_text()


def test_an_answer_without_failed_checks_has_no_doubts(table_run):
    assert "trust" not in table_run.answer["answer"]


def test_a_control_that_says_one_thing_always_is_weak_evidence(table_survey, tmp_path):
    from gsnn.report.parts import read
    from gsnn.report.story import badges

    study = change(WITHOUT, data__where="g < 100", train__learning_rate=1e-9, train__epochs=1)
    done = run(Study.from_dict(study), data=table_survey, out=tmp_path / "run")
    constant = done.answer["controls"]["permuted"]["constant"]
    badge = badges(read(done.path))[0]
    assert constant == ("weak evidence" in badge["sentence"])
    answer = {"controls": {"permuted": {"metric": "balanced_accuracy", "value": 0.25, "low": 0.25, "high": 0.25,
                                        "chance": 0.25, "passed": True, "constant": True}}}  # fmt: skip
    parts = read(done.path)
    parts.answer = answer
    badge = badges(parts)[0]
    assert badge["level"] == "warn"
    assert "same answer" in badge["sentence"]
