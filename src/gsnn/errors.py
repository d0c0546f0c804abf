"""The one exception that a user is meant to read: a sentence that says what, where and what to do."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
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


def suggest(word: str, known: Iterable[str], most: int = 12) -> str:
    """The end of an error sentence: the known word that was meant, else what is known (at most ``most`` words)."""
    known = sorted(known)
    found = nearest(word, known)
    if found is not None:
        return f"did you mean {found!r}?"
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return f"known: {', '.join(known[:most]) or 'none'}{more}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` must have meant; None rather than a far-fetched one (``id`` is not ``kind``).

    Meant are words that differ in case and signs alone, in few letters or in their order, that begin with ``word``, or
    whose parts have it as their initials (``lr`` is ``learning_rate``).
    """
    ranked = [(_likeness(word, one), one) for one in known]
    likeness, found = max(ranked, default=(0.0, ""))
    return found if likeness >= 0.8 else None


def _likeness(a: str, b: str) -> float:
    bare, other = (re.sub(r"[^a-z0-9]", "", word.lower()) or word for word in (a, b))
    if len(a) > 1 and a.lower() == "".join(part[:1] for part in b.lower().split("_")):
        return 0.9
    if len(bare) > 2 and sorted(bare) == sorted(other):
        return 0.95 + 0.05 * (bare == other)
    begins = 0.8 if len(bare) > 3 and other.startswith(bare) else 0.0
    return max(difflib.SequenceMatcher(None, bare, other).ratio(), begins)
