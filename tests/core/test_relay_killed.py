"""A relay killed at any step: another one takes over, nothing is lost, and repeats carry the same key."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from perdure.testing.clock import DatabaseClock
from tests.support.databases import Database
from tests.support.relaying import opened, relaying, request, statuses

ROOT = Path(__file__).parents[2]

# How often the receiver sees the effect: once, but for a relay that died between the delivery and its record.
STEPS = {"claimed": 1, "delivering": 1, "delivered": 2, "recorded": 1}


@pytest.mark.parametrize("step", STEPS)
async def test_a_relay_killed_at_a_step_is_taken_over(database: Database, tmp_path: Path, step: str) -> None:
    clock, file = DatabaseClock(database.dsn("owner")), tmp_path / "delivered"
    async with opened(database) as plane:
        _, (effect,) = await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL", complete=True)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.core.killed_relay", step, database.dsn("relay"), str(file), cwd=ROOT
    )
    assert await child.wait() == -signal.SIGKILL

    async def deliver(delivery: object) -> None:
        del delivery
        with file.open("a") as lines:
            lines.write(effect.idempotency_key + "\n")

    async with relaying(database, deliver) as relay:
        await relay.drain()
        assert relay.counters.delivered == 0, "its lease holds as long as it was taken for"
        await clock.advance(61)
    async with relaying(database, deliver) as relay:
        await relay.drain()  # reaps
        await clock.advance(5)
        await relay.drain()
    assert file.read_text().split() == [effect.idempotency_key] * STEPS[step]
    assert statuses(database) == [("SEND_EMAIL", "COMPLETED", "COMPLETED")]
    assert database.query("SELECT status, open_effects FROM perdure.runs") == [("COMPLETED", 0)]
