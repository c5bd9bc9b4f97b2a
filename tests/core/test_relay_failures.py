"""Failed deliveries: when they are tried again, when no more, and what that does to their run."""

from __future__ import annotations

import logging
from uuid import UUID

import pytest

from perdure.core.outbox import Outbox
from perdure.domain.limits import RETRY_AFTER_S_MAX
from perdure.domain.records import OutboxEntry
from perdure.errors import IllegalTransition
from perdure.ports.relay import DeliveryFailed
from perdure.testing.clock import DatabaseClock
from tests.support.databases import Database
from tests.support.relaying import Deliveries, opened, relaying, request, statuses, store_of

DELAY = "SELECT round(extract(epoch FROM next_retry_at - updated_at))::int FROM perdure.outbox_events"


@pytest.mark.parametrize(
    ("effect_type", "delays"), [("SEND_EMAIL", [4, 8, 16]), ("TAKE_NOTE", [2, 4, 8]), ("SOR_UPDATE", [10])]
)
async def test_a_failure_is_tried_again_after_the_delays_of_its_type_and_is_dead_then(
    database: Database, effect_type: str, delays: list[int]
) -> None:
    clock = DatabaseClock(database.dsn("owner"))
    made = Deliveries(failures=[RuntimeError("no")] * 10)
    seen = []
    async with opened(database) as plane, relaying(database, made) as relay:
        await request(plane.scope("t_acme", actor="agent:a"), effect_type)
        await relay.drain()
        for delay in delays:
            seen.append(database.query(DELAY)[0][0])
            await clock.advance(delay - 0.9)
            await relay.drain()
            assert len(made.made) == len(seen), "not before it is due"
            await clock.advance(1)
            await relay.drain()
    assert seen == delays
    assert [delivery.attempt for delivery in made.made] == [*range(1, len(delays) + 2)]
    assert len(set(made.keys)) == 1
    assert statuses(database) == [(effect_type, "DEAD_LETTER", "DEAD_LETTER")]
    assert (relay.counters.failed, relay.counters.dead_lettered) == (len(delays), 1)


@pytest.mark.parametrize(
    ("asked_s", "waits_s"), [(0.0, 0), (300.0, 315), (10.0 * RETRY_AFTER_S_MAX, RETRY_AFTER_S_MAX)]
)
async def test_what_the_receiver_asks_for_counts_instead(database: Database, asked_s: float, waits_s: int) -> None:
    made = Deliveries(failures=[DeliveryFailed("busy", code="HTTP_429", retry_after_s=asked_s)])
    async with opened(database) as plane, relaying(database, made) as relay:
        await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")
        await relay.tick()
        while relay.in_hand:
            await relay.beat()
    ((delay,),) = database.query(DELAY)
    assert delay == waits_s


async def test_a_dead_letter_fails_its_run_buries_what_comes_after_and_is_told(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[OutboxEntry] = []

    async def tell(entry: OutboxEntry) -> None:
        told.append(entry)

    made = Deliveries(failures=[DeliveryFailed("no such address", code="HTTP_410", retryable=False)])
    async with opened(database) as plane, relaying(database, made, on_dead_letter=tell) as relay:
        _, (first, *_) = await request(
            plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL", "NOTIFY_USER", "TAKE_NOTE", complete=True
        )
        await relay.drain()
    assert made.types == ["SEND_EMAIL"]
    assert [row[1:] for row in statuses(database)] == [("DEAD_LETTER", "DEAD_LETTER")] * 3
    assert database.query("SELECT status, exit_reason FROM perdure.runs") == [("FAILED", "EFFECT_DEAD_LETTERED")]
    codes = database.query("SELECT error_details ->> 'code' FROM perdure.outbox_events ORDER BY ordering_seq")
    assert codes == [("HTTP_410",), ("RUN_CANCELLED",), ("RUN_CANCELLED",)]
    assert [(entry.id, entry.status, entry.error_details["code"]) for entry in told] == [
        (first.outbox_id, "DEAD_LETTER", "HTTP_410")
    ]
    assert relay.counters.dead_lettered == 1
    assert f"perdure outbox requeue {first.outbox_id}" in caplog.text


async def test_a_hook_that_fails_is_logged_and_changes_nothing(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def tell(entry: OutboxEntry) -> None:
        raise RuntimeError(f"the pager is broken for {entry.event_type}")

    made = Deliveries(failures=[DeliveryFailed("no", retryable=False)])
    with caplog.at_level(logging.ERROR):
        async with opened(database) as plane, relaying(database, made, on_dead_letter=tell) as relay:
            await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")
            await relay.drain()
    assert relay.counters.hook_failures == 1
    assert "the pager is broken for SEND_EMAIL" in caplog.text
    assert statuses(database) == [("SEND_EMAIL", "DEAD_LETTER", "DEAD_LETTER")]


async def test_a_requeued_dead_letter_is_delivered_under_the_same_key(database: Database) -> None:
    made = Deliveries(failures=[DeliveryFailed("no", retryable=False)])
    async with opened(database) as plane, relaying(database, made) as relay, store_of(database.dsn("relay")) as store:
        _, (effect,) = await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")
        await relay.drain()
        outbox = Outbox(store, actor="user:ann", source="manual:cli")
        revived = await outbox.requeue(effect.outbox_id, reason="the address is right now")
        assert (revived.status, revived.retry_count) == ("PENDING", 0)
        await relay.drain()
        with pytest.raises(IllegalTransition, match="only a dead letter is requeued"):
            await outbox.requeue(effect.outbox_id, reason="again")
    assert made.keys == [effect.idempotency_key] * 2
    assert statuses(database) == [("SEND_EMAIL", "COMPLETED", "COMPLETED")]
    assert database.query("SELECT actor, context ->> 'reason' FROM perdure.audit_trail") == [
        ("user:ann", "the address is right now")
    ]
    assert database.query("SELECT status FROM perdure.runs") == [("FAILED",)]


async def test_a_requeued_effect_of_a_failed_run_is_retried_like_any_other(database: Database) -> None:
    made = Deliveries(failures=[DeliveryFailed("no", retryable=False), RuntimeError("not yet")])
    clock = DatabaseClock(database.dsn("owner"))
    async with opened(database) as plane, relaying(database, made) as relay, store_of(database.dsn("relay")) as store:
        _, (effect,) = await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")
        await relay.drain()
        await Outbox(store, actor="user:ann", source="manual:cli").requeue(effect.outbox_id, reason="try")
        await relay.drain()
        assert statuses(database) == [("SEND_EMAIL", "FAILED", "FAILED")]
        await clock.advance(5)
        await relay.drain()
    assert statuses(database) == [("SEND_EMAIL", "COMPLETED", "COMPLETED")]


async def test_nobody_retries_an_effect_whose_run_was_cancelled_during_its_attempt(database: Database) -> None:
    async with opened(database) as plane:
        acme = plane.scope("t_acme", actor="agent:a")
        run, (effect,) = await request(acme, "SEND_EMAIL")

        async def deliver(delivery: object) -> None:
            del delivery
            async with acme.change(run) as change:
                change.cancel_run("not wanted any more")
            raise RuntimeError("no answer")

        async with relaying(database, deliver) as relay:
            await relay.drain()
    ((entry_id, status, code),) = database.query(
        "SELECT id, status, error_details ->> 'code' FROM perdure.outbox_events"
    )
    assert (UUID(str(entry_id)), status, code) == (effect.outbox_id, "DEAD_LETTER", "RUN_CANCELLED")
    assert relay.counters.dead_lettered == 1
