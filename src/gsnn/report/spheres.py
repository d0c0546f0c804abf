"""Maps of the whole sky as pictures and figures, in Mollweide's projection."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int64, UInt8
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize
from numpy import ndarray

from ..data.schema import nside_of
from .clouds import SPACE
from .maps import SHADES, limits
from .theme import LINE, SOFT, Drawing, figure, style

HEIGHT = 180  # pixels of a picture; twice as wide
MASKED = "#5b6472"


@lru_cache(maxsize=8)
def projected(nside: int, height: int) -> Int64[ndarray, "y x"]:
    """The nested pixel at each place of a picture of the whole sky, longitude growing to the left from 180 degrees;
    -1 beside the sky (Mollweide's projection, Snyder 1987, USGS Prof. Paper 1395, p. 249)."""
    from astropy.units import deg
    from astropy_healpix import HEALPix

    up = 1 - 2 * (np.arange(height) + 0.5) / height
    across = 2 * (np.arange(2 * height) + 0.5) / (2 * height) - 1
    angle = np.arcsin(up)[:, None]
    with np.errstate(invalid="ignore"):
        latitude = np.arcsin((2 * angle + np.sin(2 * angle)) / np.pi)
        longitude = -np.pi * across[None] / np.cos(angle)
    inside = abs(longitude) <= np.pi
    where = np.degrees(np.where(inside, longitude, 0)) % 360 * deg, np.degrees(latitude + 0 * longitude) * deg
    return np.where(inside, HEALPix(nside, order="nested").lonlat_to_healpix(*where), -1)


def pictures(skies: Float[ndarray, "object channel pixel"], height: int = HEIGHT) -> UInt8[ndarray, "object y x 3"]:
    """The first channel of each map in a scale of its own; grey where it is masked."""
    place = projected(nside_of(skies.shape[-1]), height)
    made = np.zeros((len(skies), *place.shape, 3), np.uint8)
    for i, one in enumerate(np.asarray(skies)[:, 0]):
        shown = Normalize(*limits([one]), clip=True)(np.where(np.isfinite(one), one, 0))
        colours = colormaps[SHADES](np.asarray(shown))[:, :3]
        colours[~np.isfinite(one)] = _rgb(MASKED)
        made[i] = np.round(255 * np.where(place[..., None] < 0, _rgb(SPACE), colours[place]))
    return made


def _rgb(colour: str) -> Float[ndarray, " 3"]:
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def skies(
    panels: Mapping[str, Float[ndarray, " pixel"]], *, label: str = "", columns: int = 2, log: bool = False
) -> Drawing:
    """Nested maps of the sky beside each other in one colour scale with its bar; grey where they are masked.

    ``log``: the scale is logarithmic, for 1 + overdensity.
    """
    names, columns = list(panels), min(columns, len(panels))
    rows = -(-len(names) // columns)
    low, high = limits(list(panels.values()))
    with style():
        f = figure(3.3 * columns, 1.95 * rows + 0.5)
        axes = f.subplots(rows, columns, squeeze=False)
        drawn = None
        for ax in axes.flat:
            ax.set_axis_off()
        for ax, (name, sky) in zip(axes.flat, panels.items()):
            place = projected(nside_of(len(sky)), 400)
            shown = np.ma.masked_where((place < 0) | ~np.isfinite(sky[place]), sky[place])
            masked = np.ma.masked_where((place < 0) | np.isfinite(sky[place]), np.zeros(place.shape))
            extent = (-2, 2, -1, 1)
            ax.imshow(masked, cmap="gray", vmin=-2, vmax=1, extent=extent, interpolation="nearest", alpha=0.5)
            norm = LogNorm(max(low, 1e-2), high) if log else Normalize(low, high)
            drawn = ax.imshow(shown, norm=norm, cmap=SHADES, extent=extent, interpolation="nearest")
            turn = np.linspace(0, 2 * np.pi, 300)
            ax.plot(2 * np.cos(turn), np.sin(turn), color=LINE, lw=0.8)
            ax.set(xlim=(-2.02, 2.02), ylim=(-1.02, 1.02), aspect="equal")
            ax.set_title(name, loc="center")
        bar = f.colorbar(drawn, ax=list(axes.flat), orientation="horizontal", shrink=0.5, aspect=36, pad=0.03)
        bar.set_label(label)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=2, color=SOFT)
        if log:
            steps = [one for one in (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10) if low <= one <= high]
            bar.set_ticks(steps, labels=[f"{one:g}" for one in steps])
            bar.minorticks_off()
    seen = [sky[np.isfinite(sky)] for sky in panels.values()]
    data = {"map": names, "mean": [float(s.mean()) for s in seen], "deviation": [float(s.std()) for s in seen]}
    return Drawing(f, data, f"The whole sky in Mollweide's projection: {', '.join(names)}.")
