import sys
import types
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from gsnn import config
from gsnn.config import PARTS, build, check, names, normalise, options, parse, resolve
from gsnn.errors import ConfigError

ALL = [(kind, name) for kind in PARTS for name in PARTS[kind]]


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_part_of_the_table_is_of_its_kind_and_its_defaults_are_accepted(kind, name):
    part = resolve(name, kind)
    assert (part.__doc__ or "").strip(), "a part says what it is"
    needed = [key for key, value in options(part).items() if value is ...]
    if not needed:
        assert set(check(name, kind)) == {"name", *options(part)}
        assert check(check(name, kind), kind) == check(name, kind)
    assert name in names(kind)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_part_refuses_a_key_that_it_does_not_know(kind, name):
    with pytest.raises(ConfigError, match="no such key"):
        check(
            {"name": name, **{k: v for k, v in options(resolve(name, kind)).items() if v is not ...}, "widht_": 1}, kind
        )


class Lens:
    """A transform of this test."""

    renamed = {"size": "width"}

    def __init__(
        self,
        bands,
        *,
        width: int = 3,
        power: float = 1.0,
        on: bool = True,
        ways: tuple[int, ...] = (),
        how: Literal["a", "b"] = "a",
    ):
        if width < 0:
            raise ValueError("width must not be negative")
        self.given = (bands, width, power, on, ways, how)

    def fit(self): ...

    def forward(self): ...


@pytest.fixture(autouse=True)
def module(monkeypatch):
    made = types.ModuleType("lens_of_a_test")
    made.Lens, made.number, made.Bare = Lens, 3, type("Bare", (), {"fit": None})
    monkeypatch.setitem(sys.modules, "lens_of_a_test", made)


NAME = "lens_of_a_test:Lens"


def test_a_table_becomes_an_object_bound_by_position_and_set_by_key():
    assert build({"name": NAME, "width": 5, "ways": [1, 2]}, "transform", 7).given == (7, 5, 1.0, True, (1, 2), "a")
    assert build(NAME, "transform", 7).given == (7, 3, 1.0, True, (), "a")
    assert build({"name": NAME, "power": 2}, "transform", 7).given[2] == 2.0


def test_an_old_name_of_a_key_is_still_understood():
    assert build({"name": NAME, "size": 9}, "transform", 1).given[1] == 9


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"width": True}, "width: "),
        ({"width": "32"}, "width: "),
        ({"width": 3.5}, "width: "),
        ({"power": "1"}, "power: "),
        ({"on": 1}, "on: "),
        ({"ways": 3}, "ways: "),
        ({"ways": [1, "2"]}, "[data.transforms.image.ways] 1: "),
        ({"how": "c"}, "how: "),
        ({"widht": 3}, "did you mean 'width'"),
        ({"bands": 3}, "no such key"),
        ({"width": -1}, "refuses these values: width must not be negative"),
    ],
)
def test_nothing_is_coerced_and_the_place_is_named(values, words):
    with pytest.raises(ConfigError) as caught:
        build({"name": NAME, **values}, "transform", 1, path=("data", "transforms", "image"))
    assert words in str(caught.value)
    assert "[data.transforms" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "kind", "words"),
    [
        ("standardize", "transform", "did you mean 'standardise'"),
        ("no_such_package_:Thing", "transform", "cannot import"),
        ("lens_of_a_test:Lense", "transform", "has no 'Lense'"),
        ("lens_of_a_test:number", "transform", "is not a transform"),
        ("lens_of_a_test:Bare", "transform", "it has no forward"),
        (NAME, "baseline", "it has no predict"),
        ({"width": 3}, "transform", "needs a name"),
        (7, "transform", "needs a name"),
    ],
)
def test_what_is_no_part_is_refused_before_it_is_called(spec, kind, words):
    with pytest.raises(ConfigError, match=words):
        check(spec, kind)


def test_foreign_code_is_not_even_imported_without_trust(monkeypatch):
    def never(name):
        raise AssertionError(f"imported {name}")

    monkeypatch.setattr(config.importlib, "import_module", never)
    with pytest.raises(ConfigError, match="--trust"):
        build(NAME, "transform", 1, trust=False)


def test_normalise_leaves_the_given_table_alone():
    given = {"name": NAME, "size": 4}
    build(given, "transform", 1)
    assert given == {"name": NAME, "size": 4}
    assert normalise("asinh") == {"name": "asinh"}


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    epochs: Annotated[int, Field(ge=1)] = 3


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    train: Inner = Inner()
    question: str


@pytest.mark.parametrize(
    ("given", "path", "words"),
    [
        ({"question": "?", "train": {"epochs": 0}}, ("train", "epochs"), "greater than or equal to 1"),
        ({"question": "?", "train": {"epoch": 2}}, ("train", "epoch"), "did you mean 'epochs'"),
        ({"question": "?", "trian": {}}, ("trian",), "did you mean 'train'"),
        ({}, ("question",), "this key is needed"),
        ({"question": 5}, ("question",), "not 5"),
        ({"question": {1, 2}}, (), "a value that a study cannot hold"),
    ],
)
def test_a_mistake_in_a_table_is_placed_at_its_key(given, path, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse(Outer, given)
    assert caught.value.path == path
