"""Each check is shown a survey with its fault, and one without: it must name the first and pass the second."""

import json

import numpy as np
import pytest

from gsnn.data.audit import audit
from gsnn.data.schema import Column
from gsnn.data.split import Split, SplitSettings, split

N = 600
ID = Column("id", "id")
IMAGE = Column("image", "image", unit="nJy", bands=("g", "r"), shape=(2, 32, 32))
KIND = Column("kind", "label", classes=("disk", "smooth"), dtype="int64")
Z = Column("z", "scalar", dtype="float64")
SCALARS = [Column(name, "scalar", unit="mag", dtype="float64") for name in ("g", "r", "i")]


def galaxies(n, chance, noise=1.0):
    """Round blobs of two concentrations on noisy sky: [n, 2, 32, 32], and which is which."""
    y, x = np.mgrid[:32, :32] - 15.5
    kind, size = chance.integers(0, 2, n), chance.uniform(2, 5, n)[:, None, None]
    radius = np.sqrt((x + chance.normal(0, 0.7, (n, 1, 1))) ** 2 + (y + chance.normal(0, 0.7, (n, 1, 1))) ** 2)
    light = np.where(kind[:, None, None] > 0, np.exp(-((radius / size) ** 2)), np.exp(-radius / size))
    flux = chance.uniform(8, 20, (n, 2, 1, 1))
    return (flux * light[:, None] + chance.normal(0, noise, (n, 2, 32, 32))).astype(np.float32), kind


@pytest.fixture
def clean():
    """The columns of a survey in which there is nothing to find."""
    chance = np.random.default_rng(0)
    pixels, kind = galaxies(N, chance)
    magnitudes = chance.normal(20, 1, (3, N)) + 0.3 * kind
    return {
        ID: [f"o{i}" for i in range(N)],
        IMAGE: pixels,
        **{column: values.tolist() for column, values in zip(SCALARS, magnitudes)},
        KIND: [KIND.classes[k] for k in kind],
        Z: (0.2 * (magnitudes[0] - magnitudes[1]) + chance.normal(0, 0.1, N)).tolist(),
    }


INPUTS = ["image", "g", "r", "i"]


def look(make, content, inputs=INPUTS, targets=("kind",), parts=None, bad=None, **settings):
    survey = make(content, bad)
    parts = split(survey, SplitSettings(by="identity")) if parts is None else parts
    found = audit(survey, parts, list(inputs), list(targets), **settings)
    json.dumps(found, allow_nan=False)
    return found


def levels(found):
    """{check: worst level}."""
    order = ["ok", "warn", "fail"]
    return {
        check: max((f["level"] for f in found["findings"] if f["check"] == check), key=order.index)
        for check in {f["check"] for f in found["findings"]}
    }


def told(found, check):
    return " ".join(f["sentence"] for f in found["findings"] if f["check"] == check and f["level"] != "ok")


def changed(content, name, function):
    """The content with the values of one column (as an array) changed."""
    return {
        column: (
            function(np.array(values, dtype=None if column.kind == "image" else object))
            if column.name == name
            else values
        )
        for column, values in content.items()
    }


def named(column, content):
    return next(values for c, values in content.items() if c.name == column)


def in_parts(train, valid, test):
    return Split("identity", (0.7, 0.15, 0.15), *(np.asarray(rows, np.int64) for rows in (train, valid, test)))


@pytest.mark.parametrize("targets", [["kind"], ["z"], ["kind", "z"]])
def test_a_clean_survey_raises_nothing(make, clean, targets):
    found = look(make, clean, targets=targets)
    assert {f["level"] for f in found["findings"]} == {"ok"}, [f for f in found["findings"] if f["level"] != "ok"]
    assert found["leakage"]["passed"]
    assert found["quarantined"] == 0
    assert set(found["missing"].values()) == {0.0}
    assert found["counts"]["objects"] == N == sum(found["counts"][part] for part in ("train", "valid", "test"))
    if "kind" in targets:
        assert sum(n for counts in found["classes"].values() for n in counts.values()) == N


