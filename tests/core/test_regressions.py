"""What once was lost, doubled or refused wrongly, so that it stays found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

import perdure
from perdure.core.commit_queue import CommitQueue
from perdure.core.plane import Tenant
from perdure.domain.handles import Run
from perdure.domain.run import RunStatus, StepStatus
from perdure.domain.scope import Scope
from perdure.errors import IllegalTransition, Invalid, KeyReused, LimitExceeded
from perdure.testing.faults import FaultProxy
from tests.support.databases import Database
from tests.support.stories import ACTOR, plane_on

MAIL = {"to": ["cfo@acme.test"], "subject": "s", "body_html": "b"}


@pytest.fixture
async def acme(database: Database) -> AsyncIterator[Tenant]:
    async with plane_on(database) as plane:
        yield plane.scope("t_acme", actor=ACTOR)


async def begin(acme: Tenant) -> Run:
    return await acme.runs.start("triage", signal=("test", "1"), input={})


# --- keys ---------------------------------------------------------------------------------------------------------


async def test_the_same_tool_called_again_in_a_later_change_is_another_call(acme: Tenant, database: Database):
    run = await begin(acme)
    async with acme.change(run) as change:
        step = change.step("poll")
    for _ in range(2):
        async with acme.change(run) as change:
            change.tool_call(step, "status", args={"job": 1}, result="busy")
            change.effect(step, "SEND_EMAIL", MAIL)
    assert database.query("SELECT call_key, call_index FROM perdure.tool_calls ORDER BY call_index") == [
        ("status", 0),
        ("status#2", 1),
    ]
    assert database.query("SELECT count(*) FROM perdure.effects") == [(2,)]


async def test_a_fresh_handle_names_calls_and_effects_as_the_first_one_did(acme: Tenant, database: Database):
    started = await begin(acme)
    for run in (started, await acme.runs.get(started.id)):
        async with acme.change(run) as change:
            step = change.step("poll")
        for _ in range(2):
            async with acme.change(run) as change:
                change.tool_call(step, "status", result="busy")
                change.effect(step, "SEND_EMAIL", MAIL)
    assert database.query("SELECT count(*) FROM perdure.tool_calls") == [(2,)]
    assert database.query("SELECT count(*) FROM perdure.effects") == [(2,)]


async def test_two_tool_calls_of_one_change_never_share_a_key(acme: Tenant):
    run = await begin(acme)
    async with acme.change(run) as change:
        step = change.step("poll")
        change.tool_call(step, "ocr", key="page", result=1)
        with pytest.raises(KeyReused, match="name them apart"):
            change.tool_call(step, "ocr", key="page", result=2)


async def test_a_call_that_begins_and_ends_in_one_change_leaves_no_gap_in_the_indexes(acme: Tenant, database: Database):
    run = await begin(acme)
    async with acme.change(run) as change:
        step = change.step("work")
        change.finish_call(change.tool_call(step, "slow", pending=True), result=1)
        change.tool_call(step, "quick", result=2)
    async with acme.change(run) as change:
        change.tool_call(step, "late", result=3)
    calls = database.query("SELECT tool_name, call_index FROM perdure.tool_calls ORDER BY call_index")
    assert calls == [("slow", 0), ("quick", 1), ("late", 2)]


# --- changes that were not committed, or were ------------------------------------------------------------------------


async def test_what_an_abandoned_change_would_have_ended_can_still_be_ended(acme: Tenant):
    run = await begin(acme)
    async with acme.change(run) as change:
        step = change.step("work")
        call = change.tool_call(step, "ocr", pending=True)
    with pytest.raises(RuntimeError):  # noqa: PT012 - what the block leaves behind is the point
        async with acme.change(run) as change:
            change.finish_call(call, result=1)
            change.complete(step, output={"never": "kept"})
            raise RuntimeError
    assert (step.status, step.output) == (StepStatus.RUNNING, None)
    async with acme.change(run) as change:
        change.finish_call(call, error="it broke")
        change.fail(step, error="it broke")
    assert step.status is StepStatus.FAILED


async def test_a_change_that_was_sent_takes_nothing_more(acme: Tenant):
    run = await begin(acme)
    async with acme.change(run) as change:
        step = change.step("work")
    with pytest.raises(IllegalTransition, match="sent already"):
        change.step("lost")
    with pytest.raises(IllegalTransition, match="sent already"):
        change.complete(step)
    assert step.status is StepStatus.RUNNING


async def test_an_audit_entry_after_the_end_of_the_run_lets_nothing_else_in(acme: Tenant):
    run = await begin(acme)
    async with acme.change(run) as change:
        change.complete_run()
        change.audit("RUN_CLOSED", resource_type="r" * 50, resource_id=run.id, context={})
        with pytest.raises(IllegalTransition, match="ends the run"):
            change.step("late")
        for wrong, error in (("r" * 51, LimitExceeded), ("a\x00b", Invalid)):
            with pytest.raises(error):
                change.audit("RUN_CLOSED", resource_type=wrong, resource_id=run.id, context={})


async def test_a_step_of_a_transaction_that_was_rolled_back_is_not_done(acme: Tenant, database: Database):
    run = await begin(acme)
    async with await psycopg.AsyncConnection.connect(database.dsn()) as connection:
        async with acme.change(run, connection=connection) as change:
            change.step("work", key="work", output={})
            change.complete_run()
        await connection.rollback()
    assert (run.done("work"), run.status) == (None, RunStatus.RUNNING)
    async with acme.change(run) as change:
        change.step("work", key="work", output={})
    assert run.done("work") == {}


async def test_a_joined_change_stands_whatever_the_caller_set_constraints_to(acme: Tenant, database: Database):
    run = await begin(acme)
    async with await psycopg.AsyncConnection.connect(database.dsn()) as connection:
        await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        async with acme.change(run, connection=connection) as change:
            change.step("work", output={})
        await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    assert database.query("SELECT count(*) FROM perdure.steps") == [(1,)]


async def test_a_transaction_that_has_failed_takes_no_change(acme: Tenant, database: Database):
    run = await begin(acme)
    async with await psycopg.AsyncConnection.connect(database.dsn()) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await connection.execute("SELECT 1/0")
        with pytest.raises(Invalid, match="has failed"):
            async with acme.change(run, connection=connection) as change:
                change.step("work", output={})


@pytest.mark.parametrize("lost", ["reply", "request"])
async def test_a_rerun_whose_acknowledgement_was_lost_is_one_run(database: Database, lost: str):
    async with FaultProxy("127.0.0.1", database.port) as proxy:
        dsn = f"postgresql://perdure_app@127.0.0.1:{proxy.port}/{database.name}"
        async with perdure.open(dsn, mode="lab", env="dev") as plane:
            acme = plane.scope("t_acme", actor=ACTOR)
            run = await begin(acme)
            await acme.runs.complete(run)
            found = acme.runs.get

            async def get_and_lose(run_id: UUID) -> Run:
                read = await found(run_id)
                if run_id == run.id:
                    (proxy.lose_reply if lost == "reply" else proxy.lose_request)()
                return read

            acme.runs.get = get_and_lose  # type: ignore[method-assign] # the network fails between read and write
            again = await acme.runs.rerun(run, lease_s=60)
            await acme.runs.extend(again)
    assert database.query("SELECT count(*) FROM perdure.runs") == [(2,)]


# --- ends -----------------------------------------------------------------------------------------------------------


async def test_a_run_that_only_waits_for_its_effects_can_be_cancelled(acme: Tenant, database: Database):
    run = await begin(acme)
    async with acme.change(run) as change:
        change.effect(change.step("notify", output={}), "SEND_EMAIL", MAIL)
        change.complete_run()
    await acme.runs.cancel(run, "no longer wanted")
    assert (await acme.runs.get(run.id)).status is RunStatus.CANCELLED
    assert database.query("SELECT status, error_details ->> 'code' FROM perdure.outbox_events") == [
        ("DEAD_LETTER", "RUN_CANCELLED")
    ]


async def test_a_run_does_not_complete_over_a_pending_tool_call(acme: Tenant):
    run = await begin(acme)
    async with acme.change(run) as change:
        step = change.step("work")
        call = change.tool_call(step, "ocr", pending=True)
        change.complete(step)
    with pytest.raises(IllegalTransition, match="tool calls still PENDING"):
        await acme.runs.complete(run)
    async with acme.change(run) as change:
        change.finish_call(call, result=1)
        change.complete_run()
    assert (await acme.runs.get(run.id)).status is RunStatus.COMPLETED


async def test_a_cancellation_that_waited_for_a_later_step_skips_it(acme: Tenant, database: Database):
    run = await begin(acme)
    async with await psycopg.AsyncConnection.connect(database.dsn()) as connection:
        async with acme.change(run, connection=connection) as change:
            change.step("first", output={})
        cancelling = asyncio.create_task(acme.runs.cancel(run, "stop"))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while (await asyncio.to_thread(database.query, waiting)) == [(0,)]:  # noqa: ASYNC110 - the server's event
            await asyncio.sleep(0)
        async with acme.change(run, connection=connection) as change:  # begins after the cancellation read the clock
            step = change.step("second")
            change.tool_call(step, "ocr", pending=True)
        await connection.commit()
        await cancelling
    assert database.query("SELECT status, completed_at >= started_at FROM perdure.steps ORDER BY step_index") == [
        ("COMPLETED", True),
        ("SKIPPED", True),
    ]


async def test_a_tool_call_that_was_pending_for_a_month_still_ends(acme: Tenant, database: Database):
    run = await begin(acme)
    month_ms = 30 * 86_400_000.0
    async with acme.change(run) as change:
        step = change.step("work")
        change.tool_call(step, "slow", result=1, duration_ms=month_ms)
        late = change.tool_call(step, "late", pending=True, duration_ms=month_ms)
    async with acme.change(run) as change:
        change.finish_call(late, result=1)
    assert database.query("SELECT DISTINCT execution_duration_ms FROM perdure.tool_calls") == [(2**31 - 1,)]


async def test_a_signal_of_many_runs_gives_the_run_that_took_it_up(acme: Tenant):
    first = await acme.runs.start("triage", signal=("billing", "1"), input={})
    await acme.runs.complete(first)
    await acme.runs.start("follow-up", signal=("billing", "1"), continues=first)
    await acme.runs.rerun(first)
    again = await acme.runs.start("triage", signal=("billing", "1"), input={})
    assert again.id == first.id
    assert (await acme.runs.start("triage", signal=first.signal_id)).id == first.id


async def test_a_requeued_dead_letter_is_counted_as_open_until_it_is_delivered(acme: Tenant, database: Database):
    run = await begin(acme)
    async with acme.change(run) as change:
        mail = change.effect(change.step("notify", output={}), "SEND_EMAIL", MAIL)
    await acme.runs.cancel(run, "stop")
    counted = "SELECT open_effects FROM perdure.runs"
    assert database.query(counted) == [(0,)]
    await acme.outbox.requeue(mail.outbox_id, reason="after all")
    assert database.query(counted) == [(1,)]


async def test_a_time_without_a_zone_is_nobodys_time(acme: Tenant):
    with pytest.raises(Invalid, match="no time zone"):
        await acme.signals.ingest("billing", "1", {}, received_at=datetime(2026, 1, 1))  # noqa: DTZ001 - the point


# --- coalescing -----------------------------------------------------------------------------------------------------


class GatedLedger:
    """A ledger that answers when it is let, and refuses a transaction that holds a poisoned change."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.transactions: list[list[bytes]] = []

    async def commit(self, _scope: Scope, changes: Sequence[bytes]) -> list[Mapping[str, Any]]:
        self.transactions.append([*changes])
        await self.gate.wait()
        if b"poison" in changes:
            raise Invalid("one of them cannot be read")
        return [{"ok": {}} for _ in changes]


