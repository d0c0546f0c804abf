"""One page of pictures of a survey: thumbnails, distributions, the sky, columns and provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from ..data.schema import Schema
from . import figures as draw
from . import sky
from .curves import Curve, small
from .drawings import plot
from .galleries import gallery
from .images import data_uri
from .page import LARGEST, flat, render
from .words import title as titled

MOST = 12  # figures


def survey_page(
    schema: Schema,
    table: Mapping[str, ndarray],
    thumbnails: Mapping[str, UInt8[ndarray, "y x 3"]] | None = None,
    counts: Mapping[str, int] | None = None,
    *,
    curves: Mapping[str, Curve] | None = None,
    title: str = "Survey",
    findings: Iterable[Mapping[str, str]] = (),
) -> str:
    """The page as HTML.

    ``table`` holds columns of one length (all objects or a sample): scalars as float with NaN for missing, labels as
    class index (-1 unknown) or text, positions as ``ra`` and ``dec`` in degrees. ``thumbnails`` are pictures by id,
    ``curves`` light curves by id, ``counts`` the numbers told at the top (objects, quarantined, files), ``findings``
    those of the audit.
    """
    words = {c.name: _words(schema, c.name, table[c.name]) for c in schema.of_kind("label") if c.name in table}
    context = {
        "title": title,
        "facts": [(name.replace("_", " "), f"{n:,}") for name, n in (counts or {}).items()],
        "findings": list(findings),
        "figures": [*_of_curves(list((curves or {}).values())), *_figures(schema, table, words)],
        "columns": schema.columns,
        "provenance": [(key, flat(value)) for key, value in schema.provenance.items()],
    }
    for side, most in ((160, 48), (96, 48), (64, 36)):  # pictures shrink until the page fits
        cards = _cards(table, thumbnails or {}, curves or {}, words, side, most)
        pictures = gallery("pictures", f"{len(cards)} objects", cards) if cards else None
        html = render("survey.html", context | {"gallery": pictures})
        if len(html.encode()) <= LARGEST:
            break
    return html


def _cards(
    table: Mapping[str, ndarray],
    thumbnails: Mapping[str, ndarray],
    curves: Mapping[str, Curve],
    words: Mapping[str, list[str]],
    side: int,
    most: int,
) -> list[dict[str, Any]]:
    where = {str(identity): i for i, identity in enumerate(table.get("id", []))}
    cards = []
    for identity in list(thumbnails or curves)[:most]:
        says = ", ".join(values[where[identity]] for values in words.values()) if identity in where else ""
        card = {"id": identity, "prediction": says, "truth": "", "right": None, "bars": [], "spark": ""}
        if identity in curves:
            card["spark"] = small(curves[identity])
        if identity in thumbnails:
            image = thumbnails[identity]
            card |= {"picture": data_uri(image, side), "pixelated": max(image.shape[:2]) < 100}
        cards.append(card | {"alt": f"{identity} {says}".strip()})
    return cards


def _of_curves(curves: list[Curve]) -> list[dict[str, Any]]:
    """How many observations the objects that are shown have, in all and in each band."""
    if not curves:
        return []
    bands = curves[0].bands
    counts = np.array([len(curve.time) for curve in curves], float)
    drawing = draw.histogram(counts, "observations", "")
    out = [plot("observations", "Observations", "Of an object, among those that are shown.", drawing)]
    if len(bands) > 1:
        total = np.bincount(np.concatenate([curve.band for curve in curves]).astype(int), minlength=len(bands))
        drawing = draw.bars(list(bands), total[: len(bands)].tolist(), "observations")
        out.append(plot("bands", "Bands", "Observations in each band.", drawing))
    return out


def _figures(schema: Schema, table: Mapping[str, ndarray], words: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    out = []
    for name, values in words.items():
        found, n = np.unique([v for v in values if v], return_counts=True)
        if len(found):
            order = np.argsort(-n)[:24]
            drawing = draw.bars([str(found[i]) for i in order], n[order].tolist(), "objects")
            out.append(plot(f"label-{len(out)}", titled(name), "Objects of each class.", drawing))
    for column in schema.of_kind("scalar"):
        if column.name in table and len(out) < MOST:
            values = np.asarray(table[column.name], float)
            if np.isfinite(values).sum() > 1:
                drawing = draw.histogram(values, column.name, column.unit)
                out.append(plot(f"scalar-{len(out)}", titled(column.name), column.description, drawing))
    if {"ra", "dec"} <= table.keys():
        ra, dec = np.asarray(table["ra"], float), np.asarray(table["dec"], float)
        if (np.isfinite(ra) & np.isfinite(dec)).any():
            caption = "Objects in each cell; right ascension grows to the left."
            out.append(plot("sky", "On the sky", caption, sky.sky_map(ra, dec, None, "objects")))
    return out


def _words(schema: Schema, name: str, values: ndarray) -> list[str]:
    """Class names of an array of indices or of text; '' where unknown."""
    values, classes = np.asarray(values), schema[name].classes
    if values.dtype.kind in "iu" and classes:
        return [classes[v] if 0 <= v < len(classes) else "" for v in values]
    return ["" if v is None else str(v) for v in values]
