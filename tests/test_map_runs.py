"""A study whose answer is a map: the run from shear to report, with and without a survey of its own."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from shear_files import survey

from gsnn.run import run
from gsnn.study import Study

SMALL = (
    "data.source.maps=60", "data.source.side=32", "data.source.margin=0", "data.split.fractions=[0.4, 0.3, 0.3]",
    "model.width=8", "model.depth=2", "train.epochs=1", "evaluate.resamples=30",
    "evaluate.baselines=['kaiser-squires', {name='wiener', realisations=4}]",
)  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    survey(folder / "COSMOS", border=4)
    return run(Study.load("dark-matter-map", SMALL), data=str(folder / "COSMOS"), out=folder / "run")


def test_the_answer_is_of_maps_beside_both_baselines(found):
    answer = found.answer
    assert answer["answer"].startswith("RMSE of the map")
    assert set(answer["baselines"]) == {"kaiser-squires", "wiener"}
    assert "map_coverage_68" in answer["baselines"]["wiener"]
    assert "map_coverage_68" not in answer["baselines"]["kaiser-squires"]
    assert all(
        finding["level"] != "fail" for finding in json.loads((found.path / "audit.json").read_text())["findings"]
    )


def test_predictions_hold_the_pixels_inside_the_mask(found):
    table = pq.read_table(found.path / "predictions.parquet")
    assert {"id", "truth", "prediction", "kappa_low", "kappa_high", "flag"} <= set(table.column_names)
    values = np.array(table["prediction"][0].as_py(), float)
    assert values.shape == (32 * 32,)
    assert np.isfinite(values).sum() == 24 * 24
    assert len(table["truth"][0].as_py()) == 32 * 32


def test_what_was_observed_and_a_few_test_maps_are_kept_and_drawn(found):
    kept = dict(np.load(found.path / "maps.npz"))
    assert kept["id"][0] == "observed"
    assert np.isnan(kept["truth"][0]).all()
    assert np.isfinite(kept["truth"][1]).sum() == 24 * 24
    assert {"map.network", "low.network", "high.network", "map.wiener", "low.wiener", "map.kaiser-squires"} <= set(kept)
    page = found.report.read_text()
    assert "Map of what was observed" in page
    assert "could not be" not in page


def test_the_model_that_is_read_back_says_the_same(found):
    from gsnn.predict import predict_view

    view = found.ground.test
    told = predict_view(found.model, view, found.runtime)[0]["kappa"]
    table = pq.read_table(found.path / "predictions.parquet")
    wanted = np.array(table["prediction"].to_pylist(), float)
    np.testing.assert_allclose(np.where(told.inside, told.value, np.nan).reshape(len(view), -1), wanted, atol=2e-3)
