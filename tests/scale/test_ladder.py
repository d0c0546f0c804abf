"""The study at hand: its plan here, and the ladder of its sizes."""

import json

import pytest
import torch
from tiny import IMAGES, MIXTURE, TABLE, change

from gsnn.errors import GsnnError
from gsnn.scale.ladder import drawing, fitted, scale_study, size_key
from gsnn.scale.laws import REPLICATION, Law
from gsnn.scale.study import measure, plan_study
from gsnn.study import Study


def test_flops_and_kept_bytes_of_a_known_network():
    network = torch.nn.Sequential(
        torch.nn.Linear(32, 64, bias=False), torch.nn.ReLU(), torch.nn.Linear(64, 8, bias=False)
    )

    class Named(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, x):
            return self.inner(x)

    flops, kept = measure(Named(), {"x": torch.zeros(5, 32)})
    products = 2 * 5 * 32 * 64 * 2 + 2 * 5 * 64 * 8 * 3  # no gradient of the input is needed
    assert flops == products
    assert kept == 5 * 64 * 4  # the activation's output serves both; inputs and weights are there anyway


def test_a_network_that_looks_at_values_is_told():
    class Looks(torch.nn.Module):
        def forward(self, x):
            return x if bool(x.sum() > 0) else -x

    with pytest.raises(GsnnError, match="must not look at the values"):
        measure(Looks(), {"x": torch.zeros(2, 2)})


@pytest.mark.parametrize(
    ("study", "survey"), [(TABLE, "table_survey"), (IMAGES, "image_survey"), (MIXTURE, "table_survey")]
)
def test_a_study_is_planned(study, survey, request):
    made = plan_study(Study.from_dict(study), data=request.getfixturevalue(survey))
    assert made["parameters"] > 0
    assert made["memory"]["optimizer"] == 2 * made["memory"]["weights"] == 8 * made["parameters"]
    assert made["memory"]["activations"] > 0
    assert made["flops"] == pytest.approx(made["flops_per_object"] * made["train_objects"] * made["epochs"])
    assert 0 < made["seconds_elsewhere"] < made["seconds"]
    json.dumps(made)


def test_a_plan_knows_how_many_objects_there_are():
    few, many = (
        plan_study(Study.load("morphology", ("data.source.objects=64", "train.epochs=1", f"train.max_steps={n}")))
        for n in (1, 3)
    )
    assert few["flops"] <= many["flops"]
    assert few["train_objects"] == pytest.approx(45, abs=20)


def test_a_ladder_is_trained_fitted_and_resumed(table_survey, tmp_path):
    study = Study.from_dict(change(TABLE, train__batch=16), name="tiny")
    found = scale_study(study, ["2", "8", "32"], [4, 40], data=table_survey, out=tmp_path / "l", resamples=8)
    assert len(found["points"]) == 6
    sizes = {point["size"]: point["parameters"] for point in found["points"]}
    assert sizes["2"] < sizes["8"] < sizes["32"]
    assert {point["tokens"] for point in found["points"]} == {64, 640}
    low, high = found["intervals"]["E"]
    assert low <= high
    assert json.loads((tmp_path / "l/law.json").read_text())["law"] == found["law"]
    assert "<svg" in (tmp_path / "l/law.svg").read_text()
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "l/fits").rglob("model.safetensors")}
    assert len(stamps) == 6
    again = scale_study(study, ["2", "8", "32"], [4, 40], data=table_survey, out=tmp_path / "l", resamples=8)
    assert again == found
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps, "nothing is trained twice"
    with pytest.raises(GsnnError, match="holds another ladder"):
        scale_study(study.set("train.batch=8"), ["2", "8"], [4, 16, 40], data=table_survey, out=tmp_path / "l")


def points(law, sizes=(1e4, 1e5, 1e6), tokens=(1e6, 1e7, 1e8)):
    rows = [(n, d) for n in sizes for d in tokens]
    return [
        {"size": "x", "steps": 1, "parameters": n, "tokens": d, "loss": law.loss(n, d), "passes": 1} for n, d in rows
    ]


def test_the_law_foretells_the_rung_that_was_left_out():
    found = fitted(points(REPLICATION), resamples=10)
    assert found["exponent"]["value"] == pytest.approx(0.5126, abs=0.02)
    (told,) = [note for note in found["notes"] if "foretold" in note]
    assert abs(float(told.split("foretold to ")[1].rstrip("%"))) < 1
    wild = points(Law(10, 10, 1, 0.3, 0.3))
    wild[0]["passes"] = 9
    assert any("more than four times" in note for note in fitted(wild, resamples=5)["notes"])
    assert drawing(found).data["loss"] == [point["loss"] for point in found["points"]]


@pytest.mark.parametrize(
    ("study", "sizes", "steps", "message"),
    [
        (TABLE, ["8"], [1, 2, 3, 4, 5, 6], "at least two sizes"),
        (TABLE, ["8", "16"], [1, 2], "six trainings"),
        (TABLE, ["8", "16", "0"], [1, 2], "too small|width"),
        (TABLE, ["8", "16", "32"], [0, 2], "must be at least 1"),
        (TABLE, ["8", "16", "big"], [1, 2], "width"),
    ],
)
def test_a_ladder_that_cannot_be(study, sizes, steps, message, table_survey, tmp_path):
    with pytest.raises(GsnnError, match=message) as error:
        scale_study(Study.from_dict(study), sizes, steps, data=table_survey, out=tmp_path / "l")
    assert "\n" not in str(error.value)


def test_what_sets_the_size():
    assert size_key(Study.from_dict(TABLE)) == "width"
    assert size_key(Study.from_dict(change(IMAGES, model={"name": "transformer"}))) == "size"
