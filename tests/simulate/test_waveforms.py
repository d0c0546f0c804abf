"""IMRPhenomD: an independent implementation, post-Newtonian limits, smooth joins, and the black hole that is left."""

import math

import numpy as np
import pytest
import torch

from gsnn.simulate import phenom
from gsnn.simulate.waveforms import SUN_S, Binaries, IMRPhenomD, face_on, polarisations

# Masses and spins; frequencies (Hz); |h_plus| x 1e23 / Hz at 100 Mpc, inclination 0.6 rad; the phase of h_plus less the
# straight line through the first and the last frequency (rad). From LALSimulation 7.7.1 (SimInspiralChooseFDWaveform).
# fmt: off
INDEPENDENT = [
    ((36.0, 29.0, 0.3, -0.4), (20.0, 89.5, 159.0, 228.5, 298.0, 367.5, 437.25),
     (29.3162, 4.21305, 2.63174, 2.11995, 0.781811, 0.0671998, 0.00756756),
     (0, 39.05915, 34.14491, 26.69389, 17.47263, 8.62869, 0)),
    ((50.0, 10.0, 0.8, 0.7), (20.0, 95.5, 171.0, 246.75, 322.25, 397.75, 473.5),
     (21.4399, 3.26148, 1.69683, 1.23227, 0.97037, 0.207272, 0.00959036),
     (0, 110.35564, 95.05443, 73.82162, 50.43918, 24.9208, 0)),
    ((30.0, 30.0, 0.0, 0.0), (20.0, 95.5, 171.0, 246.75, 322.25, 397.75, 473.5),
     (27.8087, 3.70138, 2.28515, 1.83686, 0.682052, 0.0581933, 0.00649849),
     (0, 45.33988, 39.25763, 30.5332, 20.04305, 9.9142, 0)),
    ((12.0, 11.0, -0.5, 0.2), (20.0, 187.25, 354.5, 522.0, 689.25, 856.5, 1023.75),
     (13.0387, 0.724485, 0.377913, 0.305852, 0.235654, 0.0563821, None),
     None),
    ((60.0, 15.0, -0.6, 0.3), (20.0, 79.75, 139.5, 199.25, 259.0, 318.75, 378.75),
     (23.9683, 3.18045, 2.15891, 0.699145, 0.0739932, 0.0105804, 0.00198834),
     (0, 26.28562, 22.64104, 16.70125, 11.05173, 5.56479, 0)),
]
# fmt: on


def one(*values: float) -> Binaries:
    return Binaries(*(torch.tensor([v], dtype=torch.float64) for v in values))


