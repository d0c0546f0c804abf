"""Step 2: the survey of a study, which of its objects take part, and in which part of the split."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config import build, normalise, options, resolve
from ..data.batch import tensors
from ..data.kept import Kept
from ..data.schema import Schema
from ..data.split import Split, split
from ..data.stores import is_survey
from ..data.survey import Survey, View
from ..errors import ConfigError, GsnnError, suggest
from ..origin import is_path, placed
from ..progress import Progress
from ..study import Study

COVARIATES = ("snr", "magnitude", "mag", "half_light_radius", "redshift")  # drawn against, where a study names none


@dataclass(frozen=True)
class Ground:
    """A study's data, ready: the survey with derived columns and classes, and the split."""

    survey: Survey
    split: Split
    inputs: Schema
    targets: Schema
    covariates: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)  # objects by the reason
    beside: tuple[str, ...] = ()  # columns that the objective learns from and that are neither inputs nor targets

    @property
    def names(self) -> list[str]:
        return [*self.inputs, *self.targets, *self.beside]

    @property
    def train(self) -> View:
        return self.survey.view(self.split.train)

    @property
    def valid(self) -> View:
        return self.survey.view(self.split.valid)

    @property
    def test(self) -> View:
        return self.survey.view(self.split.test)

    @property
    def target(self) -> str:
        return next(iter(self.targets))

    def told(self, unit: str = "objects") -> str:
        """How many objects take part, in which part of the split, and how many were left out for which reason."""
        parts = {"training": self.split.train, "validation": self.split.valid, "test": self.split.test}
        used, total = sum(map(len, parts.values())), len(self.survey)
        text = f"{used:,} {unit}" if used == total else f"{used:,} of {total:,} {unit}"
        text += f" ({', '.join(f'{len(rows):,} {name}' for name, rows in parts.items())}), split by {self.split.by}"
        out = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items() if count)
        return f"{text}; left out: {out}" if out else text


def survey_for(study: Study, folder: Path, data: Any, seed: int, progress: Progress) -> Survey:
    """The survey: ``data`` if it is one, else made from ``data`` or the study's source into ``folder``."""
    source = data if data is not None else study.data.source
    if isinstance(source, Survey):
        return source
    if is_survey(source):
        return Survey.open(source)
    if folder.exists():
        return Survey.open(folder)
    source = source_for(study, data)
    kept = Kept(source, folder.with_name(f".{folder.name}.rows"), source.keep) if hasattr(source, "keep") else None
    survey = Survey.create(
        folder,
        kept or source,
        seed=seed,
        progress=lambda done, total: progress.at("objects", done, total),
    )
    if kept is not None:
        kept.forget()
    return survey


def source_for(study: Study, data: Any = None) -> Any:
    """The study's source: its simulator, or its reader on ``data``."""
    source = study.data.source
    if data is None and isinstance(source, str) and is_path(source):
        data, source = source, "files"
    spec = normalise(source if not (isinstance(source, str) and is_path(source)) else "files", ("data", "source"))
    part = resolve(spec["name"], "source", ("data", "source"), study.trust)
    reads = "path" in options(part)
    if data is None:
        if reads and getattr(part, "needs_path", True) and not spec.get("path"):
            hint = f" ({study.data.obtain})" if study.data.obtain else ""
            raise GsnnError(f"the study {study.name!r} needs data: name them by --data PATH{hint}")
        return build(spec, "source", path=("data", "source"), trust=study.trust)
    if not reads:
        spec = {"name": "files"}
    if isinstance(data, (str, Path)) or (isinstance(data, list) and all(isinstance(d, (str, Path)) for d in data)):
        paths = [str(d) for d in data] if isinstance(data, list) else str(data)
        spec.pop("observations", None)  # those of the data that the study was trained on
        return build({**spec, "path": paths}, "source", path=("data", "source"), trust=study.trust)
    from ..data.readers import read

    return read(data)


def shaped(study: Study, survey: Survey, *, target: bool = True) -> Survey:
    """The survey with the study's derived columns and, if ``target``, its classes."""
    wanted = study.data.derive
    used = set(study.data.inputs) | ({*study.targets} if target else set())
    new = {k: v for k, v in wanted.items() if (target or k in used) and survey.derived.get(k) != v}
    for name, expression in new.items():
        with placed("data", "derive", name):
            survey = survey.derive({name: expression})
    kind = resolve(study.objective["name"], "objective", trust=study.trust).target_kind
    for name in study.targets if target and kind in ("label", "any") else ():
        _known(survey.schema, name, "data", "target")
        if kind == "label" or survey.schema[name].kind in ("label", "text"):
            with placed("data", "target"):
                survey = survey.label(name, study.data.classes)
    return survey


def _known(schema: Schema, name: str, *path: str) -> None:
    if name not in schema:
        raise ConfigError(f"no column {name!r} in the data; {suggest(name, schema)}", path)


def ground(study: Study, survey: Survey) -> Ground:
    """Choose, check and divide the objects."""
    survey = shaped(study, survey)
    schema = survey.schema
    for name in study.data.inputs:
        _known(schema, name, "data", "inputs")
        if schema[name].kind in ("id", "text"):
            raise ConfigError(f"column {name!r} is {schema[name].kind}, which no network reads", ("data", "inputs"))
    for name in study.targets:
        _known(schema, name, "data", "target")
        if name in study.data.inputs:
            raise ConfigError(f"{name!r} is an input and the target at once", ("data", "target"))
    for name in study.evaluate.by:
        _known(schema, name, "evaluate", "by")
    if study.evaluate.blocks:
        _known(schema, study.evaluate.blocks, "evaluate", "blocks")
    if study.data.split.column:
        _known(schema, study.data.split.column, "data", "split", "column")
    beside = tuple(filter(None, [study.objective.get("truth")]))
    for name in beside:
        _known(schema, name, "objective", "truth")
    survey, rows, left_out = taking_part(study, survey)
    with placed("data", "split"):
        divided = split(survey, study.data.split, rows)
    inputs, targets = survey.schema.select(study.data.inputs), survey.schema.select(study.targets)
    return Ground(
        survey, divided, inputs, targets, covariates_present(study, survey),
        {**left_out, "at a border of the split": divided.dropped}, beside,
    )  # fmt: skip


