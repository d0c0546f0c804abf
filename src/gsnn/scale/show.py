"""Plans and laws as a person would rather look at them."""

from __future__ import annotations

from typing import Any

from .plan import Candidate, Plan, span

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


def si(value: float, unit: str = "", digits: int = 3) -> str:
    """``1.2e12, "B"`` as ``1.2 TB``."""
    step = 0
    while abs(value) >= 999.5 and step < len(PREFIXES) - 1:
        value, step = value / 1000, step + 1
    if abs(value) >= 999.5:
        return f"{value:.2e} {PREFIXES[step]}{unit}".rstrip()
    return f"{value:,.{digits}g} {PREFIXES[step]}{unit}".rstrip()


def count(value: float) -> str:
    """``7.2e10`` as ``72 B``: parameters and tokens are counted in thousands, millions, billions and trillions."""
    return si(value).replace(" G", " B")


def words(layout: Any) -> str:
    """The dimensions of a layout that are cut, in words."""
    cut = {name: getattr(layout, name) for name in ("replicate", "shard", "pipeline", "context", "tensor")}
    said = " x ".join(f"{name} {degree:,}" for name, degree in cut.items() if degree > 1) or "one process"
    more = []
    if layout.pipeline > 1:
        more.append(layout.schedule)
    if layout.context > 1:
        more.append(layout.attention)
    if layout.recompute:
        more.append("recompute")
    return ", ".join([said, *more])


def lines(plan: Plan) -> list[tuple[str, str]]:
    """(what, how much) of a plan, a line each; ("", "") divides."""
    n, best, on, shape = plan.numbers, plan.best, plan.device, plan.shape
    held = best.pace.memory
    sent = {k: v for k, v in best.pace.bytes.items() if v}
    pieces = f"{best.layout.microbatches:,} x {best.micro_batch} x {plan.settings.sequence:,} tokens a rank"
    reads = f"reading {si(n['data_bytes_per_second'], 'B/s')} of pixels"
    kinds = ", ".join(f"{k} {v / 1e9:.3g}" for k, v in sorted(held.items(), key=lambda kv: -kv[1]) if v > 5e7)
    return [
        ("network", f"{count(shape.parameters)} parameters: {shape.layers} blocks of width {shape.width:,}"),
        ("tokens", f"{count(plan.tokens)} ({n['rubin_years']:,.3g} years of Rubin), {si(n['flops'], 'FLOP')}"),
        ("machine", f"{best.layout.processes:,} of {plan.devices:,} x {on.name}"),
        ("", ""),
        ("layout", words(best.layout)),
        ("step", f"{n['batch_tokens'] / 1e6:,.3g} M tokens in {span(best.pace.seconds)}: {pieces}"),
        ("memory", f"{n['memory_bytes'] / 1e9:,.3g} of {on.memory / 1e9:,.3g} GB a device ({kinds})"),
        ("traffic", ", ".join(f"{k} {si(v, 'B')}" for k, v in sent.items()) + " a rank and step" if sent else "none"),
        ("MFU", f"{best.mfu:.1%}, {count(best.tokens_per_second)} tokens/s, {reads}"),
        ("bubble", f"{best.pace.bubble / best.pace.seconds:.1%} of a step"),
        ("", ""),
        ("time", f"{span(3600 * n['hours_without_failures'])} without failures, {span(3600 * n['hours'])} with them"),
        ("failures", f"one every {span(3600 * n['mtbf_hours'])}; goodput {n['goodput']:.1%}"),
        ("checkpoint", f"{si(n['checkpoint_bytes'], 'B')} every {span(n['checkpoint_interval_seconds'])}, "
                       f"written in {span(n['checkpoint_write_seconds'])} while training goes on"),
        ("energy", f"{si(1000 * n['kwh'], 'Wh')} at a PUE of {plan.settings.pue:g}, {si(n['co2e_kg'] / 1000)} t CO2e"),
        ("cost", f"{_money(n['dollars'])} dollars at {on.price:g} a device-hour"),
        ("loss", f"{n['loss']:.3f} nats a token by the {plan.settings.law} law of text; the best for these FLOPs: "
                 f"{count(n['optimal_parameters'])} parameters on {count(n['optimal_tokens'])} tokens"),
    ]  # fmt: skip


def show(plan: Plan) -> None:
    """Print a plan: the best layout, the runners-up, what limits."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    show_lines(lines(plan))
    console.print()
    if plan.others:
        rivals = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for name in ("runners-up", "MFU", "slower by", "memory"):
            rivals.add_column(name, justify="left" if name == "runners-up" else "right")
        for one in plan.others:
            rivals.add_row(words(one.layout), f"{one.mfu:.1%}", _slower(one, plan.best), f"{_held(one):.3g} GB")
        console.print(rivals, "")
    console.print("[bold]what limits[/]")
    for one in plan.limits or ["nothing: compute is all there is"]:
        console.print(f"  {one}", markup=False)


def _money(dollars: float) -> str:
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if dollars >= size:
            return f"{dollars / size:,.3g} {name}"
    return f"{dollars:,.0f}" if dollars >= 100 else f"{dollars:.3g}"


def _slower(one: Candidate, best: Candidate) -> str:
    return f"{best.tokens_per_second / one.tokens_per_second - 1:.0%}"


def _held(one: Candidate) -> float:
    return sum(one.pace.memory.values()) / 1e9


def study_lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, how much) of a study's plan."""
    n = found
    return [
        ("study", f"{n['study']}: {n['network']} of {n['parameters']:,} parameters"),
        ("data", f"about {n['train_objects']:,} training objects x {n['epochs']} epochs, batches of {n['batch']}"),
        (
            "work",
            f"{si(n['flops_per_object'], 'FLOP')} an object forward and backward, {si(n['flops'], 'FLOP')} in all",
        ),
        ("memory", f"{si(n['memory_bytes'], 'B')}: " + ", ".join(f"{k} {si(v, 'B')}" for k, v in n["memory"].items())),
        ("time", f"about {span(n['seconds'])} here: {si(n['flops_per_second'], 'FLOP/s')} by one step in float32"),
        ("energy", f"about {si(1000 * n['kwh'], 'Wh')} here ({n['energy_source']}), {n['co2e_kg']:.2g} kg CO2e"),
        ("elsewhere", f"at least {span(n['seconds_elsewhere'])} on one {n['device']}, if its units are kept busy"),
    ]


def show_lines(rows: list[tuple[str, str]]) -> None:
    """Print (what, how much)."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    Console(highlight=False).print(table)


def law_lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, how much) of a fitted law."""
    rows = [
        (f"{point['size']}, {point['steps']:,} steps", f"N {count(point['parameters'])}, D {count(point['tokens'])}, "
         f"loss {point['loss']:.4f}, law {point['law']:.4f}")
        for point in found["points"]
    ]  # fmt: skip
    for name, value in found["law"].items():
        low, high = found["intervals"][name]
        rows.append((name, f"{value:.4g}  ({low:.4g} to {high:.4g})"))
    low, high = found["exponent"]["interval"]
    rows.append(("best size grows as", f"FLOPs^{found['exponent']['value']:.2f}  ({low:.2f} to {high:.2f})"))
    return [*rows, *(("note", note) for note in found["notes"])]
