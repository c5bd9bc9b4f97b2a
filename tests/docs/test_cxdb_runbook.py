"""Every command of the runbook of CXDB, as printed, against our own server on the ports that it prints."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

import perdure
from tests.docs.pages import ROOT, Block, blocks_of, run_block

PAGE: Final = ROOT / "docs" / "runbooks" / "cxdb.md"
BACKEND: Final = ROOT / "docs" / "backends" / "cxdb.md"
HEALTH: Final = re.compile(r"^health +(healthy|degraded) \(just now", re.MULTILINE)  # degraded: it took its time
_PART: Final = re.compile(
    r"^## (?P<heading>[^\n]+)$|^```(?P<language>sh|bash|python)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Runbook:
    """The blocks of the page, by their heading, each to be run in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blocks: list[tuple[str, Block]] = []
        self.ran: set[int] = set()
        heading = ""
        for part in _PART.finditer(PAGE.read_text(encoding="utf-8")):
            heading = part["heading"] or heading
            if part["text"] is not None:
                block = Block(mark="run", name=None, language=part["language"], text=part["text"])
                self._blocks.append((heading, block))

    @property
    def missing(self) -> list[str]:
        """The blocks that no test ran."""
        return [block.text for number, (_, block) in enumerate(self._blocks) if number not in self.ran]

    def run(self, heading: str, *, at: int = 0) -> str:
        """What a block prints."""
        under = [number for number, (of, _) in enumerate(self._blocks) if of == heading]
        self.ran.add(under[at])
        return run_block(self._blocks[under[at]][1], folder=self._folder)


@pytest.fixture
def runbook(tmp_path: Path) -> Iterator[Runbook]:
    """The page in an empty folder; a server that it started ends with the test."""
    yield Runbook(tmp_path)
    pid = tmp_path / "serve.pid"
    if pid.exists():
        with suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGKILL)


async def test_every_command_of_the_runbook_runs_as_printed(runbook: Runbook, tmp_path: Path) -> None:
    # A process that has the plane open, as in real life; without one each command would start the database again.
    async with perdure.open(data_dir=tmp_path / ".perdure"):
        await asyncio.to_thread(run_all, runbook, tmp_path)
    assert runbook.missing == []


def run_all(runbook: Runbook, folder: Path) -> None:
    """The blocks in an order that makes sense, with what they promise."""
    runbook.run("Start it")
    assert "9009 (improved), HTTP on port 9010" in (folder / "where.txt").read_text()
    assert HEALTH.search(runbook.run("Lead a tenant's turns there"))
    up = runbook.run("Is it up?")
    assert up.startswith("ok")
    assert HEALTH.search(up)
    before = shown(runbook.run("Try it with a canary"))

    runbook.run("Back up")
    runbook.run("Start it")
    runbook.run("A context is gone")
    runbook.run("Start it")
    assert canary(folder) == before

    runbook.run("Remove what is old", at=0)
    runbook.run("Start it")
    assert "1 turns appended" in runbook.run("Remove what is old", at=1)
    assert canary(folder) == before


def canary(folder: Path) -> str:
    """What the first context says."""
    command = "perdure turns show 1 --tenant t_acme --limit 2\n"
    return shown(run_block(Block(mark="run", name=None, language="sh", text=command), folder=folder))


def shown(output: str) -> str:
    """The line of the canary."""
    (line,) = [line for line in output.splitlines() if "canary v1" in line]
    return line


def test_a_block_that_is_not_run_is_missed(runbook: Runbook) -> None:
    assert len(runbook.missing) == 8
    assert any("curl" in block for block in runbook.missing)


def test_every_block_of_the_page_of_the_backend_is_run_with_the_pages() -> None:
    page = BACKEND.read_text(encoding="utf-8")
    run = [block.text for block in blocks_of(page) if block.mark != "output"]
    assert [part["text"] for part in _PART.finditer(page) if part["text"] is not None] == run
