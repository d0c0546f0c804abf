"""A study to start from is a study: every built-in one as a commented copy, and what is inferred from data."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pandas
import pytest
from tiny import TABLE, curve_rows, pictures, table

from gsnn.check import check_study
from gsnn.data.survey import Survey
from gsnn.errors import GsnnError
from gsnn.new import HEADINGS, copy_study, infer_study
from gsnn.steps.data import source_for
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
    assert set(study.data.inputs) == {"g_r", "r_i", "g", "r", "i", "redshift"} - {target}
    assert study.question == f"What is the {target} of this object?"
    assert baseline in study.evaluate.baselines
    assert study.evaluate.control
    for section, heading in HEADINGS.items():
        assert f"# {heading}\n[{section}]" in text
    assert check_study(study.set("model.width=8"))


def test_a_study_of_a_survey_of_light_curves_is_inferred_and_works(tmp_path):
    survey = Survey.create(tmp_path / "curves", curve_rows(60))
    text = infer_study(survey.path, "kind")
    study = Study.from_dict(tomllib.loads(text))
    assert study.data.inputs == ("lc",)
    assert study.model["name"] == "rnn"
    assert "boosting" in study.evaluate.baselines
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


def inferred(folder, values, target="kind"):
    """The text of an inferred study, and its [data] table."""
    pandas.DataFrame(values).to_csv(folder / "a.csv", index=False)
    text = infer_study(str(folder / "a.csv"), target)
    return text, tomllib.loads(text)["data"]


@pytest.mark.parametrize(("distinct", "learned"), [(4, "classify"), (20, "classify"), (21, "regress")])
def test_whole_numbers_are_classes_though_a_missing_one_makes_them_floats(tmp_path, distinct, learned):
    values = {**table(100), "type": np.arange(100) % distinct + 1.0}
    values["type"][7] = np.nan
    text, _ = inferred(tmp_path, values, "type")
    assert Study.from_dict(tomllib.loads(text)).objective["name"] == learned
    assert (f"# {distinct} classes" in text) == (learned == "classify")


ROWS = 200
NEEDLESS = {
    "empty": np.full(ROWS, np.nan),
    "always": np.full(ROWS, 3.5),
    "kepid": np.arange(ROWS) // 2 + 10**7,
    "star_id_b": np.arange(ROWS) % 7,
    "plate": np.arange(ROWS) % 11,
    "counter": np.arange(ROWS) + 5,
    "code": np.random.default_rng(1).permutation(ROWS),
    "number": np.random.default_rng(2).choice(10**15, ROWS, replace=False),
    "koi_score": np.linspace(0, 1, ROWS),
}
NEEDED = {
    "counts": np.random.default_rng(3).poisson(300, ROWS),  # whole numbers, many but not each its own
    "n_valid": np.random.default_rng(4).integers(0, 5, ROWS),
    "flux": np.random.default_rng(5).choice(10**6, ROWS, replace=False),
}


@pytest.mark.parametrize("name", NEEDLESS)
def test_what_tells_nothing_of_an_object_is_left_out_with_the_reason(tmp_path, name):
    text, data = inferred(tmp_path, {**table(ROWS), **NEEDED, name: NEEDLESS[name]})
    assert set(data["inputs"]) - {"g_r", "r_i"} == {"g", "r", "i", "redshift", *NEEDED}
    (line,) = [line for line in text.splitlines() if line.startswith(f'  # "{name}",   # left out: ')]
    assert len(line.split("left out: ")[1]) > 3


@pytest.mark.parametrize("target", ["kind", "redshift"])
def test_what_gives_the_target_away_is_left_out(tmp_path, target):
    values = table(ROWS)
    values["verdict"] = (values["kind"] == "quasar") * 1.5 if target == "kind" else values["redshift"] * 3 + 1
    text, data = inferred(tmp_path, values, target)
    assert "verdict" not in data["inputs"]
    assert f'# "verdict",   # left out: gives {target} away: alone' in text


@pytest.mark.parametrize("sky", [False, True])
def test_objects_that_share_an_identifier_are_kept_together(tmp_path, sky):
    """Where there are positions the split by sky does so already, and the line is left as a hint."""
    values = {**table(ROWS), "kepid": np.arange(ROWS) // 2 + 10**7, "plate": np.arange(ROWS) % 50}
    values |= {"ra": np.linspace(0, 359, ROWS), "dec": np.linspace(-60, 60, ROWS)} if sky else {}
    text, data = inferred(tmp_path, values)
    assert data.get("split") == (None if sky else {"by": "group", "column": "kepid"})
    assert "kepid has 100 values for 200 objects" in text
    assert 'by = "group", column = "kepid"' in text
    assert check_study(Study.from_dict(tomllib.loads(text)).set("model.width=8"))


def test_colours_of_neighbouring_bands_in_the_order_of_wavelength(tmp_path):
    """Whatever order the file has. Errors, and a redshift called z, are no magnitudes."""
    magnitude = lambda k: 20 + 0.1 * k + np.random.default_rng(k).normal(size=ROWS)  # noqa: E731
    lsst = {f"mag_{band}_lsst": magnitude(k) for k, band in enumerate("giruyz")}
    other = {"J_mag": magnitude(7), "K_mag": magnitude(8), "H_mag": magnitude(9)}
    plain = {"z": np.linspace(0, 3, ROWS), "mag_err_g_lsst": magnitude(10) / 100}
    text, data = inferred(tmp_path, {**plain, **other, **lsst, "y": np.random.default_rng(11).random(ROWS)}, "y")
    assert data["derive"] == {
        "u_g": "mag_u_lsst - mag_g_lsst", "g_r": "mag_g_lsst - mag_r_lsst", "r_i": "mag_r_lsst - mag_i_lsst",
        "i_z": "mag_i_lsst - mag_z_lsst", "z_y": "mag_z_lsst - mag_y_lsst", "J_H": "J_mag - H_mag",
        "H_K": "H_mag - K_mag",
    }  # fmt: skip
    assert list(data["derive"]) == data["inputs"][:7]
    assert [name for name in data["inputs"] if name.endswith("_lsst")][:6] == [f"mag_{b}_lsst" for b in "ugrizy"]
    assert {"z", "mag_err_g_lsst"} <= set(data["inputs"])
    assert "by their name or unit:" in text
    assert check_study(Study.from_dict(tomllib.loads(text)).set("model.width=8"))


def test_numbers_that_may_mean_no_value_are_told_with_the_line_that_reads_them_so(tmp_path):
    values = table(ROWS)
    values["g"][3:9] = 99.0
    text, data = inferred(tmp_path, values)
    (line,) = [line for line in text.splitlines() if line.startswith("# source = ")]
    assert "99 stands far outside the rest of g" in text
    other = tomllib.loads(text.replace(f"source   = {json.dumps(data['source'])}\n", "").replace(line, line[2:]))
    assert other["data"]["source"]["missing"] == [99]
    survey = Survey.create(tmp_path / "s", source_for(Study.from_dict(other)))
    assert np.isnan(survey.view().columns(["g"])["g"]).sum() == 6


def test_a_study_in_another_folder_finds_its_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pandas.DataFrame(table(60)).to_csv("stars.csv", index=False)
    (tmp_path / "studies").mkdir()
    text = infer_study("stars.csv", "kind", Path("studies"))
    assert tomllib.loads(text)["data"]["source"] == "../stars.csv"
    (tmp_path / "studies/mine.toml").write_text(text)
    assert check_study(Study.load("studies/mine.toml").set("model.width=8"))


def test_names_and_paths_with_quotes_are_written_as_they_are(tmp_path):
    folder = tmp_path / 'a "b" \\c'
    folder.mkdir()
    pandas.DataFrame(table(60)).to_csv(folder / "stars.csv", index=False)
    data = tomllib.loads(infer_study(str(folder / "stars.csv"), "kind"))["data"]
    assert data["source"] == str(folder / "stars.csv")


def test_nothing_to_learn_from_is_told(tmp_path):
    pandas.DataFrame({"id": table(30)["id"], "kind": table(30)["kind"]}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(GsnnError, match="neither images, light curves nor numbers beside 'kind'"):
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
