"""What documents of units of work hold, what becomes of those that are damaged, and gets that are not one moment's."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import pytest

from perdure.adapters.documents import work_keys
from perdure.adapters.documents.keys import audit_sort
from perdure.adapters.memory.driver import MemoryDriver
from perdure.domain.work import WorkStatus, unit_container
from perdure.errors import Corrupt, Invalid
from perdure.ports.documents import Document, Expect, Put
from perdure.testing.contracts.stores import TIMEOUT_S, audit
from perdure.testing.contracts.work_opening import NOON, Desk, attribute, first, following, values
from tests.adapters.documents.work_clients import SPACE, World


class OneByOneDriver(MemoryDriver):
    """Reads the documents of a get one after another, and lets something happen in between, once."""

    def __init__(self, world: World) -> None:
        super().__init__(world.store)
        self.between: list[Put] = []
        self.partition = ""

    async def get(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Mapping[str, Document]:
        found: dict[str, Document] = {}
        for sort in sorts:
            found |= await super().get(partition, [sort], timeout_s=timeout_s)
            if self.between and partition == self.partition:
                writes, self.between = self.between, []
                await self.commit(partition, writes, commit_id="between", timeout_s=timeout_s)
        return found


async def test_a_unit_is_never_read_with_attributes_of_another_version() -> None:
    world = World()
    async with world.client() as desk:
        unit = await desk.save(first(attributes=[attribute("a", "1")]))
        name = work_keys.unit_partition(SPACE, unit.unit_id)
        sorts = (work_keys.UNIT, work_keys.ATTRIBUTES)
        driver = OneByOneDriver(world)
        await driver.open()
        old = await driver.get(name, sorts, timeout_s=1.0)
        saved = await desk.save(following(unit, attributes=[attribute("a", "2", version=2, sequence=2)]))
        new = await driver.get(name, sorts, timeout_s=1.0)
        # As it was, until somebody has read one of the two.
        for document in old.values():
            await driver.commit(name, [_put(document)], commit_id="before", timeout_s=1.0)
        driver.partition, driver.between = name, [_put(document) for document in new.values()]
    async with world.client(lambda _: driver) as reader:
        stored = await reader.find(unit.unit_id)
        assert stored is not None
        assert (stored.unit, values(stored)) == (saved, {"a": "2"})
        assert driver.between == []


async def test_an_audit_record_is_kept_in_the_commit_of_the_unit() -> None:
    world = World()
    async with world.client() as desk:
        made, late = first(), first()
        record = audit(unit_container(SPACE, made.unit.unit_id), "save", NOON)
        await desk.store.commit(SPACE, made, audit=record, timeout_s=TIMEOUT_S)
        last = following(made.unit, WorkStatus.FAILED)
        ended = replace(record, audit_id=late.unit.unit_id)
        await desk.store.delete(SPACE, made.unit.unit_id, last=last, audit=ended, timeout_s=TIMEOUT_S)
    expected = sorted(audit_sort(one.audit_id) for one in (record, ended))
    assert world.sorts("a.", partitions="work.") == expected


async def test_a_value_that_is_not_json_is_refused() -> None:
    world = World()
    async with world.client() as desk:
        for text in ("", "nonsense", "{", "1 2", " 1", "1\n", "\ud800", "[" * 9_999):
            with pytest.raises(Invalid) as caught:
                await desk.commit(first(attributes=[attribute("a", text)]))
            assert "nonsense" not in str(caught.value)
        assert await desk.units() == []


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"unit":1}', b"\xff"])
async def test_a_document_that_cannot_be_read_is_an_error_and_never_nothing(body: bytes) -> None:
    for sort in (work_keys.UNIT, work_keys.ATTRIBUTES, work_keys.entry_sort(1), work_keys.version_sort(1, "a", 1)):
        world = World()
        async with world.client() as desk:
            unit = await desk.save(first(attributes=[attribute("a")]))
            driver = MemoryDriver(world.store)
            await driver.open()
            put = Put(sort=sort, version=99, body=body, expect=Expect.PRESENT)
            name = work_keys.unit_partition(SPACE, unit.unit_id)
            await driver.commit(name, [put], commit_id="damage", timeout_s=1.0)
            for read in reads_of(desk, unit.unit_id, sort):
                with pytest.raises(Corrupt):
                    await read


def reads_of(desk: Desk, unit_id: UUID, sort: str) -> list[Awaitable[object]]:
    """What cannot be told without a document."""
    if sort == work_keys.UNIT:
        return [desk.find(unit_id), desk.versions(unit_id), desk.units()]
    if sort == work_keys.ATTRIBUTES:
        return [desk.find(unit_id)]
    if sort == work_keys.entry_sort(1):
        return [desk.entries(unit_id), desk.find_history()]
    return [desk.versions(unit_id)]


def _put(document: Document) -> Put:
    return Put(sort=document.sort, version=document.version, body=document.body, expect=Expect.ANY)
