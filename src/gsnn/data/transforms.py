"""From native units to what a network likes, and back. Statistics are buffers, saved with the network.

A transform sees all values of one column ([object, ...]) or, for the table of scalars, [object, column]; it is fitted
on training rows only and applied in float32. Missing values (NaN, infinities) become 0, which after standardising is
the mean.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..config import build, normalise
from ..errors import ConfigError, GsnnError, suggest
from .schema import DENSE, UNEQUAL, Column, Schema
from .survey import View

TABLE = "scalars"  # the name under which all scalar inputs are transformed together


def _per_band(values: Tensor, statistic: Tensor) -> Tensor:
    """``statistic`` [band] shaped to act on [object, band, ...]."""
    return statistic.view(1, -1, *(1,) * (values.ndim - 2)) if values.ndim > 1 else statistic


class Transform(nn.Module):
    """``forward`` and ``inverse`` act on [object, band, ...]; ``log_slope`` is log |d forward / d x| for densities."""

    def fit(self, values: Float[Tensor, "object band *rest"]) -> None: ...

    def forward(self, values: Tensor) -> Tensor:
        raise NotImplementedError

    def inverse(self, values: Tensor) -> Tensor:
        raise GsnnError(
            f"the transform {type(self).__name__.lower()!r} cannot be inverted, so it cannot serve a target"
        )

    def slope(self, values: Tensor) -> Tensor:
        """d forward / d x at native ``values``."""
        raise GsnnError(f"the transform {type(self).__name__.lower()!r} cannot serve a target")


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each band over finite values; 1 where nothing varies."""
    flat = values.transpose(0, 1).flatten(1).double()
    good = torch.isfinite(flat)
    count = good.sum(1).clamp(min=1)
    mean = flat.where(good, 0).sum(1) / count
    variance = ((flat - mean[:, None]).where(good, 0) ** 2).sum(1) / count
    scale = variance.sqrt()
    return mean.float(), torch.where(scale > 1e-12 * (1 + mean.abs()), scale, 1.0).float()


class Native(Transform):
    """As it is: for networks that know what their inputs mean."""

    def __init__(self, bands: int = 1):
        super().__init__()

    def forward(self, values: Tensor) -> Tensor:
        return values

    def inverse(self, values: Tensor) -> Tensor:
        return values

    def slope(self, values: Tensor) -> Tensor:
        return torch.ones_like(values)


class Standardise(Transform):
    """Zero mean and unit variance for each band or column."""

    def __init__(self, bands: int = 1):
        super().__init__()
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("scale", torch.ones(bands))

    def fit(self, values: Tensor) -> None:
        self.mean, self.scale = _moments(values)

    def forward(self, values: Tensor) -> Tensor:
        return (values - _per_band(values, self.mean)) / _per_band(values, self.scale)

    def inverse(self, values: Tensor) -> Tensor:
        return values * _per_band(values, self.scale) + _per_band(values, self.mean)

    def slope(self, values: Tensor) -> Tensor:
        return torch.ones_like(values) / _per_band(values, self.scale)


