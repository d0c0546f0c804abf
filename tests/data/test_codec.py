import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gsnn.data import codec
from gsnn.data.schema import Column, Schema
from gsnn.data.seals import changed_files
from gsnn.data.survey import Survey
from gsnn.errors import GsnnError

SHAPES = [
    ("image", (3, 16, 16), "float32"),
    ("image", (20, 20), "float32"),
    ("spectrum", (300,), "float64"),
    ("spectrum", (2, 70), "float32"),
    ("strain", (40_000,), "float64"),
    ("field", (6, 7, 8), "float32"),
]
every = pytest.mark.parametrize(("kind", "shape", "dtype"), SHAPES)


def column(kind="image", shape=(3, 16, 16), dtype="float32", how="quantise"):
    return Column("x", kind, shape=shape, dtype=dtype, codec=how)


def noisy(shape, dtype="float32", n=4, sigma=2.5, level=40.0):
    return np.random.default_rng(3).normal(level, sigma, (n, *shape)).astype(dtype)


def folder_bytes(path):
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())


def through(values, of, rows=None):
    rows = np.arange(len(values)) if rows is None else rows
    stored = pa.array(codec.encode(values, of, rows), pa.large_binary())
    return codec.decode(stored, of), codec.steps(stored, of)


@every
def test_lossless_keeps_every_bit(kind, shape, dtype):
    bits = np.random.default_rng(0).integers(0, 256, (5, int(np.prod(shape)) * np.dtype(dtype).itemsize), np.uint8)
    values = bits.view(dtype).reshape(5, *shape)
    back, _ = through(values, column(kind, shape, dtype, "lossless"))
    assert back.shape == values.shape
    assert back.dtype == values.dtype
    assert back.tobytes() == values.tobytes()


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool"])
def test_lossless_takes_whole_numbers_too(dtype):
    values = np.random.default_rng(0).integers(0, 2, (3, 2, 5, 5)).astype(dtype)
    back, _ = through(values, column(shape=(2, 5, 5), dtype=dtype, how="lossless"))
    np.testing.assert_array_equal(back, values)


@every
@pytest.mark.parametrize("scale", [1e-21, 1.0, 1e12])
def test_quantised_values_lie_within_half_a_step(kind, shape, dtype, scale):
    values = noisy(shape, dtype) * np.dtype(dtype).type(scale)
    of = column(kind, shape, dtype)
    back, step = through(values, of)
    assert step.shape == (4, codec.tiles(of))
    assert (step > 0).all()
    np.testing.assert_allclose(step, 2.5 * scale / 16, rtol=0.5)
    error = (back.astype(float) - values).reshape(4, codec.tiles(of), -1)
    assert (np.abs(error) <= 0.501 * step[..., None] + np.finfo(dtype).eps * 60 * scale).all()
    assert np.abs(error).max() > 0.4 * step.max(), "nothing was quantised"


def test_sums_stay_and_hardly_any_noise_is_added():
    of, sigma = column(shape=(5, 64, 64)), np.array([1, 3, 0.1, 20, 5])[:, None, None]
    values = (np.random.default_rng(1).normal(size=(40, 5, 64, 64)) * sigma + 7).astype(np.float32)
    back, _ = through(values, of)
    error = (back.astype(float) - values) / sigma
    assert abs(error.mean()) < 1e-3
    assert np.abs(error.mean((0, 2, 3))).max() < 1e-3
    assert np.sqrt(1 + error.var()) - 1 < 1e-3
    constant = np.full((200, 1, 32, 32), 0.3, np.float32) + noisy((1, 32, 32), n=200, sigma=1, level=0)
    back, _ = through(constant, column(shape=(1, 32, 32)))
    assert abs((back.astype(float) - constant).mean()) < 1e-3, "faint flux is not biased"
    assert abs(np.corrcoef((back - constant).reshape(-1), constant.reshape(-1))[0, 1]) < 0.01


def test_the_store_is_several_times_smaller(make, tmp_path):
    n, shape = 64, (5, 64, 64)
    content = {Column("id", "id"): [f"o{i}" for i in range(n)], Column("x", "image", shape=shape): noisy(shape, n=n)}
    plain, small = make(content), make(content, codecs={"x": "quantise"})
    exact = make(content, codecs={"x": "lossless"})
    raw = n * int(np.prod(shape)) * 4
    assert raw / folder_bytes(small.path) >= 3.5
    assert folder_bytes(exact.path) < folder_bytes(plain.path)
    assert exact.view().columns(["x"])["x"].tobytes() == noisy(shape, n=n).tobytes()


def test_what_is_no_number_and_what_is_nothing_stay():
    values = noisy((2, 16, 16))
    values[0, 0, 3, :6] = [np.nan, np.inf, -np.inf, 0, -0.0, 5000]
    values[1] = np.nan
    values[2, 1] = 0
    values[3, 0, 2:, :] = 0
    back, step = through(values, column(shape=(2, 16, 16)))
    for special in (np.isnan, np.isposinf, np.isneginf, lambda x: x == 0):
        np.testing.assert_array_equal(special(back), special(values))
    assert (step[1] == 0).all()
    assert step[2, 1] == 0
    assert step[0, 0] > 0


