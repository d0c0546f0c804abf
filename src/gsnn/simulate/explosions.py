"""The light of supernovae: a luminosity that radioactivity or a plateau feeds, radiated by an expanding photosphere.

Types Ia and Ibc shine by the decay of nickel 56 (Arnett 1982, ApJ 253, 785), type II by recombining hydrogen at nearly
constant luminosity (Popov 1993, ApJ 414, 712), with a linear decline for II-L, and a cobalt tail; gamma rays
escape as in Clocchiatti & Wheeler 1997 (ApJ 491, 375), eq. 3. The photosphere
expands at a constant speed until it has cooled to the temperature of recombination and then stays at it (Nicholl et
al. 2017, ApJ 850, 55, eqs 8 and 9); its spectrum is a blackbody whose ultraviolet light is taken by lines of iron and
given back at longer wavelengths. There are no single lines, and so no second maximum of a Ia in the near infrared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .population import Draw

TYPES = ("Ia", "Ibc", "II")
SUN = 1.989e33  # g
_NICKEL, _COBALT = 3.9e10, 6.78e9  # erg / s / g: heating by 56Ni and by 56Co (Sutherland & Wheeler 1984)
_T_NICKEL, _T_COBALT = 8.80, 111.3  # days, mean lives
_SIGMA = 5.670374e-5  # erg / s / cm2 / K4
_H_OVER_K = 4.799243e-11  # s K
_C = 2.99792458e18  # Angstrom / s
_PLANCK = 1.474500e15  # 2 h / c^2 in nJy / sr / (1e10 Hz)^3
_PARSEC = 3.0856776e18  # cm
_DAY = 86400.0
_STEP, _LAST = 0.1, 400.0  # days of the table of Arnett's solutions
_SHORTEST, _LONGEST, _TAUS = 4.0, 40.0, 73


@dataclass(frozen=True)
class Explosions:
    """One value an object, rest frame."""

    kind: Int64[Tensor, " object"]  # index into TYPES
    nickel: Float[Tensor, " object"]  # solar masses of 56Ni
    diffusion: Float[Tensor, " object"]  # days, of Arnett's solution
    trapping: Float[Tensor, " object"]  # days from which on gamma rays escape
    speed: Float[Tensor, " object"]  # km/s of the photosphere
    floor: Float[Tensor, " object"]  # K
    plateau: Float[Tensor, " object"]  # log10 erg/s; of type II only
    length: Float[Tensor, " object"]  # days of the plateau
    decline: Float[Tensor, " object"]  # mag in 100 days on the plateau
    blue_limit: Float[Tensor, " object"]  # Angstrom below which iron takes the light

    def take(self, places: Tensor) -> Explosions:
        return Explosions(*(getattr(self, f.name)[places] for f in fields(self)))


def draw_explosions(draw: Draw, kind: Int64[Tensor, " object"]) -> Explosions:
    """Populations after Scalzo et al. 2014 (Ia), Lyman et al. 2016 (Ibc) and Anderson et al. 2014 (II), rounded.

    Brighter Ia are slower (Phillips 1993, ApJ 413, L105): nickel and diffusion time share ``stretch``.
    """
    stretch = draw.normal("stretch").clamp(-2.5, 2.5)
    a, b, c, d = draw.normal("explosion", 4).clamp(-2.5, 2.5).unbind(1)

    def by(ia: Tensor, ibc: Tensor, ii: Tensor) -> Tensor:
        return torch.stack([ia, ibc, ii])[kind, torch.arange(len(kind), device=kind.device)]

    one = torch.ones_like(a)
    return Explosions(
        kind=kind,
        nickel=by(0.64 + 0.09 * stretch + 0.03 * a, 0.17 * torch.exp(0.45 * a), 0.03 * torch.exp(0.7 * a)),
        diffusion=by(12.0 + 1.0 * stretch, 12.0 * torch.exp(0.25 * b), 20 * one),
        trapping=by(36 + 2 * c, 45 * torch.exp(0.2 * d), 400 * one),
        speed=by(9000 + 500 * b, 9500 + 1500 * c, 7500 + 1300 * c),
        floor=by(5600 + 250 * c, 5200 + 400 * d, 5600 + 350 * d),
        plateau=by(40 * one, 40 * one, 42.20 + 0.33 * b),
        length=by(100 * one, 100 * one, 95 + 14 * d),
        decline=by(0 * one, 0 * one, 0.8 + 0.8 * stretch.abs()),
        blue_limit=by(3900 + 100 * d, 3800 + 100 * a, 3000 * one),
    )


def decay(days: Tensor) -> Tensor:
    """Heating by a solar mass of 56Ni and its daughters, 1e42 erg/s."""
    return SUN * 1e-42 * ((_NICKEL - _COBALT) * torch.exp(-days / _T_NICKEL) + _COBALT * torch.exp(-days / _T_COBALT))


@cache
def _arnett() -> Float[Tensor, "tau time"]:
    """dL/dt = (2 t / tau^2) (Q(t) - L), Arnett 1982 eq. 31, for a solar mass; exact for constant heating in a step."""
    tau = torch.linspace(_SHORTEST, _LONGEST, _TAUS, dtype=torch.float64)
    time = torch.arange(0, _LAST + _STEP, _STEP, dtype=torch.float64)
    heat, light = decay(time), torch.zeros(_TAUS, dtype=torch.float64)
    rows = [light]
    for k in range(len(time) - 1):
        q = (heat[k] + heat[k + 1]) / 2
        light = q + (light - q) * torch.exp(-(time[k + 1] ** 2 - time[k] ** 2) / tau**2)
        rows.append(light)
    return torch.stack(rows, 1).float()


def radioactive(days: Float[Tensor, "object step"], tau: Float[Tensor, " object"]) -> Float[Tensor, "object step"]:
    """Luminosity of a solar mass of nickel (1e42 erg/s) at ``days`` since the explosion, bilinear in the table."""
    table = _arnett().to(days.device)
    row = ((tau - _SHORTEST) / (_LONGEST - _SHORTEST) * (_TAUS - 1)).clamp(0, _TAUS - 1.001)[:, None]
    column = (days / _STEP).clamp(0, table.shape[1] - 1.001)
    r, c = row.long(), column.long()
    r0 = torch.lerp(table[r, c], table[r, c + 1], column - c)
    r1 = torch.lerp(table[r + 1, c], table[r + 1, c + 1], column - c)
    return torch.lerp(r0, r1, (row - r).expand_as(r0))


def luminosity(e: Explosions, days: Float[Tensor, "object step"]) -> Float[Tensor, "object step"]:
    """Bolometric, in 1e42 erg/s (float32 holds no erg/s); 0 before the explosion."""
    after = days.clamp(min=0.0)
    trapped = -torch.expm1(-((e.trapping[:, None] / after.clamp(min=1)) ** 2))
    nickel = e.nickel[:, None] * radioactive(after, e.diffusion) * trapped
    bright = torch.exp(math.log(10) * (e.plateau[:, None] - 42 - 0.4 * e.decline[:, None] * (after - 30) / 100))
    end = torch.sigmoid((e.length[:, None] - after) / 4)
    rise = -torch.expm1(-((after / 4) ** 2))
    return torch.where((e.kind == 2)[:, None], bright * end * rise + nickel, nickel) * (days > 0)


def photosphere(
    e: Explosions, days: Float[Tensor, "object step"], light: Float[Tensor, "object step"]
) -> tuple[Float[Tensor, "object step"], Float[Tensor, "object step"]]:
    """Temperature (K) and the square of the radius (1e30 cm2) that radiates ``light``."""
    radius2 = (e.speed[:, None] * 1e5 * _DAY * days.clamp(min=0.05) * 1e-15) ** 2
    hot = torch.exp(torch.log((light * 1e12 / (4 * math.pi * _SIGMA * radius2)).clamp(min=1e-8)) / 4)
    cold = hot < e.floor[:, None]
    temperature = torch.where(cold, e.floor[:, None].expand_as(hot), hot).clamp(max=60000)
    return temperature, light * 1e12 / (4 * math.pi * _SIGMA * temperature**4)


def flux_at_10pc(
    e: Explosions, days: Float[Tensor, "object step"], angstrom: Float[Tensor, "object step wave"]
) -> Float[Tensor, "object step wave"]:
    """Flux density in nJy at 10 pc, ``days`` after the explosion and at a wavelength of the rest frame.

    pi B_nu(T) R^2 / d^2; below ``blue_limit`` less by the cube of the wavelength, and elsewhere more by what is lost.
    """
    light = luminosity(e, days)
    temperature, radius2 = photosphere(e, days, light)
    nu = _C / angstrom
    x = (_H_OVER_K * nu / temperature[..., None]).clamp(max=80)
    planck = _PLANCK * (nu * 1e-10) ** 3 / torch.expm1(x)
    iron = (angstrom / e.blue_limit[:, None, None]).clamp(max=1) ** 3
    area = math.pi * radius2 / (10 * _PARSEC * 1e-15) ** 2
    kept = _kept(1.438777e8 / (e.blue_limit[:, None] * temperature))
    return (area / kept)[..., None] * planck * iron


@cache
def _debye(last: float = 40.0, count: int = 4001) -> Float[Tensor, " x"]:
    """The integral of 15 / pi^4 x^3 / (exp(x) - 1) from 0: the share of a blackbody's light beyond a wavelength."""
    x = torch.linspace(0, last, count, dtype=torch.float64)
    y = 15 / math.pi**4 * torch.where(x > 0, x**3 / torch.expm1(x.clamp(min=1e-9)), 0.0)
    return torch.cat([torch.zeros(1, dtype=torch.float64), ((y[1:] + y[:-1]) / 2).cumsum(0) * (x[1] - x[0])]).float()


def _kept(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The share of a blackbody's light that is left where less comes below h c / (x k T), by the cube of wavelength."""
    table = _debye()
    place = (x * 100).clamp(0, len(table) - 1.001)
    low = place.long()
    redder = torch.lerp(table[low], table[low + 1], place - low)
    return redder - 15 / math.pi**4 * x**3 * torch.log(-torch.expm1(-x))
