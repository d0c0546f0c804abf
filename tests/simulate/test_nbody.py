"""Gravity as it must be: growth, pancakes, conserved mass and momentum, gradients, and the same box wherever it is."""

import math

import numpy as np
import pytest
import torch

from gsnn.config import build
from gsnn.data.schema import Schema
from gsnn.data.source import Source
from gsnn.errors import ConfigError
from gsnn.simulate.lpt import displacements, expansion_rate, growth, linear_density
from gsnn.simulate.matter import power
from gsnn.simulate.mesh import lattice, multiplicity, paint, pull, read, to_modes, wavenumbers
from gsnn.simulate.nbody import FIELDS, NBody
from gsnn.simulate.particle_mesh import evolve, force, simulate, start_from, times

PLANCK = torch.tensor([0.3153]), torch.tensor([0.8111])


def wave(side, contrast, n=1):
    """One plane wave along the last axis, of n periods."""
    x = torch.arange(side, dtype=torch.float64) / side
    return (contrast * torch.cos(2 * math.pi * n * x)).expand(1, side, side, side).clone()


def linear(side=16, box=64.0, rows=(0,)):
    rows = torch.tensor(rows)
    return linear_density(rows, 0, *(one.expand(len(rows)) for one in PLANCK), side, box)


def test_growth_in_a_universe_of_matter_alone_is_that_of_the_scale_factor():
    a = torch.tensor([0.02, 0.1, 0.37, 1.0], dtype=torch.float64)
    found = growth(a, torch.tensor([1.0]))
    for got, want in zip(found, (a, a**1.5, -3 / 7 * a**2, -6 / 7 * a**2.5)):
        torch.testing.assert_close(got[0], want, rtol=1e-6, atol=0)


def test_growth_is_the_integral_of_heath_and_second_order_follows_the_fit_of_bouchet():
    omega = torch.tensor([0.2, 0.3153, 0.5], dtype=torch.float64)
    a = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    found = growth(a, omega)
    for i, om in enumerate(omega):  # Heath 1977: D1 goes as E times the integral of da / (a E)^3
        x = torch.linspace(1e-6, 1, 200_001, dtype=torch.float64)
        inside = torch.cumulative_trapezoid(1 / (x * expansion_rate(x, om)) ** 3, x)
        at = (a * 200_000).round().long() - 1
        want = expansion_rate(x[at + 1], om) * inside[at]
        torch.testing.assert_close(found.d1[i], want / want[-1], rtol=1e-4, atol=0)
        share = om / (om + (1 - om) * a**3)
        torch.testing.assert_close(found.d2[i], -3 / 7 * found.d1[i] ** 2 * share ** (-1 / 143), rtol=5e-4, atol=0)
        rate = found.g1[i] / (a**2 * expansion_rate(a, om) * found.d1[i])
        exact = -1.5 * share + 1 / (a**2 * expansion_rate(a, om) ** 3 * inside[at])  # the derivative of that
        torch.testing.assert_close(rate, exact, rtol=1e-4, atol=0)


def test_a_linear_density_has_the_spectrum_of_matter():
    made = linear(side=24, box=96.0, rows=range(24)).double()
    got = (to_modes(made).abs() ** 2).mean(0) * (96.0 / 24**2) ** 3
    k = wavenumbers(24, 96.0, 3)
    for low, high in ((0.1, 0.3), (0.3, 0.6), (0.6, 0.78)):
        inside = (k > low) & (k < high)
        assert float((got[inside] / power(k[inside], *PLANCK)[0]).mean()) == pytest.approx(1, abs=0.05)
    assert multiplicity(9, 3).sum() == 9**3
    assert multiplicity(8, 3).sum() == 8**3