@pytest.mark.parametrize(
    "make_values",
    [
        lambda: np.full((16, 16), 3.25),
        lambda: np.linspace(0, 1, 256).reshape(16, 16),
        lambda: np.zeros((16, 16)),
        lambda: np.eye(16),
        lambda: np.where(np.arange(256) % 7, 1e30, 1e-30).reshape(16, 16),
    ],
)
def test_without_noise_every_bit_is_kept(make_values):
    values = make_values().astype(np.float32)[None]
    back, step = through(values, column(shape=(16, 16)))
    assert back.tobytes() == values.tobytes()
    assert (step == 0).all()


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float32, (2, 1, 9, 9), elements=st.floats(width=32)))
def test_whatever_the_values_they_are_near_or_the_same(values):
    back, step = through(values, column(shape=(1, 9, 9)))
    finite = np.isfinite(values)
    np.testing.assert_array_equal(np.where(finite, 0, back), np.where(finite, 0, values))
    with np.errstate(all="ignore"):
        error = np.abs(back.astype(float) - values)[finite]
    bound = (0.501 * step[:, :, None, None] + np.abs(values.astype(float)) * 1e-6)[finite]
    largest = np.abs(np.where(finite, values, 0)).max((2, 3), keepdims=True).astype(float) * np.ones_like(values)
    assert (error <= bound + largest[finite] * 1e-6).all()


def test_a_bright_star_in_the_image_is_kept():
    values = noisy((1, 32, 32), sigma=1, level=0)
    values[:, 0, 16, 16] = 1e5
    back, step = through(values, column(shape=(1, 32, 32)))
    assert (np.abs(back - values) <= 0.51 * step.max()).all()


def test_rows_are_coded_alone_and_each_with_its_own_dither():
    values, of = noisy((3, 16, 16), n=6), column()
    whole = codec.encode(values, of, np.arange(6))
    assert whole[4:] == codec.encode(values[4:], of, np.arange(4, 6))
    assert codec.encode(values[:1], of, np.array([0])) != codec.encode(values[:1], of, np.array([1]))
    a, _ = through(values[[0, 0]], of, np.array([0, 1]))
    assert (a[0] != a[1]).mean() > 0.9, "the same image twice is not rounded alike"
    stored = pa.array(whole, pa.large_binary())
    np.testing.assert_array_equal(codec.decode(stored.slice(2, 3), of), codec.decode(stored, of)[2:5])


@pytest.mark.parametrize("how", ["quantise", "lossless"])
@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_tiny_objects(how, size):
    values = np.random.default_rng(0).normal(size=(3, size)).astype(np.float32)
    back, step = through(values, column("spectrum", (size,), how=how))
    assert (np.abs(back - values) <= 0.501 * step.max() + 1e-6).all()


def test_more_steps_mean_less_error():
    values = noisy((1, 64, 64))
    errors = [
        np.abs(through(values, column(shape=(1, 64, 64), how=f"quantise:{q}"))[0] - values).max() for q in (4, 64)
    ]
    assert errors[0] > 10 * errors[1]


@pytest.mark.parametrize("how", ["quantise", "lossless"])
@pytest.mark.parametrize(
    "harm", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b[:3], lambda b: b"", lambda b: b"\x07" + b[1:]]
)
def test_a_damaged_value_is_one_sentence(how, harm):
    of = column(how=how)
    blob = codec.encode(noisy((3, 16, 16), n=1), of, np.arange(1))[0]
    with pytest.raises(GsnnError, match="'x' is damaged"):
        codec.decode(pa.array([harm(blob)], pa.large_binary()), of)


# ---------------------------------------------------------------------------- in a survey


@pytest.mark.parametrize("how", ["quantise", "lossless"])
def test_a_survey_gives_plain_values_whatever_the_codec(make, toy, sky, how):
    plain, coded = make(sky(30, size=16)), make(sky(30, size=16), codecs={"image": how})
    again = Survey.open(coded.path)
    assert again.schema["image"].codec == how
    assert again.schema == plain.schema
    assert again.verify() == []
    a, b = (s.take(np.array([7, 3, 29]), ["image", "g"]) for s in (plain, again))
    assert b["image"].dtype == a["image"].dtype
    np.testing.assert_allclose(b["image"], a["image"], atol=0.05 if how == "quantise" else 0)
    np.testing.assert_array_equal(a["g"], b["g"])
    grown = coded.append(toy(sky(5, first=30, size=16)))
    assert grown.verify() == []
    assert grown.schema["image"].codec == how
    np.testing.assert_array_equal(
        grown.take(np.arange(30), ["image"])["image"], again.take(np.arange(30), ["image"])["image"]
    )


