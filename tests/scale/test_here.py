"""This machine as a device: measured rates that explain its own steps, and a plan on it."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch

from gsnn.scale import trials
from gsnn.scale.devices import device
from gsnn.scale.memory import Layout
from gsnn.scale.pace import pace
from gsnn.scale.plan import Settings, plan
from gsnn.scale.shapes import Shape
from gsnn.scale.traffic import SENT

GROUP = {
    "trials": [(asdict(Shape(64 * k, 2, k, k, 256 * k, 16)), 256, 4, 0.1 * k * k) for k in (1, 2, 4)],
    "product": (1e10, 0.1),
    "stream": 4e9,
    "links": {"all-reduce": 1e9},
    "overheads": {"tensor": 0.01},
}
LINKS = """
import json
import torch
import torch.distributed as dist
from gsnn.scale import trials
torch.set_num_threads(1)
dist.init_process_group("gloo")
trials.BYTES = (2**10, 2**16)
found = trials.links()
dist.barrier()
if dist.get_rank() == 0:
    print(json.dumps(found), flush=True)
dist.destroy_process_group()
"""


@pytest.fixture
def ideal(monkeypatch):
    """Steps of a machine of 20 GFLOP/s, 8 and 30 GB/s that keeps exactly to the planner's counts."""
    exact = device("laptop").__class__(
        "ideal", 20e9, 1.0, 1e9, 8e9, 1, 1e9, 1e9, 10, 0.0, 1e4, bytes_each=4, stream=30e9
    )
    real = trials.trial

    def trial(width, layers, side, images, steps=5):
        shape, _, _ = real(width, 1, 16, 1, steps=0)
        shape = shape.__class__(**{**shape.__dict__, "layers": layers})
        return shape, (side // 4) ** 2, pace(shape, Layout(), images, (side // 4) ** 2, exact).seconds

    monkeypatch.setattr(trials, "trial", trial)
    monkeypatch.setattr(trials, "timed", lambda step, steps: 2 * 1536**3 / 25e9)
    monkeypatch.setattr(trials, "stream", lambda: exact.stream)
    return exact


@pytest.mark.skipif(torch.cuda.is_available(), reason="counts bytes of float32")
def test_rates_are_found_from_times(ideal):
    found = device("here")
    assert found.peak == pytest.approx(25e9)
    assert found.sustained == pytest.approx(0.8, rel=1e-3)
    assert found.bandwidth == pytest.approx(8e9, rel=1e-3)
    assert found.stream == 30e9
    assert found.memory > 1e9
    made = plan(1e6, 1e8, 1, found, settings=Settings(256))
    assert made.device.name == "here"
    assert made.best.mfu <= found.sustained


def test_a_step_is_timed():
    shape, tokens, seconds = trials.trial(64, 1, 16, 1, steps=1)
    assert (shape.width, shape.layers, tokens) == (64, 1, 16)
    assert 0 < seconds < 60


def test_processes_are_measured_at_work_together(monkeypatch):
    monkeypatch.setattr(trials, "measured_together", lambda processes, threads: GROUP | {"asked": processes})
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    found = device("here", 8)
    assert (found.node, found.overlap) == (2, torch.cuda.is_available())
    assert found.seconds("all-reduce", 1e6, 1, 2) == pytest.approx(1e-3)
    assert found.seconds("send", 1e6, 1, 2) == pytest.approx(1e6 / found.intra)
    assert found.seconds("all-reduce", 1e6, 2, 2) == pytest.approx(1e6 / found.inter + 2 * 2 * found.latency)


@pytest.mark.parametrize("overlap", [True, False])
def test_nothing_hides_behind_the_same_cores(overlap):
    shape = Shape(512, 4, 8, 8, 2048, 16)
    busy = replace(device("laptop"), node=2, intra=1e10, overlap=overlap)
    made = pace(shape, Layout(shard=2), 4, 256, busy)
    waited = made.exposed["shard"]
    copied = 2 * 2 * made.bytes["shard"] / busy.bandwidth  # of two ranks each sends half
    assert waited == pytest.approx(0 if overlap else made.bytes["shard"] / 1e10 + copied)


def test_a_block_costs_more_in_a_layout():
    shape = Shape(512, 4, 8, 8, 2048, 16)
    one = device("laptop")
    dear = replace(one, overheads={"tensor": 1.0, "shard": 2.0, "context": 4.0, "ring": 8.0, "replicate": 16.0})
    for layout, each in (
        (Layout(tensor=2), 1), (Layout(shard=2), 2), (Layout(context=2), 4), (Layout(shard=2, context=2), 4),
        (Layout(context=2, attention="ring"), 8), (Layout(replicate=2), 16), (Layout(replicate=2, shard=2), 2),
        (Layout(tensor=2, replicate=2), 3), (Layout(), 0),
    ):  # fmt: skip
        more = pace(shape, layout, 4, 256, replace(dear, overlap=False)).seconds
        assert more - pace(shape, layout, 4, 256, replace(one, overlap=False)).seconds == pytest.approx(4 * each)


def test_links_of_two_processes_are_measured(tmp_path):
    """Small messages and no networks: the rate of each kind, by real processes."""
    script = tmp_path / "links.py"
    script.write_text(LINKS)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert set(found) == set(SENT)
    assert all(1e3 < rate <= 1e15 for rate in found.values())
