"""The first screen of the README: short, and true as printed."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.pages import ROOT, blocks_of, commands_of, is_command, normal, run_block

README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN_LINES = 60


def test_the_program_runs_as_printed_and_keeps_nothing_twice_when_it_runs_again(tmp_path: Path):
    program, output = blocks_of(README)
    first = run_block(program, folder=tmp_path)

    assert normal(first) == normal(output.text)
    assert run_block(program, folder=tmp_path) == first


def test_the_program_is_about_a_dozen_lines():
    program = blocks_of(README)[0]

    assert len([line for line in program.text.splitlines() if line.strip()]) <= 16


def test_the_first_screen_has_the_installation_the_program_and_three_links():
    screen = "\n".join(README.splitlines()[:FIRST_SCREEN_LINES])

    assert "pip install perdure" in screen
    assert "```python" in screen
    assert len(re.findall(r"\]\(docs/[^)]+\)", screen)) >= 3


def test_every_command_it_names_is_documented():
    reference = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^## perdure ([a-z -]+)$", reference, re.MULTILINE))

    assert [name for name in commands_of(README) if not is_command(name, documented)] == []
