"""Augmented copies of a view: the first ones as they are, the rest changed as the network's objects are."""

import numpy as np
import pytest

from gsnn.config import build
from gsnn.data.copies import Copies
from gsnn.data.light_curves import LightCurves
from gsnn.data.schema import Column, Schema

N = 12
INPUTS = Schema.of([Column("lc", "light_curve", unit="nJy", bands=("g", "r"), time_unit="d"), Column("z", "scalar")])
CHANGES = [
    {"name": "redshift", "redshift": "z", "probability": 1.0, "stretch": [1.1, 1.2], "detection": 0.0},
    {"name": "drop-observations", "fraction": 0.3},
]


class View:
    """The contract of a view on columns in memory."""

    def __init__(self, data, rows):
        self.data, self.rows = data, rows
        self.schema = INPUTS

    def __len__(self):
        return len(self.rows)

    def take(self, positions):
        return View(self.data, self.rows[np.asarray(positions)])

    def columns(self, names):
        taken = {name: self.data[name] for name in names}
        return {k: v.take(self.rows) if isinstance(v, LightCurves) else v[self.rows] for k, v in taken.items()}


@pytest.fixture
def view():
    random = np.random.default_rng(0)
    curves = []
    for _ in range(N):
        time = np.sort(random.uniform(0, 80, 30))
        flux = 300 * np.exp(-0.5 * ((time - 40) / 12) ** 2)
        curves.append((time, flux + random.normal(0, 5, 30), np.full(30, 5.0), random.integers(0, 2, 30)))
    data = {"lc": LightCurves.of(curves), "z": np.linspace(0.1, 0.4, N), "kind": np.arange(N) % 2}
    return View(data, np.arange(N)[::-1].copy())


def copies(view, count=3, seed=0):
    return Copies(view, [build(spec, "augment") for spec in CHANGES], INPUTS, count, seed)


def test_the_first_are_as_they_are_and_targets_never_change(view):
    found = copies(view)
    assert len(found) == 4 * N
    columns = found.columns(["lc", "z", "kind"])
    np.testing.assert_array_equal(columns["kind"], np.tile(view.columns(["kind"])["kind"], 4))
    np.testing.assert_array_equal(columns["z"][:N], view.columns(["z"])["z"])
    np.testing.assert_array_equal(columns["lc"].take(np.arange(N)).flux, view.columns(["lc"])["lc"].flux)
    assert (columns["z"][N:] > np.tile(columns["z"][:N], 3)).all()
    assert (columns["lc"].lengths[N:] < 30).any()


def test_a_copy_is_the_same_in_any_company(view):
    found = copies(view)
    whole = found.columns(["lc", "z"])
    some = np.array([40, 3, 17, 29])
    part = found.take(some).columns(["lc", "z"])
    np.testing.assert_allclose(part["z"], whole["z"][some], rtol=1e-6)
    np.testing.assert_array_equal(part["lc"].lengths, whole["lc"].lengths[some])
    np.testing.assert_allclose(part["lc"].flux, whole["lc"].take(some).flux, rtol=1e-4, atol=1e-2)
    pieces = list(found.chunks(["lc", "z"], 10))
    np.testing.assert_allclose(np.concatenate([piece["z"] for piece in pieces]), whole["z"], rtol=1e-6)
    assert not np.allclose(copies(view, seed=1).columns(["z"])["z"][N:], whole["z"][N:])


def test_no_copies_is_the_view_itself(view):
    columns = copies(view, 0).columns(["z", "kind"])
    np.testing.assert_array_equal(columns["z"], view.columns(["z"])["z"])
