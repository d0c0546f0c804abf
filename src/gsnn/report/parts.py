"""What a run directory holds, read part by part: a missing part is None, a broken one is named in ``problems``."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from ..errors import GsnnError


@dataclass
class Parts:
    """One run as the report sees it; tables are columns of equal length."""

    name: str
    study: dict[str, Any] = field(default_factory=dict)
    study_text: str = ""
    answer: dict[str, Any] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)
    predictions: dict[str, ndarray] = field(default_factory=dict)
    examples: dict[str, ndarray] = field(default_factory=dict)
    posteriors: dict[str, ndarray] = field(default_factory=dict)
    maps: dict[str, ndarray] = field(default_factory=dict)
    fitted: dict[str, ndarray] = field(default_factory=dict)
    explanations: dict[str, dict[str, ndarray]] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def resolved(self) -> dict[str, Any]:
        return self.study.get("resolved") or {}

    @property
    def target(self) -> dict[str, Any]:
        """The target's name, kind, classes and unit, as far as anything tells."""
        target = dict(self.answer.get("target") or {})
        named = (self.study.get("data") or {}).get("target")
        named = named if isinstance(named, str) else next(iter(named or ()), "")
        target.setdefault("name", named)
        if "kind" not in target:
            truth = self.predictions.get("truth")
            classes = truth is not None and truth.dtype.kind in "OU"
            target["kind"] = "label" if classes or self.answer.get("confusion") else "scalar"
        return target

    @property
    def classifies(self) -> bool:
        return self.target["kind"] == "label"


def read(run: Path) -> Parts:
    """Every part of the run directory that is there."""
    run = Path(run)
    if not run.is_dir():
        raise GsnnError(f"no run directory {run}; name one, for example runs/NAME-1a2b3c4d")
    parts = Parts(run.resolve().name)

    def part(path: Path, how: Callable[[Path], Any], otherwise: Any) -> Any:
        if not path.is_file():
            return otherwise
        try:
            return how(path)
        except Exception as error:  # whatever is wrong with one file, the report says so and shows the rest
            parts.problems.append(f"{path.relative_to(run)} could not be read ({type(error).__name__}: {error})")
            return otherwise

    parts.study_text = part(run / "study.toml", lambda p: p.read_text(encoding="utf-8"), "")
    parts.study = part(run / "study.toml", lambda p: tomllib.loads(p.read_text(encoding="utf-8")), {})
    parts.answer = part(run / "answer.json", _table, {})
    parts.audit = part(run / "audit.json", _table, {})
    parts.predictions = _of_target(part(run / "predictions.parquet", _columns, {}), parts.target["name"])
    parts.examples = part(run / "examples.npz", _arrays, {})
    parts.posteriors = part(run / "posteriors.npz", _arrays, {})
    parts.maps = part(run / "maps.npz", _arrays, {})
    parts.fitted = part(run / "fitted.npz", _arrays, {})
    for path in sorted((run / "explain").glob("*.npz")):
        if arrays := part(path, _arrays, {}):
            parts.explanations[path.stem] = arrays
    parts.log = part(run / "fits" / "main" / "log.jsonl", lambda p: _lines(p, parts.problems), [])
    return parts


def _table(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError("not a table")
    return _known(value)


def _known(value: Any) -> Any:
    """``value`` without its nulls: what is null is absent."""
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items() if item is not None}
    return [_known(item) for item in value if item is not None] if isinstance(value, list) else value


def _columns(path: Path) -> dict[str, ndarray]:
    import pyarrow.parquet
    import pyarrow.types

    schema = pyarrow.parquet.read_schema(path)
    plain = [field.name for field in schema if not pyarrow.types.is_nested(field.type)]  # maps are shown elsewhere
    table = pyarrow.parquet.read_table(path, columns=plain)
    return {name: table[name].to_numpy(zero_copy_only=False) for name in plain}


def _of_target(table: dict[str, ndarray], target: str) -> dict[str, ndarray]:
    """Where several targets were predicted, the columns of the one that the answer is about, named as if alone."""
    if "truth" in table or f"{target}_truth" not in table:
        return table
    others = {name[: -len("_truth")] for name in table if name.endswith("_truth")} - {target}
    kept = {name: values for name, values in table.items() if not any(name.startswith(f"{one}_") for one in others)}
    alone = {f"{target}_truth": "truth", f"{target}_prediction": "prediction"}
    return {alone.get(name, name): values for name, values in kept.items()}


def _arrays(path: Path) -> dict[str, ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _lines(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """The events of a log; its last line may still be on its way, any other broken one is reported."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    events, broken = [], []
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
            events.append(event) if isinstance(event, dict) else broken.append(number)
        except ValueError:
            broken += [number] if line.strip() and number < len(lines) else []
    if broken:
        problems.append(f"fits/main/log.jsonl: {len(broken)} broken lines, the first is line {broken[0]}")
    return events
