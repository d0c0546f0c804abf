"""A run: the folder in which a study becomes an answer, and everything that can be done with it afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import platform
import time
import tomllib
from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from .errors import GsnnError, on_disk
from .progress import Clock, Progress, default, duration
from .steps.data import Ground, ground, preview, survey_for, write_json
from .study import Study

REFRESH_SECONDS = 60
VERSIONS = ("gsnn", "torch", "numpy", "scipy", "scikit-learn", "pylance", "pyarrow", "astropy", "captum")


class Run:
    """A finished or unfinished run folder. ``run.answer`` is answer.json; ``run.predict(data)`` uses the network."""

    def __init__(self, path: str | Path, *, trust: bool = False):
        self.path, self.trust = Path(path), trust
        if not (self.path / "study.toml").is_file():
            raise GsnnError(f"{path} is not a run; `gsnn run STUDY` makes one")
        try:
            self.resolved: dict[str, Any] = tomllib.loads((self.path / "study.toml").read_text()).get("resolved", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise GsnnError(f"{self.path}/study.toml is damaged: {error}") from error

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self.answer.get('answer', 'not finished')})"

    def _repr_html_(self) -> str:
        from .report.page import html_snippet

        return html_snippet(self.path)

    @cached_property
    def study(self) -> Study:
        return Study.load(self.path, trust=self.trust)._renamed(self.resolved.get("study", "study"))

    @property
    def answer(self) -> dict[str, Any]:
        """What answer.json says, {} before the run is finished."""
        path = self.path / "answer.json"
        try:
            return json.loads(path.read_text()) if path.is_file() else {}
        except ValueError as error:
            raise GsnnError(f"{path} is damaged ({error}); remove it and run the study again: it goes on") from error

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @cached_property
    def model(self) -> Any:
        from .model import Model

        return Model.load(self.path / "fits/main/model", trust=self.trust)

    @property
    def runtime(self) -> Any:
        from .training.runtime import Runtime

        kept = Runtime(**self.model.notes.get("runtime", {}))
        return kept if kept.available() else Runtime("cpu", threads=kept.threads)  # trained on another machine

    @cached_property
    def ground(self) -> Ground:
        """The survey and the split that the run used."""
        from .data.survey import Survey

        kept = self.path / "survey"
        where = kept if kept.exists() else self.resolved.get("data") or self.study.data.source
        return ground(self.study, Survey.open(where if isinstance(where, (str, Path)) else kept))

    @property
    def predictions(self) -> Any:
        """predictions.parquet as an Arrow table."""
        from .steps.evaluate import read_table

        path = self.path / "predictions.parquet"
        if not path.is_file():
            raise GsnnError(f"{self.path} has no predictions yet; finish it by `gsnn run`")
        return read_table(path)

    def predict(self, data: Any, out: str | Path | None = None, progress: Progress | None = None) -> Any:
        """Predictions for data that the network has never seen, as an Arrow table (see :mod:`gsnn.use`)."""
        from .use import predict

        return predict(self, data, out, progress or Progress())

    def evaluate(self, data: Any = None, progress: Progress | None = None) -> dict[str, Any]:
        """Judge the network on another survey, refusing objects that it was trained on."""
        from .use import evaluate

        with on_disk(f"judge the run {self.path}"):
            return evaluate(self, data, progress or Progress())

    def show(self, object_id: str, out: str | Path | None = None) -> dict[str, Any]:
        """One object: prediction, truth, context, and a picture with its explanation."""
        from .use import show

        with on_disk("draw the object", "choose another --out"):
            return show(self, object_id, out)

    def compare(self, other: Run) -> dict[str, Any]:
        """Paired differences between two runs on the objects that both predicted."""
        from .evaluation.compare import compare

        return compare(self.predictions, other.predictions)


def run(
    study: Study,
    *,
    data: Any = None,
    out: str | Path | None = None,
    seed: int = 0,
    seeds: int = 1,
    only_train: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Walk through the five steps. What an earlier, interrupted run finished is not done again.

    ``data`` is a survey, files, or a table in memory; ``out`` the run's folder (else ``runs/<study>-<digest>``);
    ``seeds`` trains that many networks and reports their spread beside the bootstrap interval of the first.
    """
    from .training.energy import Meter

    progress = default() if progress is None else progress
    if seeds < 1:
        raise GsnnError(f"--seeds {seeds} must be at least 1")
    folder, _ = place(study, data, out, seed, seeds)
    one_run = Run(folder, trust=study.trust)
    if one_run.answer.get("seeds_asked", 0) >= seeds:
        progress.say(f"this run is finished; delete {folder} to do it again")
        return one_run
    with on_disk(f"go on with the run {folder}", "when that is mended, type the same line again"), locked(folder):
        clock, meter = Clock(), Meter()
        progress.step(1, study.question)
        state = Walk(study, folder, seed, seeds, progress, clock, meter)
        state.data(data)
        state.train(only=only_train)
        if not only_train:
            state.judge()
            state.interpret()
        return one_run


