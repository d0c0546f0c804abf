"""A posterior goes through all five steps: its checks are in the answer, its corner plot in the page, and what was
really observed is answered beside the likelihood."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from gsnn.cli import app
from gsnn.evaluation import mcmc
from gsnn.run import run
from gsnn.study import Study

FIELDS = (
    "data.source.maps=700", "data.source.side=16", "model.width=4", "model.depth=1", "model.bands=6",
    "train.epochs=2", "evaluate.control_epochs=1", "evaluate.resamples=50", "data.split.fractions=[0.6, 0.2, 0.2]",
)  # fmt: skip


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    return run(Study.load("cosmology-fields", FIELDS), out=tmp_path_factory.mktemp("fields") / "run")


def test_the_answer_holds_the_checks_of_the_network_and_of_its_rival(fields):
    told = fields.answer["posterior"]
    assert set(told) == {"network", "power-spectrum"}
    for one in told.values():
        assert one["n"] == fields.answer["n"]
        assert set(one["parameters"]) == {"omega_m", "sigma_8"}
        assert 0 <= one["tarp"]["p"] <= 1
    assert "observed" not in fields.answer
    assert "CRPS of omega_m" in fields.answer["answer"]
    assert "posterior_sigma" in fields.answer["targets"]["sigma_8"]


def test_the_page_shows_corner_plot_ranks_and_joint_coverage(fields):
    page = fields.report.read_text()
    for name in ("corner-0", "ranks", "tarp"):
        assert f'id="{name}"' in page or name in page
    assert "Simulation-based calibration" in page
    assert "could not be drawn" not in page
    with np.load(fields.path / "posteriors.npz", allow_pickle=False) as kept:
        assert kept["draws.network"].shape == (8, 1000, 2)
        assert kept["parameters"].tolist() == ["omega_m", "sigma_8"]


def test_the_predictions_have_the_quantiles_of_every_parameter(fields):
    table = fields.predictions
    for name in ("omega_m", "sigma_8"):
        low, middle, high = (table[f"{name}_{end}"].to_numpy() for end in ("q16", "q50", "q84"))
        assert (low < middle).all()
        assert (middle < high).all()


@pytest.mark.parametrize("name", ["likelihood", "ratio"])
def test_likelihoods_and_ratios_go_the_same_way(tmp_path, name):
    changes = (*FIELDS, f"objective.name={name}", "objective.draws=40", "evaluate.control=false", "explain.methods=[]")
    answer = run(Study.load("cosmology-fields", changes), out=tmp_path / "run").answer
    assert set(answer["posterior"]) == {"network", "power-spectrum"}
    assert answer["posterior"]["network"]["draws"] == 40


def distances(folder, wrong=0.0, grid="grid=12"):
    """Three supernovae and two acoustic oscillations; ``wrong`` magnitudes are added to the middle one."""
    sn, bao = folder / "sn", folder / "bao"
    sn.mkdir(parents=True)
    bao.mkdir()
    rows = [f"b{i} {z} {z} 0 {m} 0.1" for i, (z, m) in enumerate(((0.1, 38.3), (0.5, 42.2 + wrong), (1.0, 44.0)))]
    (sn / "lcparam.txt").write_text("\n".join(rows))
    (bao / "x_mean.txt").write_text("0.7 17.4 DM_over_rs\n0.7 19.5 DH_over_rs\n")
    np.savetxt(bao / "x_cov.txt", [[0.04, 0], [0, 0.09]])
    changes = (
        "data.source.universes=700", "train.epochs=1", "evaluate.control=false", "evaluate.resamples=50",
        "data.split.fractions=[0.6, 0.2, 0.2]", f'evaluate.baselines=[{{name="distance-likelihood", {grid}}}]',
    )  # fmt: skip
    words = ["run", "expansion", "--data", str(sn), "--data", str(bao), "--out", str(folder / "run")]
    done = CliRunner().invoke(app, [*words, *(word for change in changes for word in ("--set", change))])
    assert done.exit_code == 0, done.output
    return json.loads((folder / "run" / "answer.json").read_text()), folder / "run"


def test_what_was_observed_is_answered_beside_the_likelihood(tmp_path, monkeypatch):
    """And by a chain; that chains converge is tested in tests/evaluation and tests/real: here it is any."""
    pytest.importorskip("emcee")
    short, real = {"steps": 40, "most": 40, "strict": False}, mcmc.sample
    monkeypatch.setattr(mcmc, "sample", lambda *given, **how: real(*given, **how | short))
    answer, folder = distances(tmp_path, grid="grid=12, mcmc=true")
    assert set(answer["observed"]) == {"network", "distance-likelihood", "mcmc"}
    assert answer["chains"]["mcmc"]["parameters"].keys() == answer["observed"]["mcmc"].keys()
    for name in ("omega_m", "w", "h_rd"):
        one = answer["observed"]["distance-likelihood"][name]
        assert one["low"] < one["value"] < one["high"]
        assert np.isfinite(one["apart"])
    assert answer["observed_unlike_training"] is False
    checks = answer["observed_checks"]
    assert set(checks) == {"misspecification", "local", "predictive"}
    assert all(0 < one["p"] <= 1 for one in checks.values())
    assert checks["misspecification"]["p"] > 0.02
    assert checks["predictive"]["p"] > 0.01
    assert "Whether to believe it" in (folder / "report.html").read_text()
    assert "could not be drawn" not in (folder / "report.html").read_text()
    assert "Posterior of what was observed" in (folder / "report.html").read_text()


def test_an_observation_unlike_all_simulations_is_said_to_be_one(tmp_path):
    answer, folder = distances(tmp_path, wrong=9.0)
    assert answer["observed_unlike_training"] is True
    assert answer["answer"].endswith("what was observed is unlike all simulations")
    assert answer["observed_checks"]["misspecification"]["p"] < 0.01
    assert answer["observed_checks"]["predictive"]["p"] < 0.01
    assert "do not believe the network" in (folder / "report.html").read_text()
