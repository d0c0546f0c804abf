"""Variable stars as a survey of many nights sees them: pulsating ones by Fourier series, eclipsing ones by geometry."""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from torch import Tensor

from ..data.light_curves import LightCurves
from ..data.schema import Column, Schema
from ..data.source import within
from ..errors import ConfigError, suggest
from . import nights
from .population import Draw
from .transit import Orbit, eclipse

START = 59000.0  # MJD of night 0
YEAR = 365.25
WAVELENGTHS = {"u": 0.356, "b": 0.44, "g": 0.483, "v": 0.55, "r": 0.626, "i": 0.767, "z": 0.91}  # micron
_HARMONICS = 6


class Kind(NamedTuple):
    """A family of pulsating stars, in V: M_V = zero + slope (log10 P - pivot), with ``scatter``."""

    periods: tuple[float, float]  # days, log-uniform
    amplitudes: tuple[float, float]  # mag from faint to bright in V
    decay: float  # amplitude of a harmonic over that of the one before: 0 a sine, 0.5 a saw-tooth
    slope: float
    pivot: float
    zero: float
    scatter: float
    colour: float  # B - V


# Catelan & Smith 2015 (Pulsating Stars, Wiley) for periods, amplitudes and shapes; period-luminosity relations of
# Catelan, Pritzl & Smith 2004 (RR Lyrae, nearly flat in V), Fouque et al. 2007 (Cepheids), McNamara 2011 (delta Scuti),
# Whitelock, Feast & van Leeuwen 2008 (Miras, turned into V), rounded.
PULSATING = {
    "RR Lyrae": Kind((0.25, 0.9), (0.4, 1.2), 0.47, 0.0, 0.0, 0.6, 0.12, 0.35),
    "Cepheid": Kind((1.5, 60.0), (0.3, 1.1), 0.38, -2.68, 1.0, -3.95, 0.2, 0.7),
    "delta Scuti": Kind((0.04, 0.2), (0.05, 0.4), 0.25, -2.9, -1.0, 1.6, 0.15, 0.25),
    "Mira": Kind((120.0, 500.0), (2.5, 6.0), 0.12, 2.0, 2.3, -1.0, 0.4, 1.6),
}
CLASSES = (*PULSATING, "eclipsing binary")
ECLIPSING = CLASSES.index("eclipsing binary")


