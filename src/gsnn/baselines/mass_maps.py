"""Maps of the convergence from shear without learning: Kaiser & Squires, and the Wiener filter with its uncertainty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from scipy.special import ndtri
from torch import Tensor

from .. import rng
from ..data.schema import Column, Schema
from ..data.shear import convergence_of, power_of, shear_columns, shear_of, smooth, wiener
from ..errors import ConfigError, GsnnError
from ..evaluation.maps import ENDS, Maps
from .base import cpu_seconds

if TYPE_CHECKING:
    from ..data.survey import View

CHUNK = 8  # maps solved together
TUNED = 16  # maps of the validation part on which a setting is chosen
SCALES = (0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # arcmin, of the smoothing of Kaiser & Squires
AMPLITUDES = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0)  # of the spectrum
HALF = float(ndtri(ENDS[1]))  # of a 68% interval, in standard deviations


class MassMaps:
    """What both share: which columns, and one setting that is chosen by the error on validation maps."""

    name: str
    settings: tuple[float, ...]

    def __init__(self, inputs: Schema, target: Column):
        if len(target.shape) != 3 or target.shape[0] != 1:
            raise ConfigError(f"{self.name} answers a map of one band, and {target.name!r} is none", ())
        self.target, (self.shear, self.noise) = target, shear_columns(inputs)
        if target.shape[1:] != self.shear.shape[1:]:
            raise ConfigError(f"{self.name}: {target.name!r} has another size than the shear", ())
        self.seconds, self.chosen = 0.0, float("nan")

    def fit(self, train: View, valid: View, seed: int) -> None:
        """Choose the setting of least squared error on a few maps of the validation part."""
        start, errors = cpu_seconds(), dict.fromkeys(self.settings, 0.0)
        for shear, noise, columns in self.chunks(valid.take(np.arange(min(len(valid), TUNED))), [self.target.name]):
            truth, inside = torch.as_tensor(np.array(columns[self.target.name]))[:, 0].float(), noise > 0
            for setting in self.settings:
                off = (self.solve(shear, noise, setting) - truth)[inside]
                errors[setting] += float((off[torch.isfinite(off)] ** 2).sum())
        self.chosen = min(errors, key=lambda setting: errors[setting])
        self.seconds = cpu_seconds() - start

    def chunks(self, view: View, more: list[str] = []) -> Iterator[tuple[Tensor, Tensor, dict[str, np.ndarray]]]:  # noqa: B006
        """Shear [object, 2, y, x], noise [object, y, x] and all columns, a few objects at a time."""
        for columns in view.chunks([self.shear.name, self.noise.name, *more], CHUNK):
            noise = torch.as_tensor(np.array(columns[self.noise.name])).float()[:, 0]
            if not bool((noise > 0).flatten(1).any(1).all()):
                raise GsnnError(f"{self.name}: the mask of a map hides everything: there is nothing to make a map of")
            yield torch.as_tensor(np.array(columns[self.shear.name])).float(), noise, columns

    def predict(self, view: View) -> dict[str, Maps]:
        """The map of every row of ``view``."""
        parts = []
        for shear, noise, _ in self.chunks(view):
            told = self.solve(shear, noise, self.chosen)[:, None]
            width = self.width(noise)
            ends = (None, None) if width is None else tuple((told + s * HALF * width).numpy() for s in (-1, 1))
            parts.append(Maps(told.numpy(), (noise > 0)[:, None].numpy(), *ends))
        return {self.target.name: Maps.join(parts)}

    def solve(self, shear: Tensor, noise: Tensor, setting: float) -> Float[Tensor, "object y x"]:
        raise NotImplementedError

    def width(self, noise: Tensor) -> Float[Tensor, "object 1 y x"] | None:
        """The standard deviation of each pixel, where the method has one."""
        return None


class KaiserSquires(MassMaps):
    """The E mode of the shear, 0 where nothing was observed, smoothed by a Gaussian (Kaiser & Squires 1993).

    ``smoothing`` in arcmin; chosen on the validation part if not given. It has no uncertainty.
    """

    name = "kaiser-squires"

    def __init__(
        self, inputs: Schema, target: Column, *, smoothing: Annotated[float, Field(ge=0, le=60)] | None = None
    ):
        super().__init__(inputs, target)
        self.settings = SCALES if smoothing is None else (smoothing,)

    def solve(self, shear: Tensor, noise: Tensor, setting: float) -> Float[Tensor, "object y x"]:
        return smooth(convergence_of(shear)[:, 0], setting / (self.shear.pixel_scale / 60))

    def describe(self) -> str:
        return f"Kaiser & Squires, smoothed by a Gaussian of {self.chosen:g} arcmin."


class Wiener(MassMaps):
    """The Wiener filter with the exact mask and noise of each pixel, and the spectrum of the simulations.

    The spectrum's ``amplitude`` is chosen on the validation part if not given. The width of a pixel is that of
    ``realisations`` constrained ones (Hoffman & Ribak 1991, ApJ 380, L5), smoothed by 1 arcmin against their sampling
    noise; it depends on the noise and the mask only. It would be exact if the convergence were Gaussian.
    """

    name = "wiener"

    def __init__(
        self,
        inputs: Schema,
        target: Column,
        *,
        amplitude: Annotated[float, Field(gt=0)] | None = None,
        realisations: Annotated[int, Field(ge=2, le=10_000)] = 32,
    ):
        super().__init__(inputs, target)
        self.settings = AMPLITUDES if amplitude is None else (amplitude,)
        self.power, self.realisations = power_of(inputs, self.shear).float(), realisations
        self._widths: dict[bytes, Tensor] = {}

    def solve(self, shear: Tensor, noise: Tensor, setting: float) -> Float[Tensor, "object y x"]:
        return wiener(shear, noise, setting * self.power, tolerance=1e-3)

    def width(self, noise: Tensor) -> Float[Tensor, "object 1 y x"]:
        return torch.stack([self._width(one) for one in noise])[:, None]

    def _width(self, noise: Float[Tensor, "y x"]) -> Float[Tensor, "y x"]:
        known = noise.numpy().tobytes()
        if known not in self._widths:
            if len(self._widths) > 4:
                self._widths.clear()  # a mask for each map: none comes again
            squares = torch.zeros_like(noise)
            for some in torch.arange(self.realisations).split(CHUNK):
                squares += (self.errors(noise, some) ** 2).sum(0)
            inside = (noise > 0).float()
            beam = 1 / (self.shear.pixel_scale / 60)
            mean = smooth(squares * inside, beam) / smooth(inside, beam).clamp(min=1e-3)
            self._widths[known] = (mean / self.realisations).clamp(min=1e-12).sqrt()
        return self._widths[known]

    def errors(self, noise: Float[Tensor, "y x"], rows: Tensor) -> Float[Tensor, "object y x"]:
        """Draws of truth minus filter, of Gaussian skies of the spectrum seen through this noise."""
        side, power = len(noise), self.chosen * self.power
        white = rng.normal(0, "wiener/sky", rows, side**2).view(-1, side, side)
        sky = torch.fft.irfft2(torch.fft.rfft2(white) * power.sqrt(), s=(side, side))
        grain = rng.normal(0, "wiener/noise", rows, 2 * side**2).view(-1, 2, side, side)
        return sky - self.solve(shear_of(sky) + grain * noise, noise.expand(len(rows), -1, -1), self.chosen)

    def describe(self) -> str:
        return (
            f"Wiener filter by conjugate gradients, with the spectrum of the simulations times {self.chosen:g}; widths "
            f"from {self.realisations} constrained realisations."
        )
