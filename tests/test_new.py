"""A study to start from is a study: every built-in one as a commented copy, and what is inferred from data."""

import tomllib

import numpy as np
import pandas
import pytest
from tiny import TABLE, pictures, table

from gsnn.check import check_study
from gsnn.errors import GsnnError
from gsnn.new import HEADINGS, copy_study, infer_study
from gsnn.study import Study, built_in


@pytest.mark.parametrize("name", built_in())
def test_a_copy_of_a_built_in_study_is_that_study(name):
    text = copy_study(name)
    assert Study.from_dict(tomllib.loads(text)).digest == Study.load(name).digest


@pytest.mark.parametrize("name", built_in())
def test_every_default_of_a_copy_can_be_taken_in(name):
    """A commented line moved up into its section is accepted, and changes nothing."""
    text = copy_study(name)
    section, taken = "", 0
    for line in text.splitlines():
        if line.startswith("# ["):
            section = line.split("[")[1].split("]")[0]
        elif line.startswith("#   ") and section and " = " in line:
            pair = line[4:].split("   #")[0]
            key = pair.split(" = ")[0]
            value = tomllib.loads(pair)[key]
            table = tomllib.loads(text)
            if value == "":  # not given
                continue
            table.setdefault(section, {})[key] = value
            assert Study.from_dict(table).digest == Study.load(name).digest, line
            taken += 1
    assert taken > 15


def test_a_copy_of_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(Study.from_dict(TABLE).to_toml())
    assert Study.from_dict(tomllib.loads(copy_study(str(path)))).digest == Study.from_dict(TABLE).digest


def test_a_name_that_is_no_study_is_told():
    with pytest.raises(GsnnError, match="did you mean 'pulsars'"):
        copy_study("pulsar")


@pytest.mark.parametrize(
    ("target", "objective", "baseline"), [("kind", "classify", "logistic"), ("redshift", "regress", "forest")]
)
def test_a_study_of_a_file_is_inferred_and_works(table_csv, target, objective, baseline):
    text = infer_study(str(table_csv), target)
    study = Study.from_dict(tomllib.loads(text))
    assert study.objective["name"] == objective
    assert target not in study.data.inputs
    assert set(study.data.inputs) == {"g", "r", "i", "redshift"} - {target}
    assert baseline in study.evaluate.baselines
    assert study.evaluate.control
    for section, heading in HEADINGS.items():
        assert f"# {heading}\n[{section}]" in text
    assert check_study(study.set("model.width=8"))


def test_a_study_of_a_survey_of_images_is_inferred_and_works(image_survey):
    text = infer_study(image_survey.path, "shape")
    study = Study.from_dict(tomllib.loads(text))
    assert study.data.inputs == ("image",)
    assert study.model["name"] == "resnet"
    assert "beware" not in text
    lines = check_study(study.set("model.width=8", "evaluate.baselines=['prior']", "explain.methods=['saliency']"))
    assert any("gradient reaches every parameter" in line for line in lines)


def test_whole_numbers_of_few_values_are_classes(tmp_path):
    values = {**table(60), "type": np.arange(60) % 3}
    pandas.DataFrame(values).to_csv(tmp_path / "a.csv", index=False)
    text = infer_study(str(tmp_path / "a.csv"), "type")
    assert Study.from_dict(tomllib.loads(text)).objective["name"] == "classify"
    assert "# 3 classes" in text


def test_identifiers_are_no_inputs(tmp_path):
    values = {**table(60), "plate": np.arange(60), "specobj_id": np.arange(60) + 10**9}
    pandas.DataFrame(values).to_csv(tmp_path / "a.csv", index=False)
    assert set(tomllib.loads(infer_study(str(tmp_path / "a.csv"), "kind"))["data"]["inputs"]) == {
        "g",
        "r",
        "i",
        "redshift",
    }


def test_names_and_paths_with_quotes_are_written_as_they_are(tmp_path):
    folder = tmp_path / 'a "b" \\c'
    folder.mkdir()
    pandas.DataFrame(table(60)).to_csv(folder / "stars.csv", index=False)
    data = tomllib.loads(infer_study(str(folder / "stars.csv"), "kind"))["data"]
    assert data["source"] == str(folder / "stars.csv")


def test_nothing_to_learn_from_is_told(tmp_path):
    pandas.DataFrame({"id": table(30)["id"], "kind": table(30)["kind"]}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(GsnnError, match="neither images nor numbers beside 'kind'"):
        infer_study(str(tmp_path / "a.csv"), "kind")


def test_a_target_that_is_not_there_is_told(table_csv):
    with pytest.raises(GsnnError, match=r"no column 'kinds' .*did you mean 'kind'"):
        infer_study(str(table_csv), "kinds")


def test_pictures_are_round_or_not():
    """The small sky itself: its classes can be told apart, else the tests that learn them mean nothing."""
    values = pictures(200)
    wide = values["image"].sum(1)[:, :, 5:7].sum((1, 2)), values["image"].sum(1)[:, 5:7, :].sum((1, 2))
    ratio = wide[0] / wide[1]
    assert np.median(ratio[values["shape"] == "round"]) > 1.3 * np.median(ratio[values["shape"] == "edge-on"])
