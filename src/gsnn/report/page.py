"""report.html: one self-contained page a run, written first after the audit and refreshed as training goes."""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from .drawings import drawings
from .galleries import cards_of, galleries
from .methods import methods
from .objects import Judged
from .parts import Parts, read
from .story import badges, comparison_rows, facts, headline
from .words import duration, number, plain

HERE = Path(__file__).parent
LARGEST = 5_000_000  # bytes of a page
CONTENTS = (
    ("examples", "Examples"),
    ("training", "Training"),
    ("calibration", "Calibration"),
    ("failures", "Where it fails"),
    ("explanations", "What it looks at"),
    ("data", "Data"),
    ("cost", "Cost"),
    ("methods", "Methods"),
    ("repeat", "Repeat"),
)


def write(run_directory: Path) -> Path:
    """Write report.html into the run directory from what is there, and return its path.

    Missing parts are said to be missing. Raises GsnnError if there is no such directory.
    """
    run = Path(run_directory)
    parts = read(run)
    context = _context(run, parts)
    for side in (256, 160, 96, 64):  # thumbnails shrink until the page fits
        html = render("page.html", context | {"galleries": galleries(context["judged"], side)})
        if len(html.encode()) <= LARGEST:
            break
    return save(run / "report.html", html)


def html_snippet(run_directory: Path) -> str:
    """The answer, its badges, metrics and a strip of examples as one ``<div>``, for a notebook's ``_repr_html_``."""
    run = Path(run_directory)
    parts = read(run)
    strip = [card for card in cards_of(Judged(parts, _short(run)), "random", 8, 128) if card.get("picture")]
    css = Markup((HERE / "snippet.css").read_text(encoding="utf-8"))
    return render("snippet.html", {"css": css, "strip": strip, "run": _short(run), **_top(parts)})


def render(template: str, context: dict[str, Any]) -> str:
    """A page from its template; everything in ``context`` that is not ``Markup`` is escaped."""
    return _environment().get_template(template).render(_assets() | context)


