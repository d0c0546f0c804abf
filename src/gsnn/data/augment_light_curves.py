"""Changes of light curves that leave the answer alone: farther, fainter, less often or less long observed.

They act on batches in native units, as ``gsnn.data.augment`` says. Steps that are no longer valid stand at the end and
are zero; times count from the first step that is left.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from ..errors import GsnnError, suggest
from ..rng import Rng
from .augment import Batch
from .schema import CURVE, Column, Schema

Share = Annotated[float, Field(ge=0, le=1)]


def _curves(batch: Batch, inputs: Schema) -> list[Column]:
    return [column for column in inputs.of_kind("light_curve") if f"{column.name}.time" in batch]


def _parts(batch: Batch, name: str) -> dict[str, Tensor]:
    return {part: batch[f"{name}.{part}"] for part in CURVE}


def _whole(batch: Batch, name: str, parts: dict[str, Tensor]) -> Batch:
    """The batch with these parts of a light curve; an object of which nothing is left stays as it was."""
    order = torch.argsort((~parts["valid"]).long(), dim=1, stable=True)
    parts = {part: values.gather(1, order) for part, values in parts.items()}
    valid = parts["valid"]
    parts["time"] = parts["time"] - parts["time"][:, :1]
    parts = {part: torch.where(valid, values, torch.zeros_like(values)) for part, values in parts.items()}
    some = valid.any(1, keepdim=True)
    return {**batch, **{f"{name}.{k}": torch.where(some, v, batch[f"{name}.{k}"]) for k, v in parts.items()}}


def _sky(parts: dict[str, Tensor], bands: int) -> Float[Tensor, "object step"]:
    """The error that each observation would have without the light of the object.

    An error above the object's median in the band is taken to be the source's own photons as far as the flux is above
    that median: what is left of it is the sky's.
    """
    error, out = parts["flux_error"], parts["flux_error"]
    for band in range(bands):
        own = parts["valid"] & (parts["band"] == band)
        usual = torch.where(own, error, math.nan).nanmedian(1, keepdim=True).values
        out = torch.where(own & (parts["flux"] > 3 * usual), torch.minimum(error, usual), out)
    return out


def _detected(parts: dict[str, Tensor], snr: float) -> Bool[Tensor, " object"]:
    ratio = parts["flux"] / parts["flux_error"].clamp_min(1e-30)
    return torch.where(parts["valid"], ratio, -math.inf).max(1).values >= snr


class Dim(nn.Module):
    """Make an object fainter by 0 to ``magnitudes`` (uniform): flux down, photon noise down, the sky's noise as it was.

    With the flux times k, an error of variance sky^2 + source^2 becomes sky^2 + k source^2, and the difference to k^2
    of what the flux already carries is added as Gaussian noise. Objects that would fall below ``detection`` (the
    largest flux over its error) stay as they are, as a survey would not have kept them.
    """

    symmetry = "The same object farther away, or a fainter one of its kind, has the same answer."

    def __init__(
        self,
        *,
        magnitudes: Annotated[float, Field(ge=0, le=10)] = 1.0,
        probability: Share = 0.5,
        detection: Annotated[float, Field(ge=0)] = 5.0,
    ):
        super().__init__()
        self.magnitudes, self.probability, self.detection = magnitudes, probability, detection

    def forward(self, batch: Batch, rng: Rng, inputs: Schema) -> Batch:
        for column in _curves(batch, inputs):
            parts = _parts(batch, column.name)
            draw = rng.uniform(f"dim/{column.name}", batch["row"], 2)
            less = torch.where(draw[:, 0] < self.probability, draw[:, 1] * self.magnitudes, 0.0)
            k = (10 ** (-0.4 * less))[:, None]
            sky = _sky(parts, max(len(column.bands), 1)) ** 2
            variance = parts["flux_error"].float() ** 2
            wanted = sky + k * (variance - sky)
            noise = rng.normal(f"dim/{column.name}/noise", batch["row"], k.new_zeros(parts["time"].shape).shape[1])
            flux = k * parts["flux"] + (wanted - k**2 * variance).clamp_min(0).sqrt() * noise
            dimmed = {**parts, "flux": flux, "flux_error": wanted.sqrt()}
            kept = (_detected(dimmed, self.detection) & (less > 0))[:, None]
            for part in ("flux", "flux_error"):
                batch = {
                    **batch,
                    f"{column.name}.{part}": torch.where(kept & parts["valid"], dimmed[part], parts[part]),
                }
        return batch


class Redshift(nn.Module):
    """Put a transient at another redshift, as Boone 2019 (AJ 158, 257) does: its light is what a Gaussian process in
    time and wavelength says of it.

    1 + z is multiplied by a factor uniform in ``stretch``. Each epoch and band then sees the rest-frame time and
    wavelength that belong to it; the flux density falls with the square of the luminosity distance and rises with
    1 + z, and the noise of the sky stays. ``redshift`` names the scalar input that holds z (a host's photometric one
    does) and is changed with it. The process has the covariance of Boone 2019: Matern 3/2 over ``days`` and over
    ``angstrom`` (6000 there). Objects that would fall below ``detection`` stay as they are.
    """

    symmetry = "A supernova of the same type at another redshift has the same answer."

    def __init__(
        self,
        *,
        redshift: str,
        wavelengths: dict[str, float] = {},  # noqa: B006 (read only; a TOML default)
        stretch: tuple[float, float] = (0.95, 1.3),
        probability: Share = 0.5,
        detection: Annotated[float, Field(ge=0)] = 5.0,
        days: Annotated[float, Field(gt=0)] = 25.0,
        angstrom: Annotated[float, Field(gt=0)] = 6000.0,
    ):
        super().__init__()
        if not 0.5 <= stretch[0] <= stretch[1] <= 3:
            raise GsnnError(f"redshift: 'stretch' has two factors of 1 + z, from 0.5 to 3, not {list(stretch)}")
        self.redshift, self.wavelengths, self.stretch = redshift, {**WAVELENGTHS, **wavelengths}, stretch
        self.probability, self.detection, self.days, self.angstrom = probability, detection, days, angstrom

    def forward(self, batch: Batch, rng: Rng, inputs: Schema) -> Batch:
        from ..simulate.cosmology import distance_modulus

        curves = _curves(batch, inputs)
        if curves and self.redshift not in batch:
            known = [c.name for c in inputs.of_kind("scalar")]
            raise GsnnError(f"redshift: no input {self.redshift!r} holds the redshift; {suggest(self.redshift, known)}")
        if not curves:
            return batch
        draw = rng.uniform("redshift", batch["row"], 2)
        low, high = self.stretch
        z = batch[self.redshift].float()
        chosen = (draw[:, 0] < self.probability) & (z > 0.005)
        known = torch.where(chosen, z, 0.5)
        new = ((1 + known) * (low + (high - low) * draw[:, 1]) - 1).clamp(0.005, 2.9)
        factor = (1 + new) / (1 + known)
        dimming = factor * 10 ** (-0.4 * (distance_modulus(new) - distance_modulus(known)))
        out, moved = dict(batch), chosen
        for column in curves:
            parts = _parts(batch, column.name)
            shifted = self._seen(parts, column, factor, dimming, rng, batch["row"])
            done = chosen & _detected(shifted, self.detection)
            moved = moved & done
            for part in ("flux", "flux_error"):
                place = done[:, None] & parts["valid"]
                out[f"{column.name}.{part}"] = torch.where(place, shifted[part], parts[part])
        out[self.redshift] = torch.where(moved, new, z)
        return out

    def _seen(
        self, parts: dict[str, Tensor], column: Column, factor: Tensor, dimming: Tensor, rng: Rng, row: Tensor
    ) -> dict[str, Tensor]:
        """The light curve at ``factor`` times 1 + z, its flux density times ``dimming``."""
        strange = [band for band in column.bands if band not in self.wavelengths]
        if strange or not column.bands:
            raise GsnnError(
                f"redshift: no wavelength is known of band {(strange or [''])[0]!r} of {column.name!r}; "
                "say it by wavelengths = { BAND = ANGSTROM }"
            )
        wave = torch.tensor([self.wavelengths[b] for b in column.bands], device=row.device)[parts["band"]]
        valid, time, flux, error = (  # float32: an error of 1e-4 of the peak, and half of the time
            parts["valid"],
            parts["time"].float(),
            parts["flux"].float(),
            parts["flux_error"].float(),
        )
        ratio = torch.where(valid, flux / error.clamp_min(1e-30), -math.inf)
        peak = time.gather(1, ratio.argmax(1, keepdim=True))
        size = torch.where(valid & (ratio > 2), flux, 0).max(1).values.clamp_min(1e-6)[:, None]
        then, seen = peak + (time - peak) / factor[:, None], wave / factor[:, None]
        y, noise = torch.where(valid, flux, 0) / size, torch.where(valid, error / size, 1e2)

        def covariance(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Float[Tensor, "object step step2"]:
            return _matern(a, b, self.days) * _matern(c, d, self.angstrom)

        inner = covariance(time, time, wave, wave) + torch.diag_embed(noise**2 + 1e-4)
        cross = covariance(then, time, seen, wave)
        root = torch.linalg.cholesky(inner)
        mean = (cross @ torch.cholesky_solve(y[..., None], root))[..., 0]
        half = torch.linalg.solve_triangular(root, cross.mT, upper=False)
        spread = (1 - (half**2).sum(1)).clamp_min(0)
        scale = size * dimming[:, None]
        sky = _sky(parts, len(column.bands)).float() ** 2
        source = (error**2 - sky) * dimming[:, None]
        normal = rng.normal(f"redshift/{column.name}/noise", row, time.shape[1])
        return {
            "flux": scale * mean + (sky + source).sqrt() * normal,
            "flux_error": (sky + source + scale**2 * spread).sqrt(),
            "valid": valid,
        }


WAVELENGTHS = {"u": 3560, "g": 4830, "r": 6260, "i": 7670, "z": 9100, "y": 9700, "Y": 9700}  # Angstrom, DES and LSST


def _matern(a: Tensor, b: Tensor, length: float) -> Float[Tensor, "object step step2"]:
    """Matern 3/2 (Rasmussen & Williams 2006, eq. 4.17)."""
    r = math.sqrt(3) * (a[:, :, None] - b[:, None, :]).abs() / length
    return (1 + r) * torch.exp(-r)


class DropObservations(nn.Module):
    """Leave out a share of the observations that is uniform in 0 to ``fraction`` for each object."""

    symmetry = "The answer can still be told, if less surely, where the weather took a night."

    def __init__(self, *, fraction: Annotated[float, Field(ge=0, lt=1)] = 0.4):
        super().__init__()
        self.fraction = fraction

    def forward(self, batch: Batch, rng: Rng, inputs: Schema) -> Batch:
        for column in _curves(batch, inputs):
            parts = _parts(batch, column.name)
            share = self.fraction * rng.uniform(f"drop/{column.name}/share", batch["row"])
            draw = rng.uniform(f"drop/{column.name}", batch["row"], parts["time"].shape[1])
            if self.fraction:
                batch = _whole(batch, column.name, {**parts, "valid": parts["valid"] & (draw >= share)})
        return batch


class DropBands(nn.Module):
    """Leave out all observations in each band with ``probability``, but never in the last one that is left."""

    symmetry = "The answer can still be told, if less surely, where a band was not observed."

    def __init__(self, *, probability: Share = 0.1):
        super().__init__()
        self.probability = probability

    def forward(self, batch: Batch, rng: Rng, inputs: Schema) -> Batch:
        for column in _curves(batch, inputs):
            parts = _parts(batch, column.name)
            draw = rng.uniform(f"drop-bands/{column.name}", batch["row"], max(len(column.bands), 1))
            kept = (draw >= self.probability) | (draw == draw.max(1, keepdim=True).values)
            if self.probability:
                batch = _whole(batch, column.name, {**parts, "valid": parts["valid"] & kept.gather(1, parts["band"])})
        return batch


class Truncate(nn.Module):
    """See an object for less long: up to ``start`` of its span is cut at the beginning, up to ``end`` at the end.

    Both shares are uniform, and each cut is made with ``probability``.
    """

    symmetry = "The answer can still be told, if less surely, of an object that was seen for less long."

    def __init__(self, *, start: Share = 0.2, end: Share = 0.5, probability: Share = 0.5):
        super().__init__()
        if start + end >= 1:
            raise GsnnError(f"truncate: 'start' and 'end' leave nothing: {start} + {end} is not below 1")
        self.start, self.end, self.probability = start, end, probability

    def forward(self, batch: Batch, rng: Rng, inputs: Schema) -> Batch:
        for column in _curves(batch, inputs):
            parts = _parts(batch, column.name)
            draw = rng.uniform(f"truncate/{column.name}", batch["row"], 4)
            cut = draw[:, :2] * (draw[:, 2:] < self.probability)
            span = torch.where(parts["valid"], parts["time"], 0).max(1).values
            low, high = cut[:, 0] * self.start * span, (1 - cut[:, 1] * self.end) * span
            kept = parts["valid"] & (parts["time"] >= low[:, None]) & (parts["time"] <= high[:, None])
            if self.start or self.end:
                batch = _whole(batch, column.name, {**parts, "valid": kept})
        return batch
