"""Planck 2018's own band powers: the likelihood's published check values."""

import numpy as np
import pytest

from gsnn.data.readers.planck import read_planck

pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    ("low", "everything", "temperature"),
    [(False, -291.33481235418026, -101.58123068722583), (True, -293.95586501795134, -104.20228335099686)],
)
def test_the_check_values_of_planck_lite(data, low, everything, temperature):
    """planck-lite-py (Prince & Dunkley 2019, arXiv:1909.05869), commit 2c0d0f6, its test of Dl_planck2015fit.dat."""
    folder = data / "planck2018"
    table = np.loadtxt(folder / "Dl_planck2015fit.dat")
    table = table[(table[:, 0] >= 2) & (table[:, 0] <= 2508)]
    measured = read_planck(folder, low=low)
    spectra = table[None, :, 1:4].transpose(0, 2, 1)
    assert measured.log_likelihood(spectra)[0] == pytest.approx(everything, abs=1e-8)
    assert measured.only("tt").log_likelihood(spectra)[0] == pytest.approx(temperature, abs=1e-8)
