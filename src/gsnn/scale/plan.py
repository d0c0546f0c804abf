"""The best layout for a network, a number of tokens and a machine, and what the whole training costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..errors import GsnnError
from ..training.energy import co2e_kg
from . import faults, laws, sky
from .devices import Device, device
from .memory import VIRTUAL, Layout, memory
from .pace import Pace, in_one_step, pace
from .shapes import Shape, shape_for

USABLE = 0.92  # of a device's memory: the rest is the driver's, the allocator's and the communicators'
SCHEDULES = ("1f1b", "interleaved-1f1b", "zbv-zero-bubble")
STORE = 2e12  # bytes/s of storage that a large site sustains: Llama 3's, arXiv:2407.21783, section 3.3.1
STORE_A_MACHINE = 2e9  # bytes/s that one machine writes: assumed
COPY = 25e9  # bytes/s from a device to its host, PCIe 5 in practice: assumed


@dataclass(frozen=True)
class Settings:
    """What a plan takes for granted."""

    sequence: int = 8192
    batch_tokens: float | None = None  # at most so many a step; None: what suits the run's FLOPs
    pue: float = 1.1  # power usage effectiveness: a modern site
    restart_seconds: float = 300.0  # from a failure to the next step, without reading the checkpoint
    law: str = "replication"
    pipeline: bool = True  # False: no pipelines, for networks that cannot be cut


@dataclass(frozen=True)
class Candidate:
    layout: Layout
    micro_batch: int
    pace: Pace
    tokens_per_second: float
    mfu: float


@dataclass(frozen=True)
class Plan:
    """A plan for a whole training. ``best`` is the fastest layout, ``others`` the best of different kinds."""

    shape: Shape
    device: Device
    devices: int
    tokens: float
    settings: Settings
    best: Candidate
    others: list[Candidate]
    numbers: dict[str, float]
    limits: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; bytes, seconds, kWh, kg, dollars."""

        def candidate(one: Candidate) -> dict[str, Any]:
            return {
                "layout": asdict(one.layout), "micro_batch": one.micro_batch, "processes": one.layout.processes,
                "seconds_per_step": one.pace.seconds, "tokens_per_second": one.tokens_per_second, "mfu": one.mfu,
                "seconds": {"compute": one.pace.compute, "bubble": one.pace.bubble, "update": one.pace.update,
                            **{f"exposed_{k}": v for k, v in one.pace.exposed.items()}},
                "bytes_sent_per_step": one.pace.bytes, "memory": one.pace.memory,
            }  # fmt: skip

        return {
            "parameters": self.shape.parameters, "shape": asdict(self.shape), "tokens": self.tokens,
            "device": asdict(self.device), "devices": self.devices, "settings": asdict(self.settings),
            "best": candidate(self.best), "others": [candidate(one) for one in self.others],
            **self.numbers, "limits": self.limits,
        }  # fmt: skip


def plan(
    parameters: float | None = None,
    tokens: float | None = None,
    devices: int = 1,
    on: str | Device = "h200",
    *,
    shape: Shape | None = None,
    settings: Settings | None = None,
) -> Plan:
    """Plan a training of ``parameters`` (or of a ``shape``) on ``tokens`` (None: as many as the law finds best).

    Raises GsnnError where no layout fits, with what would.
    """
    settings = settings or Settings()
    on = device(on, devices) if isinstance(on, str) else on
    if settings.law not in laws.LAWS:
        raise GsnnError(f"no law is called {settings.law!r}; choose {' or '.join(laws.LAWS)}")
    if devices < 1 or settings.sequence < 1:
        raise GsnnError("a plan needs at least one device and sequences of at least one token")
    if shape is None:
        if parameters is None:
            raise GsnnError("a plan needs --params, or a study")
        shape = shape_for(parameters)
    law = laws.LAWS[settings.law]
    if tokens is None:
        tokens = tokens_for(law, shape.parameters)
    if not tokens >= 1:
        raise GsnnError("a plan needs at least one token")
    flops = shape.flops(settings.sequence) * tokens
    wanted = settings.batch_tokens or laws.best_batch(flops)
    found = search(shape, devices, on, settings, wanted)
    if not found:
        raise GsnnError(_what_fits(shape, devices, on, settings, wanted))
    best = found[0]
    numbers = _numbers(shape, best, tokens, flops, on, settings, law)
    return Plan(
        shape, on, devices, tokens, settings, best, _different(found), numbers, _limits(best, numbers, devices, on)
    )