def save(path: Path, text: str) -> Path:
    """Write a page so that a reader never meets half of one."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
    return path


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    environment.filters["percent"] = lambda v: f"{100 * v:.3g}%" if isinstance(v, (int, float)) and v else "0"
    return environment


@cache
def _assets() -> dict[str, Any]:
    """The style sheet and the script, with the hash by which the page allows this script and no other."""
    css, js = ((HERE / name).read_text(encoding="utf-8") for name in ("style.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(js.encode()).digest()).decode()
    return {"css": Markup(css), "js": Markup(js), "script_hash": f"sha256-{digest}"}


def _top(parts: Parts) -> dict[str, Any]:
    return {
        "study": parts.answer.get("study") or parts.name,
        "question": parts.answer.get("question") or parts.study.get("question") or "",
        "headline": headline(parts),
        "badges": badges(parts),
        "facts": facts(parts),
        "rows": comparison_rows(parts),
    }


def _context(run: Path, parts: Parts) -> dict[str, Any]:
    judged = Judged(parts, _short(run))
    paragraph, references = methods(parts)
    versions = parts.answer.get("versions") or parts.resolved.get("versions") or {}
    known = {key: parts.resolved[key] for key in ("seed", "survey", "digest", "runtime") if key in parts.resolved}
    return {
        **_top(parts),
        "contents": [("comparison", "Numbers"), *CONTENTS] if parts.answer.get("metrics") else CONTENTS,
        "figures": drawings(parts, judged),
        "judged": judged,
        "audit": parts.audit,
        "split_rows": _split_rows(parts.audit.get("split") or {}),
        "sanity": _sanity(parts),
        "costs": _costs(parts.answer) + _speeds(parts.log),
        "methods": paragraph,
        "references": references,
        "repeat": _repeat(parts.resolved, _short(run)),
        "versions": [*versions.items(), *((k, flat(v)) for k, v in known.items())],
        "study_text": parts.study_text,
        "run": _short(run),
        "problems": parts.problems,
    }


def _split_rows(split: dict[str, Any]) -> list[dict[str, str]]:
    def table(value: Any) -> dict[str, float]:
        return dict(zip(("train", "valid", "test"), value)) if isinstance(value, list) else dict(value or {})

    asked, realised = table(split.get("fractions_asked")), table(split.get("fractions_realised"))
    told = {name: f"{100 * share:.1f}%" for name, share in asked.items()}
    return [{"name": k, "asked": told.get(k, "–"), "realised": f"{100 * v:.1f}%"} for k, v in realised.items()]


def _sanity(parts: Parts) -> list[dict[str, str]]:
    out = []
    for method, entry in (parts.answer.get("explanations") or {}).items():
        said = f"{plain(method)}: its maps correlate {number(entry.get('sanity_correlation'))} with those of a network "
        follow = "so they follow" if entry.get("passed") else "so they do not follow"
        level = "ok" if entry.get("passed") else "fail"
        out.append({"level": level, "sentence": f"{said}of random weights, {follow} what was learned."})
    return out


def _costs(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value and source of each cost that was counted."""
    out = []
    seconds = [v for v in (answer.get("seconds") or {}).values() if isinstance(v, (int, float))]
    if seconds:
        out.append(("time", duration(sum(seconds)), ""))
    for name, s in (answer.get("baseline_seconds") or {}).items():
        out.append((f"baseline {name}", duration(s), "CPU time of its fit"))
    if answer.get("memory_gb") is not None:
        out.append(("memory, peak", f"{number(answer['memory_gb'])} GB", ""))
    if answer.get("energy_kwh") is not None:
        out.append(("energy", f"{number(answer['energy_kwh'])} kWh", str(answer.get("energy_source") or "")))
    if answer.get("co2e_g") is not None:
        grid = answer.get("grid_g_per_kwh")
        told = [f"at {number(grid)} g CO₂e a kWh"] if grid is not None else []
        told += [str(answer["grid_source"])] if answer.get("grid_source") else []
        out.append(("CO₂ equivalent", f"{number(answer['co2e_g'])} g", ", ".join(told)))
    return out


def _speeds(log: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """What the training told of its speed last, where it did."""
    out = []
    last = {key: value for event in log if event.get("event") == "step" for key, value in event.items() if value}
    if tokens := last.get("tokens_per_s"):
        out.append(("tokens learned from", f"{tokens:,.0f} a second", "in the last reading of the training"))
    if mfu := last.get("mfu"):
        told = f"{number(last.get('flops_per_s'))} FLOP/s of the model; one device's peak: {last.get('peak_source')}"
        out.append(("share of the peak (MFU)", f"{mfu:.1%}", told))
    return out


def _repeat(resolved: dict[str, Any], run: str) -> list[str]:
    """Commands that give this answer again; data are called by their last name, wherever they lie."""
    given = resolved.get("data") or []
    files = [Path(str(one)).name for one in (given if isinstance(given, list) else [given])]
    files = [shlex.quote(one) for one in files if not one.startswith("a table in memory")]
    data = f" --data {' '.join(files)}" if len(files) == 1 else ""
    seed = f" --seed {resolved['seed']}" if resolved.get("seed") else ""
    lines = [
        (f"gsnn run study.toml{data}{seed}", "the file below: every value as resolved"),
        (f"gsnn show {run}", "this answer again"),
    ]
    wide = max(len(line) for line, _ in lines)
    return [f"{line:<{wide}}   # {why}" for line, why in lines]


def _short(run: Path) -> str:
    """How a reader would name the run: without this machine's folders."""
    run = Path(run).resolve()
    return f"runs/{run.name}" if run.parent.name == "runs" else run.name


def flat(value: Any) -> str:
    """A value of a table on one line."""
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
