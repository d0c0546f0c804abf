"""Light curves in the units of a network: times over a typical span, fluxes over their noise or their own scatter."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ..errors import GsnnError
from .light_curves import LightCurves
from .transforms import Transform

Parts = dict[str, Tensor]


class CurveUnits(Transform):
    """Times and fluxes of light curves for a network; bands and which steps are valid stay.

    A flux is first taken relative to ``centre``: nothing (transients, whose flux is 0 before and after), the mean of
    its ``band`` in the training part, or the mean of the ``object`` in that band (variable stars, whose mean says how
    far they are), weighted by 1/error^2. ``stretch = "asinh"`` is linear up to ``softening`` times the typical error of
    the band and logarithmic above (Lupton, Gunn & Szalay 1999, AJ 118, 1406), with the error carried through its slope;
    ``"linear"`` divides by the scatter of the training part. Times are divided by the mean span of the training part,
    or by ``time_scale`` in their own unit. ``fold`` names a scalar input that holds a period: times become phases, from
    0 to 1 and in that order (:func:`folded`). Observations that follow each other within ``visit``, in the unit of
    time, are one visit and get the time of its first: what networks with ``step = "visit"`` make one step of.
    """

    def __init__(
        self,
        bands: int = 1,
        *,
        centre: Literal["none", "band", "object"] = "none",
        stretch: Literal["asinh", "linear"] = "asinh",
        softening: Annotated[float, Field(gt=0)] = 3.0,
        time_scale: Annotated[float | None, Field(gt=0)] = None,
        fold: str | None = None,
        visit: Annotated[float, Field(ge=0)] = 0.0,
    ):
        super().__init__()
        if fold and visit:
            raise GsnnError("light-curve: a folded light curve has no visits; leave out fold or visit")
        self.centre, self.stretch, self.softening, self.time_scale = centre, stretch, softening, time_scale
        self.fold, self.visit = fold, visit
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("width", torch.ones(bands))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("span", torch.ones(()))

    def fit(self, curves: LightCurves) -> None:
        if not len(curves.flux):
            raise GsnnError("the training light curves hold no observation")
        if self.time_scale is None:
            spans = curves.padded()["time"].max(1)
            self.span = torch.tensor(float(spans.mean()) or 1.0)
        else:
            self.span = torch.tensor(self.time_scale)
        for k in range(len(self.mean)):
            of_band = curves.band == k
            if of_band.any():
                weight = curves.flux_error[of_band].astype(float) ** -2
                self.mean[k] = float((curves.flux[of_band] * weight).sum() / weight.sum())
                self.width[k] = self.softening * float(np.median(curves.flux_error[of_band]))
        parts = {name: torch.from_numpy(values) for name, values in curves.padded().items()}
        flux = self._stretched(parts)[0]
        self.scale = torch.tensor(float(flux[parts["valid"]].std(correction=0)) or 1.0)

    def _stretched(self, parts: Parts) -> tuple[Tensor, Tensor]:
        """Flux and error, relative to the centre and stretched."""
        (flux, error), band = _numbers(parts), parts["band"]
        width = self.width[band]
        if self.centre == "band":
            flux = flux - self.mean[band]
        elif self.centre == "object":
            flux = flux - self._own_mean(flux, error, parts)
        if self.stretch == "linear":
            return flux, error
        inner = flux / width
        return torch.asinh(inner), error / width / torch.sqrt(1 + inner**2)

    def _own_mean(self, flux: Tensor, error: Tensor, parts: Parts) -> Float[Tensor, "object step"]:
        """The mean of each object in the band of each of its steps."""
        weight = torch.where(parts["valid"], error.clamp_min(1e-12) ** -2, 0.0)
        weight = weight / weight.sum(1, keepdim=True).clamp_min(1e-30)  # far from the limits of float32
        zero = flux.new_zeros(len(flux), len(self.mean))
        total = zero.scatter_add(1, parts["band"], torch.where(parts["valid"], flux * weight, 0.0))
        return (total / zero.scatter_add(1, parts["band"], weight).clamp_min(1e-30)).gather(1, parts["band"])

    def forward(self, parts: Parts, period: Float[Tensor, " object"] | None = None) -> Parts:
        """``time``, ``flux`` and ``flux_error`` [object, step] in the network's units; 0 where a step is not valid."""
        if period is not None:
            parts = folded({**parts, "off": parts["flux"] - self._own_mean(*_numbers(parts), parts)}, period)
            parts = {**parts, "time": parts["time"] * self.span}
        flux, error = self._stretched(parts)
        valid = parts["valid"]
        time = at_visits(parts["time"].float(), self.visit) if self.visit else parts["time"].float()
        units = {"time": time / self.span, "flux": flux / self.scale, "flux_error": error / self.scale}
        return {**parts, **{n: torch.where(valid, v.nan_to_num(0, 0, 0), 0.0) for n, v in units.items()}}


def _numbers(parts: Parts) -> tuple[Tensor, Tensor]:
    return parts["flux"].float(), parts["flux_error"].float()


def at_visits(time: Float[Tensor, "object step"], gap: float) -> Float[Tensor, "object step"]:
    """The time of the first observation of each one's visit, which ends where nothing follows within ``gap``."""
    begins = torch.ones_like(time, dtype=torch.bool)
    begins[:, 1:] = time[:, 1:] - time[:, :-1] > gap
    return torch.where(begins, time, -torch.inf).cummax(1).values


def folded(parts: Parts, period: Float[Tensor, " object"]) -> Parts:
    """The steps of each object in the order of their phase, which is 0 where the fundamental of its flux is largest.

    ``off`` is the flux less its mean in its band, and is left out of what comes back. An object without a period has
    its whole span for one.
    """
    time, valid = parts["time"].float(), parts["valid"]
    span = torch.where(valid, time, 0).amax(1).clamp_min(1e-6) * 1.001
    known = torch.isfinite(period) & (period > 0)
    cycles = (time / torch.where(known, period, span).float()[:, None]) % 1
    weight = torch.where(valid, parts["flux_error"].float().clamp_min(1e-12) ** -2, 0.0)
    wave = weight / weight.amax(1, keepdim=True).clamp_min(1e-30) * torch.where(valid, parts["off"], 0.0)
    angle = 2 * torch.pi * cycles
    top = torch.atan2((wave * angle.sin()).sum(1), (wave * angle.cos()).sum(1)) / (2 * torch.pi)
    phase = torch.where(valid, (cycles - top[:, None]) % 1, 2.0)
    order = phase.argsort(dim=1, stable=True)
    return {k: (phase if k == "time" else v).gather(1, order) for k, v in parts.items() if k != "off"}
