"""What a finished run is good for: new data are predicted, other surveys judged, single objects shown."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w
from tiny import TABLE, alike, change, picture_rows, pictures, table, table_rows

from gsnn.data.survey import Survey
from gsnn.errors import GsnnError
from gsnn.predict import predict_view
from gsnn.run import Run, run
from gsnn.show import _file
from gsnn.study import Study


def fresh(n=30, **kwargs):
    """Objects that no run has seen."""
    return table(n, first=5000, **kwargs)


def by_id(found):
    return {row["id"]: row for row in found.to_pylist()}


FORMS = ["DataFrame", "astropy table", "arrow table", "dictionary", "csv", "fits", "Survey", "path of a survey"]


def as_form(form, values, folder):
    frame = pandas.DataFrame(values)
    if form == "DataFrame":
        return frame
    if form in ("astropy table", "fits"):
        from astropy.table import Table

        made = Table({name: v.astype(str) if v.dtype == object else v for name, v in values.items()})
        if form == "fits":
            made.write(folder / "new.fits")
            return folder / "new.fits"
        return made
    if form == "arrow table":
        return pa.Table.from_pandas(frame)
    if form == "dictionary":
        return values
    if form == "csv":
        frame.to_csv(folder / "new.csv", index=False)
        return str(folder / "new.csv")
    from gsnn.data.readers import read

    survey = Survey.create(folder / "new.survey", read(frame))
    return survey if form == "Survey" else survey.path


@pytest.mark.parametrize("form", FORMS)
def test_new_data_of_any_form(table_run, tmp_path, form):
    values = fresh()
    found = table_run.predict(as_form(form, values, tmp_path))
    assert found.column_names == ["id", "prediction", "quasar_p", "star_p", "flag"]
    assert found["id"].to_pylist() == list(values["id"])
    expected = table_run.predict(values)
    np.testing.assert_allclose(found["quasar_p"].to_numpy(), expected["quasar_p"].to_numpy(), atol=1e-5)
    agree = np.mean([a == b for a, b in zip(found["prediction"].to_pylist(), values["kind"])])
    assert agree > 0.7


def test_predictions_are_those_of_the_run(table_run, mixture_run, image_run, table_survey, image_survey):
    for one, survey in ((table_run, table_survey), (mixture_run, table_survey), (image_run, image_survey)):
        again = by_id(one.predict(survey))
        for row in one.predictions.to_pylist():
            mine = again[row["id"]]
            for name, value in mine.items():
                if isinstance(value, float):
                    assert value == pytest.approx(row[name], rel=1e-4, abs=1e-6)
                else:
                    assert value == row[name]


def test_the_target_and_needless_columns_may_be_missing(table_run):
    values = fresh()
    few = {name: values[name] for name in ("id", "g", "r", "i")}
    assert table_run.predict(few).equals(table_run.predict(values))


def test_a_batch_does_not_change_an_object(table_run):
    values = fresh()
    alone = table_run.predict({name: v[4:5] for name, v in values.items()})
    together = table_run.predict(values)
    assert alone["quasar_p"][0].as_py() == pytest.approx(together["quasar_p"][4].as_py(), abs=1e-6)


def test_flags_say_what_is_wrong_with_an_object(table_run):
    values = fresh()
    values["g"][2], values["i"][3] = np.nan, np.inf
    values["r"][5] = 4000.0
    flags = table_run.predict(values)["flag"].to_pylist()
    assert flags[2] == "missing g"
    assert flags[3] == "missing i"
    assert flags[5] == "unlike training"
    ordinary = [flag for k, flag in enumerate(flags) if k not in (2, 3, 5)]
    assert ordinary.count("") >= len(ordinary) - 2


def test_rows_that_cannot_be_read_are_answered_too(table_run, tmp_path):
    rows = table_rows(20, first=7000, bad={4: "the file is damaged", 9: "no magnitudes"})
    survey = Survey.create(tmp_path / "sky", rows)
    found = by_id(table_run.predict(survey))
    assert len(found) == 20
    assert found["o7004"] == {
        "id": "o7004", "prediction": None, "quasar_p": None, "star_p": None, "flag": "quarantined: the file is damaged",
    }  # fmt: skip
    assert found["o7000"]["prediction"] in ("quasar", "star")


def test_pixels_that_are_not_finite_do_not_spoil_their_batch(image_run):
    values = pictures(20, first=9000)
    clean = image_run.predict(Survey_of(values))
    values["image"][3, 0, :4] = np.nan
    values["image"][4] = np.inf
    spoilt = image_run.predict(Survey_of(values))
    assert np.isfinite(spoilt["round_p"].to_numpy()).all()
    others = [k for k in range(20) if k not in (3, 4)]
    a, b = (t["round_p"].to_numpy()[others] for t in (clean, spoilt))
    np.testing.assert_allclose(a, b, atol=1e-6)


def Survey_of(values):
    """The pictures as a survey in a folder of its own."""
    import tempfile

    rows = picture_rows(len(values["id"]), first=9000)
    rows.columns = {column: values[column.name] for column in rows.columns}
    return Survey.create(tempfile.mkdtemp() + "/sky", rows)


def test_a_file_is_written_whole(table_run, tmp_path):
    out = tmp_path / "found.parquet"
    found = table_run.predict(fresh(), out)
    assert pq.read_table(out).equals(found)
    assert [p.name for p in tmp_path.iterdir()] == ["found.parquet"]


def test_a_large_survey_is_predicted_in_pieces(table_run, tmp_path, monkeypatch):
    expected = table_run.predict(fresh(50))
    monkeypatch.setattr("gsnn.use.PIECE", 16)
    for found in (table_run.predict(fresh(50), tmp_path / "a.parquet"), table_run.predict(fresh(50))):
        assert found.drop("quasar_p").drop("star_p").equals(expected.drop("quasar_p").drop("star_p"))
        np.testing.assert_allclose(found["star_p"].to_numpy(), expected["star_p"].to_numpy(), atol=1e-6)


def test_all_rows_unreadable_but_one(table_run, tmp_path):
    rows = table_rows(4, first=7000, bad=dict.fromkeys((0, 1, 3), "lost"))
    found = table_run.predict(Survey.create(tmp_path / "sky", rows), tmp_path / "out.parquet")
    assert sorted(flag.startswith("quarantined") for flag in found["flag"].to_pylist()) == [False, True, True, True]


# ------------------------------------------------------------------ data of another schema


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"bands": ("r", "i")}, r"column 'image' has bands \('r', 'i'\), expected \('g', 'r'\)"),
        ({"bands": ("g", "r", "i")}, "expected"),
        ({"side": 10}, r"column 'image' has shape \(2, 10, 10\), expected \(2, 12, 12\)"),
        ({"unit": "count"}, "column 'image' has unit 'count', expected 'nJy'"),
    ],
)
def test_images_of_another_schema_are_refused(image_run, tmp_path, rows, message):
    survey = Survey.create(tmp_path / "sky", picture_rows(10, **rows))
    for use in (image_run.predict, image_run.evaluate):
        with pytest.raises(GsnnError, match=f"these data do not fit the network: .*{message}"):
            use(survey)


def test_a_missing_column_is_named(table_run):
    values = fresh()
    values["G"] = values.pop("g")
    with pytest.raises(GsnnError, match="column 'g' is missing"):
        table_run.predict(values)


def test_a_column_that_a_derived_one_needs_is_named(mixture_run):
    values = fresh()
    del values["r"]
    with pytest.raises(GsnnError, match=r"cannot compute g_r = 'g - r': no column 'r' in the data"):
        mixture_run.predict(values)


def test_text_where_numbers_were_is_refused(table_run):
    values = fresh()
    values["g"] = np.array([f"bright {k}" for k in range(30)], object)
    with pytest.raises(GsnnError, match="column 'g' has kind 'text', expected 'scalar'"):
        table_run.predict(values)


def test_another_unit_is_refused(table_run):
    from astropy.table import Table

    values = fresh()
    given = Table({name: v.astype(str) if v.dtype == object else v for name, v in values.items()})
    given["g"].unit = "nJy"
    with pytest.raises(GsnnError, match="column 'g' has unit 'nJy', expected 'mag'"):
        table_run.predict(given)


@pytest.mark.parametrize("nothing", [{}, {"id": np.array([], object), "g": np.array([])}])
def test_no_rows_are_told(table_run, nothing):
    with pytest.raises(GsnnError, match=r"no rows|no columns"):
        table_run.predict(nothing)


# ------------------------------------------------------------------ judging


def test_another_survey_is_judged(table_run, copied, tmp_path):
    one = copied(table_run)
    survey = Survey.create(tmp_path / "other.survey", table_rows(80, first=3000))
    verdict = one.evaluate(survey.path)
    assert verdict["objects"] == 80
    assert verdict["seen_before"] == 0
    assert verdict["metrics"]["accuracy"]["value"] > 0.6
    kept = one.path / "evaluations" / "other"
    assert json.loads((kept / "answer.json").read_text())["metrics"] == verdict["metrics"]
    assert len(pq.read_table(kept / "predictions.parquet")) == 80
    assert one.predictions.equals(table_run.predictions)  # the run's own are not touched


def test_objects_that_were_trained_on_are_left_out(table_run, copied, table_survey):
    verdict = copied(table_run).evaluate(table_survey)
    objects = table_run.answer["objects"]
    assert verdict["objects"] == objects["test"]
    assert verdict["seen_before"] == objects["train"] + objects["valid"]
    for name, entry in verdict["metrics"].items():
        assert entry["value"] == pytest.approx(table_run.answer["metrics"][name]["value"], rel=1e-5), name


def test_nothing_but_objects_that_were_trained_on_is_refused(table_run, copied, tmp_path):
    seen = set(pq.read_table(table_run.path / "fits/main/seen.parquet")["id"].to_pylist())
    values = table()
    keep = np.array([one in seen for one in values["id"]])
    with pytest.raises(GsnnError, match="every one of these objects was used to train"):
        copied(table_run).evaluate({name: v[keep] for name, v in values.items()})


def test_without_other_data_the_own_test_part_is_judged(table_run, copied):
    one = copied(table_run)
    verdict = one.evaluate()
    assert alike(verdict["metrics"], table_run.answer["metrics"])
    assert one.predictions.equals(table_run.predictions)


def test_judging_needs_the_truth(table_run, copied):
    values = fresh()
    del values["kind"]
    with pytest.raises(GsnnError, match="no column 'kind' in the data"):
        copied(table_run).evaluate(values)


# ------------------------------------------------------------------ showing, explaining, comparing


@pytest.mark.parametrize("name", ["table_run", "mixture_run", "image_run"])
def test_an_object_is_shown_with_its_context(request, copied, name):
    one = copied(request.getfixturevalue(name))
    row = one.predictions.to_pylist()[3]
    about = one.show(row["id"])
    assert about["id"] == row["id"]
    assert about["part"] == "test"
    assert about["truth"] == row["truth"]
    assert about["prediction"] == pytest.approx(row["prediction"]) or about["prediction"] == row["prediction"]
    json.dumps(about)
    if name == "image_run":
        assert about["picture"].endswith(".png")
        assert Path(about["picture"]).read_bytes()[:4] == b"\x89PNG"
        assert about["context"]["snr"] > 0


def test_what_an_object_of_a_table_rests_on(table_run, mixture_run, copied):
    """Its inputs in native units, and how much each matters: most the one that the answer follows."""
    one = copied(mixture_run)
    names, shares = list(one.model.inputs), {}
    for row in one.predictions.to_pylist()[:5]:
        about = one.show(row["id"])
        view = one.ground.survey.view(one.ground.survey.where(f"id = '{row['id']}'"))
        for name, given in view.columns(names).items():
            assert about["inputs"][name] == {
                "value": pytest.approx(given[0], nan_ok=True),
                "unit": one.model.inputs[name].unit,
            }
        assert about["attribution"]["method"] == "occlusion"
        for name, share in about["attribution"]["columns"].items():
            shares[name] = shares.get(name, 0) + abs(share)
    assert shares["g_r"] > shares["i"]  # the redshift follows from g - r alone


def test_a_study_without_methods_is_explained_by_saliency(table_run, copied):
    one = copied(table_run)
    table = tomllib.loads((one.path / "study.toml").read_text())
    table["explain"]["methods"] = ["grad-cam"]
    (one.path / "study.toml").write_text(tomli_w.dumps(table))
    assert Run(one.path).show(one.predictions["id"][0].as_py())["attribution"]["method"] == "saliency"


def test_objects_whose_names_differ_behind_a_dot_have_pictures_of_their_own():
    assert len({_file("K00752.01"), _file("K00752.02"), _file("a/b")}) == 3


def test_an_object_of_the_training_part_is_said_to_be_one(table_run, copied):
    seen = pq.read_table(table_run.path / "fits/main/seen.parquet")["id"][0].as_py()
    assert copied(table_run).show(seen)["part"] in ("train", "valid")


@pytest.mark.parametrize("strange", ["nobody", "o1'; DROP TABLE objects; --", "", "Ω"])
def test_an_object_that_is_not_there_is_told(table_run, copied, strange):
    with pytest.raises(GsnnError, match=r"no object .* in this run's survey"):
        copied(table_run).show(strange)


def test_explanations_are_made_anew(image_run, copied):
    from gsnn.progress import Progress
    from gsnn.use import explain_again

    one = copied(image_run)
    file = one.path / "explain/saliency.npz"
    before = dict(np.load(file))
    file.unlink()
    verdicts = explain_again(one, Progress())
    assert verdicts == image_run.answer["explanations"]
    after = dict(np.load(file))
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-4, atol=1e-6) if value.dtype.kind == "f" else None
    assert (after["ids"] == before["ids"]).all()


def test_the_report_is_written_anew(table_run, copied):
    from gsnn.report.page import write

    one = copied(table_run)
    one.report.unlink()
    assert write(one.path) == one.report
    text = one.report.read_text()
    assert one.answer["question"] in text
    assert "<script src=" not in text


def test_two_runs_are_compared(table_run, table_survey, tmp_path):
    study = change(TABLE, train__epochs=1, data__inputs=["i"], explain__methods=[], evaluate__baselines=[])
    weaker = run(Study.from_dict(study), data=table_survey, out=tmp_path / "weaker")
    found = table_run.compare(weaker)
    assert found["n"] == table_run.answer["objects"]["test"]
    entry = found["metrics"]["accuracy"]
    assert entry["difference"]["value"] == pytest.approx(entry["a"]["value"] - entry["b"]["value"])
    assert entry["a"]["value"] == pytest.approx(table_run.answer["metrics"]["accuracy"]["value"])
    assert entry["difference"]["low"] > 0
    same = table_run.compare(Run(table_run.path))["metrics"]["accuracy"]["difference"]
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)


def test_runs_of_different_questions_are_not_compared(table_run, mixture_run):
    with pytest.raises(GsnnError, match="different targets"):
        table_run.compare(mixture_run)


def test_a_run_is_used_without_its_survey(table_run, copied, tmp_path):
    """Predicting needs the run alone."""
    one = copied(table_run)
    path = one.path / "study.toml"
    path.write_text(path.read_text().replace(table_run.resolved["data"], "/nowhere"))
    assert len(Run(one.path).predict(fresh())) == 30


def test_distances_are_those_of_features(table_run):
    view = table_run.ground.test
    _, distance = predict_view(table_run.model, view, table_run.runtime)
    assert distance.shape == (len(view),)
    assert float((distance > table_run.model.outliers.threshold).float().mean()) < 0.1


def test_a_network_of_another_machine_is_used_on_this_one(table_run, copied):
    """Trained on a GPU that is not here: it predicts on the CPU."""
    one = copied(table_run)
    path = one.path / "fits/main/model/model.toml"
    path.write_text(path.read_text().replace('device = "cpu"', 'device = "cuda:7"'))
    found, expected = Run(one.path).predict(fresh()), table_run.predict(fresh())
    np.testing.assert_allclose(found["star_p"].to_numpy(), expected["star_p"].to_numpy(), atol=1e-6)
    assert alike(Run(one.path).evaluate()["metrics"], table_run.answer["metrics"])
