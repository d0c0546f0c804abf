"""How long a step of a layout takes: compute, what of the communication cannot hide behind it, and the bubble."""

from __future__ import annotations

from dataclasses import dataclass

from .devices import Device
from .memory import VIRTUAL, Layout, held, memory
from .shapes import Shape, activation
from .traffic import collectives


@dataclass(frozen=True)
class Pace:
    """Seconds of one step, by what they are spent on; ``bytes`` sent a rank, ``memory`` held, by kind."""

    compute: float
    exposed: dict[str, float]
    bubble: float
    update: float
    bytes: dict[str, float]
    memory: dict[str, float]

    @property
    def seconds(self) -> float:
        return self.compute + sum(self.exposed.values()) + self.bubble + self.update


def bubble(layout: Layout) -> float:
    """Idle time of a pipeline as a share of its compute.

    (p - 1) / m for GPipe and 1F1B, over v where a rank holds v stages (Narayanan et al. 2021, arXiv:2104.04473). The
    zero-bubble schedules by their H1 form, (p - 1)(F + B - W) with F = B = W: a third (Qi et al. 2024,
    arXiv:2401.10241).
    """
    idle = (layout.pipeline - 1) / layout.microbatches
    if "zero-bubble" in layout.schedule or layout.schedule == "dualpipe-v":
        return idle / 3
    return idle / VIRTUAL[layout.schedule]


def inner(layout: Layout) -> dict[str, tuple[int, int]]:
    """Dimension -> (devices that its neighbours are apart, ranks in it): tensor innermost, pipeline outermost."""
    t, c, s, r = layout.tensor, layout.context, layout.shard, layout.replicate
    return {
        "tensor": (1, t),
        "context": (t, c),
        "shard": (t, c * s),  # fully_shard works over shard x context
        "replicate": (t * c * s, r),
        "pipeline": (t * c * s * r, layout.pipeline),
    }


def compute_seconds(shape: Shape, layout: Layout, micro_batch: int, sequence: int, device: Device) -> float:
    """Of a step without a bubble: matrix products at the sustained rate, and what memory traffic adds to them.

    Recomputing costs a third forward pass, 4/3. Every kept byte is written and read once, and weights are read three
    times a piece.
    """
    m = layout.microbatches
    tokens = m * micro_batch * sequence / layout.context
    flops = shape.flops(sequence) * tokens / layout.tensor / layout.pipeline * (4 / 3 if layout.recompute else 1)
    blocks = held(shape, layout)[0]
    width = device.bytes_each
    kept = activation(shape, micro_batch * sequence / layout.context, bytes_each=width, tensor=layout.tensor)
    moved = blocks * m * (2 * kept + 3 * width * shape.block_parameters(layout.tensor))
    return flops / (device.peak * device.sustained) + moved / device.bandwidth


def working(layout: Layout) -> list[str]:
    """The dimensions whose machinery is at work: context brings that of shard, and either replaces DDP's."""
    found = ["tensor"] if layout.tensor > 1 else []
    if layout.context > 1:
        return [*found, "ring" if layout.attention == "ring" else "context"]
    if layout.shard > 1 or (found and layout.replicate > 1):
        return [*found, "shard"]
    return [*found, "replicate"] if layout.replicate > 1 else found


def pace(
    shape: Shape,
    layout: Layout,
    micro_batch: int,
    sequence: int,
    device: Device,
    held_bytes: dict[str, float] | None = None,
) -> Pace:
    """One step of a layout on devices.

    Tensor and context traffic waits in line with the products. Gathering and reducing shards hides behind compute:
    all of it, or one piece of it in a pipeline; replicas' all-reduce behind the last piece's backward pass; a
    pipeline's sends behind half of the compute. Nothing hides on a device without ``overlap``, nor that what is
    gathered of shards is copied out of the buffer it came in, and into one what is reduced. No stragglers are modelled.
    """
    compute = compute_seconds(shape, layout, micro_batch, sequence, device)
    seconds = dict.fromkeys(("tensor", "context", "shard", "replicate", "pipeline"), 0.0)
    sent = dict(seconds)
    apart = inner(layout)
    for one in collectives(shape, layout, micro_batch, sequence, bytes_each=device.bytes_each):
        sent[one.dimension] += one.sent
        each = device.seconds(one.kind, one.sent / one.count, *apart[one.dimension])
        seconds[one.dimension] += one.count * each
        if one.dimension == "shard" and not device.overlap:
            seconds["shard"] += 2 * one.count * one.bytes / (device.stream or device.bandwidth)
    m, p = layout.microbatches, layout.pipeline
    for name in working(layout):
        seconds["context" if name == "ring" else name] += held(shape, layout)[0] * m * device.overheads.get(name, 0.0)
    behind = compute if device.overlap else 0.0
    window = behind / m if p > 1 else behind
    exposed = {
        "tensor": seconds["tensor"],
        "context": seconds["context"],
        "shard": max(0.0, seconds["shard"] - window),
        "replicate": max(0.0, seconds["replicate"] - 2 / 3 * behind / m),
        "pipeline": max(0.0, seconds["pipeline"] - behind / 2),
    }
    held_bytes = held_bytes or memory(shape, layout, micro_batch, sequence, bytes_each=device.bytes_each)
    state = held_bytes["parameters"] + held_bytes["gradients"] + held_bytes["optimizer"]
    update = 2 * state / (device.stream or device.bandwidth)
    busy = compute + exposed["tensor"]
    return Pace(compute, exposed, busy * bubble(layout) if p > 1 else 0.0, update, sent, held_bytes)


def in_one_step(layout: Layout, micro_batch: int, sequence: int) -> int:
    """Tokens of a step."""
    return layout.replicate * layout.shard * layout.microbatches * micro_batch * sequence
