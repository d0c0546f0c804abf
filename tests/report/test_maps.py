"""Sheets of maps: one scale or several, masks left empty, marks, and words for those who do not see."""

import numpy as np
import pytest

from gsnn.report.maps import limits, maps
from gsnn.report.theme import svg

random = np.random.default_rng(0)
PANELS = {name: random.normal(0, 1, (20, 16)) for name in ("truth", "network", "wiener")}
INSIDE = random.random((20, 16)) < 0.7


def images(drawing):
    return [ax.images[0] for ax in drawing.figure.axes if ax.images and ax.get_title(loc="left")]


def test_panels_share_one_scale_and_one_bar():
    drawing = maps(PANELS, label="kappa", unit="mas")
    shown = images(drawing)
    assert len(shown) == 3
    assert len({(i.norm.vmin, i.norm.vmax) for i in shown}) == 1
    assert [ax.get_ylabel() for ax in drawing.figure.axes if ax.get_ylabel()] == ["kappa [mas]"]
    assert drawing.data["map"] == list(PANELS)


def test_what_is_masked_is_empty_and_counts_for_nothing():
    panels = {"one": np.where(INSIDE, 1.0, 1e6)}
    drawing = maps(panels, inside=INSIDE)
    assert drawing.data["greatest"] == [1.0]
    assert (np.ma.getmaskarray(images(drawing)[0].get_array()) == ~INSIDE).all()
    assert limits([np.full((3, 3), np.nan)]) == (0.0, 1.0)


def test_scales_of_their_own_have_bars_of_their_own_and_zero_may_be_white():
    drawing = maps(PANELS, spans=[(-1, 1), (-2, 2), (0, 3)], diverging=True, columns=2)
    assert [(i.norm.vmin, i.norm.vmax) for i in images(drawing)] == [(-1, 1), (-2, 2), (-1e-12, 3)]
    assert all(i.norm.vcenter == 0 for i in images(drawing))
    assert len(drawing.figure.axes) == 4 + 3  # one panel stays empty


def test_right_ascension_may_grow_to_the_left_and_marks_lie_in_its_units():
    drawing = maps(PANELS, extent=(151.0, 149.0, 1.0, 3.0), axes=("ra", "dec"), marks=np.array([[150.2, 2.5]]))
    ax = drawing.figure.axes[0]
    assert ax.get_xlim() == (151.0, 149.0)
    assert ax.collections[0].get_offsets().tolist() == [[150.2, 2.5]]


@pytest.mark.parametrize("count", [1, 5])
def test_it_stands_in_a_page(count):
    text = svg(maps({f"map {i}": PANELS["truth"] for i in range(count)}), "sheet")
    assert text.startswith("<svg")
    assert "map 0" in text
