"""A run is started once for a signal, and a finished one never again."""

from __future__ import annotations

import asyncio

import pytest

from perdure.core.plane import Tenant
from perdure.domain.event import EventType
from perdure.domain.handles import Run
from perdure.domain.run import RunStatus, RunType, SignalStatus
from perdure.errors import IllegalTransition, Invalid, KeyReused, NotFound
from perdure.testing.contracts.ledger import LedgerContract, begin, everything, story, types, types_after

START = [EventType.SIGNAL_RECEIVED, EventType.SIGNAL_PROCESSING_STARTED, EventType.RUN_STARTED]


class RunsContract(LedgerContract):
    """``runs.start``, ``rerun``, ``continues=`` and ``get``."""

    async def test_a_run_and_its_new_signal_are_one_change(self, acme: Tenant) -> None:
        run = await acme.runs.start("triage", signal=("billing", "msg-7"), input={"invoice": 42})
        told = await story(acme, run)
        assert types(told.events) == START
        assert len({event.occurred_at for event in told.events}) == 1
        assert [signal.status for signal in told.signals] == [SignalStatus.PROCESSING]
        assert told.signals[0].normalized_payload == {"invoice": 42}
        assert [record.id for record in told.runs] == [run.id]

    async def test_the_handle_of_a_started_run_is_what_reading_it_gives(self, acme: Tenant) -> None:
        run = await begin(
            acme,
            entities=[("invoice", "42"), ("invoice", "42")],
            metadata={"priority": "high"},
            orchestrator_version="1.2.3",
            run_type=RunType.HUMAN_TRIGGERED,
        )
        read = await acme.runs.get(run.id)
        assert read.record == run.record
        assert (read.record.metadata, read.record.orchestrator_version) == ({"priority": "high"}, "1.2.3")
        assert (read.record.run_type, read.status, read.name) == (RunType.HUMAN_TRIGGERED, RunStatus.RUNNING, "triage")

    async def test_the_same_signal_started_at_the_same_time_is_one_run(self, acme: Tenant) -> None:
        runs = await asyncio.gather(*(begin(acme, "msg-1") for _ in range(16)))
        assert len({run.id for run in runs}) == 1
        assert types(await everything(acme)) == START

    async def test_another_body_or_another_name_for_a_taken_up_signal_starts_nothing(self, acme: Tenant) -> None:
        await begin(acme, "msg-1")
        with pytest.raises(KeyReused, match="with another body"):
            await acme.runs.start("triage", signal=("inbox", "msg-1"), input={"about": "something else"})
        with pytest.raises(KeyReused, match="taken up by run 'triage' already"):
            await begin(acme, "msg-1", name="escalation")
        assert types(await everything(acme)) == START

    async def test_a_kept_signal_is_taken_up_by_one_run_however_it_is_named(self, acme: Tenant) -> None:
        kept = await acme.signals.ingest("inbox", "msg-1", {"about": "msg-1"})
        runs = await asyncio.gather(
            acme.runs.start("triage", signal=kept.id), acme.runs.start("triage", signal=kept), begin(acme, "msg-1")
        )
        assert {run.signal_id for run in runs} == {kept.id}
        assert len({run.id for run in runs}) == 1
        assert runs[0].correlation_id == kept.correlation_id
        assert types(await everything(acme)) == START
        assert (await acme.signals.get(kept.id)).status is SignalStatus.PROCESSING

    async def test_a_signal_that_is_not_there_starts_nothing(self, acme: Tenant, other: Tenant) -> None:
        kept = await other.signals.ingest("inbox", "msg-1", {})
        with pytest.raises(NotFound):
            await acme.runs.start("triage", signal=kept.id)
        with pytest.raises(NotFound):
            await acme.runs.start("triage", signal=kept)
        assert await acme.events.last_number() == 0

    async def test_a_signal_that_fails_validation_is_kept_and_starts_no_run(self, acme: Tenant) -> None:
        for _ in range(2):
            with pytest.raises(Invalid, match="kept as FAILED") as caught:
                await acme.runs.start("triage", signal=("mail", "msg-1"), input={}, signal_type="EMAIL")
            assert caught.value.code == "signal_invalid"
        kept = await acme.signals.find("mail", "msg-1")
        assert kept is not None
        assert kept.status is SignalStatus.FAILED
        assert await acme.events.last_number() == 3
        with pytest.raises(IllegalTransition, match="failed validation"):
            await acme.runs.start("triage", signal=kept)

    async def test_a_finished_run_is_repeated_by_a_new_one_with_its_cause(self, acme: Tenant) -> None:
        first = await begin(acme, metadata={"priority": "high"})
        await acme.runs.complete(first)
        before = await acme.events.last_number()
        second = await acme.runs.rerun(first)
        assert second.id != first.id
        assert (second.name, second.signal_id, second.correlation_id) == (
            first.name,
            first.signal_id,
            first.correlation_id,
        )
        told = await story(acme, second)
        assert {record.id: record.causation_id for record in told.runs} == {first.id: None, second.id: first.id}
        assert types_after(told.events, before) == [EventType.RUN_STARTED]
        ended = next(event for event in told.events if event.event_type is EventType.RUN_COMPLETED)
        assert told.events[-1].causation_id in {ended.id, told.events[before - 1].id}
        assert told.events[-1].event_data["parent_run_id"] == str(first.id)
        assert (await acme.runs.get(first.id)).status is RunStatus.COMPLETED

    async def test_a_finished_run_is_continued_by_another_one_on_its_signal(self, acme: Tenant) -> None:
        first = await begin(acme)
        await acme.runs.fail(first, "TOO_HARD")
        second = await acme.runs.start("escalation", signal=first.signal_id, continues=first)
        assert (second.record.run_type, second.name) == (RunType.CONTINUATION, "escalation")
        assert (second.record.causation_id, second.signal_id) == (first.id, first.signal_id)
        await acme.runs.complete(second)
        # The signal was decided by the first run; a later one does not rewrite that.
        assert (await acme.signals.get(first.signal_id)).status is SignalStatus.FAILED

    async def test_a_running_run_is_neither_repeated_nor_continued(self, acme: Tenant) -> None:
        run = await begin(acme)
        for attempt in (acme.runs.rerun(run), acme.runs.start("next", signal=run.signal_id, continues=run)):
            with pytest.raises(IllegalTransition, match="is RUNNING"):
                await attempt
        assert types(await everything(acme)) == START

    async def test_a_run_of_another_tenant_is_not_found(self, acme: Tenant, other: Tenant) -> None:
        run = await begin(other)
        with pytest.raises(NotFound):
            await acme.runs.get(run.id)
        with pytest.raises(NotFound):
            await add_step(acme, run)
        with pytest.raises(NotFound):
            await acme.runs.cancel(run, "not yours")
        assert await acme.events.last_number() == 0
        assert await other.events.last_number() == 3

    async def test_starting_the_same_signal_again_after_its_run_ended_gives_that_run(self, acme: Tenant) -> None:
        run = await begin(acme)
        await acme.runs.complete(run)
        again = await begin(acme)
        assert (again.id, again.status) == (run.id, RunStatus.COMPLETED)


async def add_step(tenant: Tenant, run: Run) -> None:
    """Try to add a step to a run."""
    async with tenant.change(run) as change:
        change.step("work")
