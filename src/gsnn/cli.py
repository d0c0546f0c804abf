"""The command ``gsnn``, a verb each. Heavy modules are imported by the verb that needs them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from .errors import GsnnError
from .interrupt import keep_interrupts

if TYPE_CHECKING:
    from .progress import Progress
    from .study import Study

app = typer.Typer(
    help="Galaxy-scale neural networks: from a question about the sky to a checked answer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="a built-in study, or a TOML file")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a run")]
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


def main() -> None:
    """Run the command; mistakes are told in a sentence on stderr, with exit status 1 (130 after Ctrl-C)."""
    os.environ.setdefault("LANCE_LOG", "error")
    keep_interrupts()
    sys.path.append(os.getcwd())  # a study may name "my_module:MyNetwork" of the folder where it is run
    try:
        app()
    except GsnnError as error:
        print(f"gsnn: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as stop:
        if isinstance(getattr(stop.__context__, "__cause__", None), KeyboardInterrupt):
            _interrupted()  # typer has caught it and made an exit of it
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print(f"gsnn: cannot use{where}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(1) from None


def _interrupted() -> NoReturn:
    print("\ngsnn: interrupted; type the same line again to go on from here", file=sys.stderr)
    raise SystemExit(130) from None


def _progress() -> Progress:
    from .progress import Terminal

    return Terminal()


def _study(name: str, changes: list[str] | None, trust: bool = True) -> Study:
    from .study import Study

    return Study.load(name, tuple(changes or ()), trust=trust)


def _spread(study: Study, processes: int) -> Study:
    """The study on this many processes: as its layout says, else as many copies of the network."""
    layout = study.train.layout
    if processes in (1, layout.processes):
        return study
    if layout.processes > 1:
        raise GsnnError(f"--nproc {processes}, but [train] layout is of {layout.processes}; change one of them")
    return study.set(f"train.layout.replicate={processes}")


def _print(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))


@app.command()
def studies() -> None:
    """The built-in questions, a line each."""
    import tomllib

    from .study import built_in

    for name, path in built_in().items():
        table = tomllib.loads(path.read_text())
        needs = "  (needs --data)" if table["data"].get("obtain") else ""
        print(f"{name:<22} {table['question']}{needs}")


@app.command()
def run(
    study: StudyName,
    data: DataPath = None,
    changes: Set = None,
    seed: Seed = 0,
    seeds: Annotated[int, typer.Option("--seeds", help="train this many networks and report their spread")] = 1,
    out: Out = None,
    processes: Processes = 1,
    as_json: Json = False,
) -> None:
    """From the question to the answer and its report; goes on where it was when typed again."""
    from .run import run as walk

    one = _spread(_study(study, changes), processes)
    finished = walk(one, data=data, out=out, seed=seed, seeds=seeds, progress=_progress())
    if as_json:
        _print(finished.answer)
    else:
        print(f"\n{finished.answer['question']}\n{finished.answer['answer']}\n\nreport: {finished.report}")


@app.command()
def train(
    study: StudyName,
    data: DataPath = None,
    changes: Set = None,
    seed: Seed = 0,
    out: Out = None,
    processes: Processes = 1,
) -> None:
    """Steps 1 to 4a: data, network, training; `gsnn run` with the same words goes on from there."""
    from .run import run as walk

    one = _spread(_study(study, changes), processes)
    trained = walk(one, data=data, out=out, seed=seed, only_train=True, progress=_progress())
    print(f"trained: {trained.path}")


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
    from . import cluster

    one = _spread(_study(study, changes), nodes * processes)
    folder = cluster.prepare(one, data=data, out=out, seed=seed, progress=_progress())
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
    from . import cluster

    cluster.join(run, nodes, processes, first, name)
    print(f"trained: {run}")


@app.command()
def evaluate(run: RunPath, data: DataPath = None, as_json: Json = False, trust: Trust = False) -> None:
    """Judge a run's network on its test part, or on other data that it was not trained on."""
    from .run import Run

    progress = _progress()
    verdict = Run(run, trust=trust).evaluate(data, progress)
    progress.done()
    if as_json:
        _print(verdict)
        return
    _metrics(verdict["metrics"])


