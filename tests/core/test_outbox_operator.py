"""The outbox in the hands of an operator, across tenants and by command."""

from __future__ import annotations

import json
from uuid import UUID, uuid5

import pytest
from typer.testing import CliRunner

from perdure.cli.commands import outbox as command
from perdure.core.outbox import Outbox
from perdure.domain.ids import PERDURE_NAMESPACE
from perdure.domain.limits import PAGE_SIZE_MAX
from perdure.errors import Invalid, LimitExceeded, NotFound
from perdure.ports.relay import DeliveryFailed
from perdure.testing.clock import DatabaseClock
from tests.support.databases import Database, run_apart
from tests.support.relaying import Deliveries, opened, relaying, request, store_of

UNKNOWN = uuid5(PERDURE_NAMESPACE, "nothing has this id")


async def prepare(database: Database) -> dict[str, UUID]:
    """Of two tenants: one delivered, one dead and one buried by it, one failed, one pending."""
    dead = DeliveryFailed("no", code="HTTP_410", retryable=False)
    by_type = {
        "TAKE_NOTE": Deliveries(),
        "NOTIFY_USER": Deliveries(failures=[dead]),
        "SEND_EMAIL": Deliveries(failures=[RuntimeError("later")]),
    }
    async with opened(database) as plane, relaying(database, by_type) as relay:
        acme, other = plane.scope("t_acme", actor="agent:a"), plane.scope("t_other", actor="agent:b")
        _, (done,) = await request(acme, "TAKE_NOTE", source_id="1")
        _, (lost, buried) = await request(other, "NOTIFY_USER", "TAKE_NOTE", source_id="2")
        _, (failed,) = await request(acme, "SEND_EMAIL", source_id="3")
        _, (pending,) = await request(acme, "PLANT_TREE", source_id="4")
        await relay.drain()
    effects = {"done": done, "lost": lost, "buried": buried, "failed": failed, "pending": pending}
    return {name: effect.outbox_id for name, effect in effects.items()}


async def test_entries_of_all_tenants_are_listed_newest_first_page_by_page(database: Database) -> None:
    ids = await prepare(database)
    async with store_of(database.dsn("relay")) as store:
        outbox = Outbox(store, actor="user:ann", source="manual:cli")
        seen, cursor = [], None
        while True:
            page = await outbox.list(limit=2, cursor=cursor)
            seen += [listed.entry.id for listed in page]
            cursor = page.next_cursor
            if cursor is None:
                break
            with pytest.raises(Invalid, match="cursor"):
                await outbox.list(status="FAILED", cursor=cursor)
        assert len(seen) == 5
        assert set(seen) == set(ids.values())
        assert seen[0] == ids["pending"]

        async def found(**which: object) -> set[UUID]:
            return {listed.entry.id for listed in await outbox.list(**which)}  # type: ignore[arg-type]

        assert await found(status="DEAD_LETTER") == {ids["lost"], ids["buried"]}
        assert await found(tenant="t_acme") == {ids["done"], ids["failed"], ids["pending"]}
        assert await found(effect_type="TAKE_NOTE") == {ids["done"], ids["buried"]}
        assert await found(tenant="t_nobody") == set()
        run_id = (await outbox.get(ids["lost"])).entry.ordering_key
        assert await found(run_id=run_id) == {ids["lost"], ids["buried"]}
        with pytest.raises(LimitExceeded):
            await outbox.list(limit=PAGE_SIZE_MAX + 1)
        assert len(await outbox.list(limit=PAGE_SIZE_MAX)) == 5


async def test_an_entry_is_found_in_its_tenant_only(database: Database) -> None:
    ids = await prepare(database)
    async with store_of(database.dsn("relay")) as store:
        outbox = Outbox(store, actor="user:ann", source="manual:cli")
        assert (await outbox.get(ids["lost"])).tenant == "t_other"
        with pytest.raises(NotFound):
            await outbox.get(ids["lost"], tenant="t_acme")
        with pytest.raises(NotFound, match="perdure outbox list"):
            await outbox.requeue(UNKNOWN, reason="try")


async def test_pruning_keeps_whatever_was_not_delivered(database: Database) -> None:
    ids = await prepare(database)
    clock = DatabaseClock(database.dsn("owner"))
    async with store_of(database.dsn("relay")) as store:
        outbox = Outbox(store, actor="user:ann", source="manual:cli")
        assert await outbox.prune() == 0
        await clock.advance(86_401)
        assert await outbox.prune(tenant="t_other") == 0
        assert await outbox.prune() == 1
        left = {listed.entry.id for listed in await outbox.list()}
        with pytest.raises(Invalid):
            await outbox.prune(older_than_s=-1)
    assert left == set(ids.values()) - {ids["done"]}
    assert database.query("SELECT count(*) FROM perdure.effects") == [(5,)], "the keys live on in the effects"


async def test_statistics_say_how_far_behind_delivery_is(database: Database) -> None:
    await prepare(database)
    clock = DatabaseClock(database.dsn("owner"))
    await clock.advance(100)
    async with store_of(database.dsn("relay")) as store:
        outbox = Outbox(store, actor="user:ann", source="manual:cli")
        found = await outbox.stats()
        assert {(count.effect_type, str(count.status)): count.entries for count in found.counts} == {
            ("TAKE_NOTE", "COMPLETED"): 1,
            ("NOTIFY_USER", "DEAD_LETTER"): 1,
            ("TAKE_NOTE", "DEAD_LETTER"): 1,
            ("SEND_EMAIL", "FAILED"): 1,
            ("PLANT_TREE", "PENDING"): 1,
        }
        assert found.due == 2
        assert found.oldest_due_s is not None
        assert 99 < found.oldest_due_s < 160
        nobody = await outbox.stats(tenant="t_nobody")
    assert (nobody.counts, nobody.due, nobody.oldest_due_s) == ((), 0, None)


def test_the_commands_list_show_requeue_count_and_prune(database: Database) -> None:
    ids = run_apart(prepare(database))
    dsn = ["--dsn", database.dsn("relay")]
    runner = CliRunner()

    def run(*arguments: str) -> str:
        done = runner.invoke(command.app, [*arguments, *dsn])
        assert done.exit_code == 0, done.output
        return done.stdout

    listed = run("list", "--status", "DEAD_LETTER")
    assert f"{ids['lost']}  DEAD_LETTER  NOTIFY_USER" in listed
    assert "HTTP_410" in listed
    assert str(ids["done"]) not in listed
    page = json.loads(run("list", "--limit", "1", "--json"))
    assert page["entries"][0]["id"] == str(ids["pending"])
    assert "there are more: --cursor " in run("list", "--limit", "1")
    assert "payload" in run("show", str(ids["lost"]))
    assert json.loads(run("show", str(ids["lost"]), "--json"))["tenant"] == "t_other"
    assert "due now: 1" in run("stats")
    assert json.loads(run("stats", "--json"))["due"] == 1
    revived = run("requeue", str(ids["lost"]), "--reason", "the user is back", "--actor", "user:ann")
    assert revived == f"{ids['lost']} is PENDING again and due now\n"
    assert database.query("SELECT actor FROM perdure.audit_trail") == [("user:ann",)]
    assert run("prune", "--older-than-s", "0") == "1 delivered entries deleted\n"


def test_a_command_that_fails_says_why_and_exits_with_1(database: Database) -> None:
    done = CliRunner().invoke(command.app, ["show", str(UNKNOWN), "--dsn", database.dsn("relay")])
    assert done.exit_code == 1
    assert f"no outbox entry {UNKNOWN}" in done.stderr
