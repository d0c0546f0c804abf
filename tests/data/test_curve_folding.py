"""Light curves in the order of their phase."""

import numpy as np
import pytest
import torch

from gsnn.data.curve_units import at_visits, folded
from gsnn.data.light_curves import LightCurves
from gsnn.data.schema import CURVE, Column, Schema
from gsnn.data.transforms import Transforms
from gsnn.errors import ConfigError, GsnnError

INPUTS = Schema.of([Column("lc", "light_curve", bands=("b", "r"), time_unit="d"), Column("period", "scalar")])


def waves(n=6, seed=0):
    """Cosines of the given periods whose maxima stand anywhere, 20 in b and 19 in r on average."""
    random = np.random.default_rng(seed)
    period, start, curves = random.uniform(0.4, 9, n), random.uniform(0, 1, n), []
    for i in range(n):
        time = np.sort(random.uniform(0, 300, 60 + 10 * i))
        band = random.integers(0, 2, len(time))
        flux = 20 - band + np.cos(2 * np.pi * (time / period[i] - start[i])) + 0.01 * random.normal(size=len(time))
        curves.append((time, flux, np.full(len(time), 0.01), band))
    parts = {k: torch.from_numpy(v) for k, v in LightCurves.of(curves).padded().items()}
    return parts, torch.from_numpy(period).float()


def test_phases_run_from_the_maximum_in_order():
    parts, period = waves()
    off = torch.where(parts["valid"], parts["flux"] - 20 + parts["band"], 0)
    after = folded({**parts, "off": off}, period)
    assert set(after) == set(CURVE)
    for i in range(len(period)):
        own = after["valid"][i]
        assert torch.equal(own, parts["valid"][i])
        phase, level = after["time"][i][own], after["flux"][i][own] - 20 + after["band"][i][own]
        assert (phase.diff() >= 0).all()
        assert 0 <= phase[0] <= phase[-1] <= 1
        assert torch.corrcoef(torch.stack([level, torch.cos(2 * torch.pi * phase)]))[0, 1] > 0.97


def test_a_shift_of_all_times_changes_nothing():
    parts, period = waves()
    off = torch.where(parts["valid"], parts["flux"] - 20 + parts["band"], 0)
    here = folded({**parts, "off": off}, period)["time"]
    there = folded({**parts, "time": parts["time"] + 3.3, "off": off}, period)["time"]
    apart = (here - there).abs()
    assert torch.minimum(apart, 1 - apart)[parts["valid"]].max() < 2e-3 or (here - there).median().abs() < 1e-3


def test_an_object_without_a_period_keeps_its_order():
    parts, period = waves()
    period[2], period[3] = float("nan"), 0.0
    after = folded({**parts, "off": torch.zeros_like(parts["flux"])}, period)
    for i in (2, 3):
        own = parts["valid"][i]
        torch.testing.assert_close(after["flux"][i][own], parts["flux"][i][own])


def test_the_transform_folds_at_the_input_that_it_names():
    parts, period = waves()
    batch = {**{f"lc.{k}": v for k, v in parts.items()}, "period": period}
    spec = {"lc": {"name": "light-curve", "fold": "period", "centre": "object", "stretch": "linear"}}
    after = Transforms(INPUTS, spec)(batch)
    assert after["lc.time"].max() <= 1
    assert after["lc.time"].shape == parts["time"].shape
    assert (after["lc.time"].diff(dim=1)[parts["valid"][:, 1:]] >= 0).all()
    assert (after["lc.flux"][~parts["valid"]] == 0).all()
    with pytest.raises(ConfigError, match="'perod' is no scalar input"):
        Transforms(INPUTS, {"lc": {"name": "light-curve", "fold": "perod"}})


def test_observations_of_a_visit_get_the_time_of_its_first():
    time = torch.tensor([[0.0, 0.1, 0.3, 5.0, 5.2, 9.0]])
    assert at_visits(time, 0.25).tolist() == [pytest.approx([0, 0, 0, 5, 5, 9])]
    assert torch.equal(at_visits(time, 0.0), time)


def test_a_folded_curve_has_no_visits():
    with pytest.raises((GsnnError, ConfigError), match="no visits"):
        Transforms(INPUTS, {"lc": {"name": "light-curve", "fold": "period", "visit": 0.5}})
