"""Pictures of clouds of points."""

import numpy as np
import pytest

from gsnn.data.points import Points
from gsnn.data.schema import Column
from gsnn.report.clouds import SIDE, pictures

GROUP = Column("galaxies", "graph", shape=(2,), bands=("log_stellar_mass", "velocity"))
BOX = Column("galaxies", "graph", shape=(3,), box=10.0)


def test_a_point_stands_where_it_is_in_the_box():
    (made,) = pictures(Points.of([([[2.5, 7.5, 1.0]], None)]), BOX)
    y, x = np.nonzero(np.abs(made.astype(int) - made[0, 0]).sum(2) > 60)
    assert x.mean() / SIDE == pytest.approx(0.25, abs=0.01)
    assert y.mean() / SIDE == pytest.approx(0.25, abs=0.01)  # upwards


def test_a_heavy_galaxy_is_large_and_one_that_recedes_is_red():
    heavy, fast = [11.5, 0.0], [10.0, 500.0]
    points = Points.of([([[0, 0], [1, 0], [0, 1]], [heavy, fast, [10.0, -500.0]])], 2, 2)
    (made,) = pictures(points, GROUP)
    red, blue = (made[..., 0].astype(int) - made[..., 2] > 60), (made[..., 2].astype(int) - made[..., 0] > 60)
    assert np.nonzero(red)[1].mean() > np.nonzero(blue)[1].mean() + SIDE / 3
    pale = (made.min(2) > 140).sum()
    assert pale > 2 * red.sum()


def test_a_cloud_of_nothing_is_empty_space():
    made = pictures(Points.of([(np.zeros((0, 3)), None)] * 2), BOX)
    assert made.shape == (2, SIDE, SIDE, 3)
    assert (made == made[0, 0, 0]).all()
