"""Text tables: CSV, TSV, `;`- and blank-separated and fixed-width ones, with the headers that astronomers give them.

The first lines decide the separator, and whether numbers have a decimal comma; a header is the last comment line or the
first line that names the columns, and comments may say units and descriptions (``comments.py``). All columns are read
as text by Arrow and then turned into numbers where at least 98% of the values are numbers; the rows of the others, and
lines with the wrong number of fields, are set aside with the reason and the number of the line.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ...errors import GsnnError
from .comments import described, facts
from .detect import MAX_TEXT, unzipped
from .raw import Raw
from .words import MISSING, NUMBER, typed

COMMENT = ("#", "%")
SAMPLE = 200  # lines that decide the layout
MOST_COLUMNS = 20_000
BLANK = "\x1f"  # stands for runs of blanks once they are normalised
COMMA = r"([+-]?(?:\d+|\d{1,3}(?:\.\d{3})+)),(\d+(?:[eE][+-]?\d+)?)"  # 19,25 and 1.234,5


def read_text(path: str, stem: str, names: Sequence[str] | None = None, content: bytes | None = None) -> Raw:
    """A text table as fields; one sentence where there is no table in it. ``content`` are its bytes, if at hand."""
    text, notes = _decoded(path, content)
    comments, body = _split_comments(text)
    lines = _lines(body)
    if not lines:
        raise GsnnError(f"{path} holds no data lines" + (" (only comments)" if comments else ""))
    separator, width, comma = _layout(lines, path)
    first = _cells(lines[0], separator)
    sample = [cells for cells in (_cells(line, separator) for line in lines[1:]) if len(cells) == width]
    if comma:
        first, sample = _pointed(first), [_pointed(cells) for cells in sample]
    header, units = first if _is_header(first, sample) else None, []
    if header is not None:
        body = body[body.index(lines[0]) + len(lines[0]) :]
        if not body.strip():
            raise GsnnError(f"{path} has a header and no rows")
    else:
        header, units = _commented_header(comments, separator, width)
    found = _titles(header, width, notes)
    if names is not None:
        if len(names) != width:
            raise GsnnError(f"{path} has {width} columns and `names` has {len(names)}; give one name for each")
        found = list(names)
    table, wrong = _parsed(body, separator, width, path)
    bad = _told(wrong, text, lines[0] if first is header else None, width)
    about = {name: {"unit": unit} for name, unit in zip(found, units)} | described(comments, found)
    fields = []
    for name, column in zip(found, table.columns):
        if not name and column.null_count + (pc.sum(pc.equal(column, "")).as_py() or 0) == len(column):
            continue  # a separator at the end of each line makes no column
        if not name:
            notes.append(f"the header names no column {len(fields) + 1}; it is called col{len(fields) + 1}")
        column = column.combine_chunks()
        fields.append(replace(typed(name, _points(column) if comma else column, bad), **about.get(name, {})))
    if comma:
        notes.append("numbers have a decimal comma")
    if bad:
        notes.append(f"{len(bad)} of {table.num_rows} rows cannot be used; the first: {bad[min(bad)]}")
    return Raw(stem, table.num_rows, fields, "text", bad, notes, files=[path], facts=facts(comments))


def _decoded(path: str, raw: bytes | None) -> tuple[str, list[str]]:
    if raw is None:
        with open(path, "rb") as file:
            raw = file.read(MAX_TEXT)
        if raw[:2] == b"\x1f\x8b":
            raw = unzipped(path)
    if len(raw) == MAX_TEXT:
        raise GsnnError(f"{path} holds more than {MAX_TEXT >> 30} GiB of text; convert it to Parquet or HDF5 first")
    notes = []
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = raw.decode("utf-16", "replace")
    else:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
            notes.append("the text is not UTF-8 and was read as Latin-1")
    if "\0" in text:
        text = text.replace("\0", "")
        notes.append("null characters were left out")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x1a", ""), notes


def _split_comments(text: str) -> tuple[list[str], str]:
    """Comment lines (wherever they stand) and the rest."""
    if not re.search(r"^[ \t]*[#%]", text, re.M):
        return [], text
    comments, rest = [], []
    for line in text.split("\n"):
        (comments if line.lstrip()[:1] in COMMENT and line.strip() else rest).append(line)
    return comments[:2000], "\n".join(rest)


def _lines(body: str) -> list[str]:
    """The first lines that are not blank."""
    out: list[str] = []
    for found in re.finditer(r"[^\n]+", body):
        if found.group().strip():
            out.append(found.group())
        if len(out) > SAMPLE:
            break
    return out


def _cells(line: str, separator: str) -> list[str]:
    if separator == BLANK:
        return line.split()
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    except (csv.Error, StopIteration):
        return [line]


def _layout(lines: list[str], path: str) -> tuple[str, int, bool]:
    """The separator, the number of columns that most lines agree on, and whether numbers have a decimal comma."""
    best = (0.0, 0, "", 0)
    for order, separator in enumerate((",", ";", "\t", "|", BLANK)):
        rows = [_cells(line, separator) for line in lines]
        width, lines_with = Counter(map(len, rows)).most_common(1)[0]
        share = lines_with / len(lines)
        if width < 2 or share < 0.5:
            continue
        if separator != "," and share >= 0.9 and len(rows[0]) == width and _has_commas(rows, width):
            return separator, width, True
        numbers, titled = _has_number(rows, width), _names_all(rows[0], width)
        if separator == BLANK and (share < (0.5 if titled else 0.7) or not numbers):
            continue  # prose
        if not numbers and ((share < 0.9 and not titled) or max(map(len, rows[0])) > 64):
            continue
        best = max(best, (round(share, 1), -order, separator, width))
    if best[2]:
        if best[3] > MOST_COLUMNS:
            raise GsnnError(f"{path} seems to have {best[3]} columns; a table has at most {MOST_COLUMNS}")
        return best[2], best[3], False
    if sum(_is_number(line.strip()) for line in lines) >= max(1, 0.9 * (len(lines) - 1)):
        return BLANK, 1, False
    if sum(map(_is_number, _pointed([line.strip() for line in lines]))) >= max(1, 0.9 * (len(lines) - 1)):
        return BLANK, 1, True
    raise GsnnError(f"{path} is text without columns that GSNN can tell apart{_uneven(lines)}")


def _uneven(lines: list[str]) -> str:
    """Where the lines of a text differ, if a separator stands in most of them; else which separators there are."""
    for separator, word in ((",", "commas"), (";", "`;`"), ("\t", "tabs"), ("|", "`|`")):
        counts = [len(_cells(line, separator)) for line in lines]
        if np.mean([count > 1 for count in counts]) > 0.5 and max(counts) > min(counts):
            low, high = counts.index(min(counts)), counts.index(max(counts))
            there = f"{lines[low][:30]!r} has {counts[low]} fields and {lines[high][:30]!r} has {counts[high]}"
            return f": by {word}, {there}; give every line the same number"
    return "; separate them by commas, tabs, `;` or blanks"


def _names_all(first: list[str], width: int) -> bool:
    """Whether the first line can only be a header of ``width`` columns: short words, each once."""
    return (
        len(first) == width == len(set(first))
        and all(re.fullmatch(r"[^\W\d][\w .()/\[\]-]{0,31}", word) for word in first)
        and max(word.count(" ") for word in first) < 3
    )


def _has_commas(rows: list[list[str]], width: int) -> bool:
    """Whether there are numbers with a decimal comma, and none with a point."""
    cells = [row for row in rows if len(row) == width]
    commas = [np.mean([bool(re.fullmatch(COMMA, row[i])) for row in cells]) for i in range(min(width, 2000))]
    points = any(re.fullmatch(r"[+-]?\d+\.\d+", cell) for row in cells for cell in row[:2000])
    return max(commas) >= 0.5 and not points


def _pointed(cells: list[str]) -> list[str]:
    """Numbers with a decimal comma, and perhaps with points between thousands, as other programs write them."""
    found = [re.fullmatch(COMMA, cell) for cell in cells]
    return [f"{one[1].replace('.', '')}.{one[2]}" if one else cell for one, cell in zip(found, cells)]


def _points(column: pa.Array) -> pa.Array:
    words = pc.utf8_trim_whitespace(column)
    number = pc.fill_null(pc.match_substring_regex(words, f"^{COMMA}$"), False)
    plain = pc.replace_substring(pc.replace_substring(words, ".", ""), ",", ".")
    return pc.if_else(number, plain, words)


def _has_number(rows: list[list[str]], width: int) -> bool:
    rows = [row for row in rows if len(row) == width]
    return any(np.mean([_is_number(row[i]) for row in rows]) >= 0.7 for i in range(min(width, 2000)))


def _is_number(word: str) -> bool:
    return re.match(NUMBER, word) is not None


def _is_header(first: list[str], sample: list[list[str]]) -> bool:
    """Whether the first line names the columns: words above numbers, or a table that holds no number at all."""
    words = [i for i, word in enumerate(first) if word and not _is_number(word) and word not in MISSING]
    if not sample:
        return len(first) > 1 and len(words) == len(first)  # one line of words alone is a header without rows
    numeric = [
        i
        for i in range(min(len(sample[0]), MOST_COLUMNS))
        if np.mean([_is_number(row[i]) or row[i] in MISSING for row in sample]) >= 0.9
        and any(_is_number(row[i]) for row in sample)
    ]
    if not numeric:
        return len(words) == sum(bool(word) for word in first) and len(set(first)) == len(first)
    return sum(i in words for i in numeric) * 2 > min(len(numeric), len(first)) or (
        bool(words) and len(words) == sum(bool(word) for word in first)
    )


def _commented_header(comments: list[str], separator: str, width: int) -> tuple[list[str] | None, list[str]]:
    """Names in a comment line, the last one that has as many words as the table has columns; and their units, if
    that line repeats its words and one above it names the columns."""
    found: list[list[str]] = []
    for line in reversed(comments):
        text = line.strip().lstrip("#%").strip()
        for split in (separator, ";", ",", "\t", "|", r"\s{2,}", r"\]\s*\[", BLANK):
            if len(split) > 1:
                cells = re.split(split, text)
            else:
                cells = _cells(text.rstrip(split), split)
            cells = [cell.strip(" []") for cell in cells]
            if len(cells) == width and sum(_is_number(cell) for cell in cells) * 2 <= width and all(cells):
                found.append(cells)
                break
        if found and len(set(found[-1])) == width:
            return found[-1], found[0] if len(found) == 2 else []
    return found[0] if found else None, []


def _titles(header: list[str] | None, width: int, notes: list[str]) -> list[str]:
    if header is None:
        notes.append(f"no header: the columns are called col1 to col{width}; `names` gives them others")
        return [f"col{i + 1}" for i in range(width)]
    if len(header) > width:
        notes.append(f"the header names {len(header)} columns and the rows have {width}: the last names were left out")
    titles = [*header, *[""] * (width - len(header))][:width]
    return [title or ("" if i >= len(header) or i == width - 1 else f"col{i + 1}") for i, title in enumerate(titles)]


def _parsed(body: str, separator: str, width: int, path: str) -> tuple[pa.Table, dict[int, int]]:
    """All cells as text [row, column]; a line with another number of fields is a row of missing values.

    Such rows are returned with the number of fields that they have.
    """
    body = re.sub(r"^[ \t\f\v]+$", "", body, flags=re.M)  # a line of blanks is no row
    if separator == BLANK:
        body = re.sub(r"[ \t\f\v]+", BLANK, re.sub(r"^[ \t\f\v]+|[ \t\f\v]+$", "", body, flags=re.M))
    names = [str(i) for i in range(width)]
    wrong: list[tuple[int, int]] = []

    def refuse(row: pyarrow.csv.InvalidRow) -> str:
        wrong.append((row.number - 1, row.actual_columns))
        return "skip"

    data = body.encode("utf-8", "replace")
    quoted = b'"' in data
    block = 1 << 20
    longest = max(map(len, data.split(b"\n")))
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, column_names=names, block_size=max(block, longest + 2)
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=separator,
                quote_char='"' if quoted else False,
                newlines_in_values=False,
                invalid_row_handler=refuse,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowException, ValueError) as error:
        raise GsnnError(f"{path} cannot be read as a text table: {str(error).splitlines()[0][:200]}") from error
    if not wrong:
        return table, {}
    total = table.num_rows + len(wrong)
    good = np.ones(total, bool)
    good[[min(max(row, 0), total - 1) for row, _ in wrong]] = False
    place = np.where(good, np.cumsum(good) - 1, 0)
    return (
        table.take(pa.array(place, mask=~good))
        if table.num_rows
        else pa.table({n: pa.nulls(total, pa.string()) for n in names}),
        dict(wrong),
    )


def _told(wrong: dict[int, int], text: str, header: str | None, width: int) -> dict[int, str]:
    """The reason to set a row aside, with the number of its line in the file."""
    if not wrong:
        return {}
    lines = [n for n, line in enumerate(text.split("\n"), 1) if line.strip() and line.lstrip()[:1] not in COMMENT]
    if header is not None:
        del lines[0]
    fields = {1: "1 field"}
    return {
        row: f"line {lines[row] if row < len(lines) else '?'} has {fields.get(count, f'{count} fields')}, "
        f"the table has {width}"
        for row, count in wrong.items()
    }
