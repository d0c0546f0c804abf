import numpy as np
import pytest

from gsnn.data import rows as row_lists
from gsnn.data.schema import Column
from gsnn.data.survey import CHECKSUM, HEALPIX, ROW, Survey, healpix
from gsnn.errors import GsnnError


@pytest.fixture
def survey(make, sky):
    return make(sky(50))


def given(sky, name, n=50):
    return next(values for column, values in sky(n).items() if column.name == name)


@pytest.mark.parametrize("rows", [[0], [7, 8, 9], [49, 0, 3, 3], []])
def test_rows_come_back_as_given_and_in_the_order_asked(survey, sky, rows):
    names = list(survey.schema)
    got = survey.take(np.array(rows, np.int64), names)
    for name in ("image", "g", "ra"):
        np.testing.assert_array_equal(got[name], np.asarray(given(sky, name))[rows].reshape(got[name].shape))
    assert got["id"].tolist() == [given(sky, "id")[i] for i in rows]
    assert got["image"].shape == (len(rows), 2, 4, 4)


def test_missing_values_are_nan_and_unknown_classes_minus_one(survey, sky):
    got = survey.view().columns(["count", "kind"])
    counts = given(sky, "count")
    assert np.isnan(got["count"]).tolist() == [v is None for v in counts]
    assert got["kind"].tolist() == [[0, 1, -1][i % 3] for i in range(50)]


def test_whole_numbers_have_one_type_with_or_without_missing_values(survey):
    assert survey.take(np.array([0]), ["count"])["count"].dtype == survey.take(np.array([3]), ["count"])["count"].dtype


def test_opened_again_it_is_the_same(survey):
    again = Survey.open(survey.path)
    assert again.schema == survey.schema
    assert again.digest == survey.digest
    assert again.verify() == []


def test_the_digest_follows_the_values(make, sky):
    one, other = sky(10), sky(10)
    other[next(c for c in other if c.name == "g")][3] += 1e-9
    assert make(one).digest == make(sky(10)).digest != make(other).digest


def test_rows_keep_their_numbers_when_a_survey_grows(survey, toy, sky):
    before = survey.view().columns(["id", "image", "g"])
    grown = survey.append(toy(sky(20, first=50)))
    assert len(grown) == 70
    after = grown.take(np.arange(50), ["id", "image", "g"])
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    np.testing.assert_array_equal(grown.take(np.arange(70), [ROW])[ROW], np.arange(70))
    assert grown.take(np.array([69]), ["id"])["id"][0] == "o69"
    assert grown.verify() == []


def test_appending_through_a_stale_survey_still_numbers_on(survey, toy, sky):
    survey.append(toy(sky(5, first=50)))
    grown = survey.append(toy(sky(5, first=55)))
    np.testing.assert_array_equal(grown.take(np.arange(60), [ROW])[ROW], np.arange(60))


def test_what_is_there_already_is_not_appended_twice(survey, toy, sky):
    grown = survey.append(toy(sky(30, first=40), {15: "no flux"}))  # o40 to o49 are known, o55 is bad
    assert len(grown) == 69
    assert len(set(grown.view().columns(["id"])["id"])) == 69
    reasons = {row["id"]: row["reason"] for row in grown.quarantined()}
    assert reasons.pop("o55") == "no flux"
    assert reasons == {f"o{40 + i}#{i}": f"the id 'o{40 + i}' stands in the survey already" for i in range(10)}
    assert grown.verify() == []
    with pytest.raises(GsnnError, match=r"none of the 50 rows can be used.*'o0' stands in the survey already"):
        grown.append(toy(sky(50)))
    assert len(Survey.open(survey.path)) == 69


def test_printed_it_is_one_line(survey):
    assert repr(survey) == f"Survey({survey.path!r}: 50 objects, 8 columns)"
    assert repr(survey.view(np.arange(3))) == f"View(3 objects of {survey.path!r})"
    assert "image: image 2x4x4, nJy; g: scalar, mag;" in repr(survey.schema)
    for value in (survey, survey.view(), survey.schema):
        assert len(repr(value)) < 300
        assert "\n" not in repr(value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: Column("g", "scalar", unit="Jy", dtype="float64") if c.name == "g" else c, "unit"),
        (lambda c: Column("h", "scalar", dtype="float64") if c.name == "g" else c, "'g' is missing"),
        (lambda c: Column("kind", "label", classes=("disk", "star")) if c.name == "kind" else c, "class 'star'"),
    ],
)
def test_data_that_do_not_fit_are_not_appended(survey, toy, sky, change, words):
    with pytest.raises(GsnnError, match=words):
        survey.append(toy({change(column): values for column, values in sky(5).items()}))
    assert len(Survey.open(survey.path)) == 50


