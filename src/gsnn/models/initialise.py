"""Weights before training as a function of (seed, parameter name, global index): the same under every layout.

Each element is drawn from its own address, so a process that holds a shard, a pipeline stage or the whole network gives
it the same value, bit for bit, on a CPU and on a GPU. Only integers are added and one product rounded, so that no
vectorised logarithm can differ in its last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ..errors import GsnnError
from ..rng import bits

Rule = Callable[[str, tuple[int, ...]], tuple[float, float]]  # (name, global shape) -> mean and standard deviation

_WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.")  # what torch.compile and checkpointing put into names
_CHUNK = 1 << 22  # elements drawn at once
_SCALE = 1 / math.sqrt(4 * (2**32 - 1) / 12)  # of the sum of four uniform 16-bit numbers


def bell(words: Int64[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Zero mean, unit variance, within 3.5: the sum of the four 16-bit parts of a word (Irwin 1927, Hall 1927)."""
    total = sum((words >> shift) & 0xFFFF for shift in (0, 16, 32, 48))
    return (2 * total - 4 * 0xFFFF).float() * (_SCALE / 2)


def usual(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Mean and standard deviation: norms 1, biases 0, matrices 1 / sqrt(inputs) (LeCun et al. 1998)."""
    if len(shape) < 2:
        return float(name.endswith("weight")), 0.0
    return 0.0, math.prod(shape[1:]) ** -0.5


def initialise(module: nn.Module, seed: int, rule: Rule | None = None) -> None:
    """Fill every parameter of ``module``, which may hold shards (DTensor), or some of a network's names only.

    ``rule`` gives each parameter its mean and spread: the module's own method ``initial`` where it has one, else
    :func:`usual`. Names are those of ``module.named_parameters()``, so hand over the network and not what holds it.
    Raises GsnnError for a parameter on the meta device, which has no memory to fill.
    """
    rule = rule or getattr(module, "initial", usual)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            for wrapper in _WRAPPERS:
                name = name.replace(wrapper, "")
            if parameter.is_meta:
                raise GsnnError(f"{name!r} is on the meta device: give the network memory by to_empty() first")
            local, places = _local(parameter)
            fill(local, places, tuple(parameter.shape), seed, name, *rule(name, tuple(parameter.shape)))


def fill(
    tensor: Tensor,
    places: Sequence[Int64[Tensor, " n"]],
    shape: tuple[int, ...],
    seed: int,
    name: str,
    mean: float,
    spread: float,
) -> None:
    """Fill ``tensor``: parameter ``name`` of global ``shape`` at the indices ``places``, one list a dimension.

    A slice that was cut by hand, and is no DTensor, is filled by this.
    """
    if not spread or not tensor.ndim:
        tensor.fill_(mean)
        return
    first, *others = (place.to(tensor.device) for place in places)
    rows = max(_CHUNK // max(math.prod(tensor.shape[1:]), 1), 1)
    for part, index in zip(tensor.split(rows), first.split(rows)):
        for size, place in zip(shape[1:], others):
            index = index[..., None] * size + place
        words = bits(seed, f"weight/{name}", index.reshape(-1))[:, 0]
        part.copy_(bell(words).view(part.shape) * spread + mean)


def _local(parameter: Tensor) -> tuple[Tensor, list[Int64[Tensor, " n"]]]:
    """What this process holds of a parameter, and the global indices of it along each dimension."""
    places = [torch.arange(size, device="cpu") for size in parameter.shape]
    if not hasattr(parameter, "placements"):
        return parameter, places
    mesh: Any = parameter.device_mesh
    for axis, (placement, coordinate) in enumerate(zip(parameter.placements, mesh.get_coordinate())):
        if placement.is_partial():
            raise GsnnError("a parameter whose values are parts of a sum cannot be initialised; shard or replicate it")
        if not placement.is_replicate():  # in turn, so that a strided shard (FSDP over tensor parallel) is exact
            along = [1] * parameter.ndim
            along[placement.dim] = -1
            whole = places[placement.dim].view(along)
            parts, _ = placement._split_tensor(whole, mesh.size(axis), with_padding=False)
            places[placement.dim] = parts[coordinate].flatten()
    return parameter.to_local(), places
