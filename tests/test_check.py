"""``gsnn check``: one batch through every step, and the name of the step that fails."""

import contextlib
import re
import tempfile

import numpy as np
import planck_files
import pytest
import torch
from tiny import IMAGES, MIXTURE, TABLE, change, picture_rows, table, table_rows

from gsnn.check import Some, affordable, check_study
from gsnn.data.schema import Column, Schema
from gsnn.data.survey import Survey
from gsnn.errors import ConfigError, GsnnError
from gsnn.steps.data import augmentations
from gsnn.study import Study, built_in

STUDIES = {"table": TABLE, "mixture": MIXTURE, "images": IMAGES}


def data_of(name, request):
    return request.getfixturevalue("image_survey" if name == "images" else "table_survey")


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_that_works_is_told_step_by_step(name, request):
    said = []
    lines = check_study(Study.from_dict(STUDIES[name]), data=data_of(name, request), say=said.append)
    assert said == lines
    assert sorted({int(line[0]) for line in lines}) == [2, 3, 4, 5]
    text = "\n".join(lines)
    assert re.search(r"3 architecture: \w+ of [\d,]+ parameters", text)
    assert "gradient reaches every parameter" in text
    assert f"prediction {'Warped' if name == 'mixture' else 'Categorical'} of" in text


@pytest.mark.parametrize("form", ["file", "table"])
def test_data_need_not_be_a_survey(table_csv, form):
    assert check_study(Study.from_dict(TABLE), data=str(table_csv) if form == "file" else table())


