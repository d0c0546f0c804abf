"""Patches of the microwave sky as Planck sees it: the background, and the Galaxy and other galaxies in front of it.

Brightness is in muK of the background (thermodynamic), at the central frequency of each band. The sky is flat and
periodic. Emission laws and orders of magnitude follow Planck 2018 results IV (arXiv:1807.06208) and the Planck sky
model (Delabrouille et al. 2013, arXiv:1207.3675).
"""

from __future__ import annotations

import json
import math
from functools import cache, cached_property
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from .. import rng
from ..data.components import beam, covariance, plane, to_modes
from ..data.schema import Column, Schema
from ..data.shear import ARCMIN, multipoles
from ..data.source import within
from ..errors import ConfigError, suggest

BLOCK = 32  # patches made together
USUAL = 64  # patches of another sky whose covariance is told in the provenance
T_CMB = 2.7255  # K (Fixsen 2009, arXiv:0911.1955)
GHZ = 6.62607015e-34 * 1e9 / 1.380649e-23  # h / k, K of a GHz
PLANCK = (0.02237, 0.1200, 1.04092, 0.9649, 3.044, 0.0544)  # of simulate/cmb.py: Planck 2018 VI, table 2, last column


class Channel(NamedTuple):
    """FWHM of the beam in arcmin, noise of a square degree in muK (Planck 2018 I, arXiv:1807.06205, table 4)."""

    ghz: float
    fwhm: float
    noise: float


CHANNELS = {
    "30": Channel(28.4, 32.29, 2.5),
    "44": Channel(44.1, 27.94, 2.7),
    "70": Channel(70.4, 13.08, 3.5),
    "100": Channel(100.0, 9.66, 1.29),
    "143": Channel(143.0, 7.22, 0.55),
    "217": Channel(217.0, 4.90, 0.78),
    "353": Channel(353.0, 4.92, 2.56),
}
COMPONENTS = ("synchrotron", "free-free", "spinning dust", "dust", "infrared background", "hot gas", "radio sources")


def thermodynamic(ghz: Tensor | float) -> Tensor:
    """muK of the background for a muK of Rayleigh-Jeans: (e^x - 1)^2 / (x^2 e^x)."""
    x = torch.as_tensor(ghz, dtype=torch.float64) * GHZ / T_CMB
    return torch.expm1(x) ** 2 / (x**2 * torch.exp(x))


def hot_gas(ghz: float) -> float:
    """x coth(x / 2) - 4, in units of the background's temperature: the thermal Sunyaev-Zel'dovich effect."""
    x = ghz * GHZ / T_CMB
    return x / math.tanh(x / 2) - 4


@cache
def background() -> tuple[Float[np.ndarray, " l"], Float[np.ndarray, " l"]]:
    """l, and C_l in muK^2 of the lensed temperature in the universe of Planck 2018, by CAMB."""
    from .cmb import MULTIPOLES, SPECTRA, spectra

    found = spectra(np.array(PLANCK))["spectra"][SPECTRA.index("tt")]
    return MULTIPOLES.astype(float), found * 2 * math.pi / (MULTIPOLES * (MULTIPOLES + 1.0))


