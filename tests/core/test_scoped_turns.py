"""The turns of a scope as a store of turns: the same answers, and nothing of any other space."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.adapters.objectstore import opening
from perdure.core.environment import system_environment
from perdure.core.scoped_turns import ScopedTurns
from perdure.domain.container import Space
from perdure.domain.object import object_digest
from perdure.domain.turn import NewTurn
from perdure.errors import NotFound
from perdure.testing.routed import RoutedTenant, given, routed_plane

TIMEOUT_S = 30.0
TURN = NewTurn(type_id="t", type_version=1, payload=b"said", idempotency_key="k")


@pytest.fixture
async def acme() -> AsyncIterator[RoutedTenant]:
    environment = system_environment()
    driver = MemoryDriver(MemoryStore())
    await driver.open()
    objects = opening.memory(mode="lab", env="dev", environment=environment)
    backend = DocumentBackend(driver, mode="lab", env="dev", environment=environment, objects=objects)
    async with routed_plane([given("main", backend)], backend.routes, environment=environment) as plane:
        tenant = plane.tenant("t_acme")
        for kind in ("turns", "objects"):
            await tenant.routes.set(kind, "main")
        yield tenant
    await backend.close()


async def test_what_is_done_through_it_is_what_the_facade_shows(acme: RoutedTenant) -> None:
    space = acme.scope.space
    store = ScopedTurns(acme.turns, space)
    context = await store.create(space, labels=("l",), timeout_s=TIMEOUT_S)
    first = await store.append(space, context.context_id, TURN, timeout_s=TIMEOUT_S)
    assert (await store.append(space, context.context_id, TURN, timeout_s=TIMEOUT_S)).replayed
    fork = await store.create(space, base_turn_id=first.turn_id, timeout_s=TIMEOUT_S)
    named = replace(TURN, payload=b"there", idempotency_key=None, parent_turn_id=first.turn_id)
    other = await store.create(space, timeout_s=TIMEOUT_S)
    led = await store.append(space, other.context_id, named, rebase=True, timeout_s=TIMEOUT_S)
    root = await store.put_blob(space, b"tree", timeout_s=TIMEOUT_S)
    await store.attach(space, first.turn_id, root, timeout_s=TIMEOUT_S)
    assert await store.publish_bundle(space, "b.v1", b"{}", timeout_s=TIMEOUT_S)

    assert await store.head(space, fork.context_id, timeout_s=TIMEOUT_S) == await acme.turns.head(fork.context_id)
    assert await store.get(space, led.turn_id, timeout_s=TIMEOUT_S) == await acme.turns.get(led.turn_id)
    page = await store.list(space, other.context_id, before_turn_id=led.turn_id, limit=9, timeout_s=TIMEOUT_S)
    assert [turn.turn_id for turn in page] == [first.turn_id]
    labelled = await store.contexts(space, label="l", limit=9, timeout_s=TIMEOUT_S)
    assert [one.context_id for one in labelled.items] == [context.context_id]
    assert await store.snapshot(space, led.turn_id, timeout_s=TIMEOUT_S) == root
    assert await store.find_blob(space, root, timeout_s=TIMEOUT_S) == b"tree"
    assert await store.find_bundle(space, "b.v1", timeout_s=TIMEOUT_S) == b"{}"
    assert (await store.bundles(space, limit=9, timeout_s=TIMEOUT_S)).items == ("b.v1",)


async def test_nothing_of_another_space_is_asked_for_or_written(acme: RoutedTenant) -> None:
    store = ScopedTurns(acme.turns, acme.scope.space)
    context = await acme.turns.create()
    ref = await acme.turns.append(context.context_id, b"said", type_id="t")
    digest = object_digest(b"tree")
    other: Space = replace(acme.scope.space, tenant="t_other")
    for asked in (
        store.create(other, timeout_s=TIMEOUT_S),
        store.append(other, context.context_id, TURN, timeout_s=TIMEOUT_S),
        store.head(other, context.context_id, timeout_s=TIMEOUT_S),
        store.get(other, ref.turn_id, timeout_s=TIMEOUT_S),
        store.list(other, context.context_id, limit=1, timeout_s=TIMEOUT_S),
        store.contexts(other, limit=1, timeout_s=TIMEOUT_S),
        store.publish_bundle(other, "b.v1", b"{}", timeout_s=TIMEOUT_S),
        store.find_bundle(other, "b.v1", timeout_s=TIMEOUT_S),
        store.bundles(other, limit=1, timeout_s=TIMEOUT_S),
        store.put_blob(other, b"tree", timeout_s=TIMEOUT_S),
        store.find_blob(other, digest, timeout_s=TIMEOUT_S),
        store.attach(other, ref.turn_id, digest, timeout_s=TIMEOUT_S),
        store.snapshot(other, ref.turn_id, timeout_s=TIMEOUT_S),
    ):
        with pytest.raises(NotFound, match="space"):
            await asked
    assert (await acme.turns.head(context.context_id)).head_turn_id == ref.turn_id
    assert await acme.turns.find_bundle("b.v1") is None
    assert await acme.turns.find_blob(digest) is None
