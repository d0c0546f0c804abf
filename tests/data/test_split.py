import hashlib

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from gsnn.data import rows as row_lists
from gsnn.data.schema import Column
from gsnn.data.split import PARTS, SplitSettings, assign, split, uniform_of
from gsnn.data.survey import healpix
from gsnn.errors import ConfigError, GsnnError

FRACTIONS = (0.7, 0.15, 0.15)
ID = Column("id", "id")


def position(name):
    return Column(name, "position", dtype="float64")


def by_id(survey, parts):
    """{id: part}."""
    return {one: part for part in PARTS for one in survey.view(getattr(parts, part)).columns(["id"])["id"]}


def test_the_published_assignment_stays_the_same_for_ever():
    """Golden values. If this test fails, networks in the world have seen what are now their test objects."""
    ra, dec = (
        np.array([10.684708, 83.822083, 201.365063, 0.0, 359.99999]),
        np.array([41.26875, -5.391111, -43.019113, 0, 0]),
    )
    pixels = healpix(ra, dec)
    assert pixels.tolist() == GOLDEN_PIXELS
    np.testing.assert_allclose(uniform_of(pixels), GOLDEN_SKY, atol=1e-12)
    np.testing.assert_allclose(uniform_of(["NGC 224", "M42", "o1", "1237648720693755918"]), GOLDEN_IDS, atol=1e-12)
    assert assign(["NGC 224", "M42", "o1", "1237648720693755918"], FRACTIONS).tolist() == GOLDEN_PARTS


def test_the_assignment_is_what_its_page_says_it_is():
    word = int.from_bytes(hashlib.blake2b(b"o1", digest_size=8).digest(), "little")
    assert uniform_of(["o1"])[0] == word / 2**64


def test_whole_numbers_and_their_text_are_one_key():
    np.testing.assert_array_equal(uniform_of(np.array([5, 12])), uniform_of(["5", "12"]))


def test_keys_are_spread_evenly():
    u = np.sort(uniform_of(range(20_000)))
    assert np.abs(u - np.arange(20_000) / 20_000).max() < 0.015


@pytest.mark.parametrize(
    ("settings", "by"),
    [
        (SplitSettings(), "sky"),
        (SplitSettings(by="sky", fractions=(0.5, 0.25, 0.25)), "sky"),
        (SplitSettings(by="identity"), "identity"),
        (SplitSettings(by="group", column="count"), "group"),
        (SplitSettings(by="sky", guard_arcsec=30.0), "sky"),
    ],
)
def test_the_same_object_has_the_same_part_in_every_survey_and_choice_of_rows(make, sky, settings, by):
    one, other = make(sky(400)), make(sky(400, first=150))
    a, b = split(one, settings), split(other, settings)
    assert a.by == by
    first, second = by_id(one, a), by_id(other, b)
    common = set(first) & set(second)
    assert len(common) > 200 - a.dropped
    assert all(first[name] == second[name] for name in common)
    half = np.arange(0, 400, 2)
    subset = by_id(one, split(one, settings, half))
    assert all(first[name] == part for name, part in subset.items())


@pytest.mark.parametrize("settings", [SplitSettings(by=by) for by in ("sky", "identity")])
def test_every_row_stands_in_one_part_and_fractions_are_as_asked(make, sky, settings):
    parts = split(make(sky(600)), settings)
    rows = np.concatenate([parts.train, parts.valid, parts.test])
    np.testing.assert_array_equal(np.sort(rows), np.arange(600))
    np.testing.assert_allclose(parts.realised, FRACTIONS, atol=0.06)
    assert parts.to_dict()["fractions_asked"] == list(FRACTIONS)
    assert sum(parts.to_dict()["fractions_realised"]) == pytest.approx(1, abs=1e-3)


def test_neighbours_on_the_sky_stay_together_over_the_wrap_too(make):
    ra = np.repeat(np.linspace(0, 359.9, 300), 2)
    ra[1::2] = np.mod(ra[::2] - 1e-5, 360)
    survey = make({ID: [f"o{i}" for i in range(600)], position("ra"): ra.tolist(), position("dec"): [0.033] * 600})
    part = by_id(survey, split(survey, SplitSettings()))
    apart = [i for i in range(0, 600, 2) if part[f"o{i}"] != part[f"o{i + 1}"]]
    assert len(apart) <= 3  # a pair may straddle a border of pixels; the guard is for that
    turned = make(
        {ID: [f"o{i}" for i in range(600)], position("ra"): (ra - 360).tolist(), position("dec"): [0.033] * 600}
    )
    assert by_id(turned, split(turned, SplitSettings())) == part


