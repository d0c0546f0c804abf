"""The network of detectors: an independent implementation, and what holds for any pair of arms on a turning Earth."""

import math

import pytest
import torch

from gsnn.errors import GsnnError
from gsnn.simulate.detectors import DETECTORS, antenna, delay, detector, sidereal_angle

# GPS time, right ascension, declination, polarisation; sidereal time; F_plus, F_cross and delay of H1 and of L1. From
# LAL 7.7.1 (ComputeDetAMResponse, TimeDelayFromEarthCenter).
INDEPENDENT = [
    (
        (1126259462.4, 1.95, -1.27, 0.82),
        2.4565330536,
        {"H1": (0.57874196, -0.45094856, 0.0146854001), "L1": (-0.52743323, 0.20521027, 0.0077009834)},
    ),
    (
        (1238205077.0, 0.3, 0.5, 1.1),
        3.8026577565,
        {"H1": (-0.31000655, -0.32302563, -0.0093104132), "L1": (0.11277954, -0.05046798, 0.0003242583)},
    ),
]


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("given", "angle", "known"), INDEPENDENT)
def test_equals_an_independent_implementation(given, angle, known):
    gps, ra, dec, psi = (column(v) for v in given)
    assert sidereal_angle(gps).item() == pytest.approx(angle, abs=1e-6)
    for name, (plus, cross, late) in known.items():
        got = antenna(name, ra, dec, psi, gps)
        assert got[0].item() == pytest.approx(plus, abs=1e-6)
        assert got[1].item() == pytest.approx(cross, abs=1e-6)
        assert delay(name, ra, dec, gps).item() == pytest.approx(late, abs=1e-8)


def sky(n: int = 20000):
    u = torch.rand(3, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return 2 * math.pi * u[0], torch.asin(2 * u[1] - 1), math.pi * u[2], torch.full((n,), 1.2e9, dtype=torch.float64)


def test_patterns_average_to_a_fifth_and_turn_with_the_polarisation():
    ra, dec, psi, gps = sky()
    for name in DETECTORS:
        plus, cross = antenna(name, ra, dec, psi, gps)
        assert (plus**2 + cross**2).max() <= 1 + 1e-6
        assert (plus**2).mean().item() == pytest.approx(0.2, abs=0.01)
        turned = antenna(name, ra, dec, psi + math.pi / 4, gps)
        assert torch.allclose(turned[0], cross, atol=1e-9)
        assert torch.allclose(turned[1], -plus, atol=1e-9)


def test_light_takes_ten_milliseconds_from_hanford_to_livingston():
    ra, dec, _, gps = sky()
    apart = delay("H1", ra, dec, gps) - delay("L1", ra, dec, gps)
    assert apart.abs().max().item() == pytest.approx(0.010012, abs=1e-5)
    opposite = delay("H1", ra + math.pi, -dec, gps)
    assert torch.allclose(opposite, -delay("H1", ra, dec, gps), atol=1e-12)


def test_arms_are_perpendicular_unit_vectors():
    for one in DETECTORS.values():
        x, y = column(*one.x), column(*one.y)
        assert x.norm().item() == pytest.approx(1, abs=1e-8)
        assert abs((x @ y).item()) < 2e-3  # the ends stand on a curved Earth
        assert 6.35e6 < column(*one.corner).norm().item() < 6.38e6


def test_the_sky_turns_once_in_a_sidereal_day():
    ra, dec, psi, gps = sky(50)
    later = antenna("H1", ra, dec, psi, gps + 86164.0905)
    assert torch.allclose(later[0], antenna("H1", ra, dec, psi, gps)[0], atol=1e-6)


def test_an_unknown_detector_is_named():
    with pytest.raises(GsnnError, match="known: H1, L1"):
        detector("K1x")
