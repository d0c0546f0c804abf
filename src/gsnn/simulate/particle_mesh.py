"""A particle-mesh N-body code: gravity on a mesh, particles by cloud in cell, steps in the scale factor.

The factors of its kicks and drifts are those of FastPM (Feng et al. 2016, arXiv:1603.00476, eqs 11 and 12), by which
modes of linear size grow as they should however few the steps. All is differentiable, and batched over universes.
Lengths are comoving, in Mpc/h; momenta are a^2 (dx/dt) / H0.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .lpt import displacements, growth
from .mesh import lattice, paint, pull, read, to_modes

Vectors = Float[Tensor, "object 3 z y x"]  # of particles that began on a lattice


def times(start: float, steps: int) -> Float[Tensor, " time"]:
    """Scale factors from ``start`` to 1, evenly spaced."""
    return torch.linspace(start, 1, steps + 1, dtype=torch.float64)


def start_from(first: Vectors, second: Vectors, omega_m: Float[Tensor, " object"], a: float) -> tuple[Vectors, Vectors]:
    """Displacements and momenta at the scale factor ``a`` by 2LPT, from :func:`gsnn.simulate.lpt.displacements`."""
    d1, g1, d2, g2 = (one.to(first.dtype).view(-1, 1, 1, 1, 1) for one in growth(torch.tensor([a]), omega_m))
    return d1 * first + d2 * second, g1 * first + g2 * second


def force(displacement: Vectors, box: float, mesh: int) -> Vectors:
    """-grad(inverse Laplacian of the overdensity) at the particles; ``mesh`` is the number of cells an axis.

    Differences of four neighbours stand for the gradient, and a lattice that has every second node of the mesh is put
    between the nodes (FastPM has both): cells there that hold a particle and cells that hold none would otherwise be
    felt as structure. The kernel is odd and painting and reading have the same shares, so that the forces of all
    particles add up to nothing.
    """
    side = displacement.shape[-1]
    between = 0.5 * box / mesh if mesh % (2 * side) == 0 else 0.0
    place = lattice(side, box, dtype=displacement.dtype) + displacement + between
    return read(pull(to_modes(paint(place, mesh, box)), box, central=True), place, box)


def evolve(
    displacement: Vectors,
    momentum: Vectors,
    omega_m: Float[Tensor, " object"],
    box: float,
    a: Float[Tensor, " time"],
    *,
    refine: int = 2,
) -> tuple[Vectors, Vectors]:
    """Displacements and momenta at the last of the scale factors ``a``, from those at the first: kick, drift, kick.

    The mesh of the forces is ``refine`` times finer than the lattice of the particles.
    """
    mesh = refine * displacement.shape[-1]
    middle = torch.sqrt(a[1:] * a[:-1])
    at, half = growth(a, omega_m), growth(middle, omega_m)

    def shaped(factor: Tensor) -> Tensor:
        return factor.to(displacement.dtype).view(-1, 1, 1, 1, 1)

    pulled = force(displacement, box, mesh)
    for i in range(len(a) - 1):
        momentum = momentum + shaped((half.g1[:, i] - at.g1[:, i]) / at.d1[:, i]) * pulled
        displacement = displacement + shaped((at.d1[:, i + 1] - at.d1[:, i]) / half.g1[:, i]) * momentum
        pulled = force(displacement, box, mesh)
        momentum = momentum + shaped((at.g1[:, i + 1] - half.g1[:, i]) / at.d1[:, i + 1]) * pulled
    return displacement, momentum


def simulate(
    linear: Float[Tensor, "object z y x"],
    omega_m: Float[Tensor, " object"],
    box: float,
    *,
    steps: int = 30,
    start: float = 0.1,
    refine: int = 2,
) -> tuple[Vectors, Vectors]:
    """Displacements and momenta today of particles that a linear overdensity (of today) set on their way."""
    a = times(start, steps)
    return evolve(*start_from(*displacements(linear, box), omega_m, start), omega_m, box, a, refine=refine)
