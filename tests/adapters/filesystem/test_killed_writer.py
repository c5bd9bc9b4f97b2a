"""A writer killed at any moment: everything it acknowledged is there, and nothing is there by half."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from tests.adapters.filesystem.documents import stored

ROOT = Path(__file__).parents[3]


async def write_until_killed(directory: Path, *, acknowledged: int) -> list[int]:
    """Let it acknowledge so many, kill it, and return what it told before it died."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.adapters.filesystem.killed_writer", str(directory), "0"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    told = [int(await process.stdout.readline()) for _ in range(acknowledged)]
    process.kill()
    rest, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL
    *whole, _ = rest.split(b"\n")
    return [*told, *map(int, whole)]


async def kill_and_look(directory: Path, *, acknowledged: int) -> None:
    told = await write_until_killed(directory, acknowledged=acknowledged)
    found = stored(directory)
    numbers = sorted(version for (_, sort), (version, _, _) in found.items() if sort != "head")
    assert set(told) <= set(numbers)
    assert numbers == list(range(len(numbers)))
    # Both halves of each commit: the head was written by one of the last.
    head, _, _ = found["p1", "head"]
    assert head in numbers[-3:]


@pytest.mark.parametrize("acknowledged", [1, 37, 150])
async def test_everything_acknowledged_is_there_after_the_writer_was_killed(tmp_path: Path, acknowledged: int) -> None:
    await kill_and_look(tmp_path / "documents", acknowledged=acknowledged)


@pytest.mark.soak
@pytest.mark.parametrize("acknowledged", range(2, 300, 7))
async def test_everything_acknowledged_is_there_whenever_the_writer_was_killed(
    tmp_path: Path, acknowledged: int
) -> None:
    await kill_and_look(tmp_path / "documents", acknowledged=acknowledged)