def _metrics(metrics: dict[str, Any]) -> None:
    for name, entry in metrics.items():
        if entry["value"] is not None:
            interval = f"({entry['low']:.4f} to {entry['high']:.4f})"
            print(f"{name:<24} {entry['value']:.4f}  {interval} {entry['unit']}".rstrip())


@app.command()
def explain(run: RunPath, trust: Trust = False) -> None:
    """Attribution maps of a run's network, with the randomised-network check."""
    from .run import Run
    from .use import explain_again

    progress = _progress()
    for name, verdict in explain_again(Run(run, trust=trust), progress).items():
        print(f"{name}: {verdict.get('verdict') or verdict.get('skipped')}")


@app.command()
def report(run: RunPath) -> None:
    """Write the page of a run anew."""
    from .report.page import write
    from .run import Run

    print(f"report: {write(Run(run).path)}")


@app.command()
def check(
    study: StudyName,
    data: DataPath = None,
    changes: Set = None,
    overfit: Annotated[int, typer.Option("--overfit", help="also learn this many objects by heart")] = 0,
) -> None:
    """One batch through every step in seconds, naming the step that fails."""
    from .check import check_study

    check_study(_study(study, changes), data=data, overfit=overfit, say=print)
    print("all steps work")


@app.command()
def new(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="a built-in study to start from")] = None,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="the TOML file to write")] = None,
    survey: Annotated[str | None, typer.Option("--from", help="a survey, or files, to infer a study from")] = None,
    target: Annotated[str | None, typer.Option("--target", help="the column to learn")] = None,
) -> None:
    """A commented study to change: from a built-in one, or inferred from data."""
    from .new import copy_study, infer_study

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


@app.command()
def ingest(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="files, folders or patterns")],
    out: Annotated[str, typer.Option("--out", help="the survey to make: a folder, or s3://, gs://, az://")],
    labels: Annotated[str | None, typer.Option("--labels", help="a table with more columns of the objects")] = None,
    observations: Annotated[
        str | None, typer.Option("--observations", help="a table with a row an observation: they become light curves")
    ] = None,
    on: Annotated[str | None, typer.Option("--on", help="the column that both share (id, if not given)")] = None,
    light_curve: Annotated[
        list[str] | None,
        typer.Option("--light-curve", help="what makes a light curve, as in time=mjd or bands=g,r; may be repeated"),
    ] = None,
    names: Annotated[str | None, typer.Option("--names", help="names of columns without a header: a,b,c")] = None,
    catalogue: Annotated[str | None, typer.Option("--cutouts", help="a catalogue to cut around")] = None,
    size: Annotated[int | None, typer.Option("--size", help="pixels a side")] = None,
    crop: Annotated[int | None, typer.Option("--crop", help="keep this many central pixels of images")] = None,
    missing: Annotated[
        list[float] | None,
        typer.Option("--missing", help='a number that means "no value", such as 99; may be repeated'),
    ] = None,
    codec: Annotated[
        list[str] | None,
        typer.Option("--codec", help="how a column is stored, as in image=quantise or spectrum=lossless"),
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="add to a survey that exists")] = False,
    nproc: Nproc = None,
    dask: Dask = None,
    fragment: Fragment = None,
) -> None:
    """Files become a survey; the format is recognised by itself."""
    from .data.survey import Survey
    from .progress import Terminal
    from .spread.ingest import ingest, source_of

    progress = Terminal()
    at = lambda done, total: progress.at("rows", done, total)  # noqa: E731
    given = {"labels": labels, "on": on, "catalogue": catalogue, "size": size, "crop": crop, "missing": missing}
    given |= {"observations": observations, "light_curve": _roles(light_curve), "names": names and names.split(",")}
    if on is not None and labels is None and observations is None:
        raise GsnnError(
            "--on names the column that the objects share with a table of labels or of observations; "
            "add --labels TABLE or --observations TABLE"
        )
    before, codecs = len(Survey.open(out)) if append else 0, _pairs(codec or [], "--codec", "image=quantise")
    if append and codecs:
        raise GsnnError("the survey knows its codecs already; leave --codec out with --append")
    together = any(word is not None for word in (nproc, dask, fragment))
    if append and together:
        raise GsnnError("--append adds rows in this process; leave --nproc, --dask and --fragment out")
    if together:
        more = {"codecs": codecs, "nproc": nproc, "dask": dask, "fragment": fragment, "progress": progress}
        survey = ingest(paths, out, **given, **more)
        notes = survey.schema.provenance.get("notes", ())
    else:
        source = source_of(paths, **given)
        if append:
            survey = Survey.open(out).append(source, progress=at)
        else:
            survey = Survey.create(out, source, codecs=codecs, progress=at)
        notes = getattr(source, "notes", ())
    progress.done()
    for line in notes:
        print(f"note: {line}")
    added = f" ({len(survey) - before:,} added)" if append else ""
    print(f"{len(survey):,} objects in {out}{added}; look at them by `gsnn survey {out}`")
    _quarantined(survey)