class Foregrounds:
    """Square patches in the bands of Planck, with the background as truth; a Source.

    ``maps`` holds each band with its own beam and white noise; ``cmb`` is the background behind a beam of ``beam``
    arcmin. In front of it: synchrotron, free-free, spinning and thermal dust with spectral indices and a temperature
    that vary over the patch, the infrared background, clusters of galaxies and radio sources. Galactic brightness is
    within ``brightness`` times that of a quiet patch, as from the poles to the edge of the plane. The patches are
    ``side`` x ``side`` pixels of ``pixel`` arcmin. The background's spectrum needs CAMB.
    """

    def __init__(
        self,
        *,
        patches: int = 2000,
        side: int = 96,
        pixel: Annotated[float, Field(gt=0)] = 5.0,
        beam: Annotated[float, Field(gt=0)] = 10.0,
        bands: tuple[str, ...] = tuple(CHANNELS),
        brightness: tuple[float, float] = (0.5, 8.0),
    ):
        if patches < 1:
            raise ConfigError(f"a survey needs at least one patch, not {patches}", ("patches",))
        if side < 16 or side % 2:
            raise ConfigError(f"a patch has an even number of at least 16 pixels a side, not {side}", ("side",))
        for band in bands:
            if band not in CHANNELS:
                raise ConfigError(f"Planck has no band {band!r}; {suggest(band, CHANNELS)}", ("bands",))
        if len(bands) < 2 or len(set(bands)) < len(bands):
            raise ConfigError(
                f"components are told apart by two bands or more, each once, not {list(bands)}", ("bands",)
            )
        if pixel > beam:
            raise ConfigError(f"pixels of {pixel:g} arcmin do not sample a beam of {beam:g}", ("pixel",))
        if not 0 < brightness[0] <= brightness[1]:
            raise ConfigError(f"the least before the most, both above 0, not {list(brightness)}", ("brightness",))
        self.patches, self.side, self.pixel, self.beam = patches, side, pixel, beam
        self.bands, self.brightness = tuple(bands), tuple(brightness)
        self.channels = [CHANNELS[band] for band in self.bands]
        self.multipole = multipoles(side, pixel)
        self.inside = self.multipole.clamp(min=1.0)

    @cached_property
    def _schema(self) -> Schema:
        plain = self._told()
        where = plane(plain, plain["maps"])
        usual = 0
        for rows in torch.arange(USUAL).split(BLOCK // 2):
            maps = torch.from_numpy(self.columns(rows, seed=-1)["maps"]).double()
            usual = usual + covariance(to_modes(maps), where).sum(0) / USUAL
        covariances = json.dumps([[[float(f"{x:.6g}") for x in row] for row in ring] for ring in usual.tolist()])
        return Schema.of(plain.columns, **plain.provenance, covariance=covariances)

    def schema(self) -> Schema:
        """The columns; in the provenance what filters must know: beams, the background's spectrum, covariances."""
        return self._schema

    def _told(self) -> Schema:
        known, power = background()
        some = np.unique(np.geomspace(2, known[-1], 200).astype(int)) - 2
        shape = {"pixel_scale": 60 * self.pixel, "unit": "uK"}
        return Schema.of(
            (
                Column("id", "id"),
                Column(
                    "maps", "image", bands=self.bands, shape=(len(self.bands), self.side, self.side),
                    description="thermodynamic temperature in Planck's bands", **shape,
                ),
                Column(
                    "cmb", "image", bands=("cmb",), shape=(1, self.side, self.side),
                    description=f"the background behind a beam of {self.beam:g} arcmin", **shape,
                ),
                Column("brightness", "scalar", description="of the Galaxy, in units of a quiet patch"),
                Column("dust", "scalar", unit="uK", description="rms of dust at the highest frequency"),
            ),
            simulator="gsnn.simulate.foregrounds",
            beams_arcmin=json.dumps([channel.fwhm for channel in self.channels]),
            beam_arcmin=str(self.beam),
            spectrum=json.dumps([known[some].tolist(), power[some].tolist()]),
        )  # fmt: skip

    def __len__(self) -> int:
        return self.patches

    def field(self, name: str, rows: Tensor, seed: int, power: Float[Tensor, "y x2"]) -> Float[Tensor, "object y x"]:
        """Gaussian fields of a spectrum C_l; their chance is a function of (seed, name, row)."""
        white = rng.normal(seed, f"foregrounds/{name}", rows, self.side**2).view(-1, self.side, self.side).double()
        return torch.fft.irfft2(torch.fft.rfft2(white) * (power.sqrt() / (self.pixel * ARCMIN)), s=white.shape[1:])

    def unit(self, name: str, rows: Tensor, seed: int, slope: float) -> Float[Tensor, "object y x"]:
        """The same of C_l ~ l^slope and unit variance, without its mean."""
        power = self.inside**slope
        power[0, 0] = 0
        field = self.field(name, rows, seed, power)
        return field / field.square().mean((1, 2), keepdim=True).sqrt()

    def clumpy(self, name: str, rows: Tensor, seed: int, slope: float, sigma: float) -> Float[Tensor, "object y x"]:
        """Positive and of mean one: lognormal of width ``sigma``, as the interstellar medium is in its order."""
        raised = torch.exp(sigma * self.unit(name, rows, seed, slope))
        return raised / raised.mean((1, 2), keepdim=True)

    def components(self, rows: Int64[Tensor, " object"], seed: int) -> dict[str, Float[Tensor, "object band y x"]]:
        """What is in front, by its name, before beams: thermodynamic muK in each band."""

        def scatter(name: str, sigma: float) -> Float[Tensor, "object 1 1"]:
            return torch.exp(sigma * rng.normal(seed, f"foregrounds/{name}", rows, 1).double())[..., None]

        galaxy = self.galaxy(rows, seed)[:, None, None]
        beta_s = -3.1 + 0.06 * self.unit("beta s", rows, seed, -2.5)
        beta_d = 1.55 + 0.05 * self.unit("beta d", rows, seed, -2.5)
        warm = 19.6 + 1.2 * self.unit("temperature", rows, seed, -2.5)
        dust = 25 * galaxy * scatter("dust", 0.3) * self.clumpy("dust shape", rows, seed, -2.7, 0.6)  # at 353 GHz, RJ
        synchrotron = 12 * galaxy * scatter("s", 0.4) * self.clumpy("s shape", rows, seed, -2.6, 0.3)  # at 30 GHz, RJ
        free = 6 * galaxy * scatter("f", 0.6) * self.clumpy("f shape", rows, seed, -2.4, 0.8)  # at 30 GHz, RJ
        spinning = 0.4 * dust * scatter("spin", 0.3) * torch.exp(0.3 * self.unit("spin", rows, seed, -2.5))  # at 22 GHz
        infrared = self.field("infrared", rows, seed, self._infrared())  # at 353 GHz, thermodynamic
        gas, radio = self._clusters(rows, seed), self._radio(rows, seed)
        found = {name: [] for name in COMPONENTS}
        for channel in self.channels:
            nu = channel.ghz
            to_cmb = float(thermodynamic(nu))
            found["synchrotron"].append(to_cmb * synchrotron * torch.exp(beta_s * math.log(nu / 30)))
            found["free-free"].append(to_cmb * free * (nu / 30) ** -2.14)
            peak = math.exp(-0.5 * (math.log(nu / 22) / 0.55) ** 2)
            found["spinning dust"].append(to_cmb * spinning * peak)
            planck = torch.expm1(353 * GHZ / warm) / torch.expm1(nu * GHZ / warm)
            found["dust"].append(to_cmb * dust * torch.exp((beta_d + 1) * math.log(nu / 353)) * planck)
            cold = (nu / 353) ** 2.75 * math.expm1(353 * GHZ / 24.4) / math.expm1(nu * GHZ / 24.4)
            found["infrared background"].append(infrared * cold * to_cmb / float(thermodynamic(353)))
            found["hot gas"].append(gas * hot_gas(nu) * T_CMB * 1e6)
            found["radio sources"].append(
                (radio[0] * torch.exp(radio[1] * math.log(nu / 30))) * to_cmb * (30 / nu) ** 2
            )
        return {name: torch.stack(maps, 1) for name, maps in found.items()}

    def galaxy(self, rows: Tensor, seed: int) -> Float[Tensor, " object"]:
        """Brightness of the Galaxy, log-uniform."""
        low, high = self.brightness
        return low * torch.exp(
            rng.uniform(seed, "foregrounds/brightness", rows, 1)[:, 0].double() * math.log(high / low)
        )

    def _infrared(self) -> Float[Tensor, "y x2"]:
        """C_l at 353 GHz, clustered and Poisson: 2e3 (l / 2000)^0.8 and 1e3 (l / 2000)^2 muK^2 in l^2 C_l / 2 pi.

        Of the order of Planck 2013 results XXX (arXiv:1309.0382).
        """
        power = (2e3 * (self.inside / 2000) ** 0.8 + 1e3 * (self.inside / 2000) ** 2) * 2 * math.pi / self.inside**2
        power[0, 0] = 0
        return power

    def _clusters(self, rows: Tensor, seed: int) -> Float[Tensor, "object y x"]:
        """Compton y of some 20 clusters in 64 square degrees, by isothermal beta profiles of 2/3.

        Core radii are 0.5 to 4 arcmin; peaks of y fall as y^-2 from 5e-6 to 2e-4.
        """
        area = (self.side * self.pixel / 60) ** 2
        most = max(1, math.ceil(0.6 * area))
        u = rng.uniform(seed, "foregrounds/clusters", rows, 5 * most).double().view(len(rows), most, 5)
        here = (u[..., 0] < 0.5).double()
        peak = 1 / (1 / 5e-6 - u[..., 1] * (1 / 5e-6 - 1 / 2e-4))
        core = 0.5 * 8 ** u[..., 2]
        along = torch.arange(self.side, dtype=torch.float64)
        dx, dy = (self._apart(along, u[..., i] * self.side) for i in (3, 4))
        profile = (
            1 + ((dx**2)[:, :, None, :] + (dy**2)[:, :, :, None]) * (self.pixel / core[..., None, None]) ** 2
        ) ** -0.5
        return ((peak * here)[..., None, None] * profile).sum(1)

    def _apart(self, along: Float[Tensor, " x"], at: Float[Tensor, "object one"]) -> Float[Tensor, "object one x"]:
        """Pixels between, the short way round."""
        gap = along - at[..., None]
        return gap - self.side * torch.round(gap / self.side)

    def _radio(self, rows: Tensor, seed: int) -> tuple[Float[Tensor, "object y x"], Float[Tensor, "object y x"]]:
        """Rayleigh-Jeans muK at 30 GHz in the pixels of sources, and the spectral index of their flux.

        Fluxes of 20 to 600 mJy with N(> S) ~ S^-1.2, about 0.3 above 100 mJy in a square degree (Planck 2013 results
        XXVIII, arXiv:1303.5088, in its order); brighter ones are masked.
        """
        area = (self.side * self.pixel / 60) ** 2
        most = max(1, math.ceil(4.2 * area))
        u = rng.uniform(seed, "foregrounds/radio", rows, 3 * most).double().view(len(rows), most, 3)
        index = -0.4 + 0.4 * rng.normal(seed, "foregrounds/radio index", rows, most).double()
        low, high = 20.0**-1.2, 600.0**-1.2
        flux = (low - u[..., 0] * (low - high)) ** (-1 / 1.2)  # mJy
        wavelength = 299.792458 / 30 * 1e-3  # m at 30 GHz
        solid = (self.pixel * ARCMIN) ** 2
        kelvin = flux * 1e-29 * wavelength**2 / (2 * 1.380649e-23) / solid * 1e6
        place = (u[..., 1] * self.side).long().clamp(max=self.side - 1) * self.side
        place = place + (u[..., 2] * self.side).long().clamp(max=self.side - 1)
        zero = torch.zeros(len(rows), self.side**2, dtype=torch.float64)
        total = zero.scatter_add(1, place, kelvin)
        mean = zero.scatter_add(1, place, kelvin * index) / total.clamp(min=1e-30)
        shape = (-1, self.side, self.side)
        return total.view(shape), mean.view(shape)

    def columns(self, rows: Int64[Tensor, " object"], seed: int) -> dict[str, np.ndarray]:
        """The columns of some rows."""
        known, spectrum = background()
        power = torch.from_numpy(np.interp(self.multipole.numpy(), known, spectrum, left=0.0, right=0.0))
        cmb = self.field("cmb", rows, seed, power)
        front = self.components(rows, seed)
        sky = torch.fft.rfft2(cmb[:, None] + sum(front.values()))
        beams = torch.stack([beam(self.multipole, channel.fwhm) for channel in self.channels])
        seen = torch.fft.irfft2(sky * beams, s=cmb.shape[1:])
        noise = rng.normal(seed, "foregrounds/noise", rows, seen[0].numel()).view_as(seen)
        level = torch.tensor([channel.noise for channel in self.channels]) / (self.pixel / 60)
        maps = (seen + noise * level[:, None, None]).float()
        maps = maps - maps.mean((2, 3), keepdim=True)  # a telescope that turns knows differences
        truth = torch.fft.irfft2(torch.fft.rfft2(cmb) * beam(self.multipole, self.beam), s=cmb.shape[1:])
        return {
            "id": np.array([f"patch-{seed}-{row}" for row in rows.tolist()], dtype=object),
            "maps": maps.numpy(),
            "cmb": truth[:, None].float().numpy(),
            "brightness": self.galaxy(rows, seed).float().numpy(),
            "dust": front["dust"][:, -1].std((1, 2)).float().numpy(),
        }

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The patches of these indices. Raises IndexError beyond the survey."""
        indices = within(indices, self.patches)
        schema = self.schema().arrow()
        if not len(indices):
            return pa.RecordBatch.from_pylist([], schema=schema)
        made = [self.columns(torch.from_numpy(indices[i : i + BLOCK]), seed) for i in range(0, len(indices), BLOCK)]
        arrays = []
        for field in schema:
            values = np.concatenate([one[field.name] for one in made])
            if pa.types.is_fixed_size_list(field.type):
                arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), field.type.list_size))
            else:
                arrays.append(pa.array(values, field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)
