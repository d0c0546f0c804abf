"""A bank of waveforms, and what the matched filter of each says of whitened strain: the search for binaries since LIGO.

Noise that is white with unit density is filtered with whitened templates of unit norm, so that a filter's output is a
signal-to-noise ratio (Allen et al. 2012, arXiv:gr-qc/0509116): its real and imaginary parts are standard normal in
noise, and its modulus, maximal over time, is the amplitude of a signal whatever its phase.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex64, Float, Float64, Int64
from torch import Tensor

from .. import rng
from ..data.strain import frequencies, whitener
from ..simulate.waveforms import Binaries, face_on

LAG = 0.012  # s between detectors: the light's 10 ms from Hanford to Livingston, and the noise's share in a time


@dataclass(frozen=True)
class Noise:
    """What strain was whitened by: the density of each detector's noise every ``step`` Hz, and the band."""

    density: Float64[Tensor, "detector known"]
    step: float
    rate: float
    low: float
    high: float

    def whitener(self, length: int) -> Float64[Tensor, "detector frequency"]:
        return whitener(self.density, self.step, length, self.rate, self.low, self.high)


@dataclass(frozen=True)
class Bank:
    """Templates, whitened for each detector, of unit norm, their mergers at time 0 of ``length`` samples."""

    binaries: Binaries
    spectra: Complex64[Tensor, "template detector frequency"]
    length: int
    rate: float

    def __len__(self) -> int:
        return len(self.spectra)


def bank_of(binaries: Binaries, noise: Noise, length: int) -> Bank:
    """Templates of ``length`` samples; what does not fit wraps round, so give them twice the longest."""
    frequency = frequencies(length, noise.rate)
    wave = face_on(binaries, frequency)[:, None] * noise.whitener(length)
    norm = torch.sqrt((wave.abs() ** 2).sum(-1, keepdim=True) * (2 / length))
    return Bank(binaries, (wave / norm).to(torch.complex64), length, noise.rate)


def place(
    noise: Noise,
    masses: tuple[float, float],
    spin: float,
    *,
    match: float = 0.97,
    seed: int = 0,
    still: int = 150,
    most: int = 4000,
) -> Binaries:
    """Binaries of which each in the ranges has one that matches it by ``match`` or more, nearly always.

    Stochastic placement (Harry, Allen & Sathyaprakash 2009, arXiv:0908.2090): random binaries are taken where no
    template matches well enough, until ``still`` in a row were not needed by more than one in thirty.
    """
    length = round(noise.rate)  # 1 s: enough for waveforms that differ little, at lags of a few ms
    chosen: list[Tensor] = []
    found = torch.empty(0, 4, dtype=torch.float64)
    spectra = torch.empty(0, length // 2 + 1, dtype=torch.complex64)
    recent: list[bool] = []
    for start in range(0, most, 50):
        proposed = drawn(torch.arange(start, start + 50), masses, spin, seed)
        made = bank_of(proposed, noise, length).spectra[:, 0]
        table = torch.stack([proposed.mass_1, proposed.mass_2, proposed.spin_1, proposed.spin_2], 1)
        for one, values in zip(made, table):
            new = not len(spectra) or matches(spectra, one).max() < match
            if new:
                spectra = torch.cat([spectra, one[None]])
                chosen.append(values)
            recent.append(bool(new))
        if len(recent) > still and sum(recent[-still:]) * 30 < still:
            break
    found = torch.stack(chosen)
    return Binaries(*found.unbind(1))


def drawn(rows: Int64[Tensor, " object"], masses: tuple[float, float], spin: float, seed: int) -> Binaries:
    """Binaries uniform in both masses and both spins."""
    u = rng.uniform(seed, "baselines/templates", rows, 4).double().T
    width = masses[1] - masses[0]
    return Binaries.of(masses[0] + width * u[0], masses[0] + width * u[1], spin * (2 * u[2] - 1), spin * (2 * u[3] - 1))


def matches(
    spectra: Complex64[Tensor, "template frequency"], one: Complex64[Tensor, " frequency"]
) -> Float[Tensor, " template"]:
    """Overlap of unit spectra with one, the largest over time and phase: 1 for the same wave."""
    length = 2 * (spectra.shape[-1] - 1)
    return torch.fft.ifft(spectra.conj() * one * 2, n=length).abs().amax(-1)


def filtered(strain: Float[Tensor, "detector time"], bank: Bank) -> Complex64[Tensor, "template detector time"]:
    """The filters' outputs for a merger at each sample; ``bank.length`` is at least that of the strain."""
    spectrum = torch.fft.rfft(strain.float(), n=bank.length)
    return torch.fft.ifft(bank.spectra.conj() * spectrum * 2, n=bank.length)[..., : strain.shape[-1]]


def coincident(
    power: Float[Tensor, "template detector time"], rate: float
) -> tuple[Float[Tensor, "template time"], Int64[Tensor, "template other time"]]:
    """Squared signal-to-noise of the network, and at which sample each further detector has its largest within LAG.

    A template must be found in all detectors; their times differ by no more than the light needs.
    """
    reach = round(LAG * rate)
    total, places = power[:, 0], []
    for other in range(1, power.shape[1]):
        best, place = torch.nn.functional.max_pool1d(power[:, other], 2 * reach + 1, 1, reach, return_indices=True)
        total = total + best
        places.append(place)
    empty = torch.empty(len(power), 0, power.shape[-1], dtype=torch.int64)
    return total, torch.stack(places, 1) if places else empty


def chi_squared(
    spectrum: Complex64[Tensor, " frequency"],
    template: Complex64[Tensor, "candidate frequency"],
    sample: Int64[Tensor, " candidate"],
    bins: int,
) -> Float[Tensor, " candidate"]:
    """Reduced chi-squared of ``bins`` bands of equal share of the template's power (Allen 2005, arXiv:gr-qc/0405045).

    Near 1 for noise and for a signal that has the template's shape, large for a glitch. ``spectrum`` is that of one
    detector's strain.
    """
    length = 2 * (len(spectrum) - 1)
    turn = torch.arange(len(spectrum), dtype=torch.float64) * (sample[:, None] / length)
    product = 2 / length * template.conj() * spectrum * torch.polar(torch.ones_like(turn), 2 * torch.pi * turn)
    grown = (template.abs() ** 2).cumsum(-1)
    member = (grown / grown[:, -1:] * bins).long().clamp(max=bins - 1)
    parts = torch.zeros(len(sample), bins, dtype=product.dtype).scatter_add_(1, member, product)
    share = torch.zeros(len(sample), bins, dtype=torch.float64)
    share = share.scatter_add_(1, member, template.abs().double() ** 2 / grown[:, -1:])
    whole = parts.sum(-1, keepdim=True)
    return ((parts - share * whole).abs() ** 2 / share).sum(-1).float() / (2 * bins - 2)


def reweighted(snr: Float[Tensor, "*shape"], chi: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Signal-to-noise taken down where chi-squared is above 1 (Usman et al. 2016, arXiv:1508.02357, eq. 15)."""
    return snr / ((1 + chi.clamp(min=1) ** 3) / 2) ** (1 / 6)
