"""The verbs on surveys: made from files, looked at, matched on the sky."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import GsnnError
from .shared import Dask, Fragment, Nproc, app, pairs, terminal


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
    from ..data.survey import Survey
    from ..progress import Terminal
    from ..spread.ingest import ingest, source_of

    progress = Terminal()
    at = lambda done, total: progress.at("rows", done, total)  # noqa: E731
    given = {"labels": labels, "on": on, "catalogue": catalogue, "size": size, "crop": crop, "missing": missing}
    given |= {"observations": observations, "light_curve": _roles(light_curve), "names": names and names.split(",")}
    if on is not None and labels is None and observations is None:
        raise GsnnError(
            "--on names the column that the objects share with a table of labels or of observations; "
            "add --labels TABLE or --observations TABLE"
        )
    before, codecs = len(Survey.open(out)) if append else 0, pairs(codec or [], "--codec", "image=quantise")
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


def _roles(words: list[str] | None) -> dict[str, Any] | None:
    """What --light-curve says, as a study would: lists, numbers and truths are no words."""
    if words is None:
        return None
    out: dict[str, Any] = {}
    for key, value in pairs(words, "--light-curve", "time=mjd").items():
        plain: Any = {"true": True, "false": False}.get(value, int(value) if value.isdigit() else value)
        out[key] = value.split(",") if "," in value or key == "bands" else plain
    return out


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
    from ..data.survey import Survey
    from ..describe import describe

    opened = Survey.open(path)
    if verify:
        progress = terminal()
        bad = opened.verify(lambda done, total: progress.at("verifying", done, total))
        progress.done()
        if bad:
            some = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
            raise GsnnError(f"{len(bad)} of {len(opened)} rows are damaged: {some}; ingest their files again")
        print(f"all {len(opened):,} rows match their checksums")
    if to is not None:
        from ..data.export import export

        print(f"{export(opened, to, opened.where(where)):,} of {len(opened):,} objects in {to}")
        return
    print(describe(opened, opened.where(where), page))
    _quarantined(opened)
    if page is None:
        from shlex import quote

        file = f"{Path(path.rstrip('/')).stem}.html"
        print(f"\na page of distributions and pictures: gsnn survey {quote(path)} --page {quote(file)}")


def _quarantined(survey: Any) -> None:
    from collections import Counter

    bad = survey.quarantined()
    if bad:
        print(f"{len(bad):,} rows are set aside:")
        for reason, count in Counter(row["reason"] for row in bad).most_common(5):
            print(f"  {count:>7,}  {reason}")


@app.command()
def crossmatch(
    left: Annotated[str, typer.Argument(metavar="LEFT", help="a survey")],
    right: Annotated[str, typer.Argument(metavar="RIGHT", help="the survey to look for its objects in")],
    radius: Annotated[float, typer.Option("--radius", help="arcsec")] = 1.0,
    out: Annotated[Path, typer.Option("--out", help="the Parquet file to write")] = Path("pairs.parquet"),
    every: Annotated[bool, typer.Option("--all", help="all objects within the radius, not the nearest alone")] = False,
) -> None:
    """The objects of two surveys that lie at the same place of the sky."""
    from ..data.sky import write_pairs
    from ..data.survey import Survey

    one, other = Survey.open(left), Survey.open(right)
    count = write_pairs(one, other, radius, out, keep="all" if every else "nearest")
    print(f"{count:,} pairs within {radius:g} arcsec in {out} ({len(one):,} and {len(other):,} objects)")
