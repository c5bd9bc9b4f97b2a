"""The behaviours that a buffer of telemetry is known by, each by its name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perdure.domain.telemetry import LogType
from perdure.telemetry import (
    ShadowLoggerTelemetryAdapter,
    TelemetryBuffer,
    TelemetryThread,
    get_telemetry_buffer,
    reset_telemetry_buffer,
)
from tests.support.telemetry import Sink, Works, entry_of

pytestmark = pytest.mark.fast


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    reset_telemetry_buffer()
    yield
    reset_telemetry_buffer()


def test_record_gives_true_and_one_is_pending() -> None:
    buffer = TelemetryBuffer()
    assert buffer.record(entry_of()) is True
    assert buffer.pending == 1


def test_five_recorded_are_five_pending() -> None:
    works = Works()
    works.record(*range(5))
    assert works.buffer.pending == 5


async def test_flush_writes_three_rows() -> None:
    works = Works()
    works.record(*range(3))
    assert (await works.flusher.flush(), len(works.sink.kept), works.buffer.pending) == (3, 3, 0)


async def test_batches_of_two_over_five_are_two_two_one() -> None:
    works = Works(batch_entries=2)
    works.record(*range(5))
    assert [await works.flusher.flush() for _ in range(4)] == [2, 2, 1, 0]


async def test_flush_takes_no_more_than_it_is_told_to() -> None:
    works = Works()
    works.record(*range(5))
    assert (await works.flusher.flush(2), await works.flusher.flush(0), works.buffer.pending) == (2, 0, 3)


async def test_flush_all_of_five_leaves_none_pending() -> None:
    works = Works(batch_entries=2)
    works.record(*range(5))
    assert (await works.flusher.flush_all(), works.buffer.pending) == (5, 0)


def test_an_error_is_captured_by_the_adapter() -> None:
    buffer, variables = TelemetryBuffer(), {"amount": 7}
    adapter = ShadowLoggerTelemetryAdapter(buffer, "site-1")
    assert adapter.capture_shadow_log_error(
        uow_id="unit-1",
        role_id="role-1",
        interaction_id="i-1",
        actor_id="agent:a",
        error_message="undefined variable",
        condition="amonut > 5",
        variables=variables,
        error_type="NameError",
        branch_index=2,
    )
    variables["amount"] = 8
    (held,) = buffer.lease(1).held
    entry = held.entry
    assert (entry.log_type, entry.instance_id, entry.unit_id, entry.role_id, entry.interaction_id, entry.actor_id) == (
        LogType.ERROR,
        "site-1",
        "unit-1",
        "role-1",
        "i-1",
        "agent:a",
    )
    assert entry.event_details is None
    assert entry.error_metadata.keys() == {
        *("error_message", "condition", "variables", "timestamp"),
        *("error_type", "branch_index"),
    }
    assert b'"variables":{"amount":7}' in (held.error or b"")


def test_a_decision_is_captured_by_the_adapter() -> None:
    buffer = TelemetryBuffer()
    adapter = ShadowLoggerTelemetryAdapter(buffer, "site-1")
    assert adapter.capture_guardian_decision(
        uow_id="unit-1",
        role_id="role-1",
        interaction_id="i-1",
        actor_id=None,
        guardian_name="InvoiceRouter",
        condition="amount > 50000",
        decision="HighValue",
        matched_branch_index=0,
    )
    entry = buffer.lease(1).held[0].entry
    assert (entry.log_type, entry.unit_id, entry.actor_id) == (LogType.GUARDIAN_DECISION, "unit-1", None)
    assert entry.event_details == {
        "guardian_name": "InvoiceRouter",
        "condition": "amount > 50000",
        "decision": "HighValue",
        "matched_branch_index": 0,
        "timestamp": entry.timestamp,
    }


def test_the_shared_buffer_is_the_same_object_every_time() -> None:
    assert get_telemetry_buffer() is get_telemetry_buffer()


def test_r85_a_reset_leaves_it_empty_and_hands_over_what_was_pending() -> None:
    buffer = get_telemetry_buffer()
    adapter = ShadowLoggerTelemetryAdapter(buffer, "site-1")
    entries = [entry_of(number) for number in range(3)]
    for entry in entries:
        assert buffer.record(entry)
    in_flight = buffer.lease(1)
    assert list(reset_telemetry_buffer()) == entries[1:]
    assert (get_telemetry_buffer() is buffer, buffer.pending, buffer.stats().in_flight) == (True, 0, 1)
    assert adapter.capture_guardian_decision("unit-1"), "who holds it goes on"
    buffer.requeue(in_flight, in_flight.held)
    stats = buffer.stats()
    assert (stats.accepted, stats.pending, stats.is_balanced) == (2, 2, True)
    buffer.close()
    reset_telemetry_buffer()
    assert buffer.record(entry_of("opened again"))


def test_a_thread_flushes_the_shared_buffer_for_code_without_a_loop() -> None:
    sink, buffer = Sink(), get_telemetry_buffer()
    thread = TelemetryThread(buffer, sink.write)
    thread.start()
    try:
        for number in range(4):
            assert buffer.record(entry_of(number))
        assert thread.flush() + thread.stats().flushed >= 4
        assert buffer.record(entry_of("last"))
    finally:
        stopped = thread.stop(5.0)
    assert (stopped.lost, sink.details) == (0, ["0", "1", "2", "3", '"last"'])
    assert (buffer.record(entry_of()), thread.stop().flushed) == (False, 0)


def test_a_thread_takes_a_function_that_waits_for_nothing() -> None:
    kept: list[object] = []
    buffer = TelemetryBuffer()
    thread = TelemetryThread(buffer, kept.extend)
    thread.start()
    buffer.record(entry_of(1))
    assert (thread.stop(5.0).lost, len(kept)) == (0, 1)
