"""What Lance raises, as one sentence."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from ..errors import GsnnError, suggest
from . import stores
from .schema import Schema


@contextlib.contextmanager
def reading(before: str, after: str = "") -> Iterator[None]:
    """Whatever Lance raises on damaged files, a panic of its Rust included (a BaseException), as one sentence."""
    try:
        yield
    except (GsnnError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise GsnnError(f"{before} ({sentence(error)}){after}") from error


@contextlib.contextmanager
def understanding(before: str, schema: Schema) -> Iterator[None]:
    """:func:`reading`, and a column that an SQL expression asks for in vain is named."""
    try:
        with reading(before):
            yield
    except GsnnError as error:
        absent = _ABSENT.search(str(error.__cause__))
        if not absent:
            raise
        name = absent[1].split(".")[-1]
        raise GsnnError(f"{before}: no column {name!r} in the data; {suggest(name, schema)}") from error


_ABSENT = re.compile(r"No field named [\"`]*([^\s\"`]+?)[\"`]*[.,]? ")


def sentence(error: BaseException) -> str:
    """Lance's own message without the address of the line of Rust that raised it."""
    if "Error performing " in str(error):
        return f"its store does not answer as it should: {stores.reason(str(error))}"
    text = str(error).split(", /home/")[0].split(", /rust")[0].split(", location:")[0]
    text = text if len(text) <= 300 else text[:300].rpartition(" ")[0] + " ..."
    for needless in (
        "Invalid user input: ", "Schema error: ", "Error during planning: ", "LanceError(IO): ", "External error: ",
        "LanceError(Arrow): ", "Error parsing function: ", "Error parsing statement: ",
    ):  # fmt: skip
        text = text.replace(needless, "")
    text = re.sub(r"\.? Did you mean '\w+'\?", "", text)  # of a function: any word will do for it
    return " ".join(text.split()).rstrip(".")
