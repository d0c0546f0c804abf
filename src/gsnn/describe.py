"""What is in a survey: a table for the terminal, and a page of distributions and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .data.light_curves import LightCurves
from .data.points import Points
from .data.schema import UNEQUAL, Column
from .data.survey import Survey, View
from .errors import GsnnError

_MOST = 50_000  # objects looked at for the statistics
_PICTURES = 48
_CURVES = 2048  # light curves looked at


def describe(survey: Survey, rows: np.ndarray, page: Path | None = None) -> str:
    """A line a column: kind, unit, shape, range; with ``page`` the same as a page of distributions and pictures."""
    if not len(rows):
        raise GsnnError("no object fulfils the condition; `gsnn survey SURVEY` without --where shows all")
    some = survey.view(rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST)).astype(int))])
    lines = [f"{survey.path}: {len(rows):,} of {len(survey):,} objects", ""]
    for column in survey.schema.columns:
        shape = "x".join(map(str, column.shape))
        about = _about_column(some, column)
        text = " ".join(filter(None, (column.kind, shape, ",".join(column.bands))))
        lines.append(f"{column.name:<28} {text:<20} {column.unit:<10} {about}")
    if page is None:
        return "\n".join(lines)
    from .report.page import save
    from .report.survey import survey_page

    counts = {"objects": len(rows), "quarantined": len(survey.quarantined())}
    plain = [c.name for c in survey.schema.columns if not c.shape and c.kind not in UNEQUAL]
    shown = some.take(np.unique(np.linspace(0, len(some) - 1, min(len(some), _PICTURES)).astype(int)))
    given = {"thumbnails": _thumbnails(shown), "counts": counts, "curves": _curves(shown)}
    save(page, survey_page(survey.schema, some.columns(plain), **given, title=Path(survey.path).name))
    return "\n".join([*lines, "", f"page: {page}"])


def _about_column(some: View, column: Column) -> str:
    """The values of some objects in a few words."""
    most = _CURVES if column.kind in UNEQUAL else 512 if column.shape else len(some)
    values = some.take(np.arange(min(len(some), most))).columns([column.name])[column.name]
    if isinstance(values, LightCurves):
        return _about_curves(values, column)
    if isinstance(values, Points):
        each = values.lengths
        space = f"a periodic box of {column.box:g}" if column.box else "open space"
        return f"{each.min()} to {each.max()} points, median {np.median(each):g}, in {space}"
    return _about(values, column.classes, column.kind)


def _about_curves(curves: LightCurves, column: Column) -> str:
    """How many observations an object has, when, and how they divide among the bands."""
    lengths = curves.lengths
    if not len(curves.time):
        return "no observation"
    share = np.bincount(curves.band, minlength=len(column.bands))[: len(column.bands)] / len(curves.band)
    bands = ", ".join(f"{name} {part:.0%}" for name, part in list(zip(column.bands, share))[:8])
    first, last = curves.time.min(), curves.time.max()
    when = f"{first:.6g} to {last:.6g}" + (f" {column.time_unit}" if column.time_unit else "")
    return f"{lengths.min()} to {lengths.max()} observations, median {np.median(lengths):g}; {bands}; {when}"


def _about(values: np.ndarray, classes: tuple[str, ...], kind: str) -> str:
    """The values of a column in a few words."""
    if classes:
        return ", ".join(f"{name} {(values == i).sum():,}" for i, name in enumerate(classes))
    if kind in ("id", "text"):
        first = next((value for value in values if value), None)
        return f"{first} ..." if first else "all empty"
    finite = values[np.isfinite(values)].astype(float)
    if not finite.size:
        return "nothing finite"
    low, middle, high = np.percentile(finite, [0, 50, 100])
    missing = 1 - finite.size / values.size
    return f"{low:.4g} to {high:.4g}, median {middle:.4g}" + (f", {missing:.1%} missing" if missing else "")


def _thumbnails(view: View) -> dict[str, np.ndarray] | None:
    from .report.images import thumbnail

    if clouds := view.schema.of_kind("graph"):
        from .report.clouds import pictures

        columns = view.columns(["id", clouds[0].name])
        return {str(i): one for i, one in zip(columns["id"], pictures(columns[clouds[0].name], clouds[0]))}
    if skies := view.schema.of_kind("sphere"):
        from .report import spheres

        columns = view.columns(["id", skies[0].name])
        return {str(i): one for i, one in zip(columns["id"], spheres.pictures(columns[skies[0].name]))}
    image = next((c for c in view.schema.columns if c.kind == "image" and len(c.shape) == 3), None)
    if image is None:
        return None
    columns = view.columns(["id", image.name])
    return {str(i): thumbnail(picture, image.bands) for i, picture in zip(columns["id"], columns[image.name])}


def _curves(view: View) -> dict[str, Any] | None:
    """The light curves to draw, by id; their times begin at 0."""
    from .report.curves import Curve

    column = next(iter(view.schema.of_kind("light_curve")), None)
    if column is None:
        return None
    columns = view.columns(["id", column.name])
    about = (column.bands, column.unit, column.time_unit)
    return {
        str(identity): Curve(one.time - one.time[:1].sum(), one.flux, one.flux_error, one.band, *about)
        for identity, one in zip(columns["id"], columns[column.name])
    }