class VariableStars:
    """RR Lyrae, Cepheids, delta Scuti, Miras and eclipsing binaries, in magnitudes; a Source.

    A pulsating star is a Fourier series whose harmonics fall as those of its family do, rise fast and fade slowly, with
    less amplitude to the red (as wavelength^-0.8). An eclipsing binary is two limb-darkened discs
    (:func:`gsnn.simulate.transit.eclipse`), with the light of tides where they are close (twice a period, Morris 1985).
    ``fractions`` are the shares of the classes. Apparent magnitudes in V are uniform in ``magnitudes`` for all classes,
    by design; only colour, period and shape tell them apart.

    There are ``visits`` to each star in each band, in ``years`` seasons of two thirds of a year, on clear nights alone;
    noise is Gaussian, from sky and photons, with a floor of 5 mmag. ``period`` (days), ``amplitude`` (V, mag) and
    ``magnitude`` are truth.
    """

    def __init__(
        self,
        *,
        objects: Annotated[int, Field(ge=1)] = 3000,
        bands: tuple[str, ...] = ("g", "r"),
        fractions: tuple[float, float, float, float, float] = (0.3, 0.2, 0.1, 0.1, 0.3),
        magnitudes: tuple[float, float] = (14.0, 19.0),
        visits: Annotated[int, Field(ge=5, le=2000)] = 100,
        years: Annotated[int, Field(ge=1, le=20)] = 3,
        clear: Annotated[float, Field(gt=0.05, le=1)] = 0.7,
        depth: Annotated[float, Field(gt=10, lt=30)] = 20.5,
    ):
        for band in bands:
            if band not in WAVELENGTHS:
                raise ConfigError(f"no band {band!r}; {suggest(band, WAVELENGTHS)}", ("bands",))
        if not bands or len(set(bands)) < len(bands):
            raise ConfigError(f"name at least one band, each once, not {list(bands)}", ("bands",))
        if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
            raise ConfigError(
                f"five shares of {', '.join(CLASSES)} that add up to 1, not {list(fractions)}", ("fractions",)
            )
        if not magnitudes[0] < magnitudes[1] <= depth + 1:
            raise ConfigError(
                f"the bright limit comes before the faint one, which depth reaches, not {list(magnitudes)}",
                ("magnitudes",),
            )
        self.objects, self.bands, self.fractions, self.magnitudes = objects, tuple(bands), tuple(fractions), magnitudes
        self.visits, self.years, self.clear, self.depth = visits, years, clear, depth
        self.wave = torch.tensor([WAVELENGTHS[band] for band in bands])

    def schema(self) -> Schema:
        scalars = (
            ("period", "d", "true period; of an eclipsing binary that of the orbit"),
            ("amplitude", "mag", "true range in V"),
            ("magnitude", "mag", "true mean apparent magnitude in V"),
            ("absolute", "mag", "true absolute magnitude in V; of an eclipsing binary unknown"),
        )
        return Schema.of(
            (
                Column("id", "id"),
                Column("lc", "light_curve", unit="mag", bands=self.bands, time_unit="d", epoch="MJD 0"),
                Column("type", "label", classes=CLASSES, description="true class"),
                *(Column(name, "scalar", unit=unit, dtype="float64", description=text) for name, unit, text in scalars),
            ),
            simulator="gsnn.simulate.variable_stars",
            depth_mag=self.depth,
            years=self.years,
        )

    def __len__(self) -> int:
        return self.objects

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The stars of these indices. Raises IndexError beyond the survey."""
        indices = within(indices, self.objects)
        schema = self.schema().arrow()
        if not len(indices):
            return pa.RecordBatch.from_pylist([], schema=schema)
        draw = Draw(seed, torch.from_numpy(indices), "variable-stars")
        kind = torch.searchsorted(torch.tensor(self.fractions).cumsum(0)[:-1], draw.uniform("type"), right=True)
        time, band, seen = self.times(draw, seed)
        truth, magnitude = self.light(draw, kind, time, band)
        error = torch.sqrt(0.005**2 + (0.2 * 10 ** (0.4 * (magnitude - self.depth))) ** 2)
        noisy = magnitude + error * draw.normal("noise", magnitude.shape[1])
        curves = LightCurves.of(
            (START + t[s].numpy(), m[s].numpy(), e[s].numpy(), b[s].numpy())
            for t, m, e, b, s in zip(time, noisy, error, band, seen)
        )
        columns = {
            "id": [f"variable-stars-{seed}-{row}" for row in indices.tolist()],
            "type": [CLASSES[k] for k in kind.tolist()],
            **{name: value.double().numpy() for name, value in truth.items()},
        }
        arrays = [curves.to_arrow() if f.name == "lc" else pa.array(columns[f.name], f.type) for f in schema]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def times(self, draw: Draw, seed: int) -> tuple[Float[Tensor, "object step"], Tensor, Bool[Tensor, "object step"]]:
        """Days since night 0 (float64) and band of each visit, and whether it was made: in season, and clear.

        Each band is visited a night after the other, somewhen in eight hours.
        """
        count, bands = self.visits, len(self.bands)
        tried = math.ceil(count / self.clear)
        season = torch.floor(draw.uniform("season", 0, self.years, tried))
        night = torch.floor(season * YEAR + draw.uniform("night", 0, YEAR * 2 / 3, tried)).double()
        hour = draw.uniform("hour", 0, 1 / 3, tried * bands).double()
        time = night.repeat_interleave(bands, 1) + hour
        band = torch.arange(bands).repeat(tried).expand(len(time), -1)
        clear = nights.clear(night.long(), seed, self.clear)
        few = clear & (clear.long().cumsum(1) <= count)
        return time, band, few.repeat_interleave(bands, 1)

    def light(
        self, draw: Draw, kind: Int64[Tensor, " object"], time: Float[Tensor, "object step"], band: Tensor
    ) -> tuple[dict[str, Tensor], Float[Tensor, "object step"]]:
        """Truth, and the magnitudes without noise."""
        mean, red = draw.uniform("magnitude", *self.magnitudes), 0.1 * draw.normal("colour")
        pulsing = self._pulsating(draw, kind, time)
        binary = self._eclipsing(draw, time)
        is_binary = kind == ECLIPSING
        period = torch.where(is_binary, binary[0], pulsing[0])
        amplitude = torch.where(is_binary, binary[1], pulsing[1])
        shape = torch.where(is_binary[:, None], binary[2], pulsing[2])
        wave = self.wave[band]
        weaker = torch.where(is_binary[:, None], torch.ones_like(wave), torch.exp(-0.8 * torch.log(wave / 0.55)))
        colours = torch.tensor([*(k.colour for k in PULSATING.values()), 0.6])[kind] + red
        magnitude = mean[:, None] + colours[:, None] * (0.55 / wave - 1) * 4.4 + weaker * shape  # B - V over 1/B - 1/V
        table = torch.tensor([[k.zero, k.slope, k.pivot, k.scatter] for k in PULSATING.values()] + [[math.nan] * 4])
        zero, slope, pivot, scatter = table[kind].unbind(1)
        absolute = zero + slope * (torch.log10(period) - pivot) + scatter * draw.normal("absolute")
        return {"period": period, "amplitude": amplitude, "magnitude": mean, "absolute": absolute}, magnitude.float()

    def _pulsating(self, draw: Draw, kind: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Period, amplitude and the change of V: a sum of sines that rises faster than it fades."""
        families = list(PULSATING.values())
        own = kind.clamp(max=len(families) - 1)
        table = torch.tensor([[*k.periods, *k.amplitudes, k.decay] for k in families])[own]
        low, high, small, large, decay = table.unbind(1)
        period = low * torch.exp(draw.uniform("period") * torch.log(high / low))
        amplitude = small + (large - small) * draw.uniform("amplitude")
        decay = (decay * torch.exp(0.15 * draw.normal("decay"))).clamp(max=0.6)
        phase = draw.uniform("phase")[:, None].double() + time / period[:, None].double()
        angle = 2 * math.pi * (phase % 1).float()
        k = torch.arange(1, _HARMONICS + 1)
        size = torch.exp((k - 1) * torch.log(decay)[:, None]) / k

        def wave(angle: Tensor) -> Tensor:
            return sum(-size[:, i - 1, None] * torch.sin(i * angle) for i in range(1, _HARMONICS + 1))

        whole = wave(torch.linspace(0, 2 * math.pi, 257).expand(len(size), -1))
        spread = whole.amax(1) - whole.amin(1)
        return period, amplitude, wave(angle) / spread[:, None] * amplitude[:, None]

    def _eclipsing(self, draw: Draw, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Period, depth and the change of V of two stars, of which the first is the larger in light."""
        period = 0.3 * torch.exp(draw.uniform("orbit") * math.log(40 / 0.3))
        axis = (2.4 * torch.exp((2 / 3) * torch.log(period / 0.3))).clamp(max=40)  # Kepler's third law, radii of star 1
        ratio = draw.uniform("radius", 0.4, 1.0)
        brightness = draw.uniform("surface", 0.15, 1.0)  # of a unit of the second disc over the first's
        impact = draw.uniform("impact", 0, 0.75) * (1 + ratio)
        share = brightness * ratio**2 / (1 + brightness * ratio**2)
        zero, limb = torch.zeros_like(period), torch.full_like(period, 0.4)
        epoch = draw.uniform("conjunction") * period
        as_double = [value.double() for value in (period, epoch, axis, impact, zero, zero)]
        first = eclipse(time, Orbit(*as_double), ratio.double(), limb.double(), zero.double())
        other = Orbit(as_double[0], as_double[1], (axis / ratio).double(), (impact / ratio).double(), *as_double[4:])
        second = eclipse(time, other, (1 / ratio).double(), limb.double(), zero.double(), behind=True)
        phase = 2 * math.pi * ((time - as_double[1][:, None]) / as_double[0][:, None] % 1).float()
        tides = 0.9 / axis**3  # Morris 1985 (ApJ 295, 143), eq. 1, of stars of about equal mass
        light = (1 - share)[:, None] * first.float() + share[:, None] * second.float()
        light = light * (1 - tides[:, None] * torch.cos(2 * phase))
        change = -2.5 * torch.log10(light.clamp(min=0.02))
        depth = -2.5 * torch.log10(
            torch.stack([1 - (1 - share) * ratio.clamp(max=1) ** 2, 1 - share]).amin(0).clamp(0.02)
        )
        return period, depth, change
