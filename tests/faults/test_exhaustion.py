"""Limits of time and space: what does not fit is refused, in time, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

import perdure
from perdure.errors import LimitExceeded, Throttled, TimedOut
from perdure.testing.contracts.ledger import MAIL, begin, everything, story
from tests.support.databases import DIRECT, Database, engines

SMALL_BYTES = 8 * 1_048_576


@asynccontextmanager
async def opened(database: Database) -> AsyncIterator[perdure.Tenant]:
    async with perdure.open(database.dsn("app"), mode="lab", env="dev") as plane:
        yield plane.scope("t_acme", actor="agent:tester")


@pytest.mark.parametrize("limit", ["statement_timeout", "lock_timeout"])
@pytest.mark.parametrize("held", ["run", "counter"])
@engines(*DIRECT)
async def test_a_change_that_takes_too_long_is_known_not_to_be_done(database: Database, limit: str, held: str) -> None:
    table = {"run": "runs", "counter": "tenant_sequences"}[held]
    async with opened(database) as acme:
        run = await begin(acme)
        before = await story(acme, run)
    database.query(f"ALTER ROLE perdure_app IN DATABASE {database.name} SET {limit} = '200ms'")
    async with opened(database) as acme:
        change = await acme.change(run).__aenter__()
        change.effect(change.step("work", output={}), "SEND_EMAIL", MAIL)
        with psycopg.connect(database.direct_dsn("superuser")) as holder:
            holder.execute(f"SELECT FROM perdure.{table} FOR UPDATE".encode())
            with pytest.raises(TimedOut):
                await acme.commit(change)
            many = [add(acme, run, number) for number in range(5)]
            answers = await asyncio.gather(*many, return_exceptions=True)
            assert [type(answer) for answer in answers] == [TimedOut] * 5
            holder.rollback()
    database.query(f"ALTER ROLE perdure_app IN DATABASE {database.name} RESET {limit}")
    async with opened(database) as acme:
        assert await story(acme, run) == before
        await acme.commit(change)
        assert await acme.events.last_number() == 6


async def test_a_change_that_is_too_large_is_refused_before_it_is_sent(database: Database) -> None:
    async with opened(database) as acme:
        run = await begin(acme)
        with pytest.raises(LimitExceeded):  # noqa: PT012 - leaving the block is what is refused
            async with acme.change(run) as change:
                for _ in range(2):
                    change.checkpoint({"t": "x" * 9_000_000})
        assert await acme.events.last_number() == 3


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of a few megabytes."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system to fill; nothing was proved about a full disk")
    directory = Path(tempfile.mkdtemp(prefix="perdure-small-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES},mode=700", "tmpfs", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        directory.rmdir()
        pytest.skip(f"this machine mounts no file system ({mounted.stderr.strip()}); nothing was proved")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)
    shutil.rmtree(directory)


async def test_a_full_outbox_refuses_the_whole_change_until_there_is_room_again(
    database: Database, small_disk: Path
) -> None:
    space = small_disk.name.replace("-", "_")
    database.query(f"CREATE TABLESPACE {space} LOCATION '{small_disk}'")
    try:
        ballast = f"CREATE TABLE public.ballast TABLESPACE {space} AS SELECT repeat(md5(i::text), 30)"
        database.query(f"{ballast} FROM generate_series(1, 3000) AS i")
        database.query(f"ALTER TABLE perdure.outbox_events SET TABLESPACE {space}")
        await fill_and_make_room(database)
    finally:
        database.query("DROP TABLE IF EXISTS public.ballast")
        database.query("ALTER TABLE perdure.outbox_events SET TABLESPACE pg_default")
        database.query(f"DROP TABLESPACE {space}")


async def fill_and_make_room(database: Database) -> None:
    chance = random.Random(1)  # noqa: S311 - what does not compress, the same every time
    async with opened(database) as acme:
        run = await begin(acme)
        accepted = 0
        while (change := await request(acme, run, accepted, chance)) is None:
            accepted += 1
        assert accepted > 10
        told = await story(acme, run)
        assert [len(rows) for rows in (told.steps, told.effects, told.outbox)] == [accepted] * 3
        assert [event.sequence_number for event in await everything(acme)] == list(range(1, 3 + 3 * accepted + 1))
        await add(acme, run, 0)  # what needs no outbox still works
        database.query("DROP TABLE public.ballast")
        await acme.commit(change)
        assert len((await story(acme, run)).outbox) == accepted + 1


async def request(
    tenant: perdure.Tenant, run: perdure.Run, number: int, chance: random.Random
) -> perdure.Change | None:
    """Request an effect; the change, if there was no room for it."""
    change = await tenant.change(run).__aenter__()
    step = change.step("notify", key=f"notify-{number}", output={})
    change.effect(step, "PAGE_ONCALL", {"filler": base64.b64encode(chance.randbytes(70_000)).decode()})
    try:
        await tenant.commit(change)
    except Throttled as exc:
        return change if "out of something" in exc.message else None
    assert number < 1_000, "a file system of a few megabytes is never full"
    return None


async def add(tenant: perdure.Tenant, run: perdure.Run, number: int) -> None:
    async with tenant.change(run) as change:
        change.step("work", key=f"work-{number}", output={})
