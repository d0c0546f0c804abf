"""Every block of code in the README and in docs is executed, page by page, in a temporary folder.

Runs are made small by ``small_runs``; the files that pages name are made by ``page_files``. A block with
``<!-- not run: reason -->`` before it is left out, for one of few reasons, and counted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from page_blocks import REASONS, Block, blocks_of, commands, links, make_targets, unmarked
from page_files import write_all
from run_page import forked
from run_page import page as page_of

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
WITH_CODE = [page for page in PAGES if blocks_of(page)]

pytestmark = pytest.mark.documents
every = pytest.mark.parametrize("page", PAGES, ids=NAMES)


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_all(folder)
    return folder


@pytest.fixture
def place(tmp_path, files) -> Path:
    """A folder with the files that pages name, and the command ``gsnn`` that runs small studies."""
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    command = tmp_path / ".bin" / "gsnn"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "small_runs.py"} "$@"\n')
    command.chmod(0o755)
    return tmp_path


def execute(name: str, blocks: list[Block], place: Path) -> tuple[int, str]:
    """The exit status of a page, and what it said."""
    return forked(page_of, name, [block.to_dict() for block in blocks], str(place), out=place / ".output")


@pytest.mark.parametrize("page", WITH_CODE, ids=[str(page.relative_to(ROOT)) for page in WITH_CODE])
def test_every_block_of_the_page_runs(page, place):
    targets = make_targets(ROOT / "Makefile")
    blocks = []
    for block in blocks_of(page):
        if block.reason:
            print(f"not run: {page.name}:{block.line} ({block.reason})")
            assert block.reason in REASONS, f"{page}:{block.line}: {block.reason!r} is no reason to leave a block out"
        elif block.language in ("bash", "console"):
            blocks.append(Block("bash", commands(block.code, targets), block.line))
        else:
            blocks.append(block)
    status, said = execute(str(page.relative_to(ROOT)), blocks, place)
    assert status == 0, said[-6000:]


@every
def test_links_lead_somewhere(page):
    missing = [link for link in links(page) if not (page.parent / link).exists()]
    assert not missing


@every
def test_no_block_escapes_by_its_language(page):
    assert not unmarked(page), "a block is python, bash, console or toml, and is run, or text"


def test_few_blocks_are_not_run(capsys):
    left_out = [(page.name, block) for page in PAGES for block in blocks_of(page) if block.reason]
    with capsys.disabled():
        print(f"\n{len(left_out)} blocks are not run:", *(f"{n}:{b.line} ({b.reason})" for n, b in left_out))
    assert len(left_out) <= 3


def test_a_page_that_is_wrong_fails(place):
    wrong = {
        "python": "assert 1 == 2\n",
        "bash": "gsnn run no-such-study\n",
        "toml": 'question = "?"\n[data]\nsource = "galaxies"\n',
    }
    for language, code in wrong.items():
        status, said = execute("wrong.md", [Block("python", "x = 1\n", 3), Block(language, code, 7)], place)
        assert status == 1, language
        assert "wrong.md:7" in said
    with pytest.raises(ValueError, match="no target 'dmeo'"):
        commands("make dmeo\n", {"demo"})


def test_blocks_are_found_with_their_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Text\n<!-- not run: GPU -->\n```bash\ngsnn doctor\n```\n\n```toml\n# a.toml\nx = 1\n```\n")
    first, second = blocks_of(page)
    assert (first.language, first.line, first.reason) == ("bash", 3, "GPU")
    assert (second.file, second.reason, second.code) == ("a.toml", "", "# a.toml\nx = 1\n")
