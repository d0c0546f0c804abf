"""Text tables: CSV, TSV, `;`- and blank-separated and fixed-width ones, with the headers that astronomers give them.

The first lines decide the separator; a header is the last comment line or the first line that names the columns. All
columns are read as text by Arrow and then turned into numbers where at least 98% of the values are numbers; the rows of
the others, and lines with the wrong number of fields, are set aside with the reason.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ...errors import GsnnError
from .detect import MAX_TEXT, unzipped
from .raw import TEXT, Field, Raw

COMMENT = ("#", "%")
SAMPLE = 200  # lines that decide the layout
MOST_COLUMNS = 20_000
BLANK = "\x1f"  # stands for runs of blanks once they are normalised
NUMBER = r"^[+-]?(\d+\.?\d*([eEdD][+-]?\d+)?|\.\d+([eEdD][+-]?\d+)?|(?i:inf|infinity))$"
MISSING = [
    "",
    "nan",
    "NaN",
    "NAN",
    "-nan",
    "na",
    "NA",
    "N/A",
    "n/a",
    "null",
    "NULL",
    "None",
    "none",
    "--",
    "-",
    "...",
    "\\N",
]


def read_text(path: str, stem: str, names: Sequence[str] | None = None) -> Raw:
    """A text table as fields; one sentence where there is no table in it."""
    text, notes = _decoded(path)
    comments, body = _split_comments(text)
    lines = _lines(body)
    if not lines:
        raise GsnnError(f"{path} holds no data lines" + (" (only comments)" if comments else ""))
    separator, width = _layout(lines, path)
    first = _cells(lines[0], separator)
    sample = [cells for cells in (_cells(line, separator) for line in lines[1:]) if len(cells) == width]
    header = first if _is_header(first, sample) else None
    if header is not None:
        body = body[body.index(lines[0]) + len(lines[0]) :]
        if not body.strip():
            raise GsnnError(f"{path} has a header and no rows")
    else:
        header = _commented_header(comments, separator, width)
    found = _titles(header, width, notes)
    if names is not None:
        if len(names) != width:
            raise GsnnError(f"{path} has {width} columns and `names` has {len(names)}; give one name for each")
        found = list(names)
    table, bad = _parsed(body, separator, width, path)
    fields = []
    for name, column in zip(found, table.columns):
        if not name and column.null_count + pc.sum(pc.equal(column, "")).as_py() == len(column):
            continue  # a separator at the end of each line makes no column
        fields.append(_typed(name, column.combine_chunks(), bad))
    if bad:
        notes.append(f"{len(bad)} of {table.num_rows} rows cannot be used; the first: {bad[min(bad)]}")
    return Raw(stem, table.num_rows, fields, "text", bad, notes, files=[path])


def _decoded(path: str) -> tuple[str, list[str]]:
    with open(path, "rb") as file:
        raw = file.read(MAX_TEXT)
    if len(raw) == MAX_TEXT:
        raise GsnnError(f"{path} holds more than {MAX_TEXT >> 30} GiB of text; convert it to Parquet or HDF5 first")
    if raw[:2] == b"\x1f\x8b":
        raw = unzipped(path)
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


def _layout(lines: list[str], path: str) -> tuple[str, int]:
    """The separator and the number of columns that most lines agree on."""
    best = (0.0, 0, "", 0)
    for order, separator in enumerate((",", ";", "\t", "|", BLANK)):
        counts = Counter(len(_cells(line, separator)) for line in lines)
        width, lines_with = counts.most_common(1)[0]
        share = lines_with / len(lines)
        if width < 2 or share < 0.5:
            continue
        numbers = _has_number([_cells(line, separator) for line in lines], width)
        first = _cells(lines[0], separator)
        if separator == BLANK and (share < 0.7 or not numbers):
            continue  # prose
        if not numbers and (share < 0.9 or max(map(len, first)) > 64):
            continue
        best = max(best, (round(share, 1), -order, separator, width))
    if best[2]:
        if best[3] > MOST_COLUMNS:
            raise GsnnError(f"{path} seems to have {best[3]} columns; a table has at most {MOST_COLUMNS}")
        return best[2], best[3]
    if sum(_is_number(line.strip()) for line in lines) >= max(1, 0.9 * (len(lines) - 1)):
        return BLANK, 1
    raise GsnnError(
        f"{path} is text without columns that GSNN can tell apart; separate them by commas, tabs, `;` or blanks"
    )


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


def _commented_header(comments: list[str], separator: str, width: int) -> list[str] | None:
    """Names in a comment line, the last one that has as many words as the table has columns."""
    for line in reversed(comments):
        text = line.strip().lstrip("#%").strip()
        for split in (separator, ";", ",", "\t", "|", r"\s{2,}", r"\]\s*\[", BLANK):
            if len(split) > 1:
                cells = re.split(split, text)
            else:
                cells = _cells(text.rstrip(split), split)
            cells = [cell.strip(" []") for cell in cells]
            if len(cells) == width and sum(_is_number(cell) for cell in cells) * 2 <= width and all(cells):
                return cells
    return None


def _titles(header: list[str] | None, width: int, notes: list[str]) -> list[str]:
    if header is None:
        notes.append(f"no header: the columns are called col1 to col{width}; `names` gives them others")
        return [f"col{i + 1}" for i in range(width)]
    if len(header) > width:
        notes.append(f"the header names {len(header)} columns and the rows have {width}: the last names were left out")
    titles = [*header, *[""] * (width - len(header))][:width]
    return [title or ("" if i >= len(header) or i == width - 1 else f"col{i + 1}") for i, title in enumerate(titles)]


def _parsed(body: str, separator: str, width: int, path: str) -> tuple[pa.Table, dict[int, str]]:
    """All cells as text [row, column]; a line with another number of fields is a row of missing values."""
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
        {row: f"the line has {count} fields, the table has {width}" for row, count in wrong},
    )


def _typed(name: str, column: pa.Array, bad: dict[int, str]) -> Field:
    """A column of words as whole numbers, as floats, or as words."""
    column = pc.utf8_trim_whitespace(column)
    column = pc.if_else(pc.is_in(column, pa.array(MISSING)), pa.scalar(None, pa.string()), column)
    known = len(column) - column.null_count
    if known == 0:
        return _field(name, pa.nulls(len(column), pa.float64()), "float64")
    values, dtype = _numbers(column), "float64"
    if values is None:
        is_number = pc.fill_null(pc.match_substring_regex(column, NUMBER), False)
        strange = pc.and_(pc.invert(is_number), pc.is_valid(column))
        count = pc.sum(strange).as_py()
        if count > max(known // 50, int(known >= 10)):
            return _field(name, column, TEXT)
        for i in np.flatnonzero(strange.to_numpy(zero_copy_only=False)):
            bad.setdefault(int(i), f"{name or 'a column'}: {column[int(i)].as_py()[:40]!r} is no number")
        values = _numbers(pc.if_else(strange, pa.scalar(None, pa.string()), column))
        if values is None:
            return _field(name, column, TEXT)
    if pa.types.is_string(values.type):
        dtype = TEXT
    elif pa.types.is_integer(values.type):
        dtype = "int64"
    return _field(name, values, dtype)


def _field(name: str, values: pa.Array, dtype: str) -> Field:
    return Field(name, dtype, lambda indices, _: values.take(pa.array(indices)))


def _numbers(column: pa.Array) -> pa.Array | None:
    """Words as numbers, if they all are; whole numbers beyond 64 bits stay words (they are names)."""
    for kind in (pa.int64(), pa.float64()):
        try:
            values = column.cast(kind)
        except pa.ArrowInvalid:
            continue
        if kind == pa.float64() and pc.all(pc.match_substring_regex(column, r"^\d+$")).as_py():
            return column
        return values
    fortran = pc.replace_substring_regex(column, r"^\+?(-?[\d.]+)[dD]([+-]?\d+)$", r"\1e\2")
    try:
        return pc.replace_substring_regex(fortran, r"^\+", "").cast(pa.float64())
    except pa.ArrowInvalid:
        return None
