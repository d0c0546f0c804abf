"""Two tables of predictions, joined by id."""

import json

import numpy as np
import pyarrow as pa
import pytest

from gsnn.errors import GsnnError
from gsnn.evaluation.compare import compare
from gsnn.evaluation.distributions import Categorical, Mixture, Point

IDS = np.array([f"J{i:03d}" for i in range(60)])


def table(prediction, truth, name="z", rows=slice(None)):
    columns = {"id": IDS, "truth": truth, **prediction.to_columns(name)}
    return pa.table({key: np.asarray(values)[rows] for key, values in columns.items()})


def redshifts(scatter, seed=0):
    truth = np.linspace(0.1, 0.9, 60)
    mean = (truth + np.random.default_rng(seed).normal(0, scatter, 60))[:, None]
    return Mixture(np.ones_like(mean), mean, np.full_like(mean, scatter)), truth


def labels(classes=("A", "B")):
    index = np.arange(60) % 2
    p = np.where(np.eye(2)[index] == 1, 0.8, 0.2)
    p[:10] = p[:10, ::-1]
    return Categorical(p, classes), np.array(classes, dtype=object)[index]


def test_redshifts_in_any_order():
    (good, truth), (poor, _) = redshifts(0.02), redshifts(0.08, 1)
    found = compare(table(good, truth, rows=slice(0, 50)), table(poor, truth, rows=slice(None, 5, -1)))
    assert (found["target"], found["n"], found["only_a"], found["only_b"]) == ("z", 44, 6, 10)
    entry = found["metrics"]["sigma_nmad"]
    rows = np.arange(6, 50)
    dz = (good.best() - truth)[rows] / (1 + truth[rows])
    assert entry["a"]["value"] == pytest.approx(1.4826 * np.median(abs(dz - np.median(dz))))
    assert entry["difference"]["verdict"] == "better"
    assert entry["better"] == "low"
    assert {"cde_loss", "crps", "pit_ks"} <= set(found["metrics"])
    json.dumps(found, allow_nan=False)


def test_a_distribution_beside_points():
    good, truth = redshifts(0.02)
    found = compare(table(good, truth), table(Point(truth + 0.2), truth))
    assert found["metrics"]["rmse"]["difference"]["verdict"] == "better"
    assert "crps" not in found["metrics"]
    again = compare(table(Point(truth + 0.2), truth), table(good, truth))
    assert again["metrics"]["rmse"]["difference"]["verdict"] == "worse"


def test_classes():
    p, truth = labels()
    other = Categorical(p.probabilities[:, ::-1], ("B", "A"))  # the same, its columns turned
    found = compare(table(p, truth), table(other, truth))
    entry = found["metrics"]["accuracy"]
    assert entry["a"]["value"] == pytest.approx(50 / 60)
    assert all(e["difference"]["verdict"] in ("same", None) for e in found["metrics"].values())


def test_unknown_truths_are_left_out():
    p, truth = labels()
    truth[:4] = None
    found = compare(table(p, truth), table(p, truth))
    assert (found["n"], found["excluded"]) == (56, 4)


def test_mistakes_are_told_in_a_sentence():
    (d, z), (p, y) = redshifts(0.1), labels()
    other = labels(("A", "C"))
    cases = [
        (table(d, z), table(p, y), "different targets"),
        (table(d, z), table(d, z, name="mass"), "values of z and values of mass"),
        (table(p, y), table(*other), "classes A, B and the classes A, C"),
        (table(d, z, rows=slice(0, 10)), table(d, z, rows=slice(10, 20)), "no object in common"),
        (table(d, z), table(d, z + 0.1), "truths of 60 of 60 common objects differ"),
        (table(d, z), table(d, z, rows=[0, 0, 1]), "stands twice in the second"),
        (table(d, z).drop_columns("truth"), table(d, z), "first table has no column 'truth'"),
    ]
    for a, b, words in cases:
        with pytest.raises(GsnnError, match=words):
            compare(a, b)
