"""Windows of recorded strain: white, at the right times, and set aside where the record is not to be used."""

import h5py
import numpy as np
import pytest

from gsnn.config import build
from gsnn.data.schema import Schema
from gsnn.data.source import QUARANTINE, Source
from gsnn.errors import ConfigError, GsnnError

RATE, SECONDS, START = 512, 40, 1126259446


def write(path, detector: bytes, start: int = START, spoil=(), seed: int = 0):
    with h5py.File(path, "w") as file:
        noise = 1e-21 * np.random.default_rng(seed).standard_normal(RATE * SECONDS)
        data = file.create_dataset("strain/Strain", data=noise)
        data.attrs["Xspacing"] = 1 / RATE
        file["meta/GPSstart"], file["meta/Detector"] = start, detector
        mask = np.full(SECONDS, 127, np.uint32)
        mask[list(spoil)] = 0
        file["quality/simple/DQmask"] = mask
        file["quality/simple/DQShortnames"] = np.array([b"DATA", b"CBC_CAT1", b"CBC_CAT2"])
    return str(path)


def pair(folder, **second):
    return [write(folder / "h.hdf5", b"H1"), write(folder / "l.hdf5", b"L1", seed=1, **second)]


def windows(paths, **settings):
    return build({"name": "strain-windows", "path": paths, "rate": RATE, **settings}, "source")


def test_is_a_source_whose_windows_are_white_and_say_when(tmp_path):
    source = windows(pair(tmp_path))
    assert isinstance(source, Source)
    assert len(source) == 1 + (SECONDS - 1) * 4
    batch = source.rows(np.arange(20, 60), 0)
    assert QUARANTINE not in batch.schema.names
    assert batch.schema == source.schema().arrow()
    assert Schema.from_arrow(batch.schema)["strain"].shape == (2, RATE)
    x = np.array(batch["strain"].flatten()).reshape(40, 2, RATE)
    assert x.std() == pytest.approx(0.87, abs=0.06)
    assert batch["gps"].to_pylist()[0] == START + 5
    np.testing.assert_array_equal(x[0, :, RATE // 4 :], x[1, :, : -RATE // 4])  # they overlap
    assert len(set(batch["id"].to_pylist())) == 40
    assert source.rows(np.array([30]), 0).equals(batch.slice(10, 1))


def test_flagged_seconds_and_the_ends_are_set_aside(tmp_path):
    source = windows(pair(tmp_path, spoil=(20,)), step=1.0)
    batch = source.rows(np.arange(len(source)), 0)
    bad = [i for i, reason in enumerate(batch[QUARANTINE].to_pylist()) if reason]
    assert bad == [0, 19, 20, 21, SECONDS - 1]  # a second around what is missing
    assert any("data-quality flag DATA" in note for note in source.notes)


def test_only_the_time_that_all_detectors_cover(tmp_path):
    source = windows(pair(tmp_path, start=START + 15), step=1.0)
    assert len(source) == SECONDS - 15
    assert source.rows(np.array([0]), 0)["gps"][0].as_py() == START + 15
    with pytest.raises(GsnnError, match="share no time"):
        windows(pair(tmp_path, start=START + 100))


def test_what_is_missing_is_told(tmp_path):
    with pytest.raises(ConfigError, match="no file holds strain of L1"):
        windows(write(tmp_path / "h.hdf5", b"H1"))
    with pytest.raises(GsnnError, match="is none"):
        windows(pair(tmp_path)).rows(np.array([10**6]))
