"""Kaiser & Squires's relation and the Wiener filter: inverses, conventions and the dense solution."""

import math

import numpy as np
import pytest
import torch

from gsnn.data.schema import Column, Schema
from gsnn.data.shear import (
    ARCMIN,
    convergence_of,
    multipoles,
    power_of,
    shear_columns,
    shear_of,
    smooth,
    weights,
    wiener,
)
from gsnn.errors import GsnnError


def white(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def falling(side, level=1.0):
    """A red spectrum, of a pixel."""
    power = level / (0.05 + multipoles(side, 1 / ARCMIN) ** 2)
    power[0, 0] = 0
    return power


def gaussian(side, count, power, seed=0):
    return torch.fft.irfft2(torch.fft.rfft2(white(count, side, side, seed=seed)) * power.sqrt(), s=(side, side))


@pytest.mark.parametrize("side", [12, 15, 32])
def test_the_convergence_comes_back_from_the_shear_but_for_its_mean(side):
    kappa = white(3, side, side)
    found = convergence_of(shear_of(kappa))
    torch.testing.assert_close(found[:, 0], kappa - kappa.mean((-2, -1), keepdim=True), rtol=0, atol=1e-12)
    assert found[:, 1].abs().max() < 1e-12


def test_shear_turned_by_45_degrees_is_all_b_mode():
    first, second = shear_of(white(16, 16)).unbind(-3)
    e, b = convergence_of(torch.stack([-second, first])).unbind(-3)
    assert e.abs().max() < 1e-12
    assert b.std() > 0.5


def test_shear_has_spin_two():
    kappa = white(15, 15)  # odd: every mode has a direction
    shear = shear_of(kappa)
    turned = torch.roll(torch.rot90(kappa), 1, 0)  # about pixel (0, 0), with which a periodic map turns onto itself
    torch.testing.assert_close(
        shear_of(turned), -torch.roll(torch.rot90(shear, dims=(-2, -1)), 1, -2), atol=1e-12, rtol=0
    )
    mirrored = torch.roll(kappa.flip(-1), 1, -1)
    wanted = torch.roll(shear.flip(-1), 1, -1) * torch.tensor([1.0, -1.0])[:, None, None]
    torch.testing.assert_close(shear_of(mirrored), wanted, atol=1e-12, rtol=0)


def test_galaxies_lie_tangentially_around_a_mass():
    side = 64
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    dx, dy = x - 32.0, y - 32.0
    first, second = shear_of(torch.exp(-(dx**2 + dy**2) / 8).double()).unbind(-3)
    tangential = -(first * (dx**2 - dy**2) + second * 2 * dx * dy) / (dx**2 + dy**2).clamp(min=1)
    ring = (torch.hypot(dx, dy) > 6) & (torch.hypot(dx, dy) < 12)
    assert tangential[ring].min() > 0
    assert first[32, 42] < 0 < first[42, 32]


def test_smoothing_keeps_the_mean_and_the_shape_of_a_gaussian():
    point = torch.zeros(64, 64, dtype=torch.float64)
    point[32, 32] = 1
    spread = smooth(point, 3.0)
    assert float(spread.sum()) == pytest.approx(1)
    assert float(spread[32, 35] / spread[32, 32]) == pytest.approx(math.exp(-0.5), rel=1e-3)
    assert smooth(point, 0.0) is point


@pytest.mark.parametrize("hidden", [0, 20])
def test_the_wiener_filter_is_the_dense_solution(hidden):
    side = 8
    power, count = falling(side), side**2
    noise = 0.3 + white(side, side, seed=1).abs()
    noise.view(-1)[:hidden] = 0
    kappa = gaussian(side, 1, power, seed=2)
    shear = (shear_of(kappa) + white(1, 2, side, side, seed=3) * noise) * (noise > 0)
    basis = torch.eye(count, dtype=torch.float64).view(count, side, side)
    lens = shear_of(basis).reshape(count, 2 * count).T  # [shear, kappa]
    spread = torch.fft.irfft2(torch.fft.rfft2(basis) * power, s=(side, side)).reshape(count, count)
    inverse = torch.diag(weights(noise).flatten().repeat(2))
    # S (1 + D' W D S)^-1 D' W d: the filter without the inverse of S, whose mean is 0
    middle = torch.eye(count, dtype=torch.float64) + lens.T @ inverse @ lens @ spread
    dense = spread @ torch.linalg.solve(middle, lens.T @ inverse @ shear.flatten())
    found = wiener(shear, noise[None], power, iterations=300, tolerance=1e-12)
    torch.testing.assert_close(found.flatten(), dense, rtol=1e-6, atol=1e-9)


def test_nothing_beats_the_wiener_filter_on_gaussian_skies():
    side, power = 32, falling(32, 0.02)
    noise = torch.full((side, side), 0.1, dtype=torch.float64)
    noise[:, :8], noise[16:, :] = 0, 0.3
    kappa = gaussian(side, 60, power, seed=5)
    shear = (shear_of(kappa) + white(60, 2, side, side, seed=6) * noise) * (noise > 0)

    def error(found):
        return float(((found - kappa)[:, noise > 0] ** 2).mean())

    best = error(wiener(shear, noise.expand(60, -1, -1), power))
    for level in (0.3, 3.0):
        assert best < error(wiener(shear, noise.expand(60, -1, -1), level * power))
    assert best < error(wiener(shear, (noise > 0).double().expand(60, -1, -1) * 0.2, power))  # noise alike everywhere
    assert best < min(error(smooth(convergence_of(shear)[:, 0], s)) for s in (1.0, 2.0, 3.0))


def test_columns_and_spectrum_are_asked_for_by_a_sentence():
    shear = Column("g", "image", shape=(2, 16, 16), pixel_scale=60.0)
    noise = Column("n", "image", shape=(1, 16, 16), pixel_scale=60.0)
    assert shear_columns(Schema.of([noise, shear])) == (shear, noise)
    with pytest.raises(GsnnError, match="two square images"):
        shear_columns(Schema.of([shear]))
    with pytest.raises(GsnnError, match="do not say which spectrum"):
        power_of(Schema.of([shear, noise]), shear)
    told = Schema.of([shear, noise], spectrum="[[10, 100000], [1e-8, 1e-12]]")
    power = power_of(told, shear)
    assert power[0, 0] == 0
    multipole = multipoles(16, 1.0)[3, 4]
    assert float(power[3, 4]) == pytest.approx(float(1e-7 / multipole) / ARCMIN**2, rel=1e-6)
    assert np.isfinite(power.numpy()).all()