def test_the_first_order_undoes_the_density_and_the_second_is_the_sum_over_pairs():
    """Of phi = 0.3 cos z cos 2y + 0.2 sin(y + x), whose derivatives are known: s1 is -grad phi, s2 has no curl."""
    side, box = 32, 10.0
    x = lattice(side, box, dtype=torch.float64) * (2 * math.pi / box)
    k = 2 * math.pi / box
    first = -k * torch.stack(  # minus the gradient, by hand
        [
            -0.3 * torch.sin(x[0]) * torch.cos(2 * x[1]),
            -0.6 * torch.cos(x[0]) * torch.sin(2 * x[1]) + 0.2 * torch.cos(x[1] + x[2]),
            0.2 * torch.cos(x[1] + x[2]),
        ]
    )
    c, s = torch.cos(x[0]) * torch.cos(2 * x[1]), 0.2 * torch.sin(x[1] + x[2])
    zz, yy, xx = -0.3 * c, -1.2 * c - s, -s
    zy, zx, yx = 0.6 * torch.sin(x[0]) * torch.sin(2 * x[1]), 0 * s, -s
    source = k**4 * (zz * yy + zz * xx + yy * xx - zy**2 - zx**2 - yx**2)
    s1, s2 = displacements((k**2 * (zz + yy + xx))[None], box)
    torch.testing.assert_close(s1[0], first)
    parts = [torch.fft.fftfreq(side, box / side, dtype=torch.float64) * 2 * math.pi] * 3
    waves = torch.meshgrid(*parts, indexing="ij")
    modes = torch.fft.fftn(s2[0], dim=(1, 2, 3))
    divergence = torch.fft.ifftn(sum(1j * w * m for w, m in zip(waves, modes))).real
    torch.testing.assert_close(divergence, source - source.mean(), atol=1e-8, rtol=1e-6)
    curl = torch.fft.ifftn(1j * waves[0] * modes[1] - 1j * waves[1] * modes[0]).real
    assert curl.abs().max() < 1e-8


def test_a_plane_wave_has_no_second_order():
    _, s2 = displacements(wave(16, 0.7), 50.0)
    assert s2.abs().max() < 1e-9


