"""Signals are kept once, before anything is done with them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from perdure.core.plane import Tenant
from perdure.domain.event import EventType
from perdure.domain.run import SignalStatus, SignalType
from perdure.errors import Conflict, Invalid, KeyReused, NotFound
from perdure.testing.contracts.ledger import ACTOR, LedgerContract, everything, types

MAIL_BODY = {"from": "a@acme.test", "to": ["b@acme.test"], "subject": "hello", "body": "there"}


class SignalsContract(LedgerContract):
    """``signals.ingest``, ``get``, ``find`` and ``pending``."""

    async def test_a_signal_is_kept_before_any_run_exists(self, acme: Tenant) -> None:
        kept = await acme.signals.ingest("billing", "msg-7", {"invoice": 42})
        assert (kept.status, kept.source_channel, kept.source_id) == (SignalStatus.PENDING, "billing", "msg-7")
        assert (kept.normalized_payload, kept.signal_type) == ({"invoice": 42}, SignalType.API_CALL)
        assert (kept.actor, kept.ingested_by, kept.source) == (ACTOR, ACTOR, "api:perdure")
        assert await acme.signals.get(kept.id) == kept
        assert await acme.signals.find("billing", "msg-7") == kept
        assert types(await everything(acme)) == [EventType.SIGNAL_RECEIVED]

    async def test_the_same_source_id_again_is_the_kept_signal(self, acme: Tenant) -> None:
        first = await acme.signals.ingest("billing", "msg-7", {"a": 1, "b": 2})
        again = await acme.signals.ingest("billing", "msg-7", {"b": 2, "a": 1})
        assert again == first
        assert await acme.events.last_number() == 1

    async def test_another_body_under_the_same_source_id_is_a_conflict(self, acme: Tenant) -> None:
        first = await acme.signals.ingest("billing", "msg-7", {"invoice": 42})
        with pytest.raises(KeyReused, match="with another body") as caught:
            await acme.signals.ingest("billing", "msg-7", {"invoice": 43})
        assert isinstance(caught.value, Conflict)
        assert (caught.value.code, caught.value.detail["signal_id"]) == ("signal_conflict", str(first.id))
        assert await acme.signals.get(first.id) == first
        assert await acme.events.last_number() == 1

    async def test_another_type_under_the_same_source_id_is_a_conflict(self, acme: Tenant) -> None:
        await acme.signals.ingest("mail", "msg-7", MAIL_BODY, signal_type=SignalType.EMAIL)
        with pytest.raises(KeyReused):
            await acme.signals.ingest("mail", "msg-7", MAIL_BODY)

    async def test_another_channel_or_tenant_may_use_the_same_source_id(self, acme: Tenant, other: Tenant) -> None:
        kept = [
            await acme.signals.ingest("billing", "msg-7", {"invoice": 42}),
            await acme.signals.ingest("sales", "msg-7", {"invoice": 43}),
            await other.signals.ingest("billing", "msg-7", {"invoice": 44}),
        ]
        assert len({signal.id for signal in kept}) == 3
        assert await other.events.last_number() == 1

    async def test_deliveries_of_one_webhook_at_the_same_time_keep_one_signal(self, acme: Tenant) -> None:
        kept = await asyncio.gather(*(acme.signals.ingest("hook", "evt-1", {"n": 1}) for _ in range(16)))
        assert len({signal.id for signal in kept}) == 1
        assert await acme.events.last_number() == 1

    async def test_a_payload_that_does_not_fit_its_declared_type_is_kept_as_failed(self, acme: Tenant) -> None:
        kept = await acme.signals.ingest("mail", "msg-1", {"subject": "no sender"}, signal_type="EMAIL")
        assert (kept.status, kept.signal_type) == (SignalStatus.FAILED, SignalType.EMAIL)
        assert kept.processed_at is not None
        events = await everything(acme)
        assert types(events) == [
            EventType.SIGNAL_RECEIVED,
            EventType.SIGNAL_PROCESSING_STARTED,
            EventType.SIGNAL_PROCESSING_FAILED,
        ]
        assert events[-1].event_data["reason"] == "VALIDATION_FAILED"
        assert events[-1].event_data["error"]["problems"]
        assert list(await acme.signals.pending()) == []

    async def test_a_declared_type_that_fits_is_pending_and_an_undeclared_one_is_not_validated(
        self, acme: Tenant
    ) -> None:
        declared = await acme.signals.ingest("mail", "msg-1", MAIL_BODY, signal_type="EMAIL")
        undeclared = await acme.signals.ingest("mail", "msg-2", {"anything": True})
        assert [declared.status, undeclared.status] == [SignalStatus.PENDING] * 2

    async def test_pending_signals_come_oldest_first_and_leave_when_a_run_takes_them_up(self, acme: Tenant) -> None:
        days = [datetime(2026, 1, day, tzinfo=UTC) for day in (3, 1, 2)]
        for day in days:
            await acme.signals.ingest("billing", f"day-{day.day}", {}, received_at=day)
        pending = list(await acme.signals.pending())
        assert [signal.received_at for signal in pending] == sorted(days)
        await acme.runs.start("triage", signal=pending[0])
        assert [signal.source_id for signal in await acme.signals.pending()] == ["day-2", "day-3"]

    async def test_what_was_never_sent_is_not_found(self, acme: Tenant, other: Tenant) -> None:
        kept = await other.signals.ingest("billing", "msg-7", {})
        assert await acme.signals.find("billing", "msg-7") is None
        with pytest.raises(NotFound):
            await acme.signals.get(kept.id)

    async def test_what_cannot_be_a_signal_is_refused_before_anything_is_sent(self, acme: Tenant) -> None:
        for channel, source_id in (("", "x"), ("x", ""), ("a\nb", "x")):
            with pytest.raises(Invalid):
                await acme.signals.ingest(channel, source_id, {})
        with pytest.raises(Invalid):
            await acme.signals.ingest("x", "x", {"nan": float("nan")})
        assert await acme.events.last_number() == 0
