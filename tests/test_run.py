"""A whole run: five steps, every number of the answer, and nothing lost or done twice whatever interrupts it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny import IMAGES, MIXTURE, TABLE, change, table_rows

from gsnn.config import normalise
from gsnn.data.survey import Survey
from gsnn.errors import GsnnError
from gsnn.progress import Progress
from gsnn.report.parts import read
from gsnn.run import Run, locked, run
from gsnn.study import Study

pytestmark = pytest.mark.usefixtures("no_figures")

KEYS = {
    "question", "answer", "metrics", "baselines", "calibration", "controls", "objects", "seconds", "energy_kwh",
    "co2e_g", "seed", "versions",
}  # fmt: skip
FILES = ("study.toml", "answer.json", "predictions.parquet", "audit.json", "examples.npz", "report.html", "card.md")


class Said(Progress):
    """Keeps what a person would have seen."""

    def __init__(self):
        self.steps, self.lines, self.events = [], [], []

    def step(self, number, detail=""):
        self.steps.append((number, detail))

    def say(self, text):
        self.lines.append(text)

    def training(self, event):
        self.events.append(event["event"])


def walk(table, survey, out, **options):
    said = Said()
    return run(Study.from_dict(table, name="tiny"), data=survey, out=out, progress=said, **options), said


def files(folder):
    return {
        str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != ".lock"
    }


def comparable(answer):
    """An answer without what the clock says."""
    clock = ("seconds", "training_seconds", "energy_kwh", "energy_source", "co2e_g", "memory_gb", "baseline_seconds")
    return {k: v for k, v in answer.items() if k not in clock}


@pytest.fixture(params=["table_run", "mixture_run", "image_run"])
def any_run(request):
    return request.getfixturevalue(request.param)


# ------------------------------------------------------------------ what a finished run holds


def test_every_file_is_there_and_nothing_half_written(any_run):
    for name in (*FILES, "fits/main/log.jsonl", "fits/main/model/model.safetensors", "fits/main/seen.parquet"):
        assert (any_run.path / name).stat().st_size > 0, name
    left = [
        str(p)
        for p in any_run.path.rglob("*")
        if "partial" in p.name or "staging" in p.name or "gsnn-scratch" in p.name
    ]
    assert left == []


def test_the_answer_has_every_key(any_run):
    answer = json.loads((any_run.path / "answer.json").read_text())
    assert answer.keys() >= KEYS
    assert answer == any_run.answer
    for entry in answer["metrics"].values():
        assert entry.keys() >= {"value", "low", "high", "unit"}
        if entry["value"] is not None:
            assert entry["low"] <= entry["value"] <= entry["high"]
    assert answer["baselines"].keys() == {normalise(one)["name"] for one in any_run.study.evaluate.baselines}
    for baseline in answer["baselines"].values():
        for entry in baseline.values():
            assert entry.keys() >= {"value", "low", "high", "difference"}
    assert answer["objects"].keys() == {"train", "valid", "test"}
    assert all(s >= 0 for s in answer["seconds"].values())
    assert answer["energy_kwh"] >= 0
    assert answer["co2e_g"] >= 0
    assert answer["calibration"]
    assert answer["controls"]["leakage"]["passed"] is True
    assert answer["seed"] == 0
    assert {"gsnn", "torch", "python"} <= answer["versions"].keys()
    assert "NaN" not in (any_run.path / "answer.json").read_text()  # JSON that every reader takes


def test_the_metrics_are_those_of_the_predictions(table_run, mixture_run):
    table = table_run.predictions.to_pydict()
    accuracy = np.mean([a == b for a, b in zip(table["prediction"], table["truth"])])
    assert table_run.answer["metrics"]["accuracy"]["value"] == pytest.approx(accuracy)
    table = mixture_run.predictions.to_pydict()
    error = np.array(table["prediction"]) - np.array(table["truth"])
    if "mae" in mixture_run.answer["metrics"]:
        assert mixture_run.answer["metrics"]["mae"]["value"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    inside = np.mean(
        [low <= t <= high for low, t, high in zip(table["redshift_low"], table["truth"], table["redshift_high"])]
    )
    assert mixture_run.answer["metrics"]["coverage_68"]["value"] == pytest.approx(inside, abs=1e-6)


def test_predictions_have_the_id_first_and_name_their_flags(any_run):
    table = any_run.predictions
    assert table.column_names[0] == "id"
    assert {"truth", "prediction", "flag", "row", "split"} <= set(table.column_names)
    assert len(table) == any_run.answer["objects"]["test"]
    assert len(set(table["id"].to_pylist())) == len(table)


def test_the_parts_of_the_sky_do_not_overlap(any_run):
    seen = set(pq.read_table(any_run.path / "fits/main/seen.parquet")["id"].to_pylist())
    tested = set(any_run.predictions["id"].to_pylist())
    objects = any_run.answer["objects"]
    assert not seen & tested
    assert len(seen) == objects["train"] + objects["valid"]


def test_the_stored_study_is_whole_and_leads_to_the_same_run(any_run):
    stored = tomllib.loads((any_run.path / "study.toml").read_text())
    assert stored["resolved"]["seed"] == 0
    assert stored["train"]["weight_decay"] > 0  # a default, written down
    assert any_run.study.digest == Study.from_dict({k: v for k, v in stored.items() if k != "resolved"}).digest
    assert any_run.study.name == "tiny"


def test_it_learned_something(table_run, image_run):
    for one in (table_run, image_run):
        difference = one.answer["baselines"]["prior"]["accuracy"]["difference"]
        assert difference["value"] > 0.1


def test_a_run_shows_itself(any_run, tmp_path):
    assert any_run.answer["answer"] in repr(any_run)
    html = any_run._repr_html_()
    assert "<" in html
    assert any_run.answer["question"].split()[0] in html


# ------------------------------------------------------------------ typed again


def test_typed_again_nothing_is_done_twice(table_run, table_survey):
    before = files(table_run.path)
    again, said = walk(TABLE, table_survey, table_run.path)
    assert files(table_run.path) == before
    assert again.answer == table_run.answer
    assert any("finished" in line for line in said.lines)
    assert said.steps == []


def test_without_out_the_same_words_find_the_same_folder(table_survey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = change(TABLE, train__epochs=1, evaluate__baselines=[], explain__methods=[])
    first, _ = walk(quick, table_survey, None)
    again, said = walk(quick, table_survey, None)
    assert first.path == again.path
    assert first.path.parent == Path("runs")
    assert first.path.name.startswith("tiny-")
    assert said.steps == []
    for other in ({"seed": 1}, {}):
        from gsnn.run import place

        table = quick if other else change(quick, train__epochs=2)
        folder, _ = place(Study.from_dict(table, name="tiny"), table_survey, None, other.get("seed", 0), 1)
        assert folder != first.path


@pytest.mark.parametrize("stop", ["model", "predictions", "answer"])
def test_a_run_goes_on_where_it_was(table_run, copied, table_survey, stop):
    """What was finished is not done again: only what was lost is."""
    half = copied(table_run)
    lost = {"answer": ["answer.json"], "predictions": ["answer.json", "predictions.parquet", "examples.npz"]}
    lost["model"] = [*lost["predictions"], "fits/main/model/model.toml"]
    for name in lost[stop]:
        (half.path / name).unlink()
    weights = (half.path / "fits/main/model/model.safetensors").read_bytes()
    again, said = walk(TABLE, table_survey, half.path)
    assert "step" not in said.events  # no training step is repeated
    assert (half.path / "fits/main/model/model.safetensors").read_bytes() == weights
    assert comparable(again.answer) == comparable(table_run.answer)
    assert again.predictions.equals(table_run.predictions)


def test_one_seed_gives_one_answer_and_another_another(table_run, table_survey, tmp_path):
    same, _ = walk(TABLE, table_survey, tmp_path / "same")
    other, _ = walk(TABLE, table_survey, tmp_path / "other", seed=1)
    assert comparable(same.answer) == comparable(table_run.answer)
    assert same.predictions.equals(table_run.predictions)
    assert not other.predictions.equals(table_run.predictions)
    assert other.predictions["id"].equals(table_run.predictions["id"])  # the split has no seed


def test_images_repeat_too(image_run, image_survey, tmp_path):
    same, _ = walk(IMAGES, image_survey, tmp_path / "same")
    assert same.predictions.equals(image_run.predictions)


@pytest.mark.parametrize(
    ("changes", "seed", "key"),
    [
        ({"train__epochs": 4}, 0, "train.epochs"),
        ({"model__width": 17}, 0, "model.width"),
        ({"question": "Other?"}, 0, "question"),
        ({"evaluate__baselines": ["prior"]}, 0, "evaluate.baselines"),
        ({}, 5, "--seed"),
    ],
)
def test_another_run_is_never_mixed_into_a_folder(table_run, table_survey, changes, seed, key):
    before = files(table_run.path)
    with pytest.raises(GsnnError, match=rf"holds another run \(it differs in {key}\); choose another --out"):
        walk(change(TABLE, **changes), table_survey, table_run.path, seed=seed)
    assert files(table_run.path) == before


def test_data_that_were_changed_since_are_told(tmp_path):
    from gsnn.run import place

    path, out = tmp_path / "sky.csv", tmp_path / "run"
    path.write_text("id,g\n" + "".join(f"o{i},{i}\n" for i in range(50)))
    study = Study.from_dict(TABLE)
    place(study, path, out, 0, 1)
    os.utime(path)
    place(study, path, out, 0, 1)  # touched, not changed
    path.write_text(path.read_text().replace("o7,7", "o7,8"))
    with pytest.raises(GsnnError, match=r"sky\.csv has been changed since"):
        place(study, path, out, 0, 1)


def test_other_data_are_another_run(table_run, tmp_path):
    other = Survey.create(tmp_path / "other", table_rows(60, first=1000))
    with pytest.raises(GsnnError, match="it differs in --data"):
        walk(TABLE, other, table_run.path)


def test_a_folder_of_other_things_is_left_alone(table_survey, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(GsnnError, match="is not empty and holds no run"):
        walk(TABLE, table_survey, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_processes_at_once_are_refused(table_run, copied, table_survey):
    half = copied(table_run)
    (half.path / "answer.json").unlink()
    code = (
        "import fcntl, sys, time\n"
        f"file = open({str(half.path / '.lock')!r}, 'w'); fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(GsnnError, match="another process is working in"):
            walk(TABLE, table_survey, half.path)
        process.kill()
    with locked(half.path):  # the lock went with the process
        pass


# ------------------------------------------------------------------ interrupted

SLOW = change(
    TABLE, train__epochs=16, train__checkpoint_seconds=0.0, evaluate__baselines=["prior"], explain__methods=[]
)


def start(out, survey_path, study=SLOW):
    code = (
        "import json, sys\n"
        "from gsnn.cli import main\n"
        "import gsnn.study as s\n"
        "study = s.Study.from_dict(json.loads(sys.argv.pop(1)), name='tiny')\n"
        "s.Study.load = classmethod(lambda cls, *a, **k: study)\n"
        "main()"
    )
    words = ["run", "tiny", "--data", str(survey_path), "--out", str(out)]
    return subprocess.Popen([sys.executable, "-c", code, json.dumps(study), *words], stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def uninterrupted(table_survey, tmp_path_factory):
    return walk(SLOW, table_survey.path, tmp_path_factory.mktemp("whole") / "run")[0]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_killed_goes_on_to_the_same_bits(uninterrupted, table_survey, tmp_path, how):
    out = tmp_path / "run"
    with start(out, table_survey.path) as process:
        deadline = time.monotonic() + 90
        while not list(out.glob("fits/main/checkpoints/step-*")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
    assert process.returncode == (-how if how == signal.SIGKILL else 130)
    assert "Traceback" not in said
    if how != signal.SIGKILL:
        assert "type the same line again to go on from here" in said
    assert not (out / "answer.json").exists()
    again, _told = walk(SLOW, table_survey.path, out)
    opening = json.loads((out / "fits/main/log.jsonl").read_text().splitlines()[0])
    assert opening
    assert again.predictions.equals(uninterrupted.predictions)
    a, b = (one.model.state_dict() for one in (again, uninterrupted))
    assert all(np.array_equal(a[name].numpy(), b[name].numpy(), equal_nan=True) for name in a)
    assert comparable(again.answer) == comparable(uninterrupted.answer)


@pytest.mark.parametrize("seconds", [0.0, 1.5])
def test_a_run_that_is_killed_early_leaves_nothing_in_the_way(table_csv, tmp_path, seconds):
    """Also while the survey is made: the same words begin anew, or go on."""
    quick, out = change(TABLE, train__epochs=1, evaluate__baselines=[], explain__methods=[]), tmp_path / "run"
    with start(out, table_csv, quick) as process:
        while not (out / "study.toml").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        time.sleep(seconds)
        process.kill()
        process.communicate(timeout=60)
    assert walk(quick, str(table_csv), out)[0].answer["answer"]


def test_a_damaged_checkpoint_costs_steps_and_not_the_run(uninterrupted, table_survey, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(uninterrupted.path, out)
    shutil.rmtree(out / "fits/main/model")
    (out / "answer.json").unlink()
    newest = max((out / "fits/main/checkpoints").glob("step-*"))
    (newest / "tensors.safetensors").write_bytes(b"rust")
    again, _ = walk(SLOW, table_survey.path, out)
    assert again.predictions.equals(uninterrupted.predictions)


# ------------------------------------------------------------------ controls, seeds, leaks


def test_labels_dealt_out_anew_teach_nothing(table_survey, tmp_path):
    study = change(TABLE, evaluate__control=True, evaluate__control_epochs=2, explain__methods=[], train__epochs=12)
    done, _ = walk(study, table_survey, tmp_path / "run")
    permuted = done.answer["controls"]["permuted"]
    assert permuted["passed"] is True
    assert permuted["chance"] == 0.5
    assert permuted["low"] <= 0.5
    assert done.answer["metrics"]["balanced_accuracy"]["value"] > permuted["value"] + 0.15
    history = tomllib.loads((done.path / "fits/control/model/model.toml").read_text())["notes"]["history"]
    assert len(history["epochs"]) == 2


def test_a_control_of_densities(table_survey, tmp_path):
    study = change(MIXTURE, evaluate__control=True, explain__methods=[], evaluate__baselines=["prior"])
    permuted = walk(study, table_survey, tmp_path / "run")[0].answer["controls"]["permuted"]
    assert (permuted["metric"], permuted["chance"], permuted["passed"]) == ("r2", 0.0, True)


def test_a_column_that_gives_the_answer_away_is_found(tmp_path):
    survey = Survey.create(tmp_path / "sky", table_rows(leak=True))
    study = change(TABLE, data__inputs=["g", "r", "score"], explain__methods=[])
    done, said = walk(study, survey, tmp_path / "run")
    leakage = done.answer["controls"]["leakage"]
    assert leakage["passed"] is False
    assert "score" in leakage["detail"]
    assert any("score" in line for line in said.lines)


def test_seeds_are_spread_beside_the_interval(table_run, table_survey, copied):
    one = copied(table_run)
    done, said = walk(TABLE, table_survey, one.path, seeds=2)
    answer = done.answer
    assert [entry["seed"] for entry in answer["seeds"]] == [0, 1]
    values = [entry["metrics"]["accuracy"]["value"] for entry in answer["seeds"]]
    assert values[0] == table_run.answer["metrics"]["accuracy"]["value"]
    assert answer["seed_spread"]["accuracy"]["mean"] == pytest.approx(np.mean(values))
    assert answer["seed_spread"]["accuracy"]["std"] == pytest.approx(np.std(values, ddof=1))
    mixed = answer["ensemble"][answer["target"]["name"]]
    assert mixed["metrics"]["log_loss"]["value"] <= max(e["metrics"]["log_loss"]["value"] for e in answer["seeds"])
    assert {"difference", "verdict"} <= mixed["network"]["accuracy"].keys() | mixed["network"]["accuracy"]["difference"]
    assert (one.path / "fits/seed-1/model/model.toml").exists()
    _again, said = walk(TABLE, table_survey, one.path, seeds=2)
    assert said.steps == []


@pytest.mark.parametrize("seeds", [0, -1])
def test_no_seeds_are_refused(table_survey, tmp_path, seeds):
    with pytest.raises(GsnnError, match="--seeds"):
        walk(TABLE, table_survey, tmp_path / "run", seeds=seeds)
    assert not (tmp_path / "run").exists()


def test_training_alone_and_the_rest_later(table_run, table_survey, tmp_path):
    half, said = walk(TABLE, table_survey, tmp_path / "run", only_train=True)
    assert half.answer == {}
    assert (half.path / "report.html").exists()
    assert [number for number, _ in said.steps] == [1, 2, 3, 4]
    with pytest.raises(GsnnError, match="has no predictions yet"):
        _ = half.predictions
    whole, said = walk(TABLE, table_survey, tmp_path / "run")
    assert "step" not in said.events
    assert comparable(whole.answer) == comparable(table_run.answer)


def test_two_targets(table_survey, tmp_path):
    table = change(
        MIXTURE, data__target=["redshift", "g"], data__inputs=["r", "i"], data__derive={}, explain__methods=[]
    )
    table["objective"]["transform"] = "standardise"
    done, _ = walk(table, table_survey, tmp_path / "run")
    assert set(done.answer["targets"]) == {"redshift", "g"}
    assert {"redshift_truth", "g_truth"} <= set(done.predictions.column_names)
    assert set(done.answer["targets_beside"]["g"]) == set(done.answer["baselines"])
    parts = read(done.path)
    assert {"truth", "prediction", "redshift_low"} <= set(parts.predictions)  # as if the first had been alone
    assert not any(name.startswith("g_") for name in parts.predictions)


# ------------------------------------------------------------------ opening one


@pytest.mark.parametrize("name", ["nothing", "empty", "damaged"])
def test_what_is_no_run_is_told(tmp_path, name):
    path = tmp_path / name
    if name != "nothing":
        path.mkdir()
    if name == "damaged":
        (path / "study.toml").write_text("train = [")
    with pytest.raises(
        GsnnError, match="damaged" if name == "damaged" else r"is not a run; `gsnn run STUDY` makes one"
    ):
        Run(path)


def test_a_damaged_answer_is_told(table_run, copied):
    one = copied(table_run)
    (one.path / "answer.json").write_text('{"question": ')
    with pytest.raises(GsnnError, match=r"answer.json is damaged"):
        _ = one.answer
    assert "not finished" not in repr(table_run)


def test_a_run_can_be_moved(table_run, copied, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.move(copied(table_run).path, moved)
    assert Run(moved).show(table_run.predictions["id"][0].as_py())["prediction"]


def test_a_run_without_its_survey_says_so(table_run, copied):
    one = copied(table_run)
    path = one.path / "study.toml"
    lost = path.read_text().replace(table_run.resolved["data"], str(one.path / "lost.survey"))
    path.write_text(lost)
    with pytest.raises(GsnnError, match=r"lost.survey"):
        Run(one.path).show("o1")


def test_progress_is_told_in_five_steps(table_survey, tmp_path):
    _, said = walk(change(TABLE, train__epochs=1), table_survey, tmp_path / "run")
    assert [number for number, _ in said.steps] == [1, 2, 3, 4, 5]
    assert said.steps[0][1] == TABLE["question"]
    assert "240 objects" in said.steps[1][1]
    assert "parameters" in said.steps[2][1]


def test_where_nobody_looks_nothing_is_printed(table_survey, tmp_path, capfd):
    run(Study.from_dict(change(TABLE, train__epochs=1, explain__methods=[])), data=table_survey, out=tmp_path / "run")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


assert os.environ.get(
    "OMP_NUM_THREADS"
)  # conftest.py has set it: bitwise repeats need the same threads in each process
