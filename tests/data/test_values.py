"""Checksums of rows: each is of its own row alone, and of every bit in it."""

import numpy as np
import pyarrow as pa
import pytest

from gsnn.data.values import checksums

COLUMNS = {
    "whole numbers": pa.array([1, None, 3, 2**60 + 1, None, 0], pa.int64()),
    "bytes": pa.array([1, None, 3, 255, None, 0], pa.uint8()),
    "numbers": pa.array([1.5, None, float("nan"), -0.0, 0.0, 3.0], pa.float64()),
    "words": pa.array(["a", None, "", "b", None, "a"], pa.string()),
    "binaries": pa.array([b"a", None, b"", b"b", None, b"\0"], pa.large_binary()),
    "arrays": pa.array([[1, 2], None, [3, 4], [0, 0], None, [2, 1]], pa.list_(pa.float32(), 2)),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_checksum_is_of_its_row_alone(name):
    batch = pa.RecordBatch.from_arrays([COLUMNS[name]], names=["x"])
    together = checksums(batch, ["x"])
    for size in (1, 2, 4):
        apart = [checksums(batch.slice(start, size), ["x"]) for start in range(0, 6, size)]
        np.testing.assert_array_equal(np.concatenate(apart), together)


def test_a_missing_whole_number_is_none_of_them():
    batch = pa.RecordBatch.from_arrays([COLUMNS["whole numbers"]], names=["x"])
    found = checksums(batch, ["x"])
    assert found[1] == found[4]
    assert len(set(found.tolist())) == 5


def test_every_bit_of_a_large_number_counts():
    for values in ([2**60, 2**60 + 1], [2**60, 2**60 + 1, None]):
        found = checksums(pa.RecordBatch.from_arrays([pa.array(values, pa.int64())], names=["x"]), ["x"])
        assert len(set(found.tolist())) == len(values)
