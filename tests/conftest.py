"""What all tests share: a small sky, finished runs of small studies, the real data, and shapes checked at run time."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ["OMP_NUM_THREADS"] = "1"  # before torch; also for the processes that tests start
os.environ.setdefault("LANCE_LOG", "error")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores Ctrl-C
sys.path.insert(0, str(Path(__file__).parent))
install_import_hook("gsnn", "shape_checks.check")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in tests/real is real."""
    for item in items:
        if Path(str(item.path)).parent.name == "real":
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data that GSNN_DATA names. Without it a test is skipped, but not where CI runs."""
    named = os.environ.get("GSNN_DATA")
    if not named:
        reason = "GSNN_DATA is not set: it names the folder of real data"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}, which CI must have", pytrace=False)
        pytest.skip(reason)
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"GSNN_DATA names {folder}, which is no folder", pytrace=False)
    return folder


@pytest.fixture(autouse=True)
def _one_thread():
    """Small networks are fastest, and repeat exactly, on one thread."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def no_figures(monkeypatch):
    """Reports without figures, which take most of the time of a small run; tests/report looks at them."""
    from collections import defaultdict

    monkeypatch.setattr("gsnn.report.page.drawings", lambda *_: defaultdict(list))


@pytest.fixture
def unchecked():
    """Shapes unchecked, to see how GSNN itself refuses wrong ones."""
    from jaxtyping import config

    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def table_survey(tmp_path_factory):
    from tiny import table_rows

    from gsnn.data.survey import Survey

    return Survey.create(tmp_path_factory.mktemp("sky") / "table.survey", table_rows())


@pytest.fixture(scope="session")
def image_survey(tmp_path_factory):
    from tiny import picture_rows

    from gsnn.data.survey import Survey

    return Survey.create(tmp_path_factory.mktemp("sky") / "images.survey", picture_rows())


@pytest.fixture(scope="session")
def table_csv(tmp_path_factory) -> Path:
    """The table as a person has it: a CSV file."""
    import pandas
    from tiny import table

    path = tmp_path_factory.mktemp("files") / "stars.csv"
    pandas.DataFrame(table()).to_csv(path, index=False)
    return path


def _finished(study, survey, folder):
    from gsnn.run import run
    from gsnn.study import Study

    return run(Study.from_dict(study, name="tiny"), data=survey, out=folder)


@pytest.fixture(scope="session")
def table_run(tmp_path_factory, table_survey):
    """A finished run of stars and quasars. Read only: copy its folder before changing anything."""
    from tiny import TABLE

    return _finished(TABLE, table_survey, tmp_path_factory.mktemp("runs") / "table")


@pytest.fixture(scope="session")
def mixture_run(tmp_path_factory, table_survey):
    """A finished run that predicts densities. Read only."""
    from tiny import MIXTURE

    return _finished(MIXTURE, table_survey, tmp_path_factory.mktemp("runs") / "mixture")


@pytest.fixture(scope="session")
def image_run(tmp_path_factory, image_survey):
    """A finished run on images. Read only."""
    from tiny import IMAGES

    return _finished(IMAGES, image_survey, tmp_path_factory.mktemp("runs") / "images")


@pytest.fixture
def copied(tmp_path):
    """``copied(run)``: the same run in a folder of its own, to be damaged or written to."""
    import shutil

    from gsnn.run import Run

    def copy(run):
        target = tmp_path / f"copy-of-{run.path.name}"
        shutil.copytree(run.path, target)
        return Run(target)

    return copy
