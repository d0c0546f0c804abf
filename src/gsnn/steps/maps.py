"""A few maps of a run that has maps to tell: what the report draws."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..data.survey import View
from ..evaluation.distributions import Distribution
from ..evaluation.fields import Fields, slabs
from ..evaluation.generated import FieldDraws
from ..evaluation.maps import Maps
from .data import Ground

SHOWN = 2  # test objects


def maps_file(
    path: Path,
    one: Ground,
    view: View,
    answers: Mapping[str, Mapping[str, Distribution]],
    observed: Mapping[str, Mapping[str, Distribution]],
) -> None:
    """maps.npz: what each method says of what was observed and of a few test objects; nothing where it is no map.

    Arrays [object, y, x] of the first channel: ``truth`` (NaN where unknown or not told), and for each method
    ``map.<method>``, ``low.<method>``, ``high.<method>``. Of fields there are slabs, and ``label`` says of what; of
    draws there are two of each method.
    """
    name = one.target
    if isinstance(answers["network"][name], Fields):
        _slabs_file(path, view, {who: found[name] for who, found in answers.items()})
    if isinstance(answers["network"][name], FieldDraws):
        _draws_file(path, view, {who: found[name] for who, found in answers.items()})
    if not isinstance(answers["network"][name], Maps):
        return
    some = np.linspace(0, len(view) - 1, min(SHOWN, len(view))).astype(int)
    ids = np.asarray(view.columns(["id"])["id"]).astype(str)[some]
    truth = np.asarray(view.take(some).columns([name])[name])[:, 0]
    arrays: dict[str, np.ndarray] = {}
    for who, found in answers.items():
        told = found[name].take(some)
        if who in observed:
            told = Maps.join([observed[who][name], told])
        for part in ("value", "low", "high"):
            values = getattr(told, part)
            if values is not None:
                key = f"{'map' if part == 'value' else part}.{who}"
                arrays[key] = np.where(told.inside, values, np.float32(np.nan))[:, 0]
    if observed:
        ids, truth = np.r_[["observed"], ids], np.concatenate([np.full((1, *truth.shape[1:]), np.nan), truth])
    inside = np.isfinite(arrays["map.network"])
    np.savez_compressed(path, id=ids, truth=np.where(inside, truth, np.nan).astype(np.float32), **arrays)


def _slabs_file(path: Path, view: View, answers: Mapping[str, Distribution]) -> None:
    fields = {who: found for who, found in answers.items() if isinstance(found, Fields)}
    column = fields["network"].column
    place = np.linspace(0, len(view) - 1, min(SHOWN, len(view))).astype(int)
    some = view.take(place)
    truth = Fields(some.columns([column.name])[column.name], column)
    ids = np.asarray(some.columns(["id"])["id"]).astype(str)
    arrays = {f"map.{who}": slabs(found.take(place)) for who, found in fields.items()}
    label = "ln(0.1 + density / mean)" if column.moves else column.name
    np.savez_compressed(path, id=ids, label=np.array(label), truth=slabs(truth), **arrays)


def _draws_file(path: Path, view: View, answers: Mapping[str, Distribution]) -> None:
    drawn = {who: found for who, found in answers.items() if isinstance(found, FieldDraws)}
    column = drawn["network"].column
    place = np.linspace(0, len(view) - 1, min(SHOWN, len(view))).astype(int)
    some = view.take(place)
    arrays = {"truth": slabs(Fields(some.columns([column.name])[column.name], column))}
    for who, found in drawn.items():
        for draw in range(min(2, found.value.shape[1])):
            arrays[f"map.{who} {draw + 1}"] = slabs(Fields(found.value[place, draw], column))
    label, lowest = column.name, float(arrays["truth"].min())
    if lowest > 0:  # what spans decades is shown by its logarithm
        label, arrays = f"log10({label})", {k: np.log10(v.clip(min=lowest)) for k, v in arrays.items()}
    ids = np.asarray(some.columns(["id"])["id"]).astype(str)
    np.savez_compressed(path, id=ids, label=np.array(label), **arrays)
