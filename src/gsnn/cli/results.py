"""The verbs on a finished run: judged, explained, shown, compared, used on new data, exported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import GsnnError
from .shared import Dask, DataPath, Fragment, Json, Nproc, RunPath, Trust, app, print_json, print_metrics, terminal


@app.command()
def evaluate(run: RunPath, data: DataPath = None, as_json: Json = False, trust: Trust = False) -> None:
    """Judge a run's network on its test part, or on other data that it was not trained on."""
    from ..run import Run

    progress = terminal()
    verdict = Run(run, trust=trust).evaluate(data, progress)
    progress.done()
    if as_json:
        print_json(verdict)
        return
    print_metrics(verdict["metrics"])


@app.command()
def explain(run: RunPath, trust: Trust = False) -> None:
    """Attribution maps of a run's network, with the randomised-network check."""
    from ..run import Run
    from ..use import explain_again

    progress = terminal()
    for name, verdict in explain_again(Run(run, trust=trust), progress).items():
        print(f"{name}: {verdict.get('verdict') or verdict.get('skipped')}")


@app.command()
def report(run: RunPath) -> None:
    """Write the page of a run anew."""
    from ..report.page import write
    from ..run import Run

    print(f"report: {write(Run(run).path)}")


@app.command()
def show(
    run: RunPath,
    object_id: Annotated[str | None, typer.Option("--object", help="the id of an object")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="where the object's picture goes")] = None,
    trust: Trust = False,
) -> None:
    """The answer of a run; or one object: inputs, prediction, explanation, picture."""
    from ..run import Run
    from ..show import lines

    opened = Run(run, trust=trust)
    if object_id is not None:
        print("\n".join(lines(opened.show(object_id, out))))
        return
    if out is not None:
        raise GsnnError("--out names the picture of an object; say which one by --object ID")
    answer = opened.answer
    if not answer:
        raise GsnnError(f"{run} has no answer yet; type its `gsnn run` line again, it goes on from there")
    print(f"{answer['question']}\n{answer['answer']}\n")
    print_metrics(answer["metrics"])
    print(f"\nreport: {opened.report}")


@app.command()
def compare(first: RunPath, second: RunPath, as_json: Json = False) -> None:
    """Paired differences between two runs, with intervals."""
    from ..run import Run

    found = Run(first).compare(Run(second))
    if as_json:
        print_json(found)
        return
    print(f"{found['n']:,} objects in common; difference = {first} minus {second}")
    for name, entry in found["metrics"].items():
        d = entry["difference"]
        if d["value"] is not None:
            print(
                f"{name:<24} {entry['a']['value']:.4f}  {entry['b']['value']:.4f}  "
                f"difference {d['value']:+.4f} ({d['low']:+.4f} to {d['high']:+.4f})"
            )


@app.command()
def predict(
    run: RunPath,
    data: Annotated[str, typer.Argument(metavar="DATA", help="a survey, a file or a folder")],
    out: Annotated[Path, typer.Option("--out", help="a .parquet file, or a folder")] = Path("predictions.parquet"),
    nproc: Nproc = None,
    dask: Dask = None,
    fragment: Fragment = None,
    trust: Trust = False,
) -> None:
    """A trained network on data it has never seen."""
    from ..run import Run

    progress, opened = terminal(), Run(run, trust=trust)
    if any(word is not None for word in (nproc, dask, fragment)) or out.suffix != ".parquet":
        from ..spread.predict import predict

        found = predict(opened, data, out, nproc=nproc, dask=dask, fragment=fragment, progress=progress)
        objects, flagged = found["objects"], found["flagged"]
    else:
        table = opened.predict(data, out, progress)
        objects, flagged = table.num_rows, sum(1 for flag in table.column("flag").to_pylist() if flag)
    print(f"{objects:,} predictions in {out}, {flagged:,} of them flagged")


@app.command()
def export(
    run: RunPath,
    out: Annotated[Path, typer.Option("--out", help="the safetensors file to write")] = Path("model.safetensors"),
    weights: Annotated[
        str | None, typer.Option("--weights", help="of the newest checkpoint: best, average or model (the last ones)")
    ] = None,
) -> None:
    """The weights of a run, or of one of its checkpoints, as one safetensors file."""
    from ..training.export import export

    print(f"wrote {out}: {export(run, out, weights)}")
