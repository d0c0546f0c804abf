"""A whole run on light curves: early answers, pictures in the report, one object shown."""

import json
import re

import numpy as np
import pytest
import tiny

from gsnn.data.light_curves import LightCurves
from gsnn.data.survey import Survey
from gsnn.report.curves import curves_of
from gsnn.run import run as run_study
from gsnn.show import show
from gsnn.steps.curves import DAYS, MOMENTS, trigger
from gsnn.study import Study


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curves")
    survey = Survey.create(folder / "sky", tiny.curve_rows(160), seed=0)
    study = Study.from_dict(tiny.change(tiny.CURVES, train__epochs=8), name="curves")
    return run_study(study, data=survey, out=folder / "run")


def test_the_answer_says_how_early_it_is_known(run):
    early = json.loads((run.path / "answer.json").read_text())["early"]
    assert [row["days"] for row in early["rows"]] == list(DAYS)
    first, last = early["rows"][0], early["rows"][-1]
    assert 0 <= first["accuracy"]["value"] <= last["accuracy"]["value"] + 0.05 <= 1.05  # a few objects: not by much
    assert last["roc_auc"]["low"] <= last["roc_auc"]["value"] <= last["roc_auc"]["high"]
    assert last["roc_auc"]["value"] > 0.8
    for curve in early["roc"].values():
        assert np.all(np.diff(curve["true"]) >= 0)


def test_examples_hold_light_curves_with_the_running_answer(run):
    with np.load(run.path / "examples.npz") as file:
        arrays = dict(file)
    found = curves_of(arrays)
    assert len(found) == len(set(arrays["ids"].tolist()))
    for curve in found.values():
        assert curve.bands == ("g", "r")
        assert curve.answers.shape == (MOMENTS, 2)
        np.testing.assert_allclose(curve.answers.sum(1), 1, rtol=1e-4)
        assert curve.moments[0] >= curve.time[0] - 1e-3
        assert curve.moments[-1] == pytest.approx(curve.time[-1], abs=1e-2)
        assert np.all(np.diff(curve.moments) >= 0)


def test_the_last_running_answer_is_the_prediction(run):
    """No temperature, rounding or padding stands between what is drawn and what is written."""
    import pyarrow.parquet as pq

    table = pq.read_table(run.path / "predictions.parquet").to_pandas().set_index("id")
    with np.load(run.path / "examples.npz") as file:
        found = curves_of(dict(file))
    for identity, curve in found.items():
        assert curve.answers[-1][0] == pytest.approx(table.loc[identity, "fast_p"], abs=2e-3)


def test_the_report_draws_them(run):
    html = (run.path / "report.html").read_text()
    assert html.count('<svg class="curve"') >= 12
    assert "could not be drawn" not in html
    assert "How soon it is known" in html
    assert "probability so far" in html
    assert len(re.findall(r'<svg class="curve".*?</svg>', html, re.S)[0]) < 40_000


def test_show_draws_one(run, tmp_path):
    from PIL import Image

    about = show(run, run.ground.test.columns(["id"])["id"][0], tmp_path / "one.png")
    assert Image.open(about["picture"]).size[0] > 500


def test_the_trigger_is_the_first_detection():
    quiet = (np.arange(3.0) + 56000, np.zeros(3), np.ones(3), np.zeros(3, int))
    loud = (np.arange(4.0) + 56000, np.array([1.0, 4.0, 6.0, 9.0]), np.ones(4), np.zeros(4, int))
    np.testing.assert_array_equal(trigger(LightCurves.of([quiet, loud])), [np.nan, 2.0])
