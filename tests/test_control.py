"""The control: labels dealt out anew over all parts; trained test objects raise the alarm, luck does not."""

from types import SimpleNamespace

import numpy as np
import pytest
from tiny import Rows

from gsnn.data.schema import Column
from gsnn.data.survey import Survey
from gsnn.evaluation.distributions import Categorical
from gsnn.steps.control import permuted, verdict

OBJECTS, CLASSES = 600, 5


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Objects in five well separated groups; the label is the number of the group."""
    group = np.arange(OBJECTS) % CLASSES
    columns = {
        Column("id", "text"): [f"o{i}" for i in range(OBJECTS)],
        Column("x", "scalar"): group.astype(float),
        Column("label", "scalar"): group.astype(float),
    }
    return Survey.create(tmp_path_factory.mktemp("control") / "sky", Rows(columns))


def ground(survey, train, valid, test):
    views = {name: survey.view(np.asarray(rows)) for name, rows in (("train", train), ("valid", valid), ("test", test))}
    return SimpleNamespace(survey=survey, targets=("label",), **views)


def labels(view):
    return view.columns(["label"])["label"].astype(int)


def answers(found):
    return Categorical(np.eye(CLASSES)[found], tuple("abcde"))


@pytest.fixture
def parts(survey):
    order = np.random.default_rng(1).permutation(OBJECTS)
    return ground(survey, order[:300], order[300:400], order[400:])


def test_labels_are_dealt_out_over_all_parts(parts):
    views = permuted(parts, 3)
    dealt = np.concatenate([labels(view) for view in views])
    assert np.array_equal(np.bincount(dealt), np.full(CLASSES, OBJECTS // CLASSES))
    for view, true in zip(views, (parts.train, parts.valid, parts.test), strict=True):
        assert np.array_equal(view.columns(["x"])["x"], true.columns(["x"])["x"])
        assert 0.05 < (labels(view) == labels(true)).mean() < 0.35
        assert np.array_equal(labels(view.take([7, 2])), labels(view)[[7, 2]])
    assert np.array_equal(labels(permuted(parts, 3)[0]), labels(views[0]))
    assert not np.array_equal(labels(permuted(parts, 4)[0]), labels(views[0]))


def test_luck_with_well_separated_groups_is_no_alarm(parts):
    """A network taught noise gives each group some answer: against the true labels that is far from chance."""
    group = parts.test.columns(["x"])["x"].astype(int)
    alarms = lucky = 0
    for seed in range(40):
        by_group = np.random.default_rng(seed).integers(0, CLASSES, CLASSES)
        alarms += not verdict(answers(by_group[group]), labels(permuted(parts, seed)[2]), seed)["passed"]
        lucky += not verdict(answers(by_group[group]), labels(parts.test), seed)["passed"]
    assert alarms <= 2
    assert lucky > 8


def test_test_objects_that_were_trained_on_are_seen(survey):
    """A network that remembers, with a fifth of the test part among its training objects."""
    order = np.random.default_rng(2).permutation(OBJECTS)
    leaking = ground(survey, order[:340], order[340:400], order[300:500])
    train, _, test = permuted(leaking, 0)
    known = dict(zip(train.rows.tolist(), labels(train), strict=True))
    guess = np.random.default_rng(3).integers(0, CLASSES, len(test))
    remembered = np.array([known.get(row, other) for row, other in zip(test.rows.tolist(), guess, strict=True)])
    assert not verdict(answers(remembered), labels(test), 0)["passed"]
    assert verdict(answers(guess), labels(test), 0)["passed"]
