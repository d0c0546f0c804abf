"""Which objects a run's report shows: at random, the surest, the worst, the explained."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from .curves import curves_of, small
from .images import data_uri, overlay
from .objects import Judged
from .words import plain, slug

GROUPS = (("random", "Drawn at random", 12), ("best", "The surest right answers", 6))


def galleries(judged: Judged, side: int) -> dict[str, list[dict[str, Any]]]:
    """The galleries of each section, with pictures at most ``side`` pixels wide."""
    return {
        "examples": _examples(judged, side),
        "failures": _worst(judged, side),
        "explanations": _explained(judged, side),
    }


def cards_of(judged: Judged, group: str, most: int, side: int) -> list[dict[str, Any]]:
    """The example objects of a group."""
    examples = judged.parts.examples
    if "ids" not in examples or not ({"images", "curve_offsets"} & examples.keys()):
        return []
    groups = examples.get("group", np.full(len(examples["ids"]), "random"))
    chosen = [i for i in range(len(examples["ids"])) if str(groups[i]) == group][:most]
    pictures = examples["images"] if "images" in examples else [None] * len(examples["ids"])
    return [judged.card(str(examples["ids"][i]), pictures[i], side) for i in chosen]


def gallery(name: str, title: str, cards: list[dict[str, Any]], lead: str = "") -> dict[str, Any]:
    """Cards as the template shows them, with their table."""
    columns = {key: [c.get(key) or "" for c in cards] for key in ("id", "prediction", "interval", "truth", "command")}
    data = {key: values for key, values in columns.items() if any(values)}
    return {"name": name, "title": title, "lead": lead, "objects": cards, "data": data}


def _examples(judged: Judged, side: int) -> list[dict[str, Any]]:
    shown = [(group, title, cards_of(judged, group, most, side)) for group, title, most in GROUPS]
    out = [gallery(f"examples-{group}", title, cards) for group, title, cards in shown if cards]
    if not out and judged.parts.classifies and judged.ids:
        some = np.unique(np.linspace(0, len(judged.ids) - 1, min(6, len(judged.ids))).astype(int))
        cards = [judged.card(judged.ids[i]) | {"covariates": judged.covariates(i)} for i in some]
        out.append(gallery("examples", "Spread evenly over the test set", cards))
    return out


def _worst(judged: Judged, side: int) -> list[dict[str, Any]]:
    if not judged.has_truth:
        return []
    pictures = _by_id(judged.parts.examples)
    cards = []
    for i in judged.worst():
        identity = judged.ids[i]
        cards.append(judged.card(identity, pictures.get(identity), side) | {"covariates": judged.covariates(i)})
    order = "The least probable truth first" if judged.parts.classifies else "The largest errors first"
    return [gallery("worst", "The worst mistakes", cards, f"{order}; the command shows the object.")] if cards else []


def _explained(judged: Judged, side: int) -> list[dict[str, Any]]:
    out = []
    for method, arrays in judged.parts.explanations.items():
        if {"ids", "maps", "images"} <= arrays.keys():
            cards = []
            for identity, image, map_ in list(zip(arrays["ids"], arrays["images"], arrays["maps"]))[:8]:
                card = judged.card(str(identity), image, side)
                cards.append(card | {"overlay": data_uri(overlay(image, map_), side), "bars": [], "spark": ""})
            out.append(
                gallery(
                    f"explain-{slug(method)}", plain(method), cards, "Orange speaks for the answer, blue against it."
                )
            )
        elif {"ids", "steps", "curve_offsets"} <= arrays.keys():
            cards = []
            for (identity, curve), weight in list(zip(curves_of(arrays).items(), arrays["steps"]))[:8]:
                cards.append(judged.card(identity) | {"curve": small(curve, weight), "bars": [], "spark": ""})
            lead = "Each point as large as it matters to the answer."
            out.append(gallery(f"explain-{slug(method)}", plain(method), cards, lead))
    return out


def _by_id(examples: dict[str, ndarray]) -> dict[str, ndarray]:
    return {str(i): image for i, image in zip(examples.get("ids", []), examples.get("images", []))}
