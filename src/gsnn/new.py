"""Studies to start from: a built-in one with a comment on every key, or one inferred from data."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from .config import names, options
from .data.stores import is_survey
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


def infer_study(data: str, target: str, folder: Path | None = None) -> str:
    """A study for ``target`` from the columns of a survey, or of files; ``folder`` is where it will lie."""
    from .candidates import colours, find

    found = find(data, target)
    schema, column = found.schema, found.schema.column(target)
    curves = [c.name for c in schema.columns if c.kind == "light_curve"]
    images = [] if curves else [c.name for c in schema.columns if c.kind == "image"]
    scalars = [c.name for c in schema.columns if c.kind == "scalar" and c.name not in {target, *found.aside}]
    label = column.kind in ("label", "text") or (found.whole and 2 <= found.distinct <= 20)
    if not images and not curves and not scalars:
        left = "".join(f"; {name} was left out: {why}" for name, why in list(found.aside.items())[:3])
        raise GsnnError(
            f"{data} has neither images, light curves nor numbers beside {target!r}, so there is nothing to learn "
            f"from{left}"
        )
    whole = bool(images or curves)  # one column is the input, and not a table of numbers
    new = {} if whole else colours(found.bands, set(schema))
    first = [name for family in found.bands for name in family]
    inputs = curves[:1] or images[:1] or [*new, *first, *(name for name in scalars if name not in first)]
    source = _place(data, folder)
    lines = [
        f"question = {_toml(f'What is the {target} of this object?')}",
        "schema   = 1",
        "",
        f"# {HEADINGS['data']}",
        "[data]",
        f"source   = {_toml(source)}",
        *_sentinels(data, source, {} if whole else found.missing),
        *_inputs(inputs, {} if whole else found.aside),
        f"target   = {_toml(target)}   # {f'{found.distinct} classes' if label else column.unit or 'no unit'}",
    ]
    if curves:
        also = [*(c.name for c in schema.columns if c.kind == "image"), *scalars]
        lines += [f"# more inputs may stand beside the light curve: {', '.join(also[:6])}"] if also else []
    if not whole and len(scalars) > 1:
        lines += [
            "# beware: a column that was measured after the answer was known gives it away; take it out of inputs"
        ]
    lines += _split("ra" in schema and "dec" in schema, found.group, found.rows)
    if images:
        lines += ['augment  = ["rotate", "flip"]   # right where the answer does not depend on orientation']
    if new:
        lines += [
            "",
            "# colours of neighbouring bands, by wavelength, of the columns that are magnitudes by their name or unit:",
            f"# {', '.join(first)}",
            "[data.derive]",
            *(f"{name} = {_toml(expression)}" for name, expression in new.items()),
        ]
    lines += ["", f"# {HEADINGS['model']}", "[model]"]
    lines += (
        ['name     = "rnn"', "width    = 64", "bidirectional = true"]
        if curves
        else ['name     = "resnet"', "width    = 24"]
        if images
        else ['name     = "mlp"', "width    = 128", "depth    = 3"]
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
        f"epochs   = {20 if whole else 40}",
        "batch    = 128",
        "patience = 8",
    ]
    baselines = (
        ["prior", "boosting" if label else "forest"]
        if curves
        else ["prior", "cas-boosting"]
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


def _place(data: str, folder: Path | None) -> str:
    """The path of the data as a study in ``folder`` names it."""
    if folder is not None and not os.path.isabs(data) and "://" not in data:
        data = os.path.relpath(data, folder)
    return f"./{data}" if data in names("source") else data


def _inputs(inputs: list[str], aside: Mapping[str, str]) -> list[str]:
    """The list of inputs; what is left out stands in it as comments, with the reason."""
    line = f"inputs   = {_toml(inputs)}"
    if not aside and len(line) < 100:
        return [line]
    rows, row = [], ""
    for name in inputs:
        if len(row) + len(name) > 96:
            rows, row = [*rows, row], ""
        row += f"{'' if row else '  '}{_toml(name)}, "
    left = [f"  # {_toml(name)},   # left out: {why}" for name, why in aside.items()]
    return ["inputs   = [", *(one.rstrip() for one in [*rows, row]), *left, "]"]


def _sentinels(data: str, source: str, missing: Mapping[float, list[str]]) -> list[str]:
    """How to read numbers as missing that seem to mean it."""
    if not missing:
        return []
    numbers = ", ".join(f"{value:g}" for value in missing)
    columns = list(dict.fromkeys(name for some in missing.values() for name in some))
    told = f"{', '.join(columns[:4])}{' and others' if len(columns) > 4 else ''}"
    verb, it = ("stands", "it means") if len(missing) == 1 else ("stand", "they mean")
    first = f'# {numbers} {verb} far outside the rest of {told}; if {it} "no value", read the data so:'
    if is_survey(data):
        return [first, "# gsnn ingest ... " + " ".join(f"--missing {value:g}" for value in missing)]
    return [first, f'# source = {{ name = "files", path = {_toml(source)}, missing = [{numbers}] }}']


def _split(sky: bool, group: tuple[str, int] | None, rows: int) -> list[str]:
    """The split: what shares an identifier stays together where positions do not see to that already."""
    about = "# split by sky where there are positions, else by object; a group column is split whole:"
    if group is None:
        return [about, '# split   = { by = "group", column = "..." }']
    name, count = group
    table = f'{{ by = "group", column = {_toml(name)} }}'
    shared = (
        f"# {name} has {count:,} values for {rows:,} objects; objects that share one are kept together by this line"
    )
    if not sky and count > 0.3 * rows:
        return [shared, f"split    = {table}"]
    return [about, shared, f"# split   = {table}"]
