"""Rows that were made once are not made again: after a stop, after damage, in a longer survey."""

import numpy as np
import pyarrow as pa
import pytest

from gsnn.data.kept import Kept
from gsnn.data.schema import Column, Schema
from gsnn.data.survey import Survey


class Slow:
    """Counts the rows that it makes; stops after some of them."""

    def __init__(self, objects=20, stop=None, note="a"):
        self.objects, self.stop, self.note, self.made = objects, stop, note, []

    def schema(self):
        return Schema.of([Column("id", "id"), Column("x", "scalar", dtype="float64")], note=self.note)

    def __len__(self):
        return self.objects

    def rows(self, indices, seed):
        if self.stop is not None and max(indices) >= self.stop:
            raise KeyboardInterrupt
        self.made += list(indices)
        x = np.asarray(indices) + 0.5 * seed
        batch = pa.RecordBatch.from_pydict({"id": [f"r{i}" for i in indices], "x": x}, self.schema().arrow())
        if 7 in indices:
            batch = batch.append_column(
                "quarantine", pa.array(["bad" if i == 7 else None for i in indices], pa.string())
            )
        return batch


def test_a_stop_loses_no_finished_piece(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Survey.create(tmp_path / "s", Kept(Slow(stop=13), tmp_path / "rows", 4))
    again = Slow()
    kept = Kept(again, tmp_path / "rows", 4)
    survey = Survey.create(tmp_path / "s", kept)
    assert again.made == list(range(12, 20))
    plain = Survey.create(tmp_path / "plain", Slow())
    assert survey.digest == plain.digest
    assert len(survey.quarantined()) == 1
    kept.forget()
    assert not (tmp_path / "rows").exists()


def test_any_rows_in_any_order(tmp_path):
    kept, plain = Kept(Slow(), tmp_path / "rows", 4), Slow()
    order = np.array([19, 3, 9, 3, 0])
    assert kept.rows(order, 1).equals(plain.rows(order, 1))
    mixed = kept.rows(np.array([7, 1, 18]), 1)  # only one of these pieces has a column of reasons
    assert mixed.column("quarantine").to_pylist() == ["bad", None, None]
    assert kept.rows(np.arange(0), 1).num_rows == 0
    with pytest.raises(IndexError):
        kept.rows(np.array([20]), 1)


def test_pieces_of_other_sources_and_seeds_are_not_read(tmp_path):
    Kept(Slow(), tmp_path, 4).rows(np.arange(4), 0)
    for other, seed in ((Slow(note="b"), 0), (Slow(), 1)):
        Kept(other, tmp_path, 4).rows(np.arange(4), seed)
        assert other.made == [0, 1, 2, 3]


def test_a_damaged_piece_and_the_short_last_one_are_made_again(tmp_path):
    Kept(Slow(6), tmp_path, 4).rows(np.arange(6), 0)
    first = sorted(tmp_path.glob("*.parquet"))[0]
    raw = bytearray(first.read_bytes())
    raw[30:120] = bytes(90)
    first.write_bytes(raw)
    longer = Slow(20)
    Kept(longer, tmp_path, 4).rows(np.arange(8), 0)
    assert longer.made == list(range(8))
