"""Whatever a person hands over, and whatever the disk does: one sentence, and nothing already written is lost."""

import contextlib
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
from tiny import IMAGES, MIXTURE, TABLE, change, picture_rows, table, table_rows

from gsnn.data.readers import read
from gsnn.data.survey import Survey
from gsnn.errors import GsnnError
from gsnn.model import Model
from gsnn.predict import table_of
from gsnn.run import Run, run
from gsnn.study import Study

pytestmark = pytest.mark.usefixtures("no_figures")

QUICK = change(TABLE, train__epochs=1, evaluate__baselines=["prior"], explain__methods=[])


def sentence(call, *args, **kwargs):
    """The one sentence that a call ends with."""
    with pytest.raises(GsnnError) as error:
        call(*args, **kwargs)
    text = str(error.value)
    assert "\n" not in text, text
    assert 15 < len(text) < 700, text
    return text


def go(study, data, out, **options):
    return run(Study.from_dict(study, name="tiny"), data=data, out=out, **options)


def csv(folder, values, name="stars.csv"):
    pandas.DataFrame(values).to_csv(folder / name, index=False)
    return str(folder / name)


def state(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file() and p.name != ".lock"
    }


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__target": "knd"}, "no column 'knd' in the data; did you mean 'kind'?"),
        ({"data__inputs": ["g", "R2"]}, "no column 'R2' in the data"),
        ({"data__inputs": ["g", "r", "kind"]}, "'kind' is an input and the target at once"),
        ({"data__where": "magnitude < 20"}, "cannot filter by 'magnitude < 20'"),
        ({"data__where": "g <"}, "cannot filter by 'g <'"),
        ({"data__derive": {"g": "r"}}, "'g' exists in the survey already"),
        ({"data__derive": {"x": "g - kind"}}, "cannot compute x"),
        ({"evaluate__by": ["size"]}, "no column 'size'"),
        ({"evaluate__metrics": ["acuracy"]}, "did you mean 'accuracy'?"),
        ({"evaluate__headline": "f1[star"}, "'f1[star' is not measured; did you mean 'f1[star]'?"),
        ({"data__split": {"by": "column", "column": "kind"}}, "says 'quasar', where train, valid or test is needed"),
        ({"data__split": {"fractions": [0.5, 0.2, 0.2]}}, "must be positive and add up to 1"),
        ({"data__split": {"fractions": [1.0, 0.0, 0.0]}}, "a part of the split is empty"),
        ({"train__freeze": ["steam"]}, "steam"),
        ({"train__device": "cuda:9"}, "this machine has no device 'cuda:9'"),
    ],
)
def test_a_mistyped_name_is_told_before_anything_is_trained(table_survey, tmp_path, changes, message):
    assert message in sentence(go, change(QUICK, **changes), table_survey, tmp_path / "run")
    assert not (tmp_path / "run/answer.json").exists()
    assert not list(tmp_path.glob("run/fits/main/model"))


# ------------------------------------------------------------------ files


def truncated(folder):
    path = Path(csv(folder, table()))
    path.write_bytes(path.read_bytes()[:777])  # within a line: a row of too few values
    return path


def sparse(folder):
    """64 GiB that take no disk."""
    path = folder / "huge.csv"
    with open(path, "wb") as file:
        file.truncate(64 << 30)
    return path


def huge_fits(folder):
    """A FITS header that announces terabytes."""
    from astropy.io import fits

    path = folder / "huge.fits"
    fits.PrimaryHDU(np.zeros((4, 4), np.float32)).writeto(path)
    raw = path.read_bytes().replace(b"NAXIS1  =                    4", b"NAXIS1  =           4000000000")
    path.write_bytes(raw.replace(b"NAXIS2  =                    4", b"NAXIS2  =           4000000000"))
    return path


