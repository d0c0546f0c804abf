"""Predictions of whole fields, voxel by voxel; their spectra and how they go with the truth.

The Nyquist frequency is that of the voxels. A field that is the displacement of particles is judged by the density that
the particles have: painted by cloud in cell, on a mesh as fine as their lattice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from ..data.schema import Column
from ..errors import GsnnError
from ..simulate.mesh import lattice, multiplicity, paint, shell_modes, shells, to_cells, to_modes
from .base import Distribution

Maps = Float[ndarray, "object channel *space"]


@dataclass(frozen=True, eq=False)
class Fields(Distribution):
    """A field for each object, without a statement of its uncertainty; float32, as fields are large."""

    value: Maps
    column: Column
    proper: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.value.shape[1:] != self.column.shape:
            raise GsnnError(
                f"Fields: {self.value.shape[1:]} are no values of {self.column.name!r}, {self.column.shape}"
            )

    def __len__(self) -> int:
        return len(self.value)

    def take(self, positions: Int[ndarray, " n"]) -> Fields:
        return Fields(self.value[positions], self.column)

    @classmethod
    def join(cls, parts: Sequence[Fields]) -> Fields:
        return cls(np.concatenate([part.value for part in parts]), parts[0].column)

    def best(self) -> Maps:
        return self.value

    def to_columns(self, name: str) -> dict[str, ndarray]:
        """One array an object, of the column's size."""
        flat = np.empty(len(self), object)
        flat[:] = list(self.value.reshape(len(self), -1))
        return {"prediction": flat}


def densities(value: Maps, column: Column) -> Float[torch.Tensor, "object channel2 ..."]:
    """What spectra are measured of: the field itself, or the overdensity of particles that it displaces."""
    field = torch.tensor(np.asarray(value, np.float32))
    if not column.moves:
        return field
    side, box = field.shape[-1], column.box
    return paint(lattice(side, box, field.ndim - 2) + field, side, box)[:, None]


class Spectra(NamedTuple):
    """Powers of two fields and of both together in shells of one fundamental wave, up to the Nyquist frequency."""

    k: Float[ndarray, " shell"]  # in units of the Nyquist frequency
    own: Float[ndarray, "object shell"]
    true: Float[ndarray, "object shell"]
    both: Float[ndarray, "object shell"]

    @property
    def transfer(self) -> Float[ndarray, "object shell"]:
        """P / P true."""
        return self.own / np.maximum(self.true, 1e-300)

    @property
    def correlation(self) -> Float[ndarray, "object shell"]:
        """r = P both / sqrt(P P true)."""
        return self.both / np.maximum(np.sqrt(self.own * self.true), 1e-300)


def spectra(prediction: Fields, truth: Maps) -> Spectra:
    """The spectra of each object, channels added up. Raises GsnnError where the sides of a field differ."""
    size = prediction.column.shape[1:]
    if len(set(size)) > 1:
        raise GsnnError(f"spectra are measured of squares and cubes, and {prediction.column.name!r} has {size} voxels")
    side, space = size[0], len(size)
    shell = shells(side, space).flatten()
    weight = multiplicity(side, space).flatten()
    found = []
    for value, true in zip(prediction.value, np.asarray(truth)):
        a, b = (to_modes(densities(one[None], prediction.column)[0]).flatten(1) for one in (value, true))
        parts = [a.abs() ** 2, b.abs() ** 2, (a * b.conj()).real]
        parts = [(part.double() * weight).sum(0) for part in parts]
        sums = [torch.zeros(int(shell.max()) + 1).double().index_add(0, shell, part) for part in parts]
        found.append(torch.stack(sums)[:, 1 : side // 2 + 1].numpy())
    table = np.stack(found, 1) if found else np.zeros((3, 0, side // 2))
    return Spectra(np.arange(1, side // 2 + 1) / (side / 2), *table)


def bispectrum(density: Float[torch.Tensor, "object ..."], box: float) -> Float[ndarray, "object shell"]:
    """B(k, k, k) of fields in shells of one fundamental wave up to half of the Nyquist frequency; those of spectra.

    The mean over all triangles of a shell, by products of the field as it is in that shell alone (Scoccimarro 2000,
    astro-ph/0004086). In the square of the volume of ``box``.
    """
    side, space = density.shape[-1], density.ndim - 1
    shell, modes, found = shells(side, space), to_modes(density), []
    for number in range(1, side // 4 + 1):
        inside = (shell == number).to(modes.dtype)
        triangles = to_cells(inside[None], side).double().pow(3).sum()
        found.append(to_cells(modes * inside, side).double().pow(3).flatten(1).sum(1) / triangles)
    return torch.stack(found, 1).numpy() * box ** (2 * space) / side ** (3 * space)


def to_half(found: Spectra) -> Int[ndarray, " n"]:
    """The shells up to half of the Nyquist frequency."""
    return np.flatnonzero(found.k <= 0.5)


def told(found: Mapping[str, Fields], truth: Maps) -> dict[str, Any]:
    """What a report draws: mean spectra over objects, P / P true and r with their standard deviations over objects.

    Also the mean bispectra of equal sides, up to half of the Nyquist frequency, of the first channel.
    """
    column = next(iter(found.values())).column
    each = {who: spectra(prediction, truth) for who, prediction in found.items()}
    first = next(iter(each.values()))
    side, space = column.shape[-1], len(column.shape) - 1
    step = column.box / side if column.box else 1.0  # from one voxel to the next
    unit = (step / side) ** space  # from |rfftn|^2 to a power
    scale = unit / shell_modes(side, space)[1 : side // 2 + 1].numpy()

    def skewed(value: Maps) -> list[float]:
        return bispectrum(densities(value, column)[:, 0], column.box or float(side)).mean(0).tolist()

    many = len(truth) > 1
    return {
        "k": (first.k * np.pi / step).tolist(),
        "unit": "h/Mpc" if column.box else "1/voxel",
        "of": "density of particles" if column.moves else column.name,
        "objects": len(truth),
        "truth": (first.true.mean(0) * scale).tolist(),
        "bispectrum": skewed(truth),
        "each": {
            who: {
                "power": (one.own.mean(0) * scale).tolist(),
                "bispectrum": skewed(found[who].value),
                **{
                    name: {
                        "mean": value.mean(0).tolist(),
                        "std": (value.std(0, ddof=1) if many else 0 * value[0]).tolist(),
                    }
                    for name, value in (("transfer", one.transfer), ("correlation", one.correlation))
                },
            }
            for who, one in each.items()
        },
    }


def slabs(prediction: Fields, thick: float = 0.1) -> Float[ndarray, "object y x"]:
    """Pictures: ln of the density of particles, or the field's first channel, averaged over ``thick`` of the depth.

    Images are shown as they are.
    """
    shown = densities(prediction.value, prediction.column)[:, 0].numpy()
    if shown.ndim == 4:
        shown = shown[:, : max(1, round(thick * shown.shape[1]))].mean(1)
    return (np.log(1.1 + shown) if prediction.column.moves else shown).astype(np.float32)
