"""The facade of turns: which route a call takes, what is audited, and whose cursors are whose."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver
from perdure.adapters.objectstore import opening
from perdure.core.turns import Turns
from perdure.domain.container import Container
from perdure.domain.turn import (
    INLINE_BYTES_MAX,
    bundles_container,
    content_hash,
    context_container,
    snapshots_container,
)
from perdure.errors import BackendDown, Invalid, KeyReused, LimitExceeded, NoRoute, NotFound
from perdure.testing.environment import fake_environment
from perdure.testing.routed import RoutedPlane, RoutedTenant, given, routed_plane
from perdure.testing.watched import WatchedBackend, failing

ACME = "t_acme"
LARGE = b"secret" * INLINE_BYTES_MAX
WRITES = {"logs.append", "logs.configure", "rows.write", "objects.put"}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A plane on two watched backends that keep objects as well."""

    plane: RoutedPlane
    main: WatchedBackend
    spare: WatchedBackend

    @property
    def acme(self) -> RoutedTenant:
        """A tenant, and who asks for it."""
        return self.plane.tenant(ACME, actor="user:ann", request_id="r-1", trace_id="t-1")

    @property
    def turns(self) -> Turns:
        """The tenant's turns."""
        return self.acme.turns

    async def kept(self, container: Container, *, of: str = "logs") -> list[tuple[str, str, str]]:
        """The audit records that are kept beside what they tell of."""
        records = await getattr(self.main, of).audits(container, limit=100, timeout_s=5)
        return [(record.operation, record.outcome, record.actor) for record in records]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    environment = fake_environment()
    opened = []
    for _ in range(2):
        objects = opening.memory(mode="lab", env="dev", environment=environment)
        backend = DocumentBackend(MemoryDriver(), mode="lab", env="dev", environment=environment, objects=objects)
        await backend.open()
        opened.append(backend)
    main, spare = map(WatchedBackend, opened)
    async with routed_plane(
        [given("main", main), given("spare", spare)], opened[0].routes, environment=environment
    ) as plane:
        yield World(plane=plane, main=main, spare=spare)
    for backend in opened:
        await backend.close()


async def settled(world: World, *kinds: str, audit: str | None = None) -> Turns:
    """The tenant's turns, once it has routes."""
    for kind in kinds:
        await world.acme.routes.set(kind, "main", audit=audit)  # type: ignore[arg-type]  # one of the two
    return world.turns


def audits_in(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.__dict__["audit"] for record in caplog.records if record.name == "perdure.audit"]


CALLS: dict[str, Callable[[Turns], Awaitable[object]]] = {
    "create": lambda turns: turns.create(),
    "fork": lambda turns: turns.fork("1"),
    "append": lambda turns: turns.append("1", b"x", type_id="t"),
    "head": lambda turns: turns.head("1"),
    "get": lambda turns: turns.get("1"),
    "list": lambda turns: turns.list("1"),
    "iterate": lambda turns: anext(turns.iterate("1")),
    "contexts": lambda turns: turns.contexts(),
    "publish_bundle": lambda turns: turns.publish_bundle("b", b"{}"),
    "bundles": lambda turns: turns.bundles(),
    "find_bundle": lambda turns: turns.find_bundle("b"),
    "put_blob": lambda turns: turns.put_blob(b"x"),
    "find_blob": lambda turns: turns.find_blob("0" * 64),
    "attach": lambda turns: turns.attach("16777217", "0" * 64),
    "snapshot": lambda turns: turns.snapshot("16777217"),
    "purge": lambda turns: anext(turns.purge()),
    "hold": lambda turns: turns.hold("1", reason="case"),
    "release_hold": lambda turns: turns.release_hold(retention_class="c", reason="case"),
    "holds": lambda turns: turns.holds(),
}


@pytest.mark.parametrize("name", CALLS)
async def test_no_call_is_answered_without_a_route(world: World, name: str):
    with pytest.raises(NoRoute) as caught:
        await CALLS[name](world.turns)
    assert caught.value.code == "turns.missing_route"
    assert world.main.calls == world.spare.calls == []


@pytest.mark.parametrize("name", CALLS)
async def test_a_backend_that_is_away_is_named_with_the_kind(world: World, name: str):
    turns = await settled(world, "turns", "objects")
    world.main.before = failing(BackendDown("gone"))
    with pytest.raises(BackendDown) as caught:
        await CALLS[name](turns)
    assert caught.value.code in {"turns.backend_unavailable", "objects.backend_unavailable"}
    assert caught.value.code.startswith("turns.") or "blob" in name


