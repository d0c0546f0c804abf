"""Morphological statistics against closed forms, against invariances, and against statmorph."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from gsnn.baselines import apertures, outline
from gsnn.baselines.statistics import central_pixels, gini, m20, statistics

_spec = importlib.util.spec_from_file_location(
    "morphology_statistics", Path(__file__).parents[2] / "benchmarks" / "morphology_statistics.py"
)
benchmark = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(benchmark)


torch.set_num_threads(1)


def measured(images: np.ndarray) -> dict[str, np.ndarray]:
    matrix, names = statistics(images)
    return {name: matrix[:, i] for i, name in enumerate(names)}


def sersic(n: float, radius: float, side: int = 96, shift=(0.0, 0.0)) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    r = np.hypot(y - shift[0], x - shift[1])
    return np.exp(-(2 * n - 1 / 3) * (r / radius) ** (1 / n)).astype(np.float32)


@pytest.mark.slow
def test_agrees_with_statmorph():
    pytest.importorskip("statmorph")
    found = benchmark.compare(32)
    least = {"C": 0.9, "A": 0.8, "gini": 0.9, "m20": 0.9, "r50": 0.95, "r_petrosian": 0.9, "ellipticity": 0.9}
    offset = {"C": 0.15, "A": 0.03, "gini": 0.02, "m20": 0.08, "S": 0.01, "r50": 0.3, "ellipticity": 0.03}
    for name, value in least.items():
        assert found[name]["objects"] >= 25, name
        assert found[name]["rank_correlation"] > value, (name, found[name])
    for name, value in offset.items():
        assert abs(found[name]["median_offset"]) < value, (name, found[name])


def test_gini_and_m20_of_known_pixels():
    every = torch.ones(1, 8, 8, dtype=torch.bool)
    assert gini(torch.ones(1, 8, 8), every).item() == pytest.approx(0, abs=1e-6)
    one = torch.zeros(1, 8, 8)
    one[0, 2, 5] = 3
    assert gini(one, every).item() == pytest.approx(1, abs=1e-6)
    some = torch.zeros(1, 9, 9)  # the brightest 20% at distance 2, the rest at 4 and at the corners
    some[0, 4, [2, 6]] = 1
    some[0, [4, 4, 0, 8, 0, 0, 8, 8], [0, 8, 4, 4, 0, 8, 0, 8]] = 0.99
    share = 2 * 4 / (2 * 4 + 0.99 * (4 * 16 + 4 * 32))
    assert m20(some, torch.ones(1, 9, 9, dtype=torch.bool)).item() == pytest.approx(np.log10(share), abs=1e-4)


def test_curve_of_growth_of_a_flat_image_is_the_area_of_a_circle():
    at = torch.tensor([20.3])
    curve = apertures.growth(torch.ones(1, 41, 41), torch.ones(1, 41, 41, dtype=torch.bool), at, at)
    for radius in (2.0, 5.25, 15.0):
        assert curve.flux_within(torch.tensor([radius])).item() == pytest.approx(np.pi * radius**2, rel=0.03)


def test_ellipses_follow_the_moments():
    y, x = torch.meshgrid(torch.arange(65.0) - 32, torch.arange(65.0) - 32, indexing="ij")
    u, v = 0.8 * x + 0.6 * y, 0.8 * y - 0.6 * x
    image = torch.exp(-0.5 * (u**2 / 36 + v**2 / 9))[None]
    cy, cx, cov = outline.moments(image)
    curve = apertures.growth(image, torch.ones_like(image, dtype=torch.bool), cy, cx, cov)
    half = curve.radius_of(0.5, torch.tensor([30.0])).item()
    assert half == pytest.approx(6 * np.sqrt(2 * np.log(2)), rel=0.03)  # semi-major axis of a Gaussian's half-light


def test_half_turn_about_any_centre_is_exact_on_the_grid_and_an_involution():
    image = torch.rand(3, 12, 12)
    valid = torch.ones(3, 12, 12, dtype=torch.bool)
    middle = torch.full((3,), 5.5)
    turned, both, variance = apertures.half_turn(image, valid, middle, middle)
    assert torch.allclose(turned, image.flip(1, 2), atol=1e-6)
    assert both.all()
    assert torch.allclose(variance, torch.ones(3))
    off = torch.tensor([4.0, 5.0, 6.25])
    _, both, variance = apertures.half_turn(image, valid, off, off)
    assert not both.any(2).all()
    assert variance[2].item() == pytest.approx(0.25)


def test_connected_keeps_the_part_that_holds_the_seed_and_never_leaks_between_images():
    mask = torch.zeros(2, 6, 6, dtype=torch.bool)
    mask[:, 1:3, 1:3] = mask[:, 3, 3] = mask[:, 5, 0] = True
    mask[1, 3, 3] = False
    seed = torch.zeros_like(mask)
    seed[:, 1, 1] = True
    found = outline.connected(mask, seed)
    assert found.flatten(1).sum(1).tolist() == [5, 4]


def test_sky_of_noise_with_a_galaxy_in_the_middle():
    rng = np.random.default_rng(0)
    image = 7 + 0.3 * rng.standard_normal((4, 64, 64)) + 50 * sersic(1, 6, 64)
    found = outline.sky(torch.tensor(image, dtype=torch.float32))
    assert np.allclose(found.level, 7, atol=0.05)
    assert np.allclose(found.sigma, 0.3, rtol=0.1)


def test_asymmetry_finds_the_centre_and_noise_does_not_raise_it():
    rng = np.random.default_rng(1)
    clean = sersic(1, 10, shift=(0.7, -1.3))
    noisy = clean + 0.01 * rng.standard_normal((6, 96, 96)).astype(np.float32)
    lopsided = noisy + np.roll(sersic(1, 5), (10, 8), (0, 1))
    found = measured(np.concatenate([noisy, lopsided])[:, None])
    assert abs(np.median(found["A_0"][:6])) < 0.03
    assert np.median(found["A_0"][6:]) > 0.1


def test_concentration_grows_with_the_sersic_index():
    found = measured(np.stack([sersic(n, 8) for n in (0.5, 1, 2, 4)])[:, None])
    assert (np.diff(found["C_0"]) > 0).all()
    # the whole light of an exponential has r80 / r20 = 3.63, C = 2.80; 1.5 Petrosian radii hold a little less
    assert found["C_0"][1] == pytest.approx(2.7, abs=0.15)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_any_image_gives_numbers_and_a_turn_changes_little(dtype):
    images = benchmark.galaxies(8, side=48)
    three = np.stack([images, 0.5 * images, 2 * images], 1)
    if dtype == np.uint8:
        three = np.clip(60 * three + 10, 0, 255).astype(np.uint8)
    found, turned = measured(three), measured(np.ascontiguousarray(np.rot90(three, axes=(2, 3))))
    assert all(np.isfinite(v).mean() > 0.9 for v in found.values())
    for name in ("C", "gini", "m20", "r_petrosian", "ellipticity"):
        assert np.allclose(found[name], turned[name], rtol=0.1, atol=0.05), name
    if dtype == np.float32:
        assert np.allclose(found["colour_0_1"], 2.5 * np.log10(0.5), atol=1e-3)
        scaled = measured(1000 * three)
        assert np.allclose(found["gini_1"], scaled["gini_1"], atol=1e-3)


def test_bad_pixels_empty_bands_and_blank_images_survive():
    images = np.stack([benchmark.galaxies(4, side=40)] * 2, 1)
    images[0, :, 5:8, 5:9] = np.nan
    images[1, 0] = np.nan
    images[2] = np.nan
    images[3] = 1.0
    matrix, names = statistics(images)
    assert matrix.shape == (4, len(names))
    assert np.isfinite(matrix[0]).all()
    assert np.isfinite(matrix[1, names.index("gini_1")])
    assert np.isnan(matrix[1, names.index("C_0")])
    assert np.isnan(matrix[2, names.index("C")])


def test_one_image_does_not_depend_on_its_batch():
    images = benchmark.galaxies(6, side=40)[:, None]
    assert np.allclose(statistics(images)[0][2:3], statistics(images[2:3])[0], rtol=1e-3, atol=1e-3, equal_nan=True)


def test_large_images_are_averaged_and_lengths_stay_in_pixels():
    small = sersic(1, 8, 100)
    large = np.kron(small, np.ones((3, 3), np.float32))
    found = [measured(image[None, None]) for image in (small, large)]
    assert found[1]["r_petrosian"][0] == pytest.approx(3 * found[0]["r_petrosian"][0], rel=0.02)


def test_central_pixels_crop_and_average():
    image = np.zeros((2, 3, 200, 200), np.float32)
    image[:, :, 50:150, 50:150] = 4
    matrix, names = central_pixels(image)
    assert matrix.shape == (2, 3 * 32 * 32) == (2, len(names))
    assert np.allclose(matrix, 4)
    assert central_pixels(np.full((1, 1, 10, 12), np.nan))[0].shape == (1, 120)