def test_columns_are_described_in_numbers(make, clean):
    columns = {c["name"]: c for c in look(make, clean, by=["z"])["columns"]}
    assert list(columns) == [*INPUTS, "kind", "z"]
    for name in ("g", "image", "z"):
        values = np.asarray(named(name, clean), float)
        for key, function in (("mean", np.mean), ("std", np.std), ("min", np.min), ("max", np.max)):
            assert columns[name][key] == pytest.approx(function(values), rel=1e-4), (name, key)
    assert (columns["g"]["unit"], columns["image"]["kind"]) == ("mag", "image")
    assert columns["kind"]["mean"] is None


def put(value, *places):
    def change(values):
        values[list(places)] = value
        return values

    return change


def holes(values):
    values[:30, 0, 5, 5] = np.nan
    values[7, 1] = np.inf
    return values


def one_blank(values):
    values[5] = 3.0
    return values


def dead_band(values):
    values[:, 1] = 0.0
    return values


FAULTS = [
    ("g", put(None, *range(60)), "missing values", "warn", "10.0% of g"),
    ("g", put(float("inf"), 3), "missing values", "warn", "of g"),
    ("g", put(None, *range(400)), "missing values", "fail", "66.7% of g"),
    ("kind", put(None, *range(60)), "missing values", "warn", "10.0% of kind"),
    ("image", holes, "missing values", "warn", "of image"),
    ("r", put(17.0, *range(N)), "constant columns", "warn", "without information: r"),
    ("image", dead_band, "constant columns", "warn", "band 2 of image"),
    ("image", one_blank, "blank images", "warn", "1 of 600 objects have a constant image"),
    ("i", put(-9999.0, 4, 90, 300), "sentinel values", "warn", "3 values -9999 of i"),
    ("i", put(99.0, 4, 90, 300), "sentinel values", "warn", "3 values 99 of i"),
    ("i", put(1e30, 8), "sentinel values", "warn", "1 values 1e+30 of i"),
    ("i", put(99.0, 4, 90, 300), "sentinel values", "warn", "missing = [99] in the source, or gsnn ingest --missing"),
    (
        "image",
        lambda v: np.random.default_rng(1).normal(size=v.shape).astype(np.float32),
        "signal to noise",
        "warn",
        "pixels of image",
    ),
    ("id", put("o0", 1, 2), "repeated ids", "warn", "2 ids stand more than once"),
]


@pytest.mark.parametrize(("column", "fault", "check", "level", "words"), FAULTS)
def test_a_planted_fault_is_named(make, clean, column, fault, check, level, words):
    found = look(make, changed(clean, column, fault))
    assert levels(found)[check] == level
    assert words in told(found, check)
    others = {k for k, v in levels(found).items() if v != "ok"} - {check}
    assert not others - {"exact duplicates", "near duplicates"}, told(found, next(iter(others), ""))


@pytest.mark.parametrize(("low", "level"), [(0.6, "warn"), (0.0, "ok")])
def test_a_column_of_signal_to_noise_is_believed_before_the_pixels(make, clean, low, level):
    snr = np.where(np.arange(N) < low * N, 2.0, 30.0)
    found = look(make, {**clean, Column("snr_r", "scalar", dtype="float64"): snr.tolist()})
    assert levels(found)["signal to noise"] == level
    assert any("the column snr_r" in f["sentence"] for f in found["findings"])


def rows_of(clean, label):
    return [i for i, one in enumerate(named("kind", clean)) if one == label]


def test_classes_that_are_rare_or_absent_are_named(make, clean):
    disks, smooth = rows_of(clean, "disk"), rows_of(clean, "smooth")
    absent = look(make, clean, parts=in_parts(disks[:100], disks[100:150] + smooth[:50], disks[150:] + smooth[50:]))
    assert levels(absent)["class balance"] == "fail"
    assert "o object of class smooth stands in the train part" in told(absent, "class balance")
    assert absent["classes"]["smooth"]["train"] == 0
    untested = look(make, clean, parts=in_parts(disks[:100] + smooth, disks[100:150], disks[150:]))
    assert "o object of class smooth stands in the test part" in told(untested, "class balance")
    assert levels(untested)["class balance"] == "warn"
    rare = look(make, clean, parts=in_parts(disks[:200] + smooth[:3], [], disks[200:] + smooth[3:6]))
    assert "are classes of kind: smooth (6)" in told(rare, "class balance")
    alone = look(make, clean, parts=in_parts(disks[:200], [], disks[200:]))
    assert "fewer than two classes" in told(alone, "class balance")


