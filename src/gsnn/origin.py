"""Where the values of a study were written: in which file and line, or on the command line, and relative to what."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import names
from .errors import ConfigError, GsnnError
from .locate import locate

FILES = ("path", "labels", "observations", "emulator")  # the keys of a source that name files
Written = dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """The file of a study, its text, and what ``--set`` changed."""

    path: Path
    text: str
    overrides: tuple[str, ...] = ()

    def pointed(self, error: ConfigError) -> ConfigError:
        """``file:line [section] key: message`` with the line and a caret under the key; or the ``--set`` at fault."""
        for override in self.overrides:
            key = key_of(override)
            if error.path[: len(key)] == key:
                return ConfigError(f"--set {override}: {error}")
        found = locate(self.text, error.path)
        if found is None:
            return ConfigError(f"{self.path.name}: {error}")
        line, column, width = found
        shown = f"  {self.text.splitlines()[line]}\n  {' ' * column}{'^' * width}"
        return ConfigError(f"{self.path.name}:{line + 1} {error}\n{shown}")


def key_of(override: str) -> tuple[str, ...]:
    """``("train", "epochs")`` of ``train.epochs=5``."""
    return tuple(override.partition("=")[0].strip().split("."))


@contextmanager
def placed(*path: str | int) -> Iterator[None]:
    """A mistake that is found within is one of the key at ``path``."""
    try:
        yield
    except ConfigError:
        raise
    except GsnnError as error:
        raise ConfigError(str(error), path) from error


def is_path(source: Any, folder: Path | None = None) -> bool:
    """Whether a source is a path, of a survey or of files, and not the name of a part."""
    if not isinstance(source, str) or not source or source in names("source"):
        return False
    return "/" in source or (":" not in source and ("." in source or _there(source) or _there(source, folder or ".")))


def anchored(source: Any, folder: Path) -> tuple[Any, Written]:
    """A source whose relative paths are absolute, counted from ``folder`` (from the current one if they are only
    there); and what was written instead, by key (``""`` for a source that is a path itself).
    """
    if is_path(source, folder):
        new = _absolute(source, folder)
        return new, {} if new == source else {"": source}
    if not isinstance(source, dict):
        return source, {}
    new = {key: _absolute(value, folder) if key in FILES else value for key, value in source.items()}
    return new, {key: value for key, value in source.items() if new[key] != value}


def rewritten(source: Any, written: Written) -> Any:
    """The source as it was written, whatever the folder."""
    if isinstance(source, dict):
        return {key: written.get(key, value) for key, value in source.items()}
    return written.get("", source)


def _absolute(value: Any, folder: Path) -> Any:
    if isinstance(value, (list, tuple)):
        return [_absolute(one, folder) for one in value]
    if not isinstance(value, str) or not value or os.path.isabs(value) or "://" in value:
        return value
    return os.path.abspath(value if _there(value) and not _there(value, folder) else folder / value)


def _there(path: str, folder: Path | str = "") -> bool:
    """Whether a path, or a pattern of paths, names something."""
    path = os.path.join(folder, path)
    return os.path.exists(path) or next(glob.iglob(path), None) is not None
