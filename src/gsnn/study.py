"""A study: the question and its five steps as one typed object that a TOML file describes whole.

``Study.load`` checks everything before anything runs, and says file, line and key of a mistake.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from .config import check, normalise, options, parse, resolve
from .data.split import SplitSettings
from .errors import ConfigError, GsnnError, nearest, suggest
from .origin import Origin, Written, anchored, is_path, key_of, rewritten
from .training.settings import Train

if TYPE_CHECKING:
    from .run import Run

BUILT_IN = Path(__file__).parent / "studies"
Spec = dict[str, Any]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Data(Section):
    """``[data]``: where the objects come from and what of them is used."""

    source: Annotated[str | Spec, Field(description="a simulator, a reader, or package.module:Class")]
    inputs: Annotated[tuple[str, ...], Field(min_length=1, description="columns that the network sees")]
    target: Annotated[str | tuple[str, ...], Field(description="the column, or columns, to learn")]
    where: Annotated[str | None, Field(description='only objects for which this holds, as in "mag < 20"')] = None
    derive: Annotated[dict[str, str], Field(description='new columns by SQL, as in g_r = "g - r"')] = {}
    classes: Annotated[dict[str, str], Field(description="names for the values of the target")] = {}
    split: SplitSettings = SplitSettings()
    transforms: Annotated[dict[str, str | Spec], Field(description="by dense column, and `scalars` for the table")] = {}
    augment: Annotated[
        tuple[str | Spec, ...], Field(description="changes of the images under which the answer stays")
    ] = ()
    symmetric: Annotated[
        bool, Field(description="orientation means nothing: predict by the mean over quarter turns and reflections")
    ] = False
    rounds: Annotated[
        int, Field(ge=1, le=20, description="simulate again where the posterior of what was observed lies")
    ] = 1
    scratch_gb: Annotated[float, Field(gt=0, description="disk for decoded rows")] = 8.0
    obtain: Annotated[str | None, Field(description="where the data of this study are to be had")] = None


class Evaluate(Section):
    """``[evaluate]``: how the answer is judged."""

    baselines: Annotated[tuple[str | Spec, ...], Field(description="classical methods on the same objects")] = (
        "prior",
    )
    copies: Annotated[
        int, Field(ge=0, le=1000, description="augmented copies of each training object that baselines learn from too")
    ] = 0
    metrics: Annotated[tuple[str, ...] | None, Field(description="all that fit the target, if not given")] = None
    headline: Annotated[str | None, Field(description="the metric that the answer's sentence states")] = None
    by: Annotated[tuple[str, ...], Field(description="columns against which the metrics are drawn")] = ()
    blocks: Annotated[
        str | None, Field(description="a column: objects of one value are resampled together, as they fail together")
    ] = None
    resamples: Annotated[int, Field(ge=10, description="bootstrap resamples of the test objects")] = 1000
    control: Annotated[bool, Field(description="train once more on permuted labels; it must fall to chance")] = False
    control_epochs: Annotated[int | None, Field(ge=1, description="epochs of the control, if fewer than the run's")] = (
        None
    )
    temperature: Annotated[
        bool, Field(description="scale class probabilities by a temperature fitted on validation")
    ] = True


class Explain(Section):
    """``[explain]``: what the network looks at."""

    methods: tuple[str | Spec, ...] = ()
    objects: Annotated[int, Field(ge=1, le=512)] = 12


class Study(Section):
    """A question and everything that answers it. Equal studies have equal digests and so the same run folder."""

    question: Annotated[str, Field(min_length=1)]
    version: Annotated[int, Field(alias="schema", ge=1, le=1)] = 1
    unit: Annotated[str, Field(description="what an object is called in the answer")] = "objects"
    data: Data
    model: Spec
    objective: Spec
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    explain: Explain = Explain()
    _name: str = PrivateAttr("study")
    _trust: bool = PrivateAttr(True)
    _origin: Origin | None = PrivateAttr(None)
    _written: Written = PrivateAttr(default_factory=dict)  # paths of the source as written, before they were absolute

    # ------------------------------------------------------------------ reading and writing

    @classmethod
    def load(cls, study: str | Path, overrides: tuple[str, ...] = (), *, trust: bool = True) -> Study:
        """A built-in study by name, or a TOML file; ``overrides`` are ``"train.epochs=5"``."""
        path = _find(study)
        try:
            text = path.read_text()
            table = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise GsnnError(f"{path}: not a TOML file: {error}") from error
        origin, written = Origin(path, text, overrides), table.pop("resolved", {}).get("source", {})
        written |= _anchor(table, path.parent)
        for override in overrides:
            _override(table, override)
            if key_of(override)[:2] == ("data", "source"):
                written = {k: v for k, v in written.items() if key_of(override)[2:] not in ((), (k,))}
        written |= _anchor(table, Path.cwd())  # what --set names
        try:
            loaded = cls.from_dict(table, name=path.stem, trust=trust)
        except ConfigError as error:
            raise origin.pointed(error) from error
        loaded._origin, loaded._written = origin, written
        return loaded

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], *, name: str = "study", trust: bool = True) -> Study:
        """A study from plain values, checked whole, every part with it."""
        study: Study = parse(cls, table)
        study._name, study._trust = name, trust
        study.check_parts()
        return study

    def _renamed(self, name: str) -> Study:
        self._name = name
        return self

    @property
    def name(self) -> str:
        """The short name of the study, from its file."""
        return self._name

    @property
    def trust(self) -> bool:
        """Whether parts from outside GSNN may be imported."""
        return self._trust

    def check_parts(self) -> dict[str, Any]:
        """Every named part exists, is of its kind, and accepts its arguments. Returns their tables as resolved."""
        trust, data = self.trust, self.data

        def each(specs: tuple[str | Spec, ...], kind: str, *path: str) -> list[Spec]:
            return [check(one, kind, (*path, i), trust) for i, one in enumerate(specs)]

        source: str | Spec = data.source
        if not is_path(source):
            spec = normalise(source, ("data", "source"))
            if "path" in options(resolve(spec["name"], "source", ("data", "source"), trust)):
                spec.setdefault("path", "")  # a reader whose files come by --data
            source = check(spec, "source", ("data", "source"), trust)
        weights = {key: self.model[key] for key in ("weights",) if key in self.model}
        places = {key: ("data", "transforms", key) for key in data.transforms}
        return {
            "model": {**check(self.network, "model", ("model",), trust), **weights},
            "objective": check(self.objective, "objective", ("objective",), trust),
            "data": {
                "source": source,
                "augment": each(data.augment, "augment", "data", "augment"),
                "transforms": {k: check(data.transforms[k], "transform", place, trust) for k, place in places.items()},
            },
            "evaluate": {"baselines": each(self.evaluate.baselines, "baseline", "evaluate", "baselines")},
            "explain": {"methods": each(self.explain.methods, "explainer", "explain", "methods")},
        }

    def to_dict(self, *, defaults: bool = False) -> dict[str, Any]:
        """Plain values for TOML; with ``defaults`` every value as resolved, the parts' own included."""
        table = self.model_dump(mode="json", by_alias=True, exclude_defaults=not defaults)
        table.setdefault("schema", 1)
        if defaults:
            for section, parts in self.check_parts().items():
                table[section] = parts if section in ("model", "objective") else {**table[section], **parts}
        return json.loads(json.dumps(_without_none(table)))

    def to_toml(self, *, defaults: bool = False) -> str:
        return tomli_w.dumps(self.to_dict(defaults=defaults))

    def set(self, *overrides: str) -> Study:
        """A copy with values changed, each as ``"train.epochs=5"``."""
        table = self.to_dict()
        for override in overrides:
            _override(table, override)
        new = Study.from_dict(table, name=self.name, trust=self.trust)
        new._written = self._written if new.data.source == self.data.source else {}
        if self._origin is not None:
            new._origin = replace(self._origin, overrides=(*self._origin.overrides, *overrides))
        return new

    def pointed(self, error: ConfigError) -> ConfigError:
        """A mistake that only the data show, told with the line of the study's file that names it, if there is one."""
        return self._origin.pointed(error) if self._origin and error.path else error

    @property
    def written(self) -> Written:
        """The relative paths of the source as they were written; the study holds them absolute."""
        return self._written

    @property
    def digest(self) -> str:
        """8 hexadecimal digits of all that changes the answer, whether it is written down or a default.

        A source counts as it was written: the same study in another folder is the same.
        """
        table = self.to_dict(defaults=True)
        table["data"]["source"] = rewritten(table["data"]["source"], self._written)
        for name in ("checkpoint_seconds", "layout"):
            table["train"].pop(name, None)
        table["data"].pop("obtain", None)
        return hashlib.blake2b(json.dumps(table, sort_keys=True).encode(), digest_size=4).hexdigest()

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.data.target,) if isinstance(self.data.target, str) else self.data.target

    @property
    def network(self) -> dict[str, Any]:
        """The ``[model]`` table without ``weights``, which names the run that the network starts from."""
        return {key: value for key, value in self.model.items() if key != "weights"}

    @property
    def spec(self) -> dict[str, Any]:
        """The tables from which a model is built."""
        data = self.data
        return {
            "model": self.network,
            "objective": self.objective,
            "transforms": data.transforms,
            "symmetric": data.symmetric,
        }

    # ------------------------------------------------------------------ doing

    def run(self, **options: Any) -> Run:
        """All five steps; see :func:`gsnn.run.run` for the options (``data``, ``out``, ``seed``, ``seeds``)."""
        from .run import run

        return run(self, **options)

    def check(self, **options: Any) -> list[str]:
        """One batch through every step in seconds; see :func:`gsnn.check.check_study`."""
        from .check import check_study

        return check_study(self, **options)


