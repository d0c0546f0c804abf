"""The light of a star while a planet, or another star, passes before it: Mandel & Agol 2002 on a Keplerian orbit.

All of it is torch in float64 and differentiable by every parameter. Lengths are in radii of the star that is passed
before, times in days, angles in radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

EDGE = 1e-9  # how far from the contacts, where single terms diverge though their sum does not, a separation is kept
CEL_STEPS = 10  # of the Landen transformation; it converges quadratically, from kc = 1e-5 in nine


@dataclass(frozen=True)
class Orbit:
    """A Keplerian orbit seen from far away. One value an object.

    ``epoch`` is the time of inferior conjunction, ``axis`` the semi-major axis, ``argument`` that of the periastron
    (pi / 2: it points at us), and ``impact`` the sky-projected distance at inferior conjunction.
    """

    period: Float[Tensor, " object"]
    epoch: Float[Tensor, " object"]
    axis: Float[Tensor, " object"]
    impact: Float[Tensor, " object"]
    eccentricity: Float[Tensor, " object"]
    argument: Float[Tensor, " object"]

    @property
    def cos_i(self) -> Float[Tensor, " object"]:
        """Cosine of the inclination (Winn 2010, arXiv:1001.2010, eq. 7)."""
        e, w = self.eccentricity, self.argument
        return self.impact / self.axis * (1 + e * torch.sin(w)) / (1 - e**2)

    def superior(self) -> Float[Tensor, " object"]:
        """The time of the superior conjunction that follows the epoch, when the companion is behind the star."""
        phase = (self._mean(-math.pi / 2) - self._mean(math.pi / 2)) / (2 * math.pi)
        return self.epoch + self.period * torch.remainder(phase, 1.0)

    def _mean(self, place: float) -> Float[Tensor, " object"]:
        """The mean anomaly where true anomaly + argument of periastron = ``place``."""
        e, f = self.eccentricity, place - self.argument
        anomaly = 2 * torch.atan2(torch.sqrt(1 - e) * torch.sin(f / 2), torch.sqrt(1 + e) * torch.cos(f / 2))
        return anomaly - e * torch.sin(anomaly)


def eccentric_anomaly(
    mean: Float[Tensor, "*shape"], eccentricity: Float[Tensor, "*shape"], steps: int = 8
) -> Float[Tensor, "*shape"]:
    """E of M = E - e sin E, by Newton's method from E = M + 0.85 e sgn(sin M) (Danby 1987).

    Only the last step is differentiated: at the solution, that of the iteration is that of the equation.
    """
    with torch.no_grad():
        mean_ = torch.remainder(mean, 2 * math.pi)
        found = mean_ + 0.85 * eccentricity * torch.sign(torch.sin(mean_))
        for _ in range(steps):
            found = found - (found - eccentricity * torch.sin(found) - mean_) / (1 - eccentricity * torch.cos(found))
        found = found + (mean - mean_)
    return found - (found - eccentricity * torch.sin(found) - mean) / (1 - eccentricity * torch.cos(found).detach())


def separation(
    time: Float[Tensor, "object step"], orbit: Orbit
) -> tuple[Float[Tensor, "object step"], Bool[Tensor, "object step"]]:
    """The distance of the two centres on the sky, and whether the companion is in front (Winn 2010, eq. 5)."""
    e, w = orbit.eccentricity[:, None], orbit.argument[:, None]
    mean = 2 * math.pi * (time - orbit.epoch[:, None]) / orbit.period[:, None] + orbit._mean(math.pi / 2)[:, None]
    anomaly = eccentric_anomaly(mean, e.expand_as(mean))
    x, y = torch.cos(anomaly) - e, torch.sqrt(1 - e**2) * torch.sin(anomaly)  # in the orbit's plane, over the axis
    across, along = x * torch.cos(w) - y * torch.sin(w), x * torch.sin(w) + y * torch.cos(w)
    z2 = across**2 + (along * orbit.cos_i[:, None]) ** 2
    return orbit.axis[:, None] * torch.sqrt(z2.clamp_min(1e-30)), along > 0


def cel(kc: Tensor, p: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Bulirsch's general complete elliptic integral (1969, Numer. Math. 13, 305), for p > 0.

    The integral over 0..pi/2 of (a cos^2 + b sin^2) / ((cos^2 + p sin^2) sqrt(cos^2 + kc^2 sin^2)). It gives all three
    kinds: K = cel(kc, 1, 1, 1), E = cel(kc, 1, 1, kc^2), Pi(n) = cel(kc, 1 - n, 1, 1).
    """
    e, m = kc, torch.ones_like(kc)
    p = torch.sqrt(p)
    b = b / p
    for _ in range(CEL_STEPS):
        f, a = a, a + b / p
        g = e / p
        b = 2 * (b + f * g)
        p = p + g
        g, m = m, m + kc
        kc = 2 * torch.sqrt(e)
        e = kc * m
    return math.pi / 2 * (b + a * m) / (m * (m + p))


