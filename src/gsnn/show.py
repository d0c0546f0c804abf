"""One object of a run: what went in, what the network says and rests on, the truth, and its picture."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .config import build, normalise
from .data.survey import View
from .errors import GsnnError
from .predict import predict_view, table_of
from .steps.curves import first
from .steps.data import COVARIATES, Ground, batch_of

if TYPE_CHECKING:
    from .run import Run

BESIDE = 63  # training objects that an explanation of a table compares with


def show(run: Run, object_id: str, out: str | Path | None = None) -> dict[str, Any]:
    """Everything about one object of the run's survey, ready for JSON; a picture to ``out`` where there are images.

    ``inputs`` are the scalars and labels that the network reads, with their units; ``attribution`` says how much each
    scalar matters to this answer, by the study's first method that suits (saliency, if none does).
    """
    from .steps.explain import picture

    one = run.ground
    images = [column for column in one.inputs.of_kind("image") if len(column.shape) == 3]
    drawn = images or one.inputs.of_kind("graph", "sphere") or first(one)
    if out is not None and not drawn:
        raise GsnnError(
            "--out names a picture, and this network reads no image, sphere, graph, light curve or series to draw; "
            "leave --out away"
        )
    quoted = object_id.replace("'", "''")
    rows = one.survey.where(f"id = '{quoted}'")
    if not len(rows):
        near = one.test.columns(["id"])["id"][:3]
        raise GsnnError(f"no object {object_id!r} in this run's survey; its test part holds {', '.join(near)}, ...")
    view = one.survey.view(rows[:1])
    found, distance = predict_view(run.model, view, run.runtime)
    table = table_of(found, view, run.model, distance).to_pylist()[0]
    parts = [name for name in ("train", "valid", "test") if rows[0] in getattr(one.split, name)]
    about: dict[str, Any] = {"id": object_id, "part": parts[0] if parts else "unused", **table}
    for name in one.targets:
        about["truth" if len(one.targets) == 1 else f"{name}_truth"] = _value(view, name)
    plain = [c.name for c in one.inputs.columns if c.kind in ("scalar", "label", "position")]
    about["inputs"] = {name: {"value": _value(view, name), "unit": one.inputs[name].unit} for name in plain}
    if not drawn and (attribution := _attribution(run, one, view)):
        about["attribution"] = attribution
    names = [n for n in dict.fromkeys((*one.covariates, *COVARIATES, "ra", "dec")) if n in one.survey.schema]
    about["context"] = {name: _value(view, name) for name in names if name not in {*one.targets, *plain}}
    if drawn:
        path = Path(out) if out else run.path / "objects" / f"{_file(object_id)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(run.study, one, run.model, view, about, path)
        about["picture"] = str(path)
    return about


def lines(about: dict[str, Any]) -> list[str]:
    """What :func:`show` found, for a terminal; of the quantiles those of 16% and 84% alone."""
    tables = ("inputs", "attribution", "context")
    plain = {k: v for k, v in about.items() if k not in tables and not re.search(r"_q(?!16|84)\d\d$", k)}
    plain |= about["context"]
    wide = max(map(len, plain))
    out = [f"{name:<{wide}}  {_text(value)}" for name, value in plain.items()]
    if not about["inputs"]:
        return out
    method = about.get("attribution", {}).get("method", "")
    each = about.get("attribution", {}).get("columns", {})
    names = sorted(about["inputs"], key=lambda name: -abs(each.get(name, 0)))
    wide = max(map(len, [*names, "input"]))
    out += ["", f"{'input':<{wide}}  {'value':>12}  {'unit':<8}  {method}".rstrip()]
    for name in names:
        value, unit = about["inputs"][name].values()
        share = f"{each[name]:+.3g}" if name in each else ""
        out.append(f"{name:<{wide}}  {_text(value):>12}  {unit:<8}  {share}".rstrip())
    return out


def _attribution(run: Run, one: Ground, view: View) -> dict[str, Any] | None:
    """The object among some training objects: occlusion asks what changes when a column is set to their mean."""
    scalars = [c.name for c in one.inputs.columns if c.kind == "scalar"]
    some = one.split.train[np.linspace(0, len(one.split.train) - 1, min(BESIDE, len(one.split.train))).astype(int)]
    batch = batch_of(one.survey.view(np.concatenate([view.rows, some])), list(one.inputs))
    model = run.model.cpu().eval()
    for spec in (*run.study.explain.methods, "saliency"):
        explainer = build(spec, "explainer", path=("explain", "methods"), trust=run.study.trust)
        with contextlib.suppress(GsnnError):  # a method of images
            values = explainer(model, batch)[0]
            if values.shape == (len(scalars),):
                return {"method": normalise(spec)["name"], "columns": dict(zip(scalars, values.tolist()))}
    return None


def _value(view: View, name: str) -> Any:
    value, classes = view.columns([name])[name][0], view.schema[name].classes
    if classes:
        return classes[value] if value >= 0 else None
    return value.item() if hasattr(value, "item") else value


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "unknown" if value is None else str(value)


def _file(object_id: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in object_id) or "object"
