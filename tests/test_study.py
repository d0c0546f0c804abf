"""A study is checked whole before anything runs, and its mistakes are pointed at."""

import json
import re
import sys
import tomllib

import pytest
from tiny import IMAGES, MIXTURE, TABLE, change

from gsnn.errors import ConfigError, GsnnError
from gsnn.locate import locate
from gsnn.study import Study, built_in

TEXT = """\
question = "Is it a star or a quasar?"
schema = 1

[data]
source = { name = "files" }
inputs = ["g", "r"]
target = "kind"
split = { by = "identity", fractions = [0.6, 0.2, 0.2] }
augment = [
  "flip",
  { name = "noise", amplitude = 0.1 },
]

[model]
name = "mlp"
width = 32

[objective]
name = "classify"

[train]
epochs = 3

[evaluate]
baselines = ["prior", { name = "knn" }]
"""


def load(tmp_path, text, *overrides, **more):
    path = tmp_path / "my.toml"
    path.write_text(text)
    return Study.load(path, overrides, **more)


def pointed(error):
    """The line that a message shows, and the word above its caret."""
    first, line, caret = str(error.value).splitlines()
    at = caret.index("^")
    return first, line[at : at + caret.count("^")]


def test_the_text_is_a_study(tmp_path):
    study = load(tmp_path, TEXT)
    assert (study.name, study.train.epochs, study.targets) == ("my", 3, ("kind",))


