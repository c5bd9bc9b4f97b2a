"""A change as part of the caller's own transaction. For backends on PostgreSQL, whose callers have connections."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import psycopg
import pytest

from perdure.core.plane import Tenant
from perdure.domain.handles import Run
from perdure.errors import IllegalTransition, KeyReused, Refused
from perdure.testing.contracts.ledger import MAIL, LedgerContract, begin, everything, story

Connection: TypeAlias = psycopg.AsyncConnection[Any]
Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[Connection]]

_CONTEXT = "SELECT coalesce(current_setting('app.current_tenant_id', true), '')"


class JoiningContract(LedgerContract):
    """``change(run, connection=...)``; needs a third fixture, ``connect``: a new connection as the app role."""

    async def test_nothing_is_seen_before_the_caller_commits_and_all_of_it_afterwards(
        self, acme: Tenant, connect: Connect
    ) -> None:
        run = await begin(acme)
        async with connect() as connection, connection.transaction():
            async with acme.change(run, connection=connection) as change:
                step = change.step("work", output={})
                change.effect(step, "SEND_EMAIL", MAIL)
            assert step.index == 0
            assert (await story(acme, run)).steps == ()
        told = await story(acme, run)
        assert ([row.id for row in told.steps], len(told.outbox)) == ([step.id], 1)
        assert [event.sequence_number for event in await everything(acme)] == list(range(1, 7))

    async def test_nothing_is_left_when_the_caller_rolls_back_and_the_change_may_be_sent_again(
        self, acme: Tenant, connect: Connect
    ) -> None:
        run = await begin(acme)
        before = await story(acme, run)
        async with connect() as connection, connection.transaction(force_rollback=True):  # noqa: SIM117 - the change ends before
            async with acme.change(run, connection=connection) as change:
                change.step("work", output={})
        assert await story(acme, run) == before
        await acme.commit(change)
        assert change.sequence == 5
        assert [row.step_key for row in (await story(acme, run)).steps] == ["work"]

    async def test_a_connection_that_opens_its_transaction_by_itself_is_not_committed(
        self, acme: Tenant, connect: Connect
    ) -> None:
        run = await begin(acme)
        async with connect() as connection:
            await connection.set_autocommit(False)
            async with acme.change(run, connection=connection) as change:
                change.step("work", output={})
            assert (await story(acme, run)).steps == ()
            await connection.rollback()
        assert (await story(acme, run)).steps == ()

    async def test_a_connection_without_a_transaction_is_refused(self, acme: Tenant, connect: Connect) -> None:
        run = await begin(acme)
        async with connect() as connection:
            with pytest.raises(Refused, match="no transaction is open"):
                async with acme.change(run, connection=connection) as change:
                    change.step("work", output={})
        assert await acme.events.last_number() == 3

    async def test_two_tenants_join_one_transaction(self, acme: Tenant, other: Tenant, connect: Connect) -> None:
        runs = [await begin(tenant) for tenant in (acme, other)]
        async with connect() as connection, connection.transaction():
            for tenant, run in zip((acme, other), runs, strict=True):
                await add(tenant, run, connection)
            await add(acme, runs[0], connection, key="second")
        for tenant, run, keys in zip((acme, other), runs, (["work", "second"], ["work"]), strict=True):
            assert [row.step_key for row in (await story(tenant, run)).steps] == keys
            numbers = [event.sequence_number for event in await everything(tenant)]
            assert numbers == list(range(1, 3 + 2 * len(keys) + 1))

    async def test_no_context_is_left_and_a_callers_own_is_given_back(
        self, acme: Tenant, other: Tenant, connect: Connect
    ) -> None:
        run = await begin(acme)
        mine = str(other.scope.tenant_id)
        async with connect() as connection, connection.transaction():
            await add(acme, run, connection)
            assert await value(connection, _CONTEXT) == ""
            assert await value(connection, "SELECT count(*) FROM perdure.runs") == 0
            await connection.execute("SELECT set_config('app.current_tenant_id', %s, true)", (mine,))
            await add(acme, run, connection, key="second")
            assert await value(connection, _CONTEXT) == mine

    async def test_a_context_cleared_before_the_caller_commits_changes_nothing(
        self, acme: Tenant, connect: Connect
    ) -> None:
        run = await begin(acme)
        async with connect() as connection:
            async with connection.transaction():
                await add(acme, run, connection)
                await connection.execute("SELECT set_config('app.current_tenant_id', '', true)")
            assert await value(connection, _CONTEXT) == ""
        assert [row.step_key for row in (await story(acme, run)).steps] == ["work"]

    async def test_a_refused_change_leaves_the_callers_transaction_usable(self, acme: Tenant, connect: Connect) -> None:
        run, finished = await begin(acme), await begin(acme, "msg-2")
        await acme.runs.complete(finished)
        before = await acme.events.last_number()
        async with connect() as connection, connection.transaction():
            await add(acme, run, connection)
            with pytest.raises(IllegalTransition):
                await add(acme, finished, connection)
            with pytest.raises(KeyReused):
                await add(acme, await acme.runs.get(run.id), connection, output={"other": True})
            await add(acme, run, connection, key="second")
        assert [row.step_key for row in (await story(acme, run)).steps] == ["work", "second"]
        assert [event.sequence_number for event in await everything(acme)] == list(range(1, before + 4 + 1))

    async def test_recording_a_step_again_in_one_transaction_gives_the_recorded_one(
        self, acme: Tenant, connect: Connect
    ) -> None:
        run = await begin(acme)
        async with connect() as connection, connection.transaction():
            await add(acme, run, connection)
            await add(acme, await acme.runs.get(run.id), connection)
        assert [row.step_key for row in (await story(acme, run)).steps] == ["work"]


async def add(
    tenant: Tenant, run: Run, connection: Connection, *, key: str = "work", output: dict[str, object] | None = None
) -> None:
    """Add a finished step within the caller's transaction."""
    async with tenant.change(run, connection=connection) as change:
        change.step("work", key=key, output=output or {})


async def value(connection: Connection, statement: str) -> object:
    """The only column of the only row."""
    row = await (await connection.execute(statement.encode())).fetchone()
    assert row is not None
    return row[0]
