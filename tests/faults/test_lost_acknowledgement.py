"""A network that loses the answer, or the question: nobody can know which, and repeating is safe either way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

import perdure
from perdure.errors import BackendDown, OutcomeUnknown
from perdure.testing.contracts.ledger import MAIL, begin, everything, story
from perdure.testing.faults import FaultProxy
from tests.support.databases import DIRECT, Database, engines

BOTH = pytest.mark.parametrize("lost", ["reply", "request"])


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    # A plane looks for changes of routes now and then: the answer to be lost is not that one.
    monkeypatch.setattr("perdure.core.route_upkeep.REFRESH_S", 3_600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A tenant behind a network that fails when told to."""

    acme: perdure.Tenant
    proxy: FaultProxy

    def lose(self, what: str) -> None:
        """The next commit is done and not answered (reply), or never arrives (request)."""
        if what == "reply":
            self.proxy.lose_reply()
        else:
            self.proxy.lose_request()


@asynccontextmanager
async def wired(database: Database) -> AsyncIterator[Wire]:
    async with FaultProxy("127.0.0.1", database.port) as proxy:
        dsn = f"postgresql://perdure_app@127.0.0.1:{proxy.port}/{database.name}"
        async with perdure.open(dsn, mode="lab", env="dev") as plane:
            yield Wire(acme=plane.scope("t_acme", actor="agent:tester"), proxy=proxy)


def assert_nothing_doubled(database: Database) -> None:
    assert database.query("SELECT count(*) - max(sequence_number) FROM perdure.orchestration_events") == [(0,)]
    assert (
        database.query("""
        SELECT run.total_steps - count(step.id) FROM perdure.runs AS run
        LEFT JOIN perdure.steps AS step ON step.run_id = run.id GROUP BY run.id, run.total_steps
        HAVING run.total_steps <> count(step.id)""")
        == []
    )


@BOTH
@engines(*DIRECT)
async def test_a_lost_acknowledgement_is_unknown_and_repeating_is_safe(database: Database, lost: str) -> None:
    async with wired(database) as wire:
        run = await begin(wire.acme)
        wire.lose(lost)
        with pytest.raises(OutcomeUnknown, match="may be committed") as caught:  # noqa: PT012 - leaving the block is what is refused
            async with wire.acme.change(run) as change:
                step = change.step("work", output={"n": 1})
                call = change.tool_call(step, "ocr", result=1)
                effect = change.effect(step, "SEND_EMAIL", MAIL)
                checkpoint = change.checkpoint({"at": 1})
        assert not isinstance(caught.value, BackendDown)
        assert database.query("SELECT count(*) FROM perdure.steps") == [(int(lost == "reply"),)]
        for _ in range(2):
            await wire.acme.commit(change)
            assert (step.index, run.done("work")) == (0, {"n": 1})
        told = await story(wire.acme, run)
        rows: list[Any] = [*told.steps, *told.tool_calls, *told.effects, *told.outbox, *told.checkpoints]
        ids = [row.id for row in rows]
        assert ids == [step.id, call.id, effect.id, effect.outbox_id, checkpoint.id]
        assert len(told.events) == 3 + 6
    assert_nothing_doubled(database)


@BOTH
@pytest.mark.parametrize("kind", ["end a step", "late call", "end a call", "checkpoint", "retry", "decide"])
async def test_every_kind_of_change_may_be_repeated(database: Database, lost: str, kind: str) -> None:
    async with wired(database) as wire:
        run = await begin(wire.acme)
        async with wire.acme.change(run) as change:
            work, failed = change.step("work"), change.step("failed")
            change.fail(failed, error="boom")
            call = change.tool_call(work, "grep", pending=True)
            wait = change.wait("approve", request={})
        before = await wire.acme.events.last_number()
        added = {"retry": 3}.get(kind, 1 if kind in {"end a step", "end a call", "checkpoint", "decide"} else 2)
        wire.lose(lost)
        with pytest.raises(OutcomeUnknown):  # noqa: PT012 - leaving the block is what is refused
            async with wire.acme.change(run) as change:
                match kind:
                    case "end a step":
                        change.complete(work, output={})
                    case "late call":
                        change.tool_call(work, "late", result=1)
                    case "end a call":
                        change.finish_call(call, result=1)
                    case "checkpoint":
                        change.checkpoint({"at": 1})
                    case "retry":
                        change.retry(failed, output={})
                    case _:
                        change.decide(wait, "APPROVE")
        assert await wire.acme.events.last_number() == before + (added if lost == "reply" else 0)
        for _ in range(2):
            await wire.acme.commit(change)
        assert await wire.acme.events.last_number() == before + added
    assert_nothing_doubled(database)


