"""A survey to predict, and what one process makes of it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def wide(tmp_path_factory):
    from survey_wide import sky

    return sky(tmp_path_factory.mktemp("wide") / "sky")


@pytest.fixture(scope="session")
def expected(table_run, wide):
    """The predictions of one process."""
    return table_run.predict(wide)
