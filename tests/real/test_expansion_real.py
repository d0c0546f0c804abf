"""DESI's acoustic oscillations and Union3's supernovae give what their papers say, by the exact likelihood."""

import numpy as np
import pytest

from gsnn.baselines.distance_likelihood import DistanceLikelihood
from gsnn.data.schema import Schema
from gsnn.simulate.expansion import PARAMETERS, Expansion

pytestmark = pytest.mark.real
LCDM = {"w": (-1.0005, -0.9995)}


class View:
    """The contract of a view on one source."""

    def __init__(self, source, rows):
        batch = source.rows(np.arange(rows), 0)
        self.schema = source.schema()
        self.data = {name: np.array(batch[name].to_pylist()) for name in batch.schema.names if name != "id"}

    def columns(self, names):
        return {name: self.data[name] for name in names}

    def chunks(self, names, size):
        yield {name: self.data[name] for name in names}

    def take(self, positions):
        assert positions.tolist() == [0]  # of an observation
        return self


def posterior(paths, **ranges):
    """Mean and width of each parameter, from the weights of the grid."""
    source = Expansion(path=[str(path) for path in paths], universes=4000, **ranges)
    schema = source.schema()
    one = DistanceLikelihood(Schema.of([schema["pulls"]]), Schema.of([schema[n] for n in PARAMETERS]), grid=60)
    one.fit(View(source, 4000), None, 0)
    log = one.log_likelihood(View(source.observed(), 1).data["pulls"])[0]
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    mean = weight @ one.points
    return dict(zip(PARAMETERS, zip(mean, np.sqrt(weight @ (one.points - mean) ** 2))))


def test_desi_alone_has_the_flat_universe_of_its_paper(data):
    """DESI DR2, flat LCDM: omega_m = 0.2975 +- 0.0086, h r_d = 101.54 +- 0.73 Mpc (arXiv:2503.14738, table V)."""
    found = posterior([data / "bao" / "desi_bao_dr2"], **LCDM)
    (omega_m, sigma), (h_rd, width) = found["omega_m"], found["h_rd"]
    assert omega_m == pytest.approx(0.2975, abs=0.002)
    assert sigma == pytest.approx(0.0086, rel=0.08)
    assert h_rd == pytest.approx(101.54, abs=0.2)
    assert width == pytest.approx(0.73, rel=0.08)


def test_union3_alone_has_the_flat_universe_of_its_paper(data):
    """Union3, flat LCDM: omega_m = 0.356 +0.028 -0.026 (Rubin et al. 2023, arXiv:2311.12098)."""
    found = posterior([data / "sn_distances" / "Union3"], omega_m=(0.2, 0.55), **LCDM)
    assert found["omega_m"][0] == pytest.approx(0.356, abs=0.008)
    assert found["omega_m"][1] == pytest.approx(0.027, rel=0.1)


@pytest.mark.slow
def test_mcmc_says_of_all_data_what_the_grid_says(data):
    """Omega_m, w and h r_d of Union3 and DESI together; a sampler and a grid of the same likelihood."""
    pytest.importorskip("emcee")
    paths = [str(data / "sn_distances" / "Union3"), str(data / "bao" / "desi_bao_dr2")]
    source = Expansion(path=paths, universes=4000)
    schema = source.schema()
    one = DistanceLikelihood(
        Schema.of([schema["pulls"]]), Schema.of([schema[n] for n in PARAMETERS]), grid=48, mcmc=True
    )
    one.fit(View(source, 4000), None, 0)
    seen = View(source.observed(), 1)
    grid, chain = one.predict(seen), one.chain(seen)
    assert chain.trouble is None
    flat = chain.samples.reshape(-1, 3)
    for i, name in enumerate(PARAMETERS):
        mean, sigma = flat[:, i].mean(), flat[:, i].std()
        print(f"{name} {mean:.4f} +- {sigma:.4f}, R-hat {chain.r_hat[i]:.4f}, {chain.ess_bulk[i]:.0f} effective draws")
        assert abs(grid[name].mean()[0] - mean) < 0.1 * sigma
        assert grid[name].sigma()[0] == pytest.approx(sigma, rel=0.08)
