"""The command: every verb does its work, says so on stdout, and tells mistakes in one sentence on stderr."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny import IMAGES, TABLE, change, picture_rows, table_rows

from gsnn.cli import app, main
from gsnn.data.survey import Survey
from gsnn.study import Study, built_in

VERBS = sorted(command.name or command.callback.__name__ for command in app.registered_commands)


@pytest.fixture
def gsnn(monkeypatch, capfd, tmp_path):
    """``gsnn("run", ...)``: exit status, stdout and stderr of the command, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["gsnn", *map(str, words)])
        capfd.readouterr()
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code or 0
        return status, *capfd.readouterr()

    return call


@pytest.fixture
def fails(gsnn):
    """``fails(...)``: the sentence that a mistake gives."""

    def call(*words):
        status, out, err = gsnn(*words)
        assert status == 1, (out, err)
        assert "Traceback" not in err
        lines = err.strip().splitlines()
        sentence = next(line for line in lines if line.startswith("gsnn: "))
        after = lines[lines.index(sentence) + 1 :]
        assert after == [] or (len(after) == 2 and set(after[1].strip()) == {"^"}), err  # a line and its caret
        return sentence

    return call


@pytest.fixture
def study(tmp_path):
    """The file of a small study."""
    path = tmp_path / "stars.toml"
    path.write_text(Study.from_dict(change(TABLE, train__epochs=1, evaluate__baselines=["prior"])).to_toml())
    return path


# ------------------------------------------------------------------ every verb


