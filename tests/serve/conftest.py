"""A run on made alerts, a broker, and packets: once for all tests of this folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from gsnn.data.readers import read
from gsnn.data.survey import Survey
from gsnn.run import run
from gsnn.serve.packets import made, night
from gsnn.study import Study

# tests are imported by path (importlib mode), so this neighbour is too
_spec = importlib.util.spec_from_file_location("mock_broker", Path(__file__).with_name("mock_broker.py"))
mock = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(mock)

ALERTS = 90


def study(inputs: list[str], model: dict) -> dict:
    return {
        "question": "Is this alert a supernova or a variable star?",
        "schema": 1,
        "data": {"source": "files", "inputs": inputs, "target": "kind", "split": {"by": "identity"}},
        "model": model,
        "objective": {"name": "classify"},
        "train": {"epochs": 1, "batch": 16},
        "evaluate": {"baselines": ["prior"], "control": False, "resamples": 20},
        "explain": {"methods": []},
    }


@pytest.fixture(scope="session")
def sky(tmp_path_factory):
    """A survey of made alerts, as `gsnn ingest` makes it."""
    folder = tmp_path_factory.mktemp("alerts")
    packets = night(folder / "night", ALERTS)
    return Survey.create(folder / "survey", read(str(packets), labels=str(folder / "night-labels.csv"), on="id"))


@pytest.fixture(scope="session")
def curves_run(sky, tmp_path_factory):
    """A run, trained, of a small recurrent network on light curves."""
    one = Study.from_dict(study(["light_curve"], {"name": "rnn", "width": 8, "layers": 1}), name="alerts")
    return run(one, data=sky, out=tmp_path_factory.mktemp("run") / "curves", only_train=True)


@pytest.fixture(scope="session")
def stamps_run(sky, tmp_path_factory):
    """The same of stamps and a number of the packet."""
    one = Study.from_dict(study(["stamps", "rb"], {"name": "cnn", "width": 4, "depth": 2}), name="stamps")
    return run(one, data=sky, out=tmp_path_factory.mktemp("run") / "stamps", only_train=True)


@pytest.fixture(scope="session")
def packets():
    """Packets of another night."""
    return [made(number, seed=1)[0] for number in range(60)]


@pytest.fixture
def broker():
    with mock.mock_broker() as one:
        yield one


@pytest.fixture
def another_broker():
    with mock.mock_broker() as one:
        yield one
