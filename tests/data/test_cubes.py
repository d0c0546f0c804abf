"""Cubes of a redshift survey: of one that is random everywhere, what comes out is random in a cube."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from gsnn.baselines.two_point import correlation
from gsnn.config import build
from gsnn.data.points import Points
from gsnn.data.source import Source
from gsnn.errors import GsnnError
from gsnn.simulate.cosmology import comoving_distance_mpc

FAR = 300.0  # Mpc/h


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """The northern sky, filled evenly to 300 Mpc/h."""
    chance, n = np.random.default_rng(0), 60_000
    sight = chance.normal(size=(n, 3))
    sight /= np.linalg.norm(sight, axis=1, keepdims=True)
    sight[:, 2] = np.abs(sight[:, 2])
    comoving = torch.from_numpy(FAR * np.cbrt(chance.random(n)) / 0.7)
    z = torch.linspace(1e-4, 0.12, 4000, dtype=torch.float64)
    z = np.interp(comoving.numpy(), comoving_distance_mpc(z).numpy(), z.numpy())
    ra, dec = np.degrees(np.arctan2(sight[:, 1], sight[:, 0])) % 360, np.degrees(np.arcsin(sight[:, 2]))
    path = tmp_path_factory.mktemp("sky") / "galaxies.parquet"
    pq.write_table(pa.table({"id": np.arange(n).astype(str), "ra": ra, "dec": dec, "z": z}), path)
    return str(path)


def test_cubes_lie_in_the_survey_and_apart(catalogue):
    cubes = build({"name": "sky-cubes", "path": catalogue, "box": 80.0, "points": 1e9, "farthest": FAR}, "source")
    assert isinstance(cubes, Source)
    assert len(cubes) > 8
    batch = cubes.rows(np.arange(len(cubes)))
    assert min(batch["dec"].to_pylist()) > 5
    assert min(batch["covered"].to_pylist()) >= 0.9
    points = Points.from_arrow(batch["galaxies"], 3, 0)
    assert points.faults(80.0) == [None] * len(cubes)
    whole = 60_000 / (2 / 3 * np.pi * FAR**3)  # per volume of the half ball
    full = np.array(batch["covered"].to_pylist()) > 0.999
    density = np.array(batch["density"].to_pylist())[full]
    assert density.mean() == pytest.approx(whole, rel=0.05)


def test_what_is_random_on_the_sky_is_random_in_the_cubes(catalogue):
    cubes = build({"name": "sky-cubes", "path": catalogue, "box": 80.0, "points": 1e9, "farthest": FAR}, "source")
    batch = cubes.rows(np.arange(len(cubes)))
    full = np.flatnonzero(np.array(batch["covered"].to_pylist()) > 0.999)
    points = Points.from_arrow(batch["galaxies"], 3, 0).take(full)
    edges = np.array([5.0, 15.0, 30.0])
    found = [correlation(points.take([i]).position.astype(float), edges, 80.0, False) for i in range(len(points))]
    assert np.abs(np.mean(found, 0)).max() < 0.03


def test_thinning_is_by_chance_and_repeats(catalogue):
    spec = {"name": "sky-cubes", "path": catalogue, "box": 80.0, "farthest": FAR}
    whole = Points.from_arrow(build({**spec, "points": 1e9}, "source").rows(np.arange(2))["galaxies"], 3, 0)
    thin = build({**spec, "points": 100.0}, "source")
    few = Points.from_arrow(thin.rows(np.arange(2))["galaxies"], 3, 0)
    assert few.lengths == pytest.approx([100, 100], rel=0.4)
    assert set(map(tuple, few.position)) < set(map(tuple, whole.position))
    again = Points.from_arrow(thin.rows(np.array([1]))["galaxies"], 3, 0)
    np.testing.assert_array_equal(again.position, few.take([1]).position)


def test_a_survey_without_room_for_a_cube_says_so(catalogue):
    with pytest.raises(GsnnError, match="no cube of 250 Mpc/h"):
        build({"name": "sky-cubes", "path": catalogue, "box": 250.0}, "source")
    with pytest.raises(GsnnError, match="no column 'zed'"):
        build({"name": "sky-cubes", "path": catalogue, "redshift": "zed"}, "source")