def _uniform_and_quadratic(z: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """lambda_e and eta_d while the disc of radius ``p`` cuts the limb at two points, |1 - p| < z < 1 + p."""
    kappa0 = torch.acos(((p**2 + z**2 - 1) / (2 * p * z)).clamp(-1 + 1e-15, 1 - 1e-15))
    kappa1 = torch.acos(((1 - p**2 + z**2) / (2 * z)).clamp(-1 + 1e-15, 1 - 1e-15))
    kite = torch.sqrt(((1 - (z - p) ** 2) * ((z + p) ** 2 - 1)).clamp_min(1e-30))
    covered = (p**2 * kappa0 + kappa1 - kite / 2) / math.pi
    eta = (kappa1 + p**2 * (p**2 + 2 * z**2) * kappa0 - (1 + 5 * p**2 + z**2) * kite / 4) / (2 * math.pi)
    return covered, eta


def _on_the_limb(z: Tensor, p: Tensor) -> Tensor:
    """lambda_1 of their Table 1."""
    a, b, q = (z - p) ** 2, (z + p) ** 2, p**2 - z**2
    kc = torch.sqrt(((b - 1) / (4 * z * p)).clamp_min(1e-20))  # 1 - k^2 with k^2 = (1 - a) / (4 z p)
    one = torch.ones_like(z)
    first = ((1 - b) * (2 * b + a - 3) - 3 * q * (b - 2)) * cel(kc, one, one, one)
    second = 4 * p * z * (z**2 + 7 * p**2 - 4) * cel(kc, one, one, kc**2)
    third = 3 * q / a * cel(kc, 1 / a, one, one)  # 1 - n = 1 / a
    return (first + second - third) / (9 * math.pi * torch.sqrt(p * z))


def _inside(z: Tensor, p: Tensor) -> Tensor:
    """lambda_2 of their Table 1."""
    a, b, q = (z - p) ** 2, (z + p) ** 2, p**2 - z**2
    kc = torch.sqrt(((1 - b) / (1 - a)).clamp_min(1e-20))  # 1 - 1/k^2
    one = torch.ones_like(z)
    first = (1 - 5 * z**2 + p**2 + q**2) * cel(kc, one, one, one)
    second = (1 - a) * (z**2 + 7 * p**2 - 4) * cel(kc, one, one, kc**2)
    third = 3 * q / a * cel(kc, b / a, one, one)  # 1 - n = b / a
    return 2 * (first + second - third) / (9 * math.pi * torch.sqrt(1 - a))


def _away(z: Tensor, place: Tensor) -> Tensor:
    """``z`` kept EDGE away from ``place``, on its own side."""
    side = torch.where(z >= place, 1.0, -1.0)
    return torch.where((z - place).abs() < EDGE, place + EDGE * side, z)


def dimming(
    z: Float[Tensor, " step"], p: Float[Tensor, " step"], u1: Float[Tensor, " step"], u2: Float[Tensor, " step"]
) -> Float[Tensor, " step"]:
    """The share of the star's light that a dark disc of radius ``p`` > 0 at the distance ``z`` of the centres hides.

    Mandel & Agol 2002 (ApJ 580, L171), section 4 with c2 = u1 + 2 u2 and c4 = -u2, for the limb darkening
    I(mu) = 1 - u1 (1 - mu) - u2 (1 - mu)^2. Their special cases (z = p, z = 1 - p, z = 0) are limits of the two general
    ones, which are evaluated EDGE beside them. Within 1e-7 of batman over all cases.
    """
    z = _away(_away(_away(z, p), 1 - p), p - 1).clamp_min(EDGE)
    partial, inside, total = (z > (1 - p).abs()) & (z < 1 + p), z < 1 - p, z < p - 1
    e = total.to(z.dtype)  # lambda_e, lambda_d + 2/3 Theta(p - z), eta_d
    d, eta = e * 2 / 3, e / 2
    where = partial.nonzero()[:, 0]
    if len(where):
        zs, ps = z[where], p[where]
        one, two = _uniform_and_quadratic(zs, ps)
        e, eta = e.index_put((where,), one), eta.index_put((where,), two)
        d = d.index_put((where,), _on_the_limb(zs, ps) + 2 / 3 * (ps > zs))
    where = inside.nonzero()[:, 0]
    if len(where):
        zs, ps = z[where], p[where]
        e, eta = e.index_put((where,), ps**2), eta.index_put((where,), ps**2 / 2 * (ps**2 + 2 * zs**2))
        d = d.index_put((where,), _inside(zs, ps) + 2 / 3 * (ps > zs))
    c2 = u1 + 2 * u2
    return ((1 - c2) * e + c2 * d + u2 * eta) / (1 - u1 / 3 - u2 / 6)


def eclipse(
    time: Float[Tensor, "object step"],
    orbit: Orbit,
    radius: Float[Tensor, " object"],
    u1: Float[Tensor, " object"],
    u2: Float[Tensor, " object"],
    *,
    behind: bool = False,
    exposure: float = 0.0,
    samples: int = 1,
) -> Float[Tensor, "object step"]:
    """The flux of the star, 1 out of transit, while a dark disc of ``radius`` (0: none) passes before it.

    With ``behind`` it is the companion that is hidden, by the star: its light then stands here, with ``radius``,
    ``orbit.axis`` and ``orbit.impact`` in radii of the *companion*. The mean over an ``exposure`` (days) is that of
    ``samples`` midpoints in it: the error is that of the midpoint rule (Kipping 2010, arXiv:1004.3741).
    """
    shape = time.shape
    if samples > 1:
        inside = (torch.arange(samples, dtype=time.dtype, device=time.device) + 0.5) / samples - 0.5
        time = (time[..., None] + exposure * inside).flatten(1)
    z, front = separation(time, orbit)
    hidden = (front != behind) & (z < 1 + radius[:, None]) & (radius[:, None] > 0)
    objects, steps = hidden.nonzero(as_tuple=True)
    lost = torch.zeros_like(z)
    if len(objects):
        part = dimming(z[objects, steps], radius[objects], u1[objects], u2[objects])
        lost = lost.index_put((objects, steps), part)
    return 1 - (lost.view(*shape, samples).mean(-1) if samples > 1 else lost)


def duration(orbit: Orbit, radius: Float[Tensor, " object"]) -> Float[Tensor, " object"]:
    """First to last contact in days (Winn 2010, eq. 14 and 16); 0 where nothing is passed before."""
    e, w = orbit.eccentricity, orbit.argument
    chord = torch.sqrt(((1 + radius) ** 2 - orbit.impact**2).clamp_min(0))
    sin_i = torch.sqrt((1 - orbit.cos_i**2).clamp_min(1e-12))
    ratio = (chord / (orbit.axis * sin_i)).clamp(0, 1 - 1e-12)
    return orbit.period / math.pi * torch.asin(ratio) * torch.sqrt(1 - e**2) / (1 + e * torch.sin(w))
