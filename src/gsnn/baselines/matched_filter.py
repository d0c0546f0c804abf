"""The sceptic's search for compact binaries: a template bank, coincidence of the detectors, a chi-squared veto."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ..data.schema import Column, Schema
from ..errors import GsnnError
from .base import Table, log_loss
from .tables import Logistic
from .templates import Bank, Noise, bank_of, chi_squared, coincident, filtered, place, reweighted

if TYPE_CHECKING:
    from ..data.survey import View

CANDIDATES = 6  # templates of a window whose chi-squared is looked at
STATISTICS = ("SNR", "SNR reweighted by chi-squared")


def loudest(strain: Float[Tensor, "detector time"], bank: Bank, bins: int = 8) -> Float[Tensor, " statistic"]:
    """Network signal-to-noise of the loudest coincidence of a window, plain and reweighted by chi-squared."""
    power = filtered(strain, bank).abs() ** 2
    total, others = coincident(power, bank.rate)
    best, sample = total.max(-1)
    plain, template = best.topk(min(CANDIDATES, len(bank)))
    sample = sample[template]
    spectrum, squared = torch.fft.rfft(strain.float(), n=bank.length), 0.0
    for i in range(len(strain)):
        at = sample if i == 0 else others[template, i - 1, sample]
        chi = chi_squared(spectrum[i], bank.spectra[template, i], at, bins)
        squared = squared + reweighted(power[template, i, at].sqrt(), chi) ** 2
    return torch.stack([plain[0].sqrt(), squared.max().sqrt()])


class MatchedFilter(Logistic):
    """Whitened strain against a bank of IMRPhenomD templates; the loudest coincidence of a window is its statistic.

    The bank covers ``masses`` (solar masses, of each black hole) and aligned spins within +- ``spin``, by default those
    that the survey was made with, so that every signal has a template of at least ``match``. A template's
    signal-to-noise is maximal over time and phase, and over times of the other detectors within the light's travel;
    it is taken down by chi-squared in ``bins`` bands (Allen 2005), or not: whichever does better on validation. A
    logistic regression on at most ``rows`` training windows makes it a probability.

    The survey's provenance says what whitened the strain (``density_1_hz``, ``band_hz``), as that of ``binaries`` does.
    """

    def __init__(
        self,
        inputs: Schema,
        target: Column,
        *,
        masses: tuple[float, float] | None = None,
        spin: Annotated[float | None, Field(ge=0, lt=1)] = None,
        match: Annotated[float, Field(gt=0.5, lt=1)] = 0.97,
        bins: Annotated[int, Field(ge=2)] = 8,
        rows: Annotated[int, Field(ge=20)] = 2000,
    ):
        super().__init__(inputs, target)
        strains = inputs.of_kind("strain")
        if len(strains) != 1:
            raise GsnnError(
                f"baseline matched-filter: it filters one column of strain, and {', '.join(map(repr, inputs))} "
                f"{'holds' if len(inputs) == 1 else 'hold'} {len(strains) or 'none'}"
            )
        made = inputs.provenance
        for key in ("density_1_hz", "band_hz"):
            if key not in made:
                raise GsnnError(
                    f"baseline matched-filter: the data do not say {key}, by which their templates are whitened; "
                    "make them with the source 'binaries', or leave the baseline out"
                )
        self.column = strains[0]
        if self.column.unit:
            raise GsnnError("baseline matched-filter: the strain is not whitened; make it with whiten = true")
        self.masses = tuple(masses or made.get("masses_msun", (10.0, 60.0)))
        self.spin = made.get("spin", 0.5) if spin is None else spin
        self.match, self.bins, self.rows = match, bins, rows

    @cached_property
    def noise(self) -> Noise:
        made, channels = self.inputs.provenance, (1, *self.column.shape)[-2]
        known = [made["density_1_hz"][name] for name in self.column.bands or list(made["density_1_hz"])[:channels]]
        density = torch.tensor(known, dtype=torch.float64)
        return Noise(density, 1.0, 1 / self.column.cadence, *made["band_hz"])

    @cached_property
    def bank(self) -> Bank:
        binaries = place(self.noise, self.masses, self.spin, match=self.match)
        return bank_of(binaries, self.noise, 2 * self.column.shape[-1])

    def statistic(self, strain: Float[Tensor, "object detector time"]) -> Float[Tensor, "object statistic"]:
        """Network signal-to-noise of each window, plain and reweighted."""
        return torch.stack([loudest(one, self.bank, self.bins) for one in torch.nan_to_num(strain, 0, 0, 0)])

    def matrix(self, view: View) -> Float[np.ndarray, "object feature"]:
        """The squares of the statistics: in Gaussian noise the logarithm of the likelihood ratio is half of one."""
        shape = (-1, *(1, *self.column.shape)[-2:])
        chunks = [c[self.column.name] for c in view.chunks([self.column.name], 256)]
        parts = [self.statistic(torch.tensor(c).view(shape)) for c in chunks]
        return (torch.cat(parts) ** 2).double().numpy() if parts else np.zeros((0, 2))

    def table(self, view: View, split: str) -> Table:
        some = np.linspace(0, len(view) - 1, self.rows).astype(int) if len(view) > self.rows else np.arange(len(view))
        return super().table(view.take(some), split)

    def tune(self, train: Table, valid: Table, seed: int) -> None:
        tried = []
        for k in range(len(STATISTICS)):
            super().tune(train._replace(x=train.x[:, [k]]), valid._replace(x=valid.x[:, [k]]), seed)
            tried.append((log_loss(self._p(self.model, valid.x[:, [k]]), valid.y), k, self.model, self.chosen))
        _, self.used, self.model, self.chosen = min(tried, key=lambda one: one[:2])

    def distribution(self, x: Float[np.ndarray, "object feature"]):
        return super().distribution(x[:, [self.used]] if x.shape[1] > 1 else x)

    def describe(self) -> str:
        low, high = self.masses
        return (
            f"Matched filter with {len(self.bank)} templates (IMRPhenomD, {low:g} to {high:g} Msun, spins within "
            f"{self.spin:g}, match {self.match:g}), coincident in {' and '.join(self.column.bands) or 'one detector'}: "
            f"{STATISTICS[self.used]}, made a probability on {self.objects} windows."
        )