def test_a_stream_decodes_and_missing_objects_are_nan(make, tmp_path):
    from gsnn.data.stream import Stream

    images = list(noisy((1, 8, 8), n=40))

    class Gaps:
        def schema(self):
            return Schema.of([Column("id", "id"), Column("x", "image", shape=(1, 8, 8))])

        def __len__(self):
            return 40

        def rows(self, indices, seed):
            given = [None if i % 10 == 9 else images[i].reshape(-1).tolist() for i in indices]
            columns = [pa.array([f"o{i}" for i in indices]), pa.array(given, pa.list_(pa.float32(), 64))]
            return pa.RecordBatch.from_arrays(columns, schema=self.schema().arrow())

    survey = Survey.create(tmp_path / "gaps", Gaps(), codecs={"x": "quantise"})
    assert survey.verify() == []
    with Stream(survey.view(), ["x"], batch=16, scratch=tmp_path) as stream:
        for batch in stream.batches():
            for row, x in zip(batch["row"].tolist(), batch["x"].numpy()):
                if row % 10 == 9:
                    assert np.isnan(x).all()
                else:
                    np.testing.assert_allclose(x, images[row], atol=0.3)


def told(survey):
    """What verify says: rows, or a sentence."""
    try:
        return survey.verify()
    except GsnnError as error:
        return "damaged" in str(error)


@pytest.mark.parametrize("how", ["quantise", "lossless"])
def test_no_flipped_bit_goes_unseen(make, sky, how):
    survey = make(sky(40, size=16), codecs={"image": how})
    file = next(Path(survey.path).rglob("objects.lance/data/*.lance"))
    good = file.read_bytes()
    places = np.random.default_rng(5).integers(0, len(good), 40)

    def flip(place):
        harmed = bytearray(good)
        harmed[place] ^= 1 << int(place % 8)
        file.write_bytes(harmed)

    for place in places:
        flip(place)
        assert changed_files(survey.path) == [str(file.relative_to(survey.path))]
    for place in places[:2]:  # where it lies decides what is told, but something always is
        flip(place)
        assert told(survey)
    file.write_bytes(good)
    assert survey.verify() == []


@pytest.mark.parametrize("how", ["quantise", "lossless"])
def test_a_changed_value_is_found_by_its_row(make, sky, how):
    survey = make(sky(40, size=16), codecs={"image": how})
    stored = survey.arrow(np.array([7]), ["image"])["image"][0].as_py()
    table = survey.dataset.to_table()
    blobs = table["image"].to_pylist()
    blobs[7] = stored[:-1] + bytes([stored[-1] ^ 1])
    import lance

    changed = table.set_column(
        table.schema.get_field_index("image"), survey.dataset.schema.field("image"), pa.array(blobs, pa.large_binary())
    )
    lance.write_dataset(changed, f"{survey.path}/objects.lance", mode="overwrite")
    assert survey.verify() == [7]


@pytest.mark.parametrize(
    ("codecs", "words"),
    [
        ({"image": "zip"}, "no codec 'zip'"),
        ({"image": "quantize"}, "did you mean 'quantise'"),
        ({"image": "quantise:none"}, "steps of a 16th of the noise"),
        ({"image": "lossless:3"}, "no codec 'lossless:3'"),
        ({"g": "quantise"}, "'g' is a scalar"),
        ({"kind": "lossless"}, "'kind' is a label"),
        ({"imag": "lossless"}, "did you mean 'image'"),
    ],
)
def test_codecs_that_cannot_be_are_refused(make, sky, tmp_path, codecs, words):
    with pytest.raises(GsnnError, match=words):
        make(sky(5), codecs=codecs)
    assert not list(tmp_path.iterdir())


def test_whole_numbers_have_no_noise(make):
    images = np.zeros((3, 1, 4, 4), np.uint8)
    content = {Column("id", "id"): list("abc"), Column("x", "image", shape=(1, 4, 4), dtype="uint8"): images}
    with pytest.raises(GsnnError, match='use "lossless"'):
        make(content, codecs={"x": "quantise"})
    assert make(content, codecs={"x": "lossless"}).view().columns(["x"])["x"].dtype == np.uint8


def test_the_command_stores_by_codec(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from gsnn.cli import app

    monkeypatch.chdir(tmp_path)
    np.save("stamps.npy", noisy((1, 32, 32), n=30))
    done = CliRunner().invoke(app, ["ingest", "stamps.npy", "--out", "s", "--codec", "image=quantise:8"])
    assert done.exit_code == 0, done.output
    survey = Survey.open("s")
    name = next(c.name for c in survey.schema.columns if c.kind == "image")
    assert survey.schema[name].codec == "quantise:8"
    wrong = CliRunner().invoke(app, ["ingest", "stamps.npy", "--out", "t", "--codec", "image"])
    assert "--codec 'image' needs the form name=value" in str(wrong.exception)
    again = CliRunner().invoke(app, ["ingest", "stamps.npy", "--out", "s", "--append", "--codec", "image=lossless"])
    assert "leave --codec out" in str(again.exception)
    assert os.path.isdir("s")
