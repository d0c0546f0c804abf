"""Strong gravitational lenses as a deep ground-based survey sees them, among the galaxies that are taken for some.

The lens is a singular isothermal ellipsoid in an external shear (Kormann, Schneider & Bartelmann 1994, A&A 284, 285);
what lies behind is a clumpy blue galaxy, whose every point of light is traced through it. The populations follow
Collett 2015 (arXiv:1507.02657) in their order of magnitude.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..data.schema import Column, Schema
from ..errors import ConfigError
from . import cosmology, profiles, psf, sed
from .galaxies import Galaxies, Scene
from .population import SMOOTH, Draw, draw_galaxies, exp10
from .population import Galaxies as Population

LENS_CLASSES = ("not", "lens")
FINE = 3  # points of a pixel's side at which the lensed light is traced
_TRIES = 64
_CLUMPS, _CLUMP = 3, 0.25  # of a source, and their sigma in half-light radii
_B, _SOFT = 1.678347, 0.1  # half-light radius / scale length of an exponential disc; its core in half-light radii
_SPEED = 299792.458  # of light, km/s
_ARCSEC = 180 * 3600 / math.pi


def deflection(
    x: Float[Tensor, "object point"],
    y: Float[Tensor, "object point"],
    radius: Float[Tensor, " object"],
    q: Float[Tensor, " object"],
    angle: Float[Tensor, " object"],
) -> tuple[Float[Tensor, "object point"], Float[Tensor, "object point"]]:
    """Deflection by singular isothermal ellipsoids, in the unit of ``radius``, their Einstein radius.

    ``q`` is the axis ratio of the mass, ``angle`` that of its major axis from +y towards -x. In axes along minor and
    major one, with f = sqrt(1 - q^2) and the direction phi: radius sqrt(q) / f (arsinh(f cos phi / q),
    arcsin(f sin phi)) (Kormann et al. 1994, eq. 27); the convergence is radius sqrt(q) / (2 sqrt(minor^2 + q^2
    major^2)).
    """
    q, radius = q.clamp(max=0.9999)[:, None], radius[:, None]
    cos, sin = torch.cos(angle)[:, None], torch.sin(angle)[:, None]
    minor, major = cos * x + sin * y, cos * y - sin * x
    away = torch.sqrt(minor**2 + major**2).clamp_min(1e-9)
    f = torch.sqrt(1 - q**2)
    scale = radius * torch.sqrt(q) / f
    along_minor = scale * torch.asinh(f * minor / away / q)
    along_major = scale * torch.asin((f * major / away).clamp(-1, 1))
    return cos * along_minor - sin * along_major, sin * along_minor + cos * along_major


@dataclass(frozen=True)
class Sources:
    """What lies behind (or, of a decoy, beside) the galaxies; lengths in arcsec, one value an object."""

    lensed: Bool[Tensor, " object"]
    shown: Bool[Tensor, " object"]  # lensed, or a decoy
    einstein: Float[Tensor, " object"]  # radius that the galaxy has as a lens for a source at ``redshift``
    mass_q: Float[Tensor, " object"]
    mass_angle: Float[Tensor, " object"]
    shear: Float[Tensor, "object 2"]
    redshift: Float[Tensor, " object"]
    x: Float[Tensor, " object"]  # without a lens, from the middle of the galaxy
    y: Float[Tensor, " object"]
    radius: Float[Tensor, " object"]  # half-light
    q: Float[Tensor, " object"]
    angle: Float[Tensor, " object"]
    young: Float[Tensor, " object"]
    snr: Float[Tensor, " object"]


class Lenses(Galaxies):
    """Massive galaxies of which half have a galaxy behind them that they lens; a Source.

    Every galaxy could be a lens: its magnitude, redshift, size, velocity dispersion and the redshift of what is behind
    are drawn together, until its Einstein radius lies within ``einstein`` arcsec. ``lenses`` of the smooth ones have a
    source behind; of all others ``decoys`` have a blue galaxy beside them that is not lensed. Spirals, edge-on and
    merging galaxies (``fractions``) are there to be taken for lenses. The signal to noise of lensed light and of
    decoys, in the matched filter over all bands, is log-uniform within ``arc_snr``: neither its flux nor its colour
    tells what it is. ``exposure`` is in units of 53.9 s of SDSS; 120 is the depth of Hyper Suprime-Cam's wide survey.
    """

    sky_name = "lenses"

    def __init__(
        self,
        *,
        objects: int = 4000,
        size: int = 64,
        bands: tuple[str, ...] = ("g", "r", "i"),
        pixel_scale: float = 0.2,
        seeing: float = 0.7,
        exposure: float = 120.0,
        magnitudes: tuple[float, float] = (17.0, 21.5),
        fractions: tuple[float, float, float, float] = (0.7, 0.15, 0.05, 0.1),
        crowding: float = 0.25,
        einstein: tuple[float, float] = (0.8, 2.2),
        arc_snr: tuple[float, float] = (15.0, 300.0),
        lenses: float = 0.7,
        decoys: float = 0.5,
    ):
        super().__init__(
            objects=objects, size=size, bands=bands, pixel_scale=pixel_scale, seeing=seeing, exposure=exposure,
            magnitudes=magnitudes, fractions=fractions, crowding=crowding,
        )  # fmt: skip
        if not 0 < einstein[0] < einstein[1] <= size * pixel_scale / 4:
            raise ConfigError(
                f"Einstein radii from above 0 to a quarter of the stamp, {size * pixel_scale / 4:g} arcsec, not "
                f"{list(einstein)}",
                ("einstein",),
            )
        if not 0 < arc_snr[0] < arc_snr[1]:
            raise ConfigError(f"the lowest before the highest, both above 0, not {list(arc_snr)}", ("arc_snr",))
        for key, value in (("lenses", lenses), ("decoys", decoys)):
            if not 0 <= value <= 1:
                raise ConfigError(f"a probability from 0 to 1, not {value}", (key,))
        self.einstein, self.arc_snr, self.lenses, self.decoys = tuple(einstein), tuple(arc_snr), lenses, decoys

    def schema(self) -> Schema:
        base = super().schema()
        more = (
            Column("lens", "label", classes=LENS_CLASSES, description="whether it lenses the galaxy behind it"),
            Column("einstein_radius", "scalar", unit="arcsec", description="true, 0 where nothing is lensed"),
            Column("arc_snr", "scalar", description="signal to noise of lensed light or a decoy, all bands; 0 of none"),
            Column("magnification", "scalar", description="true, of the whole source; 0 where nothing is lensed"),
            Column("source_redshift", "scalar", description="true, of what is lensed or of a decoy; 0 of none"),
        )
        return Schema.of([*base.columns, *more], **base.provenance | {"simulator": "gsnn.simulate.lenses"})

    def population(self, rows: Int64[Tensor, " object"], seed: int) -> Population:
        """The parameters of the galaxies, each of which could be a lens."""
        draw = Draw(seed, rows)
        return draw_galaxies(draw, self.candidates(draw)[:3], self.fractions, self.crowding)

    def candidates(self, draw: Draw) -> tuple[Tensor, ...]:
        """Magnitude, redshift, half-light radius, Einstein radius and redshift of the source of possible lenses.

        Luminous galaxies, M_r = -22.3 +- 0.5; the dispersion follows by Faber & Jackson, 230 km/s at -22 and L^(1/4)
        with 0.07 dex of scatter, the radius as L^0.65, 6 kpc at -22 with 30% (Bernardi et al. 2003,
        arXiv:astro-ph/0301624, rounded). Einstein radius: 4 pi (sigma / c)^2 D_ls / D_s.
        """
        absolute = -22.3 + 0.5 * draw.normal("luminosity", _TRIES)
        z = draw.uniform("lens redshift", 0.15**3, 0.75**3, _TRIES) ** (1 / 3)
        behind = (1.5 * torch.exp(0.35 * draw.normal("source redshift", _TRIES))).clamp(0.4, 2.9)
        magnitude = absolute + cosmology.distance_modulus(z) + sed.k_correction(z.flatten(), 0.1).view_as(z)
        dispersion = 230 * exp10(-0.1 * (absolute + 22) + 0.07 * draw.normal("dispersion", _TRIES))
        lens_at, source_at = cosmology.comoving_distance_mpc(z), cosmology.comoving_distance_mpc(behind)
        ratio = ((source_at - lens_at) / source_at).clamp(min=0)  # of angular diameter distances, in a flat universe
        einstein = 4 * math.pi * (dispersion / _SPEED) ** 2 * ratio * _ARCSEC
        kpc = 6.0 * exp10(-0.26 * (absolute + 22)) * torch.exp(0.3 * draw.normal("size", _TRIES))
        radius = kpc / cosmology.kpc_per_arcsec(z)
        fits = (einstein > self.einstein[0]) & (einstein < self.einstein[1])
        fits &= (magnitude > self.magnitudes[0]) & (magnitude < self.magnitudes[1])
        fits &= (radius > self.radii[0]) & (radius < self.radii[1])
        first = fits.to(torch.uint8).argmax(1, keepdim=True)  # the first try that fits, else the first, clipped
        magnitude, z, radius, einstein, behind = (
            value.gather(1, first)[:, 0] for value in (magnitude, z, radius, einstein, behind)
        )
        return magnitude.clamp(*self.magnitudes), z, radius.clamp(*self.radii), einstein.clamp(*self.einstein), behind

    def sources(self, draw: Draw, g: Population) -> Sources:
        """What is lensed, or beside the galaxies. The mass follows the light to 10 degrees and 0.1 in axis ratio."""
        *_, einstein, redshift = self.candidates(draw)
        lensed = (g.label == SMOOTH) & draw.chance("lensed", self.lenses)
        shown = lensed | draw.chance("decoy", self.decoys)
        away = torch.where(
            lensed, 0.85 * torch.sqrt(draw.uniform("impact")), draw.uniform("beside", 0.8, 1.8)
        ) * einstein  # fmt: skip
        around = draw.uniform("source around", 0, 2 * math.pi)
        radius = (0.25 * torch.exp(0.4 * draw.normal("source size"))).clamp(0.08, 0.7)
        low, high = self.arc_snr
        return Sources(
            lensed=lensed,
            shown=shown,
            einstein=einstein,
            mass_q=(g.q + 0.1 * draw.normal("mass shape")).clamp(0.4, 0.98),
            mass_angle=g.angle + math.radians(10) * draw.normal("mass angle"),
            shear=0.05 * draw.normal("shear", 2),
            redshift=redshift,
            x=away * torch.cos(around),
            y=away * torch.sin(around),
            radius=torch.where(lensed, radius, radius * draw.uniform("decoy size", 1.0, 3.0)),
            q=draw.uniform("source shape", 0.4, 1.0),
            angle=draw.uniform("source angle", 0, math.pi),
            young=draw.uniform("source age", 0.7, 1.0),
            snr=low * torch.exp(draw.uniform("arc snr") * math.log(high / low)),
        )

    def trace(
        self, draw: Draw, s: Sources, x: Float[Tensor, "object point"], y: Float[Tensor, "object point"]
    ) -> Float[Tensor, "object point"]:
        """Surface brightness at points of the sky (arcsec from the lens), that of where their light comes from.

        An exponential disc with clumps of star formation, each with a tenth of the peak's brightness and more.
        """
        bent_x, bent_y = deflection(x, y, s.einstein, s.mass_q, s.mass_angle)
        plus, cross = s.shear[:, :1], s.shear[:, 1:]
        bent_x, bent_y = bent_x + plus * x + cross * y, bent_y + cross * x - plus * y
        on = s.lensed[:, None]
        x = x - torch.where(on, bent_x, 0) - s.x[:, None]
        y = y - torch.where(on, bent_y, 0) - s.y[:, None]
        cos, sin = torch.cos(s.angle)[:, None], torch.sin(s.angle)[:, None]
        q, radius = s.q[:, None], s.radius[:, None]
        minor, major = (cos * x + sin * y) / q, cos * y - sin * x
        light = torch.exp(-_B * torch.sqrt(minor**2 + major**2 + (_SOFT * radius) ** 2) / radius)
        bright, place = self.clumps(draw)
        for k in range(_CLUMPS):
            apart = (minor / radius - place[:, 2 * k, None]) ** 2 + (major / radius - place[:, 2 * k + 1, None]) ** 2
            light = light + bright[:, k, None] * torch.exp(-apart / (2 * _CLUMP**2))
        return light

    def clumps(self, draw: Draw) -> tuple[Float[Tensor, "object clump"], Float[Tensor, "object coordinate"]]:
        """Peaks and places, in units of the disc's peak and of its half-light radii along minor and major axis."""
        return draw.uniform("clump light", 0.1, 0.6, _CLUMPS), 0.8 * draw.normal("clump place", 2 * _CLUMPS)

    def emitted(self, draw: Draw, s: Sources) -> Float[Tensor, " object"]:
        """The light of a source without a lens: the integral of what ``trace`` gives, in closed form."""
        disc = math.exp(-_B * _SOFT) * (1 + _B * _SOFT) / _B**2
        return 2 * math.pi * s.q * s.radius**2 * (disc + _CLUMP**2 * self.clumps(draw)[0].sum(1))

    def arcs(self, draw: Draw, s: Sources) -> tuple[Float[Tensor, "object band y x"], Float[Tensor, " object"]]:
        """Lensed light (or a decoy's) behind the telescope, of arbitrary scale, and its magnification."""
        frame, step = -(-3 * self.size // 4) * 2, self.pixel_scale / FINE
        points = self.size * FINE
        along, centre = torch.arange(points) * step, self.centre(draw)[..., None]
        shape = (len(centre), points, points)
        x = (along - centre[:, 0])[:, None, :].expand(shape).reshape(len(centre), -1)
        y = (along - centre[:, 1])[:, :, None].expand(shape).reshape(len(centre), -1)
        light = self.trace(draw, s, x, y)
        magnification = light.sum(1) * step**2 / self.emitted(draw, s)

        waves = torch.fft.rfft2(light.view(shape), s=(frame * FINE, frame * FINE))
        half = frame // 2
        waves = torch.cat([waves[:, :half, : half + 1], waves[:, -half:, : half + 1]], 1)  # what the pixels can show
        ky, kx = profiles.wavenumbers(frame, self.pixel_scale)
        filters = psf.transfer(ky, kx, self.fwhm(draw), self.pixel_scale)
        colour = sed.colours(s.redshift, s.young[:, None], self.drawn)[:, 0, :, None, None]
        image = torch.fft.irfft2(waves[:, None] * filters * colour, s=(frame, frame))
        return image[:, : len(self.bands), : self.size, : self.size], magnification

    def scene(self, rows: Int64[Tensor, " object"], seed: int, g: Population) -> Scene:
        """The galaxies and what they lens. ``snr`` stays that of the galaxy."""
        draw = Draw(seed, rows)
        alone, s = super().scene(rows, seed, g), self.sources(draw, g)
        arcs, magnification = self.arcs(draw, s)
        unit = torch.sqrt((arcs**2 / alone.variance).flatten(1).sum(1))
        arcs = arcs * torch.where(s.shown, s.snr / unit, 0)[:, None, None, None]
        image = alone.image + arcs
        truth = {
            "einstein_radius": torch.where(s.lensed, s.einstein, 0),
            "arc_snr": torch.where(s.shown, s.snr, 0),
            "magnification": torch.where(s.lensed, magnification, 0),
            "source_redshift": torch.where(s.shown, s.redshift, 0),
        }
        lens = np.array(LENS_CLASSES, dtype=object)[s.lensed.long().numpy()]
        return Scene(image, self.variance(image), alone.snr, {"lens": lens} | {k: v.numpy() for k, v in truth.items()})