@pytest.mark.parametrize("dec", [0.0, 60.0, -88.0])
@pytest.mark.parametrize("guard", [60.0, 100.0])
def test_the_guard_keeps_test_objects_away_from_other_sky(make, dec, guard):
    chance = np.random.default_rng(1)
    n, width = 1500, 1.5
    ra = (chance.uniform(-width, width, n) / np.cos(np.radians(dec))) % 360
    decs = dec + chance.uniform(-width, width, n)
    survey = make({ID: [f"o{i}" for i in range(n)], position("ra"): ra.tolist(), position("dec"): decs.tolist()})
    free, guarded = (
        split(survey, SplitSettings(by="sky", fractions=(0.6, 0, 0.4), guard_arcsec=g)) for g in (0.0, guard)
    )
    where = SkyCoord(ra, decs, unit="deg")

    def nearest(parts):
        return where[parts.test].match_to_catalog_sky(where[parts.train])[1].arcsec

    assert (nearest(free) < guard).any()
    assert nearest(guarded).min() > 0.95 * guard
    assert guarded.dropped == len(free.test) - len(guarded.test) > 0
    np.testing.assert_array_equal(guarded.train, free.train)


def test_a_group_is_never_divided_and_its_name_is_the_same_as_number_or_text(make):
    star = np.arange(300) // 6
    ids = [f"o{i}" for i in range(300)]
    made = []
    for column, values in (
        (Column("star", "scalar", dtype="int64"), star.tolist()),
        (Column("star", "scalar", dtype="float64"), star.astype(float).tolist()),
        (Column("star", "text"), [str(s) for s in star]),
        (Column("star", "label", classes=tuple(map(str, range(50)))), [str(s) for s in star]),
    ):
        survey = make({ID: ids, column: values})
        made.append(by_id(survey, split(survey, SplitSettings(by="group", column="star"))))
    assert all(one == made[0] for one in made)
    for k in range(50):
        assert len({made[0][f"o{i}"] for i in range(6 * k, 6 * k + 6)}) == 1


def test_objects_without_group_or_position_go_by_their_id(make):
    n, ids = 300, [f"o{i}" for i in range(300)]
    alone = {f"o{i}": PARTS[p] for i, p in enumerate(assign(ids, FRACTIONS))}
    grouped = make({ID: ids, Column("star", "scalar", dtype="int64"): [None] * (n - 10) + [1] * 10})
    got = by_id(grouped, split(grouped, SplitSettings(by="group", column="star")))
    assert {k: got[k] for k in ids[: n - 10]} == {k: alone[k] for k in ids[: n - 10]}
    lost = make({ID: ids, position("ra"): [None] * n, position("dec"): [None] * n})
    assert by_id(lost, split(lost, SplitSettings(by="sky"))) == alone


def named(make, names):
    return make({ID: [f"o{i}" for i in range(len(names))], Column("set", "text"): names})


def test_a_column_that_says_the_part_is_obeyed(make):
    names = ["train", "Training", "valid", "val", "TEST", "testing"] * 5
    survey = named(make, names)
    parts = split(survey, SplitSettings(by="column", column="set"))
    for part, (a, b) in zip(PARTS, ((0, 1), (2, 3), (4, 5))):
        np.testing.assert_array_equal(getattr(parts, part) % 6, [a, b] * 5)


def test_where_the_column_names_no_validation_it_is_taken_from_training(make):
    survey = named(make, ["train"] * 200 + ["test"] * 50)
    parts = split(survey, SplitSettings(column="set", by="column"))
    np.testing.assert_array_equal(parts.test, np.arange(200, 250))
    assert len(parts.train) + len(parts.valid) == 200
    assert 15 < len(parts.valid) < 50


