"""Slabs of the cosmic web: maps of the density of matter, cut from N-body simulations of many universes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ..data.schema import Column, Schema
from ..data.source import within
from ..errors import ConfigError
from .mesh import lattice, paint
from .nbody import NBody


class Slabs:
    """Maps of the density over its mean in slabs of ``depth`` Mpc/h, periodic and ``side`` pixels across; a Source.

    A box of ``side``^3 particles (:class:`gsnn.simulate.nbody.NBody`) is cut along each of its three axes, which gives
    3 box / depth maps of one universe: split them by the column ``universe``, for they show the same matter. Particles
    are painted by cloud in cell on cells as fine as their lattice. ``omega_m`` and ``sigma_8`` are flat over their
    ranges.
    """

    def __init__(
        self,
        *,
        universes: int = 400,
        side: int = 64,
        box: float = 128.0,
        depth: float = 32.0,
        steps: int = 10,
        start: float = 0.1,
        refine: int = 2,
        omega_m: tuple[float, float] = (0.1, 0.5),
        sigma_8: tuple[float, float] = (0.6, 1.0),
    ):
        self.nbody = NBody(
            boxes=universes, side=side, box=box, steps=steps, start=start, refine=refine, coarse=1, omega_m=omega_m,
            sigma_8=sigma_8,
        )  # fmt: skip
        self.cells = round(side * depth / box) if depth > 0 else 0
        if not self.cells or side % self.cells or abs(self.cells * box - side * depth) > 1e-6 * box * side:
            raise ConfigError(f"a box of {box} Mpc/h has no whole slabs of {depth} in its {side} cells", ("depth",))
        self.each = 3 * side // self.cells
        self.last: tuple[tuple[int, int], Tensor] = (-1, 0), torch.empty(0)

    def schema(self) -> Schema:
        nbody = self.nbody
        return Schema.of(
            (
                Column("id", "id"),
                Column("universe", "scalar", dtype="int64", description="maps of one box have one number"),
                Column(
                    "density", "field", shape=(1, nbody.side, nbody.side), bands=("matter",), box=nbody.box,
                    description=f"over the mean, in slabs {self.cells * nbody.box / nbody.side:g} Mpc/h deep",
                ),
                *(nbody.schema()[name] for name in nbody.ranges),
            ),
            simulator="gsnn.simulate.slabs", steps=str(nbody.steps), start=str(nbody.start), refine=str(nbody.refine),
        )  # fmt: skip

    def __len__(self) -> int:
        return self.each * len(self.nbody)

    def slabs(self, universe: int, seed: int) -> Float[Tensor, "slab y x"]:
        """The slabs of one box: along its first axis, then along the second and the third.

        The last box is kept, of which the next rows are often more.
        """
        if self.last[0] != (universe, seed):
            row = torch.tensor([universe])
            moved = self.nbody.moved(**self.nbody.parameters(row, seed), rows=row, seed=seed)
            density = 1 + paint(lattice(self.nbody.side, self.nbody.box) + moved, self.nbody.side, self.nbody.box)[0]
            parts = [density.movedim(axis, 0).unflatten(0, (-1, self.cells)).mean(1) for axis in range(3)]
            self.last = (universe, seed), torch.cat(parts)
        return self.last[1]

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The maps of these indices; each box that they need is simulated once. Raises IndexError beyond the survey."""
        indices = within(indices, len(self))
        universe, place = np.divmod(indices, self.each)
        side = self.nbody.side
        maps = torch.zeros(len(indices), side, side)
        for one in np.unique(universe).tolist():
            some = np.flatnonzero(universe == one)
            maps[torch.from_numpy(some)] = self.slabs(one, seed)[torch.from_numpy(place[some])]
        truth = self.nbody.parameters(torch.from_numpy(universe), seed)
        arrays = {
            "id": pa.array([f"slab-{seed}-{i}" for i in indices.tolist()], pa.string()),
            "universe": pa.array(universe),
            "density": pa.FixedSizeListArray.from_arrays(pa.array(maps.flatten().numpy()), side**2),
            **{name: pa.array(value.numpy()) for name, value in truth.items()},
        }
        schema = self.schema().arrow()
        return pa.RecordBatch.from_arrays([arrays[field.name] for field in schema], schema=schema)
