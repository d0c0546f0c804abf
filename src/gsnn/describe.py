"""What is in a survey: a table for the terminal, and a page of distributions and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .data.survey import Survey
from .errors import GsnnError

_MOST = 50_000  # objects looked at for the statistics
_PICTURES = 48


def describe(survey: Survey, rows: np.ndarray, page: Path | None = None) -> str:
    """A line a column: kind, unit, shape, range; with ``page`` the same as a page of distributions and pictures."""
    if not len(rows):
        raise GsnnError("no object fulfils the condition; `gsnn survey SURVEY` without --where shows all")
    some = survey.view(rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST)).astype(int))])
    lines = [f"{survey.path}: {len(rows):,} of {len(survey):,} objects", ""]
    for column in survey.schema.columns:
        shape = "x".join(map(str, column.shape))
        values = some.take(np.arange(min(len(some), 512))) if column.shape else some
        about = _about(values.columns([column.name])[column.name], column.classes, column.kind)
        text = " ".join(filter(None, (column.kind, shape, ",".join(column.bands))))
        lines.append(f"{column.name:<28} {text:<20} {column.unit:<10} {about}")
    if page is None:
        return "\n".join(lines)
    from .report.page import save
    from .report.survey import survey_page

    counts = {"objects": len(rows), "quarantined": len(survey.quarantined())}
    plain = [c.name for c in survey.schema.columns if not c.shape]
    pictures = _thumbnails(survey, some)
    save(page, survey_page(survey.schema, some.columns(plain), pictures, counts, title=Path(survey.path).name))
    return "\n".join([*lines, "", f"page: {page}"])


def _about(values: np.ndarray, classes: tuple[str, ...], kind: str) -> str:
    """The values of a column in a few words."""
    if classes:
        return ", ".join(f"{name} {(values == i).sum():,}" for i, name in enumerate(classes))
    if kind in ("id", "text"):
        return f"{values[0]} ..." if len(values) else ""
    finite = values[np.isfinite(values)].astype(float)
    if not finite.size:
        return "nothing finite"
    low, middle, high = np.percentile(finite, [0, 50, 100])
    missing = 1 - finite.size / values.size
    return f"{low:.4g} to {high:.4g}, median {middle:.4g}" + (f", {missing:.1%} missing" if missing else "")


def _thumbnails(survey: Survey, some) -> dict[str, np.ndarray] | None:
    from .report.images import thumbnail

    image = next((c for c in survey.schema.columns if c.kind == "image" and len(c.shape) == 3), None)
    if image is None:
        return None
    view = some.take(np.unique(np.linspace(0, len(some) - 1, min(len(some), _PICTURES)).astype(int)))
    columns = view.columns(["id", image.name])
    return {str(i): thumbnail(picture, image.bands) for i, picture in zip(columns["id"], columns[image.name])}
