"""Boxes of matter: where perturbation theory says that it has moved, and where an N-body simulation finds it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .. import rng
from ..data.schema import Column, Schema
from ..data.source import within
from ..errors import ConfigError
from .lpt import displacements, growth, linear_density
from .particle_mesh import evolve, start_from, times

FIELDS = {
    "zeldovich": "displacement today by Zel'dovich's approximation",
    "lpt": "displacement today by second-order perturbation theory",
    "coarse": "displacement today by a particle mesh of few steps, as fine as the lattice",
    "nbody": "displacement today by a particle-mesh simulation",
}
AXES = ("z", "y", "x")


class NBody:
    """Periodic boxes of ``side``^3 particles, each from other initial conditions; a Source.

    The displacements of the particles from their lattice, today, in Mpc/h: at first order, at second order, and by a
    particle mesh of ``steps`` steps from the scale factor ``start`` with forces on a mesh ``refine`` times finer than
    the lattice (:mod:`gsnn.simulate.particle_mesh`); ``coarse`` is the same of so few steps on a mesh no finer than the
    lattice, which costs a tenth. ``omega_m`` and ``sigma_8`` are flat over their ranges, or fixed
    where the ends are one; all else is as Planck found it.
    """

    def __init__(
        self,
        *,
        boxes: int = 64,
        side: int = 64,
        box: float = 128.0,
        steps: int = 20,
        start: float = 0.1,
        refine: int = 2,
        coarse: int = 4,
        omega_m: tuple[float, float] = (0.3153, 0.3153),
        sigma_8: tuple[float, float] = (0.8111, 0.8111),
    ):
        if boxes < 1:
            raise ConfigError(f"a survey needs at least one box, not {boxes}", ("boxes",))
        if not 4 <= side <= 512 or side % 2:
            raise ConfigError(f"a box has an even number of 4 to 512 particles a side, not {side}", ("side",))
        if not box > 0:
            raise ConfigError(f"a box is longer than 0 Mpc/h, not {box}", ("box",))
        for name, count in (("steps", steps), ("coarse", coarse)):
            if not 1 <= count <= 1000:
                raise ConfigError(f"a simulation takes 1 to 1000 steps, not {count}", (name,))
        if not 0.002 <= start < 1:
            raise ConfigError(f"a simulation starts at a scale factor of 0.002 to 1, not {start}", ("start",))
        if not 1 <= refine <= 4:
            raise ConfigError(f"the mesh is 1 to 4 times finer than the lattice, not {refine}", ("refine",))
        for name, (low, high), most in (("omega_m", omega_m, 1.0), ("sigma_8", sigma_8, 2.0)):
            if not 0.05 <= low <= high <= most:
                raise ConfigError(f"{name} lies within 0.05 to {most:g} and does not fall, not {[low, high]}", (name,))
        self.boxes, self.side, self.box = boxes, side, box
        self.steps, self.start, self.refine, self.coarse = steps, start, refine, coarse
        self.ranges = {"omega_m": omega_m, "sigma_8": sigma_8}

    def schema(self) -> Schema:
        shape = (3, self.side, self.side, self.side)
        return Schema.of(
            (
                Column("id", "id"),
                *(
                    Column(
                        name, "field", unit="Mpc/h", bands=AXES, shape=shape, box=self.box,
                        description=text,
                    )
                    for name, text in FIELDS.items()
                ),
                Column("omega_m", "scalar", dtype="float64", description="density of matter over the critical one"),
                Column("sigma_8", "scalar", dtype="float64", description="contrast of matter in spheres of 8 Mpc/h"),
            ),
            simulator="gsnn.simulate.nbody", steps=str(self.steps), start=str(self.start), refine=str(self.refine),
            coarse=str(self.coarse),
        )  # fmt: skip

    def __len__(self) -> int:
        return self.boxes

    def parameters(self, rows: Int64[Tensor, " n"], seed: int) -> dict[str, Float[Tensor, " n"]]:
        """The universes of these rows."""
        share = rng.uniform(seed, "nbody/parameters", rows, 2).double()
        return {name: low + (high - low) * share[:, i] for i, (name, (low, high)) in enumerate(self.ranges.items())}

    def draw(
        self, omega_m: Float[Tensor, " n"], sigma_8: Float[Tensor, " n"], rows: Int64[Tensor, " n"], seed: int
    ) -> dict[str, Float[Tensor, "n 3 z y x"]]:
        """The displacements of these universes; their chance is a function of (seed, row)."""
        s1, s2 = self.first(omega_m, sigma_8, rows, seed)
        d2 = growth(torch.ones(1), omega_m).d2.float().view(-1, 1, 1, 1, 1)
        begin = *start_from(s1, s2, omega_m, self.start), omega_m, self.box
        coarse, _ = evolve(*begin, times(self.start, self.coarse), refine=1)
        moved, _ = evolve(*begin, times(self.start, self.steps), refine=self.refine)
        return {"zeldovich": s1, "lpt": s1 + d2 * s2, "coarse": coarse, "nbody": moved}

    def first(
        self, omega_m: Float[Tensor, " n"], sigma_8: Float[Tensor, " n"], rows: Int64[Tensor, " n"], seed: int
    ) -> tuple[Float[Tensor, "n 3 z y x"], Float[Tensor, "n 3 z y x"]]:
        """What 2LPT takes: displacements of today at first and at second order."""
        return displacements(linear_density(rows, seed, omega_m, sigma_8, self.side, self.box), self.box)

    def moved(
        self, omega_m: Float[Tensor, " n"], sigma_8: Float[Tensor, " n"], rows: Int64[Tensor, " n"], seed: int
    ) -> Float[Tensor, "n 3 z y x"]:
        """The displacements by the particle mesh alone."""
        begin = start_from(*self.first(omega_m, sigma_8, rows, seed), omega_m, self.start)
        return evolve(*begin, omega_m, self.box, times(self.start, self.steps), refine=self.refine)[0]

    def rows(self, indices: Int64[np.ndarray, " n"], seed: int) -> pa.RecordBatch:
        """The boxes of these indices, simulated one by one. Raises IndexError beyond the survey."""
        indices = torch.from_numpy(within(indices, self.boxes))
        truth = self.parameters(indices, seed)
        made = [
            self.draw(truth["omega_m"][one], truth["sigma_8"][one], indices[one], seed)
            for one in torch.arange(len(indices)).split(1)
            if len(one)
        ]
        arrays = {
            "id": pa.array([f"box-{seed}-{row}" for row in indices.tolist()], pa.string()),
            **{name: pa.array(value.numpy()) for name, value in truth.items()},
        }
        for name in FIELDS:
            flat = torch.cat([torch.zeros(0), *(one[name].flatten() for one in made)])
            arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat.numpy()), 3 * self.side**3)
        schema = self.schema().arrow()
        return pa.RecordBatch.from_arrays([arrays[field.name] for field in schema], schema=schema)
