"""Strain as tensors: its noise measured (power spectral density), made white, cut to a band.

Frequencies in Hz, ``rate`` in samples/s; a density is one-sided, in 1/Hz. NaN marks what is missing.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import GsnnError


def frequencies(length: int, rate: float) -> Float[Tensor, " frequency"]:
    """Of the real Fourier transform of ``length`` samples, float64."""
    return torch.arange(length // 2 + 1, dtype=torch.float64) * (rate / length)


def median_bias(count: int) -> float:
    """The median of ``count`` exponential numbers over their mean (Allen et al. 2012, arXiv:gr-qc/0509116, eq. B12)."""
    odd = count if count % 2 else count - 1
    return sum((-1) ** k / (k + 1) for k in range(odd))


def density(
    strain: Float[Tensor, "*channel time"], rate: float, seconds: float = 4.0
) -> Float[Tensor, "*channel frequency"]:
    """Power spectral density: the median of the periodograms of stretches of ``seconds``, half of each shared.

    Welch's method (Welch 1967) with a Hann window and the median in place of the mean, so that a loud signal or glitch
    changes little (Allen et al. 2012). Stretches with anything missing are left out. The resolution is 1 / ``seconds``.
    """
    size = round(rate * seconds)
    if strain.shape[-1] < size:
        raise GsnnError(
            f"{strain.shape[-1] / rate:g} s of strain are too short to measure noise in stretches of {seconds:g} s; "
            "bring a longer record"
        )
    window = torch.hann_window(size, dtype=torch.float64, device=strain.device)
    pieces = strain.double().unfold(-1, size, size // 2)
    pieces = pieces - pieces.mean(-1, keepdim=True)
    power = torch.fft.rfft(pieces * window).abs() ** 2 * (2 / (rate * (window**2).sum()))
    power[..., 0] /= 2
    if size % 2 == 0:
        power[..., -1] /= 2
    return _median_of_good(power)


def _median_of_good(power: Float[Tensor, "*channel piece frequency"]) -> Float[Tensor, "*channel frequency"]:
    flat = power.reshape(-1, *power.shape[-2:])
    found = []
    for channel in flat:
        good = channel[torch.isfinite(channel).all(-1)]
        if not len(good):
            raise GsnnError("no stretch of the strain is without a gap, so its noise cannot be measured; bring more")
        found.append(good.quantile(0.5, dim=0) / median_bias(len(good)))
    return torch.stack(found).reshape(*power.shape[:-2], power.shape[-1])


def at(density: Float[Tensor, "*channel known"], step: float, frequency: Float[Tensor, " frequency"]) -> Tensor:
    """A density known every ``step`` Hz from 0 on, at other frequencies, by straight lines."""
    place = (frequency / step).clamp(max=density.shape[-1] - 1.001)
    low = place.long()
    return torch.lerp(density[..., low], density[..., low + 1], (place - low).to(density.dtype))


def band(frequency: Float[Tensor, " frequency"], low: float, high: float) -> Float[Tensor, " frequency"]:
    """1 between ``low`` and ``high``; below it falls to 0 at 2/3 of ``low``, above at 9/8 of ``high``, as a cosine."""
    below = ((frequency / low - 2 / 3) * 3).clamp(0, 1)
    above = ((9 / 8 - frequency / high) * 8).clamp(0, 1)
    return (1 - torch.cos(math.pi * below)) / 2 * (1 - torch.cos(math.pi * above)) / 2


def whitener(
    density: Float[Tensor, "*channel known"], step: float, length: int, rate: float, low: float, high: float
) -> Float[Tensor, "*channel frequency"]:
    """What a spectrum of ``length`` samples is multiplied by to become white: noise of unit variance a sample if the
    band were everything. Zero outside the band.
    """
    frequency = frequencies(length, rate)
    return band(frequency, low, high) / torch.sqrt(at(density, step, frequency) * (rate / 2))


def whiten(
    strain: Float[Tensor, "*channel time"],
    density: Float[Tensor, "*channel known"],
    step: float,
    rate: float,
    low: float,
    high: float,
) -> Float[Tensor, "*channel time"]:
    """The strain divided by the amplitude of its noise, cut to the band. Missing values stay missing.

    The ends of the stretch, and the surroundings of a gap (taken as zero), are not white for about 1 / ``step`` s.
    """
    bad = ~torch.isfinite(strain)
    whole = taper(torch.where(bad, 0.0, strain.double()), rate)
    length = strain.shape[-1]
    white = torch.fft.irfft(torch.fft.rfft(whole) * whitener(density, step, length, rate, low, high), n=length)
    return torch.where(bad, torch.nan, white)


def taper(strain: Float[Tensor, "*channel time"], rate: float, seconds: float = 0.5) -> Float[Tensor, "*channel time"]:
    """The ends let down to zero by half a Hann window each, so that the Fourier transform sees no jump."""
    size = min(round(rate * seconds), strain.shape[-1] // 2)
    ramp = torch.sin(torch.linspace(0, math.pi / 2, size, dtype=strain.dtype, device=strain.device)) ** 2
    out = strain.clone()
    out[..., :size] *= ramp
    out[..., -size:] *= ramp.flip(0)
    return out


def resample(strain: Float[Tensor, "*channel time"], rate: float, wanted: float) -> Float[Tensor, "*channel time2"]:
    """At ``wanted`` samples/s (a divisor of ``rate``), low-passed before; gaps widen by the length of the filter."""
    if rate == wanted:
        return strain
    ratio = rate / wanted
    if ratio != round(ratio) or ratio < 1:
        raise GsnnError(f"strain at {rate:g} samples/s cannot be brought to {wanted:g}: give a whole part of its rate")
    from scipy.signal import firwin, upfirdn

    factor = round(ratio)
    taps = firwin(20 * factor + 1, 0.9 / factor, window=("kaiser", 8.0))
    half, length = len(taps) // 2, strain.shape[-1] // factor
    made = upfirdn(taps, strain.double().numpy(), down=1, axis=-1)[..., half : half + factor * length : factor]
    return torch.from_numpy(made.copy())
