"""SIGKILL, which nothing can catch, at any moment of saving: the newest checkpoint that stood is always restored."""

import os
import random
import signal
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from forked import fork, outcome
from torch.distributed.tensor import DeviceMesh, Shard, distribute_tensor

from gsnn.errors import GsnnError
from gsnn.training import checkpoint, storage

SIZE = 20_000


def tensors(value, mesh=None):
    """All of one value, so that a mixture of two checkpoints shows."""
    big = torch.full((SIZE,), float(value))
    if mesh is not None:
        big = distribute_tensor(big, mesh, [Shard(0)], src_data_rank=None)
    return {"big": big, "small": torch.tensor(value), **{f"w{i}": torch.full((5, i), float(value)) for i in range(4)}}


def save_on(folder, first, step, acknowledge, seed, mesh=None):
    """Save until killed. Every save has a value of its own; now and then it is of the same step as the one before."""
    chance = random.Random(seed)
    for value in range(first, first + 500):
        step += chance.random() < 0.7
        pending = checkpoint.save(folder, step, tensors(value, mesh), {"value": value}, keep=chance.choice([1, 2]))
        if chance.random() < 0.8:
            pending.wait()
            os.write(acknowledge, f"{value}\n".encode())  # from now on nothing older may be restored


def one_of_two(rank, store, *arguments):
    dist.init_process_group(
        "gloo", store=dist.FileStore(store, 2), rank=rank, world_size=2, timeout=timedelta(seconds=30)
    )
    try:
        save_on(*arguments, DeviceMesh("cpu", [0, 1]))
    except GsnnError as error:
        return str(error)


def strike(folder, reached, number, processes, chance):
    """Start savers, kill some of them; ((step, value) restored, the least value that must be, what was left)."""
    reading, writing = os.pipe()
    arguments = (folder, reached[1] + 1000, reached[0], writing, number)
    if processes == 1:
        children = [fork(save_on, *arguments)]
    else:
        store = str(folder.parent / f"store-{number}")
        children = [fork(one_of_two, rank, store, *arguments) for rank in range(2)]
    os.close(writing)
    before = set(folder.glob("*"))
    while set(folder.glob("*")) <= before:  # not yet saving
        time.sleep(0.0005)
    time.sleep(chance.uniform(0, 0.05))
    killed = chance.choice([[0], [1], [0, 1]]) if processes == 2 else [0]
    for one in killed:
        os.kill(children[one][0], signal.SIGKILL)
    ends = [outcome(*child) for child in children]
    for rank, (well, said) in enumerate(ends):
        if rank not in killed:  # the other one ends by itself, with a sentence
            assert well, said
            assert said, "it was not noticed"
            assert "process" in said, said
    with os.fdopen(reading) as pipe:
        least = max([reached[1], *map(int, pipe.read().split())])
    left = sorted(p.name.split("-")[0] for staging in folder.glob(".staging*") for p in staging.iterdir())
    return restored(folder), least, ",".join(left)


def restored(folder):
    like = tensors(-1)
    damaged: list[str] = []
    found = checkpoint.load(folder, like, damaged)
    if found is None:
        assert not damaged
        return 0, 0
    step, state = found
    for name, value in like.items():
        assert (value == state["value"]).all(), f"{name} is of another checkpoint"
    assert not damaged, "what stands under its final name is whole"
    return step, state["value"]


def storm(folder: Path, alone: int, in_pairs: int, seed: int) -> Counter:
    """Every kill goes on where the one before left off. Returns what was found in the staging folders."""
    folder.mkdir()
    chance = random.Random(seed)
    kinds = [1] * alone + [2] * in_pairs
    chance.shuffle(kinds)
    reached, moments = (0, 0), Counter()
    for number, processes in enumerate(kinds):
        found, least, left = strike(folder, reached, number, processes, chance)
        assert found[1] >= least, f"kill {number}: {found[1]} was restored, {least} stood on the disk"
        assert found[0] >= reached[0]
        reached = found
        moments[left] += 1
    return moments


def test_fifty_kills(tmp_path):
    moments = storm(tmp_path / "checkpoints", alone=40, in_pairs=10, seed=1)
    assert len(moments) >= 3, moments


def test_the_storm_finds_a_checkpoint_that_is_not_renamed_as_a_whole(tmp_path, monkeypatch):
    def one_by_one(staging, step, keep):
        final = staging.parent / f"step-{step:08d}"
        final.mkdir(exist_ok=True)
        for path in staging.iterdir():
            path.rename(final / path.name)
            time.sleep(0.001)
        staging.rmdir()

    monkeypatch.setattr(storage, "publish", one_by_one)
    with pytest.raises(AssertionError):
        storm(tmp_path / "checkpoints", alone=40, in_pairs=0, seed=1)


@pytest.mark.slow
def test_more_than_five_hundred_kills(tmp_path):
    moments = storm(tmp_path / "checkpoints", alone=420, in_pairs=100, seed=2)
    assert moments.total() == 520
    assert len(moments) >= 6, moments
    print(dict(moments))
