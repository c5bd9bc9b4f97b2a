"""The runnable parts of a page: programs, commands and the output it promises.

A fenced block is run when the line above it says so::

    <!-- run: keep.py -->   a Python program, kept under that name in the page's folder
    <!-- run -->            a Python program without a name, or a block of shell commands
    <!-- file: send.py -->  a file that is only kept, for what follows
    <!-- output -->         what the block before it prints, ids, times and durations aside

A page is run from top to bottom in one folder that was empty.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast

Mark: TypeAlias = Literal["run", "file", "output"]

ROOT = Path(__file__).parents[2]
RUN_TIMEOUT_S = 120

_BLOCK = re.compile(
    r"^<!-- (?P<mark>run|file|output)(?:: (?P<name>[\w.-]+))? -->\n+```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_COMMAND = re.compile(r"^perdure((?: [a-z][a-z-]*)*)", re.MULTILINE)
_NORMAL = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d| UTC)?"), "<time>"),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:\.\d+)?\b"), "<time>"),
    (re.compile(r"\b\d+(?:\.\d+)? ?(?:ms|s)\b"), "<duration>"),
    (re.compile(r"\b(pid|port) \d+\b"), r"\1 <number>"),
    (re.compile(r" +(?=\n)|\s+\Z"), ""),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One marked block of a page."""

    mark: Mark
    name: str | None
    language: str
    text: str


def blocks_of(page: str) -> list[Block]:
    """The marked blocks of a page, in order."""
    return [
        Block(
            mark=cast("Mark", found["mark"]),
            name=found["name"],
            language=found["language"],
            text=found["text"],
        )
        for found in _BLOCK.finditer(page)
    ]


def normal(text: str) -> str:
    """Output without what differs from run to run."""
    for pattern, instead in _NORMAL:
        text = pattern.sub(instead, text)
    return text


def run_block(block: Block, *, folder: Path) -> str:
    """Run one block in a folder and return what it printed; fails with all of it when the block fails."""
    name = block.name or "program.py"
    if block.name is not None or block.language == "python":
        (folder / name).write_text(block.text, encoding="utf-8")
    if block.mark == "file":
        return ""
    command = [sys.executable, name] if block.language == "python" else ["bash", "-euo", "pipefail", "-c", block.text]
    done = subprocess.run(
        command,
        cwd=folder,
        env=_environment(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_TIMEOUT_S,
    )
    assert done.returncode == 0, f"{block.text}\nexit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def commands_of(page: str) -> set[str]:
    """Every ``perdure ...`` that stands at the beginning of a line of a shell block, as far as it names commands."""
    shell = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return {found.strip() for block in shell for found in _COMMAND.findall(block)}


def is_command(words: str, documented: Collection[str]) -> bool:
    """Whether words after ``perdure`` begin with a documented command, as in ``perdure pg backup ledger.dump``."""
    parts = words.split()
    return not parts or any(" ".join(parts[:count]) in documented for count in range(1, len(parts) + 1))


def _environment(folder: Path) -> dict[str, str]:
    # `perdure` and `python` are those that run the tests, whatever is installed beside them.
    tools = folder / ".tools"
    tools.mkdir(exist_ok=True)
    for name, words in (("python", ""), ("perdure", "-m perdure.cli.main")):
        script = tools / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    return {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "COLUMNS": "120", "NO_COLOR": "1"}
