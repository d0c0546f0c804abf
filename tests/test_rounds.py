"""Rounds narrow the prior to what was observed, and the last posterior is that of the wide prior."""

import numpy as np
import pytest
from toy_source import NOISE, OBSERVED

from gsnn.errors import ConfigError
from gsnn.progress import Progress
from gsnn.rounds import box_of, check_rounds, leaning
from gsnn.run import run
from gsnn.study import Study

TABLE = {
    "question": "Where?",
    "data": {
        "source": {"name": "toy_source:Toy", "objects": 1200},
        "inputs": ["x", "y"],
        "target": ["a", "b"],
        "split": {"fractions": [0.8, 0.1, 0.1]},
        "rounds": 3,
    },
    "model": {"name": "mlp", "width": 32, "depth": 2},
    "objective": {"name": "posterior", "flow": "affine", "layers": 2, "width": 32},
    "train": {"epochs": 25, "batch": 64, "learning_rate": 5e-3},
    "evaluate": {"baselines": ["prior"], "resamples": 50},
}


def study(*changes):
    return Study.from_dict(TABLE).set(*changes)


@pytest.mark.slow
def test_rounds_find_a_posterior_a_hundredth_of_the_prior(tmp_path):
    found = run(study(), out=tmp_path / "run", progress=Progress()).answer
    before = found["rounds"]["before"]
    assert [one["simulations"] for one in before] == [1200, 1200]
    assert before[0]["volume"] < 0.02
    for name, true in zip("ab", OBSERVED):
        low, high = found["rounds"]["box"][name]
        assert low < true - 2.5 * NOISE
        assert true + 2.5 * NOISE < high
        assert before[1]["prior"][name] == before[0]["box"][name]
        seen = found["observed"]["network"][name]
        assert abs(seen["mean"] - true) < 0.3 * NOISE
        assert seen["sigma"] == pytest.approx(NOISE, rel=0.15)
    assert found["rounds"]["leaning"] == []
    assert found["observed_unlike_training"] is False
    again = run(study(), out=tmp_path / "run", progress=Progress())
    assert again.answer == found


def test_a_box_holds_the_draws_with_a_margin_and_stays_in_the_prior():
    draws = np.array([[0.0, -1.0], [0.8, 1.0]])
    box = box_of(draws, {"a": (-0.05, 2.0), "b": (-5.0, 5.0)})
    assert box["a"] == pytest.approx((-0.05, 0.9))
    assert box["b"] == pytest.approx((-1.25, 1.25))


def test_a_posterior_that_was_cut_is_said_to_lean():
    draws = np.random.default_rng(0).uniform(0, 1, (1000, 2))
    box = {"a": (0.0, 1.0), "b": (-3.0, 3.0)}
    assert leaning(draws, box, {"a": (-1.0, 1.0), "b": (-9.0, 9.0)}) == ["a"]
    assert leaning(draws, box, {"a": (0.0, 1.0), "b": (-9.0, 9.0)}) == []  # the edges of the prior itself


def test_what_cannot_go_round_is_refused():
    for match, changes in (
        ("'fields' knows none", ("data.source=fields",)),
        ("does not take", ('data.target=["a", "x"]', 'data.inputs=["y"]')),
        ("a simulator, which can simulate again", ("data.source=./sky.parquet",)),
    ):
        with pytest.raises(ConfigError, match=match):
            check_rounds(study(*changes), None)
    check_rounds(study("data.source=fields", "data.rounds=1"), None)
