"""Clouds of points from a source to the batch of a network."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from gsnn.data.batch import tensors
from gsnn.data.points import Points
from gsnn.data.schema import Column, Schema
from gsnn.data.source import within
from gsnn.data.stream import Stream
from gsnn.data.survey import Survey
from gsnn.data.transforms import Transforms
from gsnn.describe import describe
from gsnn.errors import ConfigError, GsnnError

COLUMN = Column("points", "graph", unit="Mpc", shape=(3,), bands=("mass", "colour"), box=10.0)
BARE = Column("bare", "graph", shape=(2,))


class Clouds:
    """50 objects; the i-th has 3 + i % 7 points in a box, and as many less one in a plane."""

    def schema(self):
        return Schema.of([Column("id", "id"), COLUMN, BARE, Column("y", "scalar")])

    def __len__(self):
        return 50

    def made(self, indices):
        chance = [np.random.default_rng(i) for i in indices]
        n = [3 + i % 7 for i in indices]
        points = Points.of([(c.random((k, 3)) * 10, c.normal(5, 2, (k, 2))) for c, k in zip(chance, n)], 3, 2)
        return points, Points.of([(c.random((k - 1, 2)), None) for c, k in zip(chance, n)], 2)

    def rows(self, indices, seed):
        indices = within(indices, 50)
        points, bare = self.made(indices.tolist())
        columns = [pa.array([f"c{i}" for i in indices]), points.to_arrow(), bare.to_arrow()]
        schema = self.schema().arrow()
        return pa.RecordBatch.from_arrays([*columns, pa.array(indices.astype(np.float32))], schema=schema)


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return Survey.create(tmp_path_factory.mktemp("clouds") / "sky", Clouds())


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("position", "feature", "offsets"))


def test_what_is_stored_comes_back(survey):
    back = Survey.open(survey.path)
    assert back.schema["points"] == COLUMN
    places = np.array([7, 3, 3, 40])
    read = back.view(places).columns(["points", "bare"])
    points, bare = Clouds().made(places)
    assert same(read["points"], points)
    assert same(read["bare"], bare)
    assert back.lengths(places, "points").tolist() == points.lengths.tolist()
    assert back.lengths(places, "bare").tolist() == bare.lengths.tolist()
    assert back.verify() == []


def test_one_changed_coordinate_changes_the_checksum_of_its_row_alone():
    from gsnn.data.values import checksums

    batch = Clouds().rows(np.arange(5), 0)
    points = Clouds().made(range(5))[0]
    points.position[-1, 2] += 1e-3
    other = batch.set_column(1, "points", points.to_arrow())
    assert (checksums(batch, ["points"]) == checksums(other, ["points"])).tolist() == [True] * 4 + [False]


@pytest.mark.parametrize("scratch", [8 << 30, 4000], ids=["whole", "windows"])
def test_a_stream_gives_every_cloud_padded(survey, scratch):
    with Stream(survey.view(), ["points", "bare", "y"], batch=8, scratch_bytes=scratch) as stream:
        batches = list(stream.batches())
    assert sorted(i for b in batches for i in b["row"].tolist()) == list(range(50))
    for batch in batches:
        points, bare = Clouds().made(batch["y"].long().tolist())
        for name, value in (("points", points), ("bare", bare)):
            expected = tensors({name: value}, batch["row"].numpy())
            for part in Clouds().schema()[name].tensors:
                torch.testing.assert_close(batch[part], expected[part], rtol=0, atol=0)
    assert "bare.feature" not in batches[0]


def test_features_are_standardised_and_positions_are_left(survey):
    inputs = survey.schema.select(["points", "bare"])
    transforms = Transforms(inputs)
    transforms.fit(survey.view())
    batch = tensors(survey.view().columns(["points", "bare"]), np.arange(50))
    out = transforms(batch)
    inside = out["points.feature"][out["points.valid"]]
    torch.testing.assert_close(inside.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(inside.std(0, correction=0), torch.ones(2), atol=1e-5, rtol=0)
    assert (out["points.feature"][~out["points.valid"]] == 0).all()
    assert torch.equal(out["points.position"], batch["points.position"])
    for wrong in ("standardise", "light-curve"):
        with pytest.raises(ConfigError, match="does not act on a graph"):
            Transforms(inputs, {"points": wrong})


def test_a_survey_tells_how_many_points_there_are(survey):
    told = describe(survey, survey.view().rows)
    assert "3 to 9 points, median 6, in a periodic box of 10" in told, told


def test_pieces_are_taken_and_joined():
    points, _ = Clouds().made(range(6))
    assert same(Points.concatenate([points.take([0, 1, 2]), points.take([3, 4, 5])]), points)
    few = points.where(points.feature[:, 0] > 5)
    assert (few.feature[:, 0] > 5).all()
    assert few.lengths.sum() == (points.feature[:, 0] > 5).sum()


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [("position", np.nan, "not a number"), ("feature", np.inf, "not a number"), ("position", 11.0, "outside the box")],
)
def test_clouds_that_cannot_be_used_say_why(place, value, reason):
    points, _ = Clouds().made(range(4))
    getattr(points, place)[points.offsets[2], 0] = value
    found = points.faults(10.0)
    assert reason in found[2]
    assert [found[i] for i in (0, 1, 3)] == [None] * 3
    assert points.take(np.arange(0)).faults() == []
    assert Points.of([(np.empty((0, 3)), None)]).faults() == ["the cloud has no point"]


def test_a_survey_sets_them_aside(tmp_path):
    class Broken(Clouds):
        def made(self, indices):
            points, bare = super().made(indices)
            points.position[points.object == list(indices).index(3) if 3 in indices else -1, 0] = 11.0
            return points, bare

    survey = Survey.create(tmp_path / "sky", Broken())
    assert len(survey) == 49
    assert survey.quarantined() == [{"id": "c3", "reason": "a point lies outside the box of 10"}]


@pytest.mark.parametrize("change", [{"shape": ()}, {"shape": (4,)}, {"shape": (3,), "box": 0.0}])
def test_a_graph_that_cannot_be_is_refused(change):
    with pytest.raises(GsnnError, match="a graph has the shape"):
        Column("points", "graph", **change)


def test_another_box_is_another_schema():
    other = Column("points", "graph", unit="Mpc", shape=(3,), bands=("mass", "colour"), box=20.0)
    assert "box" in Schema.of([COLUMN]).difference(Schema.of([other]))
