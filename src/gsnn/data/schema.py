"""What a column of the sky is: its kind, unit, bands and shape. Stored with the survey, the network and the run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import pyarrow as pa

from ..errors import GsnnError, suggest
from . import light_curves, points

Kind = Literal[
    "image",
    "spectrum",
    "series",
    "light_curve",
    "strain",
    "field",
    "sphere",
    "graph",
    "scalar",
    "label",
    "text",
    "position",
    "id",
]
DENSE = ("image", "spectrum", "series", "strain", "field", "sphere")  # kinds stored as one fixed-size array an object
SEQUENCES = ("light_curve", "series", "strain", "spectrum")  # kinds with steps along time or wavelength
UNEQUAL = ("light_curve", "graph")  # kinds whose objects have as many values as they have
CURVE = ("time", "flux", "flux_error", "band", "valid")  # the tensors of a light curve in a batch
CLOUD = ("position", "feature", "valid")  # those of points, from which networks make graphs


@dataclass(frozen=True)
class Column:
    """One column. ``shape`` is per object: ``(band, y, x)`` for an image, ``()`` for a scalar.

    Of a sphere it is ``(channel, 12 nside^2)``: HEALPix pixels in NESTED order, NaN where nothing was observed.
    Of a graph, ``shape`` is ``(2,)`` or ``(3,)``, the axes of a position in ``unit``, and ``bands`` name the features
    of a node.
    """

    name: str
    kind: Kind
    unit: str = ""
    bands: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    classes: tuple[str, ...] = ()
    pixel_scale: float | None = None  # arcsec per pixel
    time_unit: str = ""  # of the times of a light curve, and of ``cadence``
    epoch: str = ""  # what time 0 is, as in "MJD 0"
    cadence: float | None = None  # time from one value of a series or strain to the next
    box: float | None = None  # side of the periodic box of a field, or of a graph's positions (0 to box); None: open
    description: str = ""
    codec: str = field(default="", compare=False)  # how the values lie in a survey (gsnn.data.codec)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise GsnnError(f"column {self.name!r}: no kind {self.kind!r}; {suggest(self.kind, get_args(Kind))}")
        if self.kind in DENSE and not (self.shape and all(n > 0 for n in self.shape)):
            raise GsnnError(f"column {self.name!r}: a {self.kind} needs a shape of positive sizes, not {self.shape}")
        if self.kind == "sphere":
            if len(self.shape) != 2:
                raise GsnnError(
                    f"column {self.name!r}: a sphere has the shape (channel, 12 nside^2) of HEALPix pixels in NESTED "
                    f"order, not {self.shape}"
                )
            nside_of(self.shape[1], f"column {self.name!r}")
        if self.kind == "graph" and (self.shape not in ((2,), (3,)) or not (self.box is None or self.box > 0)):
            raise GsnnError(
                f"column {self.name!r}: a graph has the shape (2,) or (3,), the axes of a position, not {self.shape}, "
                f"and a box of positive size or none, not {self.box}"
            )

    @property
    def moves(self) -> bool:
        """Whether it is the displacement of particles from a lattice, an axis a channel."""
        return self.kind == "field" and bool(self.box) and self.unit == "Mpc/h" and self.shape[0] == len(self.shape) - 1

    @property
    def size(self) -> int:
        """Values an object."""
        return math.prod(self.shape)

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of what a network is given of it: one tensor, or the parts of a light curve or of points. Of a
        sphere also which pixels are known, which the transforms find out."""
        if self.kind == "sphere":
            return self.name, f"{self.name}.known"
        return tuple(f"{self.name}.{part}" for part in self.parts) or (self.name,)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of a light curve or of points in a batch; none of other kinds."""
        if self.kind == "graph":
            return CLOUD if self.bands else ("position", "valid")
        return CURVE if self.kind == "light_curve" else ()

    def arrow_type(self) -> pa.DataType:
        if self.kind in ("label", "text", "id"):
            return pa.string()
        if self.kind in UNEQUAL:
            return light_curves.ARROW if self.kind == "light_curve" else points.ARROW
        value = pa.from_numpy_dtype(self.dtype)
        return pa.list_(value, self.size) if self.shape else value


@dataclass(frozen=True)
class Schema(Mapping[str, Column]):
    """An ordered mapping of names to columns, with the provenance of the data."""

    columns: tuple[Column, ...]
    provenance: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise GsnnError(f"column {twice[0]!r} stands twice in the schema; rename one of them")

    def __repr__(self) -> str:
        return f"Schema({'; '.join(map(_brief, self.columns))})"

    @classmethod
    def of(cls, columns: Iterable[Column], **provenance: Any) -> Schema:
        return cls(tuple(columns), provenance)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (column.name for column in self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def column(self, name: str) -> Column:
        """The column, or one sentence that names the nearest one."""
        if name not in self:
            raise GsnnError(f"no column {name!r} in the survey; {suggest(name, self)}")
        return self[name]

    def select(self, names: Iterable[str]) -> Schema:
        return Schema(tuple(self.column(name) for name in names), self.provenance)

    def of_kind(self, *kinds: str) -> list[Column]:
        return [column for column in self.columns if column.kind in kinds]

    @property
    def tensors(self) -> list[str]:
        """The names of all tensors that a batch holds of these columns."""
        return [name for column in self.columns for name in column.tensors]

    def with_column(self, column: Column) -> Schema:
        """A copy in which ``column`` stands in place of its namesake, or at the end."""
        kept = tuple(column if c.name == column.name else c for c in self.columns)
        return Schema(kept if column.name in self else (*kept, column), self.provenance)

    def arrow(self) -> pa.Schema:
        fields = [pa.field(c.name, c.arrow_type()) for c in self.columns]
        return pa.schema(fields, metadata={"gsnn": self.to_json()})

    def to_dict(self) -> dict[str, Any]:
        default = Column("", "scalar")
        columns = [
            {k: v for k, v in asdict(c).items() if k in ("name", "kind") or v != getattr(default, k)}
            for c in self.columns
        ]
        return {"columns": columns, "provenance": self.provenance}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Schema:
        tuples = ("bands", "shape", "classes")
        columns = [Column(**{k: tuple(v) if k in tuples else v for k, v in c.items()}) for c in value["columns"]]
        return cls(tuple(columns), dict(value.get("provenance", {})))

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    @classmethod
    def from_arrow(cls, schema: pa.Schema) -> Schema:
        metadata = schema.metadata or {}
        if b"gsnn" not in metadata:
            raise GsnnError("the table carries no GSNN schema; make a survey of it with `gsnn ingest`")
        return cls.from_dict(json.loads(metadata[b"gsnn"]))

    def difference(self, other: Schema) -> str:
        """What differs between the columns of ``self`` (expected) and ``other`` (given), '' if nothing that matters."""
        for mine in self.columns:
            if mine.name not in other:
                return f"column {mine.name!r} is missing; {suggest(mine.name, other)}"
            theirs = other[mine.name]
            for what in ("kind", "shape", "bands", "unit", "pixel_scale", "time_unit", "cadence", "box"):
                a, b = getattr(mine, what), getattr(theirs, what)
                near = what in ("pixel_scale", "cadence") and a and b and math.isclose(a, b, rel_tol=0.02)
                if a and b and a != b and not near:
                    if what == "shape" and mine.kind == "sphere" and mine.shape[0] == theirs.shape[0]:
                        what, a, b = "nside", nside_of(a[1]), nside_of(b[1])
                    return f"column {mine.name!r} has {what} {b!r}, expected {a!r}"
        return ""

    def renamed(self, names: Mapping[str, str]) -> Schema:
        return Schema(tuple(replace(c, name=names.get(c.name, c.name)) for c in self.columns), self.provenance)


def nside_of(pixels: int, what: str = "a HEALPix map") -> int:
    """The nside of a whole sky of so many HEALPix pixels; GsnnError where that is no power of two."""
    nside = math.isqrt(max(pixels, 0) // 12)
    if pixels != 12 * nside**2 or nside < 1 or nside & (nside - 1):
        raise GsnnError(
            f"{what}: {pixels} pixels are no HEALPix map, which has 12 nside^2 of them with nside a power of two "
            "(nside 32: 12288); bring the whole map in one column"
        )
    return nside


def _brief(column: Column) -> str:
    """``image: image 2x64x64, nJy``."""
    shape = " " + "x".join(map(str, column.shape)) if column.shape else ""
    return f"{column.name}: {column.kind}{shape}" + (f", {column.unit}" if column.unit else "")
