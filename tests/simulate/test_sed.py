"""Colours of old and young stars and distances behave as nature's do."""

import pytest
import torch

from gsnn.simulate import cosmology, sed

BANDS = ("u", "g", "r", "i", "z")
Z = torch.tensor([0.02, 0.1, 0.3])


def magnitudes(z: torch.Tensor, young: float) -> torch.Tensor:
    return -2.5 * torch.log10(sed.colours(z, torch.full((len(z), 1), young), BANDS)[:, 0])


def test_flux_is_relative_to_r():
    assert torch.allclose(magnitudes(Z, 0.4)[:, BANDS.index("r")], torch.zeros(3), atol=1e-6)


def test_old_stars_are_redder_than_young_ones_in_every_colour():
    old, young = (magnitudes(Z, share).diff(dim=1) for share in (0.0, 1.0))
    assert (old < young).all()  # the differences run from blue to red


def test_old_colour_reddens_with_redshift_and_matches_ellipticals():
    g_r = -magnitudes(Z, 0.0).diff(dim=1)[:, 1]
    assert (g_r.diff() > 0).all()
    assert g_r[0].item() == pytest.approx(0.77, abs=0.1)


def test_the_band_integral_equals_a_numerical_one():
    z = torch.tensor([0.2], dtype=torch.float64)
    ratio = sed.colours(z, torch.zeros(1, 1, dtype=torch.float64), ("g",)).item()

    def mean(band: sed.Band) -> float:
        rest = torch.exp(torch.linspace(0, 1, 200001, dtype=torch.float64)) - 1
        rest = (band.blue + (band.red - band.blue) * rest / rest[-1]) / 1.2
        x = rest / sed._BREAK
        bend = sed._BEND / sed._BREAK
        below, middle, above, jump = sed._OLD
        f = torch.where(x < 1, x**below / jump, torch.where(x < bend, x**middle, bend**middle * (x / bend) ** above))
        return (torch.trapezoid(f, torch.log(x)) / torch.log(x[-1] / x[0])).item()

    assert ratio == pytest.approx(mean(sed.BANDS["g"]) / mean(sed.BANDS["r"]), rel=1e-4)


def test_k_correction_vanishes_here_and_dims_old_stars():
    assert sed.k_correction(torch.zeros(1)).item() == pytest.approx(0, abs=1e-6)
    assert sed.k_correction(torch.tensor([0.3]), young=0.0) > sed.k_correction(torch.tensor([0.3]), young=1.0)


def test_distances_are_those_of_astropy():
    from astropy.cosmology import FlatLambdaCDM

    cosmos = FlatLambdaCDM(cosmology.H0, cosmology.OMEGA_M)
    z = torch.tensor([0.01, 0.1, 0.5, 1.0, 2.5])
    assert torch.allclose(
        cosmology.distance_modulus(z), torch.tensor(cosmos.distmod(z.numpy()).value).float(), atol=1e-3
    )
    kpc = 1 / cosmos.arcsec_per_kpc_proper(z.numpy()).value
    assert torch.allclose(cosmology.kpc_per_arcsec(z), torch.tensor(kpc).float(), rtol=1e-3)
