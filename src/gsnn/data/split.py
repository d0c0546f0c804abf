"""Which objects are for training, validation and test: a function of the sky, of a group or of the object itself.

The function has no salt: under the same fractions an object falls on the same side in every survey and run, so that a
network trained on one survey can be judged on another without having seen its test objects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import BaseModel, ConfigDict, Field

from ..errors import ConfigError, GsnnError
from . import rows as row_lists
from .survey import HEALPIX, Survey, as_text, healpix

PARTS = ("train", "valid", "test")
_KNOWN = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "test": 2, "testing": 2}
_STEP_ARCSEC = 200  # half a sky pixel


class SplitSettings(BaseModel):
    """The ``[data] split`` table of a study."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    by: Annotated[
        Literal["auto", "sky", "group", "identity", "column", "condition", "time"],
        Field(
            description="sky pixel, a group column, the object's id, a column that says train/valid/test, a "
            "condition for training, or a column of times (training first, test last)"
        ),
    ] = "auto"
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    column: Annotated[
        str | None, Field(description="the group column, the times, or the column with the parts' names")
    ] = None
    train: Annotated[
        str | None,
        Field(description='objects to learn from, as in "z < 0.3"; all others are tested (validation by fractions)'),
    ] = None
    gap: Annotated[
        float,
        Field(ge=0, description="drop what lies less than this before a later part: as far as targets look ahead"),
    ] = 0.0
    guard_arcsec: Annotated[float, Field(ge=0, description="drop test objects this close to another part's sky")] = 0.0


@dataclass(frozen=True)
class Split:
    """Row numbers of each part, and what was asked and got."""

    by: str
    asked: tuple[float, float, float]
    train: Int64[np.ndarray, " n"]
    valid: Int64[np.ndarray, " m"]
    test: Int64[np.ndarray, " k"]
    dropped: int = 0

    @property
    def realised(self) -> tuple[float, float, float]:
        sizes = [len(getattr(self, part)) for part in PARTS]
        total = max(sum(sizes), 1)
        return tuple(size / total for size in sizes)  # type: ignore[return-value]

    def to_dict(self) -> dict[str, object]:
        return {
            "by": self.by,
            "fractions_asked": list(self.asked),
            "fractions_realised": [round(f, 4) for f in self.realised],
            "dropped_by_guard": self.dropped,
        }


def uniform_of(keys: Iterable[Any]) -> Float64[np.ndarray, " n"]:
    """A number in [0, 1) for each key (text or integer), by BLAKE2b: the published constant of every split."""
    texts = [str(key) for key in keys]
    words = {text: hashlib.blake2b(text.encode(), digest_size=8).digest() for text in set(texts)}
    return np.frombuffer(b"".join(words[text] for text in texts), "<u8") / 2.0**64


def assign(keys: Iterable[Any], fractions: tuple[float, ...]) -> Int64[np.ndarray, " n"]:
    """Part (0 train, 1 valid, 2 test) of each key."""
    return np.searchsorted(np.cumsum(fractions)[:-1], uniform_of(keys), side="right")


