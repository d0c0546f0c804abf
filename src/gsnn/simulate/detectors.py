"""Where H1 and L1 stand, how they turn with the Earth, and how strongly and when they feel a wave from the sky.

Positions and arms: LIGO-T980044 (Althouse et al.). Antenna patterns: Anderson et al. 2001 (Phys. Rev. D 63, 042003,
eq. B7). Angles in radians, times in GPS seconds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from ..errors import GsnnError, suggest

LIGHT = 299792458.0  # m/s
Value = Float64[Tensor, " object"]


class Detector(NamedTuple):
    """An interferometer: its corner (m, geocentric, fixed to the Earth) and the directions of its arms."""

    corner: tuple[float, float, float]
    x: tuple[float, float, float]
    y: tuple[float, float, float]


DETECTORS = {
    "H1": Detector(
        (-2161414.92636, -3834695.17889, 4600350.22664),
        (-0.22389266154, 0.79983062746, 0.55690487831),
        (-0.91397818574, 0.02609403989, -0.40492342125),
    ),
    "L1": Detector(
        (-74276.0447238, -5496283.71971, 3224257.01744),
        (-0.95457412153, -0.14158077340, -0.26218911324),
        (0.29774156894, -0.48791033647, -0.82054461286),
    ),
}
_LEAPS = ((0, 13), (820108814, 14), (914803215, 15), (1025136016, 16), (1119744017, 17), (1167264018, 18))
_J2000 = 630763213  # GPS seconds of 2000-01-01 12:00 UTC, when GPS was 13 s ahead of UTC


def detector(name: str) -> Detector:
    if name not in DETECTORS:
        raise GsnnError(f"no detector is called {name!r}; {suggest(name, DETECTORS)}")
    return DETECTORS[name]


def sidereal_angle(gps: Value) -> Value:
    """Greenwich mean sidereal time in radians (IAU 2000/2006: Capitaine et al. 2003, A&A 406, 1135), UT1 = UTC."""
    leap = torch.zeros_like(gps)
    for start, seconds in _LEAPS:
        leap = torch.where(gps >= start, torch.full_like(gps, seconds - 13), leap)
    days = (gps - _J2000 - leap) / 86400
    turns = 0.7790572732640 + 0.00273781191135448 * days + days % 1
    centuries = days / 36525
    precession = (0.014506 + 4612.156534 * centuries + 1.3915817 * centuries**2) * math.pi / 648000
    return (2 * math.pi * turns + precession) % (2 * math.pi)


def antenna(name: str, ra: Value, dec: Value, polarisation: Value, gps: Value) -> tuple[Value, Value]:
    """The pattern functions F_plus and F_cross of a detector."""
    x, y = (torch.tensor(arm, dtype=torch.float64, device=ra.device) for arm in detector(name)[1:])
    east, sin, cos = ra - sidereal_angle(gps), torch.sin(polarisation), torch.cos(polarisation)
    west = torch.stack([torch.sin(east), -torch.cos(east), torch.zeros_like(east)], -1)
    down = torch.cos(dec), torch.sin(dec)
    north = torch.stack([-torch.cos(east) * down[1], -torch.sin(east) * down[1], down[0]], -1)
    p = cos[:, None] * west + sin[:, None] * north
    q = -sin[:, None] * west + cos[:, None] * north
    (px, py), (qx, qy) = (p @ x, p @ y), (q @ x, q @ y)
    return (px**2 - py**2 - qx**2 + qy**2) / 2, px * qx - py * qy


def delay(name: str, ra: Value, dec: Value, gps: Value) -> Value:
    """Seconds by which a wave reaches the detector after the centre of the Earth."""
    east = ra - sidereal_angle(gps)
    flat = torch.cos(dec)
    source = torch.stack([flat * torch.cos(east), flat * torch.sin(east), torch.sin(dec)], -1)
    corner = torch.tensor(detector(name).corner, dtype=torch.float64, device=ra.device)
    return -(source @ corner) / LIGHT
