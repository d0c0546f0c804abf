"""The verdict is complete, JSON-ready and honest."""

import json
import warnings

import numpy as np
import pytest

from gsnn.data.schema import Column
from gsnn.errors import GsnnError
from gsnn.evaluation.distributions import Categorical, Mixture, Point, Samples
from gsnn.evaluation.judge import headline, judge

KIND = Column("kind", "label", classes=("A", "B"))
Z = Column("redshift", "scalar")
MASS = Column("log_mass", "scalar", unit="dex")


def classifier(truth, skill, seed):
    g = np.random.default_rng(seed)
    right = g.random(len(truth)) < skill
    p = np.eye(2)[np.where(right, truth, 1 - truth)] * 0.7 + 0.15
    return Categorical(p, ("A", "B"))


def photoz(truth, scatter, seed):
    g = np.random.default_rng(seed)
    mean = (truth + g.normal(0, scatter, len(truth)) * (1 + truth))[:, None]
    return Mixture(np.ones_like(mean), mean, scatter * (1 + truth)[:, None])


def strict(judged):
    return json.loads(json.dumps(judged, allow_nan=False))


def labels(n=400, seed=0):
    return np.random.default_rng(seed).integers(2, size=n)


def redshifts(n=400):
    return np.random.default_rng(1).uniform(0.1, 0.8, n)


def test_a_classification():
    truth = labels()
    truth[:7] = -1
    network, rival = classifier(truth.clip(0), 0.9, 1), classifier(truth.clip(0), 0.7, 2)
    turned = Categorical(rival.probabilities[:, ::-1], ("B", "A"))
    magnitude = np.linspace(15, 20, 400)
    magnitude[50:60] = np.nan
    judged = strict(
        judge(network, truth, KIND, baselines={"cas-boosting": turned}, covariates={"r": magnitude}, units={"r": "mag"})
    )
    assert (judged["n"], judged["excluded"]) == (393, 7)
    accuracy = judged["metrics"]["accuracy"]
    known = truth >= 0
    assert accuracy["value"] == pytest.approx((network.best() == truth)[known].mean())
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert accuracy["better"] == "high"
    assert accuracy["percent"]
    beside = judged["baselines"]["cas-boosting"]["accuracy"]
    assert beside["value"] == pytest.approx((rival.best() == truth)[known].mean())
    assert beside["difference"]["value"] == pytest.approx(accuracy["value"] - beside["value"])
    assert beside["difference"]["verdict"] == "better"
    assert np.sum(judged["confusion"]["matrix"]) == 393
    assert np.trace(judged["confusion"]["matrix"]) / 393 == pytest.approx(accuracy["value"])
    assert judged["calibration"]["ece"] == pytest.approx(judged["metrics"]["ece"]["value"])
    curve = judged["curves"]["r"]
    assert (curve["unit"], curve["excluded"], len(curve["bins"])) == ("mag", 10, 8)
    assert sum(b["n"] for b in curve["bins"]) == 383
    assert all(b["accuracy"]["low"] <= b["accuracy"]["value"] for b in curve["bins"])
    assert "accuracy" in curve["bins"][0]["baselines"]["cas-boosting"]
    mean = sum(b["n"] * b["accuracy"]["value"] for b in curve["bins"]) / 383
    assert mean == pytest.approx(((network.best() == truth) & known)[~np.isnan(magnitude)].sum() / 383)


def test_a_redshift():
    truth = redshifts()
    truth[3] = np.nan
    network = photoz(np.nan_to_num(truth), 0.02, 1)
    baselines = {"knn": photoz(np.nan_to_num(truth), 0.04, 2), "linear": Point(np.full(400, 0.4))}
    judged = strict(judge(network, truth, Z, baselines=baselines))
    assert judged["excluded"] == 1
    assert judged["metrics"]["sigma_nmad"]["value"] == pytest.approx(0.02, rel=0.2)
    assert "crps" in judged["baselines"]["knn"]
    assert "crps" not in judged["baselines"]["linear"]
    assert judged["baselines"]["knn"]["cde_loss"]["difference"]["verdict"] == "better"
    assert sum(judged["calibration"]["pit"]) == 399
    assert judged["calibration"]["pit_ks"] == pytest.approx(judged["metrics"]["pit_ks"]["value"])
    assert "confusion" not in judged


