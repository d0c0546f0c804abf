"""This machine as a device: measured rates that explain its own steps, and a plan on it."""

import pytest
import torch

from gsnn.scale import here
from gsnn.scale.devices import device
from gsnn.scale.memory import Layout
from gsnn.scale.pace import pace
from gsnn.scale.plan import Settings, plan


@pytest.fixture
def ideal(monkeypatch):
    """Steps of a machine of 20 GFLOP/s and 8 GB/s that keeps exactly to the planner's counts."""
    exact = device("laptop").__class__("ideal", 20e9, 1.0, 1e9, 8e9, 1, 1e9, 1e9, 10, 0.0, 1e4, bytes_each=4)
    real = here.trial

    def trial(width, layers, side, images, steps=5):
        shape, _, _ = real(width, 1, 16, 1, steps=0)
        shape = shape.__class__(**{**shape.__dict__, "layers": layers})
        return shape, (side // 4) ** 2, pace(shape, Layout(), images, (side // 4) ** 2, exact).seconds

    monkeypatch.setattr(here, "trial", trial)
    monkeypatch.setattr(here, "timed", lambda step, steps: 2 * 1536**3 / 25e9)
    return exact


@pytest.mark.skipif(torch.cuda.is_available(), reason="counts bytes of float32")
def test_rates_are_found_from_times(ideal):
    found = device("here")
    assert found.peak == pytest.approx(25e9)
    assert found.sustained == pytest.approx(0.8, rel=1e-3)
    assert found.bandwidth == pytest.approx(8e9, rel=1e-3)
    assert found.memory > 1e9
    made = plan(1e6, 1e8, 1, found, settings=Settings(256))
    assert made.device.name == "here"
    assert made.best.mfu <= found.sustained


def test_a_step_is_timed():
    shape, tokens, seconds = here.trial(64, 1, 16, 1, steps=1)
    assert (shape.width, shape.layers, tokens) == (64, 1, 16)
    assert 0 < seconds < 60
