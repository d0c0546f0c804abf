"""The page: whole for every kind of run, for a run with parts missing, and deaf to what its data contain."""
# ruff: noqa: E501

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from gsnn.errors import GsnnError
from gsnn.report import card, page

SECTIONS = ["examples", "training", "calibration", "failures", "explanations", "data", "cost", "methods", "repeat"]
KINDS = ("images", "photo-z", "table", "unfinished")


class Tags(HTMLParser):
    """Every tag with its attributes, and whether tags close in order."""

    VOID = {"meta", "img", "br", "link", "input", "line", "polygon", "polyline"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.broken = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.broken.append(tag)


@pytest.fixture(scope="module")
def pages(runs):
    return {kind: page.write(run).read_text() for kind, run in runs.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_whole(kind, pages):
    text = pages[kind]
    tags = Tags(text)
    assert not tags.broken
    assert not tags.open
    assert len(text.encode()) <= page.LARGEST
    assert [a["id"] for t, a in tags.tags if t == "section" and a["id"] in SECTIONS] == SECTIONS
    assert "could not be" not in text
    identities = [a["id"] for _, a in tags.tags if "id" in a]
    assert len(identities) == len(set(identities))


@pytest.mark.parametrize("kind", KINDS)
def test_loads_nothing(kind, pages):
    """Every address that a browser would fetch is inside the page."""
    for tag, attributes in Tags(pages[kind]).tags:
        assert tag not in ("link", "iframe", "object", "embed")
        for name in ("src", "href", "xlink:href"):
            if name in attributes and tag != "a":
                assert attributes[name].startswith(("data:image/", "#")), (tag, attributes[name][:80])
    assert "@import" not in pages[kind]
    assert not re.search(r"url\((?!#)", pages[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_have_words(kind, pages):
    tags = Tags(pages[kind]).tags
    assert all(a.get("alt") for t, a in tags if t == "img")
    drawings = [a for t, a in tags if t == "svg" and "spark" not in a.get("class", "")]
    assert drawings
    assert all(a["role"] == "img" and a["aria-label"] for a in drawings)


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_has_its_numbers(kind, pages):
    found = re.findall(r'<script type="application/json">(.*?)</script>', pages[kind], re.S)
    assert len(found) == pages[kind].count('data-save="csv"') > 0
    for text in found:
        columns = json.loads(text)
        assert columns
        assert len({len(column) for column in columns.values()}) == 1


def test_answer_and_commands(pages, runs):
    text = pages["images"]
    answer = json.loads((runs["images"] / "answer.json").read_text())
    assert answer["answer"] in text
    assert "gsnn show runs/images-1a2b3c4d --object &#39;SDSS J" in text
    assert [word in text for word in ("473 g CO₂e a kWh", "world average of 2024, Ember", "2.7 points")] == [True] * 3
    assert str(runs["images"].parent.parent) not in text  # no folder of this machine


def test_unfinished_says_how_far(pages):
    assert "at step 250 of 704, epoch 3 of 8" in pages["unfinished"]
    assert 'value="0.355"' in pages["unfinished"]


def test_empty_and_absent_runs(tmp_path):
    assert "Nothing has been done yet." in page.write(tmp_path).read_text()
    with pytest.raises(GsnnError, match="no run directory"):
        page.write(tmp_path / "none")


def test_broken_parts_are_named(runs, tmp_path):
    (tmp_path / "answer.json").write_text("{")
    (tmp_path / "predictions.parquet").write_bytes(b"PAR1 not really")
    np.savez(tmp_path / "examples.npz", ids=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    text = page.write(tmp_path).read_text()
    for name in ("answer.json", "predictions.parquet", "examples.npz"):
        assert f"{name} could not be read" in text


NASTY = [
    "<script>alert(1)</script>",
    "$x^2$ & \"quotes\" 'single'",
    "</svg><img src=x onerror=alert(1)>",
    "]]> --> *|`[a](b)",
]


def test_escapes(tmp_path):
    """Whatever a class, an id, a column or a study is called stays text, in HTML, SVG, JSON and Markdown."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    n, rng = 80, np.random.default_rng(0)
    truth = rng.integers(0, 4, n)
    p = rng.dirichlet(np.ones(4), n)
    table = {
        "id": [f"{NASTY[0]} {i}" for i in range(n)],
        "truth": [NASTY[t] for t in truth],
        "prediction": [NASTY[c] for c in p.argmax(1)],
    }
    table |= {f"{c}_p": p[:, i] for i, c in enumerate(NASTY)} | {
        NASTY[2]: rng.random(n),
        "ra": rng.random(n),
        "dec": rng.random(n),
    }
    pq.write_table(pa.table(table), tmp_path / "predictions.parquet")
    matrix = [[20 if i == j else 2 for i in range(4)] for j in range(4)]
    entry = {"value": 0.5, "low": 0.4, "high": 0.6, "unit": NASTY[0], "better": "high"}
    bins = [
        {"low": i, "high": i + 1, "n": 9, NASTY[0]: entry, "baselines": {NASTY[2]: {NASTY[0]: entry}}} for i in range(3)
    ]
    answer = {"study": NASTY[0], "question": NASTY[2], "answer": NASTY[0], "metrics": {NASTY[0]: entry}, "baselines": {NASTY[2]: {NASTY[0]: entry}},
              "confusion": {"classes": NASTY, "matrix": matrix}, "curves": {NASTY[2]: {"unit": NASTY[3], "bins": bins}}, "seconds": {NASTY[0]: 3.0},
              "target": {"name": NASTY[0], "kind": "label", "classes": NASTY}, "versions": {NASTY[0]: NASTY[2]}, "explanations": {NASTY[0]: {"passed": True}}}  # fmt: skip
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    audit = {"findings": [{"check": NASTY[0], "level": NASTY[2], "sentence": NASTY[2]}], "classes": {c: {"train": 3} for c in NASTY},
             "columns": [{"name": NASTY[0], "kind": NASTY[2]}], "quarantined": 1, "quarantine_reasons": {NASTY[0]: 1}}  # fmt: skip
    (tmp_path / "audit.json").write_text(json.dumps(audit))
    (tmp_path / "study.toml").write_text(f"question = '''{NASTY[0]}'''\n")
    text = page.write(tmp_path).read_text()
    tags = Tags(text)
    assert not tags.broken
    assert "could not be drawn" not in text
    kinds = [a.get("type", "program") for t, a in tags.tags if t == "script"]
    assert kinds.count("program") == 1
    assert not any(name.startswith("on") for _, a in tags.tags for name in a)
    assert not any(a.get("src") == "x" for _, a in tags.tags)
    assert "alert(1)" in text  # it is there, as text
    assert "<script>alert" not in page.html_snippet(tmp_path)
    assert "<script>" not in card.write(tmp_path).read_text()


def test_same_run_same_page(runs, pages):
    assert page.write(runs["table"]).read_text() == pages["table"]


def test_page_shrinks_to_fit(runs, monkeypatch):
    whole = len(page.write(runs["images"]).read_bytes())
    monkeypatch.setattr(page, "LARGEST", whole - 1)
    monkeypatch.setattr("gsnn.report.galleries.data_uri", lambda image, side: "data:image/png;base64," + "A" * side)
    assert len(page.write(runs["images"]).read_bytes()) < whole


@pytest.mark.parametrize("kind", KINDS)
def test_snippet(kind, runs):
    text = page.html_snippet(runs[kind])
    tags = Tags(text)
    assert not tags.broken
    assert text.lstrip().startswith("<div")
    assert "<script" not in text
    assert text.count("<img") == (8 if kind == "images" else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_card(kind, runs):
    text = card.write(runs[kind]).read_text()
    assert text.startswith("---\nlicense: cc-by-sa-4.0\n")
    assert "GSNN's default" in text
    assert ("0.0021 kWh" in text) == (kind != "unfinished")
    (runs[kind] / "card.md").unlink()


def test_card_follows_the_study(runs, tmp_path):
    (tmp_path / "study.toml").write_text('question = "?"\n[release]\nlicence = "CC0-1.0"\n')
    text = card.write(tmp_path).read_text()
    assert "license: cc0-1.0" in text
    assert "GSNN's default" not in text


def places(value, path=()):
    """The path of every entry of a JSON value, of lists the first."""
    for key, item in (
        value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    ):
        yield (*path, key)
        yield from places(item, (*path, key))


@pytest.mark.parametrize("name", ["answer.json", "audit.json"])
def test_any_entry_may_be_missing(name, runs, tmp_path, monkeypatch):
    """Null or absent, no entry of the answer or the audit is needed for a page and a card."""
    monkeypatch.setattr(page, "drawings", lambda parts, judged: {})  # drawings that fail are caught one by one
    whole = json.loads((runs["table"] / name).read_text())
    every = list(places(whole))
    for path in every[:: max(1, len(every) // 60)]:
        for null in (True, False):
            value = json.loads(json.dumps(whole))
            parent = value
            for key in path[:-1]:
                parent = parent[key]
            if null:
                parent[path[-1]] = None
            else:
                parent.pop(path[-1])
            (tmp_path / name).write_text(json.dumps(value))
            page.write(tmp_path)
            card.write(tmp_path)


@pytest.mark.parametrize(
    ("resolved", "line"),
    [
        ({"seed": 0}, "gsnn run study.toml"),
        ({"seed": 3, "data": "/home/ann/my stars.csv"}, "gsnn run study.toml --data 'my stars.csv' --seed 3"),
        ({"seed": 3, "data": "a table in memory, 0123"}, "gsnn run study.toml --seed 3"),
    ],
)
def test_what_repeats_a_run_is_what_was_typed(resolved, line):
    first, second = page._repeat(resolved, "runs/a")
    assert first.partition("#")[0].strip() == line
    assert second.partition("#")[0].strip() == "gsnn show runs/a"


def test_speeds_are_told_where_the_training_told_them():
    early = {"event": "step", "samples_per_s": 5.0, "tokens_per_s": 80.0, "mfu": None, "peak_source": None}
    assert page._speeds([early])[0][:2] == ("tokens learned from", "80 a second")
    late = early | {"tokens_per_s": 96000.0, "mfu": 0.412, "flops_per_s": 4e14, "peak_source": "datasheet of h200"}
    tokens, share = page._speeds([early, late, {"event": "end"}])
    assert tokens[1] == "96,000 a second"
    assert share[1] == "41.2%"
    assert "h200" in share[2]
    assert page._speeds([]) == []
