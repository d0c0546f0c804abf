"""The code blocks of a Markdown page, and what becomes of each."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

RUN = ("python", "bash", "console", "toml")
REASONS = ("GPU", "download")  # the only reasons for which a block may be left out
_MARK = re.compile(r"<!-- not run: (?P<reason>.+?) -->")
_FILE = re.compile(r"# (?P<name>[\w/-]+\.(?:py|toml))$")


@dataclass(frozen=True)
class Block:
    """``line`` is the opening fence's, ``reason`` why it is not run, ``file`` where its first line puts it."""

    language: str
    code: str
    line: int
    reason: str = ""
    file: str = ""

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def blocks_of(page: Path) -> list[Block]:
    """Every block that can be run, in order. A block whose first line is ``# name.py`` or ``# name.toml`` is a file."""
    found, lines, i = [], page.read_text().splitlines(), 0
    reason = ""
    while i < len(lines):
        line = lines[i]
        if mark := _MARK.fullmatch(line.strip()):
            reason = mark["reason"]
        elif line.startswith("```"):
            language, start = line[3:].strip(), i
            i += 1
            while i < len(lines) and not lines[i].startswith("```"):
                i += 1
            if i == len(lines):
                raise ValueError(f"{page}:{start + 1}: this block is never closed")
            code = lines[start + 1 : i]
            if language in RUN:
                name = _FILE.fullmatch(code[0]) if code else None
                found.append(Block(language, "\n".join(code) + "\n", start + 1, reason, name["name"] if name else ""))
            reason = ""
        elif line.strip():
            reason = ""
        i += 1
    return found


def unmarked(page: Path) -> list[str]:
    """Blocks in a language that nothing checks: only ``text`` is for output."""
    fences = [line[3:].strip() for line in page.read_text().splitlines() if line.startswith("```")]
    return [language for language in fences[::2] if language not in (*RUN, "text")]


def commands(code: str, targets: set[str]) -> str:
    """The lines of a shell block that are run here: none that install or copy. ``make`` needs its target."""
    kept = []
    for line in code.splitlines():
        words = line.removeprefix("$ ").split("#")[0].split()
        if words[:1] == ["make"]:
            missing = [w for w in words[1:] if "=" not in w and w not in targets]
            if missing:
                raise ValueError(f"the Makefile has no target {missing[0]!r}")
        elif not re.match(r"(\$ )?(git clone|cd gsnn|(\S*/)?python3? -m (pip|venv)|pip|\. )", line):
            kept.append(line.removeprefix("$ "))
    return "\n".join(kept)


def make_targets(makefile: Path) -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", makefile.read_text(), re.M))


def links(page: Path) -> list[str]:
    """Relative links of a page, without their fragments."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link.split("#")[0] for link in found if not re.match(r"\w+:|#", link)]
