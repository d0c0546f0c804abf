"""Figures: every one draws, carries its numbers and words, and says the right ones."""
# ruff: noqa: E501

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from scipy.stats import norm

from gsnn.report import figures, images, posteriors, sky, survey, theme
from gsnn.report.parts import Parts
from gsnn.report.story import badges
from gsnn.report.words import duration, measured, number

RNG = np.random.default_rng(3)
LOG = [
    {"event": "step", "step": i, "epoch": 0, "loss": 2.0 / i, "learning_rate": 1e-3, "gradient_norm": 1.0}
    for i in range(1, 60)
]
LOG += [
    {"event": "epoch", "epoch": e, "step": 20 * e, "loss": 1.0, "valid_loss": v}
    for e, v in ((1, 0.8), (2, 0.3), (3, 0.5))
]
ENTRY = {"value": 0.8, "low": 0.7, "high": 0.9}
BINS = [
    {"low": 10.0**i, "high": 10.0 ** (i + 1), "n": 5, "accuracy": ENTRY, "baselines": {"prior": {"accuracy": ENTRY}}}
    for i in range(3)
]
LEVELS = np.arange(1, 100) / 100
U, V = RNG.random((2, 2000))
POINTS = RNG.normal(size=(300, 3))
DRAWN = {
    "corner": lambda: posteriors.corner(dict.fromkeys(("network", "chain", "grid", "other"), POINTS), list("abc")),
    "loss": lambda: figures.loss_curves(LOG),
    "loss-empty": lambda: figures.loss_curves([]),
    "loss-nan": lambda: figures.loss_curves([*LOG, {"event": "step", "step": 61, "loss": float("nan")}]),
    "course": lambda: figures.training_course(LOG),
    "reliability": lambda: figures.reliability([{"confidence": 0.9, "accuracy": 0.8, "low": 0.7, "high": 0.9, "n": 30}], 0.1),
    "pit": lambda: figures.pit([10, 12, 9, 11], 0.02),
    "coverage": lambda: figures.coverage([{"nominal": 0.5, "empirical": 0.4}, {"nominal": 0.9, "empirical": 0.91}]),
    "confusion": lambda: figures.confusion(["a", "b"], np.array([[8, 2], [1, 9]])),
    "confusion-many": lambda: figures.confusion([f"class {i}" for i in range(20)], np.eye(20)),
    "curve": lambda: figures.metric_curve("snr", {"unit": "", "bins": BINS}, "accuracy", "fraction"),
    "comparison": lambda: figures.comparison({"network": ENTRY, "prior": ENTRY}, "accuracy", "fraction"),
    "balance": lambda: figures.class_balance({"a": {"train": 3, "valid": 1, "test": 1}, "b": {"train": 2}}),
    "bars": lambda: figures.bars(["a", "b"], [1.0, -2.0], "s"),
    "histogram": lambda: figures.histogram(np.r_[U[:50], np.nan], "x"),
    "histogram-constant": lambda: figures.histogram(np.ones(5), "x"),
    "sky-narrow": lambda: sky.sky_map((4 * U[:200] - 2) % 360, V[:200], U[200:400], "x"),
    "sky-wide": lambda: sky.sky_map(360 * U[:500], 180 * V[:500] - 90, V[500:1000], "x"),
    "sky-one": lambda: sky.sky_map(np.array([5.0]), np.array([89.9]), np.array([1.0]), "x"),
    "truth": lambda: sky.truth_and_prediction(U, V),
    "truth-few": lambda: sky.truth_and_prediction(np.array([0.1, 0.2]), np.array([0.1, 0.2]), "mass", "dex", False),
    "densities": lambda: sky.example_densities(["a"], LEVELS, norm.ppf(LEVELS)[None], np.array([0.1]), "z"),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_every_figure(name):
    drawing = DRAWN[name]()
    text = theme.svg(drawing, name)
    root = ET.fromstring(text)
    assert root.get("aria-label") == drawing.alt
    assert drawing.alt.endswith(".")
    assert len({len(column) for column in drawing.data.values()}) == 1
    assert len(text) < 400_000
    assert "mathdefault" not in text
    assert re.search(r"var\(--(ink|soft|blue)", text)  # follows the page's theme
    colours = set(re.findall(r"#[0-9a-f]{6}\b", re.sub(r"var\([^)]*\)", "", text.lower()))) - {"#000000"}
    assert not colours  # nothing but the palette, so nothing disappears in the dark
    used = re.findall(r"url\(#([^)]+)\)", text) + re.findall(r'href="#([^"]+)"', text)
    assert set(used) <= {element.get("id") for element in root.iter()}
    assert text == theme.svg(DRAWN[name](), name)


def test_ids_do_not_meet():
    a, b = (re.findall(r' id="([^"]+)"', theme.svg(DRAWN["loss"](), name)) for name in ("one", "two"))
    assert a
    assert not set(a) & set(b)


def test_class_names_are_text():
    text = theme.svg(figures.confusion(["<script>", "$x$"], np.eye(2)), "c")
    assert "<script" not in text
    assert {"<script>", "$x$"} <= {e.text for e in ET.fromstring(text).iter()}


def test_loss_words_and_numbers():
    drawing = figures.loss_curves(LOG)
    assert "lowest, 0.3, at step 40" in drawing.alt
    assert drawing.data["loss"][-3:] == [0.8, 0.3, 0.5]


def test_sky_stays_whole_across_zero():
    ra = np.r_[359.0, 359.5, 0.5, 1.0]
    assert "right ascension 0°" in sky.sky_map(ra, np.zeros(4), np.ones(4), "x").alt
    drawing = sky.sky_map(ra, np.zeros(4), np.arange(4.0), "x")
    assert sum(drawing.data["objects"]) == 4
    assert drawing.figure.axes[0].name == "rectilinear"


def test_density_of_a_gaussian_is_its_density():
    x, density = sky.density_from_quantiles(LEVELS, 0.4 + 0.05 * norm.ppf(LEVELS))
    np.testing.assert_allclose(density, norm.pdf(x, 0.4, 0.05), rtol=1e-6)


def test_density_of_steps_is_finite():
    _, density = sky.density_from_quantiles(LEVELS, np.repeat([0.1, 0.5, 0.9], 33))
    assert np.isfinite(density).all()


def test_redshift_scatter():
    z = np.full(4001, 1.0)
    drawing = sky.truth_and_prediction(z, 1 + 2 * 0.03 * RNG.standard_normal(4001))
    nmad = float(re.search(r"NMAD\) ([0-9.]+)", drawing.alt)[1])
    assert nmad == pytest.approx(0.03, rel=0.06)


@pytest.mark.parametrize("bands", [1, 2, 3, 5])
def test_thumbnail(bands):
    image = RNG.normal(0, 0.01, (4, bands, 20, 24)) + 5
    image[:, :, 8:12, 10:14] += 10
    image[0, 0, 0, 0] = np.nan
    shown = images.thumbnail(image)
    assert shown.shape == (4, 20, 24, 3)
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[2], images.thumbnail(image[2]))
    assert shown[:, 9, 11].min() > 200 > 60 > np.median(shown)  # the source is bright, the sky dark whatever its level


