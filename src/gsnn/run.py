"""A run: the folder in which a study becomes an answer, and everything that can be done with it afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import platform
import tomllib
from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from .data.stores import absolute, is_remote
from .errors import ConfigError, GsnnError, on_disk
from .origin import FILES, anchored, is_path
from .progress import Progress, default
from .steps.data import Ground, ground
from .study import Study

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
        named = self.resolved.get("data") or self.study.data.source
        if not kept.is_dir() and isinstance(named, str) and is_remote(named):
            return ground(self.study, Survey.open(named))
        places = [kept]
        if isinstance(named, str) and Path(named).is_absolute():
            places.append(Path(named))
        found = next((place for place in places if place.is_dir()), None)
        if found is None:
            looked = " and ".join(str(place.absolute()) for place in places)
            raise GsnnError(f"the data of the run {self.path} are gone: looked for {looked}; put them back there")
        return ground(self.study, Survey.open(found))

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
        """One object: inputs, prediction, truth, what it rests on, and a picture (see :mod:`gsnn.show`)."""
        from .show import show

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
    from .rounds import narrowed
    from .spent import Spent
    from .walk import Walk

    progress = default() if progress is None else progress
    if seeds < 1:
        raise GsnnError(f"--seeds {seeds} must be at least 1")
    folder, _ = place(study, data, out, seed, seeds)
    one_run = Run(folder, trust=study.trust)
    if one_run.answer.get("seeds_asked", 0) >= seeds:
        progress.say(f"this run is finished; delete {folder} to do it again")
        return one_run
    with on_disk(f"go on with the run {folder}", "when that is mended, type the same line again"), locked(folder):
        spent = Spent(folder)
        progress.step(1, study.question)
        try:
            last, rounds = narrowed(study, folder, data, seed, progress)
            state = Walk(last, folder, seed, seeds, progress, spent, rounds)
            state.data(data)
            state.train(only=only_train)
            if not only_train:
                state.judge()
                state.interpret()
        except ConfigError as error:
            raise study.pointed(error) from error
        finally:
            with contextlib.suppress(GsnnError):  # of a full disk something else has told already
                spent.keep()
        return one_run


def place(study: Study, data: Any, out: str | Path | None, seed: int, seeds: int) -> tuple[Path, dict[str, Any]]:
    """The run's folder, made or found again, with study.toml in it."""
    where = None
    if isinstance(data, (str, Path)):
        where = absolute(data)
    elif isinstance(data, (list, tuple)) and all(isinstance(d, (str, Path)) for d in data):
        where = [absolute(d) for d in data]
    elif data is not None:
        where = absolute(data.path) if hasattr(data, "path") else f"a table in memory, {_fingerprint(data)}"
    identity = json.dumps([study.digest, where, seed])
    digest = hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()
    folder = Path(out) if out is not None else Path("runs") / f"{study.name}-{digest}"
    resolved = {"study": study.name, "digest": digest, "seed": seed, "versions": versions()}
    if where is not None:
        resolved["data"] = where
    table = study.to_dict(defaults=True)
    table["data"]["source"], written = anchored(table["data"]["source"], Path.cwd())
    if written := {**study.written, **written}:
        resolved["source"] = written
    if contents := _contents(where if where is not None else table["data"]["source"]):
        resolved["contents"] = contents
    path = folder / "study.toml"
    if path.is_file():
        old = Run(folder).resolved
        changed = [name for name, sum in old.get("contents", {}).items() if contents.get(name, sum) != sum]
        if changed:
            raise GsnnError(
                f"{changed[0]} has been changed since the run in {folder} was made; choose another --out, or remove "
                "that folder to answer the question anew"
            )
        if old.get("digest") != digest or (where is None and _elsewhere(path, table["data"]["source"])):
            raise GsnnError(
                f"{folder} holds another run ({_changed(path, table, old, resolved)}); choose another --out, "
                "or remove that folder"
            )
        stored = tomllib.loads(path.read_text())
        if any(stored[a].get(b) != table[a].get(b) for a, b in (("data", "source"), ("train", "layout"))):
            _store(folder, {**table, "resolved": old})  # the data have moved with their study, or it goes on elsewhere
        return folder, old
    if folder.exists() and any(folder.iterdir()):
        raise GsnnError(f"{folder} is not empty and holds no run; choose another --out")
    _store(folder, {**table, "resolved": resolved})
    return folder, resolved


def _store(folder: Path, table: dict[str, Any]) -> None:
    """Write study.toml whole."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / ".study.toml.partial"
        partial.write_text(tomli_w.dumps(table))
        partial.rename(folder / "study.toml")
    except OSError as error:
        raise GsnnError(f"cannot write the run {folder}: {error.strerror}; choose another --out") from error


def _elsewhere(path: Path, source: Any) -> bool:
    """Whether a stored run is of files that stand elsewhere and still do, though they were written alike."""
    old = anchored(tomllib.loads(path.read_text())["data"]["source"], Path.cwd())[0]
    pairs = [(old.get(key), source.get(key)) for key in FILES] if isinstance(old, dict) else [(old, source)]
    return any(a != b and isinstance(a, str) and Path(a).exists() for a, b in pairs)


def _contents(source: Any) -> dict[str, str]:
    """Of every file or folder of the data, 16 hexadecimal digits that change where its content does.

    Of a large file the size and three places are looked at; of a folder the names and sizes of its files.
    """
    if isinstance(source, dict):
        source = [source.get(key) for key in FILES]
    paths = [Path(p) for p in (source if isinstance(source, (list, tuple)) else [source]) if is_path(p)]
    return {str(path): _sum(path) for path in paths if path.exists()}


def _sum(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
        return digest.hexdigest()
    size, some = path.stat().st_size, 1 << 20
    digest.update(str(size).encode())
    with open(path, "rb") as file:
        for start in (0, max(size // 2 - some // 2, 0), max(size - some, 0)):
            file.seek(start)
            digest.update(file.read(some))
    return digest.hexdigest()


def _fingerprint(data: Any) -> str:
    """16 hexadecimal digits of the rows of a table in memory."""
    from .data.readers import read
    from .data.values import checksums

    source, digest = read(data), hashlib.blake2b(digest_size=8)
    for start in range(0, len(source), 1 << 14):
        rows = source.rows(np.arange(start, min(start + (1 << 14), len(source))), 0)
        digest.update(checksums(rows, list(source.schema())))
    return digest.hexdigest()


def _changed(path: Path, table: dict[str, Any], old: dict[str, Any], new: dict[str, Any]) -> str:
    """Which keys differ between a stored study and this one."""

    def flat(table: Any, at: str = "") -> dict[str, Any]:
        if not isinstance(table, dict):
            return {at: table}
        return {k: v for key, value in table.items() for k, v in flat(value, f"{at}.{key}".lstrip(".")).items()}

    before = tomllib.loads(path.read_text())
    before.pop("resolved", None)
    a = {**flat(before), "--seed": old.get("seed"), "--data": old.get("data")}
    b = {**flat(table), "--seed": new["seed"], "--data": new.get("data")}
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
