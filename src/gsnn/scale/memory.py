"""The bytes that each rank of a layout holds at its fullest moment, by kind."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .shapes import Shape, activation

VIRTUAL = {  # schedule -> stages that a rank holds: training.layout.STAGES, which needs torch
    "gpipe": 1, "1f1b": 1, "interleaved-1f1b": 2, "looped-bfs": 2, "interleaved-zero-bubble": 2,
    "zbv-zero-bubble": 2, "dualpipe-v": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """The keys of ``[train] layout``, without their checks; anything with these attributes will do."""

    replicate: int = 1
    shard: int = 1
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    schedule: str = "1f1b"
    microbatches: int = 1  # pieces of each data rank's share of the batch
    attention: str = "ulysses"
    recompute: bool = False

    @property
    def processes(self) -> int:
        return self.replicate * self.shard * self.tensor * self.pipeline * self.context

    def but(self, **changes: object) -> Layout:
        return replace(self, **changes)


def shards(layout: Layout) -> int:
    """Ranks over which parameters are shared out: fully_shard's mesh is shard x context."""
    return layout.shard * layout.context


def sharded(layout: Layout) -> bool:
    """Whether fully_shard is at work; a layout of replicas alone is DistributedDataParallel."""
    return layout.replicate * shards(layout) > 1 and layout.processes != layout.replicate


def held(shape: Shape, layout: Layout, stage: int | None = None) -> tuple[int, int]:
    """(blocks, parameters before and behind the blocks) of a rank in the pipeline; None means the fullest.

    Blocks are dealt out evenly, the first ranks holding one more where they must. V-shaped schedules end where they
    begin: rank 0 holds both ends.
    """
    p, n = layout.pipeline, shards(layout)
    if p == 1:
        return shape.layers, shape.end_parameters(n)
    turns = layout.schedule in ("zbv-zero-bubble", "dualpipe-v")
    if stage is None:
        either = max(shape.end_parameters(n, last=False), shape.end_parameters(n, first=False))
        return -(-shape.layers // p), shape.end_parameters(n) if turns else either
    blocks = shape.layers // p + (stage < shape.layers % p)
    return blocks, shape.end_parameters(n, stage == 0, stage == (0 if turns else p - 1))


def in_flight(layout: Layout) -> float:
    """Micro-batches whose activations the fullest rank keeps, in units of all of its blocks.

    Without a pipeline one. 1F1B keeps min(m, p); GPipe and looped BFS all; interleaved with v stages a rank p [1 + (p -
    1) / (p v)] (Korthikanti et al. 2022, arXiv:2205.05198); the V-shaped schedules p (Qi et al. 2024,
    arXiv:2401.10241).
    """
    p, m, v = layout.pipeline, layout.microbatches, VIRTUAL[layout.schedule]
    if p == 1:
        return 1
    if layout.schedule in ("gpipe", "looped-bfs"):
        return m
    if layout.schedule.startswith("interleaved"):
        return min(m, p * (1 + (p - 1) / (p * v)))
    return min(m, p)


def memory(
    shape: Shape, layout: Layout, micro_batch: int, sequence: int, *, bytes_each: int = 2, optimizer: int = 8
) -> dict[str, float]:
    """Bytes on the fullest rank by kind; their sum is the peak.

    ``micro_batch`` objects of ``sequence`` tokens go through at once; ``bytes_each`` is the computing precision (2
    bfloat16, 4 float32), ``optimizer`` the bytes of its state a parameter (8 AdamW, 4 momentum). Parameters, gradients
    and optimiser are float32 (16 bytes a parameter: Rajbhandari et al. 2020, arXiv:1910.02054), divided over shards.
    ``unsharded``: the ends and two gathered blocks, and one block of gradients, in the computing precision; where a
    batch has several pieces the gradients stay whole until the last (float32), and in a pipeline the parameters too.
    ``backward``: what the pass through one SwiGLU makes and drops. On the way back gradients take the place of
    activations, so that of gradients only what exceeds those is added; all of them where they are there from the
    start: in buckets (DistributedDataParallel), or left by another piece of the batch.
    """
    n = shards(layout)
    blocks, end = held(shape, layout)
    block = shape.block_parameters(layout.tensor, n)
    own = (blocks * block + end) / n
    tokens = micro_batch * sequence / layout.context
    each = activation(shape, tokens, bytes_each=bytes_each, tensor=layout.tensor, recompute=layout.recompute)
    outputs = shape.vocabulary or shape.patch
    whole, whole_gradients = 0.0, 0.0
    if sharded(layout):
        two = min(blocks, 2) * block + end
        whole = bytes_each * ((blocks * block + end) if layout.pipeline > 1 else two)
        whole_gradients = 4 * (blocks * block + end) if layout.microbatches > 1 else bytes_each * block
    elif bytes_each < 4:
        whole = bytes_each * (blocks * block + end)  # autocast's copies
    kept = each * blocks * in_flight(layout)
    gradients = 4.0 * own
    if layout.microbatches == 1 and (sharded(layout) or layout.replicate == 1):
        gradients = max(gradients - kept, 0.0)
    live = 0.0
    if layout.recompute:  # one block's inside, alive while it goes backward
        live = activation(shape, tokens, bytes_each=bytes_each, tensor=layout.tensor)
    return {
        "parameters": 4.0 * own,
        "gradients": gradients,
        "optimizer": float(optimizer * own),
        "unsharded": whole + whole_gradients,
        "activations": kept + live,
        "backward": 2.0 * bytes_each * tokens * shape.hidden / layout.tensor,
        "ends": tokens * (2 * bytes_each * (outputs + shape.width) + 4 * outputs),
    }