@pytest.mark.parametrize("value", [0.0, 3.0, np.nan])
def test_thumbnail_of_nothing(value):
    assert images.thumbnail(np.full((3, 8, 8), value)).max() == 0


def test_thumbnail_keeps_colour_and_pictures():
    flux = np.zeros((3, 16, 16))
    flux[:, 6:10, 6:10] = np.array([0.2, 0.6, 1.0])[:, None, None] * 1e3  # g, r, i: a red object, far beyond white
    red, green, blue = images.thumbnail(flux, ("g", "r", "i"))[8, 8].astype(float)
    np.testing.assert_allclose([green / red, blue / red], [0.6, 0.2], atol=0.01)
    assert images.colour_bands(("red", "green", "blue"), 3) == (0, 1, 2)
    assert images.colour_bands(("i", "g", "r"), 3) == (0, 2, 1)
    picture = RNG.integers(0, 256, (3, 5, 6), dtype=np.uint8)
    np.testing.assert_array_equal(images.thumbnail(picture, ("r", "g", "b")), np.moveaxis(picture, 0, -1))


def test_montage_and_overlay():
    shots = RNG.integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
    sheet = images.montage(shots, columns=3, gap=1)
    assert sheet.shape == (13, 23, 3)
    np.testing.assert_array_equal(sheet[7:13, 8:15], shots[4])
    assert images.montage(shots[:0]).shape == (1, 1, 3)
    grey = np.full((4, 4, 3), 100, np.uint8)
    map_ = np.zeros((4, 4))
    map_[0, 0], map_[3, 3] = 1, -1
    shown = images.overlay(grey, map_).astype(int)
    assert shown[0, 0, 0] > shown[0, 0, 2]
    assert shown[3, 3, 2] > shown[3, 3, 0]
    assert (shown[1, 1] == 75).all()