async def test_a_large_payload_without_a_route_of_objects_writes_nothing(world: World):
    turns = await settled(world, "turns")
    context = await turns.create()
    mark = len(world.main.calls)
    with pytest.raises(NoRoute) as caught:
        await turns.append(context.context_id, LARGE, type_id="t", idempotency_key="k")
    assert caught.value.code == "objects.missing_route"
    assert WRITES.isdisjoint(world.main.calls[mark:])
    assert await turns.head(context.context_id) == context
    for blob in (turns.put_blob(b"x"), turns.find_blob("0" * 64)):
        with pytest.raises(NoRoute):
            await blob
    limit = await turns.append(context.context_id, b"x" * INLINE_BYTES_MAX, type_id="t", idempotency_key="k")
    assert (limit.depth, limit.replayed) == (1, False)


async def test_a_large_payload_is_kept_where_objects_go_before_the_turn_that_has_it(world: World):
    turns = await settled(world, "turns")
    await world.acme.routes.set("objects", "spare")
    context = await turns.create()
    world.spare.before = failing(BackendDown("gone"), among="objects.put", times=1)
    with pytest.raises(BackendDown) as caught:
        await turns.append(context.context_id, LARGE, type_id="t")
    assert caught.value.code == "objects.backend_unavailable"
    assert (await turns.head(context.context_id)).head_depth == 0
    ref = await turns.append(context.context_id, LARGE, type_id="t")
    assert world.spare.calls[-1] == "objects.put"
    assert ref.content_hash == content_hash(LARGE)
    assert (await turns.get(ref.turn_id)).payload == LARGE
    assert await world.acme.objects.get(ref.content_hash) == LARGE
    assert await turns.find_blob(ref.content_hash) == LARGE


async def test_writes_are_audited_in_their_commit_where_the_route_says_so(
    world: World, caplog: pytest.LogCaptureFixture
):
    turns = await settled(world, "turns", "objects", audit="writes")
    with caplog.at_level(logging.INFO, logger="perdure.audit"):
        await write_all(turns)
    space = world.acme.scope.space
    by = ("committed", "user:ann")
    assert await world.kept(context_container(space, 1)) == [("create", *by), ("append", *by)]
    assert await world.kept(context_container(space, 2)) == [("fork", *by)]
    assert await world.kept(bundles_container(space), of="rows") == [("publish_bundle", *by)]
    assert await world.kept(snapshots_container(space, 1), of="rows") == [("attach", *by)]
    assert [(found["kind"], found["operation"], found["outcome"]) for found in audits_in(caplog)] == [
        ("turns", "create", "ok"),
        ("turns", "append", "ok"),
        ("turns", "fork", "ok"),
        ("turns", "publish_bundle", "ok"),
        ("objects", "put", "ok"),
        ("turns", "put_blob", "ok"),
        ("turns", "attach", "ok"),
    ]
    told = {"actor": "user:ann", "request_id": "r-1", "trace_id": "t-1", "tenant": ACME, "backend": "main"}
    assert all(found.items() >= told.items() for found in audits_in(caplog))
    assert "secret" not in caplog.text + repr(audits_in(caplog))


async def test_a_route_that_logs_only_keeps_no_record_and_a_refused_write_is_logged_with_its_code(
    world: World, caplog: pytest.LogCaptureFixture
):
    turns = await settled(world, "turns", "objects")
    await write_all(turns)
    space = world.acme.scope.space
    assert await world.kept(context_container(space, 1)) == []
    assert await world.kept(bundles_container(space), of="rows") == []
    with caplog.at_level(logging.INFO, logger="perdure.audit"):
        for refused, error in (
            (turns.append("1", b"other", type_id="t", idempotency_key="k"), KeyReused),
            (turns.append("77", b"x", type_id="t"), NotFound),
            (turns.fork("77"), NotFound),
            (turns.create(labels=["l" * 1_000]), LimitExceeded),
        ):
            with pytest.raises(error):
                await refused
    assert [(found["operation"], found["outcome"]) for found in audits_in(caplog)] == [
        ("append", "key_reused"),
        ("append", "not_found"),
        ("fork", "not_found"),
        ("create", "limit_exceeded"),
    ]


