"""The gravitational waves of two black holes that spiral in, merge and ring down: IMRPhenomD, of many at once.

Khan et al. 2016, arXiv:1508.07253 ("K16"). The frequency domain has three regions, for phase and amplitude alike: a
post-Newtonian series with pseudo terms, a bridge, and a ringdown; they join with equal values and slopes.
Frequencies are in Hz, masses in solar masses as seen by the detector (redshifted), distances in Mpc.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Complex128, Float64
from torch import Tensor

from . import phenom
from .post_newtonian import amplitude_series, phase_series

Value = Float64[Tensor, " object"]
Curve = Float64[Tensor, "object frequency"]

SUN_S = 4.925490947641267e-6  # G Msun / c^3, s
MPC_S = 1.0292712503e14  # Mpc / c, s
LAST = 0.2  # M f beyond which the model is zero (K16, section V)
_PHASE_1, _AMPLITUDE_1 = 0.018, 0.014  # M f at which the inspiral ends (K16 eqs 35 and 36)


@dataclass(frozen=True)
class Binaries:
    """Masses in the detector's frame (solar masses) and spins along the orbit's axis; the first is the heavier one."""

    mass_1: Value
    mass_2: Value
    spin_1: Value
    spin_2: Value

    @classmethod
    def of(cls, mass_a: Tensor, mass_b: Tensor, spin_a: Tensor, spin_b: Tensor) -> Binaries:
        """In whichever order they are given."""
        swap = mass_b > mass_a
        pairs = [(mass_a, mass_b), (mass_b, mass_a), (spin_a, spin_b), (spin_b, spin_a)]
        return cls(*(torch.where(swap, b.double(), a.double()) for a, b in pairs))

    def __len__(self) -> int:
        return len(self.mass_1)

    def take(self, which: Tensor) -> Binaries:
        return Binaries(*(getattr(self, field.name)[which] for field in fields(self)))

    @property
    def mass(self) -> Value:
        return self.mass_1 + self.mass_2

    @property
    def eta(self) -> Value:
        """Symmetric mass ratio."""
        return (self.mass_1 * self.mass_2 / self.mass**2).clamp(max=0.25)

    @property
    def chirp_mass(self) -> Value:
        return self.mass * self.eta**0.6

    @property
    def effective_spin(self) -> Value:
        """chi_eff: the spins weighted by the masses."""
        return (self.mass_1 * self.spin_1 + self.mass_2 * self.spin_2) / self.mass

    @property
    def delta(self) -> Value:
        return (1 - 4 * self.eta).clamp(min=0).sqrt()

    def halves(self) -> tuple[Value, Value]:
        """Half the sum and half the difference of the spins."""
        return (self.spin_1 + self.spin_2) / 2, (self.spin_1 - self.spin_2) / 2

    def remnant(self) -> tuple[Value, Value]:
        """Ringdown and damping frequency of the final black hole, in units of 1 / M."""
        squares = self.mass_1**2 * self.spin_1 + self.mass_2**2 * self.spin_2
        spin = phenom.final_spin(self.eta, squares / self.mass**2)
        lost = phenom.radiated_energy(self.eta, squares / (self.mass_1**2 + self.mass_2**2))
        ring, damp = phenom.ringdown(spin)
        return ring / (1 - lost), damp / (1 - lost)


def _value_and_slope(curve: Callable[[Tensor], Tensor], at: Value) -> tuple[Value, Value]:
    """Of each object's curve at its own place."""
    with torch.enable_grad():  # forward differentiation costs thirty times as much
        at = at.detach()[:, None].requires_grad_()
        value = curve(at)
        (slope,) = torch.autograd.grad(value.sum(), at)
    return value.detach()[:, 0], slope[:, 0]


def _polynomial(x: Curve, terms: list[Value]) -> Curve:
    """``terms[0] + terms[1] x + ...`` by Horner's rule."""
    out = terms[-1][:, None].expand_as(x)
    for term in terms[-2::-1]:
        out = out * x + term[:, None]
    return out


