"""Figures of maps: several side by side on one scale, with colour bar, mask and marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.colors import Normalize, TwoSlopeNorm
from numpy import ndarray

from .theme import LINE, SOFT, Drawing, figure, style

SHADES = "magma"
DIVERGING = "RdBu_r"
CROWD = 4  # panels in a row


def limits(panels: Sequence[Float[ndarray, "y x"]], share: float = 0.003) -> tuple[float, float]:
    """What a colour bar spans so that of all pixels ``share`` at either end is beyond it; NaN is no value."""
    values = np.concatenate([panel[np.isfinite(panel)].ravel() for panel in panels])
    if not len(values):
        return 0.0, 1.0
    low, high = np.quantile(values, [share, 1 - share])
    return float(low), float(high) if high > low else float(low) + 1.0


def maps(
    panels: Mapping[str, Float[ndarray, "y x"]],
    *,
    inside: Bool[ndarray, "y x"] | None = None,
    unit: str = "",
    label: str = "",
    extent: tuple[float, float, float, float] | None = None,
    axes: tuple[str, str] = ("", ""),
    spans: Sequence[tuple[float, float]] | None = None,
    marks: Float[ndarray, "mark 2"] | None = None,
    diverging: bool = False,
    columns: int = CROWD,
) -> Drawing:
    """Maps of one size side by side, row 0 at the bottom, in one colour scale with its bar.

    Pixels that are not ``inside``, or not finite, are left empty. ``extent`` is (left, right, bottom, top) in the units
    of ``axes``; left may be greater than right, as right ascension is drawn. ``spans`` gives each panel a scale and bar
    of its own. ``marks`` are rings at (x, y). With ``diverging`` white is zero.
    """
    names = list(panels)
    shown = [np.where(inside, panel, np.nan) if inside is not None else np.asarray(panel) for panel in panels.values()]
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    spans = list(spans) if spans is not None else [limits(shown)] * len(names)
    shared = all(span == spans[0] for span in spans)
    with style():
        wide = 2.3 * columns + 0.7 if shared else 3.0 * columns
        f = figure(wide + 0.35 * bool(axes[1]), 2.45 * rows + 0.35 * bool(axes[0]))
        grid = f.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        drawn = None
        for i, ax in enumerate(grid.flat):
            if i >= len(names):
                ax.set_axis_off()
                continue
            low, high = spans[i]
            norm = TwoSlopeNorm(0, min(low, -1e-12), max(high, 1e-12)) if diverging else Normalize(low, high)
            shades = DIVERGING if diverging else SHADES
            drawn = ax.imshow(
                shown[i], origin="lower", extent=extent, norm=norm, cmap=shades, interpolation="nearest", aspect="equal"
            )
            ax.set_title(names[i])
            ax.set_facecolor(LINE)
            ax.spines[:].set_visible(False)
            ax.tick_params(length=2)
            if extent is None:
                ax.set(xticks=[], yticks=[])
            if marks is not None:
                ax.scatter(*np.asarray(marks).T, s=26, facecolors="none", edgecolors="#35e0c4", linewidths=0.8)
            ax.set_xlabel(axes[0] if i // columns == rows - 1 else "")
            ax.set_ylabel(axes[1] if i % columns == 0 else "")
            if not shared:
                _bar(f, drawn, ax, label, unit)
        if shared and drawn is not None:
            _bar(f, drawn, list(grid.flat), label, unit)
    numbers = [panel[np.isfinite(panel)] for panel in shown]
    data = {
        "map": names,
        "mean": [float(n.mean()) if len(n) else None for n in numbers],
        "deviation": [float(n.std()) if len(n) else None for n in numbers],
        "least": [float(n.min()) if len(n) else None for n in numbers],
        "greatest": [float(n.max()) if len(n) else None for n in numbers],
    }
    return Drawing(f, data, f"Maps of {', '.join(names)}.")


def _bar(f: object, drawn: object, axes: object, label: str, unit: str) -> None:
    bar = f.colorbar(drawn, ax=axes, shrink=0.85, pad=0.015, aspect=28)  # type: ignore[attr-defined]
    bar.set_label(f"{label} [{unit}]" if unit else label)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, color=SOFT)
