"""What the tests of survey-wide work share: data, clients that are killed, and what must hold of every result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tiny import table_rows

from gsnn.data.survey import Survey

OBJECTS, FRAGMENT = 40 * 256, 256
BAD = {17: "no light", 300: "a cosmic ray", 5000: "no light"}


def sky(folder: Path) -> Survey:
    """A survey of stars and quasars, some of whose rows were set aside."""
    return Survey.create(folder, table_rows(OBJECTS + len(BAD), first=9000, bad=BAD))


def stamps(folder: Path, n: int = 900) -> Path:
    """Images with positions, of which a few are none."""
    random = np.random.default_rng(0)
    dec = random.uniform(-60, 60, n)
    dec[[3, 410, 411]] = 95.0
    image = random.normal(size=(n, 1, 6, 6)).astype(np.float32)
    names = np.array([f"s{i}" for i in range(n)])
    np.savez(folder / "stamps.npz", id=names, image=image, ra=random.uniform(0, 360, n), dec=dec)
    return folder / "stamps.npz"


def assert_same_survey(one: Survey, other: Survey) -> None:
    """Row for row and bit for bit, with what was set aside."""
    assert one.schema.columns == other.schema.columns
    assert [c.codec for c in one.schema.columns] == [c.codec for c in other.schema.columns]
    a, b = one.dataset.to_table(), other.dataset.to_table()
    assert a.schema.remove_metadata() == b.schema.remove_metadata()
    for name in a.column_names:
        if pa.types.is_floating(a[name].type):  # a missing value is NaN, which equals nothing
            np.testing.assert_array_equal(a[name].to_numpy(), b[name].to_numpy())
        else:
            assert a[name].equals(b[name])
    assert one.quarantined() == other.quarantined()
    assert other.verify() == []


def assert_same_predictions(expected, out: Path) -> None:
    """Bit by bit, each id exactly once."""
    found = pq.read_table(out)
    ids = found["id"].to_pylist()
    assert len(set(ids)) == len(ids) == OBJECTS + len(BAD)
    assert found.sort_by("id").equals(expected.sort_by("id"))


def gsnn(*words: object) -> subprocess.Popen:
    """The command in a process of its own."""
    code = "import sys; sys.argv[0] = 'gsnn'; from gsnn.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def recorded(work: Path) -> int:
    """How many fragments are finished."""
    return len(list(work.glob("[0-9]*.json"))) if work.is_dir() else 0


def until(condition, process: subprocess.Popen | None = None, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def workers_of(process: int) -> list[int]:
    """The processes that a client has spawned for its tasks."""
    children = map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())
    return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