def _pairs(words: list[str], option: str, example: str) -> dict[str, str]:
    for word in words:
        if not all(word.partition("=")):
            raise GsnnError(f"{option} {word!r} needs the form name=value, as in {example}")
    return dict(word.split("=", 1) for word in words)


def _roles(words: list[str] | None) -> dict[str, Any] | None:
    """What --light-curve says, as a study would: lists, numbers and truths are no words."""
    if words is None:
        return None
    out: dict[str, Any] = {}
    for key, value in _pairs(words, "--light-curve", "time=mjd").items():
        plain: Any = {"true": True, "false": False}.get(value, int(value) if value.isdigit() else value)
        out[key] = value.split(",") if "," in value or key == "bands" else plain
    return out


def _quarantined(survey: Any) -> None:
    from collections import Counter

    bad = survey.quarantined()
    if bad:
        print(f"{len(bad):,} rows are set aside:")
        for reason, count in Counter(row["reason"] for row in bad).most_common(5):
            print(f"  {count:>7,}  {reason}")


@app.command()
def survey(
    path: Annotated[str, typer.Argument(metavar="SURVEY")],
    where: Annotated[
        str | None, typer.Option("--where", help='only objects for which this holds, as in "mag < 20"')
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="check every row against its checksum")] = False,
    page: Annotated[Path | None, typer.Option("--page", help="write a page of distributions and pictures here")] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="write it as a file.parquet, or a folder: a HATS catalogue")
    ] = None,
) -> None:
    """What is in a survey: a table, and a page where asked for; or its objects in other formats."""
    from .data.survey import Survey
    from .describe import describe

    opened = Survey.open(path)
    if verify:
        progress = _progress()
        bad = opened.verify(lambda done, total: progress.at("verifying", done, total))
        progress.done()
        if bad:
            some = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
            raise GsnnError(f"{len(bad)} of {len(opened)} rows are damaged: {some}; ingest their files again")
        print(f"all {len(opened):,} rows match their checksums")
    if to is not None:
        from .data.export import export

        print(f"{export(opened, to, opened.where(where)):,} of {len(opened):,} objects in {to}")
        return
    print(describe(opened, opened.where(where), page))
    _quarantined(opened)
    if page is None:
        from shlex import quote

        file = f"{Path(path.rstrip('/')).stem}.html"
        print(f"\na page of distributions and pictures: gsnn survey {quote(path)} --page {quote(file)}")


