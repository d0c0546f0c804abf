"""Light curves of stars as Kepler and TESS take them, with planets, with eclipsing binaries, or with nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float64, Int64

from .. import rng
from ..data.detrend import Even, flattened
from ..data.schema import Column, Schema
from ..data.source import within
from ..errors import ConfigError
from .stellar_noise import gaussian_process, ramps, spectrum
from .transit import Orbit, duration, eclipse

KINDS = ("planet", "grazing planet", "planets", "eclipsing binary", "nothing")
ANSWERS = ("planet", "no planet")
SAMPLES = 5  # midpoints in an exposure


@dataclass(frozen=True)
class Star:
    """A dwarf of the main sequence. Mass and radius in solar units, ``teff`` in K, limb darkening u1, u2."""

    mass: float
    radius: float
    teff: float
    u1: float
    u2: float


@dataclass(frozen=True)
class Companion:
    """What passes before the star: an orbit, radius over that of the star, and the light of a companion that shines.

    ``light`` is its luminosity over the star's (0: a planet), ``share`` the part of the light in the aperture that
    comes from the two, ``waves`` the amplitude of the tidal (ellipsoidal) variation.
    """

    orbit: Orbit
    radius: float
    light: float = 0.0
    share: float = 1.0
    waves: float = 0.0


def dwarf(chance: np.random.Generator) -> Star:
    """From M to F. R = M^0.9, T = 5777 K M^0.55, and limb darkening in the red by a rule linear in T.

    The rules follow the means of the main sequence and of Claret 2017 (A&A 600, A30) roughly, with scatter about them.
    """
    mass = chance.uniform(0.4, 1.4)
    teff = 5777 * mass**0.55
    u1 = 0.33 + 0.12 * (5777 - teff) / 1000 * (teff > 4200) + 0.05 * chance.normal()
    u2 = 0.22 + 0.03 * chance.normal()
    return Star(mass, mass**0.9 * math.exp(0.1 * chance.normal()), teff, float(np.clip(u1, 0.05, 0.7)), float(u2))


def _one(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


def an_orbit(star: Star, period: float, impact: float, epoch: float, chance: np.random.Generator) -> Orbit:
    """Kepler's third law; orbits of less than five days are circular, wider ones have the beta law of Kipping 2013.

    (MNRAS 434, L51.) The eccentricity is cut where the companion would come within two stellar radii.
    """
    axis = 215.03 * (period / 365.25) ** (2 / 3) * star.mass ** (1 / 3) / star.radius
    eccentric = 0.0 if period < 5 else min(chance.beta(0.867, 3.03), 0.7, max(1 - 2 / axis, 0.0))
    values = (period, epoch, axis, impact, eccentric, chance.uniform(0, 2 * math.pi))
    return Orbit(*(_one(v) for v in values))


def light(
    time: Float64[np.ndarray, " step"], star: Star, companion: Companion, exposure: float
) -> Float64[np.ndarray, " step"]:
    """The relative flux in the aperture, 1 outside eclipses and averaged over the tidal waves."""
    t = torch.from_numpy(time)[None]
    how = {"exposure": exposure, "samples": SAMPLES}
    limb = (_one(star.u1), _one(star.u2))
    front = eclipse(t, companion.orbit, _one(companion.radius), *limb, **how)[0].numpy()
    if not companion.light:
        return 1 + companion.share * (front - 1)
    k = companion.radius
    own = replace(companion.orbit, axis=companion.orbit.axis / k, impact=companion.orbit.impact / k)  # in its own radii
    back = eclipse(t, own, _one(1 / k), *limb, behind=True, **how)[0].numpy()
    both = (front + companion.light * back) / (1 + companion.light)
    angle = 4 * np.pi * (time - float(companion.orbit.epoch)) / float(companion.orbit.period)
    return 1 + companion.share * (both * (1 - companion.waves * np.cos(angle)) - 1)


class Transits:
    """Stars with one planet, a grazing one, several planets, an eclipsing binary, or nothing; a Source.

    ``flux`` is relative, evenly sampled, NaN in gaps: a break of one day in the middle, lost cadences, and what a
    safe mode takes. On it lie photon noise, granulation, rotation, a wandering instrument, ramps after breaks and
    outliers (``stellar_noise``); nothing is corrected. Binaries are blended with other light until they are as shallow
    as planets, since deep ones ask for no network; they have secondary eclipses and tidal waves.

    The depth of a planet or binary is chosen so that its transit signal-to-noise ratio is spread evenly in log over
    ``snr``, for all kinds alike, as far as radii allow. ``snr`` in the table is measured: mean depth over the transit
    times the root of the number of transits observed, over the scatter of this very star's flattened noise in boxes of
    the transit's duration. So red noise counts, as in Kepler's combined differential precision.

    ``planet`` is the question ("planet" or "no planet"); ``kind`` and all other scalars are truth, not inputs, but
    ``teff`` and ``radius``, which catalogues know (here with 3% and 10% error). Truths of a star with several planets
    are those of the one of the highest signal-to-noise ratio. ``fractions`` are the shares of KINDS.
    """

    def __init__(
        self,
        *,
        stars: int = 6000,
        days: float = 27.4,
        cadence_minutes: float = 30.0,
        snr: tuple[float, float] = (4.0, 40.0),
        periods: tuple[float, float] = (0.8, 12.0),
        fractions: tuple[float, float, float, float, float] = (0.25, 0.08, 0.1, 0.25, 0.32),
    ):
        if stars < 1:
            raise ConfigError(f"a survey needs at least one star, not {stars}", ("stars",))
        if not 1 <= cadence_minutes <= 60 or not 5 <= days <= 1500:
            raise ConfigError(
                f"cadences are from 1 to 60 minutes over 5 to 1500 days, not {cadence_minutes:g} over {days:g}",
                ("days",),
            )
        if not 0.5 <= periods[0] < periods[1] <= days / 2:
            raise ConfigError(
                f"periods rise from 0.5 d to half of the {days:g} days, so that two transits show, not {list(periods)}",
                ("periods",),
            )
        if not 0 < snr[0] < snr[1]:
            raise ConfigError(f"the low signal-to-noise ratio comes before the high one, not {list(snr)}", ("snr",))
        if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
            raise ConfigError(f"shares of {', '.join(KINDS)} that add up to 1, not {list(fractions)}", ("fractions",))
        self.stars, self.days, self.cadence, self.snr = stars, days, cadence_minutes / 1440, snr
        self.periods, self.fractions = periods, fractions
        self.steps = round(days / self.cadence)

    def schema(self) -> Schema:
        truths = (
            ("period", "d", "true period, NaN for nothing"),
            ("epoch", "d", "true time of a first transit"),
            ("depth", "ppm", "true mean depth over the transit"),
            ("duration", "d", "true, first to last contact"),
            ("impact", "", "true impact parameter, in stellar radii"),
            ("snr", "", "transit signal to noise in this star's own noise, 0 for nothing"),
            ("noise", "ppm", "white noise of one cadence"),
        )
        return Schema.of(
            (
                Column("id", "id"),
                Column(
                    "flux", "series", shape=(self.steps,), time_unit="d", epoch="first cadence", cadence=self.cadence,
                    description="relative flux, not corrected; NaN where nothing was observed",
                ),
                Column("planet", "label", classes=ANSWERS, description="does a planet transit this star"),
                Column("kind", "label", classes=KINDS, description="what is there"),
                Column("teff", "scalar", unit="K", description="effective temperature, as catalogues have it"),
                Column("radius", "scalar", unit="solRad", description="stellar radius, as catalogues have it"),
                *(Column(name, "scalar", unit=unit, dtype="float64", description=text) for name, unit, text in truths),
            ),
            simulator="gsnn.simulate.transits",
        )  # fmt: skip

    def __len__(self) -> int:
        return self.stars

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The stars of these indices. Raises IndexError beyond the survey."""
        indices = within(indices, self.stars)
        drawn = [self.star(int(row), seed) for row in indices]
        schema = self.schema().arrow()
        arrays = [
            pa.FixedSizeListArray.from_arrays(
                pa.array(np.concatenate([d["flux"] for d in drawn]) if drawn else [], pa.float32()), self.steps
            )
            if field.name == "flux"
            else pa.array([d[field.name] for d in drawn], field.type)
            for field in schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def star(self, row: int, seed: int) -> dict:
        """One star, from one generator whose seed is its address."""
        chance = np.random.default_rng(int(rng.bits(seed, "transits", torch.tensor([row]))[0, 0]) & (2**63 - 1))
        kind = int(np.searchsorted(np.cumsum(self.fractions), chance.uniform() * 0.999999, side="right"))
        kind, star = min(kind, len(KINDS) - 1), dwarf(chance)
        time = np.arange(self.steps) * self.cadence
        white = 10 ** chance.uniform(-4.0, -2.8)  # 100 to 1600 ppm a cadence: TESS magnitudes 8 to 13 in half an hour
        dark, observed = self._noise(time, star, white, chance)
        truth = dict.fromkeys(("period", "epoch", "depth", "duration", "impact"), math.nan) | {"snr": 0.0}
        flux = dark
        if KINDS[kind] != "nothing":
            quiet = flattened(Even(0.0, self.cadence, np.where(observed, dark, np.nan)), clip=np.inf).flux
            companions = self._companions(KINDS[kind], star, quiet, time, chance)
            for companion in companions:
                flux = flux * light(time, star, companion, self.cadence)
            truth = max((self._truth(star, c, quiet, time) for c in companions), key=lambda t: t["snr"])
        flux = np.where(observed, flux, np.nan)
        return {
            "id": f"transits-{seed}-{row}",
            "flux": flux.astype(np.float32),
            "planet": ANSWERS[0] if "planet" in KINDS[kind] else ANSWERS[1],
            "kind": KINDS[kind],
            "teff": star.teff * (1 + 0.03 * chance.normal()),
            "radius": star.radius * math.exp(0.1 * chance.normal()),
            "noise": 1e6 * white,
            **truth,
        }

    def _noise(
        self, time: np.ndarray, star: Star, white: float, chance: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The light of the star and camera without companions, and which cadences are known."""
        active = chance.uniform() < 0.5
        rotation = 10 ** chance.uniform(-3, -1.8) if active else 10 ** chance.uniform(-4.3, -3)
        process = gaussian_process(
            self.steps,
            self.cadence,
            lambda omega: spectrum(
                omega,
                granulation=60e-6 * star.radius * math.exp(0.3 * chance.normal()),
                rotation=rotation,
                period=10 ** chance.uniform(0.1, 1.4) if active else chance.uniform(10, 35),
                drift=white * 10 ** chance.uniform(-1.3, 0.1),
            ),
            chance,
        )
        starts = [0.0]
        observed = chance.uniform(size=self.steps) > 0.01
        for month in range(max(round(self.days / 27.4), 1)):
            middle = (month + 0.5) * self.days / max(round(self.days / 27.4), 1)
            observed &= np.abs(time - middle) > 0.5
            starts.append(middle + 0.5)
        if chance.uniform() < 0.2:  # a safe mode
            lost = chance.uniform(0, self.days)
            observed &= (time < lost) | (time > lost + chance.uniform(0.3, 2.0))
        noise = white * chance.standard_normal(self.steps)
        spoilt = chance.uniform(size=self.steps) < 0.003  # cosmic rays, flares, pointing: more above than below
        noise += (
            spoilt
            * white
            * chance.exponential(6.0, self.steps)
            * np.where(chance.uniform(size=self.steps) < 0.7, 1, -1)
        )
        return 1 + process + ramps(time, starts, 3 * white, chance) + noise, observed

    def _companions(
        self, kind: str, star: Star, quiet: np.ndarray, time: np.ndarray, chance: np.random.Generator
    ) -> list[Companion]:
        low, high = np.log(self.periods)
        period = math.exp(chance.uniform(low, high))
        target = math.exp(chance.uniform(*np.log(self.snr)))
        if kind == "eclipsing binary":
            return [self._binary(star, period, target, quiet, time, chance)]
        epoch = chance.uniform(0, period)
        impact = chance.uniform(0, 0.85)
        one = Companion(an_orbit(star, period, impact, epoch, chance), 0.05)
        for _ in range(3):  # the radius that has the asked signal-to-noise ratio, as far as planets go
            ratio = target / max(self._truth(star, one, quiet, time)["snr"], 1e-3)
            radius = float(np.clip(one.radius * np.sqrt(ratio), 0.004, 0.18))
            if kind == "grazing planet":
                radius = float(np.clip(radius, 0.03, 0.18))
                one = replace(one, orbit=replace(one.orbit, impact=_one(1 + radius * chance.uniform(-0.9, 0.3))))
            one = replace(one, radius=radius)
        if kind != "planets":
            return [one]
        found = [one]
        for _ in range(chance.integers(1, 3)):
            longer = float(found[-1].orbit.period) * chance.uniform(1.4, 2.8)
            size = float(np.clip(one.radius * math.exp(0.3 * chance.normal()), 0.004, 0.18))
            orbit = an_orbit(
                star, longer, min(impact * chance.uniform(0.8, 1.2), 0.9), chance.uniform(0, longer), chance
            )
            found.append(Companion(orbit, size))
        return found

    def _binary(
        self, star: Star, period: float, target: float, quiet: np.ndarray, time: np.ndarray, chance: np.random.Generator
    ) -> Companion:
        """A companion star of a main-sequence radius and brightness, blended until it is as shallow as was asked."""
        ratio = chance.uniform(0.25, 1.0)  # of the masses
        radius, bright = ratio**0.9, ratio**3.5
        impact = chance.uniform(0, 0.95 * (1 + radius))
        orbit = an_orbit(star, period, impact, chance.uniform(0, period), chance)
        orbit = replace(orbit, axis=orbit.axis * (1 + ratio) ** (1 / 3))
        orbit = replace(orbit, axis=orbit.axis.clamp_min(1.3 * (1 + radius)))
        waves = 1.2 * ratio / float(orbit.axis) ** 3  # Morris & Naftilan 1993 (ApJ 419, 344), first order
        whole = Companion(orbit, radius, bright, 1.0, waves)
        share = target / max(self._truth(star, whole, quiet, time)["snr"], 1e-6)
        return replace(whole, share=min(share, 1.0))

    def _truth(self, star: Star, companion: Companion, quiet: np.ndarray, time: np.ndarray) -> dict[str, float]:
        """What is true of a companion, in the noise that the flattened light curve ``quiet`` has without it."""
        orbit = companion.orbit
        period, epoch = float(orbit.period), float(orbit.epoch)
        lasts = max(float(duration(orbit, _one(companion.radius))), self.cadence)
        known = np.isfinite(quiet)
        since = time - epoch - np.round((time - epoch) / period) * period
        inside = known & (np.abs(since) < max(lasts, self.cadence) / 2)
        around = np.linspace(epoch - lasts / 2, epoch + lasts / 2, 41)
        depth = float(np.mean(1 - light(around, star, replace(companion, waves=0.0), self.cadence)))
        n = max(round(lasts / self.cadence), 1)
        count = np.convolve(known, np.ones(n), "valid")
        boxes = np.convolve(np.where(known, quiet - 1, 0), np.ones(n), "valid")[count == n] / n
        scatter = float(1.4826 * np.median(np.abs(boxes - np.median(boxes)))) if len(boxes) else math.inf
        seen = inside.sum() / n  # transits that were observed, parts counting as parts
        return {
            "period": period,
            "epoch": epoch,
            "depth": 1e6 * depth,
            "duration": lasts,
            "impact": float(orbit.impact),
            "snr": depth * math.sqrt(seen) / scatter,
        }
