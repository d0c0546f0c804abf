"""The inspiral of two black holes with aligned spins: post-Newtonian series in the frequency domain (TaylorF2).

K16 is Khan et al. 2016, arXiv:1508.07253, whose appendix B collects the series; the orders and the papers they come
from are listed there. All tensors are [object], float64; ``delta`` is (m1 - m2) / M, ``chi_s`` and ``chi_a`` are half
the sum and half the difference of the spins.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float64
from torch import Tensor

Value = Float64[Tensor, " object"]
PI = math.pi
EULER = 0.57721566490153286061


def phase_series(
    eta: Value, delta: Value, chi_s: Value, chi_a: Value
) -> tuple[Float64[Tensor, "object 8"], Float64[Tensor, "object 8"]]:
    """Coefficients of v^0..v^7 of the phase in units of 3 / (128 eta v^5), v = (pi M f)^(1/3), and those of v^k log v.

    K16 eqs B6 to B13.
    """
    s, a, d = chi_s, chi_a, delta
    zero, one = torch.zeros_like(eta), torch.ones_like(eta)
    two = 3715 / 756 + 55 / 9 * eta
    three = -16 * PI + 113 / 3 * d * a + (113 / 3 - 76 / 3 * eta) * s
    four = 15293365 / 508032 + 27145 / 504 * eta + 3085 / 72 * eta**2
    four = four + (-405 / 8 + 200 * eta) * a**2 - 405 / 4 * d * a * s + (-405 / 8 + 5 / 2 * eta) * s**2
    five = 38645 / 756 * PI - 65 / 9 * PI * eta + d * (-732985 / 2268 - 140 / 9 * eta) * a
    five = five + (-732985 / 2268 + 24260 / 81 * eta + 340 / 9 * eta**2) * s
    six = 11583231236531 / 4694215680 - 6848 / 21 * EULER - 640 / 3 * PI**2 - 6848 / 63 * math.log(64)
    six = six + (-15737765635 / 3048192 + 2255 / 12 * PI**2) * eta + 76055 / 1728 * eta**2 - 127825 / 1296 * eta**3
    six = six + 2270 / 3 * PI * d * a + (2270 / 3 - 520 * eta) * PI * s
    seven = PI * (77096675 / 254016 + 378515 / 1512 * eta - 74045 / 756 * eta**2)
    seven = seven + d * (-25150083775 / 3048192 + 26804935 / 6048 * eta - 1985 / 48 * eta**2) * a
    seven = seven + (
        (-25150083775 / 3048192 + 10566655595 / 762048 * eta - 1042165 / 3024 * eta**2 + 5345 / 36 * eta**3) * s
    )
    logs = [zero, zero, zero, zero, zero, 3 * five, -6848 / 21 * one, zero]
    return torch.stack([one, zero, two, three, four, five, six, seven], -1), torch.stack(logs, -1)


def amplitude_series(eta: Value, delta: Value, chi_s: Value, chi_a: Value) -> Float64[Tensor, "object 7"]:
    """Coefficients of v^0..v^6 of the amplitude over its Newtonian value, K16 eqs B14 to B20."""
    s, a, d = chi_s, chi_a, delta
    two = -323 / 224 + 451 / 168 * eta
    three = 27 / 8 * d * a + (27 / 8 - 11 / 6 * eta) * s
    four = -27312085 / 8128512 - 1975055 / 338688 * eta + 105271 / 24192 * eta**2
    four = four + (-81 / 32 + 8 * eta) * a**2 - 81 / 16 * d * a * s + (-81 / 32 + 17 / 8 * eta) * s**2
    five = -85 / 64 * PI + 85 / 16 * PI * eta + d * (285197 / 16128 - 1579 / 4032 * eta) * a
    five = five + (285197 / 16128 - 15317 / 672 * eta - 2227 / 1008 * eta**2) * s
    six = -177520268561 / 8583708672 + (545384828789 / 5007163392 - 205 / 48 * PI**2) * eta
    six = six - 3248849057 / 178827264 * eta**2 + 34473079 / 6386688 * eta**3
    six = six + (1614569 / 64512 - 1873643 / 16128 * eta + 2167 / 42 * eta**2) * a**2
    six = six + (31 / 12 - 7 / 3 * eta) * PI * s
    six = six + (1614569 / 64512 - 61391 / 1344 * eta + 57451 / 4032 * eta**2) * s**2
    six = six + d * a * (31 / 12 * PI + (1614569 / 32256 - 165961 / 2688 * eta) * s)
    return torch.stack([torch.ones_like(eta), torch.zeros_like(eta), two, three, four, five, six], -1)
