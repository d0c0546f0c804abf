"""The verbs of many machines: a training on several hosts, plans, ladders of sizes; and what this one has."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import GsnnError
from .shared import DataPath, Json, Out, RunPath, Seed, Set, StudyName, app, load, print_json, spread, terminal


@app.command()
def launch(
    study: StudyName,
    nodes: Annotated[int, typer.Option("--nodes", help="hosts")] = 1,
    processes: Annotated[int, typer.Option("--nproc", help="processes of each host")] = 1,
    slurm: Annotated[bool, typer.Option("--slurm", help="write the script of a Slurm job")] = False,
    submit: Annotated[bool, typer.Option("--submit", help="submit it, too")] = False,
    time: Annotated[str, typer.Option("--time", help="the limit of a job, as in 24:00:00; it goes on in another")] = "",
    option: Annotated[
        list[str] | None, typer.Option("--option", help="of sbatch, as in --option=--partition=gpu; may be repeated")
    ] = None,
    first: Annotated[str, typer.Option("--first", help="the host[:port] where the hosts meet (without Slurm)")] = "",
    data: DataPath = None,
    changes: Set = None,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """A training on several hosts: the run is made ready here, and a Slurm job, or what to type, starts it."""
    from .. import cluster

    one = spread(load(study, changes), nodes * processes)
    folder = cluster.prepare(one, data=data, out=out, seed=seed, progress=terminal())
    print(cluster.launch(folder, nodes, processes, first, slurm=slurm, submit=submit, time=time, options=option or ()))


@app.command()
def join(
    run: RunPath,
    nodes: Annotated[int, typer.Option("--nodes", help="hosts")],
    first: Annotated[str, typer.Option("--first", help="the host[:port] where they meet, one of them")],
    processes: Annotated[int, typer.Option("--nproc", help="processes of this host")] = 1,
    name: Annotated[str, typer.Option("--name", help="of this launch, the same on all hosts")] = "gsnn",
) -> None:
    """This host's part of a training that `gsnn launch` has made ready."""
    from .. import cluster

    cluster.join(run, nodes, processes, first, name)
    print(f"trained: {run}")


@app.command()
def plan(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="plan this study here, not a machine")] = None,
    params: Annotated[float | None, typer.Option("--params", help="parameters of a transformer, as in 1e12")] = None,
    tokens: Annotated[float | None, typer.Option("--tokens", help="tokens to learn from, if not what suits")] = None,
    devices: Annotated[int, typer.Option("--devices", help="how many of them")] = 1,
    device: Annotated[
        str, typer.Option("--device", help="h200, a100, tpu-v5p, laptop, ..., or here: measured")
    ] = "h200",
    sequence: Annotated[int, typer.Option("--sequence", help="tokens of an object")] = 8192,
    batch: Annotated[float | None, typer.Option("--batch", help="tokens of a step, at most")] = None,
    pue: Annotated[float, typer.Option("--pue", help="power usage effectiveness of the site")] = 1.1,
    restart: Annotated[float, typer.Option("--restart", help="seconds from a failure to the next step")] = 300.0,
    price: Annotated[float | None, typer.Option("--price", help="dollars a device-hour")] = None,
    law: Annotated[str, typer.Option("--law", help="replication, or published (Hoffmann et al.)")] = "replication",
    data: DataPath = None,
    changes: Set = None,
    as_json: Json = False,
) -> None:
    """The best layout of a network on a machine that need not be here, and its cost; or what a study costs here."""
    if study is not None:
        if params is not None or tokens is not None:
            raise GsnnError("gsnn plan takes a study, or --params and --tokens, but not both")
        from ..scale.show import show_lines, study_lines
        from ..scale.study import plan_study

        found = plan_study(load(study, changes), data=data, on=device)
        print_json(found) if as_json else show_lines(study_lines(found))
        return
    from ..scale.plan import Settings, with_price
    from ..scale.plan import plan as best_plan
    from ..scale.show import show

    settings = Settings(sequence, batch, pue, restart, law)
    made = best_plan(params, tokens, devices, with_price(device, price, devices), settings=settings)
    print_json(made.to_dict()) if as_json else show(made)


@app.command()
def scale(
    study: StudyName,
    sizes: Annotated[str, typer.Option("--sizes", help="values of [model] size, or width, as in 8,16,32")],
    steps: Annotated[str, typer.Option("--steps", help="budgets in steps, as in 50,100,200")],
    data: DataPath = None,
    changes: Set = None,
    seed: Seed = 0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Train a ladder of sizes for several budgets and fit the scaling law; goes on where it was when typed again."""
    from ..scale.ladder import scale_study
    from ..scale.show import law_lines, show_lines

    budgets = [word.strip() for word in steps.split(",") if word.strip()]
    if not all(word.isdigit() for word in budgets):
        raise GsnnError(f"--steps {steps!r} must be whole numbers, as in 50,100,200")
    found = scale_study(
        load(study, changes), [word.strip() for word in sizes.split(",") if word.strip()], [int(w) for w in budgets],
        data=data, out=out, seed=seed, progress=terminal(),
    )  # fmt: skip
    print_json(found) if as_json else show_lines(law_lines(found))


@app.command()
def doctor() -> None:
    """Devices, versions, optional parts, what is missing and how to get it."""
    from ..doctor import lines

    found = lines()
    for what, how, state in found:
        print(f"{state}  {what:<14} {how}")
    if any(state == "!!" for *_, state in found):
        raise SystemExit(1)
