"""Servers in fresh directories and other processes that join them; nothing of a test outlives it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from perdure.adapters import embedded
from perdure.adapters.embedded import EmbeddedConfig

JOINER = Path(__file__).with_name("joiner.py")
DEADLINE_S = 60.0

Other = asyncio.subprocess.Process
StartOther = Callable[..., Awaitable[Other]]


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that every user may pass through; pytest's own are for their owner alone."""
    path = Path(tempfile.mkdtemp(prefix="perdure-embedded-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def config(tmp_path: Path) -> AsyncIterator[EmbeddedConfig]:
    """A configuration of an empty data directory, whose server is gone after the test."""
    made = EmbeddedConfig(data_dir=tmp_path / ".perdure", roles=("owner", "app"))
    yield made
    await embedded.stop(made, force=True)


@pytest.fixture
async def start_other() -> AsyncIterator[StartOther]:
    """Start another process that joins; all that still run are killed after the test."""
    started: list[Other] = []

    async def start(config: EmbeddedConfig, *arguments: str) -> Other:
        other = await asyncio.create_subprocess_exec(
            sys.executable,
            str(JOINER),
            str(config.data_dir),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        started.append(other)
        return other

    yield start
    for other in started:
        if other.returncode is None:
            other.kill()
        await other.wait()


async def joined(other: Other) -> dict[str, int]:
    """Wait until the other process has joined; what it says of the server."""
    assert other.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        line = await other.stdout.readline()
    assert line, "the other process ended without joining"
    told: dict[str, int] = json.loads(line)
    return told


async def leaves(other: Other) -> None:
    """Tell the other process to leave and wait until it has ended well."""
    async with asyncio.timeout(DEADLINE_S):
        await other.communicate(b"leave\n")
    assert other.returncode == 0


async def killed(other: Other) -> None:
    """Kill the other process and wait until it is gone."""
    other.send_signal(signal.SIGKILL)
    async with asyncio.timeout(DEADLINE_S):
        await other.wait()


async def until(condition: Callable[[], bool]) -> None:
    """Wait, with a bound, until something outside this process is so."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  # it is so in another process, which has no event of ours
            await asyncio.sleep(0)


def lives(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has to step down")
