"""What a relay delivers, in which order, and what it records of it."""

from __future__ import annotations

import asyncio

import pytest

from perdure.core.relay import RelaySettings, Surroundings
from perdure.core.relay_attempt import MESSAGE_CHARS_MAX
from perdure.core.relay_settings import DELIVERIES_MAX
from perdure.domain.limits import PAYLOAD_BYTES_MAX
from perdure.errors import Invalid, LimitExceeded
from perdure.ports.relay import Delivery, DeliveryFailed
from tests.support.databases import ALL, Database, engines
from tests.support.relaying import Deliveries, never, opened, relaying, request, statuses


@engines(*ALL)
async def test_an_effect_is_delivered_once_and_the_last_one_completes_its_run(database: Database) -> None:
    made = Deliveries(result={"id": "m-1"})
    async with opened(database) as plane, relaying(database, {"SEND_EMAIL": made}) as relay:
        run, (effect,) = await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL", complete=True)
        await relay.drain()
        await relay.drain()
    assert made.keys == [effect.idempotency_key]
    delivery = made.made[0]
    assert (delivery.tenant, delivery.attempt, delivery.run_id) == ("t_acme", 1, run.id)
    assert delivery.spec["to"] == "ann@acme.test"
    assert database.query("SELECT status, execution_result FROM perdure.effects") == [("COMPLETED", {"id": "m-1"})]
    assert database.query("SELECT status, open_effects FROM perdure.runs") == [("COMPLETED", 0)]
    assert (relay.counters.claimed, relay.counters.delivered, relay.in_hand) == (1, 1, 0)


async def test_effects_of_a_run_are_delivered_in_the_order_of_their_request(database: Database) -> None:
    made = Deliveries()
    types = ["SEND_EMAIL", "NOTIFY_USER", "SOR_UPDATE", "TAKE_NOTE", "SEND_EMAIL"]
    async with opened(database) as plane, relaying(database, made) as relay:
        await request(plane.scope("t_acme", actor="agent:a"), *types)
        await relay.drain()
    assert made.types == types


async def test_independent_effects_do_not_wait_for_a_failure_before_them(database: Database) -> None:
    failing, made = Deliveries(failures=[RuntimeError("no")]), Deliveries()
    async with opened(database) as plane, relaying(database, {"SEND_EMAIL": failing, "*": made}) as relay:
        acme = plane.scope("t_acme", actor="agent:a")
        await request(acme, "SEND_EMAIL", "NOTIFY_USER", source_id="ordered")
        failing.failures.append(RuntimeError("no"))
        await request(acme, "SEND_EMAIL", "TAKE_NOTE", source_id="independent", independent=True)
        await relay.drain()
    assert made.types == ["TAKE_NOTE"]
    assert relay.counters.failed == 2


async def test_what_has_no_deliverer_is_never_claimed(database: Database) -> None:
    made = Deliveries()
    async with opened(database) as plane, relaying(database, {"NOTIFY_USER": made}) as relay:
        acme = plane.scope("t_acme", actor="agent:a")
        await request(acme, "SEND_EMAIL", source_id="1")
        await request(acme, "NOTIFY_USER", source_id="2")
        await relay.drain()
    assert made.types == ["NOTIFY_USER"]
    assert statuses(database) == [("SEND_EMAIL", "PENDING", "PENDING"), ("NOTIFY_USER", "COMPLETED", "COMPLETED")]


async def test_a_relay_without_deliverers_claims_nothing(database: Database) -> None:
    async with opened(database) as plane, relaying(database, {}) as relay:
        await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")
        await relay.drain()
    assert relay.counters.claimed == 0


async def test_a_tenant_with_a_backlog_starves_no_other(database: Database) -> None:
    made = Deliveries()
    async with opened(database) as plane:
        for n in range(6):
            await request(plane.scope("t_busy", actor="agent:a"), "SEND_EMAIL", source_id=str(n))
        await request(plane.scope("t_quiet", actor="agent:a"), "SEND_EMAIL")
        async with relaying(database, made, settings=RelaySettings(deliveries_max=1)) as relay:
            await relay.drain()
    assert "t_quiet" in [delivery.tenant for delivery in made.made[:2]]
    assert len(made.made) == 7


