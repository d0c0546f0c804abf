"""The public face: what ``import gsnn`` offers, documented, and parts that keep to the contracts of their kind."""

import importlib
import inspect

import pytest
from tiny import TABLE

import gsnn
from gsnn.config import PARTS, names, options, resolve

PARTS_OF_ALL_KINDS = [(kind, name) for kind in PARTS for name in PARTS[kind]]


@pytest.mark.parametrize("name", gsnn.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(gsnn, name)
    assert isinstance(value, str) or inspect.getdoc(value)
    assert name in dir(gsnn)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = gsnn.Nothing


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert gsnn.__version__ == version("gsnn")


def test_the_five_steps_in_python(table_survey, tmp_path):
    """What the documentation shows: a study, a run, its answer, predictions, all from ``gsnn`` alone."""
    study = gsnn.Study.from_dict(TABLE).set("train.epochs=1", "explain.methods=[]")
    run = study.run(data=table_survey, out=tmp_path / "run")
    assert isinstance(run, gsnn.Run)
    assert run.answer["question"] == study.question
    assert len(gsnn.Run(tmp_path / "run").predict(table_survey)) == 240
    assert isinstance(run.model, gsnn.Model)
    assert isinstance(gsnn.read({"g": [1.0, 2.0, 3.0]}).schema(), gsnn.Schema)
    with pytest.raises(gsnn.GsnnError):
        study.set("train.epochs=0")
    assert issubclass(gsnn.ConfigError, gsnn.GsnnError)


@pytest.mark.parametrize(("kind", "name"), PARTS_OF_ALL_KINDS)
def test_every_part_of_the_table_is_there_documented_and_typed(kind, name):
    part = resolve(name, kind)
    assert name in names(kind)
    assert inspect.getdoc(part)
    for option, default in options(part).items():
        hint = inspect.signature(part).parameters[option].annotation
        assert hint is not inspect.Parameter.empty, f"{option} has no type"
        assert default is ... or option
    module = importlib.import_module(PARTS[kind][name].split(":")[0])
    assert inspect.getdoc(module)


@pytest.mark.parametrize(("kind", "name"), [pair for pair in PARTS_OF_ALL_KINDS if pair[0] == "augment"])
def test_every_augmentation_says_which_symmetry_it_assumes(kind, name):
    symmetry = resolve(name, kind).symmetry
    assert isinstance(symmetry, str)
    assert len(symmetry.split()) > 3


def test_an_installed_package_adds_parts(monkeypatch):
    from gsnn import config

    monkeypatch.setattr(config, "_installed", lambda: {"model.theirs": "gsnn.models.mlp:MLP"})
    assert "theirs" in names("model")
    assert resolve("theirs", "model").__name__ == "MLP"
    assert resolve("theirs", "model", trust=False).__name__ == "MLP"  # installed by the person: as trusted as GSNN is