@app.command()
def crossmatch(
    left: Annotated[str, typer.Argument(metavar="LEFT", help="a survey")],
    right: Annotated[str, typer.Argument(metavar="RIGHT", help="the survey to look for its objects in")],
    radius: Annotated[float, typer.Option("--radius", help="arcsec")] = 1.0,
    out: Annotated[Path, typer.Option("--out", help="the Parquet file to write")] = Path("pairs.parquet"),
    every: Annotated[bool, typer.Option("--all", help="all objects within the radius, not the nearest alone")] = False,
) -> None:
    """The objects of two surveys that lie at the same place of the sky."""
    from .data.sky import write_pairs
    from .data.survey import Survey

    one, other = Survey.open(left), Survey.open(right)
    count = write_pairs(one, other, radius, out, keep="all" if every else "nearest")
    print(f"{count:,} pairs within {radius:g} arcsec in {out} ({len(one):,} and {len(other):,} objects)")


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
    from .run import Run

    progress, opened = _progress(), Run(run, trust=trust)
    if any(word is not None for word in (nproc, dask, fragment)) or out.suffix != ".parquet":
        from .spread.predict import predict

        found = predict(opened, data, out, nproc=nproc, dask=dask, fragment=fragment, progress=progress)
        objects, flagged = found["objects"], found["flagged"]
    else:
        table = opened.predict(data, out, progress)
        objects, flagged = table.num_rows, sum(1 for flag in table.column("flag").to_pylist() if flag)
    print(f"{objects:,} predictions in {out}, {flagged:,} of them flagged")


@app.command()
def watch(
    run: RunPath,
    broker: Annotated[str, typer.Option("--broker", help="host:port of Kafka, several by commas")],
    topic: Annotated[list[str], typer.Option("--topic", help="of alerts, or a pattern as 'ztf_*'; may be repeated")],
    out: Annotated[Path, typer.Option("--out", help="the folder of the answers, and of what is known of them")] = Path(
        "answers"
    ),
    to_topic: Annotated[str | None, typer.Option("--to-topic", help="answers go to this topic instead")] = None,
    webhook: Annotated[str | None, typer.Option("--webhook", help="answers are also sent to this URL")] = None,
    kafka: Annotated[
        Path | None, typer.Option("--kafka", help="a file of settings (key=value): security.protocol, ...")
    ] = None,
    schemas: Annotated[
        str | None, typer.Option("--schemas", help="a schema registry (http://...), or a folder of NUMBER.avsc")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", help="alerts that are answered together, at most")] = 256,
    seconds: Annotated[float, typer.Option("--seconds", help="an alert waits this long for others, at most")] = 0.25,
    nproc: Annotated[int, typer.Option("--nproc", help="processes that answer")] = 1,
    now: Annotated[bool, typer.Option("--now", help="begin now, not with what the broker still holds")] = False,
    end: Annotated[bool, typer.Option("--end", help="end when all that the broker holds is answered")] = False,
    every: Annotated[float, typer.Option("--every", help="seconds between figures")] = 10.0,
    trust: Trust = False,
) -> None:
    """Answer the alerts of a broker as they come, each exactly once; goes on where it was when typed again."""
    from .run import Run
    from .serve.watch import watch

    found = watch(
        Run(run, trust=trust), broker, topic, out=out, to_topic=to_topic, webhook=webhook, kafka=kafka, schemas=schemas,
        batch=batch, seconds=seconds, nproc=nproc, start="now" if now else "beginning", until_end=end, every=every,
        progress=_progress(),
    )  # fmt: skip
    print(f"{found.get('alerts', 0):,} alerts answered in {to_topic or out}, {found.get('quarantined', 0):,} set aside")


@app.command()
def replay(
    packets: Annotated[Path, typer.Argument(metavar="PACKETS", help="a folder of *.avro, or a Parquet file of them")],
    broker: Annotated[str, typer.Option("--broker", help="host:port of Kafka, several by commas")],
    topic: Annotated[str, typer.Option("--topic", help="where they go")],
    rate: Annotated[float | None, typer.Option("--rate", help="packets a second")] = None,
    speed: Annotated[float | None, typer.Option("--speed", help="times as fast as they were observed")] = None,
    repeat: Annotated[bool, typer.Option("--repeat", help="again and again, until interrupted")] = False,
    kafka: Annotated[Path | None, typer.Option("--kafka", help="a file of settings (key=value)")] = None,
) -> None:
    """A night of alert packets to a topic, as a broker sends them."""
    from .serve.replay import replay

    sent = replay(
        packets, broker, topic, rate=rate, speed=speed, repeat=repeat, kafka=kafka, progress=_progress()
    )  # fmt: skip
    print(f"{sent:,} packets sent to {topic}")


@app.command()
def export(
    run: RunPath,
    out: Annotated[Path, typer.Option("--out", help="the safetensors file to write")] = Path("model.safetensors"),
    weights: Annotated[
        str | None, typer.Option("--weights", help="of the newest checkpoint: best, average or model (the last ones)")
    ] = None,
) -> None:
    """The weights of a run, or of one of its checkpoints, as one safetensors file."""
    from .training.export import export

    print(f"wrote {out}: {export(run, out, weights)}")


@app.command()
def compare(first: RunPath, second: RunPath, as_json: Json = False) -> None:
    """Paired differences between two runs, with intervals."""
    from .run import Run

    found = Run(first).compare(Run(second))
    if as_json:
        _print(found)
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
def show(
    run: RunPath,
    object_id: Annotated[str | None, typer.Option("--object", help="the id of an object")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="where the object's picture goes")] = None,
    trust: Trust = False,
) -> None:
    """The answer of a run; or one object: inputs, prediction, explanation, picture."""
    from .run import Run
    from .show import lines

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
    _metrics(answer["metrics"])
    print(f"\nreport: {opened.report}")