async def write_all(turns: Turns) -> None:
    context = await turns.create(labels=["secret label"])
    ref = await turns.append(context.context_id, b"secret", type_id="t", idempotency_key="k")
    await turns.fork(ref.turn_id)
    await turns.publish_bundle("b", b'{"secret": 1}')
    await turns.attach(ref.turn_id, await turns.put_blob(b"a secret tree"))


@pytest.mark.parametrize("label", [None, "run:7"])
async def test_contexts_are_listed_page_by_page(world: World, label: str | None):
    turns = await settled(world, "turns")
    made = [(await turns.create(labels=["run:7"])).context_id for _ in range(5)]
    found: list[str] = []
    cursor = None
    while True:
        page = await turns.contexts(label=label, cursor=cursor, limit=2)
        assert len(page.items) <= 2
        found += [context.context_id for context in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(found) == made
    assert len((await turns.contexts(label="other")).items) == 0


@pytest.mark.parametrize("label", [None, "run:7"])
async def test_a_cursor_of_contexts_is_good_where_it_was_given_only(world: World, label: str | None):
    turns = await settled(world, "turns")
    for _ in range(3):
        await turns.create(labels=["run:7"])
    cursor = (await turns.contexts(label=label, limit=2)).next_cursor
    assert cursor is not None
    await world.acme.routes.switch("turns", "spare", rationale="because a test wants it", data_stays=True)
    with pytest.raises(Invalid, match="begin again"):
        await turns.contexts(label=label, cursor=cursor)
    assert (await turns.contexts(label=label)).items == ()
    await world.acme.routes.switch("turns", "main", rationale="because a test wants it", data_stays=True)
    assert len((await turns.contexts(label=label, cursor=cursor)).items) == 1
    others = (await turns.contexts(label=None if label else "run:7", limit=2)).next_cursor
    for wrong in ("", "x", cursor.partition(".")[0], cursor.partition(".")[2], others):
        with pytest.raises(Invalid):
            await turns.contexts(label=label, cursor=wrong)


async def test_bundles_are_kept_byte_for_byte_and_listed_in_order(world: World):
    turns = await settled(world, "turns")
    made = {f"acme.v{number}": b'{"n": %d }' % number for number in (3, 1, 2)}
    for bundle_id, bundle in made.items():
        assert await turns.publish_bundle(bundle_id, bundle)
        assert not await turns.publish_bundle(bundle_id, bundle)
    with pytest.raises(KeyReused):
        await turns.publish_bundle("acme.v1", b'{"n":1}')
    first = await turns.bundles(limit=2)
    rest = await turns.bundles(after=first.next_cursor, limit=2)
    assert (*first.items, *rest.items) == ("acme.v1", "acme.v2", "acme.v3")
    assert rest.next_cursor is None
    assert {bundle_id: await turns.find_bundle(bundle_id) for bundle_id in made} == made
    assert await turns.find_bundle("acme.v4") is None
    assert (await world.plane.tenant(ACME, project="p2").turns.bundles()).items == ()


async def test_each_scope_has_turns_of_its_own(world: World):
    turns = await settled(world, "turns")
    context = await turns.create(labels=["l"])
    ref = await turns.append(context.context_id, b"x", type_id="t")
    for other in (world.plane.tenant(ACME, project="p2"), world.plane.tenant(ACME, surface="s")):
        assert (await other.turns.contexts()).items == ()
        assert (await other.turns.contexts(label="l")).items == ()
        with pytest.raises(NotFound):
            await other.turns.head(context.context_id)
        with pytest.raises(NotFound):
            await other.turns.get(ref.turn_id)


async def test_two_processes_append_to_one_chain(world: World):
    turns = await settled(world, "turns")
    environment = fake_environment()
    specs = [given("main", world.main), given("spare", world.spare)]
    async with routed_plane(specs, world.main.routes, environment=environment) as plane:
        other = plane.tenant(ACME).turns
        context = await turns.create()
        for number in range(6):
            writer = other if number % 2 else turns
            ref = await writer.append(context.context_id, bytes([number]), type_id="t", idempotency_key=f"k{number}")
            assert (ref.depth, ref.replayed) == (number + 1, False)
            reader = turns if number % 2 else other
            again = await reader.append(context.context_id, bytes([number]), type_id="t", idempotency_key=f"k{number}")
            assert (again.turn_id, again.replayed) == (ref.turn_id, True)
    assert [turn.payload[0] for turn in await turns.list(context.context_id)] == list(range(6))
