"""Distances agree with astropy, pulls are blind to what nobody knows, and the grid agrees with a sampler."""

import json
from pathlib import Path

import numpy as np
import pytest

from gsnn.baselines.distance_likelihood import DistanceLikelihood
from gsnn.config import build
from gsnn.data.readers.distances import Distances, read_distances
from gsnn.data.schema import Schema
from gsnn.data.source import Source
from gsnn.errors import ConfigError, GsnnError
from gsnn.evaluation.mcmc import sample
from gsnn.simulate.expansion import HUBBLE_DISTANCE, Expansion, Pulls, predicted

Z = [0.1, 0.5, 1.0, 2.3]


@pytest.fixture
def folders(tmp_path):
    """Four supernovae and three acoustic oscillations, as Cobaya's tables have them."""
    sn, bao = tmp_path / "sn", tmp_path / "bao"
    sn.mkdir()
    bao.mkdir()
    rows = [f"bin{i} {z} {z} 0 {mag} 0.0 0 0 0" for i, (z, mag) in enumerate(zip(Z, (38.3, 42.2, 44.0, 46.2)))]
    (sn / "lcparam_full.txt").write_text("#name zcmb zhel dz mb dmb x1 dx1 color\n" + "\n".join(rows) + "\n")
    covariance = 0.01 * np.eye(4) + 0.002
    (sn / "mag_covmat.txt").write_text("4\n" + "\n".join(map(str, covariance.ravel())) + "\n")
    means = "# z value quantity\n0.3 8.0 DV_over_rs\n0.7 17.4 DM_over_rs\n0.7 19.5 DH_over_rs\n"
    (bao / "all_mean.txt").write_text(means)
    np.savetxt(bao / "all_cov.txt", [[0.01, 0, 0], [0, 0.04, -0.02], [0, -0.02, 0.09]])
    return [str(sn), str(bao)]


def test_distances_are_astropys():
    from astropy.cosmology import FlatwCDM

    at = np.array(Z)
    measured = Distances(("mu", "DM_over_rs", "DH_over_rs", "DV_over_rs"), at, at, at, np.eye(4))
    for omega_m, w, h_rd in ((0.3, -1.0, 100.0), (0.2, -0.6, 95.0), (0.42, -1.4, 108.0)):
        sky = FlatwCDM(H0=100.0, Om0=omega_m, w0=w, Tcmb0=0)
        found = predicted(measured, np.array([[omega_m, w, h_rd]]))[0]
        comoving = sky.comoving_distance(at).value
        along = 2997.92458 / sky.efunc(at)
        assert HUBBLE_DISTANCE == 2997.92458
        assert found[0] == pytest.approx(5 * np.log10((1 + at[0]) * comoving[0] / HUBBLE_DISTANCE), abs=1e-5)
        volume = np.cbrt(at[3] * comoving[3] ** 2 * along[3])
        assert found[1:] * h_rd == pytest.approx([comoving[1], along[2], volume], rel=1e-5)


def test_tables_are_read_with_all_their_covariance(folders):
    found = read_distances(folders)
    assert found.quantity == ("mu",) * 4 + ("DV_over_rs", "DM_over_rs", "DH_over_rs")
    assert found.z.tolist() == [*Z, 0.3, 0.7, 0.7]
    assert found.covariance[0, 1] == pytest.approx(0.002)
    assert found.covariance[5, 6] == pytest.approx(-0.02)
    assert not found.covariance[:4, 4:].any()
    again = Distances.from_json(json.loads(json.dumps(found.to_json())))
    assert again.quantity == found.quantity
    np.testing.assert_array_equal(again.covariance, found.covariance)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda sn, bao: (sn / "mag_covmat.txt").write_text("4\n" + "0.01\n" * 16), "not positive definite"),
        (lambda sn, bao: (sn / "mag_covmat.txt").write_text("4\n1 2 3\n"), "has 4 and then 16 numbers"),
        (lambda sn, bao: (sn / "mag_covmat.txt").unlink(), "without errors and no covariance"),
        (lambda sn, bao: (sn / "lcparam_full.txt").write_text("a b\n"), "a row of supernovae has"),
        (lambda sn, bao: np.savetxt(bao / "all_cov.txt", np.triu(np.ones((3, 3)))), "not symmetric"),
        (lambda sn, bao: np.savetxt(bao / "all_cov.txt", np.eye(2)), "a covariance of 3 values"),
        (lambda sn, bao: (bao / "all_cov.txt").unlink(), "no covariance beside it"),
        (lambda sn, bao: (bao / "all_mean.txt").write_text("0.3 8.0 D_over_x\n"), "no quantity 'D_over_x'"),
        (lambda sn, bao: (bao / "all_mean.txt").write_text("0.3 8.0\n"), "a row has a redshift"),
        (lambda sn, bao: (bao / "all_mean.txt").unlink(), "neither supernovae"),
    ],
)
def test_broken_tables_are_told_in_a_sentence(folders, tmp_path, change, match):
    change(tmp_path / "sn", tmp_path / "bao")
    with pytest.raises(GsnnError, match=match):
        read_distances(folders)