def made(name, content):
    def make(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return make


def cut_parquet(folder):
    pandas.DataFrame(table()).to_parquet(folder / "a.parquet")
    content = (folder / "a.parquet").read_bytes()
    (folder / "a.parquet").write_bytes(content[: len(content) // 2])
    return folder / "a.parquet"


PICKLED = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (3,), }" + b" " * 61 + b"\n\x80\x04."
FILES = {
    "missing": lambda folder: folder / "nowhere.csv",
    "empty": made("empty.csv", b""),
    "blank": made("blank.csv", b"\n\n  \n"),
    "header alone": made("header.csv", b"id,g,r,i,kind\n"),
    "garbage": made("noise.csv", np.random.default_rng(1).bytes(5000)),
    "garbage named fits": made("noise.fits", np.random.default_rng(2).bytes(5000)),
    "garbage named parquet": made("noise.parquet", b"PAR1" + np.random.default_rng(3).bytes(500) + b"PAR1"),
    "garbage named hdf5": made("noise.h5", b"\x89HDF\r\n\x1a\n" + np.random.default_rng(4).bytes(500)),
    "a pickle": made("model.pkl", b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94."),
    "a pickled array": made("objects.npy", PICKLED),
    "cut parquet": cut_parquet,
    "64 GiB of nothing": sparse,
    "a FITS of terabytes": huge_fits,
    "an empty folder": lambda folder: (folder / "empty").mkdir() or folder / "empty",
    "one column of words": made("words.csv", b"a\nhello\nworld\n"),
}  # fmt: skip


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_a_file_that_cannot_be_used_is_told(tmp_path, make):
    path = make(tmp_path)
    with memory(6 << 30):
        text = sentence(go, QUICK, str(path), tmp_path / "run")
    assert path.stem in text or "data" in text
    assert not list(tmp_path.glob("run/.survey*"))


def test_a_file_that_is_cut_short_is_told_or_sets_its_last_row_aside(tmp_path):
    path = truncated(tmp_path)
    with contextlib.suppress(GsnnError):
        survey = Survey.create(tmp_path / "s", read(str(path)))
        lost = survey.view(np.array([len(survey) - 1])).columns(["redshift"])["redshift"]
        assert survey.quarantined() or not np.isfinite(lost).all()


@contextlib.contextmanager
def memory(limit):
    """No more than ``limit`` bytes of new address space, so that reading all of a huge file would fail."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


# ------------------------------------------------------------------ values


def test_pixels_that_are_not_finite_are_told_and_do_not_stop_a_run(tmp_path):
    rows = picture_rows(120)
    image = next(c for c in rows.columns if c.name == "image")
    pixels = rows.columns[image].copy()
    pixels[3, 0, :5], pixels[10, 1, 2, 2], pixels[11] = np.nan, np.inf, np.nan
    rows.columns[image] = pixels
    done = go(IMAGES, Survey.create(tmp_path / "sky", rows), tmp_path / "run")
    audit = json.loads((done.path / "audit.json").read_text())
    said = " ".join(finding["sentence"] for finding in audit["findings"] if finding["level"] != "ok")
    assert "finite" in said or "NaN" in said
    assert done.answer["metrics"]["accuracy"]["value"] > 0.7
    history = done.model.notes["history"]
    assert history["skipped"] == 0


def test_images_without_a_finite_pixel_are_told(tmp_path):
    rows = picture_rows(40)
    image = next(c for c in rows.columns if c.name == "image")
    rows.columns[image] = np.full_like(rows.columns[image], np.nan)
    assert "finite" in sentence(go, IMAGES, Survey.create(tmp_path / "sky", rows), tmp_path / "run")


def test_infinite_targets_are_unknown(tmp_path):
    values = table(200)
    values["redshift"][::10] = np.inf
    values["redshift"][1::10] = np.nan
    done = go(change(MIXTURE, evaluate__baselines=["prior"], explain__methods=[]), values, tmp_path / "run")
    assert sum(done.answer["objects"].values()) == 160
    assert np.isfinite(done.predictions["truth"].to_numpy()).all()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("one class", "one class only (star)"),
        ("one class in training", "one class of 'kind' only"),
        ("no labels", "no object has a value of kind"),
        ("every label another", "too many for classes|classes need|is text"),
        ("a constant target", "'redshift' does not vary"),
        ("a negative target of a logarithm", r"log needs x \+ offset > 0"),
        ("two rows", "2 usable rows cannot be divided"),
        ("one row", "1 usable rows cannot be divided"),
        ("labels for numbers", "regress needs a number for each object, and 'kind' is a label"),
        ("numbers for labels", "has 240 different values, too many for classes"),
        ("words in a column of numbers", "which no network reads|text"),
    ],
)
def test_values_that_teach_nothing_are_told(tmp_path, what, message):
    values, study = table(), QUICK
    mixture = change(MIXTURE, train__epochs=1, evaluate__baselines=["prior"], explain__methods=[])
    if what == "one class":
        values["kind"][:] = "star"
    elif what == "one class in training":
        study = change(QUICK, data__split={"by": "column", "column": "part"})
        values["part"] = np.where(
            values["kind"] == "star", "train", np.where(np.arange(240) % 2, "valid", "test")
        ).astype(object)
    elif what == "no labels":
        values["kind"] = np.full(240, np.nan)
    elif what == "every label another":
        values["kind"] = np.array([f"name {k}" for k in range(240)], object)
    elif what == "a constant target":
        values["redshift"][:], study = 0.5, change(mixture, objective__transform="standardise")
    elif what == "a negative target of a logarithm":
        values["redshift"], study = values["redshift"] - 2, mixture
    elif what.endswith(("rows", "row")):
        n = 2 if what == "two rows" else 1
        values = {name: v[:n] for name, v in values.items()}
        values["kind"][:] = ["star", "quasar"][:n]
    elif what == "labels for numbers":
        study = change(mixture, data__target="kind", data__inputs=["g"], data__derive={})
    elif what == "numbers for labels":
        study = change(QUICK, data__target="redshift")
    else:
        values["g"] = np.array([f"bright {k}" for k in range(240)], object)
    import re

    assert re.search(
        message if "|" in message or "\\" in message else re.escape(message),
        sentence(go, study, values, tmp_path / "r"),
    )


def test_another_unit_is_refused_by_a_trained_network(image_run, tmp_path):
    survey = Survey.create(tmp_path / "sky", picture_rows(10, unit="mJy"))
    assert "column 'image' has unit 'mJy', expected 'nJy'" in sentence(
        image_run.predict, survey, tmp_path / "out.parquet"
    )
    assert not (tmp_path / "out.parquet").exists()


# ------------------------------------------------------------------ damage


def test_a_damaged_survey_is_told_wherever_it_is_read(table_run, tmp_path):
    survey = Survey.create(tmp_path / "sky", table_rows(60))
    file = max((tmp_path / "sky").rglob("data/*.lance"), key=lambda p: p.stat().st_size)
    file.write_bytes(file.read_bytes()[:200])
    assert "damaged" in sentence(table_run.predict, str(tmp_path / "sky"))
    assert "damaged" in sentence(go, QUICK, survey.path, tmp_path / "run")


MODEL = "fits/main/model/model"
PIECES = ("study.toml", f"{MODEL}.toml", f"{MODEL}.safetensors", "fits/main/seen.parquet", "predictions.parquet")


@pytest.mark.parametrize("name", PIECES)
@pytest.mark.parametrize("how", ["empty", "garbage", "half", "missing"])
def test_a_damaged_run_is_told(table_run, copied, table_survey, name, how):
    one = copied(table_run)
    file = one.path / name
    content = file.read_bytes()
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes({"empty": b"", "garbage": b"\x00\xff" * 50, "half": content[: len(content) // 2]}[how])
    uses = [
        lambda: Run(one.path).predict(table(20, first=8000)),
        lambda: Run(one.path).evaluate(table_survey),
        lambda: Run(one.path).compare(table_run),
        lambda: Run(one.path).show("o1"),
    ]
    failed, expected = 0, table_run.predict(table(20, first=8000))
    for use in uses:
        with contextlib.suppress(GsnnError):  # anything else is a crash
            use()
            continue
        failed += 1
    if not failed:  # half of a model's description may hold all that matters
        assert Run(one.path).predict(table(20, first=8000)).equals(expected)
        assert name == f"{MODEL}.toml"


@pytest.mark.parametrize("every", [False, True])
def test_damaged_checkpoints_do_not_stop_a_run(table_run, copied, table_survey, every):
    one = copied(table_run)
    shutil.rmtree(one.path / "fits/main/model")
    (one.path / "answer.json").unlink()
    checkpoints = sorted((one.path / "fits/main/checkpoints").glob("step-*"))
    for folder in checkpoints if every else checkpoints[-1:]:
        for file in folder.iterdir():
            file.write_bytes(b"rust")
    again = go(TABLE, table_survey, one.path)
    assert again.predictions.equals(table_run.predictions)


def test_a_received_run_that_names_a_foreign_class_is_not_opened(table_run, copied, tmp_path, monkeypatch):
    mark = tmp_path / "imported"
    (tmp_path / "outside_input.py").write_text(f"open({str(mark)!r}, 'w')\nclass Net: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    one = copied(table_run)
    for name in ("study.toml", "fits/main/model/model.toml"):
        file = one.path / name
        file.write_text(file.read_text().replace('name = "mlp"', 'name = "outside_input:Net"'))
    for use in (
        lambda: one.predict(table(20)),
        lambda: one.evaluate(),
        lambda: one.show("o1"),
        lambda: Run(one.path).study,
    ):
        with pytest.raises(GsnnError, match=r"--trust"):
            use()
    assert not mark.exists()
    with pytest.raises(GsnnError, match="--trust"):
        Model.load(one.path / "fits/main/model")
    assert not mark.exists()


def test_a_path_in_a_received_run_stays_a_path(table_run, copied):
    """A study that names files elsewhere does not make its reader run anything: it is a path that is not there."""
    one = copied(table_run)
    file = one.path / "study.toml"
    file.write_text(file.read_text().replace(table_run.resolved["data"], "$(touch /tmp/owned); rm -rf ~"))
    sentence(Run(one.path).show, "o1")


# ------------------------------------------------------------------ the disk


@contextlib.contextmanager
def mounted(folder, *options):
    """A small file system of its own; the test is skipped where this may not be mounted."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode != 0:
        pytest.skip("file systems may be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def readonly(folder):
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


def test_no_permission_to_write(tmp_path, table_survey, table_run):
    with mounted(tmp_path / "disk", "size=2m") as disk:
        readonly(disk)
        assert "cannot write the run" in sentence(go, QUICK, table_survey, disk / "run")
        assert "Read-only file system" in sentence(Survey.create, disk / "sky", table_rows(20))
        assert "cannot write" in sentence(table_run.predict, table(20), disk / "out.parquet")


def test_a_run_that_may_no_longer_be_written(tmp_path, table_run):
    """Everything that was finished stays readable; what has to be written says so."""
    with mounted(tmp_path / "disk", "size=20m") as disk:
        shutil.copytree(table_run.path, disk / "run")
        readonly(disk)
        one = Run(disk / "run")
        assert one.answer == table_run.answer
        assert len(one.predict(table(20))) == 20
        assert "cannot judge the run" in sentence(one.evaluate, table(20, first=9000))
        assert (
            go(TABLE, table_run.resolved["data"], disk / "run").answer == table_run.answer
        )  # finished: nothing to write
        assert "Read-only" in sentence(go, TABLE, table_run.resolved["data"], disk / "run", seeds=2)


def test_a_full_disk_while_a_survey_is_made(tmp_path):
    with mounted(tmp_path / "disk", "size=256k") as disk:
        assert "cannot write the survey" in sentence(Survey.create, disk / "sky", picture_rows(2000))
        assert list(disk.iterdir()) == []


def test_a_full_disk_while_a_survey_grows(tmp_path):
    with mounted(tmp_path / "disk", "size=700k") as disk:
        survey = Survey.create(disk / "sky", picture_rows(50))
        before = survey.digest
        assert "cannot append" in sentence(survey.append, picture_rows(3000, first=100))
        again = Survey.open(disk / "sky")
        assert (again.digest, again.verify()) == (before, [])


@pytest.mark.parametrize("size", ["40k", "76k", "108k", "140k", "164k"])
def test_a_full_disk_at_any_moment_of_a_run(tmp_path, table_run, table_survey, size):
    """The scratch, a checkpoint, the model, predictions, the report: a sentence; with room again, the same answer."""
    out = tmp_path / "disk" / "run"
    with mounted(tmp_path / "disk", f"size={size}") as disk:
        text = sentence(go, TABLE, table_survey, out)
        assert "space" in text or "disk" in text or "cannot write" in text, text
        for name in ("answer.json", "predictions.parquet"):
            if (out / name).exists():
                assert (out / name).stat().st_size > 0
        subprocess.run(["mount", "-o", "remount,size=30m", str(disk)], check=True)
        done = go(TABLE, table_survey, out)
        assert done.predictions.equals(table_run.predictions)
        assert done.answer["metrics"] == table_run.answer["metrics"]
        assert not [p for p in out.rglob("*") if "partial" in p.name]


def test_a_full_disk_in_the_scratch(tmp_path, image_survey):
    with mounted(tmp_path / "disk", "size=60k") as disk:
        text = sentence(go, IMAGES, image_survey, disk / "run")
        assert "the scratch needs" in text
        assert "GSNN_SCRATCH" in text


def test_a_full_disk_while_predictions_are_written(tmp_path, table_run):
    with mounted(tmp_path / "disk", "size=64k") as disk:
        out = disk / "found.parquet"
        table_run.predict(table(20), out)
        before = out.read_bytes()
        assert "cannot write" in sentence(table_run.predict, table(9000), out)
        assert out.read_bytes() == before  # the earlier file is whole
        assert [p.name for p in disk.iterdir()] == ["found.parquet"]


WRITTEN = ("predictions.parquet", "answer.json", "report.html", "card.md", "audit.json", "model.toml", "seen.parquet")
REFUSALS = [(name, errno.ENOSPC) for name in WRITTEN]
REFUSALS += [("predictions.parquet", code) for code in (errno.EACCES, errno.EROFS, errno.EDQUOT)]


@pytest.mark.parametrize(("name", "code"), REFUSALS)
def test_a_file_that_cannot_be_written_is_told(table_run, copied, table_survey, monkeypatch, name, code):
    """Where nothing may be mounted: the same by the file that refuses."""
    one = copied(table_run)
    for lost in ("answer.json", "audit.json", "fits/main/model/model.toml", "fits/main/seen.parquet"):
        (one.path / lost).unlink()
    before = state(one.path)
    rename, write_bytes = Path.rename, Path.write_bytes

    def refuse(path):
        if name in Path(path).name:
            raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "rename", lambda self, target: (refuse(target), rename(self, target))[1])
    monkeypatch.setattr(os, "replace", lambda a, b, real=os.replace: (refuse(b), real(a, b))[1])
    monkeypatch.setattr(
        Path, "write_text", lambda self, text, *a, **k: (refuse(self), write_bytes(self, text.encode()))[1]
    )
    monkeypatch.setattr(
        pq, "write_table", lambda t, where, *a, real=pq.write_table, **k: (refuse(where), real(t, where, *a, **k))[1]
    )
    text = sentence(go, TABLE, table_survey, one.path)
    assert os.strerror(code) in text or "disk" in text, text
    for path, content in before.items():
        if path.endswith((".parquet", ".safetensors")) and "predictions" in path:
            assert (one.path / path).read_bytes() == content
    monkeypatch.undo()
    assert go(TABLE, table_survey, one.path).predictions.equals(table_run.predictions)


# ------------------------------------------------------------------ Ctrl-C


MOMENTS = ("gsnn.walk.ground", "gsnn.steps.evaluate.judge", "gsnn.predict.table_of", "gsnn.steps.explain.chosen")


@pytest.mark.parametrize("where", MOMENTS)
def test_ctrl_c_anywhere_leaves_a_run_that_goes_on(table_run, table_survey, tmp_path, monkeypatch, where):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(where, interrupt)
        patch.setattr(where.replace("gsnn.predict", "gsnn.steps.evaluate"), interrupt)
        with pytest.raises(KeyboardInterrupt):
            go(TABLE, table_survey, out)
    assert go(TABLE, table_survey, out).predictions.equals(table_run.predictions)


def test_ctrl_c_while_a_survey_is_made_leaves_nothing(table_csv, tmp_path):
    code = (
        "import os, signal, sys\n"
        "import gsnn.data.writing as s\n"
        "def checksums(*a, real=s.checksums):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(*a)\n"
        "s.checksums = checksums\n"
        f"sys.argv = ['gsnn', 'ingest', {str(table_csv)!r}, '--out', {str(tmp_path / 'sky')!r}]\n"
        "from gsnn.cli import main\nmain()"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert found.returncode == 130
    assert found.stderr.strip().splitlines()[-1].startswith("gsnn: interrupted; type the same line again")
    assert "Traceback" not in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_predicting_that_is_interrupted_leaves_no_half_file(table_run, tmp_path, monkeypatch):
    monkeypatch.setattr("gsnn.use.PIECE", 16)
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return table_of(*args, **kwargs)

    monkeypatch.setattr("gsnn.use.table_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        table_run.predict(table(60), tmp_path / "found.parquet")
    assert list(tmp_path.iterdir()) == []
