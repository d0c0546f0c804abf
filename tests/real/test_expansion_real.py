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