@dataclass(frozen=True)
class IMRPhenomD:
    """Amplitude and phase as functions of M f, [object, frequency], with the pieces that they are made of."""

    binaries: Binaries

    def __post_init__(self) -> None:
        b = self.binaries
        chi_s, chi_a = b.halves()
        reduced = chi_s * (1 - 76 / 113 * b.eta) + b.delta * chi_a  # K16 eq. 4
        made = {
            "fit": phenom.fits(b.eta, reduced),
            "phases": phase_series(b.eta, b.delta, chi_s, chi_a),
            "amplitudes": amplitude_series(b.eta, b.delta, chi_s, chi_a),
            "ring": b.remnant(),
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)

    # ------------------------------------------------------------------ phase

    def inspiral_phase(self, x: Curve) -> Curve:
        """K16 eq. 28: TaylorF2 and four pseudo terms, as one polynomial in v = (pi M f)^(1/3)."""
        plain, logs = self.phases
        v, f = (math.pi * x) ** (1 / 3), self.fit
        pseudo = [f.sigma1, 3 / 4 * f.sigma2, 3 / 5 * f.sigma3, f.sigma4 / 2]
        terms = [3 / 128 * plain[:, k] for k in range(8)]
        terms += [one / math.pi ** (k / 3) for k, one in enumerate(pseudo, 3)]
        series = _polynomial(v, terms) / v**5
        turning = 3 / 128 * torch.log(v) * (logs[:, 5, None] + logs[:, 6, None] * v)
        return (series + turning) / self.binaries.eta[:, None] - math.pi / 4

    def bridge_phase(self, x: Curve) -> Curve:
        """K16 eq. 16, up to a straight line."""
        f = self.fit
        curve = f.beta1[:, None] * x + f.beta2[:, None] * torch.log(x) - f.beta3[:, None] / (3 * x**3)
        return curve / self.binaries.eta[:, None]

    def ringdown_phase(self, x: Curve) -> Curve:
        """K16 eq. 14, up to a straight line."""
        f, (ring, damp) = self.fit, self.ring
        turn = torch.atan((x - (f.alpha5 * ring)[:, None]) / damp[:, None])
        curve = f.alpha1[:, None] * x - f.alpha2[:, None] / x + 4 / 3 * f.alpha3[:, None] * x ** (3 / 4)
        return (curve + f.alpha4[:, None] * turn) / self.binaries.eta[:, None]

    def phase(self, x: Curve) -> Curve:
        """The three regions, joined in value and slope at M f = 0.018 and at half the ringdown frequency."""
        first = torch.full_like(self.ring[0], _PHASE_1)
        bridge = _joined(self.inspiral_phase, self.bridge_phase, first)
        second = self.ring[0] / 2
        late = _joined(bridge, self.ringdown_phase, second)
        early = torch.where(x < first[:, None], self.inspiral_phase(x), bridge(x))
        return torch.where(x < second[:, None], early, late(x))

    # ------------------------------------------------------------------ amplitude, over its Newtonian value

    def inspiral_amplitude(self, x: Curve) -> Curve:
        """K16 eq. 29: the post-Newtonian series and three pseudo terms."""
        pseudo = [self.fit.rho1, self.fit.rho2, self.fit.rho3]
        terms = [self.amplitudes[:, k] for k in range(7)]
        terms += [one / math.pi ** (k / 3) for k, one in enumerate(pseudo, 7)]
        return _polynomial((math.pi * x) ** (1 / 3), terms)

    def ringdown_amplitude(self, x: Curve) -> Curve:
        """K16 eq. 19: a Lorentzian with an exponential fall."""
        f, (ring, damp) = self.fit, self.ring
        width, off = (damp * f.gamma3)[:, None], x - ring[:, None]
        return f.gamma1[:, None] * width / (off**2 + width**2) * torch.exp(-off * f.gamma2[:, None] / width)

    @property
    def peak(self) -> Value:
        """M f at which the amplitude's ringdown begins, K16 eq. 20."""
        f, (ring, damp) = self.fit, self.ring
        inner = torch.where(f.gamma2 < 1, (1 - f.gamma2**2).clamp(min=0).sqrt() - 1, -torch.ones_like(ring))
        return (ring + damp * f.gamma3 / f.gamma2 * inner).abs()

    def bridge_amplitude(self) -> Callable[[Curve], Curve]:
        """The quartic through the ends, with their slopes, and the value v2 in the middle (K16 eq. 21)."""
        low = torch.full_like(self.peak, _AMPLITUDE_1)
        high = self.peak
        ends = [_value_and_slope(self.inspiral_amplitude, low), _value_and_slope(self.ringdown_amplitude, high)]
        at = torch.stack([low, (low + high) / 2, high], -1) / high[:, None]  # in units of the peak: well conditioned
        power = torch.arange(5, dtype=torch.float64, device=low.device)
        values = at[..., None] ** power
        slopes = power * at[:, [0, 2], None] ** (power - 1).clamp(min=0) / high[:, None, None]
        given = torch.stack([ends[0][0], self.fit.v2, ends[1][0], ends[0][1], ends[1][1]], -1)
        found = torch.linalg.solve(torch.cat([values, slopes], 1), given)
        return lambda x: _polynomial(x / high[:, None], [found[:, k] for k in range(5)])

    def amplitude(self, x: Curve) -> Curve:
        """The three regions, joined at M f = 0.014 and at the peak."""
        early = torch.where(x < _AMPLITUDE_1, self.inspiral_amplitude(x), self.bridge_amplitude()(x))
        return torch.where(x < self.peak[:, None], early, self.ringdown_amplitude(x))


