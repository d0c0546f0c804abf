"""What the ranks of a layout say to each other in a step: every collective, and the bytes a rank sends."""

from __future__ import annotations

from dataclasses import dataclass

from .memory import VIRTUAL, Layout, held, sharded, shards
from .shapes import Shape

SENT = {  # of a tensor, whole over n ranks, a rank sends (ring algorithms)
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "send": lambda n: 1.0,
}


@dataclass(frozen=True)
class Collective:
    """``count`` times a step, ``bytes`` of the whole tensor (for all-to-all and send: of the rank's own)."""

    dimension: str
    kind: str
    bytes: float
    ranks: int
    count: float

    @property
    def sent(self) -> float:
        """Bytes that a rank sends for it in a step."""
        return self.count * self.bytes * SENT[self.kind](self.ranks)


def collectives(
    shape: Shape, layout: Layout, micro_batch: int, sequence: int, *, bytes_each: int = 2, stage: int | None = None
) -> list[Collective]:
    """Every collective of one training step as rank ``stage`` of the pipeline sees it (None: one in the middle).

    - replicate: one all-reduce of the gradient (float32), of what the rank holds of it.
    - shard (over shard x context): blocks are gathered for the forward and again for the backward pass of each piece,
      the ends once; gradients (float32) are reduced once a step. In a pipeline everything is gathered once.
    - tensor, sequence parallel (Korthikanti et al. 2022, arXiv:2205.05198): two all-gathers and two reduce-scatters
      forward and as many backward, 8 b s h B (t - 1) / t a block; recomputing stops before the last reduce-scatter.
      Beside another dimension but pipelines, gradients of norms are summed (as measured; of tensor alone none were).
    - context: Ulysses (Jacobs et al. 2023, arXiv:2309.14509): all-to-alls of query, key, value and output, both ways;
      ring (Liu et al. 2023, arXiv:2310.01889): keys and values go c - 1 times on forward; backward again, in float32,
      and their gradients all c times, back to where they belong.
    - pipeline: a tensor of the block's width each way over every boundary and piece.
    """
    p, t, c, m, n = layout.pipeline, layout.tensor, layout.context, layout.microbatches, shards(layout)
    blocks, ends = held(shape, layout, stage)
    if p > 1 and stage is None:
        ends = 0
    block = shape.block_parameters(t, n)
    tokens = micro_batch * sequence / c
    found = []

    def add(dimension: str, kind: str, size: float, ranks: int, count: float) -> None:
        if ranks > 1 and count and size:
            found.append(Collective(dimension, kind, size, ranks, count))

    if sharded(layout):
        gathers = 1 if p > 1 else 2 * m
        add("shard", "all-gather", bytes_each * block, n, blocks * gathers)
        add("shard", "all-gather", bytes_each * ends, n, 1 if p > 1 else m)
        add("shard", "reduce-scatter", 4.0 * block, n, blocks)
        add("shard", "reduce-scatter", 4.0 * ends, n, 1)
        add("replicate", "all-reduce", 4.0 * (blocks * block + ends) / n, layout.replicate, 1)
    else:
        add("replicate", "all-reduce", 4.0 * (blocks * block + ends), layout.replicate, 1)
    tensor_bytes = bytes_each * tokens * shape.width
    ends_here = 2 if p == 1 else (stage == 0) + (stage == p - 1)  # into the first block's gradient, out of the last
    add("tensor", "all-gather", tensor_bytes, t, m * ends_here)
    add("tensor", "all-gather", tensor_bytes, t, blocks * m * (6 if layout.recompute else 4))
    add("tensor", "reduce-scatter", tensor_bytes, t, blocks * m * (5 if layout.recompute else 4))
    if p == 1 and layout.processes > t:  # the blocks' norms, whose gradients are those of a slice of tokens or heads
        add("tensor", "all-reduce", 8.0 * blocks * (shape.width + shape.head), t, 1)
    if layout.attention == "ulysses":
        size = bytes_each * tokens * (2 * shape.width + 2 * shape.kv_width) / t
        add("context", "all-to-all", size, c, blocks * m * (3 if layout.recompute else 2))
    else:
        size = 2 * tokens * shape.kv_width / t  # values of the keys and values of a slice
        add("context", "send", bytes_each * size, c, blocks * m * (c - 1) * (2 if layout.recompute else 1))
        add("context", "send", 4.0 * size, c, blocks * m * (c - 1))
        add("context", "send", 4.0 * size, c, blocks * m * c)
    if p > 1:
        v = VIRTUAL[layout.schedule]
        sends = 2 * v if stage is None else _sends(p, v, stage, layout.schedule)
        add("pipeline", "send", tensor_bytes, p, m * sends)
    return found


def _sends(p: int, v: int, rank: int, schedule: str) -> int:
    """Boundaries over which a rank sends, forward and backward. V-shaped schedules turn round on the last rank."""
    total = p * v
    if schedule in ("zbv-zero-bubble", "dualpipe-v"):
        stages = (rank, total - 1 - rank)
        owner = {s: min(s, total - 1 - s) for s in range(total)}
    else:
        stages = tuple(rank + p * k for k in range(v))
        owner = {s: s % p for s in range(total)}
    forward = sum(1 for s in stages if s + 1 < total and owner[s + 1] != rank)
    return forward + sum(1 for s in stages if s > 0 and owner[s - 1] != rank)


def traffic(shape: Shape, layout: Layout, micro_batch: int, sequence: int, **how: object) -> dict[str, float]:
    """Dimension -> bytes that a rank sends in a step (ring algorithms); the arguments of :func:`collectives`."""
    out = dict.fromkeys(("replicate", "shard", "tensor", "pipeline", "context"), 0.0)
    for one in collectives(shape, layout, micro_batch, sequence, **how):
        out[one.dimension] += one.sent
    return out