def test_nothing_is_left_behind(table_csv, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    check_study(Study.from_dict(TABLE), data=str(table_csv))
    with pytest.raises(GsnnError):
        check_study(Study.from_dict(change(TABLE, data__target="kinds")), data=str(table_csv))
    assert list(tmp_path.iterdir()) == []


def test_a_few_objects_are_learned_by_heart(table_survey):
    lines = check_study(Study.from_dict(TABLE), data=table_survey, overfit=8)
    assert any("8 objects learned by heart" in line for line in lines)


def test_a_network_that_learns_nothing_is_told(table_survey):
    with pytest.raises(
        GsnnError, match=r"step 4 \(training and judging\) fails: the network cannot learn 8 objects by heart"
    ):
        check_study(Study.from_dict(change(TABLE, train__learning_rate=1e-9)), data=table_survey, overfit=8)


@pytest.mark.parametrize(
    ("name", "changes", "step", "message"),
    [
        ("table", {"data__target": "kinds"}, 2, "no column 'kinds' in the data; did you mean 'kind'"),
        ("table", {"data__inputs": ["G"]}, 2, "no column 'G' in the data"),
        ("table", {"data__inputs": ["kind", "g"]}, 2, "'kind' is an input and the target at once"),
        ("table", {"data__inputs": ["id"]}, 2, "'id' is id, which no network reads"),
        ("table", {"data__where": "g < 3"}, 2, "no object fulfils where = 'g < 3'"),
        ("table", {"data__where": "gg < 3"}, 2, "cannot filter by 'gg < 3'"),
        ("table", {"data__derive": {"x": "g - nothing"}}, 2, "cannot compute x = 'g - nothing'"),
        ("table", {"data__split": {"by": "sky"}}, 2, "needs the columns ra and dec"),
        ("table", {"data__split": {"by": "group", "column": "field"}}, 2, "no column 'field'"),
        ("table", {"data__classes": {"galaxy": "galaxies"}}, 2, "names 'galaxy', which column 'kind' never holds"),
        ("table", {"data__target": "g", "data__inputs": ["r"]}, 2, "too many for classes"),
        ("table", {"evaluate__by": ["snr"]}, 2, "no column 'snr' in the data"),
        ("table", {"data__transforms": {"image": "asinh"}}, 3, "names no input; use scalars"),
        ("table", {"data__transforms": {"scalars": {"name": "log", "offset": -100.0}}}, 3, "log needs x"),
        ("table", {"model": {"name": "cnn"}}, 3, "cnn.*mlp"),
        ("table", {"objective": {"name": "regress"}}, 3, "regress needs a number for each object"),
        ("images", {"model": {"name": "resnet", "stem": "none"}}, 3, "stem"),
        ("images", {"evaluate__baselines": ["linear"]}, 4, "linear"),
        ("table", {"explain__methods": ["grad-cam"]}, 5, "grad-cam|convolution"),
    ],
)  # fmt: skip
def test_the_step_that_fails_is_named(request, name, changes, step, message):
    names = {2: "data", 3: "architecture", 4: "training and judging", 5: "interpretation"}
    with pytest.raises(GsnnError, match=message) as error:
        check_study(Study.from_dict(change(STUDIES[name], **changes)), data=data_of(name, request))
    text = str(error.value)
    assert text.startswith(f"step {step} ({names[step]}) fails: ") or (step == 3 and "stem" in changes.get("model", {}))
    assert "\n" not in text


def test_a_network_that_leaves_parameters_idle_is_told(table_survey, tmp_path, monkeypatch):
    code = (
        "import torch\nfrom gsnn.models.mlp import MLP\n"
        "class Idle(MLP):\n"
        "    def __init__(self, inputs, outputs, *, width: int = 8):\n"
        "        super().__init__(inputs, outputs, width=width)\n"
        "        self.idle = torch.nn.Linear(2, 2)\n"
    )
    (tmp_path / "idle_network.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        GsnnError, match=r"no gradient reaches objective.network.idle.weight; the network does not use it"
    ):
        check_study(Study.from_dict(change(TABLE, model={"name": "idle_network:Idle"})), data=table_survey)


def test_pixels_of_any_size_do_not_crash_it(tmp_path):
    rows = picture_rows(60)
    image = next(c for c in rows.columns if c.name == "image")
    rows.columns[image] = np.where(rows.columns[image] > 0, 3e38, -3e38).astype(np.float32)
    study = Study.from_dict(change(IMAGES, data__transforms={"image": {"name": "asinh"}}, data__augment=["noise"]))
    with contextlib.suppress(GsnnError):  # a sentence, or it works: never a crash
        check_study(study, data=Survey.create(tmp_path / "sky", rows))


def test_some_rows_of_a_source():
    source = table_rows(100)
    some = Some(source, 7)
    assert len(some) == 7
    assert some.schema() == source.schema()
    ids = some.rows(np.arange(7), 0).column("id").to_pylist()
    assert ids[0] == "o0"
    assert ids[-1] == "o99"
    assert len(Some(source, 1000)) == 100


def test_a_source_that_takes_long_is_asked_for_fewer_rows(monkeypatch):
    class Slow:
        def __len__(self):
            return 1000

        def rows(self, indices, seed):
            clock[0] += 0.5

    clock = [0.0]
    monkeypatch.setattr("gsnn.check.time.perf_counter", lambda: clock[0])
    assert affordable(Slow(), 0) == 60
    monkeypatch.setattr(Slow, "rows", lambda self, indices, seed: clock.__setitem__(0, clock[0] + 100))
    assert affordable(Slow(), 0) == 24
    monkeypatch.setattr(Slow, "rows", lambda self, indices, seed: None)
    assert affordable(Slow(), 0) == 512


@pytest.mark.parametrize("name", [name for name, path in built_in().items() if "obtain" not in path.read_text()])
def test_a_built_in_study_that_needs_no_data_works_from_the_start(name, monkeypatch):
    source = Study.load(name).data.source
    counts = {
        "fields": "maps",
        "sphere-fields": "maps",
        "lensing": "maps",
        "groups": "groups",
        "galaxy-boxes": "boxes",
        "foregrounds": "patches",
    }
    count = "of.stars" if "of" in source else counts.get(source["name"], "objects")
    small = [f"data.source.{count}={200 if count == 'maps' else 48}"]
    if source["name"] == "lensing":
        small = ["data.source.maps=60", "data.split.fractions=[0.4, 0.3, 0.3]"]
        small += [f"data.source.{key}={value}" for key, value in (("side", 48), ("pixel", 2.0), ("margin", 0))]
    if source["name"] == "sphere-fields":
        small += ["data.source.nside=8", "data.split.fractions=[0.6, 0.2, 0.2]"]
    if source["name"] == "foregrounds":
        small = ["data.source.patches=60", "data.source.side=16", "data.split.fractions=[0.4, 0.3, 0.3]"]
    if source["name"] == "nbody":
        small = [f"data.source.{key}={value}" for key, value in (("boxes", 24), ("side", 8), ("steps", 2))]
    if source["name"] == "slabs":
        small = [f"data.source.{key}={value}" for key, value in (("universes", 24), ("side", 16), ("steps", 2))]
        small += ["data.split.fractions=[0.4, 0.3, 0.3]"]
    if source["name"] == "cmb":
        monkeypatch.setattr("gsnn.simulate.cmb.spectra", planck_files.universe)
        small = ["data.source.universes=96", "objective.components=8"]
    own = {"lensing": "['kaiser-squires']", "nbody": "['2lpt']", "cmb": "['polynomial']", "foregrounds": "['ilc']"}
    own |= {"slabs": "['gaussian-maps']", "convergence-maps": "['gaussian-maps']"}
    baselines = own.get(name) or own.get(source["name"], "['prior']")
    torch.manual_seed(0)
    assert check_study(Study.load(name, tuple(small)).set("train.batch=16", f"evaluate.baselines={baselines}"))


@pytest.mark.parametrize("name", [name for name, path in built_in().items() if "obtain" in path.read_text()])
def test_a_built_in_study_that_needs_data_says_which(name):
    study = Study.load(name)
    with pytest.raises(GsnnError, match=r"step 2 \(data\) fails: .* needs data: name them by --data PATH") as error:
        check_study(study)
    assert study.data.obtain in str(error.value)


@pytest.mark.parametrize("name", ["rotate", "flip", "shift"])
def test_inputs_are_not_moved_away_from_a_map_that_is_asked_for(name):
    study = Study.load("cmb-foregrounds").set(f"data.augment=['noise', '{name}']")
    cmb = Column("cmb", "image", shape=(1, 8, 8))
    with pytest.raises(ConfigError, match=f"'{name}' would move the inputs and leave the map 'cmb'"):
        augmentations(study, Schema.of([cmb]))
    assert len(augmentations(study, Schema.of([Column("brightness", "scalar")]))) == 2
