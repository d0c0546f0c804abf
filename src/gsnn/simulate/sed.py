"""Two stellar populations, old and young, seen through the bands at a redshift.

Each is a power law f_nu ~ wavelength^slope in three pieces, with the 4000 Angstrom break between the first two. The
slopes and breaks reproduce the rest-frame colours of an elliptical (g-r 0.77, r-i 0.39) and of an irregular
(g-r 0.2, r-i 0.05) galaxy (Fukugita, Shimasaku & Ichikawa 1995, PASP 107, 945, table 3). A band is a top hat,
so its AB flux, the mean of f_nu over d ln(wavelength), has a closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Band:
    """A band of the camera; ``electrons`` per nanomaggie in one exposure, the sky in mag/arcsec^2."""

    blue: float  # Angstrom, edges of the top hat
    red: float
    electrons: float
    sky: float
    extinction: float  # A(band) / A(r), Cardelli, Clayton & Mathis 1989, R_V = 3.1


# An SDSS-like camera: 53.9 s on 2.5 m (York et al. 2000; sky and response of Gunn et al. 1998, rounded).
BANDS = {
    "u": Band(3270, 3830, 130.0, 22.1, 1.85),
    "g": Band(4080, 5470, 950.0, 21.9, 1.42),
    "r": Band(5550, 6890, 910.0, 20.9, 1.0),
    "i": Band(6960, 8320, 640.0, 20.2, 0.76),
    "z": Band(8340, 9990, 120.0, 18.9, 0.56),
}

_BREAK, _BEND = 3980.0, 6200.0  # Angstrom, rest frame
_OLD = (3.2, 2.75, 1.75, 1.75)  # slopes below the break, up to the bend and beyond; f_nu above / below the break
_YOUNG = (0.6, 0.65, 0.25, 1.15)


def _integral(x: Float[Tensor, "*shape"], slopes: tuple[float, float, float, float]) -> Float[Tensor, "*shape"]:
    """Integral of f_nu over d ln(wavelength) from the break to the rest-frame wavelength x (Angstrom)."""
    below, middle, above, jump = slopes
    u, bend = torch.log(x / _BREAK), math.log(_BEND / _BREAK)
    low = torch.expm1(below * u.clamp(max=0)) / (below * jump)
    mid = torch.expm1(middle * u.clamp(0, bend)) / middle
    high = math.exp(middle * bend) * torch.expm1(above * (u - bend).clamp(min=0)) / above
    return low + mid + high


def _flux(
    z: Float[Tensor, " object"], bands: tuple[str, ...], slopes: tuple[float, ...]
) -> Float[Tensor, "object band"]:
    edges = torch.tensor([[BANDS[b].blue, BANDS[b].red] for b in bands], dtype=z.dtype, device=z.device)
    rest = edges / (1 + z)[:, None, None]
    blue, red = _integral(rest, slopes).unbind(-1)
    return (red - blue) / torch.log(edges[:, 1] / edges[:, 0])


def colours(
    z: Float[Tensor, " object"], young: Float[Tensor, "object part"], bands: tuple[str, ...]
) -> Float[Tensor, "object part band"]:
    """Flux in each band over that in r, for parts of which ``young`` of the observed r-band light is young."""
    old, new = ((flux := _flux(z, ("r", *bands), slopes))[:, None, 1:] / flux[:, None, :1] for slopes in (_OLD, _YOUNG))
    return old + young[..., None] * (new - old)


def k_correction(z: Float[Tensor, " object"], young: float = 0.5) -> Float[Tensor, " object"]:
    """K in the r band (mag), m = M + distance modulus + K, for an even mixture (Hogg et al. 2002, eq. 8)."""
    zero = torch.zeros_like(z)
    ratio = sum(
        share * (_flux(z, ("r",), s) / _flux(zero, ("r",), s))[:, 0]
        for share, s in ((1 - young, _OLD), (young, _YOUNG))
    )
    return -2.5 * torch.log10(ratio * (1 + z))
