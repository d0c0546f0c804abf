"""The background told from what is in front of it without learning: linear combinations of frequencies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from scipy.special import ndtri
from torch import Tensor

from ..data.components import combine, covariance, plane, shares, to_modes
from ..data.schema import Column, Schema
from ..errors import GsnnError
from ..evaluation.maps import ENDS, Maps
from .base import cpu_seconds

if TYPE_CHECKING:
    from ..data.survey import View

CHUNK = 32  # patches solved together
TAUGHT = 512  # patches of the training part whose covariance is taken
MIXES = (0.0, 0.25, 0.5, 0.75, 0.85, 0.92, 0.96, 1.0)
HALF = float(ndtri(ENDS[1]))  # of a 68% interval, in standard deviations


class Combination:
    """A linear combination of the bands in each ring of multipoles, by covariances of the patch and of many.

    ``mix`` of the covariance is that of the training part, the rest the patch's own, of which there are few modes (its
    chance correlations with the background take some of that away: the bias of internal combinations, Delabrouille et
    al. 2009, arXiv:0807.0773). Chosen by the error on the validation part if not given. The width is that of the errors
    there, the same for every pixel.
    """

    name: str
    wiener: bool

    def __init__(self, inputs: Schema, target: Column, *, mix: Annotated[float, Field(ge=0, le=1)] | None = None):
        maps = [column for column in inputs.of_kind("image") if len(column.bands) > 1]
        if len(maps) != 1:
            raise GsnnError(f"baseline {self.name} needs one image of several frequencies among the inputs")
        if target.shape[1:] != maps[0].shape[1:] or target.shape[0] != 1:
            raise GsnnError(f"baseline {self.name} answers a map of the size of its inputs, not {target.name!r}")
        self.column, self.target, self.plane = maps[0], target, plane(inputs, maps[0])
        self.mixes, self.seconds, self.chosen = MIXES if mix is None else (mix,), 0.0, float("nan")

    def fit(self, train: View, valid: View, seed: int) -> None:
        """The covariance of the training part, and the mix of least squared error on the validation part."""
        start = cpu_seconds()
        some = train.take(np.linspace(0, len(train) - 1, min(len(train), TAUGHT)).astype(int))
        total = sum(covariance(to_modes(maps), self.plane).sum(0) for maps, _ in self.chunks(some))
        self.usual = total / len(some)
        errors, count = dict.fromkeys(self.mixes, 0.0), 0
        for maps, columns in self.chunks(valid, [self.target.name]):
            truth = torch.tensor(columns[self.target.name])[:, 0].double()
            truth, count = truth - truth.mean((1, 2), keepdim=True), count + truth.numel()
            for mix in self.mixes:
                errors[mix] += float((self.solve(maps, mix) - truth).square().sum())
        self.chosen = min(errors, key=lambda mix: errors[mix])
        self.width = (errors[self.chosen] / max(count, 1)) ** 0.5
        self.seconds = cpu_seconds() - start

    def chunks(self, view: View, more: list[str] | None = None) -> Iterator[tuple[Tensor, dict[str, np.ndarray]]]:
        for columns in view.chunks([self.column.name, *(more or [])], CHUNK):
            maps = torch.tensor(columns[self.column.name]).double()
            if not bool(torch.isfinite(maps).all()):
                raise GsnnError(f"baseline {self.name}: maps with pixels that are not finite have no Fourier modes")
            yield maps, columns

    def solve(self, maps: Float[Tensor, "object band y x"], mix: float) -> Float[Tensor, "object y x"]:
        modes = to_modes(maps)
        total = (1 - mix) * covariance(modes, self.plane) + mix * self.usual
        return combine(modes, shares(total, self.plane, wiener=self.wiener))

    def predict(self, view: View) -> dict[str, Maps]:
        """The background of every row of ``view``."""
        parts = []
        for maps, _ in self.chunks(view):
            told = self.solve(maps, self.chosen)[:, None].float().numpy()
            ends = (told - HALF * self.width, told + HALF * self.width)
            parts.append(Maps(told, np.ones(told.shape, bool), *ends))
        return {self.target.name: Maps.join(parts)}

    def describe(self) -> str:
        kind = "Wiener filter" if self.wiener else "Internal linear combination"
        return f"{kind} in rings of multipoles, {self.chosen:g} of the covariance from the training part."


class ILC(Combination):
    """The combination of least variance that leaves the background as it is (Tegmark et al. 2003)."""

    name, wiener = "ilc", False


class FrequencyWiener(Combination):
    """The linear combination of least error, with the background's spectrum known."""

    name, wiener = "frequency-wiener", True
