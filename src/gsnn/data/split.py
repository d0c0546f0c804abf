"""Which objects are for training, validation and test: a function of the sky, of a group or of the object itself.

The function has no salt: the same object falls on the same side in every survey and every run, so a network trained on one
survey can be judged on another without having seen its test objects.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import BaseModel, ConfigDict, Field

from ..errors import ConfigError, GsnnError
from .survey import HEALPIX, Survey, healpix

PARTS = ("train", "valid", "test")


class SplitSettings(BaseModel):
    """The ``[data] split`` table of a study."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    by: Annotated[
        Literal["auto", "sky", "group", "identity", "column"],
        Field(description="sky pixel, a group column, the object's id, or a column that says train/valid/test"),
    ] = "auto"
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    column: Annotated[str | None, Field(description="the group column, or the column with the parts' names")] = None
    guard_arcsec: Annotated[float, Field(ge=0, description="drop test objects this close to another part's sky")] = 0.0


@dataclass(frozen=True)
class Split:
    """Row numbers of each part, and what was asked and got."""

    by: str
    asked: tuple[float, float, float]
    train: Int64[np.ndarray, "n"]
    valid: Int64[np.ndarray, "m"]
    test: Int64[np.ndarray, "k"]
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


def uniform_of(keys: np.ndarray) -> Float64[np.ndarray, "n"]:
    """A number in [0, 1) for each key (text or integer), by BLAKE2b: the published constant of every split."""
    unique, where = np.unique(np.asarray(keys).astype(str), return_inverse=True)
    words = [int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little") for key in unique]
    return (np.array(words, np.uint64) / 2.0**64)[where]


def assign(keys: np.ndarray, fractions: tuple[float, ...]) -> Int64[np.ndarray, "n"]:
    """Part (0 train, 1 valid, 2 test) of each key."""
    return np.searchsorted(np.cumsum(fractions)[:-1], uniform_of(keys), side="right")


def split(survey: Survey, settings: SplitSettings, rows: Int64[np.ndarray, "n"] | None = None) -> Split:
    """Divide ``rows`` (all, if None). Refuses fractions that the data cannot give."""
    rows = np.arange(len(survey), dtype=np.int64) if rows is None else rows
    if len(rows) < 3:
        raise GsnnError(f"{len(rows)} usable rows cannot be divided into training, validation and test; bring more data")
    asked = settings.fractions
    if min(asked) < 0 or not np.isclose(sum(asked), 1, atol=1e-6) or asked[0] == 0:
        raise ConfigError(
            f"the fractions {list(asked)} must be positive and add up to 1", ("data", "split", "fractions")
        )
    by = settings.by
    sky = "ra" in survey.schema and "dec" in survey.schema
    if by == "auto":
        by = "column" if settings.column else "sky" if sky else "identity"
    part = _parts(survey, rows, by, settings, sky)
    dropped = 0
    if settings.guard_arcsec:
        if by != "sky":
            raise ConfigError('guard_arcsec needs by = "sky"', ("data", "split", "guard_arcsec"))
        near = (part == 2) & _near_border(survey, rows, part, settings)
        dropped = int(near.sum())
        part = np.where(near, -1, part)
    result = Split(by, asked, *(rows[part == i] for i in range(3)), dropped)
    if by != "column":
        for name, want, got in zip(PARTS, asked, result.realised):
            if want and got < want / 2:
                unit = {"sky": "sky pixels", "group": "groups", "identity": "objects"}[by]
                raise GsnnError(
                    f"the split gives {got:.1%} of the {len(rows)} objects to {name!r} where {want:.0%} was asked: "
                    f'too few {unit}; bring more data, change the fractions, or split by = "identity"'
                )
    return result


def _parts(
    survey: Survey, rows: np.ndarray, by: str, settings: SplitSettings, sky: bool
) -> Int64[np.ndarray, "n"]:
    path = ("data", "split", "column")
    if by == "sky":
        if not sky:
            raise ConfigError(
                'by = "sky" needs the columns ra and dec, which this survey lacks; use "identity" or "group"',
                ("data", "split", "by"),
            )
        return assign(survey.take(rows, [HEALPIX])[HEALPIX], settings.fractions)
    if by == "identity":
        return assign(survey.take(rows, ["id"])["id"], settings.fractions)
    if settings.column is None:
        raise ConfigError(f'by = "{by}" needs column = "..."', path)
    survey.schema.column(settings.column)
    values = survey.take(rows, [settings.column])[settings.column]
    column = survey.schema[settings.column]
    names = np.array([*column.classes, ""], object)[values] if column.kind == "label" else values.astype(str)
    if by == "group":
        return assign(names, settings.fractions)
    known = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "test": 2, "testing": 2}
    codes = np.array([known.get(str(name).lower(), -1) for name in names])
    if not (codes == 0).any() or not (codes > 0).any():
        raise ConfigError(f"column {settings.column!r} must say train, valid and test", path)
    if not (codes == 1).any() or not (codes == 2).any():  # one part is missing: take it from the training rows
        spare = assign(survey.take(rows, ["id"])["id"], settings.fractions)
        absent = 1 if not (codes == 1).any() else 2
        codes = np.where((codes == 0) & (spare == absent), absent, codes)
    return codes


def _near_border(survey: Survey, rows: np.ndarray, part: np.ndarray, settings: SplitSettings) -> np.ndarray:
    """Objects with sky of another part within the guard distance, looked for in 16 directions and two distances."""
    where = survey.take(rows, ["ra", "dec"])
    ra, dec, near = where["ra"], where["dec"], np.zeros(len(rows), bool)
    for distance in (settings.guard_arcsec, settings.guard_arcsec / 2):
        for angle in np.arange(16) * (np.pi / 8):
            step = distance / 3600
            new_dec = np.clip(dec + step * np.sin(angle), -90, 90)
            new_ra = ra + step * np.cos(angle) / np.maximum(np.cos(np.radians(dec)), 1e-6)
            near |= assign(healpix(new_ra, new_dec), settings.fractions) != part
    return near
