"""Text tables as astronomers write them: headers, separators, missing values, bad rows, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gsnn.data.readers import read
from gsnn.data.readers.raw import clean
from gsnn.data.source import QUARANTINE
from gsnn.errors import GsnnError

ROWS = [(18.25, 0.1, 1), (19.5, 0.25, 2), (20.75, 0.5, 3), (21.0, 0.75, 4)]


def lines(separator: str) -> str:
    return "\n".join(separator.join(map(str, row)) for row in ROWS) + "\n"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("mag,z,n\n" + lines(","), ["mag", "z", "n"]),
        ("#F:mag;F:z;D:n\n" + lines(","), ["mag", "z", "n"]),
        ("# made by me\n# mag z n\n" + lines(" "), ["mag", "z", "n"]),
        ("% mag      Gal Long     n\n" + lines("   "), ["mag", "Gal_Long", "n"]),
        (" mag , z , n of bands\n" + lines(","), ["mag", "z", "n_of_bands"]),
        ("mag;z;n\n" + lines(";"), ["mag", "z", "n"]),
        ("mag\tz\tn\n" + lines("\t"), ["mag", "z", "n"]),
        ("mag z n\n" + lines("  "), ["mag", "z", "n"]),
        ("# comment, one\n# COLUMN z: redshift\nmag,z,n\n" + lines(","), ["mag", "z", "n"]),
        (lines(";"), ["col1", "col2", "col3"]),
        (lines("   "), ["col1", "col2", "col3"]),
        ("# [mag] [value at z] [n]\n" + lines(" "), ["mag", "value_at_z", "n"]),
        ('"mag","z","n"\n' + lines(","), ["mag", "z", "n"]),
        ("\ufeffmag,z,n\r\n" + lines(",").replace("\n", "\r\n"), ["mag", "z", "n"]),
        ("mag,z,3rd (DM-SNR)\n" + lines(","), ["mag", "z", "_3rd_DM_SNR"]),
        ("mag,mag,quarantine\n" + lines(","), ["mag", "mag_2", "quarantine_"]),
    ],
)
def test_headers_and_separators(text: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(text)
    source = read(tmp_path / "t.txt")
    assert list(source.schema()) == ["id", *names]
    batch = source.rows(np.arange(4), 0)
    assert [tuple(row[name] for name in names) for row in batch.to_pylist()] == ROWS
    assert batch["id"].to_pylist() == ["t-0", "t-1", "t-2", "t-3"]


@pytest.mark.parametrize("separator", [";", "\t", "|", "  "])
@pytest.mark.parametrize("header", ["name{0}g{0}r{0}n", "# name{0}g{0}r{0}n"])
def test_a_decimal_comma_is_a_point(separator: str, header: str, tmp_path: Path) -> None:
    rows = [(f"a{i}", 19 + i / 8, -0.5 - i, i) for i in range(12)]
    body = "\n".join(separator.join(str(value).replace(".", ",") for value in row) for row in rows)
    (tmp_path / "t.csv").write_text(header.format(separator) + "\n" + body + "\n")
    source = read(tmp_path / "t.csv")
    assert [(c.name, c.kind) for c in source.schema().columns] == [
        ("id", "id"), ("g", "scalar"), ("r", "scalar"), ("n", "scalar"),
    ]  # fmt: skip
    assert [tuple(row.values()) for row in source.rows(np.arange(12), 0).to_pylist()] == rows
    assert "numbers have a decimal comma" in source.notes


def test_points_between_thousands_and_commas_between_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("name;flux\n" + "".join(f"a{i};1.{200 + i},5\n" for i in range(12)))
    assert read(tmp_path / "t.csv").rows(np.arange(2), 0)["flux"].to_pylist() == [1200.5, 1201.5]
    (tmp_path / "t.csv").write_text("name,pair\n" + "".join(f"a{i},{i};{i + 1}\n" for i in range(12)))
    source = read(tmp_path / "t.csv")
    assert source.rows(np.arange(2), 0)["pair"].to_pylist() == ["0;1", "1;2"]
    assert not any("comma" in note for note in source.notes)


@pytest.mark.parametrize(
    "comments",
    [
        "# COLUMN period: Orbital Period [days]\n# COLUMN g: Brightness, in g [mag]\n# COLUMN n: Count\n",
        "% period: Orbital Period [days]\n%g : Brightness, in g [mag]\n% n: Count\n% made: by me [2]\n",
        "# %ECSV 1.0\n# datatype:\n# - {name: period, unit: days, datatype: float64, description: Orbital Period}\n"
        "# - {name: g, unit: mag, description: 'Brightness, in g'}\n# - {name: n, description: Count}\n",
    ],
)
def test_units_and_descriptions_of_comments(comments: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(comments + "period,g,n\n" + "1.5,20.25,3\n2.5,21.5,4\n")
    found = [(c.name, c.unit, c.description) for c in read(tmp_path / "t.csv").schema().columns[1:]]
    assert found == [("period", "days", "Orbital Period"), ("g", "mag", "Brightness, in g"), ("n", "", "Count")]


def test_names_for_columns_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(lines(" "))
    assert list(read(tmp_path / "t", names=["u", "g", "z"]).schema()) == ["id", "u", "g", "z"]
    with pytest.raises(GsnnError, match="one name for each"):
        read(tmp_path / "t", names=["u", "g"])


def test_missing_values_and_types(tmp_path: Path) -> None:
    body = "".join(f"{i},{'' if i == 3 else i},{'nan' if i == 4 else i / 2},1.5D+0{i % 2},x y {i}\n" for i in range(12))
    (tmp_path / "t.csv").write_text("a,b,c,d,e\n" + body)
    source = read(tmp_path / "t.csv")
    kinds = [(column.name, column.kind, column.dtype) for column in source.schema().columns[1:]]
    assert kinds == [
        ("a", "scalar", "int64"),
        ("b", "scalar", "int64"),
        ("c", "scalar", "float64"),
        ("d", "scalar", "float64"),
        ("e", "text", "str"),
    ]
    batch = source.rows(np.arange(12), 0)
    assert batch["b"][3].as_py() is None
    assert batch["c"][4].as_py() is None
    assert batch["d"].to_pylist() == [1.5, 15.0] * 6


def test_bad_rows_are_set_aside_with_the_reason(tmp_path: Path) -> None:
    body = [f"{i},{i / 2},A{i % 2}" for i in range(100)]
    body[10] = "10,5.0"
    body[20] = "20,oops,A0"
    body[30] = "29,14.5,A1"
    (tmp_path / "t.csv").write_text("id,x,c\n" + "\n".join(body) + "\n")
    source = read(tmp_path / "t.csv")
    batch = source.rows(np.arange(100), 0)
    reasons = {i: why for i, why in enumerate(batch[QUARANTINE].to_pylist()) if why}
    assert set(reasons) == {10, 20, 30}
    assert "2 fields" in reasons[10]
    assert "'oops' is no number" in reasons[20]
    assert "row 29" in reasons[30]
    assert batch["id"][40].as_py() == "40"  # rows behind a bad one keep their place
    assert len(set(batch["id"].to_pylist())) == 100
    assert QUARANTINE not in source.rows(np.arange(5), 0).schema.names


@pytest.mark.parametrize(
    ("header", "row", "short"),
    [
        ("a,b,c", "1,2.5,x", "1,2.5"),
        ("name,kind,group", "x,y,z", "x"),  # words alone
        ("a b c", "1 2 3", "1 2"),
    ],
)
def test_lines_of_other_lengths_are_set_aside_with_their_number(header, row, short, tmp_path: Path) -> None:
    """Two of five lines are short, comments and blank lines stand between."""
    body = [row, short, row, "", "# a remark", row, "  ", short] * 6
    (tmp_path / "t.txt").write_text("\n".join(["# made by me", header, *body]) + "\n")
    source = read(tmp_path / "t.txt")
    assert len(source) == 30
    reasons = source.rows(np.arange(30), 0)[QUARANTINE].to_pylist()
    wrong = [n for n, line in enumerate(["# made by me", header, *body], 1) if line == short]
    assert [int(reason.split()[1]) for reason in reasons if reason] == wrong
    assert all("the table has 3" in reason for reason in reasons if reason)


def test_where_no_length_of_line_prevails_the_difference_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,c\n" + "x,y\n" * 3 + "x,y,z\n" + "x\n" * 3)
    with pytest.raises(GsnnError, match=r"by commas, 'x' has 1 fields and 'a,b,c' has 3"):
        read(tmp_path / "t.csv")


def test_a_column_that_the_header_does_not_name_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("z\n0,5\n0,6\n0,7\n")
    assert any("names no column 2" in note for note in read(tmp_path / "t.csv").notes)


def test_an_id_must_tell_rows_apart(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("objid,x\n" + "".join(f"1.24E+18,{i}\n" for i in range(20)))
    source = read(tmp_path / "t.csv")
    assert source.rows(np.arange(2), 0)["id"].to_pylist() == ["t-0", "t-1"]
    assert any("'objid' repeats" in note for note in source.notes)


def test_positions_must_lie_on_the_sky(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("ra,dec\n" + "".join(f"{i * 10},{100 + i}\n" for i in range(20)))
    source = read(tmp_path / "t.csv")
    assert [column.kind for column in source.schema().columns] == ["id", "scalar", "scalar"]
    body = [f"{i * 10},{i}" for i in range(20)]
    body[3] = "30,-9999"
    (tmp_path / "t.csv").write_text("RA,Dec\n" + "\n".join(body))
    batch = read(tmp_path / "t.csv").rows(np.arange(20), 0)
    assert [i for i, why in enumerate(batch[QUARANTINE].to_pylist()) if why] == [3]


def test_cleaned_names_are_safe_and_unique() -> None:
    given = ["a b", "a-b", "", "row", "F:MAG_U", "9x", "é", "a b"]
    out = clean(given)
    assert out == ["a_b", "a_b_2", "col3", "row_", "MAG_U", "_9x", "col7", "a_b_3"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\x00\x01\x02\x03" * 100, "no format that GSNN knows"),
        (b"a,b,c\n", "no rows"),
        (b"# only comments\n#\n", "no data lines"),
        (b"Dear reader,\nthis is a letter. It has no table\nin it at all.\n", "without columns"),
        (b"\x80\x04\x95pickle", "never opens"),
        (b"SQLite format 3\0" + bytes(100), "SQLite"),
        (b'{"a": 1}', "JSON"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"PK\x03\x04 torn", "damaged or truncated"),
        (b"SIMPLE  =                    T", "FITS"),
        (b"\x89HDF\r\n\x1a\n torn", "HDF5"),
        (b"PAR1 torn PAR1", "Parquet"),
        (b"\x93NUMPY\x01\x00v\x00{'descr'", "NumPy"),
        (b"\x89PNG\r\n\x1a\n torn", "cannot be read as an image"),
        (b"\x1f\x8b torn", "gzip"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_sentence(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "file.dat"
    path.write_bytes(content)
    with pytest.raises(GsnnError, match=says) as told:
        read(path)
    assert "\n" not in str(told.value)
    assert str(path) in str(told.value)


def test_missing_files_and_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "catalogue.csv").write_text("flux,b\n1,2\n")
    with pytest.raises(GsnnError, match=r"did you mean 'catalogue.csv'"):
        read(tmp_path / "catalog.csv")
    with pytest.raises(GsnnError, match="no file matches"):
        read(str(tmp_path / "*.fits"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(GsnnError, match="holds no files"):
        read(tmp_path / "empty")
    (tmp_path / "empty" / "README.md").write_text("nothing")
    with pytest.raises(GsnnError, match="holds no data"):
        read(tmp_path / "empty")
    with pytest.raises(GsnnError, match="did you mean 'flux'"):
        read(tmp_path / "catalogue.csv", columns=["fluxx"])
    with pytest.raises(GsnnError, match="cannot be a 'lable'; did you mean 'label'"):
        read(tmp_path / "catalogue.csv", kinds={"flux": "lable"})


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}, None]), allow_pickle=True)
    with pytest.raises(GsnnError, match="never unpickles"):
        read(tmp_path / "a.npy")
    np.savez(tmp_path / "b.npz", x=np.arange(3), y=np.array([{}, {}, {}]))
    with pytest.raises(GsnnError, match="never unpickles"):
        read(tmp_path / "b.npz")


def test_an_unnamed_column_without_a_single_cell(tmp_path):
    """A quote that is left open swallows the line after it, so that no row has the width of the header."""
    path = tmp_path / "a.csv"
    path.write_text('n,x,\na,1,"b\nc,2,",\n')
    source = read(path)
    assert source.rows(np.arange(1), 0)[QUARANTINE].to_pylist() == ["line 2 has 4 fields, the table has 3"]