def place(study: Study, data: Any, out: str | Path | None, seed: int, seeds: int) -> tuple[Path, dict[str, Any]]:
    """The run's folder, made or found again, with study.toml in it."""
    where = None
    if isinstance(data, (str, Path)):
        where = str(Path(data).resolve())
    elif isinstance(data, (list, tuple)) and all(isinstance(d, (str, Path)) for d in data):
        where = [str(Path(d).resolve()) for d in data]
    elif data is not None:
        where = str(Path(data.path).resolve()) if hasattr(data, "path") else f"a table in memory, {_fingerprint(data)}"
    identity = json.dumps([study.digest, where, seed])
    digest = hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()
    folder = Path(out) if out is not None else Path("runs") / f"{study.name}-{digest}"
    resolved = {"study": study.name, "digest": digest, "seed": seed, "versions": versions()}
    if where is not None:
        resolved["data"] = where
    path = folder / "study.toml"
    if path.is_file():
        old = Run(folder).resolved
        if old.get("digest") != digest:
            raise GsnnError(
                f"{folder} holds another run ({_changed(path, study, old, resolved)}); choose another --out, "
                "or remove that folder"
            )
        return folder, old
    if folder.exists() and any(folder.iterdir()):
        raise GsnnError(f"{folder} is not empty and holds no run; choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / ".study.toml.partial"
        partial.write_text(tomli_w.dumps({**study.to_dict(defaults=True), "resolved": resolved}))
        partial.rename(path)
    except OSError as error:
        raise GsnnError(f"cannot write the run {folder}: {error.strerror}; choose another --out") from error
    return folder, resolved


def _fingerprint(data: Any) -> str:
    """16 hexadecimal digits of the rows of a table in memory."""
    from .data.readers import read
    from .data.values import checksums

    source, digest = read(data), hashlib.blake2b(digest_size=8)
    for start in range(0, len(source), 1 << 14):
        rows = source.rows(np.arange(start, min(start + (1 << 14), len(source))), 0)
        digest.update(checksums(rows, list(source.schema())))
    return digest.hexdigest()


def _changed(path: Path, study: Study, old: dict[str, Any], new: dict[str, Any]) -> str:
    """Which keys differ between a stored study and this one."""

    def flat(table: Any, at: str = "") -> dict[str, Any]:
        if not isinstance(table, dict):
            return {at: table}
        return {k: v for key, value in table.items() for k, v in flat(value, f"{at}.{key}".lstrip(".")).items()}

    before = tomllib.loads(path.read_text())
    before.pop("resolved", None)
    a = {**flat(before), "--seed": old.get("seed"), "--data": old.get("data")}
    b = {**flat(study.to_dict(defaults=True)), "--seed": new["seed"], "--data": new.get("data")}
    keys = [key for key in {**a, **b} if a.get(key) != b.get(key)]
    return f"it differs in {', '.join(keys[:4])}" if keys else "it was made by another version"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time works in a run folder; the lock goes with the process."""
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise GsnnError(f"another process is working in {folder}; wait for it, or choose another --out") from None
        yield


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in VERSIONS:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class Walk:
    """The steps of one run in order; each leaves its files, and finds them again on resume."""

    def __init__(self, study: Study, folder: Path, seed: int, seeds: int, progress: Progress, clock: Clock, meter: Any):
        self.study, self.folder, self.seed, self.seeds = study, folder, seed, seeds
        self.progress, self.clock, self.meter = progress, clock, meter
        self.refreshed = time.monotonic()

    def data(self, data: Any) -> None:
        from .data.audit import audit
        from .report.page import write

        survey = survey_for(self.study, self.folder / "survey", data, self.seed, self.progress)
        self.progress.done()
        self.one = ground(self.study, survey)
        parts = ", ".join(f"{len(v):,} {name}" for name, v in self._views().items())
        self.progress.step(2, f"{len(survey):,} {self.study.unit} ({parts}), split by {self.one.split.by}")
        pictures = list(preview(self.one))
        if pictures:
            self.progress.pictures(np.stack([p for p, _ in pictures]), [c for _, c in pictures])
        path = self.folder / "audit.json"
        if path.is_file():
            self.audit = json.loads(path.read_text())
        else:
            inputs, targets = list(self.one.inputs), list(self.one.targets)
            self.audit = audit(self.one.survey, self.one.split, inputs, targets, by=list(self.one.covariates))
            write_json(path, self.audit)
        for finding in self.audit["findings"]:
            if finding["level"] != "ok":
                self.progress.say(f"{finding['level']}: {finding['sentence']}")
        write(self.folder)
        self.clock.lap("data")

    def _views(self) -> dict[str, Any]:
        return {"training": self.one.train, "validation": self.one.valid, "test": self.one.test}

    def train(self, only: bool) -> None:
        from .report.page import write
        from .steps.train import expected, train_model
        from .training.energy import peak_memory_gb

        fits = self.folder / "fits"
        self.progress.step(3, self._architecture())
        networks = 1 if only else self.seeds
        self.progress.step(4, f"{self.study.train.epochs} epochs of {len(self.one.train):,} objects")
        if not (fits / "main" / "model" / "model.toml").exists():
            seconds, scratch = expected(self.study, self.one, self.seed)
            more = f", times {networks} seeds" if networks > 1 else ""
            self.progress.say(
                f"expected: about {duration(seconds)}{more}; {scratch:.2g} GB of scratch, "
                f"{peak_memory_gb() + 0.3:.1f} GB of memory"
            )
        fit = {"progress": self.progress, "refresh": self._refresh}
        self.main = train_model(self.study, self.one, fits / "main", seed=self.seed, **fit)
        self.clock.lap("train")
        write(self.folder)
        if only:
            return
        runtime = self.main.runtime
        self.control = self.others = None
        if self.study.evaluate.control:
            self.control = train_model(
                self.study, self.one, fits / "control", seed=self.seed, runtime=runtime, control=True, **fit
            )
        self.others = [
            train_model(self.study, self.one, fits / f"seed-{k}", seed=self.seed + k, runtime=runtime, **fit)
            for k in range(1, self.seeds)
        ]
        self.clock.lap("controls and seeds")

    def _refresh(self) -> None:
        """The page anew, at most once a minute: it takes a second or two."""
        from .report.page import write

        if time.monotonic() - self.refreshed > REFRESH_SECONDS:
            write(self.folder)
            self.refreshed = time.monotonic()

    def _architecture(self) -> str:
        from .model import Model
        from .steps.evaluate import check_metrics

        model = Model(self.one.inputs, self.one.targets, self.study.spec, seed=self.seed, trust=self.study.trust)
        self.parameters = model.parameter_count
        check_metrics(self.study, self.one, model)
        sees = " + ".join(dict.fromkeys(c.kind for c in self.one.inputs.columns))
        return f"{self.study.model['name']} of {self.parameters:,} parameters: {sees} -> {', '.join(self.one.targets)}"

    def judge(self) -> None:
        from .predict import predict_view
        from .steps import evaluate as steps

        one, test = self.one, self.one.test
        found = steps.predictions_file(self.folder / "predictions.parquet", one, test, self.main, self.progress)
        baselines, seconds, described = steps.fit_baselines(
            self.study, one, test, self.folder / "baselines", self.seed, self.progress
        )
        verdicts = steps.judged(self.study, one, test, found, baselines, self.seed)
        truth = steps.truth_of(test, one.target)
        controls: dict[str, Any] = {"leakage": self.audit.get("leakage", {})}
        if self.control is not None:
            (prediction, *_) = predict_view(self.control.model, test, self.control.runtime)[0].values()
            controls["permuted"] = steps.control_verdict(one, prediction, truth, self.seed)
        by_seed = [{"seed": self.seed, "metrics": verdicts[one.target]["metrics"]}]
        for k, other in enumerate(self.others or (), 1):
            predicted = predict_view(other.model, test, other.runtime)[0]
            verdict = steps.judged(self.study, one, test, predicted, {}, self.seed, resamples=100)[one.target]
            by_seed.append({"seed": self.seed + k, "metrics": verdict["metrics"]})
        self.found, self.truth = found, truth
        self.judged = {
            **verdicts[one.target], "controls": controls, "seeds": by_seed, "seed_spread": steps.spread(by_seed),
            "baseline_seconds": seconds, "baseline_settings": described,
        }  # fmt: skip
        if len(verdicts) > 1:
            self.judged["targets"] = {name: verdict["metrics"] for name, verdict in verdicts.items()}
        self.clock.lap("evaluate")

    def interpret(self) -> None:
        from .evaluation.headline import headline
        from .report.card import write as write_card
        from .report.page import write
        from .steps.explain import chosen, examples_file, explain
        from .training.energy import co2e_kg, peak_memory_gb

        one, test = self.one, self.one.test
        self.progress.step(
            5, ", ".join(str(m if isinstance(m, str) else m["name"]) for m in self.study.explain.methods)
        )
        prediction = self.found[one.target]
        examples_file(self.folder / "examples.npz", one, test, prediction, self.truth, self.seed)
        groups = chosen(prediction, self.truth, self.seed, max(self.study.explain.objects // 3, 1))
        some = test.take(np.concatenate(list(groups.values())))
        explanations = explain(self.study, one, self.main, some, self.folder / "explain", self.seed, self.progress)
        self.clock.lap("explain")
        history = self.main.history
        kwh = self.meter.kwh
        kg, grid = co2e_kg(kwh)
        column = one.targets[one.target]
        answer = {
            "study": self.study.name,
            "question": self.study.question,
            "answer": headline(self.judged, objects=self.study.unit),
            **self.judged,
            "explanations": explanations,
            "objects": {name: len(view) for name, view in zip(("train", "valid", "test"), self._views().values())},
            "target": {"name": column.name, "kind": column.kind, "classes": list(column.classes), "unit": column.unit},
            "seconds": self.clock.seconds,
            "training_seconds": history["seconds"],
            "energy_kwh": kwh,
            "energy_source": self.meter.source,
            "co2e_g": 1000 * kg,
            "grid_source": grid,
            "memory_gb": peak_memory_gb(),
            "parameters": self.parameters,
            "survey": {"digest": one.survey.digest, "objects": len(one.survey)},
            "runtime": self.main.runtime.to_dict(),
            "seed": self.seed,
            "seeds_asked": self.seeds,
            "versions": versions(),
        }
        write_json(self.folder / "answer.json", answer)
        write_card(self.folder)
        write(self.folder)
        self.progress.say(f"done in {duration(sum(self.clock.seconds.values()))}")
