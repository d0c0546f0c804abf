"""Maps of one sky at several frequencies: what all of them share, told apart from what they do not.

Maps are [object, band, y, x] in units in which the component that is looked for is the same at all frequencies, of a
flat and periodic sky. A band sees a mode of multipole l of it times exp(-l (l + 1) sigma^2 / 2) of its Gaussian beam.
"""

from __future__ import annotations

import json
import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ..errors import GsnnError
from .schema import Column, Schema
from .shear import ARCMIN, multipoles, twice

FEWEST = 500  # modes to a ring in which covariances are measured
FLOOR = 1e-3  # of a beam that is divided by


class Plane(NamedTuple):
    """The modes of a map, what the bands see of them, and what is wanted of them."""

    place: Int64[Tensor, "y x2"]  # the ring that each mode belongs to
    average: Float[Tensor, "ring mode"]  # over the modes of a ring
    seen: Float[Tensor, "band y x2"]
    wanted: Float[Tensor, "y x2"]  # the beam of the answer
    power: Float[Tensor, "y x2"]  # of a pixel of the component, before any beam; above 0
    usual: Float[Tensor, "ring band band"] | None = None  # the mean of :func:`covariance` over many skies, if known


def beam(multipole: Tensor, fwhm: float) -> Tensor:
    """exp(-l (l + 1) sigma^2 / 2) of a Gaussian beam of ``fwhm`` arcmin."""
    sigma = fwhm * ARCMIN / math.sqrt(8 * math.log(2))
    return torch.exp(-0.5 * multipole * (multipole + 1) * sigma**2)


def plane(inputs: Schema, column: Column) -> Plane:
    """The plane of a column of maps, from the beams and the spectrum in the provenance of its source.

    Raises GsnnError where they are not told, or are of another number of bands.
    """
    told = {name: inputs.provenance.get(name) for name in ("beams_arcmin", "beam_arcmin", "spectrum")}
    if not all(told.values()) or not column.pixel_scale:
        raise GsnnError(
            f"the maps {column.name!r} do not say which beams and which spectrum they have; make them by the simulator "
            "'foregrounds'"
        )
    beams = json.loads(told["beams_arcmin"])
    if len(beams) != column.shape[0]:
        raise GsnnError(f"{column.name!r} has {column.shape[0]} bands, and {len(beams)} beams are told")
    with torch.device("cpu"):  # values, also for a network that is made without any
        side, pixel = column.shape[-1], column.pixel_scale / 60
        multipole = multipoles(side, pixel)
        place, counts = rings(multipole)
        average = torch.nn.functional.one_hot(place.flatten()).T * twice(side).repeat(side) / counts[:, None]
        known, spectrum = np.array(json.loads(told["spectrum"]))
        power = np.interp(multipole.numpy(), known, spectrum, left=0.0, right=0.0) / (pixel * ARCMIN) ** 2
        usual = inputs.provenance.get("covariance")
        return Plane(
            place,
            average,
            torch.stack([beam(multipole, one) for one in beams]),
            beam(multipole, float(told["beam_arcmin"])),
            torch.from_numpy(power).clamp(min=1e-6 * float(power.max())),
            torch.tensor(json.loads(usual), dtype=torch.float64) if usual else None,
        )


def rings(multipole: Float[Tensor, "y x2"]) -> tuple[Int64[Tensor, "y x2"], Float[Tensor, " ring"]]:
    """Rings of |l| of at least ``FEWEST`` modes each, from the mean outwards: that of each mode, and their modes."""
    values, place = torch.unique(multipole, return_inverse=True)
    count = twice(multipole.shape[0]).expand(multipole.shape)
    each = torch.zeros(len(values), dtype=torch.float64).index_add_(0, place.flatten(), count.flatten())
    ring, inside, of = 0, 0.0, torch.zeros(len(values), dtype=torch.int64)
    for i, modes in enumerate(each.tolist()):
        of[i], inside = ring, inside + modes
        if inside >= FEWEST and float(each[i + 1 :].sum()) >= FEWEST:
            ring, inside = ring + 1, 0.0
    counts = torch.zeros(ring + 1, dtype=torch.float64).index_add_(0, of, each)
    return of[place], counts


def covariance(modes: Tensor, where: Plane) -> Float[Tensor, "object ring band band"]:
    """Mean over the modes of each ring of the product of two bands, in units of the component and as it is seen.

    Within a ring all spectra are taken to fall as that one does, behind each band's own beam. ``modes`` are [object,
    band, y, x2].
    """
    device = modes.device
    weight = where.average.to(device) * where.power.to(device).flatten() ** -1
    rows = torch.view_as_real(modes / where.seen.clamp(min=FLOOR).to(device)).flatten(2, 3)
    pairs = (rows[:, :, None] * rows[:, None]).sum(-1)  # [object, band, band, mode]
    return (pairs @ weight.to(pairs).T).movedim(-1, 1)


def shares(
    total: Float[Tensor, "object ring band band"], where: Plane, *, wiener: bool
) -> Float[Tensor, "object band y x2"]:
    """What each mode of each band counts in the answer, for maps of these covariances (of :func:`covariance`).

    The internal linear combination, C^-1 a / (a' C^-1 a), has the least variance of all that leave the component as
    it is (Tegmark, de Oliveira-Costa & Hamilton 2003, arXiv:astro-ph/0302496); with ``wiener`` C^-1 a, which in these
    units has the least error of all that are linear. ``a`` is what the bands see.
    """
    small = 1e-9 * total.diagonal(dim1=2, dim2=3).amin(-1)[..., None, None]
    solid = total + small * torch.eye(total.shape[-1], dtype=total.dtype, device=total.device)
    inverse = torch.linalg.inv(solid)[:, where.place.to(total.device)]  # [object, y, x2, band, band]
    floored = where.seen.clamp(min=FLOOR).to(total).movedim(0, -1)
    seen = where.seen.to(total).movedim(0, -1) / floored
    weight = (inverse @ seen[..., None])[..., 0]
    if not wiener:
        weight = weight / (weight * seen).sum(-1, keepdim=True).clamp_min(1e-30)
    return (weight / floored * where.wanted.to(total)[..., None]).movedim(-1, 1)


def lost(where: Plane) -> Float[Tensor, "y x2"]:
    """The share of the component's power that the Wiener filter errs by in the usual sky; 1 if that is not known."""
    if where.usual is None:
        return torch.ones_like(where.power)
    kept = (shares(where.usual[None], where, wiener=True)[0] * where.seen).sum(0) / where.wanted
    return (1 - kept).clamp(0, 1)


def combine(modes: Tensor, weight: Float[Tensor, "some band y x2"]) -> Float[Tensor, "object y x"]:
    """The map that these shares of the bands make: of each object, or one set of shares for all."""
    return torch.fft.irfft2((modes * weight).sum(1), s=(modes.shape[2], modes.shape[2]), norm="ortho")


def to_modes(maps: Float[Tensor, "object band y x"]) -> Tensor:
    """Fourier modes [object, band, y, x2] without the mean, which no differencing telescope knows."""
    modes = torch.fft.rfft2(maps, norm="ortho")
    modes[..., 0, 0] = 0
    return modes
