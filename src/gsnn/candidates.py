"""Which columns of a table a network should see: what to leave out and why, what belongs together, and the colours."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from .check import Some
from .data.checks import betrays, disguised, giveaways
from .data.sample import look
from .data.schema import DENSE, UNEQUAL, Schema
from .data.split import SplitSettings, split
from .data.stores import is_survey
from .data.survey import Survey
from .errors import GsnnError

MOST = 20_000  # rows looked at
BANDS = "ugrizyjhk"  # by wavelength
_WORDS = ("valid", "invalid", "grid", "centroid", "solid", "fluid", "mid", "void", "ellipsoid", "asteroid", "sigmoid")
_BOOKS = (
    "row",
    "index",
    "plate",
    "mjd",
    "run",
    "rerun",
    "camcol",
    "field",
    "fiber",
    "tile",
    "quality",
)  # of observing, not of objects
_ERROR = re.compile(r"err|unc|sig|^e_|^d_?mag|var", re.I)


@dataclass
class Found:
    """What the columns of some data are good for.

    ``aside`` says why a scalar is no input; ``group`` is a column whose values several objects share, with how many
    there are; ``bands`` are families of magnitudes, each blue to red; ``missing`` are numbers that may mean "no value",
    with the columns that hold them.
    """

    schema: Schema
    rows: int  # looked at
    distinct: int  # values of the target
    whole: bool  # of which each is a whole number
    aside: dict[str, str] = field(default_factory=dict)
    group: tuple[str, int] | None = None
    bands: list[list[str]] = field(default_factory=list)
    missing: dict[float, list[str]] = field(default_factory=dict)


def find(data: str, target: str) -> Found:
    """Look at a survey, or at files: at most ``MOST`` rows, spread over them."""
    with _opened(data, target) as (schema, survey):
        rows = np.unique(np.linspace(0, len(survey) - 1, min(len(survey), MOST)).astype(int))
        plain = _plain(survey.schema)
        values = survey.take(rows, plain)
        y = values[target]
        known = y[y >= 0] if schema[target].kind == "label" else np.array([v for v in y.tolist() if v == v and v != ""])
        numbers = schema[target].kind == "scalar"
        found = Found(schema, len(rows), len(np.unique(known)), numbers and bool((known == np.floor(known)).all()))
        scalars = [c.name for c in schema.columns if c.kind == "scalar" and c.name != target]
        found.aside = {name: why for name in scalars if (why := _useless(name, values[name], rows))}
        left = [name for name in scalars if name not in found.aside]
        found.aside |= _leaks(
            survey, rows, left, target, schema[target].kind == "text" or (found.whole and found.distinct <= 20)
        )
        found.group = _shared({name: values[name] for name in plain if name != target and _is_id(name)})
        left = {name: values[name] for name in left if name not in found.aside}
        found.bands = magnitudes(left, {name: schema[name].unit for name in left})
        for name, x in left.items():
            for value in np.unique(disguised(x)).tolist():
                found.missing.setdefault(value, []).append(name)
        return found


def _plain(schema: Schema) -> list[str]:
    """The columns of one value an object."""
    return [c.name for c in schema.columns if c.kind not in (*DENSE, *UNEQUAL, "id")]


@contextmanager
def _opened(data: str, target: str) -> Iterator[tuple[Schema, Survey]]:
    """The schema of the data, and a survey of some of their rows without what is large."""
    if is_survey(data):
        survey = Survey.open(data)
        survey.schema.column(target)
        yield survey.schema, survey
        return
    from .data.readers import read

    source = read(data)
    schema = source.schema()
    schema.column(target)
    small = read(data, columns=_plain(schema)) if schema.of_kind(*DENSE, *UNEQUAL) else source
    with tempfile.TemporaryDirectory(prefix="gsnn-new-") as folder:
        yield schema, Survey.create(Path(folder) / "survey", Some(small, MOST))


def _useless(name: str, x: np.ndarray, rows: np.ndarray) -> str:
    """Why a column of numbers tells nothing of an object; '' if it may."""
    finite = np.isfinite(x)
    known = x[finite]
    values = np.unique(known)
    if not len(known):
        return "empty"
    if len(values) == 1:
        return f"always {values[0]:g}"
    if (known != np.floor(known)).any():
        return ""
    if len(known) >= 10 and np.ptp(known - rows[finite]) == 0:
        return "counts the rows"
    if _is_id(name):
        return "an identifier, by its name"
    if _is_book(name):
        return "of the observation and not of the object, by its name"
    # as many values as objects: of a quantity that many would coincide, or are so large that they must be names
    crowded = len(known) ** 2 / (2 * (np.ptp(known) + 1)) >= 5
    if len(known) >= 20 and len(values) >= 0.99 * len(known) and (crowded or np.abs(known).max() > 1e8):
        return "an identifier: a whole number of its own for nearly every object"
    return ""


def _is_id(name: str) -> bool:
    words = name.lower().split("_")
    named = any(re.fullmatch(r"ids?|idx|id\d+", word) for word in words)
    return not _is_book(name) and (named or any(word.endswith("id") and word not in _WORDS for word in words))


def _is_book(name: str) -> bool:
    return name.lower().replace("_", "") in _BOOKS


def _leaks(survey: Survey, rows: np.ndarray, names: list[str], target: str, classes: bool) -> dict[str, str]:
    """Inputs that the audit would refuse: those that give the target away."""
    why = {name: "derived from the verdict itself" for name in names if betrays(name)}
    if classes:
        survey = survey.label(target)
    try:
        parts = split(survey, SplitSettings(by="identity"), rows)
    except GsnnError:  # too few objects
        return why
    left = [name for name in names if name not in why]
    if not left:
        return why
    sample = look(survey, parts, left, [target], [], 5000, 0)
    return why | {name: f"gives {target} away: alone {score}" for name, score in giveaways(sample, target).items()}


def _shared(identifiers: Mapping[str, np.ndarray]) -> tuple[str, int] | None:
    """The identifier that the fewest objects share, if any is shared by enough to matter."""
    found = []
    for name, values in identifiers.items():
        known = [v for v in values.tolist() if v == v and v not in (None, "", -1)]
        count = len(set(known))
        if 20 <= count <= 0.98 * len(known):
            found.append((count, name))
    return (max(found)[1], max(found)[0]) if found else None


def magnitudes(columns: Mapping[str, np.ndarray], units: Mapping[str, str]) -> list[list[str]]:
    """Families of magnitudes in two bands or more, each sorted by wavelength (u g r i z y J H K).

    A magnitude has the unit mag or a name like ``mag_g_lsst``, ``g_mag`` or ``g``, and the values of one. Those of a
    family have the same name but for the band.
    """
    families: dict[str, dict[str, str]] = {}
    for name, x in columns.items():
        words = name.split("_")
        at = [i for i, word in enumerate(words) if len(word) == 1 and word.lower() in BANDS]
        if len(words) == 2 and words[0].lower().endswith("mag") and len(words[1]) == 1:
            at = [1] if words[1].lower() in BANDS else []
        named = len(words) == 1 or any(word.lower().endswith("mag") or word.lower().startswith("mag") for word in words)
        if len(at) != 1 or _ERROR.search(name) or not (named or units.get(name) == "mag"):
            continue
        finite = x[np.isfinite(x) & (np.abs(x) < 90)]
        if len(finite) and 5 < np.median(finite) < 40:
            template = "_".join("*" if i == at[0] else word for i, word in enumerate(words))
            families.setdefault(template, {})[words[at[0]].lower()] = name
    sorted_ = [[family[band] for band in BANDS if band in family] for family in families.values()]
    return [family for family in sorted_ if len(family) > 1]


def colours(families: list[list[str]], taken: set[str]) -> dict[str, str]:
    """Differences of neighbouring bands as SQL: ``{"g_r": "mag_g - mag_r"}``."""
    out: dict[str, str] = {}
    for family in families:
        for blue, red in pairwise(family):
            a, b = _bands(blue, red)
            name = f"{a}_{b}" if f"{a}_{b}" not in {*taken, *out} else f"{blue}_minus_{red}"
            if name not in {*taken, *out}:
                out[name] = f"{blue} - {red}"
    return out


def _bands(blue: str, red: str) -> tuple[str, str]:
    """The words in which two names differ: the bands."""
    return next((a, b) for a, b in zip(blue.split("_"), red.split("_")) if a != b)
