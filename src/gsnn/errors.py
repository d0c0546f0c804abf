"""The one exception that a user is meant to read: a sentence that says what, where and what to do."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterable, Iterator


class GsnnError(Exception):
    """A mistake in the input, told in one sentence; the command line prints it without a stack trace."""


class ConfigError(GsnnError):
    """A mistake in a study, at ``path`` (for example ``("model", "widht")``) so that its line can be shown."""

    def __init__(self, message: str, path: tuple[str | int, ...] = ()):
        super().__init__(message)
        self.message, self.path = message, path

    def __str__(self) -> str:
        *section, key = [str(part) for part in self.path] or [""]
        place = (f"[{'.'.join(section)}] " if section else "") + (f"{key}: " if key else "")
        return place + self.message


@contextlib.contextmanager
def on_disk(task: str, advice: str = "free some space there, or choose another folder") -> Iterator[None]:
    """Whatever the file system refuses within is told as "cannot ``task``: the reason; ``advice``"."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error).split(". Detail")[0]
        where = f" ({error.filename})" if error.filename and str(error.filename) not in task else ""
        raise GsnnError(f"cannot {task}: {reason}{where}; {advice}") from error


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of an error sentence: the nearest known word, else all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(known) or 'none'}"
