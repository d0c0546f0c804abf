"""Profiles against GalSim, which computes the same things by other means, and against themselves."""

import math

import numpy as np
import pytest
import torch

from gsnn.simulate import profiles, psf

SIZE, FRAME, PIXEL, FWHM, ANGLE = 64, 96, 0.4, 1.2, 0.7


def one(value: float) -> torch.Tensor:
    return torch.tensor([float(value)])


def stamp(profile) -> np.ndarray:
    ky, kx = profiles.wavenumbers(FRAME, PIXEL)
    major, minor = profiles.rotate(ky, kx, one(ANGLE))
    centre = (SIZE - 1) / 2 * PIXEL
    seen = profile(major, minor)[0] * psf.transfer(ky, kx, one(FWHM)[None], PIXEL)[0, 0]
    image = torch.fft.irfft2(seen * torch.exp(-1j * centre * (kx + ky)), s=(FRAME, FRAME))
    return image[:SIZE, :SIZE].numpy()


def galsim_stamp(profile) -> np.ndarray:
    galsim = pytest.importorskip("galsim")
    sigma = FWHM / psf.FWHM_PER_SIGMA
    seeing = galsim.Sum(
        galsim.Gaussian(sigma=sigma, flux=1 - psf.WING), galsim.Gaussian(sigma=psf.WIDER * sigma, flux=psf.WING)
    )
    return galsim.Convolve(profile, seeing).drawImage(nx=SIZE, ny=SIZE, scale=PIXEL).array


def same(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert np.abs(ours - theirs).max() < 0.005 * theirs.max()
    assert ours.sum() == pytest.approx(theirs.sum(), rel=0.01)


@pytest.mark.parametrize("q", [1.0, 0.7, 0.45])
@pytest.mark.parametrize("radius", [0.6, 1.5, 3.5])
@pytest.mark.parametrize("n", [1.0, 2.3, 4.0, 5.5])
def test_sersic_is_that_of_galsim(n, radius, q):
    galsim = pytest.importorskip("galsim")
    # GalSim keeps the geometric mean of the axes, and measures angles from x.
    theirs = galsim.Sersic(n=n, half_light_radius=radius * math.sqrt(q))
    theirs = theirs.shear(q=q, beta=(math.degrees(ANGLE) + 90) * galsim.degrees)
    ours = stamp(lambda a, b: profiles.sersic(a, b, one(n), one(radius), one(q), FRAME * PIXEL))
    same(ours, galsim_stamp(theirs))


@pytest.mark.parametrize("inclination", [0, 50, 80, 90])
@pytest.mark.parametrize(("scale", "height"), [(0.8, 0.15), (2.0, 0.5)])
def test_disc_is_that_of_galsim(inclination, scale, height):
    galsim = pytest.importorskip("galsim")
    theirs = galsim.InclinedExponential(inclination * galsim.degrees, scale_radius=scale, scale_height=height)
    theirs = theirs.rotate((math.degrees(ANGLE) + 90) * galsim.degrees)
    cos_i = one(math.cos(math.radians(inclination)))
    same(stamp(lambda a, b: profiles.disc(a, b, one(scale), one(height), cos_i)), galsim_stamp(theirs))


def test_knots_are_shifted_gaussians_of_galsim():
    galsim = pytest.importorskip("galsim")
    ky, kx = profiles.wavenumbers(FRAME, PIXEL)
    x, y, sigma, flux = (torch.tensor([v]) for v in ([1.0, -3.0], [2.0, 0.5], [0.0, 0.6], [1.0, 0.4]))
    made = profiles.knots(ky, kx, x, y, sigma, flux)[0]
    ours = stamp(lambda a, b: torch.complex(made[:, 0], made[:, 1])[None])
    theirs = galsim.Gaussian(sigma=0.6, flux=0.4).shift(-3.0, 0.5) + galsim.DeltaFunction().shift(1.0, 2.0)
    same(ours, galsim_stamp(theirs))


@pytest.mark.parametrize("n", [0.75, 1.0, 2.6, 4.1, 6.2])
def test_half_of_the_light_is_within_the_half_light_radius(n):
    assert profiles.enclosed(one(2.0), one(n), one(2.0)).item() == pytest.approx(0.5, abs=0.01)
    weights, _ = profiles.sersic_mixture(one(n))
    assert weights.sum().item() == pytest.approx(1, abs=1e-5)
    assert (weights >= 0).all()


@pytest.mark.parametrize(("bulge", "ratio"), [(0.0, 0.3), (1.0, 0.3), (0.4, 0.2), (0.4, 1.0)])
def test_half_light_radius_of_bulge_and_disc(bulge, ratio):
    n = one(3.0)
    r = profiles.half_light_scale(one(bulge), n, one(ratio))
    x = 1.678347 * r
    inside = bulge * profiles.enclosed(r, n, one(ratio)) + (1 - bulge) * (1 - (1 + x) * torch.exp(-x))
    assert inside.item() == pytest.approx(0.5, abs=1e-3)


def test_seeing_has_the_stated_width():
    x = 0.5 * psf.FWHM_PER_SIGMA
    at_half = math.exp(-(x**2) / 2) + 0.1 * math.exp(-(x**2) / 8)
    assert at_half / 1.1 == pytest.approx(0.5, abs=1e-4)
