"""Who lives in the simulated sky: the physical parameters of each galaxy, drawn before a pixel is made.

Magnitude, redshift, size and position on the sky are drawn before the class and independently of it, so that no column
of the table gives the answer away; only the light itself does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from .. import rng
from . import cosmology, profiles, sed

CLASSES = ("smooth", "spiral", "edge-on", "merger")
SMOOTH, SPIRAL, EDGE_ON, MERGER = range(4)
SKY = (150.0, 170.0, 20.0, 30.0)  # degrees: right ascension and declination of the patch, about 180 square degrees
_TRIES = 16
_DISC_EFFECTIVE = 1.678347  # half-light radius / scale length of an exponential disc


# torch rounds pow, asin and atan2 otherwise in the tail of a vector than in its body: a row would then depend on its
# company; exp, log, sin and cos are free of that.
def exp10(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return torch.exp(x * math.log(10))


def arcsin(x: Float[Tensor, " object"]) -> Float[Tensor, " object"]:
    return torch.tensor([math.asin(value) for value in x.tolist()], dtype=x.dtype)


class Draw:
    """Named random numbers of some rows; each name is its own stream, so adding one changes no other."""

    def __init__(self, seed: int, rows: Int64[Tensor, " object"], sky: str = "galaxies"):
        self.seed, self.rows, self.sky = seed, rows, sky

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0, count: int | None = None) -> Float[Tensor, "..."]:
        u = rng.uniform(self.seed, f"{self.sky}/{name}", self.rows, count or 1)
        return low + (high - low) * (u if count else u[:, 0])

    def normal(self, name: str, count: int | None = None) -> Float[Tensor, "..."]:
        g = rng.normal(self.seed, f"{self.sky}/{name}", self.rows, count or 1)
        return g if count else g[:, 0]

    def chance(self, name: str, probability: float | Tensor) -> Bool[Tensor, " object"]:
        return self.uniform(name) < probability

    def at(self, objects: Int64[Tensor, " some"]) -> Draw:
        return Draw(self.seed, self.rows[objects], self.sky)

    def fine(self, name: str) -> Float[Tensor, " object"]:
        """Uniform in [0, 1) with the 53 bits that a position needs."""
        word = rng.bits(self.seed, f"{self.sky}/{name}", self.rows)[:, 0]
        return ((word >> 11) & ((1 << 53) - 1)).double() * 2.0**-53


@dataclass(frozen=True)
class Galaxies:
    """One value an object: radii and offsets in arcsec, angles in radians, shares of the r-band flux before tides."""

    label: Int64[Tensor, " object"]
    redshift: Float[Tensor, " object"]
    magnitude: Float[Tensor, " object"]
    radius: Float[Tensor, " object"]  # half-light, along the major axis
    angle: Float[Tensor, " object"]  # of the major axis, from north (+y) towards east (-x)
    cos_i: Float[Tensor, " object"]
    q: Float[Tensor, " object"]  # apparent axis ratio of the disc, or of the elliptical
    bulge: Float[Tensor, " object"]  # bulge / (bulge + disc)
    bulge_n: Float[Tensor, " object"]
    bulge_radius: Float[Tensor, " object"]
    bulge_q: Float[Tensor, " object"]
    bulge_young: Float[Tensor, " object"]  # share of the observed r-band light from young stars
    disc_scale: Float[Tensor, " object"]
    disc_height: Float[Tensor, " object"]
    disc_young: Float[Tensor, " object"]
    arms: Float[Tensor, " object"]  # their number
    arm_light: Float[Tensor, " object"]  # share of the disc's light
    phase: Float[Tensor, " object"]  # where in the disc's plane the first arm starts, and the bar points
    bar: Float[Tensor, " object"]  # share of the disc's light
    bar_length: Float[Tensor, " object"]  # semi-major
    dust: Float[Tensor, " object"]  # share of the disc's light that a lane takes away
    tides: Float[Tensor, " object"]  # light of the tails / of the undisturbed galaxy
    other: Float[Tensor, " object"]  # flux of a companion (merger) or chance neighbour / of the undisturbed galaxy
    other_apart: Float[Tensor, " object"]  # its distance on the sky
    other_around: Float[Tensor, " object"]  # and direction, from x towards y
    other_radius: Float[Tensor, " object"]
    other_young: Float[Tensor, " object"]
    star: Float[Tensor, " object"]  # flux of a star in front / of the undisturbed galaxy

    def take(self, objects: Int64[Tensor, " some"]) -> Galaxies:
        return Galaxies(**{field.name: getattr(self, field.name)[objects] for field in fields(self)})


def positions(draw: Draw) -> tuple[Float[Tensor, " object"], Float[Tensor, " object"]]:
    """Right ascension and declination in degrees, uniform on the patch of the sphere."""
    ra0, ra1, dec0, dec1 = SKY
    low, high = math.sin(math.radians(dec0)), math.sin(math.radians(dec1))
    dec = torch.rad2deg(arcsin(low + (high - low) * draw.fine("dec")))
    return ra0 + (ra1 - ra0) * draw.fine("ra"), dec


def apparent(
    draw: Draw, bright: float, faint: float, smallest: float, largest: float
) -> tuple[Float[Tensor, " object"], Float[Tensor, " object"], Float[Tensor, " object"]]:
    """Magnitude, redshift and half-light radius (arcsec) of a flux-limited sample of galaxies that fit the stamp.

    Counts rise as 10^(0.1 m). Redshifts are lognormal about a median that deepens with magnitude (0.08 at r = 17.8).
    The radius follows luminosity, 5 kpc at M_r = -20.5 and 0.13 dex a magnitude with 30% scatter, close to the late
    types of Shen et al. 2003 (doi:10.1046/j.1365-8711.2003.06740.x), for every class.
    """
    slope = 0.1 * math.log(10)
    u = draw.uniform("magnitude")
    magnitude = faint + torch.log(u + (1 - u) * math.exp(-slope * (faint - bright))) / slope
    median = 0.08 * exp10(0.09 * (magnitude - 17.8))
    redshift = (median[:, None] * torch.exp(0.35 * draw.normal("redshift", _TRIES))).clamp(0.01, 1.0)
    absolute = magnitude[:, None] - cosmology.distance_modulus(redshift)
    absolute = absolute - sed.k_correction(redshift.flatten()).view_as(redshift)
    kpc = 5.0 * exp10(-0.13 * (absolute + 20.5)) * torch.exp(0.3 * draw.normal("radius", _TRIES))
    radius = kpc / cosmology.kpc_per_arcsec(redshift)
    fits = (radius > smallest) & (radius < largest)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)  # the first try that fits, else the first, clipped
    redshift, radius = (value.gather(1, first)[:, 0] for value in (redshift, radius))
    return magnitude, redshift, radius.clamp(smallest, largest)


def draw_galaxies(
    draw: Draw,
    seen: tuple[Float[Tensor, " object"], Float[Tensor, " object"], Float[Tensor, " object"]],
    fractions: tuple[float, ...],
    crowding: float,
) -> Galaxies:
    """The galaxies of ``draw.rows`` with the magnitude, redshift and half-light radius that are ``seen``.

    ``fractions`` are the shares of the classes, ``crowding`` the chance of an unrelated neighbour. An elliptical is a
    bulge of share 1. Colours follow type as in nature, with red (anaemic) spirals and blue (rejuvenated) ellipticals
    among them.
    """
    magnitude, redshift, radius = seen
    label = torch.bucketize(draw.uniform("class"), torch.tensor(fractions[:-1]).cumsum(0), right=True)

    def pick(*values: float) -> Float[Tensor, " object"]:
        return torch.tensor(values)[label]

    early = draw.chance("early", pick(1.0, 0.0, 0.0, 0.35))
    spheroid = early & draw.chance("spheroid", 0.65)  # an elliptical, else a lenticular with a smooth disc
    bulge = torch.where(early, draw.uniform("bulge early", 0.4, 0.8), 0.03 + 0.5 * draw.uniform("bulge") ** 2)
    bulge = torch.where(spheroid, 1.0, bulge)
    bulge_n = torch.where(early, draw.uniform("n early", 1.5, 5.5), draw.uniform("n late", 1.0, 4.0))
    bulge_size = torch.where(spheroid, 1.0, draw.uniform("bulge size", 0.15, 0.4))
    disc_radius = radius / profiles.half_light_scale(bulge, bulge_n, bulge_size)
    scale = disc_radius / _DISC_EFFECTIVE
    height = scale * draw.uniform("height", 0.12, 0.3)
    cos_i = torch.where(label == EDGE_ON, draw.uniform("edge", 0.0, 0.2), draw.uniform("inclination", 0.3, 1.0))
    bulge_q = torch.where(spheroid, 1 - 0.5 * draw.uniform("q"), torch.sqrt(0.45 + 0.55 * cos_i**2))
    thin = (0.5 * height / scale) ** 2  # square of the axis ratio of the disc seen edge-on
    q = torch.where(spheroid, bulge_q, torch.sqrt(thin + (1 - thin) * cos_i**2))

    blue = early ^ ~draw.chance("rare colour", 0.15)
    disc_young = torch.where(blue, draw.uniform("blue", 0.45, 0.9), draw.uniform("red", 0.0, 0.3))
    bulge_young = disc_young * torch.where(early, 0.8, draw.uniform("bulge age", 0.0, 0.4))

    spiral, merger = label == SPIRAL, label == MERGER
    barred = draw.chance("bar", 0.45)
    grand = barred | draw.chance("grand design", 0.4)  # two arms, else three or four
    arms = torch.where(grand, 2.0, torch.where(draw.chance("three", 0.5), 3.0, 4.0))

    ratio = torch.where(merger, draw.uniform("mass ratio", 0.2, 1.0), exp10(draw.uniform("neighbour", -1.5, 0.0)))
    apart = torch.where(merger, radius * draw.uniform("apart", 0.5, 2.2), 1.5 * radius + draw.uniform("away", 1.0, 8.0))
    return Galaxies(
        label=label,
        redshift=redshift,
        magnitude=magnitude,
        radius=radius,
        angle=draw.uniform("angle", 0, math.pi),
        cos_i=cos_i,
        q=q,
        bulge=bulge,
        bulge_n=bulge_n,
        bulge_radius=bulge_size * disc_radius,
        bulge_q=bulge_q,
        bulge_young=bulge_young,
        disc_scale=scale,
        disc_height=height,
        disc_young=disc_young,
        arms=torch.where(spiral, arms, 0.0),
        arm_light=torch.where(spiral, draw.uniform("arm light", 0.2, 0.5), 0.0),
        bar=torch.where(spiral & barred, draw.uniform("bar light", 0.1, 0.25), 0.0),
        phase=draw.uniform("phase", 0, 2 * math.pi),
        bar_length=scale * draw.uniform("bar length", 0.8, 1.4),
        dust=torch.where(label == EDGE_ON, draw.uniform("dust", -0.08, 0.22).clamp(min=0), 0.0),
        tides=torch.where(merger, draw.uniform("tides", 0.06, 0.35), 0.0),
        other=torch.where(merger | draw.chance("other here", crowding), ratio, 0.0),
        other_apart=apart,
        other_around=draw.uniform("around", 0, 2 * math.pi),
        other_radius=torch.where(merger, radius * torch.sqrt(ratio), 0.5 + 0.7 * radius * torch.sqrt(ratio))
        * draw.uniform("other size", 0.5, 1.0),
        other_young=draw.uniform("other age", 0.0, 0.9),
        star=torch.where(draw.chance("star here", crowding), exp10(draw.uniform("star", -1.7, 0.2)), 0.0),
    )
