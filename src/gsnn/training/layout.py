"""Which layouts can be: what a network and a batch allow, and the nearest layout that is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from ..errors import ConfigError
from .settings import DIMENSIONS, Layout, Train

# schedule -> stages of the pipeline that a process holds
STAGES = {
    "gpipe": 1,
    "1f1b": 1,
    "interleaved-1f1b": 2,
    "looped-bfs": 2,
    "interleaved-zero-bubble": 2,
    "zbv-zero-bubble": 2,
    "dualpipe-v": 2,
}
LEAST = {"1f1b": 1, "dualpipe-v": 2}  # micro-batches for each process of a pipeline
ROUNDS = ("interleaved-1f1b", "interleaved-zero-bubble")
SPLIT = ("interleaved-zero-bubble", "zbv-zero-bubble", "dualpipe-v")


@dataclass(frozen=True)
class Facts:
    """What decides whether a layout can be."""

    batch: int
    accumulate: int = 1
    blocks: int = 0  # that a pipeline can take apart; 0: the network is one piece
    heads: int = 0  # of attention; 0: no tokens that could be shared out
    kv_heads: int = 0
    hidden: int = 0  # of the feed-forward part
    tokens: int = 0
    couples: bool = False  # the loss of one object depends on the others
    compile: bool = False


def facts(model: nn.Module, settings: Train) -> Facts:
    """The facts of a model."""
    objective = model.objective
    network, couples = objective.network, getattr(objective, "couples_objects", False)
    if not objective.of_blocks:
        return Facts(settings.batch, settings.accumulate, couples=couples)
    block = next(iter(network.blocks.values()))
    return Facts(
        settings.batch, settings.accumulate, len(network.blocks), network.shape.heads, network.shape.kv_heads,
        block.mlp.up.out_features, network.places.count, couples, settings.compile,
    )  # fmt: skip


def obstacle(layout: Layout, given: Facts) -> tuple[str, str]:
    """The first dimension that cannot be, and why, as the end of a sentence; ("", "") where the layout can be."""
    data = layout.replicate * layout.shard
    cut = layout.tensor * layout.context
    if given.couples and data > 1:
        return "replicate", "its loss couples the objects of a batch, which may not be divided"
    if layout.pipeline > 1 and not given.blocks:
        return "pipeline", "the network cannot be cut into stages: only a transformer can"
    for name in ("tensor", "context"):
        if getattr(layout, name) > 1 and not given.heads:
            return name, f"the network has no {'heads' if name == 'tensor' else 'tokens'} to share out"
    if data > given.batch:
        return "replicate", f"{data} shares of a batch of {given.batch} objects leave some of them empty"
    stages = layout.pipeline * STAGES[layout.schedule]
    if layout.pipeline > 1:
        if stages > given.blocks:
            return "pipeline", f"{stages} stages are more than the network's {given.blocks} blocks"
        pieces = microbatches(layout)
        if given.batch % (data * pieces):
            return "pipeline", (
                f"a batch of {given.batch} objects is not divisible by {data * pieces} = {data} shares x {pieces} "
                "micro-batches"
            )
        if given.accumulate > 1:
            return "pipeline", "a pipeline cuts the batch into micro-batches by itself: leave accumulate = 1"
        if pieces < (least := LEAST.get(layout.schedule, 0) * layout.pipeline):
            return "microbatches", f"the schedule {layout.schedule!r} needs {least} micro-batches, not {pieces}"
        if layout.schedule in ROUNDS and pieces % (rounds := max(pieces // layout.pipeline, 1)):
            return "microbatches", (
                f"the schedule {layout.schedule!r} passes micro-batches on in {rounds} rounds, and {pieces} are not "
                f"divisible by {rounds}"
            )
        if layout.schedule in SPLIT and given.compile:
            return "schedule", (
                f"the schedule {layout.schedule!r} splits the backward pass, which compiled blocks do in one: leave "
                "compile = false, or choose the schedule '1f1b'"
            )
    if layout.tensor > 1:
        for what, count in (("heads", given.heads), ("key heads", given.kv_heads), ("hidden units", given.hidden)):
            if count % layout.tensor:
                return "tensor", f"the network's {count} {what} are not divisible by {layout.tensor}"
    if layout.context > 1 and layout.attention == "ulysses":
        for what, count in (("heads", given.heads), ("key heads", given.kv_heads)):
            if count % cut:
                return "context", f"the network's {count} {what} are not divisible by {cut}: try attention = 'ring'"
    if cut > 1 and given.tokens % cut:
        return ("context" if layout.context > 1 else "tensor"), (
            f"an object's {given.tokens} tokens are not divisible by {cut}"
        )
    return "", ""


def microbatches(layout: Layout) -> int:
    """Pieces into which a pipeline cuts each share of a batch."""
    return layout.microbatches or layout.pipeline * LEAST.get(layout.schedule, 1)


def require(layout: Layout, given: Facts, world: int) -> None:
    """Raise a ConfigError that names the nearest layout that can be, unless this one can."""
    name, why = obstacle(layout, given)
    if layout.processes != world:
        name = name or next((n for n in DIMENSIONS if getattr(layout, n) > 1), "replicate")
        why = why or f"it is of {layout.processes} processes, and {world} {'is' if world == 1 else 'are'} running"
    if not why:
        return
    best = nearest(layout, given, world)
    found = ", ".join(f"{n} = {d}" for n, d in best.degrees.items() if d > 1) if best else ""
    hint = f"the nearest layout that can be: {found or 'one process'}" if best else "no layout of that many can be"
    raise ConfigError(f"this layout cannot be: {why}; {hint}", ("train", "layout", name))


def nearest(layout: Layout, given: Facts, world: int) -> Layout | None:
    """The layout of at most ``world`` processes that can be and differs least, by the factors between degrees."""
    for count in range(world, 0, -1):
        made = [layout.model_copy(update=dict(zip(DIMENSIONS, d))) for d in _factors(count, len(DIMENSIONS))]
        can = [one for one in made if not obstacle(one, given)[1]]
        if can:
            return min(can, key=lambda one: _distance(one, layout))
    return None


def _distance(a: Layout, b: Layout) -> float:
    return sum(abs(math.log(x / y)) for x, y in zip(a.degrees.values(), b.degrees.values()))


def _factors(count: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to write ``count`` as a product of ``parts`` factors, in order."""
    if parts == 1:
        yield (count,)
        return
    for first in range(1, count + 1):
        if count % first == 0:
            for rest in _factors(count // first, parts - 1):
                yield (first, *rest)
