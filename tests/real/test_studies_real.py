"""Each study of real data in a short form: it beats a loose floor and its sceptic, and its predictions can be read.

A study joins by a line in STUDIES. The floors are far below what the whole study reaches (docs/studies has those
numbers): they tell a broken study from a working one in seconds, and nothing more.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from gsnn.evaluation.distributions import from_columns
from gsnn.run import run
from gsnn.study import Study, built_in


class Short(NamedTuple):
    """A study cut short. ``floor`` is (metric, the least or the greatest value that is accepted)."""

    files: str | tuple[str, ...]
    objects: int
    floor: tuple[str, float]
    changes: tuple[str, ...] = ()


FEW = ("train.epochs=5", "train.batch=64", "model.width=48", "data.where='CAST(id AS BIGINT) % 6 = 1'")
STUDIES = {
    "pulsars": Short("htru2/pulsar_stars.csv", 17_898, ("f1[pulsar]", 0.75), ("train.epochs=3",)),
    "photo-z": Short(
        "boss_dr10_photoz/boss_dr10_0.csv",
        20_000,
        ("sigma_nmad", 0.05),
        ("train.epochs=4", "data.where=MAG_R < 21", "evaluate.baselines=['prior', 'knn']"),
    ),
    "photo-z-sdss": Short(
        ("photoz_annz_sdss/sdss.ugriz.train", "photoz_annz_sdss/sdss.ugriz.valid"),
        20_000,
        ("sigma_nmad", 0.04),
        ("train.epochs=3", "data.split.fractions=[0.6, 0.2, 0.2]"),
    ),
    "star-galaxy-quasar": Short("sdss_dr14_10k", 10_000, ("accuracy", 0.88), ("train.epochs=6",)),
    "odd-spirals": Short(
        "galaxyzoo2_spirals/train",
        1_400,
        ("accuracy", 0.45),
        ("train.epochs=1", "model.width=8", "data.source.size=32", "explain.methods=['saliency']"),
    ),
    "variable-stars-linear": Short(
        "linear_rrlyrae/LINEARattributesFinalApr2013.dat.gz", 6_146, ("accuracy", 0.6), ("train.epochs=2",)
    ),
    "transients": Short("spcc", 17_186, ("roc_auc", 0.65), FEW),
    "supernova-types": Short("spcc", 17_186, ("balanced_accuracy", 0.36), FEW),
    "early-transients": Short("spcc", 17_186, ("roc_auc", 0.55), FEW),
    "transients-spectroscopic": Short(
        "spcc", 17_186, ("roc_auc", 0.6), ("train.epochs=3", "data.where='sntype > 0 OR CAST(id AS BIGINT) % 25 = 1'")
    ),
    "variable-stars": Short(
        "eros1_variable_stars/train.csv",
        2_912,
        ("accuracy", 0.6),
        ("train.epochs=4", "data.source.labels='DATA/eros1_variable_stars/train_varlength_features.csv.gz'"),
    ),
    "expansion": Short(
        ("sn_distances/Union3", "bao/desi_bao_dr2"),
        2_000,
        ("rmse", 0.06),
        ("data.source.universes=2000", "train.epochs=4", "data.split.fractions=[0.7, 0.1, 0.2]"),
    ),
    "sunspots": Short("sunspots_silso/SN_m_tot_V2.0.csv", 3_400, ("rmse", 90.0), ("train.epochs=1",)),
}
MADE = {
    "rotation-curves",  # its page makes the targets, on a stand-in (tests/documents)
    "planck",  # its page trains the emulator that it needs (tests/documents); test_planck_real.py has its likelihood
}
QUICK = ("evaluate.control=false", "evaluate.resamples=100", "explain.objects=6", "train.patience=0")


def test_every_study_of_real_data_is_here():
    needs = {name for name, path in built_in().items() if "obtain" in path.read_text()}
    assert needs == set(STUDIES) | MADE


@pytest.fixture(scope="module", params=STUDIES)
def done(request, data, tmp_path_factory):
    """The short form, run once."""
    short = STUDIES[request.param]
    names = (short.files,) if isinstance(short.files, str) else short.files
    files = [str(data / name) for name in names]
    fixed = () if any("baselines" in change for change in short.changes) else ("evaluate.baselines=['prior']",)
    changes = [change.replace("DATA", str(data)) for change in short.changes]  # where other files stand
    study = Study.load(request.param, (*QUICK, *fixed, *changes))
    folder = tmp_path_factory.mktemp("real") / request.param
    return short, run(study, data=files[0] if len(files) == 1 else files, out=folder)


def test_it_beats_a_loose_floor(done):
    short, finished = done
    metric, floor = short.floor
    entry = finished.answer["metrics"][metric]
    assert entry["value"] > floor if entry["better"] == "high" else entry["value"] < floor


def test_all_objects_take_part(done):
    short, finished = done
    answer = finished.answer
    assert answer["survey"]["objects"] <= short.objects
    assert sum(answer["objects"].values()) <= answer["survey"]["objects"]
    assert answer["objects"]["test"] > 0.05 * sum(answer["objects"].values())


def test_its_predictions_can_be_read(done):
    _, finished = done
    table = pq.read_table(finished.path / "predictions.parquet")
    assert table.column_names[0] == "id"
    assert len(set(table["id"].to_pylist())) == len(table) == finished.answer["objects"]["test"]
    targets = [name for name in table.column_names if name == "truth" or name.endswith("_truth")]
    assert targets
    assert all(table[name].null_count == 0 for name in targets)
    prediction = from_columns(table, name=finished.ground.target if len(targets) > 1 else None)
    assert len(prediction) == len(table)
    assert set(table["flag"].to_pylist()) & {""}


def test_its_report_stands_by_itself(done):
    _, finished = done
    page = finished.report.read_text()
    assert finished.answer["question"] in page
    assert len(page) < 5_000_000
    assert "<script src=" not in page


def test_new_data_of_the_same_kind_are_predicted(done):
    _, finished = done
    survey = finished.ground.survey
    found = finished.predict(survey if finished.answer["objects"]["test"] < 500 else finished.resolved["data"])
    taken = [flag for flag in found["flag"].to_pylist() if not flag.startswith("quarantined")]
    assert len(taken) == finished.answer["survey"]["objects"]