def split(survey: Survey, settings: SplitSettings, rows: Int64[np.ndarray, " n"] | None = None) -> Split:
    """Divide ``rows`` (all, if None). Refuses fractions that the data cannot give."""
    rows = row_lists.arange(len(survey)) if rows is None else rows
    if len(rows) < 3:
        raise GsnnError(
            f"{len(rows)} usable rows cannot be divided into training, validation and test; bring more data"
        )
    asked = settings.fractions
    if min(asked) < 0 or not np.isclose(sum(asked), 1, atol=1e-6) or asked[0] == 0:
        raise ConfigError(
            f"the fractions {list(asked)} must be positive and add up to 1", ("data", "split", "fractions")
        )
    by = settings.by
    sky = "ra" in survey.schema and "dec" in survey.schema
    if by == "auto":
        by = "condition" if settings.train else "column" if settings.column else "sky" if sky else "identity"
    if settings.guard_arcsec and by != "sky":
        raise ConfigError('guard_arcsec needs by = "sky"', ("data", "split", "guard_arcsec"))
    if settings.gap and by != "time":
        raise ConfigError('gap needs by = "time"', ("data", "split", "gap"))
    _check(survey, by, settings, sky)
    part = row_lists.empty(len(rows), np.int8)  # 0 train, 1 valid, 2 test, -1 dropped by the guard
    if by == "time":
        part[:] = _by_time(survey, rows, settings)
    for some in row_lists.chunks(len(rows) if by != "time" else 0):
        part[some] = _parts(survey, rows[some], by, settings)
    if by == "column":
        _fill_absent(survey, rows, part, settings)
    if by == "condition" and not all((part == i).any() for i in range(3)):
        raise ConfigError(
            f"{settings.train!r} holds for {int((part != 2).sum())} of {len(rows)} objects, and some are needed for "
            "each of training, validation and test",
            ("data", "split", "train"),
        )
    result = Split(by, asked, *(row_lists.where(rows, part, i) for i in range(3)), int((part == -1).sum()))
    if by not in ("column", "condition"):
        for name, want, got in zip(PARTS, asked, result.realised):
            if want and got < want / 2:
                key = "gap" if by == "time" else "guard_arcsec"
                guard = f" and {result.dropped} dropped by {key}" if result.dropped else ""
                unit = {"sky": "sky pixels", "group": "groups", "identity": "objects", "time": "times"}[by]
                raise GsnnError(
                    f"the split gives {got:.1%} of the {len(rows)} objects to {name!r} where {want:.0%} was asked: "
                    f'too few {unit}{guard}; bring more data, change the fractions, or split by = "identity"'
                )
    return result


def _check(survey: Survey, by: str, settings: SplitSettings, sky: bool) -> None:
    if by == "sky" and not sky:
        raise ConfigError(
            'by = "sky" needs the columns ra and dec, which this survey lacks; use "identity" or "group"',
            ("data", "split", "by"),
        )
    if by in ("group", "column", "time"):
        if settings.column is None:
            raise ConfigError(f'by = "{by}" needs column = "..."', ("data", "split", "column"))
        kind = survey.schema.column(settings.column).kind
        if by == "time" and kind not in ("scalar", "position"):
            raise ConfigError(
                f"column {settings.column!r} is a {kind}, and times are numbers", ("data", "split", "column")
            )
    if (by == "condition") != (settings.train is not None):
        raise ConfigError('by = "condition" and train = "..." need each other', ("data", "split", "train"))
    if by == "condition" and not settings.fractions[1]:
        raise ConfigError("must leave some of the training objects for validation", ("data", "split", "fractions"))


def _parts(survey: Survey, rows: np.ndarray, by: str, settings: SplitSettings) -> Int64[np.ndarray, " n"]:
    """Part of each row. An object without a position or a group goes by its id."""
    if by == "identity":
        return assign(survey.take(rows, ["id"])["id"], settings.fractions)
    if by == "condition":
        learned = np.isin(rows, survey.where(settings.train))
        own = settings.fractions[0] / sum(settings.fractions[:2])
        part = assign(survey.take(rows, ["id"])["id"], (own, 1 - own))
        return np.where(learned, part, 2)
    if by == "column":
        return _named(_names(survey, rows, settings.column), settings.column)
    keys = survey.take(rows, [HEALPIX])[HEALPIX].tolist() if by == "sky" else _names(survey, rows, settings.column)
    missing = [i for i, key in enumerate(keys) if key in (-1, "")]
    if missing:
        for i, name in zip(missing, survey.take(rows[missing], ["id"])["id"]):
            keys[i] = name
    part = assign(keys, settings.fractions)
    if settings.guard_arcsec:
        test = np.flatnonzero(part == 2)
        part[test[_near_border(survey, rows[test], settings)]] = -1
    return part