@pytest.mark.parametrize("side", [8, 12])
def test_paint_keeps_mass_and_reading_a_linear_field_is_exact(side):
    places = torch.rand(2, 3, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 30 - 10
    density = paint(places, side, 10.0)
    assert density.shape == (2, side, side, side)
    assert density.mean((1, 2, 3)).abs().max() < 1e-12
    torch.testing.assert_close(paint(places + 10.0, side, 10.0), density)  # periodic
    one = paint(torch.tensor([[[2.5], [5.0], [1.0]]]), 10, 10.0)  # half in each of two cells
    assert one[0, 2, 5, 1] + 1 == pytest.approx(500)
    assert one[0, 3, 5, 1] + 1 == pytest.approx(500)
    field = 3 * lattice(side, 10.0, dtype=torch.float64)[None]
    inside = torch.rand(1, 3, 200, dtype=torch.float64) * (10 - 10 / side)
    torch.testing.assert_close(read(field, inside, 10.0), 3 * inside)


def test_forces_add_up_to_nothing_and_a_particle_does_not_pull_itself():
    places = torch.rand(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 5
    pulled = force(places, 20.0, 16)
    assert pulled.flatten(2).sum(-1).abs().max() < 1e-9 * pulled.abs().sum()
    alone = torch.rand(1, 3, 1, 1, 1, dtype=torch.float64) * 20
    assert force(alone, 20.0, 16).abs().max() < 1e-10


def test_momentum_is_conserved():
    moved, momentum = simulate(linear(16, 32.0), PLANCK[0], 32.0, steps=8)
    assert momentum.std() > 0.1
    assert momentum.mean((2, 3, 4)).abs().max() < 1e-4 * momentum.std()
    assert torch.isfinite(moved).all()


@pytest.mark.parametrize("steps", [2, 10])
def test_large_waves_grow_as_linear_theory_says_however_few_the_steps(steps):
    """A wave of small contrast in a mesh of 32: its growth from a = 0.1 to today is that of D1 to 0.5%."""
    s1, s2 = displacements(wave(16, 1e-3), 100.0)
    start, _ = start_from(s1, s2, PLANCK[0], 0.1)
    moved, momentum = simulate(wave(16, 1e-3), PLANCK[0], 100.0, steps=steps)
    grown = to_modes(paint(lattice(16, 100.0) + moved, 32, 100.0))[0, 0, 0, 1].abs()
    before = to_modes(paint(lattice(16, 100.0) + start, 32, 100.0))[0, 0, 0, 1].abs()
    ratio = growth(torch.tensor([0.1]), PLANCK[0]).d1.item()
    assert float(before / grown) == pytest.approx(ratio, rel=5e-3)
    torch.testing.assert_close(moved.std() / s1.std(), torch.tensor(1.0, dtype=torch.float64), atol=5e-3, rtol=0)
    assert float(momentum.std() / s1.std()) == pytest.approx(growth(torch.ones(1), PLANCK[0]).g1.item(), rel=5e-3)


def test_large_modes_of_a_random_universe_grow_linearly():
    made = linear(32, 800.0)
    moved, _ = simulate(made, PLANCK[0], 800.0, steps=5)
    s1, _ = displacements(made, 800.0)
    k = wavenumbers(32, 800.0, 3)
    large = (k > 0) & (k < 0.02)
    got, want = (torch.stack([to_modes(one[:, i])[0][large] for i in range(3)]) for one in (moved, s1))
    assert float((got * want.conj()).real.sum() / (want.abs() ** 2).sum()) == pytest.approx(1, abs=0.01)


def test_a_pancake_follows_zeldovich_until_shells_cross():
    """In one dimension Zel'dovich's approximation is exact; crossing is where the contrast would be 1."""
    made = wave(32, 0.8)
    s1, _ = displacements(made, 50.0)
    moved, momentum = simulate(made, PLANCK[0], 50.0, steps=10, refine=2)
    assert float((moved - s1).abs().max() / s1.abs().max()) < 0.015
    want = growth(torch.ones(1), PLANCK[0]).g1.item() * s1
    assert float((momentum - want).square().mean().sqrt() / want.std()) < 0.03
    assert moved[:, :2].abs().max() < 1e-6


def test_more_steps_and_an_earlier_start_come_to_one_answer():
    made = linear(16, 64.0)
    fine, _ = simulate(made, PLANCK[0], 64.0, steps=64)
    errors = [
        float((simulate(made, PLANCK[0], 64.0, steps=steps)[0] - fine).square().mean().sqrt()) for steps in (4, 8, 16)
    ]
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]
    assert errors[2] < 0.03 * fine.std()


def test_a_box_that_is_moved_or_turned_ends_moved_or_turned():
    made = linear(16, 64.0).double()
    moved, _ = simulate(made, PLANCK[0], 64.0, steps=4)
    shifted, _ = simulate(made.roll((3, -5, 7), (1, 2, 3)), PLANCK[0], 64.0, steps=4)
    torch.testing.assert_close(shifted, moved.roll((3, -5, 7), (2, 3, 4)), atol=1e-6, rtol=1e-6)
    turned, _ = simulate(made.transpose(1, 3), PLANCK[0], 64.0, steps=4)
    torch.testing.assert_close(turned, moved.transpose(2, 4).flip(1), atol=1e-6, rtol=1e-6)


def test_boxes_do_not_see_each_other_nor_universes_one_another():
    made, omega = linear(8, 32.0, (0, 1)), torch.tensor([0.25, 0.4])
    both, _ = simulate(made, omega, 32.0, steps=3)
    for i in range(2):
        torch.testing.assert_close(both[i : i + 1], simulate(made[i : i + 1], omega[i : i + 1], 32.0, steps=3)[0])


def test_gradients_are_those_of_finite_differences():
    made = linear(8, 16.0).double().requires_grad_()
    weight = torch.rand(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def score(density):
        return (simulate(density, PLANCK[0], 16.0, steps=3)[0] * weight).sum()

    score(made).backward()
    direction = torch.randn(made.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        difference = (score(made + 1e-6 * direction) - score(made - 1e-6 * direction)) / 2e-6
    assert float((made.grad * direction).sum()) == pytest.approx(float(difference), rel=1e-4)


def test_the_pull_of_a_ball_falls_as_its_distance_squared():
    """Outside of a ball of mass M (the mean density is 1): M / 4 pi r^2, less the background's own pull."""
    r = (lattice(48, 48.0, dtype=torch.float64) + 24).remainder(48) - 24
    ball = torch.exp(-0.5 * (r**2).sum(0, keepdim=True) / 1.5**2)
    mass = float(ball.sum())
    for central in (False, True):
        pulled = pull(to_modes(ball - ball.mean()), 48.0, central=central)[0, 2, 0, 0]
        for x in (6, 7, 8):
            assert float(pulled[x]) == pytest.approx(-mass / (4 * math.pi * x**2) + mass / 48**3 * x / 3, rel=0.02)


def test_is_a_source_whose_rows_are_the_same_alone_and_in_company():
    nbody = build({"name": "nbody", "boxes": 6, "side": 8, "box": 32.0, "steps": 2, "omega_m": [0.2, 0.4]}, "source")
    assert isinstance(nbody, Source)
    batch = nbody.rows(np.arange(6), 3)
    assert Schema.from_arrow(batch.schema).columns == nbody.schema().columns
    again = nbody.rows(np.array([4, 1]), 3)
    for name in batch.schema.names:
        for place, row in enumerate((4, 1)):
            one, other = again[name][place].as_py(), batch[name][row].as_py()
            assert one == other if isinstance(one, str) else np.allclose(one, other, atol=1e-5), name
    assert nbody.rows(np.array([], np.int64), 3).num_rows == 0
    assert not np.allclose(nbody.rows(np.array([1]), 4)["lpt"][0].as_py(), batch["lpt"][1].as_py())
    assert all(nbody.schema()[name].moves for name in FIELDS)
    with pytest.raises(IndexError):
        nbody.rows(np.array([6]), 3)


def test_perturbation_theory_comes_closer_with_each_order():
    nbody = NBody(boxes=1, side=32, box=64.0, steps=8)
    made = nbody.draw(*PLANCK, torch.tensor([0]), 0)
    k, modes = wavenumbers(32, 64.0, 3), {}
    large = (k > 0) & (k < 0.3)
    for name, moved in made.items():
        modes[name] = to_modes(paint(lattice(32, 64.0) + moved, 32, 64.0))[0][large]

    def apart(name):  # 1 - r
        a, b = modes[name], modes["nbody"]
        return 1 - float((a * b.conj()).real.sum() / (a.abs().square().sum() * b.abs().square().sum()).sqrt())

    assert apart("lpt") < 0.5 * apart("zeldovich") < 0.05


def test_the_last_step_is_today():
    a = times(0.1, 7)
    assert len(a) == 8
    assert a[-1] == 1
    s1, s2 = displacements(linear(8, 200.0), 200.0)
    moved, _ = evolve(*start_from(s1, s2, PLANCK[0], 1.0), PLANCK[0], 200.0, a[-1:])
    torch.testing.assert_close(moved, start_from(s1, s2, PLANCK[0], 1.0)[0])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"boxes": 0}, "at least one box"),
        ({"side": 9}, "even number"),
        ({"box": 0.0}, "longer than 0"),
        ({"steps": 0}, "1 to 1000 steps"),
        ({"start": 1.0}, "scale factor of 0.002 to 1"),
        ({"refine": 9}, "1 to 4 times finer"),
        ({"omega_m": (0.5, 0.3)}, "omega_m lies within"),
        ({"sigma_8": (0.5, 3.0)}, "sigma_8 lies within"),
    ],
)
def test_what_cannot_be_is_refused(settings, match):
    with pytest.raises(ConfigError, match=match):
        NBody(**settings)
