"""Fields go through all five steps: an emulator with spectra beside perturbation theory, draws of the cosmic web."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from gsnn.predict import predict_view
from gsnn.run import Run, run
from gsnn.study import Study

SMALL = (
    "data.source.boxes=16", "data.source.side=8", "data.source.box=32.0", "data.source.steps=2", "model.width=4",
    "model.depth=2", "train.epochs=2", "evaluate.control_epochs=1", "evaluate.resamples=50",
    "data.split.fractions=[0.5, 0.2, 0.3]",
)  # fmt: skip
STUDY = Study.load("nbody-emulator", SMALL)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    return run(STUDY, out=tmp_path_factory.mktemp("nbody") / "run")


def test_the_answer_holds_spectra_of_the_network_and_of_perturbation_theory(emulator):
    told = emulator.answer["spectra"]
    assert set(told["each"]) == {"network", "zeldovich", "2lpt", "coarse-mesh"}
    assert len(told["k"]) == 4
    for one in told["each"].values():
        assert len(one["power"]) == len(one["transfer"]["mean"]) == len(one["correlation"]["std"]) == 4
    metrics = emulator.answer["metrics"]
    assert next(iter(metrics)) == emulator.answer["headline_metric"] == "correlation"
    assert set(emulator.answer["baselines"]["2lpt"]) == {"correlation", "power_error", "voxel_rmse"}
    assert emulator.answer["controls"]["permuted"]["metric"] == "correlation"


def test_the_page_shows_the_spectra(emulator):
    page = emulator.report.read_text()
    assert "Power and correlation with the truth" in page
    assert "could not be drawn" not in page


def test_predictions_are_fields_that_a_saved_model_gives_again(emulator):
    table = pq.read_table(emulator.path / "predictions.parquet")
    found = np.stack(table["prediction"].to_pylist())
    assert found.shape == (emulator.answer["n"], 3 * 8**3)
    again, _ = predict_view(Run(emulator.path).model, emulator.ground.test, emulator.runtime)
    np.testing.assert_allclose(again["nbody"].value.reshape(found.shape), found, atol=1e-3)


WEB = (
    "data.source.universes=30", "data.source.side=16", "data.source.box=32.0", "data.source.depth=8.0",
    "data.source.steps=2", "data.split.fractions=[0.5, 0.1, 0.4]", "model.width=4", "model.depth=2", "train.epochs=1",
    "objective.steps=2", "evaluate.control_epochs=1", "evaluate.resamples=50",
)  # fmt: skip


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    return run(Study.load("cosmic-web", WEB), out=tmp_path_factory.mktemp("web") / "run")


def test_draws_of_the_web_stand_beside_random_fields(web):
    told = web.answer["generated"]
    assert set(told["each"]) == {"network", "gaussian-maps", "lognormal-maps"}
    assert told["groups"] * 12 == told["objects"] == web.answer["n"]
    for one in told["each"].values():
        assert 0 <= one["told_apart"]["low"] <= one["told_apart"]["accuracy"] <= one["told_apart"]["high"] <= 1
        assert len(one["peaks"]["mean"]) == 8
    assert next(iter(web.answer["metrics"])) == web.answer["headline_metric"] == "power_off"
    assert web.answer["controls"]["permuted"]["metric"] == "contrast_r"


def test_no_universe_is_on_two_sides_and_the_page_shows_the_draws(web):
    parts = [set(np.asarray(part.columns(["universe"])["universe"])) for part in (web.ground.train, web.ground.test)]
    assert parts[0].isdisjoint(parts[1])
    page = web.report.read_text()
    assert "Draws beside simulations" in page
    assert "Map of slab-" in page
    assert "could not be drawn" not in page


def test_draws_are_in_the_predictions_and_a_saved_model_gives_them_again(web):
    table = pq.read_table(web.path / "predictions.parquet")
    found = np.stack([np.stack(table[name].to_pylist()) for name in ("prediction", "density_draw_2")], 1)
    again, _ = predict_view(Run(web.path).model, web.ground.test, web.runtime)
    np.testing.assert_allclose(again["density"].value.reshape(found.shape), found, rtol=1e-3, atol=1e-3)
