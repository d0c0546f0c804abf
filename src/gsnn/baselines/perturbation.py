"""Cheaper answers to where matter moves, which an emulator of N-body simulations has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..data.schema import Column, Schema
from ..errors import GsnnError
from .base import cpu_seconds

if TYPE_CHECKING:
    from ..data.survey import View
    from ..evaluation.distributions import Distribution


class Zeldovich:
    """The displacement at first order, as the simulator gives it (column ``zeldovich``). Nothing is fitted."""

    column: ClassVar[str] = "zeldovich"
    told: ClassVar[str] = "Zel'dovich's approximation: displacements at first order, nothing is fitted."

    def __init__(self, inputs: Schema, target: Column):
        if not target.moves:
            raise GsnnError(f"baseline {self.column}: the target {target.name!r} is no displacement of particles")
        self.target, self.seconds = target, 0.0

    def fit(self, train: View, valid: View, seed: int) -> None:
        if self.column not in train.schema:
            raise GsnnError(f"baseline {self.column}: the survey has no column {self.column!r}; simulate it with nbody")

    def predict(self, view: View) -> dict[str, Distribution]:
        from ..evaluation.fields import Fields

        start = cpu_seconds()
        found = Fields(view.columns([self.column])[self.column], self.target)
        self.seconds += cpu_seconds() - start
        return {self.target.name: found}

    def describe(self) -> str:
        return self.told


class SecondOrder(Zeldovich):
    """The displacement at second order (column ``lpt``)."""

    column = "lpt"
    told = "Second-order Lagrangian perturbation theory, nothing is fitted."


class CoarseMesh(Zeldovich):
    """The displacement by a particle mesh of few steps (column ``coarse``)."""

    column = "coarse"
    told = "A particle mesh of few steps, as fine as the lattice of the particles, nothing is fitted."