TURNS = {
    "as it is": lambda image: image,
    "turned": lambda image: np.rot90(image, 1, (1, 2)),
    "mirrored": lambda image: image[:, :, ::-1],
    "turned and mirrored": lambda image: np.rot90(image, 3, (1, 2))[:, ::-1],
}
TRAIN, VALID, TEST = range(420), range(420, 510), range(510, 600)


def copied(clean, change):
    """Five test objects with the picture of a training object each."""
    pixels = named("image", clean).copy()
    for k in range(5):
        pixels[510 + k] = change(pixels[20 * k])
    return changed(clean, "image", lambda _: pixels)


@pytest.mark.parametrize("where", [510, 425])
def test_exact_duplicates_across_parts_are_counted(make, clean, where):
    content = {
        column: [*values[:where], *values[:4], *values[where + 4 :]]
        if column.kind != "image"
        else np.concatenate([values[:where], values[:4], values[where + 4 :]])
        for column, values in clean.items()
        if column.kind != "id"
    }
    found = look(make, {ID: named("id", clean), **content}, parts=in_parts(TRAIN, VALID, TEST))
    assert levels(found)["exact duplicates"] == "fail"
    assert "4 objects of the validation and test parts" in told(found, "exact duplicates")
    assert not found["leakage"]["passed"]
    assert "4 objects" in found["leakage"]["detail"]


def test_exact_duplicates_within_a_part_are_a_warning(make, clean):
    content = {
        c: ([*v[:3], *v[3:6], *v[3:6], *v[9:]] if c.kind != "image" else np.concatenate([v[:6], v[3:6], v[9:]]))
        for c, v in clean.items()
        if c.kind != "id"
    }
    found = look(make, {ID: named("id", clean), **content}, parts=in_parts(TRAIN, VALID, TEST))
    assert levels(found)["exact duplicates"] == "warn"
    assert "6 objects share their inputs" in told(found, "exact duplicates")
    assert found["leakage"]["passed"]


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS.keys())
def test_near_duplicates_across_parts_are_seen_in_any_orientation(make, clean, turn):
    chance = np.random.default_rng(9)
    noisy = copied(clean, lambda image: 1.3 * turn(image) + chance.normal(0, 0.2, image.shape))
    found = look(make, noisy, parts=in_parts(TRAIN, VALID, TEST))
    assert levels(found)["near duplicates"] == "fail"
    assert "5 held-out images look like a training image" in told(found, "near duplicates")
    assert "o510" in told(found, "near duplicates")
    assert not found["leakage"]["passed"]


def test_galaxies_that_are_alike_are_no_duplicates(make, clean):
    """Bright round galaxies, all centred, with little noise: hashes agree, residuals do not."""
    chance = np.random.default_rng(4)
    y, x = np.mgrid[:32, :32] - 15.5
    light = 100 * np.exp(-np.hypot(x, y) / 5)
    pixels = (light + chance.normal(0, 1, (N, 2, 32, 32))).astype(np.float32)
    assert levels(look(make, changed(clean, "image", lambda _: pixels)))["near duplicates"] == "ok"


def test_an_image_that_all_objects_share_tells_none_of_them(make, clean):
    """As the noise map of a survey does."""
    mask = np.random.default_rng(4).normal(0, 1, (2, 32, 32)).astype(np.float32)
    shared = changed(clean, "image", lambda pixels: np.broadcast_to(mask, pixels.shape).copy())
    assert levels(look(make, shared))["near duplicates"] == "ok"


def test_one_id_in_two_parts_is_a_failure(make, clean):
    found = look(make, changed(clean, "id", put("o3", 515)), parts=in_parts(TRAIN, VALID, TEST))
    assert levels(found)["repeated ids"] == "fail"
    assert "o3" in told(found, "repeated ids")
    assert not found["leakage"]["passed"]