def built_in() -> dict[str, Path]:
    return {path.stem: path for path in sorted(BUILT_IN.glob("*.toml"))}


def _find(study: str | Path) -> Path:
    known = built_in()
    if str(study) in known:
        return known[str(study)]
    path = Path(study)
    if path.is_dir() and (path / "study.toml").is_file():
        return path / "study.toml"
    if path.is_file():
        return path
    if path.suffix == ".toml" or "/" in str(study):
        near = nearest(path.name, (one.name for one in path.parent.glob("*.toml")))
        advice = f"did you mean {near!r}?" if near else f"`gsnn new morphology {path.name}` writes one to change"
        raise GsnnError(f"there is no study file {study}; {advice}")
    raise GsnnError(f"there is no study {str(study)!r}; {suggest(str(study), known)} (`gsnn studies` lists them)")


def _anchor(table: dict[str, Any], folder: Path) -> Written:
    """Make the paths of the source absolute, in place; what was written instead."""
    data = table.get("data")
    if not isinstance(data, dict) or "source" not in data:
        return {}
    data["source"], written = anchored(data["source"], folder)
    return written


def _override(table: dict[str, Any], override: str) -> None:
    _, sign, text = override.partition("=")
    if not sign:
        raise GsnnError(f"--set {override!r} needs the form section.key=value, as in train.epochs=5")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word is text
    *sections, last = key_of(override)
    for section in sections:
        inner = table.setdefault(section, {})
        if isinstance(inner, str):
            inner = table[section] = normalise(inner)
        if not isinstance(inner, dict):
            raise GsnnError(f"--set {override!r}: {section!r} is not a section")
        table = inner
    table[last] = value


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(v) for v in value]
    return value
