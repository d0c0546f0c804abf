"""The verbs that go from a question to an answer, and that make and try a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import GsnnError
from .shared import (
    DataPaths,
    Json,
    Out,
    Processes,
    Seed,
    Set,
    StudyName,
    app,
    load,
    one_or_many,
    print_json,
    spread,
    terminal,
)


@app.command()
def studies() -> None:
    """The built-in questions, a line each."""
    import tomllib

    from ..study import built_in

    for name, path in built_in().items():
        table = tomllib.loads(path.read_text())
        needs = "  (needs --data)" if table["data"].get("obtain") else ""
        print(f"{name:<22} {table['question']}{needs}")


@app.command()
def run(
    study: StudyName,
    data: DataPaths = None,
    changes: Set = None,
    seed: Seed = 0,
    seeds: Annotated[int, typer.Option("--seeds", help="train this many networks and report their spread")] = 1,
    out: Out = None,
    processes: Processes = 1,
    as_json: Json = False,
) -> None:
    """From the question to the answer and its report; goes on where it was when typed again."""
    from ..run import run as walk

    one = spread(load(study, changes), processes)
    finished = walk(one, data=one_or_many(data), out=out, seed=seed, seeds=seeds, progress=terminal())
    if as_json:
        print_json(finished.answer)
    else:
        print(f"\n{finished.answer['question']}\n{finished.answer['answer']}\n\nreport: {finished.report}")


@app.command()
def train(
    study: StudyName,
    data: DataPaths = None,
    changes: Set = None,
    seed: Seed = 0,
    out: Out = None,
    processes: Processes = 1,
) -> None:
    """Steps 1 to 4a: data, network, training; `gsnn run` with the same words goes on from there."""
    from ..run import run as walk

    one = spread(load(study, changes), processes)
    trained = walk(one, data=one_or_many(data), out=out, seed=seed, only_train=True, progress=terminal())
    print(f"trained: {trained.path}")


@app.command()
def check(
    study: StudyName,
    data: DataPaths = None,
    changes: Set = None,
    overfit: Annotated[int, typer.Option("--overfit", help="also learn this many objects by heart")] = 0,
) -> None:
    """One batch through every step in seconds, naming the step that fails."""
    from ..check import check_study

    check_study(load(study, changes), data=one_or_many(data), overfit=overfit, say=print)
    print("all steps work")


@app.command()
def new(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="a built-in study to start from")] = None,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="the TOML file to write")] = None,
    survey: Annotated[str | None, typer.Option("--from", help="a survey, or files, to infer a study from")] = None,
    target: Annotated[str | None, typer.Option("--target", help="the column to learn")] = None,
) -> None:
    """A commented study to change: from a built-in one, or inferred from data."""
    from ..new import copy_study, infer_study

    if survey is not None:
        if target is None:
            raise GsnnError("gsnn new --from needs --target COLUMN: what is to be learned?")
        path = Path(study) if study else file or Path("study.toml")
        text = infer_study(survey, target, path.parent)
    else:
        if study is None:
            raise GsnnError("gsnn new needs a study to start from (`gsnn studies`), or --from SURVEY --target COLUMN")
        path = file or Path(f"{study}.toml")
        text = copy_study(study)
    if path.exists():
        raise GsnnError(f"{path} exists already; choose another name")
    path.write_text(text)
    print(f"wrote {path}; change it, then: gsnn check {path} && gsnn run {path}")