def test_a_column_that_knows_the_class_is_named(make, clean):
    chance = np.random.default_rng(2)
    kind = np.array(named("kind", clean)) == "disk"
    content = {**clean, Column("flag", "scalar", dtype="float64"): (kind + chance.normal(0, 0.05, N)).tolist()}
    found = look(make, content, inputs=[*INPUTS, "flag"])
    assert levels(found)["label leakage"] == "fail"
    assert "flag (balanced accuracy" in told(found, "label leakage")
    assert " g " not in told(found, "label leakage")
    assert not found["leakage"]["passed"]
    assert "flag" in found["leakage"]["detail"]


def test_values_that_are_missing_only_for_one_class_are_a_leak_too(make, clean):
    kind = np.array(named("kind", clean)) == "disk"
    period = np.where(kind, np.random.default_rng(3).normal(size=N), np.nan)
    found = look(
        make, {**clean, Column("period", "scalar", dtype="float64"): period.tolist()}, inputs=[*INPUTS, "period"]
    )
    assert "period" in told(found, "label leakage")


def test_an_easy_question_is_no_leak(make, clean):
    kind = np.array(named("kind", clean)) == "disk"
    chance = np.random.default_rng(2)
    content = {c: (6 * kind + chance.normal(0, 1, N)).tolist() if c in SCALARS else v for c, v in clean.items()}
    assert levels(look(make, content, inputs=["g", "r", "i"]))["label leakage"] == "ok"


def test_a_copy_of_the_quantity_is_named_and_the_quantity_itself_refused(make, clean):
    z = np.array(named("z", clean))
    content = {**clean, Column("distance", "scalar", dtype="float64"): np.exp(z + 1).tolist()}
    found = look(make, content, inputs=[*INPUTS, "distance"], targets=["z"])
    assert "distance (rank correlation 1.0000)" in told(found, "label leakage")
    itself = look(make, clean, inputs=[*INPUTS, "z"], targets=["z"])
    assert "target z is one of the inputs" in told(itself, "label leakage")
    assert not itself["leakage"]["passed"]


@pytest.mark.parametrize(
    ("name", "level"),
    [("koi_score", "fail"), ("koi_fpflag_nt", "fail"), ("p_class", "warn"), ("kind_prob", "warn"), ("magnitude", "ok")],
)
def test_names_that_betray_the_answer_are_pointed_at(make, clean, name, level):
    noise = np.random.default_rng(1).normal(size=N).tolist()
    found = look(make, {**clean, Column(name, "scalar", dtype="float64"): noise}, inputs=[*INPUTS, name])
    assert levels(found)["leaking names"] == level
    assert (name in told(found, "leaking names")) == (level != "ok")
    assert found["leakage"]["passed"] == (level != "fail")


@pytest.mark.parametrize("column", ["g", "image", "z"])
def test_drift_between_training_and_test_is_named(make, clean, column):
    def shift(values):
        values[510:] = values[510:] + (0.8 if column != "z" else 0.4)
        return values

    found = look(make, changed(clean, column, shift), parts=in_parts(TRAIN, VALID, TEST), by=["z"])
    assert levels(found)["drift"] == "warn"
    assert column in told(found, "drift")


def test_a_split_that_missed_its_fractions_says_so(make, clean):
    found = look(make, clean, parts=in_parts(range(300), range(300, 550), range(550, 600)))
    assert levels(found)["split"] == "warn"
    assert "50.0% train, 41.7% valid, 8.3% test; asked were 70%, 15%, 15%" in told(found, "split")


def test_rows_set_aside_are_counted_with_their_reasons(make, clean):
    found = look(make, clean, bad={1: "no flux", 2: "no flux", 3: "truncated"})
    assert found["quarantined"] == 3
    assert found["quarantine_reasons"] == {"no flux": 2, "truncated": 1}
    assert "3 rows could not be used" in told(found, "quarantine")


def test_tables_alone_are_audited_too_and_a_limit_is_kept(make, clean):
    found = look(make, clean, inputs=["g", "r", "i"], limit=200)
    assert {f["level"] for f in found["findings"]} == {"ok"}
    assert 200 <= found["looked_at"] <= 300
    assert sum(n for counts in found["classes"].values() for n in counts.values()) == N


def test_the_same_survey_gives_the_same_audit(make, clean):
    survey = make(clean)
    parts = split(survey, SplitSettings(by="identity"))
    one, two = (audit(survey, parts, INPUTS, ["kind"], limit=300) for _ in range(2))
    assert one == two
