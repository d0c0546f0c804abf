"""Studies to start from: a built-in one with a comment on every key, or one inferred from data."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from .config import options
from .data.schema import Column, Schema
from .data.stores import is_survey
from .data.survey import Survey
from .errors import GsnnError
from .study import Data, Evaluate, Explain, Study, built_in
from .training.settings import Train

HEADINGS = {
    "data": "step 2: where the objects come from, and what of them is used",
    "model": "step 3: the network",
    "objective": "step 4: what is learned",
    "train": "step 4: how it is learned",
    "evaluate": "step 4: how it is judged",
    "explain": "step 5: what it looks at",
}


def copy_study(name: str) -> str:
    """A built-in study's text, followed by every key that it leaves at its default, commented out."""
    known = built_in()
    if name not in known:
        from .study import Study as Any_

        Any_.load(name)  # says what is wrong with the name, or finds a file
        text = Path(name).read_text()
    else:
        text = known[name].read_text()
    return text.rstrip() + "\n\n" + _defaults(Study.load(name))


def _defaults(study: Study) -> str:
    lines = ["# Every other key, with its default. Move a line up into its section to change it.", "#"]
    for section, model in (("data", Data), ("train", Train), ("evaluate", Evaluate), ("explain", Explain)):
        said = getattr(study, section).model_fields_set
        lines += [f"# [{section}]"] + [f"#   {line}" for line in _fields(model, said)] + ["#"]
    for section, kind, spec in (("model", "model", study.network), ("objective", "objective", study.objective)):
        from .config import resolve

        part = resolve(spec["name"], kind)
        left = {key: value for key, value in options(part).items() if key not in spec}
        lines += [f"# [{section}]  {spec['name']}"] + [f"#   {k} = {_toml(v)}" for k, v in left.items()] + ["#"]
    return "\n".join(lines).rstrip("#\n") + "\n"


def _fields(model: type[BaseModel], said: set[str]) -> list[str]:
    lines = []
    for name, field in model.model_fields.items():
        if name in said or field.is_required():
            continue
        value = field.get_default(call_default_factory=True)
        about = f"   # {field.description}" if field.description else ""
        lines.append(f"{name} = {_toml(value)}{about}")
    return lines


def _toml(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_none=True)
    if value is None:
        return '""'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        inside = ", ".join(f"{k} = {_toml(v)}" for k, v in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def infer_study(data: str, target: str) -> str:
    """A study for ``target`` from the columns of a survey, or of files."""
    schema, unit, values = _look(data, target)
    column = schema.column(target)
    images = [c for c in schema.columns if c.kind == "image"]
    scalars = [c for c in schema.columns if c.kind == "scalar" and c.name != target and not _looks_like_id(c)]
    inputs = [c.name for c in (images[:1] or scalars)]
    if not inputs:
        raise GsnnError(f"{data} has neither images nor numbers beside {target!r}, so there is nothing to learn from")
    label = column.kind in ("label", "text") or (column.dtype.startswith("int") and 2 <= values <= 20)
    what = target.replace("_", " ")
    lines = [
        f"question = {_toml(f'Which {what} has this object?' if label else f'What is the {what} of this object?')}",
        "schema   = 1",
        "",
        f"# {HEADINGS['data']}",
        "[data]",
        f"source   = {_toml(data)}",
        f"inputs   = {_toml(inputs)}",
        f"target   = {_toml(target)}" + (f"   # {values} classes" if label else f"   # {unit or 'no unit'}"),
    ]
    if not images and len(scalars) > 1:
        lines += [
            "# beware: a column that was measured after the answer was known gives it away; take it out of inputs"
        ]
    lines += ["# split by sky where there are positions, else by object; a group column is split whole:"]
    lines += ['# split   = { by = "group", column = "..." }']
    if images:
        lines += ['augment  = ["rotate", "flip"]   # right where the answer does not depend on orientation']
    lines += ["", f"# {HEADINGS['model']}", "[model]"]
    lines += (
        ['name     = "resnet"', "width    = 24"] if images else ['name     = "mlp"', "width    = 128", "depth    = 3"]
    )
    lines += ["", f"# {HEADINGS['objective']}", "[objective]"]
    lines += (
        ['name     = "classify"']
        if label
        else ['name     = "regress"', 'loss     = "mixture"   # a full density p(x) for each object']
    )
    lines += [
        "",
        f"# {HEADINGS['train']}",
        "[train]",
        f"epochs   = {20 if images else 40}",
        "batch    = 128",
        "patience = 8",
    ]
    baselines = (
        ["prior", "cas-boosting"]
        if images
        else ["prior", "logistic", "boosting"]
        if label
        else ["prior", "linear", "forest"]
    )
    lines += ["", f"# {HEADINGS['evaluate']}", "[evaluate]", f"baselines = {_toml(baselines)}"]
    lines += ["control   = true   # once more on permuted labels: it must fall to chance"]
    methods = ["grad-cam", "occlusion"] if images else ["occlusion"]
    lines += ["", f"# {HEADINGS['explain']}", "[explain]", f"methods  = {_toml(methods)}"]
    text = "\n".join(lines) + "\n"
    Study.from_dict(tomllib.loads(text))
    return text


def _look(data: str, target: str) -> tuple[Schema, str, int]:
    """The schema of a survey or of files, the target's unit, and how many different values it has."""
    import numpy as np

    if is_survey(data):
        survey = Survey.open(data)
        column = survey.schema.column(target)
        values = survey.view().columns([target])[target]
        return survey.schema, column.unit, len(column.classes) or len(np.unique(values[values == values]))
    from .data.readers import read

    source = read(data)
    schema = source.schema()
    column = schema.column(target)
    some = np.arange(min(len(source), 20000))
    distinct = len(set(source.rows(some, 0).column(schema.columns.index(column)).to_pylist()))
    return schema, column.unit, len(column.classes) or distinct


def _looks_like_id(column: Column) -> bool:
    words = column.name.lower().replace("_", "")
    return column.dtype.startswith(("int", "uint")) and (
        words.endswith("id") or words in ("row", "index", "plate", "mjd", "run", "rerun", "camcol", "field", "fiber")
    )