@pytest.fixture
def gated() -> GatedLedger:
    return GatedLedger()


@pytest.fixture
def queue(gated: GatedLedger) -> CommitQueue:
    return CommitQueue(gated)  # type: ignore[arg-type] # it commits, and that is all a queue asks


async def gather_behind_a_leader(queue: CommitQueue, scope: Scope, *changes: bytes) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(queue.commit(scope, change)) for change in (b"leader", *changes)]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_a_change_that_spoils_its_transaction_fails_alone(acme: Tenant, gated: GatedLedger, queue: CommitQueue):
    tasks = await gather_behind_a_leader(queue, acme.scope, b"one", b"poison", b"two")
    gated.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(outcome, Invalid) for outcome in outcomes] == [False, False, True, False]


async def test_closing_waits_for_the_first_change_and_all_behind_it(
    acme: Tenant, gated: GatedLedger, queue: CommitQueue
):
    tasks = await gather_behind_a_leader(queue, acme.scope, b"one", b"two")
    closing = asyncio.create_task(queue.close())
    await asyncio.sleep(0)
    assert not closing.done()
    gated.gate.set()
    await closing
    assert all(task.done() for task in tasks)


async def test_a_cancelled_transaction_leaves_nobody_waiting_and_the_tenant_usable(
    acme: Tenant, gated: GatedLedger, queue: CommitQueue
):
    tasks = await gather_behind_a_leader(queue, acme.scope, b"one", b"two")
    tasks[0].cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if "_drain" in repr(task.get_coro()):
            task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    gated.gate.set()
    assert await queue.commit(acme.scope, b"next") == {"ok": {}}
    await queue.close()