class Asinh(Transform):
    """Per-band inverse hyperbolic sine of flux over ``softening`` times the sky noise, then standardised.

    Linear in the noise, logarithmic in the light (Lupton, Gunn & Szalay 1999, AJ 118, 1406). The sky noise is the
    scaled median absolute deviation.
    """

    def __init__(self, bands: int = 1, *, softening: float = 3.0):
        super().__init__()
        self.softening = softening
        self.register_buffer("centre", torch.zeros(bands))
        self.register_buffer("width", torch.ones(bands))
        self.standardise = Standardise(bands)

    def fit(self, values: Tensor) -> None:
        flat = values.transpose(0, 1).flatten(1)
        flat = flat[:, :: max(flat.shape[1] // 2_000_000, 1)]
        rows = [row[torch.isfinite(row)] for row in flat]
        if any(len(row) == 0 for row in rows):
            raise GsnnError("a band of the training images holds no finite pixel")
        self.centre = torch.stack([row.median() for row in rows])
        mad = torch.stack([(row - c).abs().median() for row, c in zip(rows, self.centre)])
        spread = torch.stack([row.std() for row in rows])
        self.width = torch.where(mad > 0, 1.4826 * mad, spread.where(spread > 0, 1.0)) * self.softening
        self.standardise.fit(self._stretch(values))

    def _stretch(self, values: Tensor) -> Tensor:
        return torch.asinh((values - _per_band(values, self.centre)) / _per_band(values, self.width))

    def forward(self, values: Tensor) -> Tensor:
        return self.standardise(self._stretch(values))

    def inverse(self, values: Tensor) -> Tensor:
        stretched = torch.sinh(self.standardise.inverse(values))
        return stretched * _per_band(values, self.width) + _per_band(values, self.centre)

    def slope(self, values: Tensor) -> Tensor:
        width = _per_band(values, self.width)
        inner = (values - _per_band(values, self.centre)) / width
        return self.standardise.slope(values) / (width * torch.sqrt(1 + inner**2))


class Log(Transform):
    """log(x + offset), then standardised: for positive quantities that span decades, and redshifts with offset 1."""

    def __init__(self, bands: int = 1, *, offset: float = 0.0):
        super().__init__()
        self.offset = offset
        self.standardise = Standardise(bands)

    def fit(self, values: Tensor) -> None:
        if not (values[torch.isfinite(values)] + self.offset > 0).all():
            raise GsnnError(
                f"log needs x + offset > 0, which some values break (offset {self.offset}); raise the offset"
            )
        self.standardise.fit(torch.log(values + self.offset))

    def forward(self, values: Tensor) -> Tensor:
        return self.standardise(torch.log((values + self.offset).clamp(min=1e-30)))

    def inverse(self, values: Tensor) -> Tensor:
        return torch.exp(self.standardise.inverse(values)) - self.offset

    def slope(self, values: Tensor) -> Tensor:
        return self.standardise.slope(values) / (values + self.offset).clamp(min=1e-30)


class Box(Transform):
    """From a bounded range to the real line by the quantiles of a Gaussian: a flat prior becomes a standard normal one.

    The range is ``low`` to ``high``, or, if not given, as far as a flat distribution of so many training values is
    expected to reach beyond them. The inverse never leaves it.
    """

    def __init__(self, bands: int = 1, *, low: float | None = None, high: float | None = None):
        super().__init__()
        if low is not None and high is not None and low >= high:
            raise ConfigError(f"a box needs low < high, not {low} and {high}", ("low",))
        self.given = low, high
        self.register_buffer("low", torch.zeros(bands))
        self.register_buffer("high", torch.ones(bands))

    def fit(self, values: Tensor) -> None:
        flat = values.transpose(0, 1).flatten(1).double()
        rows = [row[torch.isfinite(row)] for row in flat]
        if any(len(row) < 2 for row in rows):
            raise GsnnError("a box needs at least two training values")
        beyond = torch.stack([(row.max() - row.min()) / (len(row) - 1) for row in rows])
        low = torch.stack([row.min() for row in rows]) - beyond
        high = torch.stack([row.max() for row in rows]) + beyond
        self.low = (low if self.given[0] is None else torch.full_like(low, self.given[0])).float()
        self.high = (high if self.given[1] is None else torch.full_like(high, self.given[1])).float()
        if not (self.low < self.high).all():
            raise GsnnError("the training values of a box do not vary, or lie outside the range that is given")

    def forward(self, values: Tensor) -> Tensor:
        low, high = _per_band(values, self.low), _per_band(values, self.high)
        share = ((values - low) / (high - low)).clamp(1e-6, 1 - 1e-6)
        return torch.special.ndtri(share)

    def inverse(self, values: Tensor) -> Tensor:
        low, high = _per_band(values, self.low), _per_band(values, self.high)
        return low + (high - low) * torch.special.ndtr(values)

    def slope(self, values: Tensor) -> Tensor:
        width = _per_band(values, self.high) - _per_band(values, self.low)
        return math.sqrt(2 * math.pi) * torch.exp(0.5 * self(values) ** 2) / width


class Whiten(Transform):
    """Rotation and scaling to unit covariance (ZCA): magnitudes that move together become their mean and colours."""

    def __init__(self, bands: int = 1, *, floor: float = 1e-4):
        super().__init__()
        self.floor = floor
        self.standardise = Standardise(bands)
        self.register_buffer("matrix", torch.eye(bands))

    def fit(self, values: Tensor) -> None:
        if values.ndim != 2:
            raise ConfigError('"whiten" acts on tables of scalars; use "standardise" or "asinh" for images')
        self.standardise.fit(values)
        table = torch.nan_to_num(self.standardise(values), 0, 0, 0).double()
        good = torch.isfinite(values).double()
        covariance = table.T @ table / (good.T @ good).clamp(min=1)  # over the objects that have both columns
        power, axes = torch.linalg.eigh(covariance)
        self.matrix = (axes @ torch.diag(power.clamp(min=self.floor) ** -0.5) @ axes.T).float()

    def forward(self, values: Tensor) -> Tensor:
        return torch.nan_to_num(self.standardise(values), 0, 0, 0) @ self.matrix

    def inverse(self, values: Tensor) -> Tensor:
        return self.standardise.inverse(values @ torch.linalg.inv(self.matrix))


_OF_UNEQUAL = {"light_curve": "light-curve", "graph": "points"}


def default(column: Column) -> str:
    """What suits a column when the study says nothing: asinh for flux in images, standardising for the rest."""
    if column.kind in UNEQUAL:
        return _OF_UNEQUAL[column.kind]
    return "asinh" if column.kind == "image" and column.dtype != "uint8" else "standardise"


class ByColumn(nn.ModuleDict):
    """Modules by the name of a column. Some are named as parts of a module are (``type``, ``half``)."""

    def __getitem__(self, column: str) -> nn.Module:
        return super().__getitem__(_key(column))

    def __setitem__(self, column: str, module: nn.Module) -> None:
        super().__setitem__(_key(column), module)


def _key(column: str) -> str:
    """A name under which torch takes a module: no column of a survey has a colon in its name."""
    return f"{column}:" if hasattr(nn.ModuleDict(), column) else column


class Transforms(nn.Module):
    """The transforms of the inputs of one network: one for each dense column, one for the table of scalars."""

    def __init__(self, inputs: Schema, specs: Mapping[str, object] | None = None):
        super().__init__()
        self.inputs, specs = inputs, dict(specs or {})
        self.dense = [c.name for c in inputs.columns if c.kind in DENSE]
        self.unequal = [c.name for c in inputs.columns if c.kind in UNEQUAL]
        self.scalars = [c.name for c in inputs.columns if c.kind in ("scalar", "position", "label")]
        unknown = set(specs) - set(self.dense) - set(self.unequal) - {TABLE}
        if unknown:
            raise ConfigError(
                f"names no input; use {', '.join([*self.dense, *self.unequal, TABLE])}",
                ("data", "transforms", min(unknown)),
            )
        self.parts = ByColumn()
        for name in [*self.dense, *self.unequal]:
            spec, path = normalise(specs.get(name, default(inputs[name]))), ("data", "transforms", name)
            if _OF_UNEQUAL.get(inputs[name].kind) != (spec["name"] if spec["name"] in _OF_UNEQUAL.values() else None):
                raise ConfigError(f"{spec['name']!r} does not act on a {inputs[name].kind}", (*path, "name"))
            self.parts[name] = build(spec, "transform", _bands(inputs[name]), path=path)
            if (fold := getattr(self.parts[name], "fold", None)) and fold not in self.scalars:
                raise ConfigError(f"{fold!r} is no scalar input; {suggest(fold, self.scalars)}", (*path, "fold"))
        if self.scalars:
            spec = specs.get(TABLE, "standardise")
            self.parts[TABLE] = build(
                normalise(spec), "transform", len(self.scalars), path=("data", "transforms", TABLE)
            )

    def fit(self, view: View, limit: int = 4096) -> None:
        """Statistics from at most ``limit`` objects (all, for scalars) of the training part."""
        dense = view.take(np.linspace(0, len(view) - 1, min(limit, len(view))).astype(int))
        for name in self.unequal:
            self.parts[name].fit(dense.columns([name])[name])
        for name in self.dense:
            values = torch.tensor(dense.columns([name])[name]).float()
            self.parts[name].fit(_banded(values, self.inputs[name]))
        if self.scalars:
            some = view if len(view) <= 1_000_000 else view.take(np.arange(0, len(view), len(view) // 1_000_000 + 1))
            columns = some.columns(self.scalars)
            self.parts[TABLE].fit(torch.stack([torch.tensor(columns[n]).float() for n in self.scalars], 1))

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batch with its inputs in the network's units; other columns unchanged."""
        out = dict(batch)
        for name in self.dense:
            values = _banded(batch[name].float(), self.inputs[name])
            out[name] = torch.nan_to_num(self.parts[name](values), 0, 0, 0).view(batch[name].shape)
            if self.inputs[name].kind == "field":  # as it was, for objectives that add to it
                out[f"{name}.native"] = batch[name]
            if self.inputs[name].kind in (
                "series",
                "sphere",
            ):  # gaps: objectives ask what stands in them, networks where
                out[f"{name}.known"] = torch.isfinite(batch[name])
        for name in self.unequal:
            units = self.parts[name]
            given = {part: batch[f"{name}.{part}"] for part in self.inputs[name].parts}
            fold = getattr(units, "fold", None)
            parts = units(given, batch[fold]) if fold else units(given)
            out.update({f"{name}.{part}": values for part, values in parts.items()})
        if self.scalars:
            table = torch.stack([batch[name].float() for name in self.scalars], 1)
            table = torch.nan_to_num(self.parts[TABLE](table), 0, 0, 0)
            out.update(zip(self.scalars, table.unbind(1)))
        return out


def _bands(column: Column) -> int:
    if column.kind in UNEQUAL:
        return len(column.bands) if column.kind == "graph" else max(len(column.bands), 1)
    return column.shape[0] if len(column.shape) > 1 else 1


def _banded(values: Tensor, column: Column) -> Tensor:
    """[object, band, ...]: one band where the column has none."""
    return values if len(column.shape) > 1 else values.unsqueeze(1)


class TargetTransform:
    """A scalar target's transform as a monotone bijection in numpy, for ``evaluation.distributions.Warped``."""

    def __init__(self, transform: Transform):
        self.transform = copy.deepcopy(transform).double().cpu()

    def _apply(self, function: str, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, np.float64)
        with torch.no_grad():
            values = torch.as_tensor(x.reshape(-1, 1))
            return getattr(self.transform, function)(values).numpy().reshape(x.shape)

    def forward(self, x: np.ndarray) -> np.ndarray:
        return self._apply("forward", x)

    def inverse(self, y: np.ndarray) -> np.ndarray:
        return self._apply("inverse", y)

    def derivative(self, x: np.ndarray) -> np.ndarray:
        return self._apply("slope", x)
