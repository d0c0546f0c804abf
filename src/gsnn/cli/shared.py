"""What the verbs share: the command itself, the options that many have, and how results are printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import GsnnError

if TYPE_CHECKING:
    from ..progress import Progress
    from ..study import Study

app = typer.Typer(
    help="Galaxy-scale neural networks: from a question about the sky to a checked answer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="a built-in study, or a TOML file")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a run")]
DataPaths = Annotated[
    list[str] | None, typer.Option("--data", help="a survey, a file or a folder; files of several kinds: give it again")
]
DataPath = Annotated[str | None, typer.Option("--data", help="a survey, a file or a folder")]
Set = Annotated[list[str] | None, typer.Option("--set", help="change a value, as in train.epochs=5")]
Seed = Annotated[int, typer.Option("--seed", help="one seed fixes every number")]
Out = Annotated[Path | None, typer.Option("--out", help="the folder of the run")]
Processes = Annotated[int, typer.Option("--nproc", help="train by this many processes of this machine")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")]
Nproc = Annotated[int | None, typer.Option("--nproc", help="processes of this machine that share the work")]
Dask = Annotated[str | None, typer.Option("--dask", help="the address of a Dask scheduler, or its JSON file")]
Fragment = Annotated[int | None, typer.Option("--fragment", help="objects of a task, where work is shared")]
Trust = Annotated[bool, typer.Option("--trust", help="allow parts from outside GSNN that a received run names")]


def terminal() -> Progress:
    from ..progress import Terminal

    return Terminal()


def load(name: str, changes: list[str] | None, trust: bool = True) -> Study:
    from ..study import Study

    return Study.load(name, tuple(changes or ()), trust=trust)


def spread(study: Study, processes: int) -> Study:
    """The study on this many processes: as its layout says, else as many copies of the network."""
    layout = study.train.layout
    if processes in (1, layout.processes):
        return study
    if layout.processes > 1:
        raise GsnnError(f"--nproc {processes}, but [train] layout is of {layout.processes}; change one of them")
    return study.set(f"train.layout.replicate={processes}")


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def print_metrics(metrics: dict[str, Any]) -> None:
    for name, entry in metrics.items():
        if entry["value"] is not None:
            interval = f"({entry['low']:.4f} to {entry['high']:.4f})"
            print(f"{name:<24} {entry['value']:.4f}  {interval} {entry['unit']}".rstrip())


def pairs(words: list[str], option: str, example: str) -> dict[str, str]:
    for word in words:
        if not all(word.partition("=")):
            raise GsnnError(f"{option} {word!r} needs the form name=value, as in {example}")
    return dict(word.split("=", 1) for word in words)


def one_or_many(data: list[str] | None) -> str | list[str] | None:
    """What ``--data`` named: nothing, a path, or several."""
    return data[0] if data and len(data) == 1 else data or None