def many(n: int = 40) -> Binaries:
    u = torch.rand(4, n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return Binaries.of(5 + 75 * u[0], 5 + 75 * u[1], 1.8 * u[2] - 0.9, 1.8 * u[3] - 0.9)


@pytest.mark.parametrize(("case", "frequency", "size", "phase"), INDEPENDENT)
def test_equals_an_independent_implementation(case, frequency, size, phase):
    """To the accuracy of the fit of the ringdown frequency, which stands here in place of an interpolated table."""
    grid = torch.arange(4 * 1100 + 1, dtype=torch.float64) / 4
    full = {"inclination": torch.tensor([0.6]).double(), "distance": torch.tensor([100.0]).double()}
    plus, cross = polarisations(face_on(one(*case), grid), **full, phase=torch.zeros(1).double())
    at = [round(4 * f) for f in frequency]
    got, known = plus[0, at].abs().numpy() * 1e23, [s is not None for s in size]
    np.testing.assert_allclose(got[known], [s for s in size if s is not None], rtol=1e-3)
    if phase is not None:
        own = np.unwrap(np.angle(plus[0, at[0] : at[-1] + 1].numpy()))
        line = np.interp(frequency, frequency[:: len(frequency) - 1], own[[0, -1]])
        np.testing.assert_allclose(own[np.array(at) - at[0]] - line, phase, atol=2e-3)
    ratio = (cross[0, at[:-1]] / plus[0, at[:-1]]).numpy()
    np.testing.assert_allclose(ratio, -2j * math.cos(0.6) / (1 + math.cos(0.6) ** 2), atol=1e-9)


def test_early_inspiral_is_that_of_newton_and_einstein():
    """The time left at a frequency is 5/256 Mc^(-5/3) (pi f)^(-8/3), the amplitude falls as f^(-7/6) (Peters 1964)."""
    binaries = many()
    model, x = IMRPhenomD(binaries), torch.full((40, 1), 2e-6, dtype=torch.float64)
    slope = (model.phase(x * 1.0001) - model.phase(x * 0.9999)) / (2e-4 * x) / (2 * math.pi)
    newton = 5 / 256 / binaries.eta[:, None] * (math.pi * x) ** (-8 / 3)
    assert torch.allclose(-slope / newton, torch.ones_like(slope), atol=3e-3)
    assert torch.allclose(model.amplitude(x), torch.ones_like(x), atol=2e-3)


@pytest.mark.parametrize("what", ["phase", "amplitude"])
def test_joins_are_smooth(what):
    """Neither values nor slopes jump where the regions meet."""
    model = IMRPhenomD(many())
    curve = getattr(model, what)
    full = torch.ones(40, dtype=torch.float64)
    joins = [0.018 * full, model.ring[0] / 2] if what == "phase" else [0.014 * full, model.peak]
    for at in joins:
        h = 1e-7
        x = at[:, None] + torch.tensor([-2 * h, -h, h, 2 * h], dtype=torch.float64)
        y = curve(x)
        left, right = (y[:, 1] - y[:, 0]) / h, (y[:, 3] - y[:, 2]) / h
        across = (y[:, 2] - y[:, 1]) / (2 * h)
        scale = left.abs() + 1
        assert ((right - left).abs() / scale).max() < 1e-3
        assert ((across - left).abs() / scale).max() < 1e-3


def test_the_remnant_is_that_of_numerical_relativity():
    """Equal masses without spin leave a = 0.6864 and 0.9516 of the mass (Scheel et al. 2009, arXiv:0810.1767)."""
    eta, zero = torch.tensor([0.25]).double(), torch.zeros(1).double()
    assert phenom.final_spin(eta, zero).item() == pytest.approx(0.6864, abs=1e-3)
    assert 1 - phenom.radiated_energy(eta, zero).item() == pytest.approx(0.9516, abs=1e-3)
    # a small body leaves the large one as it was
    assert phenom.final_spin(torch.tensor([1e-6]).double(), torch.tensor([0.6]).double()).item() == pytest.approx(
        0.6, abs=1e-4
    )


def test_ringdown_frequencies_of_kerr_holes():
    """M omega of Leaver 1985: 0.37367 - 0.08896i without spin, 0.53260 - 0.08079i at a = 0.7 (Berti et al. 2009)."""
    frequency, damping = phenom.ringdown(torch.tensor([0.0, 0.7]).double())
    assert torch.allclose(2 * math.pi * frequency, torch.tensor([0.37367, 0.53260]).double(), atol=2e-4)
    assert torch.allclose(2 * math.pi * damping, torch.tensor([0.08896, 0.08079]).double(), atol=2e-4)


def test_in_time_it_chirps_merges_at_zero_and_rings_down():
    binaries = one(36.0, 29.0, 0.0, 0.0)
    rate, seconds = 8192, 8
    frequency = torch.arange(rate * seconds // 2 + 1, dtype=torch.float64) / seconds
    wave = face_on(binaries, frequency) * (frequency > 12)
    real, quarter = torch.fft.irfft(wave)[0], torch.fft.irfft(-1j * wave)[0]
    turning = torch.complex(real, quarter).roll(rate * seconds // 2)  # merger in the middle
    size, middle = turning.abs(), rate * seconds // 2
    assert abs(int(size.argmax()) - middle) < 0.006 * rate
    step = (turning[1:] * turning[:-1].conj()).angle().abs() * rate / (2 * math.pi)
    ring, damp = ((value / (binaries.mass * SUN_S)).item() for value in binaries.remnant())
    after, end = middle + int(0.002 * rate), middle + int(0.009 * rate)
    assert step[after:end].mean().item() == pytest.approx(ring, rel=0.03)
    fall = math.log(size[after] / size[end]) / ((end - after) / rate)
    assert fall == pytest.approx(2 * math.pi * damp, rel=0.12)
    early, late = middle - int(0.5 * rate), middle - int(0.1 * rate)
    assert step[early] < step[late] < ring
    mass = binaries.chirp_mass.item() * SUN_S
    expected = (5 / 256 / 0.5) ** (3 / 8) * mass ** (-5 / 8) / math.pi  # half a second before merger
    assert step[early].item() == pytest.approx(expected, rel=0.05)


def test_heavier_binaries_are_the_same_wave_on_another_clock():
    frequency = torch.linspace(10, 200, 400, dtype=torch.float64)
    light, heavy = face_on(one(30.0, 20.0, 0.2, 0.1), 2 * frequency), face_on(one(60.0, 40.0, 0.2, 0.1), frequency)
    assert torch.allclose(heavy, 4 * light, rtol=1e-9)


def test_order_and_company_do_not_matter():
    binaries = many()
    frequency = torch.linspace(10, 500, 100, dtype=torch.float64)
    wave = face_on(binaries, frequency)
    assert torch.isfinite(wave.abs()).all()
    swapped = Binaries.of(binaries.mass_2, binaries.mass_1, binaries.spin_2, binaries.spin_1)
    assert torch.equal(face_on(swapped, frequency), wave)
    some = binaries.take(torch.tensor([7, 3]))
    assert torch.allclose(face_on(some, frequency), wave[[7, 3]], rtol=1e-12)
