"""The reference says what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.documents


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date(maker):
    assert maker.PAGE.read_text() == maker.text(), "run: python docs/make_reference.py"


def test_every_part_and_every_public_name_has_its_place(maker):
    import gsnn
    from gsnn.config import PARTS

    page = maker.PAGE.read_text()
    assert set(maker.PUBLIC) == set(gsnn.__all__) - {"__version__"}
    assert set(maker.KINDS) == set(PARTS)
    for kind in PARTS:
        for name in PARTS[kind]:
            assert f"#### {name}\n" in page


def test_docstrings_become_markdown(maker):
    assert maker.markdown("See :func:`gsnn.run.run`, ``a < b`` and a < b.\n\n>>> 1\n1") == (
        "See `gsnn.run.run`, `a < b` and a &lt; b."
    )
