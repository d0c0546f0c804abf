"""Pairs are counted right in every kind of box, and tell what a universe is made of."""

import numpy as np
import pytest
from clouds import GROUP, Clouds

from gsnn.baselines.two_point import correlation, landy_szalay, merged, pair_counts, power_law, share_of_pairs
from gsnn.config import build
from gsnn.data.points import Points
from gsnn.data.schema import Column, Schema
from gsnn.errors import ConfigError, GsnnError
from gsnn.simulate.point_processes import GalaxyBoxes

EDGES = np.geomspace(1.0, 4.0, 6)


@pytest.mark.parametrize("box", [None, 10.0])
def test_pairs_are_those_of_counting_one_by_one(box):
    position = np.random.default_rng(0).random((120, 3)) * 10
    gap = position[:, None] - position[None]
    gap = gap if box is None else gap - box * np.round(gap / box)
    apart = np.linalg.norm(gap, axis=2)[np.triu_indices(120, 1)]
    np.testing.assert_array_equal(pair_counts(position, EDGES, box), np.histogram(apart, EDGES)[0])


@pytest.mark.parametrize("periodic", [True, False])
def test_random_points_have_the_pairs_of_chance(periodic):
    chance, found = np.random.default_rng(0), np.zeros(5)
    for _ in range(40):
        found += pair_counts(chance.random((400, 3)) * 10, EDGES, 10.0 if periodic else None)
    expected = 40 * 400 * 399 / 2 * share_of_pairs(EDGES, 10.0, periodic)
    assert np.abs((found - expected) / np.sqrt(expected)).max() < 4
    assert share_of_pairs(np.array([0.0, 0.5]), 1.0, periodic)[0] < np.pi / 6 + 1e-12


def test_no_more_is_asked_than_the_box_holds():
    with pytest.raises(GsnnError, match="half its side"):
        share_of_pairs(np.array([1.0, 6.0]), 10.0, True)
    with pytest.raises(GsnnError, match="up to its side"):
        share_of_pairs(np.array([1.0, 11.0]), 10.0, False)


def test_all_estimators_agree_on_clustered_points():
    chance = np.random.default_rng(0)
    boxes = GalaxyBoxes(box=64.0, side=32)
    edges, found = np.geomspace(2, 12, 5), []
    for i in range(12):
        position = boxes.draw(np.random.default_rng(i), 0.3, 0.9, 1.2, 1500.0, 0.0).astype(float)
        random = chance.random((6000, 3)) * 64
        wide = (correlation(position, edges, 64.0, True), correlation(position, edges, 64.0, False))
        found.append([*wide, landy_szalay(position, random, edges)])
    periodic, cube, szalay = np.mean(found, 0)
    np.testing.assert_allclose(cube, periodic, rtol=0.15)
    np.testing.assert_allclose(szalay, cube, rtol=0.15)


def test_a_power_law_is_found_again():
    r = np.geomspace(1, 10, 8)
    assert power_law(r, (r / 5.6) ** -1.8, np.ones(8)) == pytest.approx((5.6, 1.8))


def test_shells_that_are_merged_hold_the_same_pairs():
    counts = np.random.default_rng(0).integers(1, 50, (4, 49)).astype(float)
    whole = merged(counts, 24)
    expected = np.log10((counts[:, :24].sum(1) + 0.5) / (counts[:, 24:48].sum(1) + 0.5))
    np.testing.assert_allclose(whole, np.stack([expected, np.log10(counts[:, 48])], 1))


@pytest.fixture(scope="module", params=[True, False], ids=["periodic", "open"])
def sky(request):
    ranges = {"points": (300.0, 400.0), "bias": (1.0, 1.0), "omega_m": (0.3, 0.3), "sigma_8": (0.4, 1.4)}
    boxes = GalaxyBoxes(boxes=160, box=64.0, side=16, periodic=request.param, **ranges)
    batch = boxes.rows(np.arange(160), 0)
    data = {name: batch[name].to_numpy() for name in ("omega_m", "sigma_8")}
    return Clouds(boxes.schema(), {"galaxies": Points.from_arrow(batch["galaxies"], 3, 0), **data})


@pytest.mark.parametrize("name", ["two-point", "two-point-boosting", "boosting"])
def test_the_lumps_of_a_universe_are_told_better_than_by_chance(sky, name):
    target = sky.schema["sigma_8"]
    spec = {"name": name, **({"iterations": 30} if "boosting" in name else {})}
    baseline = build(spec, "baseline", sky.schema.select(["galaxies"]), target)
    baseline.fit(sky.take(np.arange(100)), sky.take(np.arange(100, 120)), 0)
    test = sky.take(np.arange(120, 160))
    found, truth = baseline.predict(test)["sigma_8"].best(), test.data["sigma_8"]
    assert np.corrcoef(found, truth)[0, 1] > 0.5
    assert len(baseline.predict(test.take(np.arange(0)))["sigma_8"]) == 0
    assert baseline.describe()


def test_a_likelihood_of_pairs_covers_the_truth(sky):
    target = Schema.of([sky.schema["sigma_8"]])
    baseline = build("two-point-likelihood", "baseline", sky.schema.select(["galaxies"]), target)
    baseline.fit(sky.take(np.arange(100)), sky.take(np.arange(100, 120)), 0)
    test = sky.take(np.arange(120, 160))
    found, truth = baseline.predict(test)["sigma_8"], test.data["sigma_8"]
    assert np.corrcoef(found.best(), truth)[0, 1] > 0.5
    low, high = np.quantile(found.value, [0.05, 0.95], axis=1)
    assert ((truth > low) & (truth < high)).mean() > 0.7
    assert (high - low).mean() < 0.8  # of 1.0
    assert len(baseline.predict(test.take(np.arange(0)))["sigma_8"]) == 0
    assert "shells" in baseline.describe()
    with pytest.raises(GsnnError, match="too few"):
        baseline.fit(sky.take(np.arange(20)), sky.take(np.arange(100, 120)), 0)


@pytest.mark.parametrize("name", ["two-point", "two-point-boosting"])
def test_what_has_no_two_point_function_is_refused(name):
    target = Column("t", "scalar")
    with pytest.raises(ConfigError, match="three dimensions"):
        build(name, "baseline", Schema.of([GROUP]), target)
    open_space = Schema.of([Column("points", "graph", shape=(3,))])
    view = Clouds(open_space, {"points": Points.of([(np.zeros((3, 3)), None)] * 4), "t": np.arange(4.0)})
    with pytest.raises(GsnnError, match="does not say in what cube"):
        build(name, "baseline", open_space, target).fit(view, view, 0)
