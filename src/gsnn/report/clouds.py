"""Clouds of points as pictures: what a graph network sees, projected on the sky."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from ..data.points import Points
from ..data.schema import Column

SIDE = 224  # pixels
SPACE = "#10131c"


def pictures(points: Points, column: Column) -> UInt8[ndarray, "object y x 3"]:
    """Each cloud in a square of its own scale, or of the box's.

    The size of a point goes with its first feature. Its colour is its second feature, from blue (least) over white
    (the median of the cloud) to red, or with fewer features its depth: the third coordinate, from far to near.
    """
    made = np.zeros((len(points), SIDE, SIDE, 3), np.uint8)
    for i, (start, stop) in enumerate(zip(points.offsets[:-1], points.offsets[1:])):
        made[i] = _picture(points.position[start:stop], points.feature[start:stop], column)
    return made


def _picture(position: ndarray, feature: ndarray, column: Column) -> UInt8[ndarray, "y x 3"]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIDE / 100, SIDE / 100), dpi=100, facecolor=SPACE)
    canvas, axes = FigureCanvasAgg(figure), figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    if len(position):
        place = position[:, :2]
        low, high = (np.zeros(2), np.full(2, column.box)) if column.box else (place.min(0), place.max(0))
        middle, reach = (low + high) / 2, max(float((high - low).max()) / 2, 1e-9) * (1.0 if column.box else 1.18)
        axes.set_xlim(middle[0] - reach, middle[0] + reach)
        axes.set_ylim(middle[1] - reach, middle[1] + reach)
        crowd = float(np.clip(60 / len(position) ** 0.5, 2.5, 18))
        size = np.full(len(position), crowd)
        if feature.shape[1]:
            share = np.clip((feature[:, 0] - np.median(feature[:, 0])) / (feature[:, 0].std() + 1e-9), -2, 3)
            size = crowd * 1.9**share
        if feature.shape[1] > 1:
            value = feature[:, 1] - np.median(feature[:, 1])
            bound, colours = max(float(np.abs(value).max()), 1e-9), "RdYlBu_r"
            shown = {"c": value, "vmin": -bound, "vmax": bound}
        elif position.shape[1] > 2:
            colours, shown = "plasma", {"c": position[:, 2]}
        else:
            colours, shown = "plasma", {"c": np.full(len(position), 0.75), "vmin": 0, "vmax": 1}
        order = np.argsort(shown["c"] if feature.shape[1] < 2 else -size, kind="stable")
        shown["c"] = shown["c"][order]
        axes.scatter(*place[order].T, s=size[order], cmap=colours, linewidths=0, alpha=0.9, **shown)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
