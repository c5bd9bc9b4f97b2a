"""Webhooks from request to record: signed, tried again under one key, and kept inside outside lab."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.compose import open_plane
from perdure.compose.relay import WebhookSettings, open_relay
from perdure.testing.clock import DatabaseClock
from tests.conftest import MakeDatabase
from tests.support.databases import Database
from tests.support.receiver import Answer, Receiver, receiving
from tests.support.relaying import opened


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


async def test_a_webhook_is_signed_and_repeated_under_one_key(
    database: Database, receiver: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "hook").write_text("whsec_" + base64.b64encode(b"k" * 32).decode() + "\n")
    clock = DatabaseClock(database.dsn("owner"))
    receiver.answers = [Answer(status=503, headers={"Retry-After": "60"}), Answer(status=202, body=b"queued")]
    spec = {"url": f"{receiver.url}/hook", "body": {"n": 1}, "secret_ref": f"secret://file{tmp_path}/hook"}
    async with opened(database) as plane:
        acme = plane.scope("t_acme", actor="agent:a")
        run = await acme.runs.start("notify", signal=("test", "1"), input={})
        async with acme.change(run) as change:
            change.effect(change.step("decide", output={}), "WEBHOOK_CALL", spec)
            change.complete_run()
    relaying = open_relay(
        database.dsn("relay"), webhooks=WebhookSettings(), secret_directories=(tmp_path,), secret_env_prefix="NO_"
    )
    async with relaying as relay:
        await relay.drain()
        assert database.query("SELECT status FROM perdure.effects") == [("FAILED",)]
        await clock.advance(67)
        await relay.drain()
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == second.headers["idempotency-key"]
    assert receiver.duplicates == 1
    assert second.headers["webhook-signature"].startswith("v1,")
    ((result,),) = database.query("SELECT execution_result FROM perdure.effects")
    assert result == {"status": 202, "body": "queued", "truncated": False}


@pytest.mark.parametrize("allowed", [None, frozenset({"127.0.0.1"})], ids=["any host", "named"])
async def test_outside_lab_webhooks_stay_out_of_the_own_network_unless_it_is_named(
    make_database: MakeDatabase, receiver: Receiver, allowed: frozenset[str] | None
) -> None:
    database = make_database("pg18", mode="saas", env="prod")
    owner: dict[str, Any] = {"owner_dsn": database.dsn("owner")}
    async with open_plane(database.dsn("app"), mode="saas", env="prod", **owner) as plane:
        await plane.tenants.add("t_acme")
        acme = plane.scope("t_acme", actor="agent:a")
        run = await acme.runs.start("notify", signal=("test", "1"), input={})
        async with acme.change(run) as change:
            change.effect(change.step("decide", output={}), "WEBHOOK_CALL", {"url": receiver.url})
    async with open_relay(database.dsn("relay"), webhooks=WebhookSettings(hosts_allowed=allowed)) as relay:
        await relay.drain()
    ((code,),) = database.query("SELECT error_details ->> 'code' FROM perdure.outbox_events")
    assert code == (None if allowed else "ADDRESS_REFUSED")
    assert len(receiver.requests) == (1 if allowed else 0)
