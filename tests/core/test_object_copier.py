"""One space of objects made the same on another store: only while that may be done, and only what was verified."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from perdure.adapters.objectstore import opening
from perdure.core.copy_objects import ObjectCopier
from perdure.core.copy_sync import Guard, Tally
from perdure.domain.container import Space, make_space
from perdure.errors import DigestMismatch, StaleVersion
from perdure.ports.objects import ObjectStore, OpenObject
from perdure.testing.environment import fake_environment

SPACE = make_space(tenant="t_acme", mode="lab", env="dev", project="default")
TIMEOUT_S = 5.0


def store() -> ObjectStore:
    return opening.memory(mode="lab", env="dev", environment=fake_environment())


async def kept(objects: ObjectStore) -> set[str]:
    return {ref.digest for ref in (await objects.list(SPACE, limit=100, timeout_s=TIMEOUT_S)).objects}


async def put(objects: ObjectStore, content: bytes) -> str:
    return (await objects.put(SPACE, content, timeout_s=TIMEOUT_S)).digest


async def allowed() -> None:
    """Nobody has taken the copy over."""


async def refused() -> None:
    raise StaleVersion("somebody has taken the copy over")


def copier(source: ObjectStore, target: ObjectStore, *, guard: Guard = allowed) -> ObjectCopier:
    return ObjectCopier(source, target, tally=Tally(), guard=guard, timeout_s=TIMEOUT_S)


@pytest.mark.parametrize("still", [False, True])
async def test_a_copy_that_was_taken_over_neither_puts_nor_removes(*, still: bool):
    source, target = store(), store()
    await put(source, b"ours")
    left = await put(target, b"left behind")
    with pytest.raises(StaleVersion):
        await copier(source, target, guard=refused).sync(SPACE, still=still)
    with pytest.raises(StaleVersion):
        await copier(source, target, guard=refused).remove_surplus(SPACE)
    assert await kept(target) == {left}


async def test_looking_at_what_is_there_needs_no_permission():
    source, target = store(), store()
    for objects in (source, target):
        await put(objects, b"the same")
    await copier(source, target, guard=refused).sync(SPACE, still=True)
    assert await copier(source, target, guard=refused).remove_surplus(SPACE) == 0


class Lying:
    """A store that gives the bytes of one object for every other, and says that they were verified."""

    def __init__(self, objects: ObjectStore, given: str) -> None:
        self._objects = objects
        self._given = given
        self.list = objects.list
        self.find = objects.find

    async def get(self, space: Space, digest: str, *, timeout_s: float) -> OpenObject:
        """Other bytes."""
        asked = await self._objects.get(space, digest, timeout_s=timeout_s)
        await asked.chunks.aclose()
        given = await self._objects.get(space, self._given, timeout_s=timeout_s)
        return replace(asked, chunks=given.chunks)


async def test_what_the_source_verified_the_target_verifies_again():
    source, target = store(), store()
    given = await put(source, b"one")
    other = await put(source, b"two")
    lying = cast("ObjectStore", Lying(source, given))
    with pytest.raises(DigestMismatch):
        await copier(lying, target).sync(SPACE, still=False)
    assert other not in await kept(target)


async def test_one_object_of_many_pieces_is_the_same_there():
    source, target = store(), store()
    content = b"ab" * 3_000_000
    digest = await put(source, content)
    await copier(source, target).sync(SPACE, still=False)
    opened = await target.get(SPACE, digest, timeout_s=TIMEOUT_S)
    assert b"".join([chunk async for chunk in opened.chunks]) == content
