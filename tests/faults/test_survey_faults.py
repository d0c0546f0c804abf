"""Whatever happens to the files of a survey: damage is found, nothing is lost, and a person reads one sentence."""

import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gsnn.data.schema import Column, Schema
from gsnn.data.survey import Survey
from gsnn.errors import GsnnError


class Toy:
    """``n`` objects; ``trouble(start)`` is called before each read."""

    def __init__(self, n=40, trouble=lambda start: None, name="o"):
        self.n, self.trouble, self.name = n, trouble, name

    def schema(self):
        image = Column("image", "image", shape=(1, 8, 8))
        return Schema.of([Column("id", "id"), image, Column("z", "scalar", dtype="float64"), *self._sky()])

    def _sky(self):
        return [Column(name, "position", dtype="float64") for name in ("ra", "dec")]

    def __len__(self):
        return self.n

    def rows(self, indices, seed):
        self.trouble(int(indices[0]))
        pixels = np.random.default_rng(5).normal(size=(self.n, 64)).astype(np.float32)[indices]
        arrays = [
            pa.array([f"{self.name}{i}" for i in indices]),
            pa.FixedSizeListArray.from_arrays(pa.array(pixels.ravel()), 64),
            pa.array(indices * 0.1),
            pa.array(indices * 3.0),
            pa.array(indices * 1.0),
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema().arrow())


@pytest.fixture
def survey(tmp_path):
    return Survey.create(tmp_path / "sky", Toy())


def values(survey):
    return survey.view().columns(list(survey.schema))


def outcome(path, expected, schema):
    """How damage shows: "found", or "harmless" if everything reads as before. Anything else is a failure."""
    try:
        survey = Survey.open(path)
        if survey.verify():
            return "found"
        got = values(survey)
    except GsnnError as error:
        return "found" if "\n" not in str(error) else "a page of words"
    assert survey.schema == schema
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value)
    return "harmless"


def test_every_flipped_bit_is_found(survey):
    expected, schema = values(survey), survey.schema
    files = [f for f in Path(survey.path).rglob("*") if f.suffix in (".lance", ".manifest") and f.is_file()]
    assert len(files) == 2
    chance, seen = random.Random(7), {}
    for file in files:
        intact = file.read_bytes()
        for _ in range(4):
            damaged = bytearray(intact)
            damaged[chance.randrange(len(intact))] ^= 1 << chance.randrange(8)
            file.write_bytes(bytes(damaged))
            seen.setdefault(file.suffix, []).append(outcome(survey.path, expected, schema))
        file.write_bytes(intact)
    assert seen == {".lance": ["found"] * 4, ".manifest": ["found"] * 4}
    assert outcome(survey.path, expected, schema) == "harmless"


def test_verify_names_the_row_that_was_damaged(survey):
    file = next(Path(survey.path).rglob("data/*.lance"))
    pixel = np.float32(survey.view().columns(["image"])["image"][17, 0, 3, 3]).tobytes()
    intact = file.read_bytes()
    assert intact.count(pixel) == 1
    place = intact.index(pixel)
    file.write_bytes(intact[:place] + bytes([pixel[0] ^ 4]) + intact[place + 1 :])
    assert Survey.open(survey.path).verify() == [17]


@pytest.mark.parametrize("part", ["data", "_versions"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_truncated_files_are_told(survey, part, keep):
    expected, schema = values(survey), survey.schema
    file = max((f for f in Path(survey.path).rglob(f"{part}/*")), key=lambda f: f.stat().st_size)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    assert outcome(survey.path, expected, schema) == "found"


@pytest.mark.parametrize("pattern", ["_versions/*.manifest", "data/*.lance"])
def test_lost_files_are_told(survey, pattern):
    expected, schema = values(survey), survey.schema
    for file in Path(survey.path).rglob(pattern):
        file.unlink()
    assert outcome(survey.path, expected, schema) == "found"


def test_reading_a_survey_that_vanished_is_one_sentence(survey, tmp_path):
    Path(survey.path).rename(tmp_path / "elsewhere")
    for read in (lambda: len(survey), lambda: survey.take(np.arange(3), ["z"]), survey.verify):
        with pytest.raises(GsnnError, match="cannot read the survey"):
            read()


@pytest.mark.parametrize("content", [None, "folder", "file"])
def test_what_is_no_survey_is_said_to_be_none(tmp_path, content):
    path = tmp_path / "thing"
    if content == "folder":
        path.mkdir()
        (path / "thesis.tex").write_text("years of work")
    elif content == "file":
        path.write_text("years of work")
    with pytest.raises(GsnnError, match="is not a survey; make one with"):
        Survey.open(path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_survey_is_never_replaced(tmp_path, overwrite):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    with pytest.raises(GsnnError, match="choose another --out"):
        Survey.create(tmp_path / "thesis", Toy(), overwrite=overwrite)
    assert (tmp_path / "thesis" / "thesis.tex").read_text() == "years of work"


def test_a_survey_is_replaced_only_when_asked_and_only_by_a_whole_one(survey, tmp_path):
    with pytest.raises(GsnnError, match="exists already"):
        Survey.create(survey.path, Toy(5))

    def fail(start):
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(GsnnError, match="Input/output error"):
        Survey.create(survey.path, Toy(5, fail), overwrite=True)
    assert len(Survey.open(survey.path)) == 40
    assert len(Survey.create(survey.path, Toy(5), overwrite=True)) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["sky"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), GsnnError("row 3 is odd"), RuntimeError("a bug")])
def test_an_interrupted_making_leaves_nothing(tmp_path, monkeypatch, interruption):
    monkeypatch.setattr("gsnn.data.writing._BLOCK_BYTES", 1)

    def fail(start):
        if start:
            raise interruption

    with pytest.raises(type(interruption)):
        Survey.create(tmp_path / "sky", Toy(trouble=fail))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_append_leaves_the_survey_as_it_was(survey, monkeypatch):
    monkeypatch.setattr("gsnn.data.writing._BLOCK_BYTES", 1)

    def fail(start):
        if start:
            raise OSError(errno.EIO, "Input/output error")

    before = survey.digest
    with pytest.raises(GsnnError, match=r"cannot append.*Input/output error"):
        survey.append(Toy(trouble=fail, name="p"))
    again = Survey.open(survey.path)
    assert (again.digest, len(again), again.verify()) == (before, 40, [])
    assert len(again.append(Toy(name="p"))) == 80


def test_a_killed_making_leaves_no_survey_and_the_next_one_clears_up(tmp_path):
    code = (
        f"import os, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_survey_faults import Survey, Toy\n"
        "import gsnn.data.writing as module; module._BLOCK_BYTES = 1\n"
        f"die = lambda start: start and os.kill(os.getpid(), {signal.SIGKILL:d})\n"
        f"Survey.create({str(tmp_path / 'sky')!r}, Toy(trouble=die))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == -signal.SIGKILL
    assert [p.name.startswith(".sky.partial-") for p in tmp_path.iterdir()] == [True]
    Survey.create(tmp_path / "sky", Toy())
    assert [p.name for p in tmp_path.iterdir()] == ["sky"]


def test_a_full_disk_is_one_sentence(tmp_path):
    """A limit of 64 KiB on files stands for the disk."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, limits[1]))
    try:
        with pytest.raises(GsnnError, match="cannot write the survey"):
            Survey.create(tmp_path / "sky", Toy(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert list(tmp_path.iterdir()) == []


def test_no_permission_to_write_is_one_sentence(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(GsnnError, match=r"cannot write the survey .*Permission denied"):
        Survey.create(tmp_path / "sky", Toy())
