"""Where a key stands in a TOML text, so that a mistake can be pointed at. The text is one that ``tomllib`` accepts."""

from __future__ import annotations

import re
from collections.abc import Iterator

Path = tuple[str | int, ...]
Span = tuple[int, int]

_STRING = r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\''
_TOKEN = re.compile(
    rf"(?P<skip>[ \t\r]+|#[^\n]*)|(?P<string>{_STRING})|(?P<sign>\n|\[|\]|\{{|\}}|=|,|\.)|(?P<word>[^\s\[\]{{}}=,.#]+)",
    re.S,
)


def locate(text: str, path: Path) -> tuple[int, int, int] | None:
    """Line, column and width of the deepest key or array element of ``path`` in the text, all counted from 0."""
    places = dict(_Places(text))
    for depth in range(len(path), 0, -1):
        if span := places.get(tuple(path[:depth])):
            start, stop = span
            line, begin = text.count("\n", 0, start), text.rfind("\n", 0, start) + 1
            return line, start - begin, len(text[start:stop].split("\n")[0])
    return None


class _Places:
    """Walks the tokens of a TOML text; iterating gives (path, span) of each key and array element."""

    def __init__(self, text: str):
        self.text, self.places = text, {}
        self.tokens = [m for m in _TOKEN.finditer(text) if m.lastgroup != "skip"]
        self.at, self.counts = 0, {}
        table: Path = ()
        while self.at < len(self.tokens):
            if self._is("\n"):
                self.at += 1
            elif self._is("["):
                table = self._header()
            else:
                self._pair(table)

    def __iter__(self) -> Iterator[tuple[Path, Span]]:
        return iter(self.places.items())

    def _is(self, sign: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at].group("sign") == sign

    def _header(self) -> Path:
        """``[a.b]`` or ``[[a.b]]``: where the pairs below it belong."""
        adjacent = self.text[self.tokens[self.at].end() : self.tokens[self.at].end() + 1] == "["
        self.at += 2 if adjacent else 1
        table = self._key(())
        if adjacent:
            table = (*table, self.counts.setdefault(table, 0))
            self.counts[table[:-1]] += 1
        self.at += 2 if adjacent else 1
        return table

    def _key(self, table: Path) -> Path:
        """A dotted key; the last entry of an array of tables is the one that a name on the way means."""
        while True:
            token = self.tokens[self.at]
            name = token.group()
            if table in self.counts:
                table = (*table, self.counts[table] - 1)
            quoted = name[0] in "\"'"
            table = (*table, name[1:-1] if quoted else name)
            self.places.setdefault(table, (token.start() + quoted, token.end() - quoted))
            self.at += 1
            if not self._is("."):
                return table
            self.at += 1

    def _pair(self, table: Path) -> None:
        key = self._key(table)
        self.at += 1  # the sign =
        self._value(key)

    def _value(self, path: Path) -> Span:
        start = self.tokens[self.at].start()
        if self._is("["):
            self._inside(path, "]")
        elif self._is("{"):
            self._inside(path, "}")
        else:
            while self.at < len(self.tokens) and self.tokens[self.at].group("sign") in (None, "."):
                self.at += 1
        return start, self.tokens[self.at - 1].end()

    def _inside(self, path: Path, end: str) -> None:
        """The elements of an array, or the pairs of an inline table."""
        self.at += 1
        count = 0
        while not self._is(end):
            if self._is(",") or self._is("\n"):
                self.at += 1
            elif end == "}":
                self._pair(path)
            else:
                self.places[(*path, count)] = self._value((*path, count))
                count += 1
        self.at += 1
