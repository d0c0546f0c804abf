"""Writes docs/reference.md from the docstrings, settings and tables of the code.

``python docs/make_reference.py`` writes it; a test compares what is written with what would be.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("reference.md")
PUBLIC = ("Study", "Run", "Survey", "Model", "Schema", "Column", "read", "GsnnError", "ConfigError")
CONTRACTS = (
    ("gsnn.data.source", "Source"),
    ("gsnn.data.survey", "View"),
    ("gsnn.data.light_curves", "LightCurves"),
    ("gsnn.data.points", "Points"),
    ("gsnn.data.readers.avro", "decode"),
    ("gsnn.data.readers.curves", "Wanted"),
    ("gsnn.data.stream", "Stream"),
    ("gsnn.data.transforms", "Transform"),
    ("gsnn.objectives.base", "Objective"),
    ("gsnn.baselines.base", "Baseline"),
    ("gsnn.data.cutouts", "cutouts"),
    ("gsnn.data.audit", "audit"),
    ("gsnn.evaluation.judge", "judge"),
    ("gsnn.explain.sanity", "randomisation_check"),
    ("gsnn.models.resnet", "load_imagenet"),
    ("gsnn.rng", "Rng"),
)
DISTRIBUTIONS = ("Categorical", "Point", "Mixture", "Samples", "Quantiles", "Warped")
KINDS = {
    "source": "Sources: `[data] source`",
    "transform": "Transforms: `[data.transforms]`, `[objective] transform`",
    "augment": "Augmentations: `[data] augment`",
    "model": "Networks: `[model]`",
    "objective": "Objectives: `[objective]`",
    "baseline": "Baselines: `[evaluate] baselines`",
    "explainer": "Explainers: `[explain] methods`",
}


def markdown(text: str | None) -> str:
    """A docstring as Markdown: single backticks, no roles, no doctests, < escaped outside of code."""
    text = inspect.cleandoc(text or "")
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    text = re.split(r"\n\s*>>> ", text)[0]
    return "`".join(p if i % 2 else p.replace("<", "&lt;") for i, p in enumerate(text.split("`"))).strip()


def one_line(text: str | None) -> str:
    """The first paragraph on one line, fit for a table."""
    return " ".join(markdown(text).split("\n\n")[0].split()).replace("|", "\\|")


def signature(part: Any, name: str) -> str:
    try:
        text = str(inspect.signature(part))
    except (TypeError, ValueError):
        return name
    return name + re.sub(r"\((self|cls)(, )?", "(", text).replace("'", "")


def members(owner: type) -> list[str]:
    """The public methods and properties that a class itself defines, a line each."""
    lines = []
    for name, value in vars(owner).items():
        if name.startswith(("_", "model_")):
            continue
        function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if inspect.isfunction(function) and function.__doc__:
            lines.append(f"- `{signature(function, name)}`: {one_line(function.__doc__)}")
        elif inspect.isfunction(function):
            lines.append(f"- `{signature(function, name)}`")
        elif isinstance(value, property) or type(value).__name__ == "cached_property":
            about = one_line(getattr(value, "__doc__", None))
            lines.append(f"- `{name}`" + (f": {about}" if about else ""))
    return lines


def described(part: Any, name: str) -> list[str]:
    lines = [f"### {name}", ""]
    if not (inspect.isclass(part) and (issubclass(part, Exception) or hasattr(part, "model_fields"))):
        lines += ["```text", signature(part, name), "```", ""]
    lines += [markdown(part.__doc__), ""]
    return lines + ([*members(part), ""] if inspect.isclass(part) else [])


def value(given: Any) -> str:
    if given is ...:
        return "needed"
    from gsnn.new import _toml

    return f"`{_toml(given)}`" if given is not None else "not set"


def settings(model: Any) -> list[str]:
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        default = ... if field.is_required() else field.get_default(call_default_factory=True)
        meaning = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{field.alias or name}` | {value(default)} | {meaning} |")
    return [*lines, ""]


def parts(kind: str) -> list[str]:
    from gsnn.config import PARTS, options, resolve

    lines = []
    for name in PARTS[kind]:
        part = resolve(name, kind)
        keys = ", ".join(f"`{k}` = {value(v)}" for k, v in options(part).items())
        lines += [f"#### {name}", "", markdown(part.__doc__), ""]
        lines += [f"Keys: {keys}.", ""] if keys else ["It has no keys.", ""]
        if symmetry := getattr(part, "symmetry", ""):
            lines += [f"It takes for granted: {symmetry}", ""]
    return lines


def metrics() -> list[str]:
    from gsnn.evaluation.metrics import FAMILIES, METRICS

    lines = ["| metric | of | unit | better | definition |", "|---|---|---|---|---|"]
    for name, metric in METRICS.items():
        better = f"near {metric.goal:g}" if metric.better == "near" else metric.better
        about = one_line((metric.score or metric.function).__doc__)
        lines.append(f"| `{name}` | {metric.needs} | {metric.unit} | {better} | {about} |")
    return [*lines, "", f"And for each class: {', '.join(f'`{name}[CLASS]`' for name in FAMILIES)}.", ""]


def commands() -> list[str]:
    """Every verb with its arguments and options."""
    from typer.main import get_command

    from gsnn.cli import app

    lines = []
    for name, command in get_command(app).commands.items():
        lines += [f"### gsnn {name}", "", command.help or "", ""]
        for one in command.params:
            if one.name == "help":
                continue
            words = ", ".join(f"`{word}`" for word in one.opts) if one.param_type_name == "option" else ""
            words = words or f"`{one.metavar or one.name.upper()}`"
            lines.append(f"- {words}" + (f": {one.help}" if getattr(one, "help", None) else ""))
        lines.append("")
    return lines


def text() -> str:
    """The whole page."""
    from importlib import import_module

    import gsnn
    from gsnn.data.split import SplitSettings
    from gsnn.study import Data, Evaluate, Explain
    from gsnn.training.settings import Train

    lines = [
        "# Reference",
        "",
        "Made from the code by `docs/make_reference.py`; change the docstrings, not this page.",
        "",
    ]
    lines += ["## From Python: `import gsnn`", ""]
    for name in PUBLIC:
        lines += described(getattr(gsnn, name), name)
    lines += ["## The command", "", *commands()]
    lines += ["## Keys of a study", "", "Besides these tables a study has `question`, `schema = 1` and `unit`.", ""]
    tables = {"data": Data, "data.split": SplitSettings, "train": Train, "evaluate": Evaluate, "explain": Explain}
    for title, model in tables.items():
        lines += [f"### [{title}]", "", *settings(model)]
    lines += ["## Parts", ""]
    for kind, title in KINDS.items():
        lines += [f"### {title}", "", *parts(kind)]
    lines += ["## Metrics", "", *metrics(), "## Distributions", "", "In `gsnn.evaluation.distributions`.", ""]
    module = import_module("gsnn.evaluation.distributions")
    for name in DISTRIBUTIONS:
        lines += described(getattr(module, name), name)
    lines += ["## Contracts, and functions for those who build", ""]
    for module_name, name in CONTRACTS:
        lines += described(getattr(import_module(module_name), name), f"{module_name}.{name}")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines)).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(text())
    print(f"wrote {PAGE}")
