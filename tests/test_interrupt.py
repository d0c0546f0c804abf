"""Ctrl-C in real processes: it ends a run with status 130 and a sentence, wherever it falls."""

import signal
import subprocess
import sys
import time

import pytest
from tiny import TABLE, change
from tomli_w import dumps

PARTS = '''
import pathlib, sys, time, weakref
import numpy as np
from gsnn.simulate.galaxies import Galaxies


class Slow(Galaxies):
    """Galaxies that take their time, in Python and in torch."""

    def __init__(self, *, objects: int = 600):
        super().__init__(objects=objects, size=32)

    def rows(self, indices, seed):
        pathlib.Path("begun").touch()
        found = super().rows(indices, seed)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            np.random.default_rng(0).normal(size=20000).sort()
        return found


class Thing:
    pass


class Swallow:
    """Waits for Ctrl-C in a callback of the garbage collector, where Python ignores what is raised."""

    def __call__(self, model, batch):
        thing = Thing()
        keep = weakref.ref(thing, lambda _: self.wait())
        del thing
        for _ in range(100):
            time.sleep(0.02)
        raise SystemExit("went on")

    def wait(self):
        pathlib.Path("begun").touch()
        time.sleep(60)
'''


def start(folder, study, *words):
    (folder / "interrupt_parts.py").write_text(PARTS)
    (folder / "study.toml").write_text(dumps(study))
    code = "import sys; sys.argv[0] = 'gsnn'; from gsnn.cli import main; main()"
    words = ["run", "study.toml", "--out", "run", *words]
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def interrupted(process, folder, after=0.0):
    """Ctrl-C once the part has begun; the exit status and what was said."""
    deadline = time.monotonic() + 90
    while not (folder / "begun").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize("after", [0.2, 1.2])
def test_while_galaxies_are_simulated(tmp_path, after):
    study = change(
        TABLE, data__source="interrupt_parts:Slow", data__inputs=["image"], data__target="morphology",
        model={"name": "cnn", "width": 4, "depth": 2}, evaluate__baselines=["prior"], explain__methods=[],
    )  # fmt: skip
    with start(tmp_path, study) as process:
        status, said = interrupted(process, tmp_path, after)
    assert status == 130, said
    assert "type the same line again to go on from here" in said
    assert "Fatal" not in said
    assert "Traceback" not in said
    assert [path.name for path in (tmp_path / "run").iterdir() if "survey" in path.name] == []


def test_in_a_callback_that_swallows_it(tmp_path, table_survey):
    study = change(TABLE, train__epochs=1, evaluate__baselines=["prior"], explain__methods=["interrupt_parts:Swallow"])
    with start(tmp_path, study, "--data", str(table_survey.path)) as process:
        status, said = interrupted(process, tmp_path)
    assert status == 130, said
    assert "type the same line again to go on from here" in said
    assert "Exception ignored" not in said
    assert not (tmp_path / "run/answer.json").exists()
