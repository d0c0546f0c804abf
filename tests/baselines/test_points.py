"""Numbers of clouds of points: invariant, and right where they can be reckoned by hand."""

import numpy as np
import pytest
from clouds import GROUP, Clouds

from gsnn.baselines.base import features
from gsnn.baselines.points import GRAVITY, gapper, nearest, separations, statistics
from gsnn.config import build
from gsnn.data.points import Points
from gsnn.data.schema import Column, Schema
from gsnn.errors import ConfigError, GsnnError
from gsnn.simulate.groups import Groups

BOX = Column("points", "graph", shape=(3,), box=10.0)


@pytest.fixture(scope="module")
def sky():
    groups = Groups(groups=500)
    batch = groups.rows(np.arange(500), 0)
    data = {"galaxies": Points.from_arrow(batch["galaxies"], 2, 2), "log_halo_mass": batch["log_halo_mass"].to_numpy()}
    return Clouds(groups.schema(), data)


def changed(points, place, shift):
    """The cloud of one object turned, shifted, and in another order."""
    a, b = points.offsets[place : place + 2]
    order = np.random.default_rng(0).permutation(b - a)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(points.position.shape[1],) * 2))
    return Points.of([((points.position[a:b] @ turn + shift)[order], points.feature[a:b][order])], *_sizes(points))


def _sizes(points):
    return points.position.shape[1], points.feature.shape[1]


def test_no_number_changes_when_the_cloud_is_turned_shifted_or_shuffled(sky):
    points = sky.data["galaxies"]
    for place in range(5):
        expected, names = statistics(points.take([place]), GROUP)
        found, _ = statistics(changed(points, place, 0.3), GROUP)
        assert len(names) == found.shape[1]
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_periodic_box_may_be_wrapped():
    chance = np.random.default_rng(0)
    position = chance.random((200, 3)) * 10
    one, other = (Points.of([(p, None)]) for p in (position, (position + np.array([3.0, -4.0, 8.0])) % 10))
    np.testing.assert_allclose(statistics(one, BOX)[0], statistics(other, BOX)[0], atol=1e-4)


def test_neighbours_of_random_points_are_as_far_as_chance_has_them():
    """4/3 pi n r^3 of the first neighbour is exponential: its median is ln 2."""
    position = np.random.default_rng(0).random((4000, 3)) * 10
    volume = 4 / 3 * np.pi * 4 * nearest(position, [1], 10.0) ** 3
    assert np.median(volume) == pytest.approx(np.log(2), rel=0.05)


def test_of_three_points_by_hand():
    points = Points.of([([[0, 0], [3, 0], [0, 4]], [[10, 100], [11, -200], [10, 0]])], 2, 2)
    table, names = statistics(points, GROUP)
    found = dict(zip(names, table[0]))
    assert found["log_rms"] == pytest.approx(np.log10(np.sqrt((9 + 16 + 25) / 3)))
    assert found["log_harmonic"] == pytest.approx(-np.log10((1 / 3 + 1 / 4 + 1 / 5) / 3))
    assert found["log_stellar_mass_sum"] == pytest.approx(np.log10(1.2e11))
    assert found["velocity_about_first"] == pytest.approx(np.sqrt((300**2 + 200**2) / 3))
    assert np.isnan(found["log_d4_50"])
    assert sorted(separations(points.position.astype(float))) == pytest.approx([3, 4, 5])


def test_the_virial_mass_of_a_pair_by_hand(sky):
    baseline = build("virial-mass", "baseline", Schema.of([GROUP]), sky.schema["log_halo_mass"])
    found = baseline.numbers(np.array([[0.0, 0.0], [0.5, 0.0]]), np.array([[10.0, 200.0], [10.0, -200.0]]))
    square = np.pi / 4 * 400**2  # the dispersion of two by their gap: sqrt(pi) / 2 of it
    assert found[0] == pytest.approx(np.log10(1.5 * np.pi * 2 / GRAVITY * 2 * square / (1 / 0.5)))


def test_gaps_of_normal_speeds_tell_their_dispersion():
    speeds = np.random.default_rng(0).normal(0, 300, (2000, 6))
    assert np.mean([gapper(one) for one in speeds]) == pytest.approx(300, rel=0.03)


def test_a_galaxy_that_passes_by_is_left_out(sky):
    baseline = build("virial-mass", "baseline", Schema.of([GROUP]), sky.schema["log_halo_mass"])
    chance = np.random.default_rng(0)
    position, speed = chance.normal(0, 0.2, (20, 2)), chance.normal(0, 200, 20)
    one = baseline.numbers(position, np.stack([np.full(20, 10.0), speed], 1))
    far = np.stack([np.full(21, 10.0), np.append(speed, 1400.0)], 1)
    assert baseline.numbers(np.concatenate([position, [[0.3, 0.1]]]), far) == pytest.approx(one)


@pytest.mark.parametrize("name", ["stellar-mass", "virial-mass", "linear", "boosting", "group-boosting"])
def test_masses_of_groups_are_told_better_than_by_chance(sky, name):
    inputs, target = Schema.of([GROUP]), sky.schema["log_halo_mass"]
    baseline = build({"name": name, **({"iterations": 40} if "boosting" in name else {})}, "baseline", inputs, target)
    baseline.fit(sky.take(np.arange(350)), sky.take(np.arange(350, 420)), 0)
    test = sky.take(np.arange(420, 500))
    prediction = baseline.predict(test)["log_halo_mass"]
    truth = test.data["log_halo_mass"]
    assert np.std(prediction.best() - truth) < 0.95 * np.std(truth)
    assert len(baseline.predict(test.take(np.arange(0)))["log_halo_mass"]) == 0
    assert baseline.describe()


def test_who_is_near_and_slow_is_counted(sky):
    baseline = build("group-boosting", "baseline", Schema.of([GROUP]), sky.schema["log_halo_mass"])
    position = np.array([[0.0, 0.0], [0.1, 0.0], [0.2, 0.0], [0.9, 0.0]])
    feature = np.array([[11.0, 100.0], [10.0, 300.0], [10.0, 1000.0], [10.0, 100.0]])
    found = baseline.numbers(position, feature)
    assert len(found) == 33
    assert found[0] == 2  # within 0.15 Mpc and 250 km/s
    assert found[16] == 2  # within 0.6 Mpc and 900 km/s
    assert found[17] == pytest.approx(np.log10(1e11 + 1e10))
    assert found[-4:-1] == pytest.approx([0.1, 0.2, 0.9])
    alone = baseline.numbers(position[:1], feature[:1])
    assert alone[0] == 1
    assert np.isnan(alone[-1])


def test_clouds_are_read_in_chunks(sky):
    matrix, names = features(sky, Schema.of([GROUP]))
    assert matrix.shape == (500, len(names))
    np.testing.assert_array_equal(matrix[100:110], features(sky.take(np.arange(100, 110)), Schema.of([GROUP]))[0])
    assert names[0] == "galaxies.log_points"


@pytest.mark.parametrize("name", ["stellar-mass", "virial-mass", "group-boosting"])
def test_what_is_no_group_is_refused(sky, name):
    with pytest.raises(ConfigError, match="a group of galaxies is one graph"):
        build(name, "baseline", Schema.of([BOX]), sky.schema["log_halo_mass"])
    with pytest.raises(GsnnError, match="label" if name != "group-boosting" else "class"):
        build(name, "baseline", Schema.of([GROUP]), Column("t", "label", classes=("a",)))
