"""report.html: one self-contained page a run, written first after the audit and refreshed as training goes."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from . import figures as draw
from . import sky
from .images import data_uri, overlay
from .methods import methods
from .objects import Judged
from .parts import Parts, read
from .story import badges, comparison_rows, facts, headline, unit_of
from .theme import Drawing, svg
from .words import duration, number, plain

HERE = Path(__file__).parent
LARGEST = 5_000_000  # bytes of a page
ROWS = 4000  # rows of data kept with a figure


def write(run_directory: Path) -> Path:
    """Write report.html into the run directory from what is there, and return its path. Missing parts are said to be missing."""
    run = Path(run_directory)
    context = _context(run, read(run))
    for side in (256, 160, 96, 64):  # thumbnails shrink until the page fits
        html = _environment().get_template("page.html").render(context | _pictures(context, side))
        if len(html.encode()) <= LARGEST:
            break
    return save(run / "report.html", html)


def html_snippet(run_directory: Path) -> str:
    """The answer, its badges, metrics and a strip of examples as one ``<div>``, for a notebook's ``_repr_html_``."""
    run = Path(run_directory)
    parts = read(run)
    judged = Judged(parts, _short(run))
    css = Markup((HERE / "snippet.css").read_text(encoding="utf-8"))
    strip = [card for card in _cards(judged, "random", 8, 128) if card.get("picture")]
    context = {"css": css, "strip": strip, "run": _short(run), **_top(parts)}
    return _environment().get_template("snippet.html").render(context)


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
def assets() -> dict[str, Any]:
    """The style sheet and the script, with the hash by which the page allows this script and no other."""
    css, js = ((HERE / name).read_text(encoding="utf-8") for name in ("style.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(js.encode()).digest()).decode()
    return {"css": Markup(css), "js": Markup(js), "script_hash": f"sha256-{digest}"}


def plot(name: str, title: str, caption: str, drawing: Drawing) -> dict[str, Any]:
    """A drawing as the template shows it: SVG, and its data with every k-th row if it is long."""
    rows = max((len(column) for column in drawing.data.values()), default=0)
    every = -(-rows // ROWS) or 1
    note = f"The CSV holds every {every}th of {rows:,} rows." if every > 1 else ""
    return {
        "name": name,
        "title": title,
        "caption": caption,
        "note": note,
        "svg": Markup(svg(drawing, name)),
        "data": {key: column[::every] for key, column in drawing.data.items()},
    }


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
    audit = parts.audit
    versions = parts.answer.get("versions") or parts.resolved.get("versions") or {}
    known = {key: parts.resolved[key] for key in ("seed", "survey", "digest", "runtime") if key in parts.resolved}
    contents = [("comparison", "Numbers")] if parts.answer.get("metrics") else []
    contents += [("examples", "Examples"), ("training", "Training"), ("calibration", "Calibration"), ("failures", "Where it fails"),
                 ("explanations", "What it looks at"), ("data", "Data"), ("cost", "Cost"), ("methods", "Methods"), ("repeat", "Repeat")]
    return {
        **assets(),
        **_top(parts),
        "contents": contents,
        "figures": _figures(parts, judged),
        "judged": judged,
        "audit": audit,
        "split_rows": _split_rows(audit.get("split") or {}),
        "sanity": _sanity(parts),
        "costs": _costs(parts),
        "methods": paragraph,
        "references": references,
        "repeat": _repeat(parts, versions, _short(run)),
        "versions": [*versions.items(), *((k, _flat(v)) for k, v in known.items())],
        "study_text": parts.study_text,
        "run": _short(run),
        "problems": parts.problems,
    }


def _figures(parts: Parts, judged: Judged) -> dict[str, list[dict[str, Any]]]:
    answer, out = parts.answer, {key: [] for key in ("answer", "examples", "training", "calibration", "failures", "explanations", "data", "cost")}

    def add(section: str, name: str, title: str, caption: str, function: Callable[..., Drawing], *arguments: Any) -> None:
        try:
            out[section].append(plot(name, title, caption, function(*arguments)))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            parts.problems.append(f"The figure “{title}” could not be drawn ({type(error).__name__}: {error})")

    metrics, baselines = answer.get("metrics") or {}, answer.get("baselines") or {}
    for name in list(metrics)[:2]:
        beside = {b: v[name] for b, v in baselines.items() if name in v}
        if beside:
            add("answer", f"compare-{_slug(name)}", plain(name).capitalize(), "Dots are values, bars 95% intervals.",
                draw.comparison, {"network": metrics[name], **beside}, name, unit_of(parts, name))
    if parts.log:
        add("training", "loss", "Loss", "Thin: every step; thick: its running mean. The ring marks the best validation loss.", draw.loss_curves, parts.log)
        if any(e.get("event") == "step" and "learning_rate" in e for e in parts.log):
            add("training", "course", "Course of the training", "Learning rate, norm of the gradient before clipping, and speed.", draw.training_course, parts.log)
    calibration = answer.get("calibration") or {}
    if calibration.get("reliability"):
        add("calibration", "reliability", "Reliability", "On the diagonal, a stated 80% is right 80% of the time.", draw.reliability, calibration["reliability"], calibration.get("ece"))
    if calibration.get("pit"):
        add("calibration", "pit", "PIT histogram", "A hump means too wide, a bowl too narrow, a slope biased.", draw.pit, calibration["pit"], calibration.get("pit_ks"))
    if calibration.get("coverage"):
        add("calibration", "coverage", "Coverage", "How many truths the central intervals really hold.", draw.coverage, calibration["coverage"])
    if confusion := answer.get("confusion"):
        add("failures", "confusion", "Confusion", "Rows add up to the true class; shade is the share of the row.", draw.confusion, confusion["classes"], confusion["matrix"])
    _value_figures(parts, judged, add)
    metric = next(iter(metrics), None)
    for covariate, curve in (answer.get("curves") or {}).items():
        bins = curve.get("bins") or [{}]
        which = metric if metric in bins[0] else next((k for k in bins[0] if isinstance(bins[0][k], dict) and k != "baselines"), None)
        if which:
            add("failures", f"curve-{_slug(covariate)}", f"{plain(which).capitalize()} against {plain(covariate)}", "Bands are 95% intervals; below, the objects in each bin.",
                draw.metric_curve, covariate, curve, which, unit_of(parts, which))
    if judged.has_truth and {"ra", "dec"} <= judged.table.keys():
        value = np.where(judged.known, judged.right.astype(float), np.nan) if parts.classifies else judged.error
        name = "share right" if parts.classifies else "mean |Δz|/(1+z)" if judged.is_redshift else "mean |error|"
        table = judged.table
        if np.isfinite(table["ra"].astype(float)).any():
            add("failures", "sky", "Over the sky", "Held-out objects in cells of the sky; right ascension grows to the left.",
                sky.sky_map, table["ra"].astype(float), table["dec"].astype(float), value, name, "" if parts.classifies or judged.is_redshift else str(parts.target.get("unit") or ""))
    for method, arrays in parts.explanations.items():
        if "values" in arrays and "columns" in arrays:
            strength = np.abs(np.asarray(arrays["values"], float)).mean(0)
            order = np.argsort(-strength)[:20]
            add("explanations", f"explain-{_slug(method)}", f"{plain(method)}: weight of each column", "Mean size of the attribution over the explained objects.",
                draw.bars, [str(arrays["columns"][i]) for i in order], strength[order].tolist(), "mean |attribution|")
    if parts.audit.get("classes"):
        add("data", "balance", "Classes", "Objects of each class in each part.", draw.class_balance, parts.audit["classes"])
    seconds = {plain(k): v for k, v in (answer.get("seconds") or {}).items() if isinstance(v, (int, float))}
    if seconds:
        beside = {f"baseline {k}": v for k, v in (answer.get("baseline_seconds") or {}).items()}
        add("cost", "seconds", "Time", "Seconds by stage; baselines in the other colour.", draw.bars, [*seconds, *beside], [*seconds.values(), *beside.values()], "seconds", len(seconds))
    return out


def _value_figures(parts: Parts, judged: Judged, add: Callable[..., None]) -> None:
    if parts.classifies or not judged.has_truth or not judged.known.any():
        return
    name, unit = plain(parts.target["name"] or "value"), str(parts.target.get("unit") or "")
    truth, prediction = judged.table["truth"].astype(float), judged.table["prediction"].astype(float)
    add("examples", "truth", "Predicted against true", "Darker means more objects (logarithmic). Below, the residuals.",
        sky.truth_and_prediction, truth, prediction, name, unit, judged.is_redshift)
    level, quantile = judged.quantiles
    good = np.flatnonzero(np.isfinite(quantile).all(1) & judged.known) if len(level) >= 5 else []
    if len(good):
        some = good[np.linspace(0, len(good) - 1, min(8, len(good))).astype(int)]
        some = some[np.argsort(truth[some])]
        add("examples", "densities", "Predicted densities", "What the network says of single objects, spread evenly over the test set.",
            sky.example_densities, [judged.ids[i] for i in some], level, quantile[some], truth[some], name, unit)


def _pictures(context: dict[str, Any], side: int) -> dict[str, Any]:
    """The galleries, with pictures at most ``side`` pixels wide."""
    judged: Judged = context["judged"]
    examples, failures, explained = [], [], []
    groups = [("random", "Drawn at random", 12), ("best", "The surest right answers", 6)]
    for group, title, most in groups:
        if cards := _cards(judged, group, most, side):
            examples.append(_gallery(f"examples-{group}", title, cards))
    if not examples and judged.parts.classifies and judged.ids:
        some = np.unique(np.linspace(0, len(judged.ids) - 1, min(8, len(judged.ids))).astype(int))
        cards = [judged.card(judged.ids[i]) | {"covariates": judged.covariates(i)} for i in some]
        examples.append(_gallery("examples", "Spread evenly over the test set", cards))
    pictures = _by_id(judged.parts.examples)
    if judged.has_truth:
        cards = [judged.card(judged.ids[i], pictures.get(judged.ids[i]), side) | {"covariates": judged.covariates(i)} for i in judged.worst()]
        if cards:
            failures.append(_gallery("worst", "The worst mistakes", cards, "The least probable truth first; the command shows everything about the object."
                                     if judged.parts.classifies else "The largest errors first; the command shows everything about the object."))
    for method, arrays in judged.parts.explanations.items():
        if {"ids", "maps", "images"} <= arrays.keys():
            cards = []
            for i, identity in enumerate(arrays["ids"][:8]):
                card = judged.card(str(identity), arrays["images"][i], side)
                cards.append(card | {"overlay": data_uri(overlay(arrays["images"][i], arrays["maps"][i]), side), "bars": [], "spark": ""})
            explained.append(_gallery(f"explain-{_slug(method)}", plain(method), cards, "Orange speaks for the answer, blue against it."))
    return {"galleries": {"examples": examples, "failures": failures, "explanations": explained}}


def _cards(judged: Judged, group: str, most: int, side: int) -> list[dict[str, Any]]:
    examples = judged.parts.examples
    if not {"ids", "images"} <= examples.keys():
        return []
    groups = examples.get("group", np.full(len(examples["ids"]), "random"))
    chosen = [i for i in range(len(examples["ids"])) if str(groups[i]) == group][:most]
    return [judged.card(str(examples["ids"][i]), examples["images"][i], side) for i in chosen]


def _by_id(examples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {str(i): image for i, image in zip(examples.get("ids", []), examples.get("images", []))}


def _gallery(name: str, title: str, cards: list[dict[str, Any]], lead: str = "") -> dict[str, Any]:
    columns = {key: [c.get(key) or "" for c in cards] for key in ("id", "prediction", "interval", "truth", "command")}
    return {"name": name, "title": title, "lead": lead, "objects": cards, "data": {k: v for k, v in columns.items() if any(v)}}


def _split_rows(split: dict[str, Any]) -> list[dict[str, str]]:
    def table(value: Any) -> dict[str, float]:
        return dict(zip(("train", "valid", "test"), value)) if isinstance(value, list) else dict(value or {})

    asked, realised = table(split.get("fractions_asked")), table(split.get("fractions_realised"))
    return [{"name": k, "asked": f"{100 * asked[k]:.1f}%" if k in asked else "–", "realised": f"{100 * v:.1f}%"} for k, v in realised.items()]


def _sanity(parts: Parts) -> list[dict[str, str]]:
    out = []
    for method, entry in (parts.answer.get("explanations") or {}).items():
        passed = entry.get("passed")
        said = f"{plain(method)}: its maps correlate {number(entry.get('sanity_correlation'))} with those of a network of random weights"
        out.append({"level": "ok" if passed else "fail", "sentence": said + (", so they follow what was learned." if passed else ", so they do not follow what was learned.")})
    return out


def _costs(parts: Parts) -> list[tuple[str, str, str]]:
    answer, out = parts.answer, []
    seconds = [v for v in (answer.get("seconds") or {}).values() if isinstance(v, (int, float))]
    if seconds:
        out.append(("time", duration(sum(seconds)), ""))
    for name, s in (answer.get("baseline_seconds") or {}).items():
        out.append((f"baseline {name}", duration(s), "CPU time of its fit"))
    if answer.get("memory_gb") is not None:
        out.append(("memory, peak", f"{number(float(answer['memory_gb']))} GB", ""))
    if answer.get("energy_kwh") is not None:
        out.append(("energy", f"{number(float(answer['energy_kwh']))} kWh", str(answer.get("energy_source") or "")))
    if answer.get("co2e_g") is not None:
        grid = f"at {number(float(answer['grid_g_per_kwh']))} g CO₂e a kWh" if answer.get("grid_g_per_kwh") is not None else ""
        out.append(("CO₂ equivalent", f"{number(float(answer['co2e_g']))} g", ", ".join(x for x in (grid, str(answer.get("grid_source") or "")) if x)))
    return out


def _repeat(parts: Parts, versions: dict[str, Any], run: str) -> list[str]:
    version = f"=={versions['gsnn']}" if versions.get("gsnn") else ""
    lines = [f"pip install gsnn{version}", f"gsnn run {parts.resolved.get('command') or 'study.toml'}", f"gsnn show {run}"]
    return lines


def _short(run: Path) -> str:
    """How a reader would name the run: without this machine's folders."""
    run = Path(run).resolve()
    return f"runs/{run.name}" if run.parent.name == "runs" else run.name


def _flat(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in str(name).lower())
