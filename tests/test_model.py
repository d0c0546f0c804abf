"""A model is a file: saved equals loaded, damage is told in a sentence, and another run can start from it."""

import shutil
import tomllib

import numpy as np
import pytest
import tomli_w
import torch
from safetensors.torch import load_file, save_file
from tiny import TABLE, change, table

from gsnn.data.schema import Column, Schema
from gsnn.errors import ConfigError, GsnnError
from gsnn.model import Model, load_weights
from gsnn.run import run
from gsnn.steps.data import ground
from gsnn.steps.explain import batch_of
from gsnn.steps.train import new_model, train_model, warm_start
from gsnn.study import Study


@pytest.fixture(params=["table_run", "mixture_run", "image_run"])
def any_run(request):
    return request.getfixturevalue(request.param)


def folder(some_run):
    return some_run.path / "fits/main/model"


def sample(some_run, n=20):
    return batch_of(some_run.ground.test.take(np.arange(n)), list(some_run.model.inputs))


def columns(prediction):
    return {f"{name} {k}": v for name, one in prediction.items() for k, v in one.to_columns(name).items()}


def same(a, b):
    a, b = columns(a), columns(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_saved_equals_loaded(any_run, tmp_path):
    model, batch = Model.load(folder(any_run)), sample(any_run)
    kept = model.notes
    assert kept["runtime"]["device"] == "cpu"
    model.save(tmp_path / "again", note="kept", nothing=None)
    other = Model.load(tmp_path / "again")
    assert not other.training
    assert other.notes == {"note": "kept"}
    assert other.inputs == model.inputs
    assert other.targets == model.targets
    with torch.inference_mode():
        same(model(batch), other(batch))
        same(model(batch), model.from_features(model.features(batch), batch))
        torch.testing.assert_close(model.outliers(model.features(batch)), other.outliers(other.features(batch)))


def test_predictions_are_in_native_units(mixture_run):
    truth = table()["redshift"]
    with torch.inference_mode():
        best = mixture_run.model(sample(mixture_run))["redshift"].best()
    assert truth.min() / 3 < best.min() < best.max() < truth.max() * 3


def test_a_model_has_no_effect_on_the_random_numbers_of_others(table_run):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Model(table_run.model.inputs, table_run.model.targets, table_run.model.spec)
    assert torch.equal(torch.rand(3), expected)


def test_one_seed_is_one_model(table_run):
    kept = table_run.model
    a, b, c = (Model(kept.inputs, kept.targets, kept.spec, seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


def test_nothing_of_a_model_file_is_executed_without_trust(any_run, tmp_path, monkeypatch):
    mark = tmp_path / "imported"
    (tmp_path / "outside_model.py").write_text(f"open({str(mark)!r}, 'w')\nclass Net: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    kept = tomllib.loads((folder(any_run) / "model.toml").read_text())
    places = {
        "model": {"name": "outside_model:Net"},
        "objective": {"name": "outside_model:Net"},
        "transforms": {next(iter(kept["inputs"]["columns"]))["name"]: "outside_model:Net"},
    }
    places["transforms"] |= {"scalars": "outside_model:Net"}
    for key, value in places.items():
        target = tmp_path / f"received-{key}"
        shutil.copytree(folder(any_run), target)
        (target / "model.toml").write_text(tomli_w.dumps({**kept, "spec": {**kept["spec"], key: value}}))
        with pytest.raises(GsnnError, match=r"received from elsewhere.*--trust"):
            Model.load(target)
    assert not mark.exists()


# ------------------------------------------------------------------ damage


@pytest.fixture
def copy(table_run, tmp_path):
    shutil.copytree(folder(table_run), tmp_path / "model")
    return tmp_path / "model"


def sentence(path):
    with pytest.raises(GsnnError) as error:
        Model.load(path)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("what", ["empty", "short", "header", "garbage", "missing"])
def test_damaged_weights_are_told(copy, what):
    file = copy / "model.safetensors"
    content = file.read_bytes()
    if what == "missing":
        file.unlink()
        assert "no weights at" in sentence(copy)
        return
    file.write_bytes(
        {"empty": b"", "short": content[:-7], "header": b"\xff" * 8 + content[8:], "garbage": b"x" * 999}[what]
    )
    assert "model.safetensors are damaged" in sentence(copy)
    assert "train again, or copy" in sentence(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inputs = [", "model.toml is damaged"),
        ("a = 1", "model.toml is damaged"),
        ("", "model.toml is damaged"),
        ('spec = {}\ntargets = {columns = []}\n[inputs]\ncolumns = [{name = "g"}]', "model.toml is damaged"),
        ('spec = {}\ntargets = {columns = []}\n[inputs]\ncolumns = [{name = "g", kind = "sclar"}]', "mean 'scalar'"),
        ('spec = {}\ninputs = {columns = []}\ntargets = {columns = []}', "model.toml is damaged"),
        ('spec = 3\ninputs = {columns = []}\ntargets = {columns = []}', "model.toml is damaged"),
    ],
)  # fmt: skip
def test_a_damaged_description_is_told(copy, text, message):
    (copy / "model.toml").write_text(text)
    assert message in sentence(copy)


def test_no_model_is_told(tmp_path):
    assert "holds no trained model; train one with" in sentence(tmp_path)


def test_binary_in_the_description_is_told(copy):
    (copy / "model.toml").write_bytes(b"\xff\x00\x01")
    assert "model.toml is damaged" in sentence(copy)


def test_weights_of_another_network_are_refused(copy):
    text = (copy / "model.toml").read_text()
    (copy / "model.toml").write_text(text.replace("width = 16", "width = 8"))
    assert "belong to another network" in sentence(copy)


def test_a_tensor_too_few_or_too_many_is_refused(copy):
    file = copy / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("head.weight"))
    save_file({k: v for k, v in tensors.items() if k != name}, file)
    assert f"{name!r} does not fit" in sentence(copy)
    save_file({**tensors, "strange": torch.zeros(2)}, file)
    assert "'strange' does not fit" in sentence(copy)


# ------------------------------------------------------------------ starting from another


def states(study, survey, **kwargs):
    one = ground(study, survey)
    return one, new_model(study, one, one.train, 0)


def test_a_run_starts_from_another_run(table_run, table_survey):
    study = Study.from_dict(change(TABLE, model__weights=str(table_run.path)))
    _, model = states(study, table_survey)
    expected, found = table_run.model.state_dict(), model.state_dict()
    for name in expected:
        if name.startswith("objective.network"):
            assert torch.equal(found[name], expected[name]), name


@pytest.mark.parametrize("form", ["run", "model folder", "file"])
def test_what_can_be_started_from(table_run, table_survey, form):
    path = {"run": table_run.path, "model folder": folder(table_run), "file": folder(table_run) / "model.safetensors"}[
        form
    ]
    _, model = states(Study.from_dict(change(TABLE, model__weights=str(path))), table_survey)
    name = "objective.network.head.weight"
    assert torch.equal(model.state_dict()[name], table_run.model.state_dict()[name])


def test_a_start_keeps_what_fits_and_says_what_does_not(table_run, table_survey):
    wider = Study.from_dict(change(TABLE, data__target="redshift", objective={"name": "regress"}))
    _, fresh = states(wider, table_survey)
    model = new_model(wider, ground(wider, table_survey), ground(wider, table_survey).train, 0)
    left = load_weights(model, folder(table_run) / "model.safetensors", partly=True)
    assert "objective.network.head.weight" in left  # three outputs, not two
    kept = [name for name in model.state_dict() if name not in left and name.endswith("weight")]
    assert kept
    for name in kept:
        assert torch.equal(model.state_dict()[name], table_run.model.state_dict()[name])
    assert torch.equal(
        model.state_dict()["objective.network.head.weight"], fresh.state_dict()["objective.network.head.weight"]
    )


def test_a_start_does_not_bring_the_statistics_of_other_data(table_run, table_survey):
    """The transforms are of this survey's training part, not of the run that the weights come from."""
    study = Study.from_dict(change(TABLE, data__where="g > 20", model__weights=str(table_run.path)))
    _, warm = states(study, table_survey)
    _, cold = states(Study.from_dict(change(TABLE, data__where="g > 20")), table_survey)
    for name, value in cold.transforms.state_dict().items():
        assert torch.equal(warm.transforms.state_dict()[name], value), name


def test_a_start_does_not_bring_what_a_network_measured_of_other_data(tmp_path):
    """The scatter of the pairs of clouds, of the survey at hand."""
    inputs = Schema.of([Column("points", "graph", shape=(3,))])
    spec = {"model": {"name": "graph", "shells": 3, "reach": 2.0}, "objective": {"name": "regress"}}
    old, new = (Model(inputs, Schema.of([Column("mass", "scalar")]), spec, seed=seed) for seed in (0, 1))
    old.objective.network.pairs.fill_(7.0)
    old.save(tmp_path / "old")
    warm_start(new, tmp_path / "old")
    assert (new.objective.network.pairs < 7).all()
    assert torch.equal(new.objective.network.first.weight, old.objective.network.first.weight)


def test_nowhere_to_start_from_is_told(table_survey, tmp_path):
    study = Study.from_dict(change(TABLE, model__weights=str(tmp_path / "nowhere")))
    with pytest.raises(GsnnError, match=r"\[model\] weights = .*nowhere.* is neither a run"):
        states(study, table_survey)
    save_file({"other": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(GsnnError, match="only a resnet can start from"):
        states(Study.from_dict(change(TABLE, model__weights=str(tmp_path / "foreign.safetensors"))), table_survey)


def test_a_start_from_what_shares_nothing_is_refused(mixture_run, table_survey):
    study = Study.from_dict(change(TABLE, model={"name": "perceptron"}))
    _, model = states(study, table_survey)
    with pytest.raises(GsnnError, match=r"no tensor in .* fits this network"):
        warm_start(model, mixture_run.path)


def test_what_is_frozen_does_not_learn(table_run, table_survey, tmp_path):
    table = change(TABLE, model__weights=str(table_run.path), train__epochs=1, train__freeze=["blocks"])
    names = [n for n, _ in table_run.model.objective.network.named_children()]
    table["train"]["freeze"] = [f"objective.network.{n}" for n in names if n != "head"]
    study = Study.from_dict(table)
    trained = train_model(study, ground(study, table_survey), tmp_path / "fit", seed=0)
    before, after = table_run.model.objective.network.state_dict(), trained.model.objective.network.state_dict()
    for name in before:
        assert torch.equal(before[name], after[name]) == (not name.startswith("head.")), name


def test_freezing_nothing_that_is_there_is_told(table_survey, tmp_path):
    study = Study.from_dict(change(TABLE, train__freeze=["hed"]))
    with pytest.raises(ConfigError, match="hed"):
        run(study, data=table_survey, out=tmp_path / "run")
