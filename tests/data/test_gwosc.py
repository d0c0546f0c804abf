"""Files of strain: both layouts, flags that take seconds out, and what is refused in one sentence."""

import h5py
import numpy as np
import pytest

from gsnn.data.readers.gwosc import is_strain, read_strain
from gsnn.errors import GsnnError

RATE, SECONDS = 256, 16


def values(seed: int = 0) -> np.ndarray:
    return 1e-20 * np.random.default_rng(seed).standard_normal(RATE * SECONDS)


def write_gwosc(path, mask=None, strain=None, detector: bytes = b"H1", start: int = 1126259446):
    """A file as gwosc.org gives it."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("strain/Strain", data=values() if strain is None else strain)
        data.attrs["Xspacing"], data.attrs["Xstart"] = 1 / RATE, start
        file["meta/GPSstart"], file["meta/Detector"] = start, detector
        file["quality/simple/DQmask"] = np.full(SECONDS, 127, np.uint32) if mask is None else mask
        names = [b"DATA", b"CBC_CAT1", b"CBC_CAT2", b"CBC_CAT3", b"BURST_CAT1", b"BURST_CAT2", b"BURST_CAT3"]
        file["quality/simple/DQShortnames"] = np.array(names)
    return path


def test_a_gwosc_file(tmp_path):
    path = write_gwosc(tmp_path / "h.hdf5")
    (one,) = read_strain(path)
    assert (one.detector, one.start, one.rate, one.seconds) == ("H1", 1126259446, RATE, SECONDS)
    np.testing.assert_array_equal(one.values, values())
    assert one.notes == ()
    assert is_strain(str(path))


def test_flagged_seconds_become_missing_and_are_told(tmp_path):
    mask = np.full(SECONDS, 127, np.uint32)
    mask[3], mask[5], mask[7] = 0b1111101, 0b1111110, 0b1110111  # lacks CBC_CAT1, DATA, CBC_CAT3 (not needed)
    (one,) = read_strain(write_gwosc(tmp_path / "h.hdf5", mask))
    lost = np.isnan(one.values).reshape(SECONDS, RATE).all(1)
    assert np.flatnonzero(lost).tolist() == [3, 5]
    assert np.isfinite(one.values).sum() == (SECONDS - 2) * RATE
    assert any("DATA" in note and "1 s" in note for note in one.notes)
    assert any("CBC_CAT1" in note for note in one.notes)


def test_a_gap_is_told(tmp_path):
    strain = values()
    strain[100:200] = np.nan
    (one,) = read_strain(write_gwosc(tmp_path / "h.hdf5", strain=strain))
    assert any("100 samples are missing" in note for note in one.notes)


def test_mock_data_alone_and_by_detector(tmp_path):
    with h5py.File(tmp_path / "alone.hdf", "w") as file:
        data = file.create_dataset("data", data=values())
        data.attrs["delta_t"], data.attrs["start_time"] = 1 / RATE, 1238205077.0
    (one,) = read_strain(tmp_path / "alone.hdf")
    assert (one.detector, one.start, one.rate) == ("unknown", 1238205077, RATE)
    assert "which detector" in one.notes[0]
    with h5py.File(tmp_path / "both.hdf", "w") as file:
        for seed, name in enumerate(("H1", "L1")):
            data = file.create_dataset(f"{name}/1238205077", data=values(seed))
            data.attrs["delta_t"], data.attrs["start_time"] = 1 / RATE, 1238205077.0
    both = read_strain(tmp_path / "both.hdf")
    assert [one.detector for one in both] == ["H1", "L1"]
    np.testing.assert_array_equal(both[1].values, values(1))


def no_strain(path):
    with h5py.File(path, "w") as file:
        file["image"] = np.zeros((3, 4))


def too_few_flags(path):
    write_gwosc(path, np.full(SECONDS - 1, 127, np.uint32))


def other_units(path):
    write_gwosc(path, strain=np.ones(RATE * SECONDS))


def whole_numbers(path):
    write_gwosc(path, strain=np.ones(RATE * SECONDS, int))


def truncated(path):
    write_gwosc(path)
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_strain, "holds no strain"),
        (too_few_flags, "flags for 15 s"),
        (other_units, "order 1e-19"),
        (whole_numbers, "no series of numbers"),
        (truncated, "damaged or truncated"),
        (lambda path: None, "no such file"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(tmp_path, spoil, sentence):
    path = tmp_path / "bad.hdf5"
    spoil(path)
    with pytest.raises(GsnnError, match=sentence) as error:
        read_strain(path)
    assert "\n" not in str(error.value)
