"""Figures of values on the sky and along redshift: sky map, predicted against true value, example p(z)."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy import ndarray

from .figures import _list
from .theme import INK, NETWORK, OTHERS, PAPER, SOFT, Drawing, figure, style
from .words import number


def sky_map(
    ra: Float[ndarray, " n"], dec: Float[ndarray, " n"], value: Float[ndarray, " n"] | None, name: str, unit: str = ""
) -> Drawing:
    """The mean of ``value`` (None: the number of objects) in cells of the sky, right ascension growing to the left.

    ``ra`` and ``dec`` are in degrees. The map is centred on the circular mean of the right ascensions, so that a field
    across 0h stays whole; a wide one is drawn in Mollweide's projection. Cells are HEALPix pixels (Gorski et al. 2005)
    of about twenty objects each.
    """
    from astropy.coordinates import Latitude, Longitude
    from astropy.units import deg
    from astropy_healpix import HEALPix

    count, value = value is None, np.ones(len(ra)) if value is None else value
    good = np.isfinite(ra) & np.isfinite(dec) & np.isfinite(value)
    ra, dec, value = np.asarray(ra, float)[good] % 360, np.asarray(dec, float)[good], np.asarray(value, float)[good]
    if not len(ra):
        raise ValueError("no object has a position and a value")
    centre = float(np.degrees(np.angle(np.exp(1j * np.radians(ra)).mean()))) % 360
    x = (ra - centre + 180) % 360 - 180
    narrow = np.cos(np.radians(np.median(dec)))
    wide = np.ptp(x) * narrow > 60 or np.ptp(dec) > 50
    if wide:
        centre = round(centre / 60) * 60 % 360
        x = (ra - centre + 180) % 360 - 180
        bounds = (-180.0, 180.0, -90.0, 90.0)
    else:
        pad = 0.06 * max(np.ptp(x) * narrow, np.ptp(dec), 0.02)
        bounds = (x.min() - pad / narrow, x.max() + pad / narrow, dec.min() - pad, dec.max() + pad)

    area = 41253.0 if wide else max(np.ptp(x) * narrow * np.ptp(dec), 1e-6)
    cells = np.clip(len(ra) / 20, 12, 1500)
    nside = int(2 ** np.clip(np.round(np.log2(np.sqrt(41253.0 / (12 * area / cells)))), 0, 14))
    grid = HEALPix(nside, order="nested")

    def pixel(lon: ndarray, lat: ndarray) -> ndarray:
        return grid.lonlat_to_healpix(Longitude(lon * deg), Latitude(np.clip(lat, -90, 90) * deg))

    cell, where = np.unique(pixel(ra, dec), return_inverse=True)
    n = np.bincount(where)
    mean = n.astype(float) if count else np.bincount(where, value) / n
    across, up = np.meshgrid(np.linspace(*bounds[:2], 361), np.linspace(*bounds[2:], 241 if not wide else 181))
    mid = [(a[:-1, :-1] + a[1:, 1:]) / 2 for a in (across, up)]
    at = pixel((mid[0] + centre) % 360, mid[1])
    found = np.searchsorted(cell, at).clip(0, len(cell) - 1)
    shown = np.where(cell[found] == at, mean[found], np.nan)

    with style():
        ratio = np.ptp(bounds[2:]) / (np.ptp(bounds[:2]) * narrow)
        f = figure(4.4, 2.9 if wide else 0.7 + 3.0 * np.clip(ratio, 0.3, 1.2))
        ax = f.add_subplot(projection="mollweide") if wide else f.add_subplot()
        scale = np.pi / 180 if wide else 1.0
        limits = np.percentile(mean, [2, 98]) if len(mean) > 20 else (mean.min(), mean.max())
        mesh = ax.pcolormesh(
            -across * scale, up * scale, shown, cmap="cividis", rasterized=True, vmin=limits[0], vmax=limits[1]
        )
        if wide:
            ax.grid(color=SOFT, alpha=0.35, lw=0.5)
            ax.set_xticks(
                np.radians([-120, -60, 0, 60, 120]), [f"{(centre - v) % 360:.0f}°" for v in (-120, -60, 0, 60, 120)]
            )
            ax.set_yticks(np.radians([-60, -30, 0, 30, 60]), ["−60°", "−30°", "0°", "30°", "60°"])
            for text in ax.get_xticklabels():
                text.set(color=INK, fontsize=7.5, bbox={"fc": PAPER, "ec": "none", "alpha": 0.65, "pad": 1})
            ax.spines["geo"].set(edgecolor=SOFT, linewidth=0.7)
        else:
            ax.set(xlabel="right ascension", ylabel="declination", xlim=(-bounds[1], -bounds[0]), ylim=bounds[2:])
            if 0.3 < ratio < 1.2:
                ax.set_aspect(1 / narrow)
            ticks = MaxNLocator(5, steps=[1, 2, 3, 5, 10]).tick_values(centre + bounds[0], centre + bounds[1])
            ticks = [t for t in ticks if bounds[0] <= t - centre <= bounds[1]]
            ax.set_xticks([centre - t for t in ticks], [f"{t % 360:.6g}°" for t in ticks])
            ax.yaxis.set_major_formatter(lambda v, _: f"{v:.6g}°".replace("-", "−"))
        bar = f.colorbar(mesh, ax=ax, orientation="horizontal" if wide else "vertical", shrink=0.7, aspect=28, pad=0.03)
        bar.set_label(_axis("", name, "" if unit == "fraction" else unit))
        bar.outline.set_visible(False)
        bar.locator = MaxNLocator(4)
        if unit == "fraction":
            bar.formatter = PercentFormatter(1)
    lon, lat = grid.healpix_to_lonlat(cell)
    data = {"ra_deg": _list(lon.deg), "dec_deg": _list(lat.deg), "objects": n.tolist()} | (
        {} if count else {name: _list(mean)}
    )
    alt = (
        f"Map of {name} over the sky in {len(cell)} cells (HEALPix nside {nside}), centred on right ascension "
        f"{centre:.0f}°; cells range from {number(float(mean.min()))} to {number(float(mean.max()))}."
    )
    return Drawing(f, data, alt)


def truth_and_prediction(
    truth: Float[ndarray, " n"],
    prediction: Float[ndarray, " n"],
    name: str = "redshift",
    unit: str = "",
    redshift: bool = True,
) -> Drawing:
    """Density of predicted against true values with the scatter's lines and, below, the residuals.

    For redshifts the residual is dz / (1 + z), the lines are +- sigma_NMAD = 1.4826 median|dz/(1+z) - median| and the
    outlier limit 0.15 (Ilbert et al. 2006, A&A 457, 841); for other values the residual is the plain difference.
    """
    good = np.isfinite(truth) & np.isfinite(prediction)
    truth, prediction = np.asarray(truth, float)[good], np.asarray(prediction, float)[good]
    stretch = 1 + truth if redshift else np.ones_like(truth)
    residual = (prediction - truth) / stretch
    middle = float(np.median(residual)) if len(residual) else 0.0
    nmad = 1.4826 * float(np.median(abs(residual - middle))) if len(residual) else 0.0
    limit = 0.15 if redshift else 5 * nmad
    outliers = float((abs(residual) > limit).mean()) if len(residual) and limit else 0.0
    low, high = np.percentile(np.r_[truth, prediction], [0.1, 99.9]) if len(truth) else (0, 1)
    low, high = (max(0.0, low - 0.03 * (high - low)) if redshift else low), high + 0.03 * (high - low)
    tag = "Δz / (1 + z)" if redshift else "residual"
    with style():
        f = figure(4.4, 4.9)
        ax, below = f.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        _density(ax, truth, prediction, (low, high, low, high))
        line = np.linspace(low, high, 3)
        wide = 1 + line if redshift else np.ones(3)
        ax.plot(line, line, color=INK, lw=0.8)
        for sign in (-1, 1):
            ax.plot(
                line,
                line + middle * wide + sign * nmad * wide,
                color=OTHERS[0],
                lw=1.1,
                ls="--",
                label="± σ NMAD" if sign > 0 else None,
            )
            ax.plot(
                line,
                line + sign * limit * wide,
                color=SOFT,
                lw=0.9,
                ls=(0, (1, 1.5)),
                label="outlier limit" if sign > 0 else None,
            )
        ax.set(ylabel=_axis("predicted", name, unit), xlim=(low, high), ylim=(low, high))
        ax.legend(loc="upper left")
        reach = max(4 * nmad, min(limit * 1.4, 12 * nmad), 1e-9)
        _density(below, truth, residual, (low, high, -reach, reach), 6)
        below.axhline(0, color=INK, lw=0.8)
        for sign in (-1, 1):
            below.axhline(middle + sign * nmad, color=OTHERS[0], lw=1, ls="--")
        below.set(xlabel=_axis("true", name, unit), ylabel=tag, ylim=(-reach, reach))
        f.align_ylabels()
    alt = (
        f"Predicted against true {name} of {len(truth):,} objects: bias {number(middle)}, "
        f"scatter (NMAD) {number(nmad)}, {100 * outliers:.1f}% outliers beyond {number(limit)} in {tag}."
    )
    return Drawing(f, {"truth": _list(truth[:5000]), "prediction": _list(prediction[:5000])}, alt)


def density_from_quantiles(
    level: Float[ndarray, " q"], quantile: Float[ndarray, " q"], points: int = 160
) -> tuple[ndarray, ndarray]:
    """A density from quantiles, between the first and the last of them.

    The quantiles are a monotone cubic function (Fritsch & Carlson 1980) of the normal score u of their level, so that a
    Gaussian is exact; then p(x) = phi(u) du/dx.
    """
    from scipy.interpolate import PchipInterpolator
    from scipy.special import ndtri

    inside = (level > 0) & (level < 1)
    score, x = ndtri(level[inside]), np.maximum.accumulate(quantile[inside])
    curve = PchipInterpolator(score, x)
    u = np.linspace(score[0], score[-1], points)
    slope = np.maximum(curve(u, 1), 1e-3 * (np.ptp(x) + 1e-12))
    return curve(u), np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi) / slope


def example_densities(
    ids: list[str],
    level: Float[ndarray, " q"],
    quantiles: Float[ndarray, "m q"],
    truth: Float[ndarray, " m"],
    name: str,
    unit: str = "",
) -> Drawing:
    """The predicted density of some objects with the truth as a line: small panels, two a row."""
    m = len(ids)
    data: dict[str, list[Any]] = {"id": [], name: [], "density": []}
    with style():
        f = figure(4.4, 0.5 + 1.02 * -(-m // 2))
        axes = f.subplots(-(-m // 2), 2, squeeze=False).ravel()
        for ax in axes[m:]:
            ax.set_visible(False)
        for i, ax in enumerate(axes[:m]):
            x, density = density_from_quantiles(level, quantiles[i])
            ax.fill_between(x, density, color=NETWORK, alpha=0.25, lw=0)
            ax.plot(x, density, color=NETWORK, lw=1.3)
            if np.isfinite(truth[i]):
                ax.axvline(truth[i], color=OTHERS[0], lw=1.4, ls="--")
            ax.set_yticks([])
            ax.set_ylim(bottom=0)
            ax.spines["left"].set_visible(False)
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.set_title(str(ids[i])[:22], fontsize=7.5, color=SOFT, pad=2)
            data["id"] += [str(ids[i])] * len(x)
            data[name] += _list(x)
            data["density"] += _list(density)
        f.supxlabel(_axis("", name, unit) + " (dashed: the truth)", fontsize=9, color=SOFT)
    return Drawing(f, data, f"Predicted densities of {name} for {m} objects, with the true value as a dashed line.")


def _axis(what: str, name: str, unit: str) -> str:
    return f"{what} {name}".strip() + (f" [{unit}]" if unit else "")


def _density(ax: Any, x: ndarray, y: ndarray, extent: tuple[float, float, float, float], rows: int = 20) -> None:
    """Points while they are few, else hexagons whose opacity grows with the logarithm of the count."""
    if len(x) < 600:
        ax.plot(x, y, "o", ms=3, color=NETWORK, alpha=0.45, mew=0)
        return
    inside: Bool[ndarray, " n"] = (x >= extent[0]) & (x <= extent[1]) & (y >= extent[2]) & (y <= extent[3])
    hexes = ax.hexbin(x[inside], y[inside], gridsize=(44, rows), extent=extent, mincnt=1, linewidths=0)
    n = np.asarray(hexes.get_array(), float)
    hexes.set_array(None)
    hexes.set_facecolor(NETWORK)
    hexes.set_edgecolor(PAPER)
    hexes.set_alpha(0.12 + 0.88 * np.log1p(n) / np.log1p(n.max(initial=1)))
