"""Maps of the whole sky in HEALPix pixels (Gorski et al. 2005, astro-ph/0409513), NESTED: the four children of a pixel
stand together, so that a coarser map is the mean over the last axis of a reshape.

A column of kind ``sphere`` has the shape (channel, 12 nside^2) with nside a power of two. NaN is a pixel that was not
observed. Pixels lie in twelve square faces, whose axes run to the north-east (x) and the north-west (y).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from ..errors import GsnnError
from .schema import nside_of

FACES = 12
STEPS = {  # of a neighbour in astropy-healpix's order (south-west, then clockwise), along x and y of its face
    (-1, 0): 0, (-1, 1): 1, (0, 1): 2, (1, 1): 3, (1, 0): 4, (1, -1): 5, (0, -1): 6, (-1, -1): 7,
}  # fmt: skip


def healpy() -> Any:
    """The package of spherical harmonics. Raises GsnnError if it is not installed."""
    try:
        import healpy
    except ImportError:
        raise GsnnError(
            "spherical harmonics need healpy (its licence is the GPL): pip install 'gsnn[sphere]'"
        ) from None
    return healpy


@lru_cache(maxsize=8)
def _order(nside: int) -> tuple[Int64[np.ndarray, " pixel"], Int64[np.ndarray, " pixel"]]:
    """The ring index of each nested pixel, and the nested index of each ring pixel."""
    from astropy_healpix import HEALPix

    ring = np.asarray(HEALPix(nside, order="nested").nested_to_ring(np.arange(12 * nside**2)))
    return ring, np.argsort(ring)


def nested(ring: Shaped[np.ndarray, "*map pixel"]) -> Shaped[np.ndarray, "*map pixel"]:
    """A map in RING order in NESTED order."""
    return ring[..., _order(nside_of(ring.shape[-1]))[0]]


def ring(nested: Shaped[np.ndarray, "*map pixel"]) -> Shaped[np.ndarray, "*map pixel"]:
    """A map in NESTED order in RING order."""
    return nested[..., _order(nside_of(nested.shape[-1]))[1]]


@lru_cache(maxsize=8)
def pixel_window(nside: int, largest: int) -> Float[np.ndarray, " l"]:
    """What the mean over a pixel leaves of a multipole, l = 0 to ``largest``.

    The root of the mean of P_l(cos angle) over pairs of places in a pixel, and over pixels (Gorski et al. 2005, 5.1).

    Places are the middles of the 64 pixels three levels below, moved apart by what their own size leaves out; about 200
    pixels of a polar and of an equatorial face stand for all.
    """
    from astropy_healpix import healpix_to_xyz
    from scipy.special import eval_legendre

    chosen = np.unique(np.linspace(0, nside**2 - 1, min(96, nside**2)).astype(int)) + np.array([[0], [4 * nside**2]])
    inner = chosen.ravel()[:, None] * 64 + np.arange(64)
    place = np.stack(healpix_to_xyz(inner, 8 * nside, order="nested"), -1)
    apart = np.linalg.norm(place[:, :, None] - place[:, None], axis=-1) * np.sqrt(64 / 63)
    weight = np.repeat([2 / 3, 1 / 3], chosen.shape[1])[:, None, None]  # eight polar faces, four on the equator
    share, edges = np.histogram(apart, 1000, weights=np.broadcast_to(weight, apart.shape))
    cosine = 1 - ((edges[1:] + edges[:-1]) / 2) ** 2 / 2
    mean = [np.average(eval_legendre(multipole, cosine), weights=share) for multipole in range(largest + 1)]
    return np.sqrt(np.maximum(mean, 0))


def latitudes(nside: int) -> Float[np.ndarray, " pixel"]:
    """Degrees from the equator of the map's frame, of the middle of each nested pixel."""
    from astropy_healpix import healpix_to_lonlat

    return healpix_to_lonlat(np.arange(12 * nside**2), nside, order="nested")[1].to_value("deg")


@lru_cache(maxsize=16)
def neighbours(nside: int) -> Int64[np.ndarray, "direction pixel"]:
    """The nested pixels around each, in the order of ``STEPS``; -1 where there is none, as at 24 pixels."""
    from astropy_healpix import neighbours as around

    with np.errstate(invalid="ignore"):  # of which it warns where there is none
        return np.asarray(around(np.arange(12 * nside**2), nside, order="nested")).astype(np.int64)


@lru_cache(maxsize=16)
def faces(nside: int) -> Int64[np.ndarray, "face y x"]:
    """The nested pixel at each place of each face: its bits are those of x and y in turn."""
    place, level = np.arange(nside), nside.bit_length() - 1
    spread = sum(((place >> bit) & 1) << (2 * bit) for bit in range(level)) if level else np.zeros(1, np.int64)
    within = spread[None, :] + 2 * spread[:, None]
    return np.arange(FACES)[:, None, None] * nside**2 + within


@lru_cache(maxsize=16)
def bordered(nside: int) -> Int64[np.ndarray, "face y2 x2"]:
    """The same with the pixels of the faces around it as a border of one. Where three faces meet and no pixel lies
    diagonally across, the pixel at the corner stands in its own border."""
    inner, around = faces(nside), neighbours(nside)
    place = np.clip(np.arange(-1, nside + 1), 0, nside - 1)
    step = np.arange(-1, nside + 1) - place
    out = np.empty((FACES, nside + 2, nside + 2), np.int64)
    for i, (y, dy) in enumerate(zip(place, step)):
        for j, (x, dx) in enumerate(zip(place, step)):
            own = inner[:, y, x]
            found = around[STEPS[dx, dy], own] if dx or dy else own
            out[:, i, j] = np.where(found < 0, own, found)
    return out


def spectrum(
    maps: Float[np.ndarray, "object pixel"], largest: int, known: Bool[np.ndarray, "object pixel"] | None = None
) -> Float[np.ndarray, "object l"]:
    """C_l of nested maps for l = 0 to ``largest``: of what is ``known`` alone a pseudo-spectrum, over the share of the
    sky (Hivon et al. 2002, astro-ph/0105302). The mean over the known pixels is taken away first.

    Raises GsnnError without healpy.
    """
    code = healpy()
    known = np.isfinite(maps) if known is None else known & np.isfinite(maps)
    share = known.mean(1)
    mean = np.where(known, maps, 0).sum(1) / np.maximum(known.sum(1), 1)
    filled = ring(np.where(known, maps - mean[:, None], 0.0).astype(np.float64))
    found = [code.anafast(one, lmax=largest, iter=1, use_pixel_weights=False) for one in filled]
    return np.stack(found) / np.maximum(share, 1e-9)[:, None] if found else np.zeros((0, largest + 1))