def tokens_for(law: laws.Law, parameters: float) -> float:
    """The tokens for which so many parameters are compute-optimal."""
    low, high = 0.0, 40.0  # log10 of FLOPs
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if law.optimal(10**middle)[0] < parameters else (low, middle)
    return law.optimal(10**low)[1]


# ---------------------------------------------------------------------- search


def search(shape: Shape, devices: int, on: Device, settings: Settings, batch_tokens: float) -> list[Candidate]:
    """Every layout worth a look that fits in memory, the fastest first."""
    found = []
    for layout, micro, held in feasible(shape, devices, on, settings, batch_tokens):
        one = pace(shape, layout, micro, settings.sequence, on, held)
        rate = in_one_step(layout, micro, settings.sequence) / one.seconds
        mfu = rate * shape.flops(settings.sequence) / (layout.processes * on.peak)
        found.append(Candidate(layout, micro, one, rate, mfu))
    return sorted(found, key=lambda one: -one.tokens_per_second)


def feasible(
    shape: Shape, devices: int, on: Device, settings: Settings, batch_tokens: float
) -> Iterator[tuple[Layout, int, dict[str, float]]]:
    """(layout, objects of a piece, bytes held) of everything that fits in memory."""
    objects = max(1, int(batch_tokens // settings.sequence))
    for cut in _cuts(shape, devices, on, settings):
        data = min(devices // cut.processes, objects)
        tried = 0
        for shard in _powers(data):
            copies, here = data // shard, False
            for layout, micro in _pieces(cut.but(shard=shard, replicate=copies), objects // (shard * copies)):
                held = memory(shape, layout, micro, settings.sequence, bytes_each=on.bytes_each)
                if sum(held.values()) <= USABLE * on.memory:
                    here = True
                    yield layout, micro, held
            tried += here
            if tried == 4:  # more shards save memory that is not needed and cost traffic
                break


def _cuts(shape: Shape, devices: int, on: Device, settings: Settings) -> Iterator[Layout]:
    """Tensor x context or tensor x pipeline, with every schedule, with and without recomputing."""
    least = 4.0 * 4 * shape.parameters / (devices * on.memory)  # states over all devices: hopeless above 1
    if least > 1:
        return
    for t in _powers(min(on.node, shape.kv_heads, devices)):
        if shape.kv_heads % t or shape.heads % t or shape.hidden % t or settings.sequence % t:
            continue
        for recompute in (False, True):
            for c in _powers(devices // t):
                if settings.sequence % (c * t) or settings.sequence // c < 256 * (c > 1):
                    break
                attention = "ulysses" if shape.kv_heads % (c * t) == 0 else "ring"
                yield Layout(tensor=t, context=c, recompute=recompute, attention=attention)
            if not settings.pipeline:
                continue
            for p in (p for p in range(2, min(shape.layers, devices // t) + 1) if shape.layers % p == 0):
                for schedule in SCHEDULES:
                    if p * VIRTUAL[schedule] <= shape.layers:
                        yield Layout(tensor=t, pipeline=p, recompute=recompute, schedule=schedule)


def _pieces(layout: Layout, objects: int) -> Iterator[tuple[Layout, int]]:
    """(layout with its number of micro-batches, objects in each) for a data rank's share of the batch."""
    for micro in _powers(objects):
        pieces = objects // micro
        if layout.pipeline > 1 and pieces < layout.pipeline:
            return
        if micro > 64:
            return
        yield layout.but(microbatches=pieces), micro


def _powers(most: int) -> list[int]:
    return [2**k for k in range(max(most, 0).bit_length())]


def _different(found: list[Candidate], count: int = 4) -> list[Candidate]:
    """The next best that differ in more than the pieces of their batch."""

    def kind(one: Candidate) -> tuple[Any, ...]:
        return one.layout.tensor, one.layout.pipeline > 1, one.layout.context > 1, one.layout.recompute

    seen, out = {kind(found[0])}, []
    for one in found[1:]:
        if kind(one) not in seen:
            seen.add(kind(one))
            out.append(one)
        if len(out) == count:
            break
    return out


def _what_fits(shape: Shape, devices: int, on: Device, settings: Settings, batch: float) -> str:
    """One sentence: why nothing fits, and what would."""
    states = 16.0 * shape.parameters / devices / 1e9
    said = (
        f"{shape.parameters:.3g} parameters do not fit on {devices:,} x {on.name}: weights, gradients and optimiser "
        f"take {states:,.3g} GB a device of {on.memory / 1e9:,.3g} GB, and activations come on top"
    )

    def fits(one: Shape, count: int) -> bool:
        return next(feasible(one, count, on, settings, batch), None) is not None

    more = next((n for n in (devices * 2**k for k in range(1, 31)) if fits(shape, n)), None)
    said += f"; {more:,} would do" if more else "; no number of these devices does, for one block is too large for one"
    low, high = 4.0, math.log10(shape.parameters)
    if not fits(shape_for(10**low), devices):
        return f"{said}: shorten --sequence"
    for _ in range(7):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(shape_for(10**middle), devices) else (low, middle)
    return f"{said}, and a network of {10**low:.1e} parameters fits on these"


# ---------------------------------------------------------------------- the whole training


def _numbers(
    shape: Shape, best: Candidate, tokens: float, flops: float, on: Device, settings: Settings, law: laws.Law
) -> dict[str, float]:
    n = best.layout.processes
    hours = tokens / best.tokens_per_second / 3600
    state = 12.0 * shape.parameters  # float32 weights and both moments
    write = state / min(STORE, -(-n // on.host) * STORE_A_MACHINE)
    stall = max(1.0, state / n / COPY)  # the copy to the host stops training, writing does not; a second at least
    mtbf = faults.system_mtbf(on.mtbf_hours, n) * 3600
    interval = max(faults.daly(stall, mtbf), write, best.pace.seconds)
    kept = faults.goodput(interval, stall, mtbf, settings.restart_seconds + write)
    wall = hours / kept if kept else math.inf
    kwh = faults.energy_kwh(n, wall, on.watts, settings.pue)
    optimum = law.optimal(flops)
    return {
        "flops": flops,
        "batch_tokens": in_one_step(best.layout, best.micro_batch, settings.sequence),
        "steps": tokens / in_one_step(best.layout, best.micro_batch, settings.sequence),
        "memory_bytes": sum(best.pace.memory.values()),
        "hours_without_failures": hours,
        "mtbf_hours": mtbf / 3600,
        "checkpoint_bytes": state,
        "checkpoint_stall_seconds": stall,
        "checkpoint_write_seconds": write,
        "checkpoint_interval_seconds": interval,
        "goodput": kept,
        "hours": wall,
        "kwh": kwh,
        "co2e_kg": co2e_kg(kwh)[0] if math.isfinite(kwh) else math.inf,
        "dollars": n * wall * on.price,
        "loss": law.loss(shape.parameters, tokens),
        "optimal_parameters": optimum[0],
        "optimal_tokens": optimum[1],
        "rubin_years": tokens / sky.rubin_tokens_a_year(),
        "data_bytes_per_second": best.tokens_per_second * sky.PATCH**2 * 2,
    }


def _limits(best: Candidate, numbers: dict[str, float], devices: int, on: Device) -> list[str]:
    """What holds the plan back, the worst first, a sentence each."""
    one, layout = best.pace, best.layout
    lost = [
        (one.bubble / one.seconds, "the pipeline's bubble"),
        *((v / one.seconds, f"{k} traffic that compute does not hide") for k, v in one.exposed.items()),
        (one.update / one.seconds, "the optimiser's update"),
        (1 - numbers["goodput"], f"failures, one every {span(numbers['mtbf_hours'] * 3600)}"),
    ]
    if layout.recompute:
        lost.append((one.compute / one.seconds / 4, "computing activations again, for want of memory"))
    said = [f"{share:.0%} of the time goes to {what}" for share, what in sorted(lost, reverse=True) if share >= 0.01]
    if numbers["goodput"] <= 0:
        said.insert(0, "failures come faster than restarts: this run never ends; restart faster or use fewer devices")
    full = numbers["memory_bytes"] / on.memory
    if full > 0.7:
        said.append(f"memory is {full:.0%} full")
    idle = devices - layout.processes
    if idle > 0.01 * devices:
        said.append(
            f"{idle:,} devices have nothing to do: the batch of {numbers['batch_tokens']:.2g} tokens cannot be "
            "shared out further"
        )
    elif idle:
        said.append(f"{idle:,} devices are spare")
    if numbers["rubin_years"] > 1:
        said.append(f"the tokens are {numbers['rubin_years']:,.1f} years of Rubin's pixels, each seen once")
    return said


def span(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("years", 365.25 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds:.3g} s"


def with_price(name: str, price: float | None = None, processes: int = 1) -> Device:
    """A device of the table, at another price an hour if one is given."""
    on = device(name, processes)
    return on if price is None else replace(on, price=price)