@BOTH
async def test_starting_and_receiving_again_gives_what_was_kept(database: Database, lost: str) -> None:
    async with wired(database) as wire:
        await begin(wire.acme, "msg-0")
        wire.lose(lost)
        with pytest.raises(OutcomeUnknown):
            await begin(wire.acme, "msg-1")
        run = await begin(wire.acme, "msg-1")
        assert (await begin(wire.acme, "msg-1")).id == run.id
        wire.lose(lost)
        with pytest.raises(OutcomeUnknown):
            await wire.acme.signals.ingest("inbox", "msg-2", {})
        kept = await wire.acme.signals.ingest("inbox", "msg-2", {})
        assert (await wire.acme.signals.find("inbox", "msg-2")) == kept
        assert len(await everything(wire.acme)) == 3 + 3 + 1
    assert_nothing_doubled(database)


@BOTH
@pytest.mark.parametrize("how", ["complete", "fail", "cancel", "complete with effects outstanding"])
async def test_ending_a_run_is_repeated_by_itself(database: Database, lost: str, how: str) -> None:
    async with wired(database) as wire:
        run = await begin(wire.acme)
        if how == "complete with effects outstanding":
            async with wire.acme.change(run) as change:
                change.effect(change.step("notify", output={}), "SEND_EMAIL", MAIL)
        wire.lose(lost)
        if how == "fail":
            await wire.acme.runs.fail(run, "TOO_HARD")
        elif how == "cancel":
            await wire.acme.runs.cancel(run, "BORED")
        else:
            await wire.acme.runs.complete(run)
        read = await wire.acme.runs.get(run.id)
        ended = [event for event in await everything(wire.acme) if event.event_type.startswith("RUN_")][1:]
        if how == "complete with effects outstanding":
            assert read.record.completion_requested_at is not None
            assert ended == []
        else:
            assert len(ended) == 1
            assert read.status != perdure.RunStatus.RUNNING
    assert_nothing_doubled(database)


@BOTH
async def test_changes_that_shared_a_lost_transaction_are_each_repeated_once(database: Database, lost: str) -> None:
    async with wired(database) as wire:
        run = await begin(wire.acme)
        unknown = 0

        async def add(number: int) -> None:
            nonlocal unknown
            change = await wire.acme.change(run).__aenter__()  # kept, because the same change is repeated
            change.step("work", key=f"work-{number}", output={"n": number})
            try:
                await wire.acme.commit(change)
            except OutcomeUnknown:
                unknown += 1
                await wire.acme.commit(change)

        wire.lose(lost)
        await asyncio.gather(*map(add, range(32)))
        assert unknown >= 1
        told = await story(wire.acme, run)
        assert {step.output_result["n"] for step in told.steps} == set(range(32))
        assert [step.step_index for step in told.steps] == list(range(32))
        assert len(told.events) == 3 + 64
    assert_nothing_doubled(database)


async def test_a_lost_read_is_an_outage_and_no_unknown_outcome(database: Database) -> None:
    async with wired(database) as wire:
        run = await begin(wire.acme)
        wire.lose("reply")
        with pytest.raises(BackendDown):
            await wire.acme.runs.get(run.id)
        assert (await wire.acme.runs.get(run.id)).id == run.id


async def test_a_connection_that_died_in_the_pool_is_replaced_and_nobody_is_told(database: Database) -> None:
    async with wired(database) as wire:
        run = await begin(wire.acme)
        for number in range(3):
            wire.proxy.reset_all()
            while wire.proxy.connections:  # noqa: ASYNC110 - the proxy has no event for it; gives way only
                await asyncio.sleep(0)
            async with wire.acme.change(run) as change:
                change.step("work", key=str(number), output={})
        assert len((await story(wire.acme, run)).steps) == 3
