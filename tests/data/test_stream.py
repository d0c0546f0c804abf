import errno
import os
import random
import threading

import numpy as np
import pytest
import torch

from gsnn.data.schema import Column
from gsnn.data.stream import Stream
from gsnn.errors import GsnnError

NAMES = ["image", "g", "count", "kind"]
ROW_BYTES = 2 * 4 * 4 * 4 + 4 + 4 + 8 + 8


@pytest.fixture
def view(make, sky):
    return make(sky(203)).view(np.arange(200)[::-1].copy())


def stream_of(view, tmp_path, windowed=False, **settings):
    """A stream; a windowed one has room for about a quarter of the objects."""
    room = {"scratch_bytes": 2 * 3 * 16 * ROW_BYTES} if windowed else {}
    return Stream(view, NAMES, scratch=tmp_path, **{"batch": 13, "seed": 5, **room, **settings})


def same(a, b):
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name].numpy(), b[name].numpy())


def check_content(view, batch):
    """What is in a batch is what the survey says of its rows."""
    truth = view.survey.take(batch["row"].numpy(), NAMES)
    for name in NAMES:
        np.testing.assert_array_equal(batch[name].numpy(), truth[name].astype(batch[name].numpy().dtype))


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 16 objects, so that 200 objects make 13 of them and five windows."""
    monkeypatch.setattr("gsnn.data.stream._BLOCK", 16)


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.usefixtures("small_blocks")
def test_an_epoch_holds_every_object_once_with_its_own_values(view, tmp_path, windowed, shuffle):
    with stream_of(view, tmp_path, windowed, shuffle=shuffle) as stream:
        assert (stream.order(0).windows > 2) == windowed
        for epoch in (0, 1):
            batches = list(stream.batches(epoch * len(stream), (epoch + 1) * len(stream)))
            rows = torch.cat([batch["row"] for batch in batches])
            np.testing.assert_array_equal(np.sort(rows), np.arange(200))
            assert (rows.tolist() == view.rows.tolist()) == (not shuffle)
            for batch in batches:
                check_content(view, batch)
        assert [len(batch["row"]) for batch in batches] == [13] * 15 + [5]


@pytest.mark.usefixtures("small_blocks")
def test_batches_have_the_types_of_the_contract(view, tmp_path):
    with stream_of(view, tmp_path) as stream:
        batch = next(stream.batches())
    assert {name: (tuple(t.shape), t.dtype) for name, t in batch.items()} == {
        "image": ((13, 2, 4, 4), torch.float32),
        "g": ((13,), torch.float32),
        "count": ((13,), torch.float32),
        "kind": ((13,), torch.int64),
        "row": ((13,), torch.int64),
    }


def test_bytes_stay_bytes(make, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 3, 4, 4)).astype(np.uint8)
    column = Column("image", "image", shape=(3, 4, 4), dtype="uint8")
    survey = make({Column("id", "id"): [f"o{i}" for i in range(30)], column: pixels})
    with Stream(survey.view(), ["image"], batch=30, scratch=tmp_path) as stream:
        batch = stream.gather(0)
    assert batch["image"].dtype == torch.uint8
    np.testing.assert_array_equal(batch["image"].numpy(), pixels[batch["row"].numpy()])


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.usefixtures("small_blocks")
def test_a_batch_is_a_pure_function_of_seed_and_step(view, tmp_path, windowed):
    """Jumping about, another object of the class, no prefetch: the batch of a step stays what it is."""
    with stream_of(view, tmp_path, windowed) as one, stream_of(view, tmp_path, windowed, prefetch=0) as other:
        straight = list(one.batches(0, 2 * len(one)))
        chance = random.Random(3)
        for step in [chance.randrange(2 * len(one)) for _ in range(60)]:
            same(next(one.batches(step, step + 1)), straight[step])
            same(next(other.batches(step, step + 1)), straight[step])
            np.testing.assert_array_equal(other.rows(step), straight[step]["row"].numpy())
    with stream_of(view, tmp_path, windowed, seed=6) as another:
        assert any((a["row"] != b["row"]).any() for a, b in zip(another.batches(), straight))


@pytest.mark.usefixtures("small_blocks")
def test_scratch_without_windows_and_with_hold_the_same_values(view, tmp_path):
    with stream_of(view, tmp_path) as whole, stream_of(view, tmp_path, windowed=True) as windowed:
        by_row = {int(r): image for b in whole.batches() for r, image in zip(b["row"], b["image"])}
        for batch in windowed.batches():
            for row, image in zip(batch["row"], batch["image"]):
                assert torch.equal(by_row[int(row)], image)


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.usefixtures("small_blocks")
def test_ranks_share_each_global_batch(view, tmp_path, windowed, ranks):
    with stream_of(view, tmp_path, windowed) as alone:
        whole = [batch["row"].tolist() for batch in alone.batches()]
    parts = []
    for rank in range(ranks):
        with stream_of(view, tmp_path, windowed, rank=rank, ranks=ranks) as stream:
            parts.append([batch["row"].tolist() for batch in stream.batches()])
    for step, rows in enumerate(whole):
        assert [rows[rank::ranks] for rank in range(ranks)] == [part[step] for part in parts]


@pytest.mark.usefixtures("small_blocks")
def test_a_thousand_histories_of_kills_and_resumes_give_the_one_order(view, tmp_path):
    """Runs are killed after any step and resumed on 1 to 4 ranks, with 0 to 2 batches gathered ahead by a thread each;
    what the ranks read is the one global order.
    """
    chance = random.Random(11)
    with Stream(view, ["g"], batch=70, seed=5, scratch=tmp_path, prefetch=0) as stream:
        steps = 2 * len(stream)
        whole = [stream.gather(step)["row"].tolist() for step in range(steps)]
        assert sorted(row for rows in whole[: len(stream)] for row in rows) == list(range(200))
        for _ in range(1000):
            step = 0
            while step < steps:
                stream.ranks, killed = chance.randint(1, 4), min(step + chance.randint(1, 3), steps)
                together = [[None] * len(rows) for rows in whole[step:killed]]
                for rank in range(stream.ranks):
                    stream.rank, stream.prefetch = rank, chance.randint(0, 2)
                    for rows, batch in zip(together, stream.batches(step, killed), strict=True):
                        rows[rank :: stream.ranks] = batch["row"].tolist()
                assert together == whole[step:killed]
                step = killed


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.usefixtures("small_blocks")
def test_real_streams_killed_and_resumed_on_other_ranks_lose_and_repeat_nothing(view, tmp_path, windowed):
    chance = random.Random(12)
    streams = {
        (ranks, rank): stream_of(view, tmp_path, windowed, rank=rank, ranks=ranks, prefetch=chance.randint(0, 3))
        for ranks in range(1, 5)
        for rank in range(ranks)
    }
    steps = 2 * len(streams[1, 0])
    whole = [batch["row"].tolist() for batch in streams[1, 0].batches(0, steps)]
    for _ in range(8):
        seen, step = [[] for _ in range(steps)], 0
        while step < steps:
            ranks, killed = chance.randint(1, 4), min(step + 1 + chance.randrange(9), steps)
            for rank in range(ranks):
                running = streams[ranks, rank].batches(step, steps)
                for k in range(step, killed):
                    seen[k].append(next(running)["row"].tolist())
                running.close()
            step = killed
        for rows, shares in zip(whole, seen):
            assert [rows[rank :: len(shares)] for rank in range(len(shares))] == shares
    for stream in streams.values():
        stream.close()


def test_the_state_is_a_few_integers(view, tmp_path):
    with stream_of(view, tmp_path) as stream:
        state = stream.state()
    assert len(repr(state)) < 1024
    assert all(isinstance(value, int) for value in state.values())


def test_a_full_disk_is_a_sentence_before_anything_is_read(view, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(GsnnError, match=r"the scratch needs .* MiB in .*No space left.*GSNN_SCRATCH"):
        stream_of(view, tmp_path)
    assert list(tmp_path.glob("gsnn-scratch-*")) == []


def test_the_scratch_is_reserved_whole_mapped_and_given_back(view, tmp_path):
    stream = stream_of(view, tmp_path)
    (folder,) = tmp_path.glob("gsnn-scratch-*")
    blocks = {f.name: f.stat().st_blocks * 512 for f in folder.iterdir()}
    assert sum(blocks.values()) >= 200 * ROW_BYTES
    assert all(isinstance(array, np.memmap) for array in stream._scratch.arrays.values())
    list(stream.batches())
    stream.close()
    assert not folder.exists()


@pytest.mark.usefixtures("small_blocks")
def test_a_disk_that_fails_midway_does_not_leave_a_half_filled_window_behind(view, tmp_path, monkeypatch):
    with stream_of(view, tmp_path, windowed=True, prefetch=0) as stream:
        good = [stream.gather(step) for step in range(len(stream))]
        stream.gather(0)
        stream._read = 16
        reads, take = [], type(view.survey).take

        def fail(survey, rows, names):
            reads.append(rows)
            if len(reads) % 3 == 2:
                raise GsnnError("cannot read the survey")
            return take(survey, rows, names)

        monkeypatch.setattr(type(view.survey), "take", fail)
        failures = 0
        for step in [0, 9, 4, 12, 2, 15, 7, 0, 3] * 3:
            try:
                same(stream.gather(step), good[step])
            except GsnnError:
                failures += 1
        assert failures > 0


@pytest.mark.parametrize("prefetch", [0, 3])
def test_an_error_while_reading_reaches_the_reader(view, tmp_path, monkeypatch, prefetch):
    def fail(*_):
        raise GsnnError("cannot read the survey")

    with stream_of(view, tmp_path, prefetch=prefetch) as stream:
        monkeypatch.setattr(type(view.survey), "take", fail)
        with pytest.raises(GsnnError, match="cannot read the survey"):
            next(stream.batches())


def test_a_reader_who_leaves_early_leaves_no_thread_behind(view, tmp_path):
    with stream_of(view, tmp_path) as stream:
        for _ in range(3):
            batches = stream.batches(0, 100)
            next(batches)
            batches.close()
        assert not [t for t in threading.enumerate() if t.name == "gsnn-prefetch"]


def test_an_empty_part_and_text_are_refused(view, tmp_path):
    with pytest.raises(GsnnError, match="part of the split is empty"):
        stream_of(view.take(np.arange(0)), tmp_path)
    with pytest.raises(GsnnError, match="text columns cannot be part of a batch"):
        Stream(view, ["id"], batch=4, scratch=tmp_path)
    assert list(tmp_path.glob("gsnn-scratch-*")) == []