async def test_never_more_deliveries_at_once_than_allowed(database: Database) -> None:
    at_once: list[int] = []
    full, gate = asyncio.Event(), asyncio.Event()

    async def deliver(delivery: Delivery) -> None:
        del delivery
        at_once.append(relay.in_hand)
        if len(at_once) == 2:
            full.set()
        await gate.wait()

    async with opened(database) as plane:
        for n in range(5):
            await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL", source_id=str(n))
        async with relaying(database, deliver, settings=RelaySettings(deliveries_max=2)) as relay:
            draining = asyncio.create_task(relay.drain())
            await full.wait()
            assert await relay.tick() == 0
            gate.set()
            await draining
    assert (len(at_once), max(at_once)) == (5, 2)


@pytest.mark.parametrize(
    "result", [{"big": "x" * PAYLOAD_BYTES_MAX}, {"not": {"json"}}, float("nan")], ids=["too big", "a set", "nan"]
)
async def test_a_result_that_cannot_be_kept_does_not_undo_the_delivery(database: Database, result: object) -> None:
    made = Deliveries(result=result)
    async with opened(database) as plane, relaying(database, made) as relay:
        await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")
        await relay.drain()
    assert statuses(database) == [("SEND_EMAIL", "COMPLETED", "COMPLETED")]
    ((recorded,),) = database.query("SELECT result FROM perdure.outbox_events")
    assert list(recorded) == ["result_not_recorded"]


async def test_a_delivery_that_takes_too_long_is_cut_off_and_tried_again(database: Database) -> None:
    async def deliver(delivery: Delivery) -> None:
        del delivery
        await never(0)

    settings = RelaySettings(delivery_timeout_s=0.01)
    async with opened(database) as plane, relaying(database, deliver, settings=settings) as relay:
        await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")
        await relay.drain()
    ((status, error),) = database.query("SELECT status, error_details FROM perdure.outbox_events")
    assert (status, error["code"], error["retryable"]) == ("FAILED", "TIMED_OUT", True)


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (ZeroDivisionError("by 0"), "ZERO_DIVISION_ERROR", "by 0"),
        (TimeoutError("its own"), "TIMEOUT_ERROR", "its own"),
        (RuntimeError("a hunter2\nb\x00"), "RUNTIME_ERROR", "a *** b"),
        (RuntimeError("http://ann:pw@host/x failed"), "RUNTIME_ERROR", "http://***@host/x failed"),
        (RuntimeError("x" * 5000), "RUNTIME_ERROR", "x" * MESSAGE_CHARS_MAX),
        (DeliveryFailed("busy", code="HTTP_503"), "HTTP_503", "busy"),
        (asyncio.CancelledError(), "CANCELLED_ERROR", ""),
    ],
    ids=[
        "any error",
        "its own timeout",
        "a secret",
        "credentials",
        "too long",
        "a chosen code",
        "a stray cancellation",
    ],
)
async def test_a_failure_is_recorded_bounded_and_without_secrets(
    database: Database, failure: BaseException, code: str, message: str
) -> None:
    async def deliver(delivery: Delivery) -> None:
        del delivery
        raise failure

    surroundings = Surroundings(sleep=never, redact=lambda text: text.replace("hunter2", "***"))
    async with opened(database) as plane, relaying(database, deliver, surroundings=surroundings) as relay:
        await request(plane.scope("t_acme", actor="agent:a"), "SEND_EMAIL")
        await relay.drain()
    ((status, error),) = database.query("SELECT status, error_details FROM perdure.outbox_events")
    assert (status, error["code"], error["message"]) == ("FAILED", code, message)


@pytest.mark.parametrize(
    "wrong",
    [
        {"deliveries_max": 0},
        {"lease_s": 0.5},
        {"lease_s": 10, "delivery_timeout_s": 10},
        {"delivery_timeout_s": 0},
        {"poll_s": float("inf")},
        {"reap_interval_s": 0},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Invalid):
        RelaySettings(**wrong)  # type: ignore[arg-type]


def test_deliveries_at_once_have_a_limit() -> None:
    assert RelaySettings(deliveries_max=DELIVERIES_MAX).deliveries_max == DELIVERIES_MAX
    with pytest.raises(LimitExceeded, match="deliveries_max"):
        RelaySettings(deliveries_max=DELIVERIES_MAX + 1)


@pytest.mark.parametrize("deliverers", [{"send_email": Deliveries()}, {"SEND_EMAIL": None}], ids=["no type", "no call"])
async def test_what_is_no_deliverer_is_refused(database: Database, deliverers: dict[str, Deliveries]) -> None:
    with pytest.raises(Invalid):
        async with relaying(database, deliverers):
            pass