def taking_part(study: Study, survey: Survey) -> tuple[Survey, np.ndarray, dict[str, int]]:
    """The rows that the study's condition admits and whose target is known, and how many others there are.

    Classes that none of them belongs to are no classes of the survey that comes back: chance, metrics and the
    network's outputs count those that occur.
    """
    with placed("data", "where"):
        admitted = survey.where(study.data.where)
    if not len(admitted):
        raise ConfigError(f"no object fulfils where = {study.data.where!r}", ("data", "where"))
    known, found = _known_targets(survey, study.targets, admitted)
    rows = admitted[known]
    if not len(rows):
        raise ConfigError(f"no object has a value of {' and '.join(study.targets)}", ("data", "target"))
    for name, occurs in found.items():
        survey = with_classes(survey, name, [c for c, yes in zip(survey.schema[name].classes, occurs) if yes])
    unknown = f"without a known {' or '.join(study.targets)}"
    return survey, rows, {"by where": len(survey) - len(admitted), unknown: len(admitted) - len(rows)}


def with_classes(survey: Survey, name: str, classes: Iterable[str]) -> Survey:
    """The survey in which a label has these classes; objects of any other are of unknown class."""
    return replace(survey, schema=survey.schema.with_column(replace(survey.schema[name], classes=tuple(classes))))


def covariates_present(study: Study, survey: Survey) -> tuple[str, ...]:
    """The columns against which metrics are drawn: the study's, else the usual ones."""
    schema = survey.schema
    return tuple(n for n in study.evaluate.by or COVARIATES if n in schema and n not in study.targets)


def everything_as_test(study: Study, survey: Survey, learned: Schema) -> Ground:
    """A survey on which a finished network is judged: every object of a class that it has ``learned`` is tested."""
    survey, empty = shaped(study, survey), np.empty(0, np.int64)
    for name in study.targets:
        _known(survey.schema, name, "data", "target")
    for column in learned.of_kind("label"):
        survey = with_classes(survey, column.name, column.classes)
    _, rows, left_out = taking_part(study, survey)
    divided = Split("all", (0.0, 0.0, 1.0), empty, empty, rows)
    inputs, targets = survey.schema.select(study.data.inputs), survey.schema.select(study.targets)
    return Ground(survey, divided, inputs, targets, covariates_present(study, survey), left_out)


def _known_targets(
    survey: Survey, targets: tuple[str, ...], rows: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Where a target is known, and which classes of each label occur."""
    known, start = np.zeros(len(rows), bool), 0
    labels = [name for name in targets if survey.schema[name].kind == "label"]
    occur = {name: np.zeros(len(survey.schema[name].classes), bool) for name in labels}
    for chunk in View(survey, rows).chunks(list(targets), 1 << 18):
        for name in targets:
            values = chunk[name]
            good = values >= 0 if name in occur else np.isfinite(values.astype(float)).reshape(len(values), -1).all(1)
            if name in occur:
                occur[name][values[good]] = True
            known[start : start + len(good)] |= good
        start += len(good)
    return known, occur


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps(value, indent=1, ensure_ascii=False, default=_plain) + "\n")
        partial.rename(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise GsnnError(f"cannot write {path}: {error.strerror}; free some space or choose another --out") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


def augmentations(study: Study, targets: Schema) -> list[torch.nn.Module]:
    """The changes of the inputs under which the study says that the answer stays.

    Raises ConfigError where a change would move the pixels of the inputs and not those of a map that is asked for.
    """
    changes = []
    for i, spec in enumerate(study.data.augment):
        path = ("data", "augment", i)
        changes.append(build(spec, "augment", path=path, trust=study.trust))
        maps = [
            c.name for c in targets.columns if c.kind in ("image", "field") and getattr(changes[-1], "moves", False)
        ]
        if maps:
            name = normalise(spec)["name"]
            raise ConfigError(f"{name!r} would move the inputs and leave the map {maps[0]!r}; leave it out", path)
    return changes


def batch_of(view: View, names: list[str]) -> dict[str, torch.Tensor]:
    """A small view as one batch."""
    return tensors(view.columns(names), view.rows)


def preview(one: Ground, count: int = 8) -> Iterator[tuple[np.ndarray, str]]:
    """Thumbnails of a few training objects with their truth, where there are images."""
    from ..report.images import thumbnail

    image = next((c for c in one.inputs.columns if c.kind == "image"), None)
    if image is None:
        return
    view = one.train.take(np.linspace(0, len(one.train) - 1, min(count, len(one.train))).astype(int))
    columns = view.columns([image.name, one.target])
    for picture, truth in zip(columns[image.name], columns[one.target]):
        yield thumbnail(picture, image.bands), _shown(truth, one.targets[one.target].classes)


def _shown(truth: Any, classes: tuple[str, ...]) -> str:
    """A truth in a few letters; none of a map."""
    if classes:
        return classes[int(truth)]
    return f"{truth:.3g}" if np.ndim(truth) == 0 else ""