def test_help_names_every_verb(gsnn):
    status, out, _ = gsnn("--help")
    assert status == 0
    for verb in VERBS:
        assert re.search(rf"\b{verb}\b", out), verb
    assert {"run", "train", "evaluate", "predict", "explain", "report", "check", "new", "ingest", "survey"} <= set(
        VERBS
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_option_is_explained(gsnn, verb):
    status, out, _ = gsnn(verb, "--help")
    assert status == 0
    command = next(c for c in app.registered_commands if (c.name or c.callback.__name__) == verb)
    first = " ".join(command.callback.__doc__.split("\n")[0].split())
    assert first[:30] in " ".join(re.sub(r"[│\n]", " ", out).split())


def test_help_is_quick():
    """Under half a second on a machine that does nothing else: measured in seconds of CPU."""
    words = [sys.executable, "-c", "import resource, sys; sys.argv = ['gsnn', '--help']\n"
             "from gsnn.cli import main\ntry: main()\nexcept SystemExit: pass\n"
             "u = resource.getrusage(0)\nprint(u.ru_utime + u.ru_stime, file=sys.stderr)"]  # fmt: skip
    seconds = [float(subprocess.run(words, capture_output=True, text=True, check=True).stderr) for _ in range(3)]
    assert min(seconds) < 0.5


def test_without_a_verb_there_is_help(gsnn):
    _, out, err = gsnn()
    assert "Usage" in out + err


def test_studies(gsnn):
    status, out, err = gsnn("studies")
    assert (status, err) == (0, "")
    for name in built_in():
        assert name in out
    assert len(out.strip().splitlines()) == len(built_in())


def test_doctor(gsnn):
    status, out, _ = gsnn("doctor")
    assert status == 0
    for name in ("python", "torch", "cpu", "disk"):
        assert re.search(rf"^ok +{name} ", out, re.M)


def test_what_is_missing_is_not_said_to_be_well(gsnn, monkeypatch):
    monkeypatch.setattr("gsnn.doctor.OPTIONAL", {"no_such_package_": ("nothing", "pip install nothing")})
    status, out, _ = gsnn("doctor")
    assert status == 0  # it is not needed
    assert re.search(r"^-- +no_such_package_ +not installed", out, re.M)
    monkeypatch.setattr("gsnn.run.VERSIONS", ("torch", "no-such-package"))
    status, out, _ = gsnn("doctor")
    assert status == 1
    assert re.search(r"^!! +no-such-package +missing; pip install no-such-package", out, re.M)


def test_a_survey_leaves_a_page_only_where_one_is_asked_for(gsnn, table_survey, tmp_path):
    status, out, _ = gsnn("survey", table_survey.path)
    assert status == 0
    line = out.strip().splitlines()[-1]
    assert line.startswith("a page of distributions and pictures: gsnn survey")
    assert list(tmp_path.iterdir()) == []
    status, out, _ = gsnn(*line.split("gsnn ")[1].split())
    assert status == 0
    assert "page: table.html" in out
    assert [path.name for path in tmp_path.iterdir()] == ["table.html"]
    assert "redshift" in (tmp_path / "table.html").read_text()


def test_the_way_of_a_beginner(gsnn, table_csv, tmp_path):
    """Files to a survey, a study inferred, checked, run, and the network used: each line as the one before suggests."""
    status, out, _ = gsnn("ingest", table_csv, "--out", "stars.survey")
    assert status == 0
    assert "240 objects in stars.survey" in out
    status, out, _ = gsnn("survey", "stars.survey", "--verify")
    assert status == 0
    assert "all 240 rows match their checksums" in out
    assert "redshift" in out
    status, out, _ = gsnn("new", "--from", "stars.survey", "--target", "kind", "mine.toml")
    assert (status, out.split(";")[0]) == (0, "wrote mine.toml")
    status, out, _ = gsnn("check", "mine.toml")
    assert status == 0
    assert out.strip().endswith("all steps work")
    few = ["--set", "train.epochs=1", "--set", "evaluate.baselines=['prior']", "--set", "evaluate.control=false"]
    status, out, err = gsnn("run", "mine.toml", *few, "--out", "answer")
    assert status == 0
    assert "What is the kind of this object?" in out
    assert "report: answer/report.html" in out
    assert [line[0] for line in err.splitlines() if re.match(r"\d ", line)] == ["1", "2", "3", "4", "5"]
    status, out, _ = gsnn("predict", "answer", table_csv, "--out", "found.parquet")
    assert status == 0
    assert "240 predictions in found.parquet" in out
    assert len(pq.read_table("found.parquet")) == 240


def test_train_and_then_run(gsnn, study, table_survey):
    status, out, _ = gsnn("train", study, "--data", table_survey.path, "--out", "run")
    assert (status, out) == (0, "trained: run\n")
    assert not os.path.exists("run/answer.json")
    status, out, _ = gsnn("run", study, "--data", table_survey.path, "--out", "run", "--json")
    assert status == 0
    answer = json.loads(out)
    assert answer["question"] == TABLE["question"]
    assert answer == json.loads(Path("run/answer.json").read_text())


def test_a_finished_run_is_said_to_be_finished(gsnn, study, table_survey):
    words = ("run", study, "--data", table_survey.path, "--out", "run")
    assert gsnn(*words)[0] == 0
    status, out, err = gsnn(*words)
    assert status == 0
    assert "this run is finished" in err
    assert TABLE["question"] in out


@pytest.mark.parametrize("as_json", [False, True])
def test_evaluate(gsnn, table_run, copied, tmp_path, as_json):
    Survey.create(tmp_path / "other.survey", table_rows(60, first=4000))
    run = copied(table_run).path
    for words in ((), ("--data", "other.survey")):
        status, out, _ = gsnn("evaluate", run, *words, *(["--json"] if as_json else []))
        assert status == 0
        if as_json:
            assert json.loads(out)["metrics"]["accuracy"]["value"] > 0.5
        else:
            assert re.search(r"^accuracy +0\.\d{4} +\(0\.\d{4} to [01]\.\d{4}\)", out, re.M)


def test_explain_report_show_compare(gsnn, image_run, table_run, copied):
    run = copied(image_run)
    status, out, _ = gsnn("explain", run.path)
    assert status == 0
    assert out.startswith("saliency: ")
    run.report.unlink()
    status, out, _ = gsnn("report", run.path)
    assert (status, out) == (0, f"report: {run.report}\n")
    assert run.report.stat().st_size > 10_000
    name = run.predictions["id"][0].as_py()
    status, out, _ = gsnn("show", run.path, "--object", name, "--out", "object.png")
    assert status == 0
    assert re.search(rf"^id +{name}$", out, re.M)
    assert re.search(r"^snr +\d", out, re.M)
    assert os.path.getsize("object.png") > 1000
    status, out, _ = gsnn("compare", table_run.path, table_run.path)
    assert status == 0
    assert "difference +0.0000 (+0.0000 to +0.0000)" in out
    status, out, _ = gsnn("compare", table_run.path, table_run.path, "--json")
    assert json.loads(out)["metrics"]


@pytest.mark.parametrize("name", built_in())
def test_new_writes_every_built_in_study(gsnn, name):
    status, out, _ = gsnn("new", name, "mine.toml")
    assert status == 0
    assert "gsnn check mine.toml" in out
    assert Study.load("mine.toml").digest == Study.load(name).digest
    status, _, err = gsnn("new", name, "mine.toml")
    assert status == 1
    assert "mine.toml exists already" in err


def test_light_curves_from_the_command_line(gsnn, tmp_path):
    (tmp_path / "heads.csv").write_text("name,kind\n" + "".join(f"s{i},a\n" for i in range(6)))
    rows = "".join(f"s{i},{t},{'gr'[t % 2]},{i + t},0.5\n" for i in range(6) for t in range(3))
    (tmp_path / "points.csv").write_text("name,when,flt,flux,err\n" + rows)
    given = ("--observations", "points.csv", "--on", "name", "--light-curve", "time=when", "--light-curve", "bands=r,g")
    for more in ((), ("--nproc", "1")):
        out = f"curves{len(more)}.survey"
        assert gsnn("ingest", "heads.csv", *given, *more, "--out", out)[0] == 0
        status, said, _ = gsnn("survey", out, "--page", f"{out}.html")
        assert status == 0
        assert "light_curve r,g" in said
        assert "3 to 3 observations, median 3; r 33%, g 67%" in said
        assert (tmp_path / f"{out}.html").read_text().count('class="curve"') == 6
    assert gsnn("ingest", "heads.csv", "--observations", "points.csv", "--light-curve", "tim=x", "--out", "n")[0] != 0


def test_ingest_appends_and_joins(gsnn, table_csv, tmp_path):
    import pandas

    frame = pandas.read_csv(table_csv)
    frame[["id", "g", "r"]].to_csv("a.csv", index=False)
    frame[["id", "kind"]].to_csv("b.csv", index=False)
    assert gsnn("ingest", "a.csv", "--labels", "b.csv", "--out", "joined.survey")[0] == 0
    assert {"g", "r", "kind"} <= set(Survey.open("joined.survey").schema)
    assert gsnn("ingest", "a.csv", "--out", "s.survey")[0] == 0
    later = frame[["id", "g", "r"]].assign(id=[f"later{k}" for k in range(240)])
    later.to_csv("c.csv", index=False)
    status, out, _ = gsnn("ingest", "c.csv", "--out", "s.survey", "--append")
    assert status == 0
    assert "480 objects in s.survey (240 added)" in out
    pandas.concat([later[:20], later[:5].assign(id=[f"new{k}" for k in range(5)])]).to_csv("d.csv", index=False)
    status, out, _ = gsnn("ingest", "d.csv", "--out", "s.survey", "--append")
    assert "485 objects in s.survey (5 added)" in out
    assert "20 rows are set aside" in out
    assert "stands in the survey already" in out


def test_rows_that_are_set_aside_are_counted(gsnn, table_csv, tmp_path):
    text = table_csv.read_text().splitlines()
    (tmp_path / "twice.csv").write_text("\n".join([*text, text[5]]) + "\n")
    status, out, _ = gsnn("ingest", "twice.csv", "--out", "s.survey")
    assert status == 0
    assert "1 rows are set aside" in out
    assert "stands already in row" in out


def test_json_alone_stands_on_stdout(study, table_survey, tmp_path):
    """In a process of its own, with whatever libraries print."""
    words = ["run", study, "--data", table_survey.path, "--out", tmp_path / "run", "--json"]
    code = "from gsnn.cli import main; main()"
    found = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["answer"]
    assert "Traceback" not in found.stderr
    assert "Warning" not in found.stderr


# ------------------------------------------------------------------ mistakes


def test_mistakes_are_sentences(fails, study, table_survey, table_run):
    data, run = table_survey.path, table_run.path
    assert "did you mean 'pulsars'" in fails("run", "pulsar")
    assert "there is no study file nowhere.toml; `gsnn new morphology" in fails("check", "nowhere.toml")
    assert "did you mean 'stars.toml'?" in fails("check", "star.toml")
    assert "did you mean 'learning_rate'?" in fails("run", study, "--data", data, "--set", "train.lr=1e-3")
    (study.parent / "labels.csv").write_text("name,size\na,1\n")
    (study.parent / "objects.csv").write_text("id,g\na,1\nb,2\n")
    labels = ("ingest", "objects.csv", "--out", "x", "--labels", "labels.csv", "--on", "nam")
    assert "the table of labels, labels, has no column 'nam'; did you mean 'name'?" in fails(*labels)
    assert fails("ingest", "nothere.fits", "--out", "x") == "gsnn: no such file: nothere.fits"
    assert "did you mean 'epochs'" in fails("run", study, "--data", data, "--set", "train.epohcs=3")
    assert "--set 'epochs'" in fails("run", study, "--data", data, "--set", "epochs")
    assert "the study 'pulsars' needs data: name them by --data PATH" in fails("run", "pulsars")
    assert "nowhere.csv" in fails("run", "pulsars", "--data", "nowhere.csv")
    assert "is not a run" in fails("predict", "nowhere", data)
    assert "is not a run" in fails("show", "nowhere", "--object", "a")
    assert "is not a survey" in fails("survey", "nowhere")
    assert "no object 'nobody'" in fails("show", run, "--object", "nobody")
    assert "nothere.parquet" in fails("predict", run, "nothere.parquet")
    assert "--target" in fails("new", "--from", data)
    assert "gsnn new needs a study" in fails("new")
    assert "add --labels TABLE" in fails("ingest", data, "--out", "x", "--on", "name")
    assert "--cutouts needs --size" in fails("ingest", data, "--out", "x", "--cutouts", "cat.csv")
    assert "step 2 (data) fails" in fails("check", study, "--data", data, "--set", "data.target=kinds")
    assert "cannot filter" in fails("survey", data, "--where", "nothing < 3")
    assert "--seeds 0" in fails("run", study, "--data", data, "--seeds", "0", "--out", "r")
    assert not os.path.exists("r")


def test_a_mistake_in_a_file_is_pointed_at(gsnn, study):
    study.write_text(study.read_text().replace("width = 16", "widht = 16"))
    status, _, err = gsnn("run", study)
    assert status == 1
    first, line, caret = err.rstrip("\n").splitlines()
    assert re.match(r"gsnn: stars.toml:\d+ \[model\] widht: no such key; did you mean 'width'\?", first)
    assert line[caret.index("^") :].startswith("widht")


@pytest.mark.parametrize(
    "words", [("rnu",), ("run", "pulsars", "--sed", "3"), ("run",), ("predict", "a"), ("run", "a", "--seed", "x")]
)
def test_misspelt_words_of_the_command_are_told(gsnn, words):
    status, out, err = gsnn(*words)
    assert status == 2
    assert "Traceback" not in err
    assert out == ""
    assert re.search("No such|Missing|not a valid|Invalid", err)


def test_trust_is_asked_for(fails, gsnn, table_run, copied, tmp_path, monkeypatch):
    (tmp_path / "outside_cli.py").write_text("from gsnn.models.mlp import MLP\nclass Net(MLP): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = copied(table_run)
    for file in (run.path / "study.toml", run.path / "fits/main/model/model.toml"):
        file.write_text(file.read_text().replace('name = "mlp"', 'name = "outside_cli:Net"'))
    for verb in (("predict", run.path, table_run.resolved["data"]), ("evaluate", run.path), ("explain", run.path)):
        assert "--trust" in fails(*verb)
        assert "outside_cli" not in sys.modules
    assert "--trust" in fails("show", run.path, "--object", "o1")
    status, out, err = gsnn("predict", run.path, table_run.resolved["data"], "--trust")
    assert status == 0, err
    assert "240 predictions" in out


def test_a_closed_pipe_is_no_error():
    with subprocess.Popen(
        [sys.executable, "-c", "from gsnn.cli import main; main()", "studies"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        time.sleep(0.01)
        said = process.stderr.read()
    assert "Traceback" not in said


def test_an_answer_is_shown_again_by_the_line_that_its_report_gives(gsnn, fails, table_run, copied, study):
    run = copied(table_run)
    line = next(line for line in table_run.report.read_text().splitlines() if "# this answer again" in line)
    words = re.sub("<[^>]*>", "", line).partition("#")[0].split()
    assert words[:2] == ["gsnn", "show"]
    status, out, _ = gsnn("show", run.path, *words[3:])
    assert status == 0
    for said in (run.answer["question"], run.answer["answer"], f"report: {run.report}"):
        assert said in out
    assert re.search(r"^accuracy +0\.\d{4} +\(0\.\d{4} to [01]\.\d{4}\)$", out, re.M)
    assert "say which one by --object" in fails("show", run.path, "--out", "a.png")
    (run.path / "answer.json").unlink()
    assert "has no answer yet" in fails("show", run.path)


def test_an_object_of_a_table_is_shown_with_its_inputs_and_what_they_matter(gsnn, fails, table_run, copied):
    run, name = copied(table_run), table_run.predictions["id"][0].as_py()
    status, out, _ = gsnn("show", run.path, "--object", name)
    assert status == 0
    assert "picture" not in out
    assert "quasar_p" in out
    assert "{" not in out
    assert re.search(r"^input +value +unit +occlusion$", out, re.M)
    for column in ("g", "r", "i"):
        assert re.search(rf"^{column} +\d\d\.\d+ +mag +[+-]\d", out, re.M)
    assert "reads no image" in fails("show", run.path, "--object", name, "--out", "k.png")
    assert not (run.path / "objects").exists()


def test_images_by_the_command(gsnn, tmp_path):
    """A study of images from a survey named in the study itself."""
    Survey.create(tmp_path / "g.survey", picture_rows(60))
    few = change(IMAGES, data__source="g.survey", train__epochs=1)
    (tmp_path / "g.toml").write_text(Study.from_dict(few).to_toml())
    status, out, err = gsnn("run", "g.toml", "--out", "run")
    assert status == 0, err
    assert "held-out galaxies" in out