def _by_time(survey: Survey, rows: np.ndarray, settings: SplitSettings) -> Int64[np.ndarray, " n"]:
    """Training before validation before test, each ending ``gap`` before the next begins; no time: dropped.

    What is tested lies after all that was learned, as in use (Tashman 2000, Int. J. Forecasting 16, 437). With a gap as
    long as targets look ahead, the last target of a part is known when the next part begins.
    """
    time = survey.take(rows, [settings.column])[settings.column].astype(np.float64)
    known = np.isfinite(time)
    part = np.full(len(rows), -1)
    if known.any():
        begins = np.quantile(time[known], np.cumsum(settings.fractions)[:2].clip(0, 1), method="higher")
        part[known] = np.searchsorted(begins, time[known], side="right")
        for i, border in enumerate(begins):
            part[(part == i) & (time > border - settings.gap)] = -1
    return part


def _names(survey: Survey, rows: np.ndarray, name: str) -> list[str]:
    """Values of a column as text, "" where missing; whole numbers without .0, so that surveys agree on them."""
    values, column = survey.take(rows, [name])[name], survey.schema[name]
    if column.kind == "label":
        return [column.classes[code] if code >= 0 else "" for code in values]
    return ["" if value is None or value != value else as_text(value) for value in values.tolist()]


def _named(names: list[str], column: str) -> Int64[np.ndarray, " n"]:
    strange = sorted({name for name in names if name.lower() not in _KNOWN})
    if strange:
        raise ConfigError(
            f"column {column!r} says {strange[0]!r}, where train, valid or test is needed; "
            "leave such objects out by [data] where",
            ("data", "split", "column"),
        )
    return np.array([_KNOWN[name.lower()] for name in names])


def _fill_absent(survey: Survey, rows: np.ndarray, part: np.ndarray, settings: SplitSettings) -> None:
    """Where the column names no validation, or no test, take that part from the training rows."""
    count = [int((part == i).sum()) for i in range(3)]
    if not count[0] or not count[1] + count[2]:
        raise ConfigError(f"column {settings.column!r} must say train, valid and test", ("data", "split", "column"))
    absent = [i for i in (1, 2) if not count[i]]
    for some in row_lists.chunks(len(rows) if absent else 0):
        spare = assign(survey.take(rows[some], ["id"])["id"], settings.fractions)
        part[some] = np.where((part[some] == 0) & (spare == absent[0]), absent[0], part[some])


def _near_border(survey: Survey, rows: np.ndarray, settings: SplitSettings) -> np.ndarray:
    """Test objects with sky of another part within the guard distance, looked for on circles a few arcminutes apart."""
    where = survey.take(rows, ["ra", "dec"])
    ra, dec, near = where["ra"], where["dec"], np.zeros(len(rows), bool)
    circles = max(2, int(np.ceil(settings.guard_arcsec / _STEP_ARCSEC)))
    angles = max(32, int(np.ceil(2 * np.pi * settings.guard_arcsec / _STEP_ARCSEC)))
    known = np.isfinite(ra) & np.isfinite(dec)
    for radius in np.radians(settings.guard_arcsec / 3600) * np.arange(1, circles + 1) / circles:
        for angle in np.arange(angles) * (2 * np.pi / angles):
            near |= assign(healpix(*_moved(ra, dec, radius, angle)).tolist(), settings.fractions) != 2
    return near & known


def _moved(ra: np.ndarray, dec: np.ndarray, radius: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions in degrees after a step of ``radius`` radians towards ``angle`` from north, on the sphere."""
    d = np.radians(dec)
    sine = np.clip(np.sin(d) * np.cos(radius) + np.cos(d) * np.sin(radius) * np.cos(angle), -1, 1)
    turn = np.arctan2(np.sin(angle) * np.sin(radius) * np.cos(d), np.cos(radius) - np.sin(d) * sine)
    return ra + np.degrees(turn), np.degrees(np.arcsin(sine))
