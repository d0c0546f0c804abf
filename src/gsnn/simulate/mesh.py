"""Periodic meshes: the modes of a box, noise with a spectrum, and the way from particles to a mesh and back.

Lengths are comoving, in Mpc/h. Component i of a vector is along axis i of the mesh.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import reduce
from itertools import product

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def waves(side: int, box: float, space: int = 3) -> tuple[Float[Tensor, "*mode"], ...]:
    """The components of k in h/Mpc of the modes that ``torch.fft.rfftn`` gives, each in a shape that broadcasts."""
    parts = [torch.fft.fftfreq(side, box / side, dtype=torch.float64)] * (space - 1)
    parts.append(torch.fft.rfftfreq(side, box / side, dtype=torch.float64))
    return tuple(2 * math.pi * k.view([-1 if i == j else 1 for j in range(space)]) for i, k in enumerate(parts))


def wavenumbers(side: int, box: float, space: int = 2) -> Float[Tensor, "*mode"]:
    """|k| in h/Mpc of the modes that ``torch.fft.rfftn`` gives of ``side`` cells an axis and ``box`` Mpc/h."""
    return reduce(torch.hypot, torch.broadcast_tensors(*waves(side, box, space)))


def multiplicity(side: int, space: int = 2) -> Float[Tensor, "*mode"]:
    """How many modes of the whole box each mode of ``rfftn`` stands for: 1 or 2."""
    count = torch.full((*[side] * (space - 1), side // 2 + 1), 2.0, dtype=torch.float64)
    count[..., 0] = 1
    if side % 2 == 0:
        count[..., -1] = 1
    return count


def coloured(
    white: Float[Tensor, "object ..."], spectrum: Float[Tensor, "object ..."], cell: float
) -> Float[Tensor, "object ..."]:
    """White noise of unit variance with this spectrum instead; ``cell`` is the volume (area) of a cell."""
    return to_cells(to_modes(white) * torch.sqrt(spectrum / cell), white.shape[-1])


def to_modes(cells: Float[Tensor, "object ..."]) -> Tensor:
    """``rfftn`` over all dimensions but the first."""
    return torch.fft.rfftn(cells, dim=tuple(range(1, cells.ndim)))


def to_cells(modes: Tensor, side: int) -> Float[Tensor, "object ..."]:
    """The inverse of :func:`to_modes`."""
    return torch.fft.irfftn(modes, s=[side] * (modes.ndim - 1), dim=tuple(range(1, modes.ndim)))


def shells(side: int, space: int = 2) -> Int64[Tensor, "*mode"]:
    """The shell, one fundamental wave thick, of each mode that ``rfftn`` gives; 0 is the mean."""
    return torch.round(wavenumbers(side, 2 * math.pi, space)).long()


def shell_modes(side: int, space: int = 2) -> Float[Tensor, " shell"]:
    """How many modes of the whole box each shell has."""
    return torch.bincount(shells(side, space).flatten(), multiplicity(side, space).flatten())


def shell_powers(cells: Float[Tensor, "object ..."]) -> Float[Tensor, "object shell"]:
    """The mean |F|^2 over the number of cells of each shell, from the mean to the corner of the mesh."""
    side, space = cells.shape[-1], cells.ndim - 1
    shell, weight, modes = (
        one.to(cells.device) for one in (shells(side, space), multiplicity(side, space), shell_modes(side, space))
    )
    square = (to_modes(cells).abs().square() * weight).flatten(1)
    return square.new_zeros(len(cells), len(modes)).index_add(1, shell.flatten(), square) / modes / side**space


def slopes(side: int, box: float, space: int = 3, *, central: bool = False) -> tuple[Float[Tensor, "*mode"], ...]:
    """What a derivative along each axis multiplies the modes by, over i: k, but 0 at the Nyquist frequency.

    There a derivative is no real field. ``central`` is the difference of four neighbours, (8 sin kh - sin 2kh) / 6h,
    which falls to 0 on the way there.
    """
    found, h = [], box / side
    for k in waves(side, box, space):
        inside = k.abs() < math.pi / h * (1 - 1e-9)
        found.append((8 * torch.sin(k * h) - torch.sin(2 * k * h)) / (6 * h) if central else k.where(inside, 0.0))
    return tuple(found)


def pull(modes: Tensor, box: float, *, central: bool = False) -> Float[Tensor, "object space *cell"]:
    """-grad(inverse Laplacian) of a field given by its modes: i k / k^2, with the derivative of :func:`slopes`.

    Of an overdensity it is the displacement whose divergence is minus the overdensity, which is also the force of
    gravity in its units.
    """
    side, space = modes.shape[1], modes.ndim - 1
    square = sum((one**2).to(modes.real.dtype) for one in waves(side, box, space)).clamp(min=1e-12)
    over = modes / square
    parts = [to_cells(over * (1j * k).to(modes.dtype), side) for k in slopes(side, box, space, central=central)]
    return torch.stack(parts, 1)


def lattice(side: int, box: float, space: int = 3, dtype: torch.dtype = torch.float32) -> Float[Tensor, "space ..."]:
    """The places of a regular lattice: where particles begin."""
    line = torch.arange(side, dtype=dtype) * (box / side)
    return torch.stack(torch.meshgrid([line] * space, indexing="ij"))


def _corners(
    place: Float[Tensor, "object space *particle"], side: int, box: float
) -> Iterator[tuple[Int64[Tensor, "object n"], Float[Tensor, "object n"]]]:
    """The cells that share a particle, flat, and their shares (cloud in cell; Hockney & Eastwood 1981, section 5-3)."""
    x = place.flatten(2) * (side / box)
    low = torch.floor(x)
    share, low = x - low, low.long()
    space = x.shape[1]
    ends = [
        [(low[:, i] + up).remainder(side) * side ** (space - 1 - i) for up in (0, 1)] for i in range(space)
    ]  # fmt: skip
    weights = [(1 - share[:, i], share[:, i]) for i in range(space)]
    for corner in product((0, 1), repeat=space):
        yield (
            sum(ends[i][up] for i, up in enumerate(corner)),
            math.prod([weights[i][up] for i, up in enumerate(corner)]),
        )


def paint(place: Float[Tensor, "object space *particle"], side: int, box: float) -> Float[Tensor, "object ..."]:
    """The overdensity of particles of equal mass at these places, by cloud in cell on ``side`` cells an axis.

    Places beyond the box continue at the other side. The mean is 0 to rounding: no mass is lost. Differentiable.
    """
    objects, space = place.shape[:2]
    flat = place.new_zeros(objects * side**space)
    first = torch.arange(objects, device=place.device)[:, None] * side**space
    for cell, share in _corners(place, side, box):
        flat = flat.index_add(0, (cell + first).flatten(), share.flatten())
    particles = place[0, 0].numel()
    return flat.view(objects, *[side] * space) * (side**space / particles) - 1


def read(
    field: Float[Tensor, "object channel *cell"], place: Float[Tensor, "object space *particle"], box: float
) -> Float[Tensor, "object channel *particle"]:
    """The field at these places, by the same shares as :func:`paint`, so that the momentum of particles is kept."""
    objects, channels, side = *field.shape[:2], field.shape[-1]
    flat, found = field.flatten(2), 0
    for cell, share in _corners(place, side, box):
        index = cell[:, None].expand(-1, channels, -1)
        found = found + flat.gather(2, index) * share[:, None]
    return found.view(objects, channels, *place.shape[2:])
