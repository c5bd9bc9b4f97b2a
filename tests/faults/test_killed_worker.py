"""A worker killed after any of its commits: the next one takes its run over and repeats nothing."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

import perdure
from perdure.testing.clock import DatabaseClock
from perdure.testing.contracts.ledger import begin, story
from tests.faults.killed_worker import STEPS
from tests.support.databases import Database

ROOT = Path(__file__).parents[2]


async def work(database: Database, file: Path, commits: int) -> int | None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.killed_worker", database.dsn("app"), str(file), str(commits)), cwd=ROOT
    )
    return await process.wait()


@pytest.mark.parametrize("commits", range(1, len(STEPS) + 1))
async def test_a_worker_killed_after_a_commit_and_restarted_repeats_no_step(
    database: Database, tmp_path: Path, commits: int
) -> None:
    file = tmp_path / "worked"
    delivered: list[str] = []

    async def deliver(delivery: perdure.Delivery) -> None:
        delivered.append(delivery.idempotency_key)

    async with (
        perdure.open(database.dsn("app"), mode="lab", env="dev", relay_dsn=database.dsn("relay")) as plane,
        plane.relay({"*": deliver}) as relay,
    ):
        acme = plane.scope("t_acme", actor="agent:tester")
        run = await begin(acme)
        assert await work(database, file, commits) == -signal.SIGKILL
        assert file.read_text().split() == list(STEPS[:commits])
        await relay.drain()
        assert await acme.runs.claim() == []  # the dead worker's lease holds until it runs out
        await DatabaseClock(database.direct_dsn("superuser")).advance(61)
        assert await work(database, file, 0) == 0
        assert file.read_text().split() == list(STEPS)
        await relay.drain()
        told = await story(acme, run)
        assert [(step.name, step.step_index) for step in told.steps] == list(zip(STEPS, range(5), strict=True))
        assert [entry.payload["about"] for entry in told.outbox] == list(STEPS)
        assert [entry.idempotency_key for entry in told.outbox] == delivered
        assert delivered == [f"{run.id}/{name}/page" for name in STEPS]
        assert len(told.tool_calls) == len(STEPS)
        assert told.runs[0].status is perdure.RunStatus.COMPLETED


async def test_a_worker_killed_again_and_again_gets_there(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "worked"
    clock = DatabaseClock(database.direct_dsn("superuser"))
    async with perdure.open(database.dsn("app"), mode="lab", env="dev") as plane:
        acme = plane.scope("t_acme", actor="agent:tester")
        run = await begin(acme)
        for _ in STEPS:
            assert await work(database, file, 1) == -signal.SIGKILL
            await clock.advance(61)
        assert await work(database, file, 1) == 0
        assert file.read_text().split() == list(STEPS)
        assert len((await story(acme, run)).outbox) == len(STEPS)