def test_headline_says_what_is_so():
    truth = labels(1000)
    weak, strong, twin = (classifier(truth, skill, seed) for skill, seed in ((0.7, 2), (0.9, 1), (0.9, 5)))

    def say(network, **baselines):
        return headline(judge(network, truth, KIND, baselines=baselines, resamples=300), KIND, objects="galaxies")

    won = say(strong, weak=weak, prior=classifier(truth, 0.5, 9))
    assert "% (" in won
    assert "accuracy on 1,000 held-out galaxies, " in won
    assert "points (" in won
    assert "above weak on the same galaxies" in won  # the best of the baselines, not the worst
    assert "below strong on the same galaxies" in say(weak, strong=strong)
    assert "no different from twin" in say(strong, twin=twin)
    assert say(strong).endswith("held-out galaxies")


def test_headline_of_values():
    truth = redshifts()
    judged = judge(photoz(truth, 0.02, 1), truth, Z, baselines={"knn": photoz(truth, 0.04, 2)}, resamples=300)
    said = headline(judged, Z)
    assert said.startswith("sigma_NMAD 0.0")
    assert "below knn on the same objects (better: low is good)" in said
    lost = judge(photoz(truth, 0.04, 2), truth, Z, baselines={"knn": photoz(truth, 0.02, 1)}, resamples=300)
    assert "above knn on the same objects (worse: low is good)" in headline(lost, Z)
    mass = judge(Point(truth + 0.1), truth, MASS, resamples=50)
    assert headline(mass, MASS).startswith("RMSE of log_mass 0.1")
    assert " dex" in headline(mass, MASS)
    far = judge(Point(truth + 0.1), truth, MASS, baselines={"b": Point(truth + 0.2)}, resamples=50)
    assert "better than b" in headline(far, MASS, metric="bias")


def test_it_repeats():
    truth = labels(60)
    once, again, other = (judge(classifier(truth, 0.8, 1), truth, KIND, seed=s, resamples=50) for s in (3, 3, 4))
    assert once == again
    assert once["metrics"]["accuracy"]["low"] != other["metrics"]["accuracy"]["low"] or once != other


EDGES = {
    "one class in truth": (classifier(labels(50), 0.8, 1), np.zeros(50, int), KIND),
    "two objects": (classifier(labels(2), 0.8, 1), np.array([0, 1]), KIND),
    "all equal": (Categorical(np.full((30, 2), 0.5), ("A", "B")), labels(30), KIND),
    "no truth": (classifier(labels(5), 0.8, 1), np.full(5, -1), KIND),
    "no truth of a value": (photoz(redshifts(5), 0.1, 1), np.full(5, np.nan), Z),
    "one value": (photoz(redshifts(1), 0.1, 1), np.array([0.3]), Z),
    "the same value": (Samples(np.ones((20, 4))), np.ones(20), MASS),
    "points": (Point(np.zeros(20)), np.zeros(20), MASS),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges_give_numbers_or_none(name):
    prediction, truth, target = EDGES[name]
    n = len(truth)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        covariates = {"x": np.arange(n, dtype=float), "same": np.ones(n), "none": np.full(n, np.nan)}
        judged = judge(prediction, truth, target, baselines={"b": prediction}, covariates=covariates, resamples=30)
        text = headline(judged, target)
    strict(judged)
    assert isinstance(text, str)
    assert "nan" not in text
    assert all(
        e["difference"]["verdict"] in ("same", None) for each in judged["baselines"].values() for e in each.values()
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, y: judge(p, y[:-1], KIND), "predicts 20 objects, but there are 19 truths"),
        (lambda p, y: judge(p, y, KIND, baselines={"b": Point(np.zeros(20))}), "b predicts Point"),
        (
            lambda p, y: judge(p, y, KIND, baselines={"b": Categorical(p.probabilities, ("A", "C"))}),
            "knows the classes",
        ),
        (lambda p, y: judge(p, y, KIND, covariates={"r": np.zeros(3)}), "covariate 'r' has 3 values"),
        (lambda p, y: judge(p, y.astype(str), KIND), "class indices"),
    ],
)
def test_mistakes_are_told_in_a_sentence(change, words):
    truth = labels(20)
    with pytest.raises(GsnnError, match=words):
        change(classifier(truth, 0.8, 1), truth)
