"""Light curves from the survey to the batch: nothing lost, nothing moved, little padding."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch

from gsnn.config import build
from gsnn.data import duplicates
from gsnn.data.audit import audit
from gsnn.data.light_curves import ARROW, LightCurves
from gsnn.data.order import bucketed
from gsnn.data.schema import Column, Schema
from gsnn.data.split import SplitSettings, split
from gsnn.data.stream import Stream
from gsnn.data.survey import Survey
from gsnn.data.transforms import Transforms
from gsnn.errors import ConfigError
from gsnn.steps.data import batch_of

LC = Column("lc", "light_curve", unit="nJy", bands=("g", "r", "i"), time_unit="d", epoch="MJD 0")


def some(n, seed=0, longest=40):
    random = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        steps = int(random.integers(1, longest + 1))
        time = 56000 + np.sort(random.uniform(0, 200, steps))
        out.append((time, random.normal(10, 5, steps), random.uniform(0.5, 2, steps), random.integers(0, 3, steps)))
    return LightCurves.of(out)


def content(n, seed=0):
    return {
        Column("id", "id"): [f"o{k}" for k in range(n)],
        LC: some(n, seed),
        Column("z", "scalar", dtype="float64"): np.linspace(0, 1, n).tolist(),
        Column("kind", "label", classes=("a", "b"), dtype="int64"): ["a", "b"] * (n // 2) + ["a"] * (n % 2),
    }


def equal(a, b):
    np.testing.assert_array_equal(a.offsets, b.offsets)
    for name in ("time", "flux", "flux_error", "band"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_observations_are_sorted_and_those_without_flux_are_none():
    (curve,) = LightCurves.of([([3.0, 1.0, 2.0], [1.0, np.nan, 5.0], [1, 1, 1], [0, 1, 1])])
    np.testing.assert_array_equal(curve.time, [2, 3])
    np.testing.assert_array_equal(curve.flux, [5, 1])
    np.testing.assert_array_equal(curve.band, [1, 0])


def test_arrow_and_back_also_in_pieces_and_with_missing_objects():
    curves = some(20)
    column = curves.to_arrow()
    assert column.type == ARROW
    equal(LightCurves.from_arrow(column), curves)
    equal(LightCurves.from_arrow(pa.chunked_array([column[:7], column[7:]])), curves)
    equal(LightCurves.from_arrow(column.slice(5, 9)), curves.take(np.arange(5, 14)))
    holed = LightCurves.from_arrow(pa.array([None, *column[:2].to_pylist()], ARROW))
    assert holed.lengths.tolist() == [0, *curves.lengths[:2]]


def test_take_where_and_concatenate_agree_with_lists():
    curves = some(15)
    places = np.array([3, 3, 14, 0])
    for got, place in zip(curves.take(places), places):
        np.testing.assert_array_equal(got.flux, curves[int(place)].flux)
    bright = curves.where(curves.flux > 10)
    for got, whole in zip(bright, curves):
        np.testing.assert_array_equal(got.time, whole.time[whole.flux > 10])
    equal(LightCurves.concatenate([curves.take(range(4)), curves.take(range(4, 15))]), curves)


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        (([], [], [], []), "no observation"),
        (([1.0, 1.0], [1, 1], [1, 1], [0, 0]), "the same time"),
        (([1.0, 2.0], [1, 1], [1, 0], [0, 0]), "not positive"),
        (([1.0, 2.0], [1, 1], [1, np.nan], [0, 0]), "not positive"),
        (([1.0, np.inf], [1, 1], [1, 1], [0, 0]), "time is not a number"),
        (([1.0, 2.0], [1, 1], [1, 1], [0, 7]), "band that the survey does not have"),
    ],
)
def test_each_fault_is_named_and_the_others_are_well(curve, reason):
    good = ([1.0, 1.0, 2.0], [1, 2, 3], [1, 1, 1], [0, 1, 0])
    reasons = LightCurves.of([good, curve, good]).faults(3)
    assert reasons[0] is None
    assert reasons[2] is None
    assert reason in reasons[1]


def test_times_out_of_order_are_a_fault():
    curves = LightCurves(np.array([2.0, 1.0]), *(np.ones(2, np.float32),) * 2, np.zeros(2, np.uint8), np.array([0, 2]))
    assert "not in order" in curves.faults(1)[0]


def test_a_survey_gives_back_what_it_was_given_and_notices_a_change(make, tmp_path):
    survey = Survey.open(make(content(50)).path)
    equal(survey.view().columns(["lc"])["lc"], some(50))
    rows = np.array([40, 2, 2, 17])
    equal(survey.take(rows, ["lc"])["lc"], some(50).take(rows))
    np.testing.assert_array_equal(survey.lengths(rows, "lc"), some(50).lengths[rows])
    assert survey.schema["lc"] == LC
    assert survey.verify() == []
    other = content(50)
    other[LC].flux[13] += 1
    assert make(other).digest != survey.digest


@pytest.mark.parametrize("batch", [4, 13, 100])
@pytest.mark.parametrize("start", [0, 5, 26])
def test_buckets_are_a_permutation_whose_batches_are_equally_long(batch, start):
    lengths = np.random.default_rng(1).integers(1, 100, 90)
    places = bucketed(lengths, start, batch, seed=3, epoch=1)
    np.testing.assert_array_equal(np.sort(places), np.arange(90))
    edges = [0, *range(-start % batch, 90, batch), 90]
    spans = sorted((lengths[places[a:b]].min(), lengths[places[a:b]].max()) for a, b in pairwise(edges) if b > a)
    assert all(one[1] <= 1.15 * two[0] + 1 for one, two in pairwise(spans))
    assert (places != bucketed(lengths, start, batch, seed=3, epoch=2)).any() or batch == 100


@pytest.fixture
def view(make):
    return make(content(203)).view(np.arange(200)[::-1].copy())


def stream_of(view, folder, windowed=False, **settings):
    room = {"scratch_bytes": 2 * 3 * 16 * 17 * 22} if windowed else {}
    return Stream(view, ["lc", "z", "kind"], scratch=folder, **{"batch": 13, "seed": 5, **room, **settings})


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_holds_every_light_curve_once(view, tmp_path, windowed, shuffle, monkeypatch):
    monkeypatch.setattr("gsnn.data.stream._BLOCK", 16)
    with stream_of(view, tmp_path, windowed, shuffle=shuffle) as stream:
        assert (stream.order(0).windows > 2) == windowed
        for epoch in (0, 1):
            steps = range(epoch * len(stream), (epoch + 1) * len(stream))
            batches = list(stream.batches(steps[0], steps[-1] + 1))
            assert sorted(torch.cat([b["row"] for b in batches]).tolist()) == list(range(200))
            for step, batch in zip(steps, batches):
                np.testing.assert_array_equal(stream.rows(step), batch["row"])
                truth = view.survey.take(batch["row"].numpy(), ["lc"])["lc"].padded()
                for part, values in truth.items():
                    np.testing.assert_array_equal(batch[f"lc.{part}"].numpy(), values)
            if not shuffle:
                assert torch.cat([b["row"] for b in batches]).tolist() == view.rows.tolist()


def test_batches_have_the_types_of_the_contract(view, tmp_path):
    with stream_of(view, tmp_path) as stream:
        batch = next(stream.batches())
    steps = batch["lc.time"].shape[1]
    assert set(batch) == {*Schema.of([LC]).tensors, "z", "kind", "row"}
    for part, dtype in {"time": torch.float32, "flux": torch.float32, "band": torch.int64, "valid": torch.bool}.items():
        assert batch[f"lc.{part}"].shape == (13, steps)
        assert batch[f"lc.{part}"].dtype == dtype
    assert (batch["lc.time"][:, 0] == 0).all()
    assert batch["lc.valid"].any(0).all(), "padded beyond the longest"


def test_resuming_and_other_ranks_give_the_same_batches(view, tmp_path, monkeypatch):
    monkeypatch.setattr("gsnn.data.stream._BLOCK", 16)
    with stream_of(view, tmp_path / "a", True) as stream:
        whole = [batch["row"].tolist() for batch in stream.batches(0, 2 * len(stream))]
    with stream_of(view, tmp_path / "b", True) as stream:
        assert [batch["row"].tolist() for batch in stream.batches(11, 20)] == whole[11:20]
    shares = []
    for rank in range(3):
        with stream_of(view, tmp_path / f"c{rank}", True, rank=rank, ranks=3) as stream:
            shares.append([batch["row"].tolist() for batch in stream.batches(0, 20)])
    for step in range(20):
        assert sorted(row for share in shares for row in share[step]) == sorted(whole[step])


def test_padding_wastes_less_than_a_tenth(make, tmp_path):
    n, random = 4000, np.random.default_rng(0)
    lengths = np.maximum(random.lognormal(3, 0.7, n).astype(int), 1)  # half below 20, some of several hundred
    columns = [np.concatenate([np.sort(random.uniform(0, 100, k)) for k in lengths]), *np.ones((2, lengths.sum()))]
    curves = LightCurves(
        columns[0], *(c.astype(np.float32) for c in columns[1:]), np.zeros(lengths.sum(), np.uint8),
        np.concatenate([[0], np.cumsum(lengths)]),
    )  # fmt: skip
    survey = make({Column("id", "id"): [str(k) for k in range(n)], LC: curves})

    def waste(shuffle):
        with Stream(survey.view(), ["lc"], batch=32, scratch=tmp_path, shuffle=shuffle) as stream:
            return sum(b["lc.valid"].numel() for b in stream.batches()) / lengths.sum() - 1

    assert waste(shuffle=True) < 0.1 < waste(shuffle=False)


def test_a_batch_from_a_small_view_is_that_of_the_stream(view, tmp_path):
    with stream_of(view, tmp_path, shuffle=False) as stream:
        streamed = next(stream.batches())
    small = batch_of(view.take(np.arange(13)), ["lc", "z", "kind"])
    assert set(small) == set(streamed)
    for name in small:
        np.testing.assert_array_equal(small[name].numpy(), streamed[name].numpy())


UNITS = [
    {},
    {"stretch": "linear"},
    {"centre": "band"},
    {"centre": "object", "stretch": "linear"},
    {"time_scale": 10.0},
]


@pytest.mark.parametrize("settings", UNITS)
def test_network_units_are_of_order_one_and_padding_changes_nothing(view, settings):
    schema = view.schema.select(["lc"])
    transforms = Transforms(schema, {"lc": {"name": "light-curve", **settings}})
    transforms.fit(view)
    batch = batch_of(view.take(np.arange(40)), ["lc"])
    out = transforms(batch)
    valid = out["lc.valid"]
    assert 0.2 < float(out["lc.flux"][valid].std()) < 3
    assert float(out["lc.time"].max()) < 5 or "time_scale" in settings
    longer = {n: torch.nn.functional.pad(v, (0, 5)) if n.startswith("lc.") else v for n, v in batch.items()}
    for name, values in transforms(longer).items():
        if name.startswith("lc."):
            torch.testing.assert_close(values[:, : valid.shape[1]], out[name])
            assert not values[:, valid.shape[1] :].any()


def test_centring_takes_an_objects_mean_away_band_by_band(view):
    transform = build({"name": "light-curve", "centre": "object", "stretch": "linear"}, "transform", 3)
    curves = view.columns(["lc"])["lc"]
    transform.fit(curves)
    moved = LightCurves(
        curves.time, curves.flux + 50 * (1 + curves.band), *(curves.flux_error, curves.band, curves.offsets)
    )
    one, two = (transform({k: torch.tensor(v) for k, v in c.padded().items()})["flux"] for c in (curves, moved))
    torch.testing.assert_close(one, two, atol=2e-4, rtol=1e-3)


def test_the_error_follows_the_slope_of_the_stretch(view):
    transform = build("light-curve", "transform", 3)
    transform.fit(view.columns(["lc"])["lc"])
    parts = {k: torch.tensor(v) for k, v in view.columns(["lc"])["lc"].padded().items()}
    tiny = {**parts, "flux_error": parts["flux_error"] * 1e-3}
    shifted = {**tiny, "flux": tiny["flux"] + tiny["flux_error"]}
    moved = (transform(shifted)["flux"] - transform(tiny)["flux"])[parts["valid"]]
    torch.testing.assert_close(moved, transform(tiny)["flux_error"][parts["valid"]], atol=2e-6, rtol=2e-2)


def test_a_transform_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="does not act on a light_curve"):
        Transforms(Schema.of([LC]), {"lc": "asinh"})
    with pytest.raises(ConfigError, match="does not act on a series"):
        Transforms(Schema.of([Column("flux", "series", shape=(1, 8))]), {"flux": "light-curve"})


def test_the_audit_looks_at_light_curves(make):
    told = content(80)
    told[LC] = some(80).take([*range(79), 0])  # the last object is the first again
    survey = make(told)
    parts = split(survey, SplitSettings(fractions=(0.5, 0.25, 0.25)), np.arange(80))
    found = audit(survey, parts, ["lc"], ["kind"])
    said = {f["check"]: f for f in found["findings"]}
    assert said["exact duplicates"]["level"] in ("warn", "fail")
    assert said["missing values"]["level"] == "ok"
    assert len(set(duplicates.digests({"lc": some(80)}, ["lc"]).tolist())) == 80