@pytest.mark.parametrize(
    ("condition", "keep"),
    [
        ("g < 20", lambda g, r: g < 20),
        ("g < 20 and r > 19", lambda g, r: (g < 20) & (r > 19)),
        ("kind is null", lambda g, r: np.arange(len(g)) % 3 == 2),
        ("g > 1000", lambda g, r: g > 1000),
        (None, lambda g, r: np.ones(len(g), bool)),
    ],
)
def test_filters_by_sql(survey, sky, condition, keep):
    wanted = np.flatnonzero(keep(np.array(given(sky, "g")), np.array(given(sky, "r"))))
    np.testing.assert_array_equal(survey.where(condition), wanted)


@pytest.mark.parametrize("condition", ["nothing < 20", "g <", "g + 1", "__import__('os').getcwd()"])
def test_a_filter_that_makes_no_sense_is_one_sentence(survey, condition):
    with pytest.raises(GsnnError, match="cannot filter by") as caught:
        survey.where(condition)
    assert "/home/" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "_rowid" not in str(caught.value)  # a name of the store
    if "nothing" in condition:
        assert "no column 'nothing' in the data" in str(caught.value)


def test_derived_columns_are_computed_and_follow_every_order_of_rows(survey, sky):
    derived = survey.derive({"g_r": "g - r", "twice": "count * 2"})
    rows = np.array([9, 2, 40])
    got = derived.take(rows, ["id", "g_r", "twice"])
    np.testing.assert_allclose(got["g_r"], (np.array(given(sky, "g")) - np.array(given(sky, "r")))[rows])
    np.testing.assert_array_equal(got["twice"], [18, 4, 80])
    np.testing.assert_allclose(derived.take(np.arange(5), ["g_r"])["g_r"], derived.view().columns(["g_r"])["g_r"][:5])
    assert derived.schema["g_r"].kind == "scalar"
    assert derived.digest == survey.digest


@pytest.mark.parametrize(
    ("expressions", "words"),
    [
        ({"g": "r"}, "exists in the survey already"),
        (
            {"x": "g - nothing"},
            "^cannot compute x = 'g - nothing': no column 'nothing' in the data; known: count, dec, ",
        ),
        ({"x": "g - cuont"}, "no column 'cuont' in the data; did you mean 'count'"),
        ({"x": "log10(kid) + g"}, "no column 'kid' in the data; did you mean 'kind'"),
        ({"x": "id"}, "a derived column is a number"),
        ({"x": "g > 20"}, "a derived column is a number"),
    ],
)
def test_derived_columns_that_cannot_be_are_refused(survey, expressions, words):
    with pytest.raises(GsnnError, match=words):
        survey.derive(expressions)


LABELLED = [
    ("scalar", "int64", [0, 1, 1, None, 0], ("0", "1"), [0, 1, 1, -1, 0]),
    ("scalar", "float64", [0.0, 1.0, float("nan"), None, 2.5], ("0", "1", "2.5"), [0, 1, -1, -1, 2]),
    ("text", "float32", ["star", "galaxy", "", None, "star"], ("galaxy", "star"), [1, 0, -1, -1, 1]),
    ("label", "int64", ["b", "a", None, "b", "a"], ("a", "b"), [1, 0, -1, 1, 0]),
]


@pytest.mark.parametrize(("kind", "dtype", "values", "classes", "codes"), LABELLED)
def test_labels_from_numbers_and_words(make, kind, dtype, values, classes, codes):
    column = Column("y", kind, dtype=dtype, classes=classes if kind == "label" else ())
    survey = make({Column("id", "id"): [f"o{i}" for i in range(5)], column: values}).label("y")
    assert survey.schema["y"].classes == classes
    assert survey.view().columns(["y"])["y"].tolist() == codes


