"""Paths count from the file that names them, and a mistake is told where it was made: in a line, or by --set."""

import json
import os
import shutil
from pathlib import Path

import pytest
from tiny import TABLE, alike, change, table_rows

from gsnn.data.survey import Survey
from gsnn.errors import ConfigError, GsnnError
from gsnn.origin import anchored
from gsnn.run import Run, place, run
from gsnn.study import Study

QUICK = change(TABLE, train__epochs=1, evaluate__baselines=["prior"], explain__methods=[])


@pytest.fixture
def home(tmp_path, table_survey, monkeypatch):
    """A folder with a survey and a study of it, seen from another folder."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    shutil.copytree(table_survey.path, home / "sky.survey")
    written(home, "sky.survey")
    monkeypatch.chdir(elsewhere)
    return home


def written(folder, source):
    """The study as a person writes it."""
    from tomli_w import dumps

    (folder / "my.toml").write_text(dumps(change(QUICK, data__source=source)))
    return folder / "my.toml"


# ------------------------------------------------------------------ paths


@pytest.mark.parametrize("source", ["sky.survey", "./sky.survey", "sub/../sky.survey"])
def test_a_source_counts_from_its_file(home, source):
    assert Study.load(written(home, source)).data.source == str(home / "sky.survey")
    assert Study.load("../home/my.toml").data.source == str(home / "sky.survey")


def test_a_file_counts_from_the_study_too(home):
    (home / "stars.csv").write_text("id,g\na,1\n")
    assert Study.load(written(home, "stars.csv")).data.source == str(home / "stars.csv")
    assert Study.load(written(home, "*.csv")).data.source == str(home / "*.csv")
    table = {"name": "files", "path": ["stars.csv", "/abs.csv"], "labels": "stars.csv", "on": "id"}
    table["observations"] = "stars.csv"
    found = Study.load(written(home, table)).data.source
    assert found["path"] == [str(home / "stars.csv"), "/abs.csv"]
    assert (found["labels"], found["on"]) == (str(home / "stars.csv"), "id")
    assert found["observations"] == str(home / "stars.csv")


def test_a_source_that_stands_only_here_is_found_here(home):
    Survey.create("here.survey", table_rows(40))
    assert Study.load(written(home, "here.survey")).data.source == str(Path("here.survey").absolute())


def test_set_counts_from_here(home):
    shutil.copytree(home / "sky.survey", "sky.survey")
    study = Study.load(home / "my.toml", ("data.source=sky.survey",))
    assert study.data.source == str(Path("sky.survey").absolute())


def test_a_folder_does_not_hide_a_simulator(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "galaxies").mkdir()
    assert anchored("galaxies", tmp_path) == ("galaxies", {})


def test_the_place_of_a_study_does_not_make_another_run(home, tmp_path):
    before = Study.load(home / "my.toml")
    (tmp_path / "moved").mkdir()
    shutil.move(home, tmp_path / "moved")
    after = Study.load(tmp_path / "moved/home/my.toml")
    assert after.data.source != before.data.source
    assert after.digest == before.digest
    assert after.digest == Study.from_dict(change(QUICK, data__source="sky.survey")).digest
    assert after.set("train.epochs=2").set("train.epochs=1").digest == before.digest
    assert before.set("data.source=other.survey").digest != before.digest


def test_a_run_is_used_from_any_folder(home, tmp_path, monkeypatch, no_figures):
    done = run(Study.load(home / "my.toml"))
    assert done.study.digest == Study.load(home / "my.toml").digest
    assert done.study.data.source == str(home / "sky.survey")
    path, metrics = done.path.absolute(), done.answer["metrics"]
    monkeypatch.chdir("/")
    assert alike(Run(path).evaluate()["metrics"], metrics)


def test_a_run_of_a_study_made_in_python_too(home, monkeypatch, no_figures):
    monkeypatch.chdir(home)
    folder, _ = place(Study.from_dict(change(QUICK, data__source="sky.survey")), None, "r", 0, 1)
    folder = folder.absolute()
    monkeypatch.chdir("/")
    assert len(Run(folder).ground.survey) == 240


def test_alike_studies_of_different_folders_are_not_mixed(home, tmp_path):
    folder, _ = place(Study.load(home / "my.toml"), None, None, 0, 1)
    other = tmp_path / "other"
    shutil.copytree(home, other)
    with pytest.raises(GsnnError, match=r"holds another run \(it differs in data.source\)"):
        place(Study.load(other / "my.toml"), None, None, 0, 1)
    assert place(Study.load(home / "my.toml"), None, None, 0, 1)[0] == folder


def test_a_moved_project_goes_on(home, tmp_path, no_figures):
    """Study, survey and all in another place, the run continued there."""
    out = Path("run").absolute()
    run(Study.load(home / "my.toml"), out=out, only_train=True)
    shutil.move(home, tmp_path / "moved")
    done = run(Study.load(tmp_path / "moved/my.toml"), out=out)
    assert done.answer["answer"]
    assert alike(Run(out).evaluate()["metrics"], done.answer["metrics"])


def test_data_that_are_gone_are_told_with_their_place(home, tmp_path, no_figures):
    out = Path("run").absolute()
    run(Study.load(home / "my.toml"), out=out)
    moved = tmp_path / "moved-run"
    shutil.move(out, moved)
    assert Run(moved).evaluate()
    shutil.rmtree(home / "sky.survey")
    with pytest.raises(GsnnError, match=r"the data of the run .* are gone") as error:
        Run(moved).evaluate()
    assert str(home / "sky.survey") in str(error.value)
    assert str(moved / "survey") in str(error.value)
    with pytest.raises(GsnnError, match=str(home / "sky.survey")):
        run(Study.load(home / "my.toml"), out=tmp_path / "new")


# ------------------------------------------------------------------ mistakes


def lines_of(error):
    first, line, caret = str(error.value).splitlines()
    at = caret.index("^")
    return first, line[at : at + caret.count("^")]


@pytest.mark.parametrize("use", ["run", "check"])
@pytest.mark.parametrize(
    ("old", "new", "under", "message"),
    [
        ('target = "kind"', 'target = "kin"', "target", "target: no column 'kin' in the data; did you mean 'kind'"),
        ('by = "identity"', 'by = "group"\ncolumn = "kindd"', "column", "column: no column 'kindd' in the data"),
        ('by = "identity"', 'by = "sky"', "by", "needs the columns ra and dec"),
        ('"g",', '"gg",', "inputs", "inputs: no column 'gg' in the data"),
        ('"prior",', '"prior", "cas-forest",', '"cas-forest"', "none of the inputs"),
        ('target = "kind"', 'target = "kind"\nwhere = "gg < 3"', "where", "cannot filter by 'gg < 3'"),
        ('target = "kind"', 'target = "kind"\nwhere = "g < 3"', "where", "no object fulfils"),
        ('target = "kind"', 'target = "kind"\nderive.x = "gg - r"', "x", "cannot compute x = 'gg - r'"),
        ('target = "kind"', 'target = "kind"\nclasses.nova = "new"', "classes", "names 'nova', which column 'kind'"),
    ],
)
def test_a_mistake_that_the_data_show_is_pointed_at(home, use, old, new, under, message):
    path = home / "my.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    study = Study.load(path)
    with pytest.raises(GsnnError) as error:
        study.run(out="run") if use == "run" else study.check()
    first, shown = lines_of(error)
    assert message in first
    assert "my.toml:" in first
    assert shown == under


def test_a_mistake_of_set_is_not_shown_in_the_file(home):
    with pytest.raises(ConfigError) as error:
        Study.load(home / "my.toml", ("train.epochs=2", "train.batch=0"))
    text = str(error.value)
    assert text.startswith("--set train.batch=0: [train] batch: ")
    assert "my.toml" not in text
    assert "\n" not in text


def test_a_mistake_of_the_file_is_shown_there_whatever_is_set(home):
    path = home / "my.toml"
    path.write_text(path.read_text().replace("batch = 32", "batch = 0"))
    with pytest.raises(ConfigError, match=r"my.toml:\d+ \[train\] batch"):
        Study.load(path, ("train.epochs=2",))


@pytest.mark.parametrize("override", ["data.target=kin", "evaluate.baselines=['prior','cas-forest']"])
def test_a_mistake_of_set_that_the_data_show(home, override):
    study = Study.load(home / "my.toml", (override,))
    with pytest.raises(GsnnError, match=r"--set (data.target|evaluate.baselines)=.*: \[") as error:
        study.run(out="run")
    assert "my.toml" not in str(error.value)


def test_a_mistake_of_a_later_change(home):
    study = Study.load(home / "my.toml").set("data.target=kin")
    with pytest.raises(GsnnError, match=r"--set data.target=kin: \[data\] target: no column"):
        study.check()


def test_a_study_stays_plain_values(home):
    study = Study.load(home / "my.toml")
    assert json.loads(json.dumps(study.to_dict()))["data"]["source"] == os.path.join(home, "sky.survey")


def test_an_empty_path_is_no_folder(tmp_path, monkeypatch):
    """A simulator whose path is not given does not depend on the folder that the command is typed in."""
    monkeypatch.chdir(tmp_path)
    study = Study.load("convergence-maps", ["data.source.maps=10"])
    place(study, None, tmp_path / "run", 0, 1)
    (tmp_path / "another file").write_text("x")
    assert place(study, None, tmp_path / "run", 0, 1)[1].get("contents", {}) == {}
