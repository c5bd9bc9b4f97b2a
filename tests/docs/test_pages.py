"""What the pages show is what happens: every marked block runs, and prints what the page says it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Block, blocks_of, normal, run_block

PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if blocks_of(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_a_page_runs_from_top_to_bottom_as_printed(page: Path, tmp_path: Path):
    printed: str | None = None
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if block.mark != "output":
            printed = run_block(block, folder=tmp_path)
        else:
            assert printed is not None, "an output stands below the block that prints it"
            assert normal(printed) == normal(block.text)


def test_there_are_pages_to_run():
    names = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES}

    assert {"tutorial/1-keep-a-run.md", "tutorial/2-add-effects.md"} <= names


def test_a_marked_block_is_found_and_an_unmarked_one_is_not():
    page = (
        "<!-- run: a.py -->\n```python\nprint(1)\n```\n\n```python\nprint(2)\n```\n\n<!-- output -->\n```text\n1\n```\n"
    )

    assert blocks_of(page) == [
        Block(mark="run", name="a.py", language="python", text="print(1)\n"),
        Block(mark="output", name=None, language="text", text="1\n"),
    ]


def test_what_differs_from_run_to_run_does_not_count():
    before = "01930000-0000-7000-8000-000000000000 at 2026-11-21T12:00:00.123+00:00 took 12.5 ms, pid 77  \n"
    after = "01940000-0000-7000-8000-000000000001 at 2027-01-01 00:00:00 UTC took 3 ms, pid 1234\n\n"

    assert normal(before) == normal(after)


def test_a_block_that_fails_says_so(tmp_path: Path):
    with pytest.raises(AssertionError, match="exit 3"):
        run_block(Block(mark="run", name=None, language="python", text="raise SystemExit(3)\n"), folder=tmp_path)