def _joined(before: Callable[[Curve], Curve], after: Callable[[Curve], Curve], at: Value) -> Callable[[Curve], Curve]:
    """``after`` with the straight line added that makes it continue ``before`` in value and slope."""
    (left, slope), (right, own) = _value_and_slope(before, at), _value_and_slope(after, at)
    return lambda x: after(x) + (left - right)[:, None] + (slope - own)[:, None] * (x - at[:, None])


def face_on(binaries: Binaries, frequency: Float64[Tensor, " frequency"]) -> Complex128[Tensor, "object frequency"]:
    """The dominant (2, 2) wave at 1 Mpc of binaries that are seen face-on, in strain / Hz; merger at time 0.

    Zero at frequency 0 and beyond M f = 0.2. The phase is 0 at M f = 0.018; the time is that of the amplitude's peak
    frequency (K16, section IV A).
    """
    wave = torch.zeros(len(binaries), len(frequency), dtype=torch.complex128, device=frequency.device)
    seconds = binaries.mass * SUN_S
    used = (frequency > 0) & (frequency <= LAST / seconds.min())
    if not used.any():
        return wave
    model = IMRPhenomD(binaries)
    x = seconds[:, None] * frequency[used]
    arrival = _value_and_slope(model.phase, model.peak)[1]
    start = torch.full_like(seconds, _PHASE_1)[:, None]
    phase = model.phase(x) - model.phase(start) - arrival[:, None] * (x - start)
    newton = torch.sqrt(5 * binaries.eta / 24)[:, None] * math.pi ** (-2 / 3) * x ** (-7 / 6)
    size = newton * model.amplitude(x) * (seconds**2 / MPC_S)[:, None]
    wave[:, used] = torch.polar(torch.where(x <= LAST, size, 0.0), -phase)
    return wave


def polarisations(
    wave: Complex128[Tensor, "object frequency"], inclination: Value, distance: Value, phase: Value
) -> tuple[Complex128[Tensor, "object frequency"], Complex128[Tensor, "object frequency"]]:
    """Plus and cross of a face-on ``wave`` at 1 Mpc, seen under an inclination (rad) from ``distance`` (Mpc).

    ``phase`` (rad) is that of the orbit at merger. Amplitudes (1 + cos^2) / 2 and cos (Sathyaprakash & Schutz 2009,
    arXiv:0903.0338, eq. 31), cross a quarter of a turn behind.
    """
    cos = torch.cos(inclination)[:, None]
    wave = wave * torch.polar(1 / distance, 2 * phase)[:, None]
    return wave * (1 + cos**2) / 2, -1j * cos * wave