def test_is_a_source_of_simulations_and_of_what_was_observed(folders):
    source = build({"name": "expansion", "path": folders, "universes": 30}, "source")
    assert isinstance(source, Source)
    batch, again = source.rows(np.arange(30), 1), source.rows(np.array([17]), 1)
    assert Schema.from_arrow(batch.schema).columns == source.schema().columns
    for name in batch.schema.names:
        one, other = again[name][0].as_py(), batch[name][17].as_py()
        assert one == other if isinstance(one, str) else np.allclose(one, other, rtol=1e-5), name
    assert source.rows(np.array([], np.int64), 1).num_rows == 0
    seen = source.observed()
    assert len(seen) == 1
    row = seen.rows(np.array([0]), 0)
    assert row["id"][0].as_py() == "observed"
    assert np.isnan(row["omega_m"][0].as_py())
    assert np.isfinite(row["pulls"][0].as_py()).all()


def test_pulls_are_unit_noise_and_blind_to_the_magnitude_of_supernovae(folders):
    measured = read_distances(folders)
    pulls = Pulls(measured)
    brighter = measured.value + np.array([0.7] * 4 + [0] * 3)
    np.testing.assert_allclose(pulls(brighter[None]), pulls(measured.value[None]), atol=1e-9)
    noise = np.random.default_rng(0).multivariate_normal(pulls.middle, measured.covariance, 20_000)
    covariance = np.cov(pulls(noise).T)
    np.testing.assert_allclose(covariance, np.eye(7) - np.outer(pulls.blind, pulls.blind), atol=0.04)
    with_noise = Expansion(path=folders, universes=5).rows(np.arange(5), 0)["pulls"].to_pylist()
    assert np.ptp(with_noise) > 1


class View:
    """The contract of a view on one source."""

    def __init__(self, source, rows):
        batch = source.rows(np.asarray(rows), 0)
        self.schema = source.schema()
        self.data = {name: np.array(batch[name].to_pylist()) for name in batch.schema.names if name != "id"}

    def __len__(self):
        return len(self.data["omega_m"])

    def columns(self, names):
        return {name: self.data[name] for name in names}

    def chunks(self, names, size):
        for start in range(0, len(self), size):
            yield {name: self.data[name][start : start + size] for name in names}


def test_the_grid_agrees_with_a_sampler(folders):
    """The same likelihood and prior by MCMC."""
    pytest.importorskip("emcee")
    for name, matrix in (("sn/mag_covmat.txt", 4), ("bao/all_cov.txt", 3)):  # tight enough to be nearly Gaussian
        path = folders[0].removesuffix("sn") + name
        values = np.loadtxt(path).ravel()
        tight = 0.02 * values[-(matrix**2) :]
        head = f"{matrix}\n" if "mag" in name else ""
        rows = tight if "mag" in name else [" ".join(map(str, row)) for row in tight.reshape(matrix, matrix)]
        Path(path).write_text(head + "\n".join(map(str, rows)) + "\n")
    source = Expansion(path=folders, universes=500, omega_m=(0.1, 0.5), w=(-2.5, -0.4), h_rd=(92.0, 110.0))
    schema = source.schema()
    inputs = Schema.of([schema["pulls"]])
    targets = Schema.of([schema[name] for name in ("omega_m", "w", "h_rd")])
    one = DistanceLikelihood(inputs, targets, grid=48)
    one.fit(View(source, range(500)), None, 0)
    seen = View(source.observed(), [0])
    found, data = one.predict(seen), seen.data["pulls"][0]
    start = np.stack([found[name].value[0] for name in targets], 1)
    short = {"walkers": 60, "ensembles": 1, "steps": 600, "most": 600, "strict": False}
    chain = sample(lambda theta: one.log_posterior(theta, data), start, list(targets), **short)
    samples = chain.samples.reshape(-1, 3)
    for i, name in enumerate(targets):
        sigma = samples[:, i].std()
        assert abs(found[name].mean()[0] - samples[:, i].mean()) < 0.15 * sigma, name
        assert found[name].sigma()[0] == pytest.approx(sigma, rel=0.12), name


def test_what_cannot_be_is_refused(folders):
    with pytest.raises(ConfigError, match="--data"):
        Expansion()
    for settings, match in (
        ({"universes": 0}, "at least one universe"),
        ({"w": (-0.5, -1.0)}, "w rises"),
        ({"omega_m": (0.0, 2.0)}, "omega_m rises"),
    ):
        with pytest.raises(ConfigError, match=match):
            Expansion(path=folders, **settings)
    schema = Expansion(path=folders).schema()
    with pytest.raises(ConfigError, match="in this order"):
        DistanceLikelihood(Schema.of([schema["pulls"]]), Schema.of([schema["w"]]))
