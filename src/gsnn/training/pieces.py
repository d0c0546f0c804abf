"""Which piece of which tensor a process holds, which of them it writes, and which it needs from those written.

A piece is a box of a tensor: where it begins, and its shape, as in torch.distributed.checkpoint (by whose protocol a
distributed tensor tells which box of it is here). Nothing below depends on how the boxes came about, so that a
checkpoint can be read under any layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import GsnnError
from .storage import CODES, DTYPES, size_of

Box = tuple[tuple[int, ...], tuple[int, ...]]  # where it begins, its shape
Held = dict[str, Any]  # name -> [dtype, shape, boxes]: what a process has, as JSON


@dataclass(frozen=True)
class Piece:
    """A box of the tensor ``name`` that one process writes, ``start`` bytes after the first."""

    name: str
    box: Box
    dtype: torch.dtype
    key: str  # its name in the file
    start: int = 0

    @property
    def bytes(self) -> int:
        return size_of(self.dtype, self.box[1])


@dataclass(frozen=True)
class Plan:
    """What each process holds, and the pieces that each writes."""

    held: list[Held]
    pieces: list[list[Piece]]

    @classmethod
    def of(cls, held: list[Held]) -> Plan:
        """Every box is written once, by that holder who has least to write so far.

        Raises GsnnError where the boxes of a tensor are not the whole of it.
        """
        about: dict[str, tuple[str, list[int]]] = {}
        holders: dict[str, dict[Box, list[int]]] = {}
        for process, mine in enumerate(held):
            for name, (code, shape, some) in mine.items():
                if about.setdefault(name, (code, shape)) != (code, shape):
                    raise GsnnError(f"{name!r} is of another shape or type on process {process} than on others")
                for begins, size in some:
                    holders.setdefault(name, {}).setdefault((tuple(begins), tuple(size)), []).append(process)
        pieces: list[list[Piece]] = [[] for _ in held]
        load = [0] * len(held)
        for name, (code, shape) in sorted(about.items()):
            found = holders.get(name, {})
            if sum(torch.Size(size).numel() for _, size in found) != torch.Size(shape).numel():
                raise GsnnError(f"the pieces of {name!r} that the processes hold do not make up the whole of it")
            for box, candidates in sorted(found.items()):
                writer = min(candidates, key=lambda process: load[process])
                piece = Piece(name, box, DTYPES[code], key_of(name, box, shape))
                load[writer] += piece.bytes
                pieces[writer].append(piece)
        return cls(held, [list(_placed(some)) for some in pieces])

    def index(self) -> dict[str, Any]:
        """Name -> dtype, shape and chunks, each [begins, shape, number of its file]: JSON for the manifest."""
        table: dict[str, Any] = {}
        for mine in self.held:
            for name, (code, shape, _) in mine.items():
                table.setdefault(name, {"dtype": code, "shape": shape, "chunks": []})
        for process, some in enumerate(self.pieces):
            for piece in some:
                table[piece.name]["chunks"].append([*piece.box, process])
        return table


def _placed(pieces: list[Piece]) -> Iterator[Piece]:
    """Pieces one after the other, wide numbers first, so that each is aligned."""
    start = 0
    for piece in sorted(pieces, key=lambda p: -p.dtype.itemsize):
        yield Piece(piece.name, piece.box, piece.dtype, piece.key, start)
        start += piece.bytes


def key_of(name: str, box: Box, shape: Sequence[int]) -> str:
    """The name of a piece in its file: ``weight`` for the whole, else as Python slices: ``weight[0:32, 0:64]``."""
    if list(box[1]) == list(shape):
        return name
    return f"{name}[{', '.join(f'{begin}:{begin + size}' for begin, size in zip(*box))}]"


def local(tensor: Tensor) -> Tensor:
    """The values that this process holds of a tensor: a view."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def boxes(tensor: Tensor) -> list[Box]:
    """What this process holds of a tensor: all of a plain one, at most one box of a distributed one."""
    if not hasattr(tensor, "to_local"):
        return [((0,) * tensor.ndim, tuple(tensor.shape))]
    if tensor.device_mesh.get_coordinate() is None:  # of processes that this one is not among
        return []
    here = [(tuple(chunk.offsets), tuple(chunk.sizes)) for chunk in tensor.__create_chunk_list__()]
    if [size for _, size in here] != [tuple(tensor.to_local().shape)]:
        raise ValueError(f"a tensor of {tensor.placements} is not one box on this process")
    return [box for box in here if 0 not in box[1]]


def describe(tensors: dict[str, Tensor]) -> Held:
    """What this process holds, for the others to know."""
    strange = [name for name, tensor in tensors.items() if tensor.dtype not in CODES]
    if strange:
        raise GsnnError(f"{strange[0]!r} is of {tensors[strange[0]].dtype}, which a checkpoint cannot hold")
    return {
        name: [CODES[t.dtype], list(t.shape), [[list(part) for part in box] for box in boxes(t)]]
        for name, t in tensors.items()
    }


def overlap(here: Box, there: Box) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
    """The part that two boxes share, as slices of the one and of the other; None where there is none."""
    ours, theirs = [], []
    for a, n, b, m in zip(*here, *there):
        low, high = max(a, b), min(a + n, b + m)
        if low >= high:
            return None
        ours.append(slice(low - a, high - a))
        theirs.append(slice(low - b, high - b))
    return tuple(ours), tuple(theirs)


def differences(held: list[Held], index: dict[str, Any], most: int = 3) -> str:
    """How the tensors that the processes want differ from those of a manifest; "" if they do not."""
    wanted = {name: (code, tuple(shape)) for one in held for name, (code, shape, _) in one.items()}
    saved = {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in index.items()}
    found = []
    for what, names in (("it lacks", wanted.keys() - saved.keys()), ("it alone has", saved.keys() - wanted.keys())):
        if names:
            more = f" and {len(names) - most} more" if len(names) > most else ""
            found.append(f"{what} {', '.join(map(repr, sorted(names)[:most]))}{more}")
    other = [name for name in sorted(wanted.keys() & saved.keys()) if wanted[name] != saved[name]]
    found += [f"{name!r} is {_text(*saved[name])} there and {_text(*wanted[name])} here" for name in other[:1]]
    return "; ".join(found)


def _text(code: str, shape: tuple[int, ...]) -> str:
    return f"{code} {list(shape)}"