MLP = "gsnn.models.mlp:MLP"
MISTAKES = {
    "a key in a section": ("epochs = 3", "epohcs = 3", "epohcs", r"\[train\] epohcs: no such key; .* 'epochs'"),
    "a key of a part": ("width = 32", "widht = 32", "widht", r"\[model\] widht: no such key; did you mean 'width'\?"),
    "a key in an inline table": ('{ by = "identity",', '{ bi = "identity",', "bi", r"\[data.split\] bi: no such key"),
    "a key of a part in a table": ('{ name = "knn" }', '{ name = "knn", neighbors = 3 }', "neighbors", "no such key"),
    "a key in an array of several lines": ("amplitude = 0.1", "amplitud = 0.1", "amplitud", "no such key"),
    "a section": ("[train]", "[trian]", "trian", r"trian: no such key; did you mean 'train'\?"),
    "true for a number": ("width = 32", "width = true", "width", "a whole number, not true"),
    "text for a number": ("width = 32", 'width = "32"', "width", 'a whole number, not "32"'),
    "a fraction for a whole number": ("epochs = 3", "epochs = 3.5", "epochs", "a whole number, not 3.5"),
    "a number out of range": ("epochs = 3", "epochs = 0", "epochs", "greater than or equal to 1"),
    "text for a list": ('inputs = ["g", "r"', 'inputs = "g" # ["g", "r"', "inputs", r'must be a list, as in \["g"\]'),
    "a number for text": ('target = "kind"', "target = 4", "target", "not 4"),
    "an unknown part": ('name = "mlp"', 'name = "mpl"', "name", r"no model is called 'mpl'; did you mean 'mlp'\?"),
    "an unknown part in an array": ('"prior",', '"prio",', '"prio"', "no baseline is called 'prio'"),
    "an unknown part in an array of lines": ('"flip"', '"flop"', '"flop"', "no augment is called 'flop'"),
    "an unknown part in a table in an array": ('"knn"', '"nkn"', "name", "no baseline is called 'nkn'"),
    "an unknown source": ('{ name = "files" }', '{ name = "fils" }', "name", "no source is called 'fils'"),
    "a wrong kind of part": ('{ name = "knn" }', f'"{MLP}"', f'"{MLP}"', "is not a baseline: it has no fit"),
    "a needed key": ('target = "kind"\n', "", "data", "target: this key is needed"),
    "too few fractions": ("[0.6, 0.2, 0.2]", "[0.6, 0.4]", "fractions", r"\[data.split.fractions\] 2: this key"),
    "a section that is a value": ("[train]\nepochs = 3", "[explain]\nmethods = 3", "methods", "not 3"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "under", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_pointed_at(tmp_path, old, new, under, message):
    assert old in TEXT
    text = TEXT.replace(old, new)
    with pytest.raises(ConfigError, match=message) as error:
        load(tmp_path, text)
    first, shown = pointed(error)
    assert shown == under
    numbers = [
        i for i, line in enumerate(text.splitlines(), 1) if under in line and (not new or new.split("\n")[-1] in line)
    ]
    assert int(re.match(r"my.toml:(\d+) ", first)[1]) == numbers[0]


def test_a_key_that_stands_nowhere_is_told_without_a_line(tmp_path):
    with pytest.raises(ConfigError, match=r"^my.toml: question: this key is needed$"):
        load(tmp_path, TEXT.replace('question = "Is it a star or a quasar?"\n', ""))


def test_a_mistake_of_the_command_line_is_told_without_a_wrong_line(tmp_path):
    with pytest.raises(
        ConfigError, match=r"\[train\] lerning_rate: no such key; did you mean 'learning_rate'"
    ) as error:
        load(tmp_path, TEXT, "train.lerning_rate=1")
    assert "^" not in str(error.value) or pointed(error)[1] == "train"


@pytest.mark.parametrize(
    ("text", "path", "word"),
    [
        ('[a]\nb = { c = { d = 1, e = 2 }, e = 3 }', ("a", "b", "c", "e"), "e = 2"),
        ('[a]\nb = { c = { d = 1, e = 2 }, e = 3 }', ("a", "b", "e"), "e = 3"),
        ('[a.b]\nc = 1\n[a]\nd = 2', ("a", "b", "c"), "c = 1"),
        ('a.b.c = 1', ("a", "b", "c"), "c = 1"),
        ('[a]\n"b c" = 1', ("a", "b c"), "b c"),
        ('[[a]]\nb = 1\n[[a]]\nb = 2', ("a", 1, "b"), "b = 2"),
        ('# [a]\n#b = 1\n[a]\nb = 2', ("a", "b"), "b = 2"),
        ('q = """\n[a]\nb = 1\n"""\n[a]\nb = 2', ("a", "b"), "b = 2"),
        ('[a]\nx = "b = 1"\nb = 2', ("a", "b"), "b = 2"),
        ('[a]\nb = [\n  { c = 1 },\n  { c = 2 },\n]', ("a", "b", 1, "c"), "c = 2"),
        ('[a]\nb = ["x", "y", "z"]', ("a", "b", 1), '"y"'),
    ],
)  # fmt: skip
def test_the_place_of_a_key(text, path, word):
    line, column, width = locate(text, path)
    assert text.splitlines()[line][column:].startswith(word)
    assert width > 0


def test_a_file_that_is_no_toml(tmp_path):
    with pytest.raises(GsnnError, match=r"my.toml: not a TOML file: .*line 3"):
        load(tmp_path, 'question = "a"\nschema = 1\nmodel = = 3')
    (tmp_path / "my.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GsnnError, match="not a TOML file"):
        Study.load(tmp_path / "my.toml")


def test_a_study_that_is_not_there(tmp_path):
    with pytest.raises(GsnnError, match="did you mean 'pulsars'"):
        Study.load("pulsar")
    with pytest.raises(GsnnError, match=r"there is no study file .*nowhere.toml"):
        Study.load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.epochs=5", ("train", "epochs"), 5),
        ("train.learning_rate=1e-2", ("train", "learning_rate"), 0.01),
        ("train.optimizer=sgd", ("train", "optimizer"), "sgd"),
        ('train.optimizer="sgd"', ("train", "optimizer"), "sgd"),
        ("train.freeze=['stem']", ("train", "freeze"), ["stem"]),
        ("data.split.guard_arcsec=10", ("data", "split", "guard_arcsec"), 10.0),
        ("data.where=g < 21", ("data", "where"), "g < 21"),
        ("data.derive.u_g=u - g", ("data", "derive", "u_g"), "u - g"),
        ("data.classes.a=galaxy of a kind", ("data", "classes", "a"), "galaxy of a kind"),
        ("data.source=galaxies", ("data", "source"), "galaxies"),
        ("evaluate.baselines=['knn']", ("evaluate", "baselines"), ["knn"]),
        ("evaluate.control=true", ("evaluate", "control"), True),
        ("explain.objects = 3", ("explain", "objects"), 3),
        ("model.dropout=0.5", ("model", "dropout"), 0.5),
        ("objective.label_smoothing=0.1", ("objective", "label_smoothing"), 0.1),
        ("question=Why?", ("question",), "Why?"),
    ],
)
def test_set_reaches_every_value(tmp_path, override, path, value):
    for study in (load(tmp_path, TEXT, override), load(tmp_path, TEXT).set(override)):
        found = study.to_dict()
        for key in path:
            found = found[key]
        assert found == value


def test_set_opens_a_part_that_is_named_alone(tmp_path):
    study = load(tmp_path, TEXT.replace('{ name = "files" }', '"files"'), "data.source.key=table")
    assert study.data.source == {"name": "files", "key": "table"}


@pytest.mark.parametrize("wrong", ["train.epochs", "train.epochs.more=1", "nonsense"])
def test_a_setting_of_a_wrong_form_is_told(tmp_path, wrong):
    with pytest.raises(GsnnError, match="--set"):
        load(tmp_path, TEXT, wrong)


@pytest.mark.parametrize("name", [*built_in(), "table", "mixture", "images"])
@pytest.mark.parametrize("defaults", [False, True])
def test_from_text_to_object_and_back(name, defaults):
    own = {"table": TABLE, "mixture": MIXTURE, "images": IMAGES}
    study = Study.from_dict(own[name]) if name in own else Study.load(name)
    table = tomllib.loads(study.to_toml(defaults=defaults))
    again = Study.from_dict(table)
    assert again.to_dict(defaults=True) == study.to_dict(defaults=True)
    assert again.digest == study.digest
    if not defaults:
        assert again.to_dict() == study.to_dict()


CHANGES = [
    "question=Other?", "data.target=redshift", "data.inputs=['g']", "data.where=g < 21", "data.split.guard_arcsec=3",
    "data.transforms.scalars=whiten", "model.width=17", "objective.label_smoothing=0.1", "train.epochs=4",
    "train.batch=16", "train.precision=bfloat16", "evaluate.baselines=['prior']", "evaluate.control=true",
    "evaluate.resamples=20", "evaluate.temperature=false", "explain.objects=4", "explain.methods=[]",
]  # fmt: skip


@pytest.mark.parametrize("changed", CHANGES)
def test_whatever_changes_the_answer_changes_the_digest(changed):
    study = Study.from_dict(TABLE)
    assert study.set(changed).digest != study.digest


@pytest.mark.parametrize(
    "same",
    ["train.optimizer=adamw", "model.dropout=0.0", "schema=1", "train.checkpoint_seconds=7", "data.obtain=elsewhere"],
)
def test_what_cannot_change_the_answer_keeps_the_digest(same):
    study = Study.from_dict(TABLE)
    assert study.set(same).digest == study.digest


def test_the_order_of_keys_and_the_form_of_a_part_do_not_matter():
    study = Study.from_dict(TABLE)
    assert Study.from_dict(dict(reversed(TABLE.items()))).digest == study.digest
    named = change(TABLE, data__source={"name": "files"}, evaluate__baselines=[{"name": "prior"}, {"name": "logistic"}])
    assert Study.from_dict(named).digest == study.digest


@pytest.mark.parametrize("name", built_in())
def test_every_built_in_study_loads_and_asks(name):
    study = Study.load(name)
    assert study.question.endswith("?")
    assert study.name == name
    assert study.evaluate.baselines
    assert len(study.digest) == 8
    assert int(study.digest, 16) >= 0


# ------------------------------------------------------------------ parts from outside

FOREIGN = """
import pathlib
pathlib.Path({mark!r}).write_text("imported")
from gsnn.models.mlp import MLP

class Mine(MLP):
    renamed = {{"breadth": "width"}}
"""


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A package from outside GSNN that leaves a mark when it is imported."""
    mark = tmp_path / "imported"
    (tmp_path / "outside_of_gsnn.py").write_text(FOREIGN.format(mark=str(mark)))
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("outside_of_gsnn", None)
    yield mark
    sys.modules.pop("outside_of_gsnn", None)


OUTSIDE = TEXT.replace('name = "mlp"', 'name = "outside_of_gsnn:Mine"')


def test_a_part_from_outside_is_allowed_in_my_own_study(tmp_path, foreign):
    assert load(tmp_path, OUTSIDE).model["name"] == "outside_of_gsnn:Mine"
    assert foreign.exists()


def test_a_part_from_outside_is_not_even_imported_without_trust(tmp_path, foreign):
    with pytest.raises(ConfigError, match=r"from outside GSNN.*--trust") as error:
        load(tmp_path, OUTSIDE, trust=False)
    assert pointed(error)[1] == "name"
    assert not foreign.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"model__name": "outside_of_gsnn:Mine"},
        {"objective__name": "outside_of_gsnn:Mine"},
        {"data__source": "outside_of_gsnn:Mine"},
        {"data__augment": ["outside_of_gsnn:Mine"]},
        {"data__transforms": {"scalars": "outside_of_gsnn:Mine"}},
        {"evaluate__baselines": ["prior", {"name": "outside_of_gsnn:Mine"}]},
        {"explain__methods": ["outside_of_gsnn:Mine"]},
        {"objective": {"name": "regress", "transform": "outside_of_gsnn:Mine"}, "data__target": "redshift"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_no_place_of_a_study_imports_without_trust(foreign, changes):
    from gsnn.data.schema import Column, Schema
    from gsnn.model import Model

    with pytest.raises(ConfigError, match="--trust"):  # noqa: PT012
        study = Study.from_dict(change(TABLE, **changes), trust=False)
        schema = Schema.of([Column("g", "scalar")])
        Model(schema, Schema.of([Column("redshift", "scalar")]), study.spec, trust=study.trust)
    assert not foreign.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package_anywhere:Net", "cannot import .*no_such_package_anywhere.*install the package"),
        ("gsnn.models.mlp:Nothing", "the module 'gsnn.models.mlp' has no 'Nothing'"),
        ("json:dumps", "is not a model: it has no forward"),
        ("os:system", "is not a model"),
    ],
)
def test_what_is_no_part_is_told(name, message):
    with pytest.raises(ConfigError, match=message):
        Study.from_dict(change(TABLE, model={"name": name}))


def test_a_renamed_parameter_still_works(tmp_path, foreign):
    from gsnn.config import build
    from gsnn.data.schema import Column, Schema

    text = OUTSIDE.replace("width = 32", "breadth = 32")
    study = load(tmp_path, text)
    assert "breadth" not in study.to_dict(defaults=True)["model"]
    network = build(study.network, "model", Schema.of([Column("g", "scalar")]), 2)
    assert network.head.in_features == 32


def test_an_old_and_a_new_name_at_once_are_refused(tmp_path, foreign):
    with pytest.raises(ConfigError, match="breadth"):
        load(tmp_path, OUTSIDE.replace("width = 32", "width = 32\nbreadth = 16"))


def test_a_study_is_plain_values_and_cannot_be_changed():
    study = Study.from_dict(TABLE)
    json.dumps(study.to_dict(defaults=True))
    with pytest.raises(Exception, match="frozen"):
        study.train.epochs = 9


def test_values_that_a_study_cannot_hold_are_told():
    with pytest.raises(ConfigError, match="cannot hold"):
        Study.from_dict(change(TABLE, model__width={1, 2}))
