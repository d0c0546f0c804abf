"""Galaxies in boxes are clustered as they are asked to be."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from gsnn.baselines.two_point import correlation, pair_counts
from gsnn.config import build
from gsnn.data.points import Points
from gsnn.data.schema import Schema
from gsnn.data.source import Source
from gsnn.errors import ConfigError
from gsnn.simulate.point_processes import (
    GalaxyBoxes,
    Volume,
    lognormal_correlation,
    neyman_scott,
    neyman_scott_correlation,
)

SMALL = {"name": "galaxy-boxes", "boxes": 30, "box": 64.0, "side": 16, "points": [100.0, 200.0]}


def test_is_a_source_whose_rows_are_the_same_alone_and_in_company():
    boxes = build(SMALL, "source")
    assert isinstance(boxes, Source)
    batch = boxes.rows(np.arange(30), 3)
    assert Schema.from_arrow(batch.schema).columns == boxes.schema().columns
    assert boxes.rows(np.array([21, 5]), 3).slice(0, 1).to_pylist() == batch.slice(21, 1).to_pylist()
    assert boxes.rows(np.array([5]), 4).to_pylist() != batch.slice(5, 1).to_pylist()
    assert boxes.rows(np.arange(0), 0).num_rows == 0
    points = Points.from_arrow(batch["galaxies"], 3, 0)
    assert points.faults(64.0) == [None] * 30
    assert points.lengths.tolist() == batch["count"].to_pylist()
    with pytest.raises(IndexError):
        boxes.rows(np.array([30]), 0)


def test_galaxies_have_the_two_point_function_that_is_asked_for():
    boxes, edges = GalaxyBoxes(box=64.0, side=32), np.array([4.0, 6.0, 9.0, 13.0])
    made = [boxes.draw(np.random.default_rng(i), 0.3, 0.8, 1.3, 1500.0, 0.0) for i in range(60)]
    found = np.array([correlation(one.astype(float), edges, 64.0, True) for one in made])
    axis = np.minimum(np.arange(32), 32 - np.arange(32)) * 2.0
    r = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    asked = lognormal_correlation(boxes.volume.correlation(0.3, 0.8), 1.3).numpy()
    expected = [asked[(r >= a) & (r < b)].mean() for a, b in pairwise(edges)]
    assert np.abs((found.mean(0) - expected) / expected).max() < 0.2  # a shell of cells is no shell
    assert abs(found.mean() - np.mean(expected)) / np.mean(expected) < 0.1


def test_the_field_of_one_bias_is_the_field_of_its_own_correlation():
    volume = Volume(16, 64.0)
    plain = volume.correlation(0.3, 0.8)
    np.testing.assert_allclose(lognormal_correlation(plain, 1.0), plain.numpy(), atol=1e-6)
    white = torch.randn(400, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    made = [volume.gaussian(one, plain) for one in white]
    density = torch.stack([torch.expm1(field - variance / 2) for field, variance in made])
    assert density.mean().abs() < 0.03
    assert (density**2).mean() == pytest.approx(plain[0, 0, 0].item(), rel=0.15)


def test_families_have_the_closed_two_point_function():
    """Neyman & Scott 1952, in a periodic box, beside pairs that are counted."""
    chance, edges = np.random.default_rng(0), np.geomspace(0.3, 3.0, 6)
    density, mu, size, box, pairs, expected = 0.3, 1.5, 0.6, 20.0, np.zeros(5), np.zeros(5)
    for _ in range(20):
        made = neyman_scott(chance, chance.random((chance.poisson(density * box**3), 3)) * box, mu, size) % box
        pairs += pair_counts(made, edges, box)
        expected += (density * (1 + mu) * box**3) ** 2 / 2 * 4 / 3 * np.pi * np.diff(edges**3) / box**3
    fine = [np.linspace(a, b, 50) for a, b in pairwise(edges)]
    asked = [np.average(neyman_scott_correlation(r, density, mu, size), weights=r**2) for r in fine]
    np.testing.assert_allclose((pairs / expected - 1)[:4], asked[:4], rtol=0.06, atol=0.02)


def test_the_number_of_galaxies_says_nothing_of_the_universe():
    boxes = build({**SMALL, "boxes": 4000}, "source")
    truth = boxes.parameters(torch.arange(4000), 0)
    for name in ("omega_m", "sigma_8", "bias"):
        assert abs(np.corrcoef(truth[name], truth["points"])[0, 1]) < 0.05


def test_in_redshift_space_clustering_is_squashed_along_the_sight_by_kaisers_factor():
    """Angle-averaged: 1 + 2 f / 3 + f^2 / 5 for b = 1, on scales where the field is nearly linear."""
    edges, found = np.array([10.0, 20.0]), []
    for space in (False, True):
        boxes = GalaxyBoxes(box=128.0, side=32, redshift_space=space, dispersion=0.0)
        made = [boxes.draw(np.random.default_rng(i), 0.3, 0.6, 1.0, 3000.0, 0.0) for i in range(25)]
        found.append(np.mean([correlation(one.astype(float), edges, 128.0, True) for one in made]))
    f = 0.3**0.55
    assert found[1] / found[0] == pytest.approx(1 + 2 * f / 3 + f**2 / 5, rel=0.12)


def test_an_open_box_holds_the_same_points():
    periodic, cube = build(SMALL, "source"), build({**SMALL, "periodic": False}, "source")
    assert (periodic.schema()["galaxies"].box, cube.schema()["galaxies"].box) == (64.0, None)
    assert periodic.rows(np.arange(3), 0)["galaxies"].equals(cube.rows(np.arange(3), 0)["galaxies"])


@pytest.mark.parametrize(
    "wrong", [{"boxes": 0}, {"side": 15}, {"omega_m": [0.5, 0.1]}, {"points": [1.0, 5.0]}, {"size": 0.0}]
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError):
        build({**SMALL, **wrong}, "source")
