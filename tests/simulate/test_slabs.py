"""Slabs of the cosmic web: the same matter from three sides, and the same map however it is asked for."""

import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.source import Source
from gsnn.errors import ConfigError
from gsnn.simulate.mesh import lattice, paint
from gsnn.simulate.slabs import Slabs

SMALL = {"universes": 3, "side": 16, "box": 32.0, "depth": 8.0, "steps": 3, "refine": 1}


def maps(batch):
    return np.asarray(batch["density"].flatten()).reshape(len(batch), 16, 16)


def test_slabs_are_a_source_of_three_views_of_each_box():
    made = build({"name": "slabs", **SMALL}, "source")
    assert isinstance(made, Source)
    assert len(made) == 3 * 12
    batch = made.rows(np.arange(24), 0)
    density = maps(batch)
    assert density.min() >= 0
    for axis in range(3):  # every view holds all the matter of its box
        np.testing.assert_allclose(density[4 * axis : 4 * axis + 4].mean(), 1, rtol=1e-5)
    assert np.asarray(batch["universe"]).tolist() == [0] * 12 + [1] * 12
    assert len(set(np.asarray(batch["omega_m"])[:12])) == 1
    assert np.asarray(batch["omega_m"])[0] != np.asarray(batch["omega_m"])[12]


def test_a_slab_is_the_mean_density_along_its_depth():
    made = Slabs(**SMALL)
    row = torch.tensor([1])
    moved = made.nbody.moved(**made.nbody.parameters(row, 0), rows=row, seed=0)
    density = 1 + paint(lattice(16, 32.0) + moved, 16, 32.0)[0]
    found = maps(made.rows(np.arange(12, 24), 0))
    np.testing.assert_allclose(found[1], density[4:8].mean(0), rtol=1e-5)
    np.testing.assert_allclose(found[4 + 2], density[:, 8:12].mean(1), rtol=1e-5)
    np.testing.assert_allclose(found[8 + 3], density[:, :, 12:].mean(2), rtol=1e-5)


def test_a_map_does_not_depend_on_how_it_is_asked_for():
    made = Slabs(**SMALL)
    whole = made.rows(np.arange(36), 5)
    some = np.array([30, 2, 14, 2])
    assert made.rows(some, 5).equals(whole.take(some))
    assert not np.array_equal(maps(made.rows(np.arange(1), 6)), maps(whole)[:1])
    with pytest.raises(IndexError):
        made.rows(np.array([36]), 0)


def test_more_clustered_universes_have_more_contrast():
    universes = (Slabs(**SMALL | {"sigma_8": (s, s), "omega_m": (0.3, 0.3)}) for s in (0.5, 1.0))
    low, high = (maps(made.rows(np.arange(36), 0)) for made in universes)
    assert high.std() > 1.3 * low.std()


@pytest.mark.parametrize(
    ("changed", "match"),
    [({"depth": 7.0}, "no whole slabs"), ({"depth": 0.0}, "no whole slabs"), ({"side": 5}, "side"),
     ({"universes": 0}, "at least one"), ({"sigma_8": (1.0, 0.5)}, "does not fall")],
)  # fmt: skip
def test_what_cannot_be_is_refused(changed, match):
    with pytest.raises(ConfigError, match=match):
        Slabs(**SMALL | changed)