def test_names_for_the_values_of_a_label(make):
    survey = make({Column("id", "id"): list("abcd"), Column("y", "scalar", dtype="int64"): [0, 1, 2, 1]})
    named = survey.label("y", {"1": "pulsar", "0": "noise"})
    assert named.schema["y"].classes == ("pulsar", "noise", "2")
    assert named.view().columns(["y"])["y"].tolist() == [1, 0, 2, 0]
    merged = survey.label("y", {"1": "signal", "2": "signal", "0": "noise"})
    assert merged.schema["y"].classes == ("signal", "noise")
    assert merged.view().columns(["y"])["y"].tolist() == [1, 0, 0, 0]
    with pytest.raises(GsnnError, match="names '7', which column 'y' never holds"):
        survey.label("y", {"7": "pulsar"})


def test_a_quantity_is_no_label_and_an_image_neither(make, sky):
    survey = make(sky(150))
    with pytest.raises(GsnnError, match="150 different values"):
        survey.label("g")
    with pytest.raises(GsnnError, match="cannot be a class"):
        survey.label("image")


def test_rows_that_cannot_be_used_are_set_aside_with_their_reason(make, sky):
    survey = make(sky(20), {3: "no flux", 19: "truncated"})
    assert len(survey) == 18
    assert survey.quarantined() == [{"id": "o3", "reason": "no flux"}, {"id": "o19", "reason": "truncated"}]
    assert "o3" not in survey.view().columns(["id"])["id"]
    with pytest.raises(GsnnError, match=r"none of the 2 rows can be used.*no flux"):
        make(sky(2), {0: "no flux", 1: "no flux"})


@pytest.mark.parametrize("reserved", [ROW, CHECKSUM, HEALPIX])
def test_names_that_are_gsnns_own_are_refused(make, reserved):
    with pytest.raises(GsnnError, match="GSNN's own"):
        make({Column("id", "id"): ["a"], Column(reserved, "scalar", dtype="float64"): [1.0]})


def test_an_empty_source_is_refused(make, sky):
    with pytest.raises(GsnnError, match="no rows"):
        make(sky(3) and {Column("id", "id"): []})


def test_a_column_asked_for_in_vain_names_the_nearest(survey):
    with pytest.raises(GsnnError, match="did you mean 'image'"):
        survey.view().columns(["imag"])


def test_sky_pixels_wrap_around_and_reach_the_poles():
    ra = np.array([359.9999, -0.0001, 0.0, 360.0, 10.0, 77.0, np.nan, 1.0, 1.0])
    dec = np.array([0.5, 0.5, 0.5, 0.5, 90.0, -90.0, 0.0, np.nan, 91.0])
    pixel = healpix(ra, dec)
    assert pixel[0] == pixel[1]
    assert pixel[2] == pixel[3]
    assert (pixel[:6] >= 0).all()
    assert (pixel[:6] < 12 * 512**2).all()
    assert (pixel[6:] == -1).all()


def test_a_view_is_rows_in_an_order(survey):
    view = survey.view().take(np.array([5, 4, 9])).take(np.array([2, 0]))
    assert view.rows.tolist() == [9, 5]
    assert view.columns(["id"])["id"].tolist() == ["o9", "o5"]
    assert [len(chunk["g"]) for chunk in survey.view().chunks(["g"], 20)] == [20, 20, 10]


def test_long_lists_of_rows_are_mapped_from_a_file_and_no_different(survey, monkeypatch):
    short = survey.where("g < 20"), survey.view().rows
    monkeypatch.setattr(row_lists, "LONG", 5)
    long = survey.where("g < 20"), survey.view().rows
    for a, b in zip(short, long):
        np.testing.assert_array_equal(a, b)
        assert isinstance(b.base, np.memmap)
        assert not isinstance(a.base, np.memmap)
    codes = np.arange(50) % 3
    np.testing.assert_array_equal(row_lists.where(long[1], codes, 1), np.arange(1, 50, 3))


def test_progress_is_told_to_the_end(tmp_path, toy, sky):
    told = []
    survey = Survey.create(tmp_path / "s", toy(sky(30)), progress=lambda done, total: told.append((done, total)))
    survey.verify(lambda done, total: told.append((done, total)))
    assert told[-1] == told[0] == (30, 30)