@pytest.mark.parametrize(
    ("entry", "unit", "sign", "text"),
    [
        ({"value": 0.884, "low": 0.861, "high": 0.905}, "fraction", False, "88.4% (86.1 to 90.5)"),
        ({"value": 0.091, "low": 0.071, "high": 0.111}, "fraction", True, "+9.1 points (+7.1 to +11.1)"),
        ({"value": 0.0231, "low": 0.0224, "high": 0.0238}, "", False, "0.0231 (0.0224 to 0.0238)"),
        ({"value": -1.5, "low": -2.0, "high": -1.0}, "mag", False, "−1.5 mag (−2.0 to −1.0)"),
        ({"value": 3.0, "low": None, "high": None}, "s", False, "3 s"),
        ({"value": float("nan")}, "", False, "–"),
        ({"value": 0.5, "low": 0.5, "high": 0.5}, "", False, "0.500 (0.500 to 0.500)"),
    ],
)
def test_measured(entry, unit, sign, text):
    assert measured(entry, unit, sign) == text


def test_words():
    assert [number(v) for v in (0.0021, 1234567.0, 7, -0.5, None, True, 1e-7, 0.0)] == [
        "0.0021", "1,234,567", "7", "−0.5", "–", "–", "1.00e−07", "0"]  # fmt: skip
    assert [duration(s) for s in (0.5, 75, 7500, 100000, None)] == ["0.5 s", "1 min 15 s", "2 h 05 min", "1 d 3 h", "–"]


@pytest.mark.parametrize(
    ("answer", "levels"),
    [
        ({}, ["none"] * 4),
        ({"controls": {"permuted": {"value": 0.9, "passed": False}, "leakage": {"passed": False}}}, ["fail", "fail", "none", "none"]),
        ({"calibration": {"ece": 0.2}}, ["none", "none", "warn", "none"]),
        ({"calibration": {"pit_ks": 0.08}, "objects": {"test": 100}}, ["none", "none", "ok", "none"]),
        ({"calibration": {"pit_ks": 0.08}, "objects": {"test": 100000}}, ["none", "none", "warn", "none"]),
        ({"metrics": {"a": ENTRY}, "seeds": [{"metrics": {"a": 0.8}}, {"metrics": {"a": {"value": 0.2}}}]}, ["none", "none", "none", "warn"]),
    ],
)  # fmt: skip
def test_badges(answer, levels):
    assert [badge["level"] for badge in badges(Parts("run", answer=answer))] == levels


def test_survey_page():
    from gsnn.data.schema import Column, Schema

    schema = Schema.of(
        [Column("id", "id"), Column("kind", "label", classes=("<b>", "spiral")), Column("magnitude", "scalar", unit="mag"), Column("empty", "scalar")],
        source="made & up",
    )  # fmt: skip
    table = {"id": np.array(["a", "b", "c"], object), "kind": np.array([0, 1, -1]), "magnitude": np.array([1.0, 2, np.nan]),
             "empty": np.full(3, np.nan), "ra": np.array([1.0, 2, 3]), "dec": np.array([0.0, 1, 2])}  # fmt: skip
    pictures = {"a": np.zeros((8, 8, 3), np.uint8), "z": np.ones((8, 8, 3), np.uint8)}
    text = survey.survey_page(schema, table, pictures, {"objects": 3, "quarantined": 1}, title="Three <galaxies>")
    assert text.count("<img") == 2
    assert "<b>" not in text.replace("<b>GSNN</b>", "")
    assert "Three &lt;galaxies&gt;" in text
    assert "made &amp; up" in text
    assert "On the sky" in text
    assert survey.survey_page(schema, {})


def test_style_sheet_has_the_palette():
    """The light scheme's tokens are the figures' own colours, so an exported figure looks like the page."""
    from gsnn.report.page import HERE

    light = (HERE / "style.css").read_text().split("@media")[0]
    for name, colour in theme.PALETTE.items():
        assert f"--{name}: {colour};" in light
