"""A call that is cancelled, or whose time is over, ends as that and soon, wherever it is just then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from perdure.adapters.postgres.backend import PostgresBackend
from perdure.adapters.postgres.session import _cancellable
from perdure.domain.container import make_space, stream_container
from perdure.domain.log import NewEntry
from perdure.errors import BackendDown, TimedOut, Unavailable
from tests.adapters.postgres.lives import live_in, stores
from tests.support.databases import DIRECT, Database, engines

LOG = stream_container(make_space(tenant="t_acme", mode="lab", env="dev", project="default"), "s")
LOCK = "LOCK TABLE perdure.logs IN ACCESS EXCLUSIVE MODE"

Action = Callable[[PostgresBackend], Awaitable[object]]

ACTIONS: dict[str, Action] = {
    "read": lambda backend: backend.logs.head(LOG, timeout_s=60),
    "write": lambda backend: backend.logs.append(
        LOG, [NewEntry(entry_id="x", fingerprint="f", body=b"{}")], timeout_s=60
    ),
    "list": lambda backend: backend.logs.containers(LOG.kind, "t_acme", limit=10, timeout_s=60),
    "registry": lambda backend: backend.routes.load(timeout_s=60),
}


async def waiting(database: Database, task: asyncio.Task[object]) -> None:
    """Return when the server has a call that waits for a lock."""
    async with await psycopg.AsyncConnection.connect(database.direct_dsn("superuser"), autocommit=True) as connection:
        while not task.done():
            cursor = await connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename <> current_user "
                "AND datname = current_database()"
            )
            row = await cursor.fetchone()
            if row is not None and row[0]:
                return
            await asyncio.sleep(0)
        raise AssertionError(f"it did not wait: {task}")


@engines(*DIRECT)
@pytest.mark.parametrize("turns", [0, 1, 3])
@pytest.mark.parametrize("action", ACTIONS)
async def test_a_call_that_is_cancelled_while_the_database_works_ends_as_cancelled(
    database: Database, action: str, turns: int
) -> None:
    await live_in(database, "t_acme")
    lock = LOCK if action != "registry" else LOCK.replace("logs", "routes")
    async with (
        stores(database) as backend,
        await psycopg.AsyncConnection.connect(database.direct_dsn("superuser")) as blocker,
    ):
        await ACTIONS[action](backend)
        await blocker.execute(lock)
        task = asyncio.ensure_future(ACTIONS[action](backend))
        await waiting(database, task)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await task
        await blocker.rollback()
        await ACTIONS[action](backend)  # and the connection it had serves others


@engines(*DIRECT)
@pytest.mark.parametrize("action", ["read", "write"])
async def test_a_timeout_around_a_call_ends_as_that(database: Database, action: str) -> None:
    await live_in(database, "t_acme")
    async with (
        stores(database) as backend,
        await psycopg.AsyncConnection.connect(database.direct_dsn("superuser")) as blocker,
    ):
        await ACTIONS[action](backend)
        await blocker.execute(LOCK)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await ACTIONS[action](backend)
        await blocker.rollback()
        await ACTIONS[action](backend)


@engines(*DIRECT)
async def test_a_call_whose_own_time_is_over_says_so(database: Database) -> None:
    await live_in(database, "t_acme")
    async with (
        stores(database) as backend,
        await psycopg.AsyncConnection.connect(database.direct_dsn("superuser")) as blocker,
    ):
        await ACTIONS["read"](backend)
        await blocker.execute(LOCK)
        with pytest.raises(TimedOut):
            await backend.logs.head(LOG, timeout_s=0.05)
        entry = NewEntry(entry_id="x", fingerprint="f", body=b"{}")
        with pytest.raises(Unavailable):
            await backend.logs.append(LOG, [entry], timeout_s=0.05)
        await blocker.rollback()


@engines(*DIRECT)
async def test_a_cancellation_at_any_turn_of_a_snapshot_is_not_lost(database: Database) -> None:
    await live_in(database, "t_acme")
    async with stores(database) as backend:
        await ACTIONS["read"](backend)
        for turn in range(40):
            task = asyncio.ensure_future(ACTIONS["read"](backend))
            for _ in range(turn):
                await asyncio.sleep(0)
            is_too_late = task.done()
            task.cancel()
            async with asyncio.timeout(10):
                if is_too_late:
                    await task
                    continue
                with pytest.raises(asyncio.CancelledError):
                    await task
        await ACTIONS["read"](backend)


@engines(*DIRECT)
@pytest.mark.parametrize("action", ACTIONS)
async def test_a_cancellation_that_comes_together_with_the_answer_is_not_lost(database: Database, action: str) -> None:
    """The loop is kept busy until the answer is there, and the call is cancelled before it could look at it."""
    await live_in(database, "t_acme")
    async with stores(database) as backend:
        await ACTIONS[action](backend)
        with psycopg.connect(database.direct_dsn("superuser"), autocommit=True) as busy:
            for turns in range(60):
                task = asyncio.ensure_future(ACTIONS[action](backend))
                for _ in range(turns // 5 + 1):
                    await asyncio.sleep(0)
                busy.execute("SELECT pg_sleep(0.003)")
                for _ in range(turns % 5):
                    await asyncio.sleep(0)
                if task.cancel():
                    with pytest.raises(asyncio.CancelledError):
                        await task
        await ACTIONS[action](backend)


@pytest.mark.parametrize("answer", ["a result", "an error"])
async def test_a_cancellation_that_the_driver_keeps_to_itself_is_not_lost(answer: str) -> None:
    """Some of its waits return what arrived at the same moment, on some versions of Python."""

    async def call() -> None:
        with _cancellable():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if answer == "an error":
                    raise BackendDown("the connection is gone") from None

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