@pytest.mark.parametrize(
    ("settings", "names", "words"),
    [
        (SplitSettings(by="column", column="set"), ["train", "test", "odd"] * 3, "says 'odd'"),
        (SplitSettings(by="column", column="set"), ["train", "test", None] * 3, "says ''"),
        (SplitSettings(by="column", column="set"), ["train"] * 9, "must say train, valid and test"),
        (SplitSettings(by="column"), ["train", "test"] * 5, 'needs column = "..."'),
        (SplitSettings(by="group"), ["train", "test"] * 5, 'needs column = "..."'),
        (SplitSettings(by="group", column="sett"), ["a", "b"] * 5, "did you mean 'set'"),
        (SplitSettings(by="sky"), ["a", "b"] * 5, "needs the columns ra and dec"),
        (SplitSettings(by="identity", guard_arcsec=5.0), ["a", "b"] * 5, "guard_arcsec needs"),
        (SplitSettings(by="identity", fractions=(0.5, 0.1, 0.1)), ["a", "b"] * 5, "add up to 1"),
        (SplitSettings(by="identity", fractions=(1.2, -0.1, -0.1)), ["a", "b"] * 5, "add up to 1"),
        (SplitSettings(by="identity", fractions=(0.0, 0.5, 0.5)), ["a", "b"] * 5, "add up to 1"),
        (SplitSettings(by="identity"), ["a", "b"], "2 usable rows cannot be divided"),
        (SplitSettings(by="group", column="set"), ["one star"] * 60, "where 15% was asked: too few groups"),
    ],
)
def test_what_cannot_be_divided_is_refused_in_a_sentence(make, settings, names, words):
    with pytest.raises((ConfigError, GsnnError)) as caught:
        split(named(make, names), settings)
    assert words in str(caught.value)


def test_one_sky_pixel_cannot_give_three_parts(make):
    n = 50
    survey = make({ID: [f"o{i}" for i in range(n)], position("ra"): [10.0] * n, position("dec"): [1.0] * n})
    with pytest.raises(GsnnError, match="too few sky pixels"):
        split(survey, SplitSettings())


def test_a_guard_wider_than_the_pixels_leaves_no_test_and_says_so(make):
    ra, dec = np.random.default_rng(1).uniform(-1, 1, (2, 300))
    survey = make(
        {ID: [f"o{i}" for i in range(300)], position("ra"): (ra % 360).tolist(), position("dec"): dec.tolist()}
    )
    with pytest.raises(GsnnError, match="dropped by guard_arcsec"):
        split(survey, SplitSettings(by="sky", guard_arcsec=900.0))


def test_long_lists_are_divided_alike(make, sky, monkeypatch):
    survey = make(sky(300))
    whole = split(survey, SplitSettings())
    monkeypatch.setattr(row_lists, "LONG", 10)
    monkeypatch.setattr(row_lists.chunks, "__defaults__", (37,))
    pieces = split(survey, SplitSettings())
    for part in PARTS:
        np.testing.assert_array_equal(getattr(whole, part), getattr(pieces, part))
    assert isinstance(pieces.train.base, np.memmap)


GOLDEN_PIXELS = [173380, 1372138, 2768822, 1245184, 1201493]
GOLDEN_SKY = [0.1148406028805767, 0.2968309819510995, 0.3932569792156627, 0.6160222337452366, 0.8090511305390721]
GOLDEN_IDS = [0.5141372633313934, 0.611101148231494, 0.5914740601733055, 0.7555708804289873]
GOLDEN_PARTS = [0, 0, 0, 1]


def test_a_condition_says_what_is_learned_from(make):
    n = 400
    bright = np.arange(n) % 4 == 0
    survey = make({ID: [f"o{i}" for i in range(n)], Column("bright", "scalar"): bright.astype(np.float32)})
    parts = split(survey, SplitSettings(train="bright > 0.5", fractions=(0.8, 0.2, 0.0)))
    assert parts.by == "condition"
    assert bright[parts.train].all()
    assert bright[parts.valid].all()
    np.testing.assert_array_equal(parts.test, np.flatnonzero(~bright))
    assert 0.1 < len(parts.valid) / bright.sum() < 0.3
    wanted = assign([f"o{i}" for i in parts.train], (0.8, 0.2))
    assert (wanted == 0).all()  # the hash of the identity, as everywhere


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train": "bright > 2"}, "holds for 0 of 40 objects"),
        ({"train": "bright > -1"}, "holds for 40 of 40 objects"),
        ({"by": "condition"}, "need each other"),
        ({"by": "identity", "train": "bright > 0.5"}, "need each other"),
        ({"train": "bright > 0.5", "fractions": (1.0, 0.0, 0.0)}, "for validation"),
        ({"train": "birght > 0.5"}, "birght"),
    ],
)
def test_a_condition_that_cannot_be(make, settings, words):
    columns = {ID: [f"o{i}" for i in range(40)], Column("bright", "scalar"): (np.arange(40) % 2).astype(np.float32)}
    with pytest.raises((ConfigError, GsnnError), match=words):
        split(make(columns), SplitSettings(**settings))
