"""Supernovae of types Ia, Ibc and II as a survey of many epochs sees them: redshift, dust, cadence, weather, noise."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Float64, Int64
from pydantic import Field
from torch import Tensor

from .. import rng
from ..data.light_curves import LightCurves
from ..data.schema import Column, Schema
from ..data.source import within
from ..errors import ConfigError, suggest
from . import cosmology, dust, nights, sed
from .explosions import TYPES, Explosions, draw_explosions, flux_at_10pc
from .population import Draw

ZERO_POINT = 31.4  # AB magnitude of one nJy
START = 60000.0  # MJD of night 0
_WAVES = 5  # wavelengths a band is averaged over
_TRIES = 40
_Z_GRID = 400
_PHOTONS = 25.0  # times those of an SDSS exposure: 4 m, 450 s


class Supernovae:
    """Supernovae that a survey has detected; a Source.

    ``fractions`` are the shares of Ia, Ibc and II. Redshifts follow the volumetric rate ((1 + z)^1.5 for Ia, Dilday et
    al. 2010; (1 + z)^3.6 for the others, Hopkins & Beacom 2006) times the comoving volume up to ``redshift``, and then
    the survey: an object is kept if two epochs have S/N above ``detection``, so that a fainter type is nearer. The
    light is that of ``gsnn.simulate.explosions``, dimmed by dust of the host (exponential A_V) and of the Galaxy,
    stretched in time by 1 + z, and averaged over each band at its rest-frame wavelengths, which is the K-correction.

    A season has ``nights``; each band is visited about every ``cadence`` nights, and a share ``clear`` of nights is
    clear, in spells. ``depth`` is the 5 sigma limit of a visit (AB mag) in each band on a dark night; the Moon takes
    its part. Noise is Gaussian, of sky and source. ``lc`` is in nJy (AB zero point 31.4).

    ``host_z`` is a photometric redshift with its error, as a survey would have; ``redshift``, ``peak_time`` (MJD of the
    B maximum in the rest frame), ``magnitude`` (B, rest frame, without dust), ``a_v`` and ``snr`` are truth.
    """

    def __init__(
        self,
        *,
        objects: Annotated[int, Field(ge=1)] = 4000,
        bands: tuple[str, ...] = ("g", "r", "i", "z"),
        fractions: tuple[float, float, float] = (0.34, 0.33, 0.33),
        redshift: Annotated[float, Field(gt=0.02, le=2.0)] = 1.1,
        nights: Annotated[int, Field(ge=30, le=1000)] = 160,
        cadence: Annotated[float, Field(ge=1, le=30)] = 6.0,
        clear: Annotated[float, Field(gt=0.05, le=1)] = 0.7,
        depth: tuple[float, ...] = (24.4, 24.2, 23.9, 23.6),
        detection: Annotated[float, Field(ge=3)] = 5.0,
        photo_z: Annotated[float, Field(ge=0, le=0.5)] = 0.03,
    ):
        for band in bands:
            if band not in sed.BANDS:
                raise ConfigError(f"no band {band!r}; {suggest(band, sed.BANDS)}", ("bands",))
        if not bands or len(set(bands)) < len(bands):
            raise ConfigError(f"name at least one band, each once, not {list(bands)}", ("bands",))
        if len(depth) != len(bands):
            raise ConfigError(f"needs a limiting magnitude for each of the {len(bands)} bands", ("depth",))
        if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
            raise ConfigError(
                f"three shares of {', '.join(TYPES)} that add up to 1, not {list(fractions)}", ("fractions",)
            )
        self.objects, self.bands, self.fractions, self.limit = objects, tuple(bands), tuple(fractions), redshift
        self.nights, self.cadence, self.clear, self.depth = nights, cadence, clear, tuple(depth)
        self.detection, self.photo_z = detection, photo_z
        edges = torch.tensor([[sed.BANDS[b].blue, sed.BANDS[b].red] for b in bands])
        middle = (torch.arange(_WAVES) + 0.5) / _WAVES
        self.waves = edges[:, :1] + (edges[:, 1:] - edges[:, :1]) * middle  # [band, wave] Angstrom
        self.electrons = torch.tensor([sed.BANDS[b].electrons for b in bands]) * _PHOTONS / 3631.0  # a nJy
        self.redshifts = [self._redshifts(power) for power in (1.5, 3.6, 3.6)]

    def schema(self) -> Schema:
        scalars = (
            ("host_z", "", "photometric redshift of the host"),
            ("host_z_error", "", "its error"),
            ("redshift", "", "true redshift"),
            ("peak_time", "d", "true MJD of the B maximum in the rest frame"),
            ("magnitude", "mag", "true absolute AB magnitude at the B maximum, without dust"),
            ("a_v", "mag", "true extinction in V by the host's dust"),
            ("snr", "", "largest S/N of one epoch"),
        )
        return Schema.of(
            (
                Column("id", "id"),
                Column(
                    "lc",
                    "light_curve",
                    unit="nJy",
                    bands=self.bands,
                    time_unit="d",
                    epoch="MJD 0",
                    description="difference flux, AB zero point 31.4",
                ),
                Column("type", "label", classes=TYPES, description="true type"),
                *(Column(name, "scalar", unit=unit, dtype="float64", description=text) for name, unit, text in scalars),
            ),
            simulator="gsnn.simulate.supernovae",
            depth_mag=dict(zip(self.bands, self.depth)),
            cadence_days=self.cadence,
        )

    def __len__(self) -> int:
        return self.objects

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The supernovae of these indices. Raises IndexError beyond the survey."""
        indices = within(indices, self.objects)
        schema = self.schema().arrow()
        if not len(indices):
            return pa.RecordBatch.from_pylist([], schema=schema)
        curves, truth, kind = self.observe(torch.from_numpy(indices), seed)
        columns = {
            "id": [f"supernovae-{seed}-{row}" for row in indices.tolist()],
            "type": [TYPES[k] for k in kind.tolist()],
            **truth,
        }
        arrays = [curves.to_arrow() if f.name == "lc" else pa.array(columns[f.name], f.type) for f in schema]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def observe(
        self, rows: Int64[Tensor, " object"], seed: int
    ) -> tuple[LightCurves, dict[str, np.ndarray], Int64[Tensor, " object"]]:
        """Light curves, truth and types. Each object is drawn anew until the survey detects it, 40 times at most."""
        found: list[tuple | None] = [None] * len(rows)
        kinds = self.kinds(rows, seed)
        left = torch.arange(len(rows))
        for attempt in range(_TRIES):
            if not len(left):
                break
            draw = Draw(rng.key(seed, "supernovae", attempt), rows[left], "supernovae")
            curve, truth, seen = self._one(draw, kinds[left], seed, last=attempt == _TRIES - 1)
            for place in torch.nonzero(seen).flatten().tolist():
                own = curve[3][place]
                parts = tuple(part[place][own].numpy() for part in curve[:3])
                band = torch.arange(len(self.bands)).repeat(own.shape[0] // len(self.bands))[own].numpy()
                found[int(left[place])] = (*parts, band), {name: float(v[place]) for name, v in truth.items()}
            left = left[~seen]
        curves = LightCurves.of([one[0] for one in found])
        return curves, {name: np.array([one[1][name] for one in found]) for name in found[0][1]}, kinds

    def kinds(self, rows: Int64[Tensor, " object"], seed: int) -> Int64[Tensor, " object"]:
        share = torch.tensor(self.fractions).cumsum(0)
        return torch.searchsorted(share[:-1].contiguous(), Draw(seed, rows, "supernovae").uniform("type"), right=True)

    def _one(self, draw: Draw, kind: Tensor, seed: int, last: bool) -> tuple[tuple, dict[str, Tensor], Tensor]:
        """One attempt at each object: (time, flux, error, observed), truth, and whether it was detected."""
        e = draw_explosions(draw, kind)
        z = self._redshift(draw, kind) * (0.3 if last else 1.0)  # what is never seen comes nearer
        a_v = -torch.log(1 - draw.uniform("dust")) * torch.tensor([0.2, 0.4, 0.3])[kind]
        galactic = 0.06 * torch.exp(0.5 * draw.normal("galactic"))
        exploded = draw.uniform("when", -25.0, self.nights - 15.0)
        night, observed = self._visits(draw, seed)
        days = (night - exploded[:, None]) / (1 + z)[:, None]
        flux = self.flux(e, days, z, a_v, galactic)
        sigma = self._sky(draw, night)
        error = torch.sqrt(sigma**2 + flux.clamp(min=0) / self.electrons.repeat(night.shape[1] // len(self.bands)))
        noisy = flux + error * draw.normal("noise", flux.shape[1])
        ratio = torch.where(observed, noisy / error, 0.0)
        seen = ((ratio > self.detection).sum(1) >= 2) | last
        seen &= observed.any(1) | last
        rest = torch.arange(1.0, 60.0).expand(len(z), -1)
        blue = flux_at_10pc(e, rest, torch.full((*rest.shape, 1), 4400.0))[..., 0]
        bright, when = blue.max(1)
        z_error = self.photo_z * (1 + z)
        truth = {
            "host_z": (z + z_error * draw.normal("photo-z")).clamp(min=0.005),
            "host_z_error": z_error,
            "redshift": z,
            "peak_time": START + (exploded + (1 + z) * (when + 1)).double(),
            "magnitude": ZERO_POINT - 2.5 * torch.log10(bright),
            "a_v": a_v,
            "snr": ratio.max(1).values,
        }
        return (START + night.double(), noisy, error, observed), truth, seen

    def flux(
        self,
        e: Explosions,
        days: Float[Tensor, "object step"],
        z: Float[Tensor, " object"],
        a_v: Float[Tensor, " object"],
        galactic: Float[Tensor, " object"],
    ) -> Float[Tensor, "object step"]:
        """nJy at ``days`` of the rest frame since the explosion; the bands take turns along the steps.

        f_nu(nu) = (1 + z) L_nu(nu (1 + z)) / (4 pi d_L^2) (Hogg 1999, eq. 24), averaged over the band.
        """
        waves = self.waves.repeat(days.shape[1] // len(self.bands), 1)  # [step, wave] as observed
        rest = waves / (1 + z)[:, None, None]
        light = flux_at_10pc(e, days, rest)
        light = light * dust.transmission(a_v[:, None, None], rest) * dust.transmission(galactic[:, None, None], waves)
        near = torch.exp(-0.921034 * cosmology.distance_modulus(z)) * (1 + z)  # 0.4 ln 10
        return light.mean(-1) * near[:, None]

    def _visits(self, draw: Draw, seed: int) -> tuple[Float[Tensor, "object step"], Bool[Tensor, "object step"]]:
        """Nights of the visits, a step a visit and band, and whether they were made."""
        count, bands = int(np.ceil(self.nights / self.cadence)), len(self.bands)
        phase, jitter = draw.uniform("phase", count=1), draw.uniform("jitter", -0.4, 0.4, count * bands)
        visit = (torch.arange(count).repeat_interleave(bands) + phase + 0.5 * jitter).clamp(min=0) * self.cadence
        whole = torch.floor(visit)
        hour = 0.1 * draw.uniform("hour", count=count * bands) + 0.02 * torch.arange(bands).repeat(count)
        return whole + hour, nights.clear(whole.long(), seed, self.clear)

    def _sky(self, draw: Draw, night: Float[Tensor, "object step"]) -> Float[Tensor, "object step"]:
        """Error of a visit to an empty place: depth, seeing (0.15 mag) and the Moon."""
        repeat = night.shape[1] // len(self.bands)
        limit = torch.tensor(self.depth).repeat(repeat) + 0.15 * draw.normal("seeing", night.shape[1])
        moon = torch.tensor([nights.MOON[b] for b in self.bands]).repeat(repeat) * nights.moonlight(night)
        return torch.exp(-0.921034 * (limit - moon - ZERO_POINT)) / 5

    def _redshifts(self, power: float) -> Float64[np.ndarray, " z"]:
        """Redshifts at even steps of the cumulative rate."""
        z = torch.linspace(0.01, self.limit, 2000, dtype=torch.float64)
        shell = torch.gradient(cosmology.comoving_distance_mpc(z) ** 3)[0] * (1 + z) ** (power - 1)
        total = shell.cumsum(0) / shell.sum()
        return np.interp(np.linspace(0, 1, _Z_GRID), total.numpy(), z.numpy())

    def _redshift(self, draw: Draw, kind: Tensor) -> Float[Tensor, " object"]:
        u = draw.uniform("redshift").double().numpy()
        drawn = np.stack([np.interp(u, np.linspace(0, 1, _Z_GRID), grid) for grid in self.redshifts])
        return torch.from_numpy(drawn[kind.numpy(), np.arange(len(kind))]).float()
