"""Random fields of the right power spectrum: what stands for the cosmic web where nobody simulates or learns it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from .. import rng
from ..data.response import polynomial, response_of_powers, unlikeliness
from ..data.schema import Column, Schema
from ..errors import GsnnError
from ..simulate.mesh import coloured, multiplicity, shell_powers, shells
from .base import cpu_seconds

if TYPE_CHECKING:
    from ..data.survey import View
    from ..evaluation.distributions import Distribution

CHUNK = 256


class GaussianMaps:
    """Gaussian fields of the power spectrum that training fields have, ln P of each shell a polynomial of the inputs.

    Of ``degree`` 0 to 2, or lower where validation fields like that better. It knows all that a two-point function
    knows, and nothing else.
    """

    told: ClassVar[str] = "Gaussian fields"

    def __init__(
        self, inputs: Schema, target: Column, *, degree: Annotated[int, Field(ge=0, le=4)] = 2,
        draws: Annotated[int, Field(ge=1)] = 2,
    ):  # fmt: skip
        size = target.shape[1:]
        if target.kind not in ("field", "image") or target.shape[0] != 1 or len(set(size)) != 1:
            raise GsnnError(f"random fields have one channel and equal sides, and {target.name!r} is {target.shape}")
        if any(column.kind != "scalar" for column in inputs.columns):
            raise GsnnError("random fields follow from numbers alone: give scalars as [data] inputs")
        self.inputs, self.target, self.degree, self.draws, self.seconds = inputs, target, degree, draws, 0.0
        self.side, self.space = size[0], len(size)
        self.shell = shells(self.side, self.space)
        self.weight = multiplicity(self.side, self.space)

    def fit(self, train: View, valid: View, seed: int) -> None:
        start = cpu_seconds()
        self.seed, best = seed, math.inf
        self.objects, power, self.mean, self.lowest = self.spectra(train)
        checked = self.spectra(valid)[1]
        theta = [self.numbers(view) for view in (train, valid)]
        self.centre, self.scale = theta[0].mean(0), np.where(theta[0].std(0) > 0, theta[0].std(0), 1)
        for degree in range(self.degree + 1):
            terms = [polynomial((one - self.centre) / self.scale, degree) for one in theta]
            found = response_of_powers(terms[0], power)
            error = float(unlikeliness(terms[1] @ found, checked).mean())
            if error < best:
                best, self.found, self.chosen = error, found, degree
        self.seconds += cpu_seconds() - start

    def numbers(self, view: View) -> Float[np.ndarray, "object input"]:
        columns = view.columns(list(self.inputs))
        found = np.array([np.asarray(columns[name], float) for name in self.inputs]).reshape(-1, len(view)).T
        if not np.isfinite(found).all():
            raise GsnnError("random fields need every input; leave such objects out by [data] where")
        return found

    def spectra(self, view: View) -> tuple[int, Float[np.ndarray, "object shell"], float, float]:
        """How many fields, the power of their shells, their mean and their least value."""
        powers, total, lowest = [], 0.0, math.inf
        for chunk in view.chunks([self.target.name], CHUNK):
            fields = torch.tensor(chunk[self.target.name]).float()[:, 0]
            total, lowest = total + float(fields.double().mean()) * len(fields), min(lowest, float(fields.min()))
            powers.append(fields)
        mean = total / max(len(view), 1)
        found = torch.cat([shell_powers((fields - mean).double()) for fields in powers])
        return len(view), found.numpy() + 1e-30, mean, lowest

    def predict(self, view: View) -> dict[str, Distribution]:
        from ..evaluation.generated import FieldDraws

        start = cpu_seconds()
        theta, rows = self.numbers(view), torch.as_tensor(np.asarray(view.rows))
        spectrum = np.exp(polynomial((theta - self.centre) / self.scale, self.chosen) @ self.found)
        made = np.empty((len(theta), self.draws, *self.target.shape), np.float32)
        for some in torch.arange(len(theta)).split(CHUNK):
            power = torch.from_numpy(spectrum[some.numpy()])[:, self.shell]
            for draw in range(self.draws):
                white = rng.normal(self.seed, f"random fields {draw}", rows[some], self.side**self.space)
                white = white.view(-1, *[self.side] * self.space)
                made[some.numpy(), draw, 0] = self.field(white, power).numpy()
        self.seconds += cpu_seconds() - start
        return {self.target.name: FieldDraws(made, self.target)}

    def field(
        self, white: Float[Tensor, "object ..."], power: Float[Tensor, "object ..."]
    ) -> Float[Tensor, "object ..."]:
        return coloured(white, power.float(), 1.0) + self.mean

    def describe(self) -> str:
        return (
            f"{self.told} of the power spectrum of {self.objects} training fields, ln P of each shell a polynomial of "
            f"degree {self.chosen} in the inputs."
        )


class LognormalMaps(GaussianMaps):
    """Lognormal fields of that spectrum, shifted to the least value of the training fields.

    Hilbert, Hartlap & Schneider 2011 (arXiv:1105.3980), by the correlation function of Coles & Jones 1991 (MNRAS 248,
    1), eq. 21; modes that would need a negative power get none.
    """

    told = "Lognormal fields"

    def field(
        self, white: Float[Tensor, "object ..."], power: Float[Tensor, "object ..."]
    ) -> Float[Tensor, "object ..."]:
        space, size = tuple(range(1, white.ndim)), white.shape[1:]
        shift = self.mean - self.lowest
        correlation = torch.fft.irfftn(power / shift**2, s=size, dim=space)
        inner = torch.fft.rfftn(torch.log1p(correlation.clamp(min=-0.999)), dim=space).real.clamp(min=0)
        variance = (inner * self.weight).flatten(1).sum(1) / self.side**self.space
        drawn = coloured(white, inner.float(), 1.0) - variance.float().view(-1, *[1] * self.space) / 2
        return shift * torch.expm1(drawn) + self.mean
