"""The noise of a star's light: granulation and rotation as Gaussian processes, instrument drifts, photons, outliers.

Granulation and rotation are stochastically driven, damped oscillators, the terms of celerite (Foreman-Mackey et al.
2017, AJ 154, 220). They are drawn through their power spectrum on a grid four times as long as needed, so that the ends
do not know of each other. It is a model of the covariance, not of a star: real spots evolve, and real instruments jump,
in ways that no stationary process has.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64


def oscillator(
    omega: Float64[np.ndarray, " frequency"], amplitude: float, period: float, quality: float
) -> Float64[np.ndarray, " frequency"]:
    """Power a rad/d of a damped oscillator whose values have the standard deviation ``amplitude`` (their eq. 20)."""
    w0 = 2 * np.pi / period
    s0 = amplitude**2 / (w0 * quality)
    return np.sqrt(2 / np.pi) * s0 * w0**4 / ((omega**2 - w0**2) ** 2 + (omega * w0 / quality) ** 2)


def wandering(
    omega: Float64[np.ndarray, " frequency"], amplitude: float, memory: float
) -> Float64[np.ndarray, " frequency"]:
    """Power of an Ornstein-Uhlenbeck process of the standard deviation ``amplitude`` that forgets in ``memory`` days.

    Sampled evenly it is an AR(1) series.
    """
    return np.sqrt(2 / np.pi) * amplitude**2 * memory / (1 + (omega * memory) ** 2)


def spectrum(
    omega: Float64[np.ndarray, " frequency"], *, granulation: float, rotation: float, period: float, drift: float
) -> Float64[np.ndarray, " frequency"]:
    """The sum for one star; amplitudes are standard deviations relative to its flux, ``period`` is of its rotation.

    Granulation has Q = 1/sqrt(2) and a time scale of 0.25 d (Kallinger et al. 2014, A&A 570, A41, for dwarfs, rounded),
    rotation two oscillators at the period and half of it, and the instrument wanders over 0.3 d.
    """
    return (
        oscillator(omega, granulation, 0.25, 2**-0.5)
        + oscillator(omega, rotation * 0.9, period, 6.0)
        + oscillator(omega, rotation * 0.45, period / 2, 4.0)
        + wandering(omega, drift, 0.3)
    )


def gaussian_process(steps: int, cadence: float, power, chance: np.random.Generator) -> Float64[np.ndarray, " step"]:
    """``steps`` values, ``cadence`` days apart, of the process of mean 0 with ``power(omega)`` a rad/d.

    The covariance is (2 pi)^(-1/2) times the integral of power cos(omega t) over all omega, as celerite has it.
    """
    n = 4 * steps
    omega = 2 * np.pi * np.fft.rfftfreq(n, cadence)
    width = omega[1]
    each = np.sqrt(power(omega) * width / np.sqrt(2 * np.pi))
    waves = (chance.standard_normal(len(omega)) + 1j * chance.standard_normal(len(omega))) * each
    waves[0] = 0
    return np.fft.irfft(waves, n)[:steps] * n / np.sqrt(2)


def ramps(
    time: Float64[np.ndarray, " step"], starts: list[float], amplitude: float, chance: np.random.Generator
) -> Float64[np.ndarray, " step"]:
    """What a telescope does after each interruption: an exponential return over 0.3 to 1.5 days."""
    out = np.zeros_like(time)
    for start in starts:
        later = np.maximum(time - start, 0)
        out += np.where(time >= start, amplitude * chance.normal() * np.exp(-later / chance.uniform(0.3, 1.5)), 0)
    return out