@app.command()
def plan(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="plan this study here, not a machine")] = None,
    params: Annotated[float | None, typer.Option("--params", help="parameters of a transformer, as in 1e12")] = None,
    tokens: Annotated[float | None, typer.Option("--tokens", help="tokens to learn from, if not what suits")] = None,
    devices: Annotated[int, typer.Option("--devices", help="how many of them")] = 1,
    device: Annotated[str, typer.Option("--device", help="h200, h100, a100, tpu-v5p, laptop, ...")] = "h200",
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
        from .scale.show import show_lines, study_lines
        from .scale.study import plan_study

        found = plan_study(_study(study, changes), data=data, on=device)
        _print(found) if as_json else show_lines(study_lines(found))
        return
    from .scale.plan import Settings, with_price
    from .scale.plan import plan as best_plan
    from .scale.show import show

    settings = Settings(sequence, batch, pue, restart, law)
    made = best_plan(params, tokens, devices, with_price(device, price), settings=settings)
    _print(made.to_dict()) if as_json else show(made)


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
    from .scale.ladder import scale_study
    from .scale.show import law_lines, show_lines

    budgets = [word.strip() for word in steps.split(",") if word.strip()]
    if not all(word.isdigit() for word in budgets):
        raise GsnnError(f"--steps {steps!r} must be whole numbers, as in 50,100,200")
    found = scale_study(
        _study(study, changes), [word.strip() for word in sizes.split(",") if word.strip()], [int(w) for w in budgets],
        data=data, out=out, seed=seed, progress=_progress(),
    )  # fmt: skip
    _print(found) if as_json else show_lines(law_lines(found))


@app.command()
def doctor() -> None:
    """Devices, versions, optional parts, what is missing and how to get it."""
    from .doctor import lines

    found = lines()
    for what, how, state in found:
        print(f"{state}  {what:<14} {how}")
    if any(state == "!!" for *_, state in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
