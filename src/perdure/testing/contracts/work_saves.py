"""Saving: versions, requests, attributes, and that all of a save is kept or nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from perdure.domain.canonical import JsonObject
from perdure.domain.work import HistoryEvent, WorkCommitted, WorkStatus, WorkUnit, unit_container
from perdure.errors import Forbidden, KeyReused, StaleVersion, Unsupported
from perdure.testing.contracts.rows_opening import outcomes
from perdure.testing.contracts.stores import TIMEOUT_S, OpenAnother, audit, new_id
from perdure.testing.contracts.work_opening import (
    HASH,
    NOON,
    ODD,
    Desk,
    WorkOpening,
    at,
    attribute,
    entry,
    first,
    following,
    values,
)

# In the order of key and version; what these hold is what separates names elsewhere.
KEYS = ("", " ", "-", ".", "/", "A", "a", "a.b", "a/b", "ab", "é", "\ue000", "😀")


class WorkSavesContract(WorkOpening):
    """What a save keeps, and when it is refused."""

    async def test_all_of_a_save_comes_back_as_it_was(self, desk: Desk) -> None:
        unit = WorkUnit(
            unit_id=new_id(),
            instance_id=ODD[0],
            schema="invoice/2",
            status=WorkStatus.PENDING,
            version=1,
            created_at=NOON + timedelta(microseconds=1),
            updated_at=NOON + timedelta(microseconds=999_999),
            history_sequence=2,
            history_hash="a" * 64,
            content_hash="b" * 64,
            hash_scheme="v1",
            target=WorkStatus.COMPLETED,
            interaction_id="😀",
            actor_id="user:ann@example.org",
            role_id="é" * 128,
            lease_owner="worker 1",
            heartbeat_at=at(0.000001),
            beats=3,
            interaction_count=4,
            interactions_max=10,
            retry_count=2,
        )
        metadata: JsonObject = {"rate": 1.5, "large": 2**53, "nested": [{"é": None}], "text": 'a "quoted" \\ one\n'}
        created = entry(unit, sequence=1, event=HistoryEvent.WORK_CREATED, reasoning="because\n😀", metadata=metadata)
        waived = replace(entry(unit, moment=at(0.000001)), previous_entry_hash="c" * 64, entry_hash="d" * 64)
        kept = attribute("amount", '{"$decimal":"1.50"}', actor_id="agent:planner")
        write = replace(first(), unit=unit, entries=(created, waived), attributes=(kept,))
        assert await desk.commit(write) == WorkCommitted(unit=unit, replayed=False)
        stored = await desk.load(unit)
        assert (stored.unit, stored.attributes) == (unit, {"amount": kept})
        assert await desk.entries(unit.unit_id) == [created, waived]

    async def test_what_nobody_made_is_not_there(self, desk: Desk) -> None:
        await desk.save(first())
        unknown = new_id()
        assert await desk.find(unknown) is None
        assert await desk.entries(unknown) == []
        assert await desk.versions(unknown) == []

    async def test_a_save_finds_the_version_before_its_own_or_writes_nothing(self, desk: Desk) -> None:
        unit = await desk.save(first())
        assert unit.version == 1
        assert (await desk.stale(first(unit_id=unit.unit_id))).detail["found"] == 1
        unit = await desk.save(following(unit, WorkStatus.ACTIVE))
        for version in (1, 2, 4, 9):
            late = following(replace(unit, version=version - 1, history_sequence=5))
            assert (await desk.stale(late)).detail["found"] == 2
        unknown = following(replace(unit, unit_id=new_id()))
        assert (await desk.stale(unknown)).detail["found"] == 0
        assert (await desk.load(unit)).unit == unit
        assert await desk.history(unit.unit_id) == [1, 2]
        assert await desk.find(unknown.unit.unit_id) is None

    async def test_of_sixteen_savers_of_one_version_one_wins(self, desk: Desk, open_another: OpenAnother) -> None:
        unit = await desk.save(first())
        rivals = await self.rivals(desk, open_another, 16)
        writes = [following(unit, attributes=[attribute("by", str(number), sequence=2)]) for number in range(16)]
        tries = await outcomes(*(rival.commit(write) for rival, write in zip(rivals, writes, strict=True)))
        (won,) = [number for number, one in enumerate(tries) if isinstance(one, WorkCommitted)]
        lost = [one for one in tries if isinstance(one, StaleVersion)]
        assert [one.detail["found"] for one in lost] == [2] * 15
        stored = await desk.load(unit)
        assert (stored.unit, values(stored)) == (writes[won].unit, {"by": str(won)})
        assert await desk.history(unit.unit_id) == [1, 2]
        assert await desk.versions(unit.unit_id) == [("by", 1)]
        assert [one.sequence for one in await desk.find_history()] == [1, 2]

    async def test_a_number_that_is_taken_refuses_all_of_a_save(self, desk: Desk) -> None:
        unit = await desk.save(first(attributes=[attribute("a"), attribute("b")]))
        taken = following(unit, WorkStatus.ACTIVE, attributes=[attribute("b", "2"), attribute("c")])
        assert (await desk.stale(taken)).detail["found"] == 1
        gap = following(replace(unit, history_sequence=0), WorkStatus.ACTIVE, attributes=[attribute("c")])
        assert (await desk.stale(gap)).detail["found"] == 1
        assert await desk.history(unit.unit_id) == [1]
        assert await desk.versions(unit.unit_id) == [("a", 1), ("b", 1)]
        stored = await desk.load(unit)
        assert (stored.unit, values(stored)) == (unit, {"a": "1", "b": "1"})
        assert await desk.units(status=WorkStatus.ACTIVE) == []
        assert len(await desk.find_history()) == 1

    async def test_a_repeated_request_changes_nothing_and_says_so(self, desk: Desk) -> None:
        made = replace(first(attributes=[attribute("a")]), request_id="r/1", fingerprint="f1")
        assert await desk.commit(made) == WorkCommitted(unit=made.unit, replayed=False)
        assert await desk.commit(made) == WorkCommitted(unit=made.unit, replayed=True)
        unit = await desk.save(following(made.unit, WorkStatus.ACTIVE))
        # However much came since.
        assert await desk.commit(made) == WorkCommitted(unit=unit, replayed=True)
        assert await desk.history(unit.unit_id) == [1, 2]

    async def test_a_request_that_is_done_is_not_another_one(self, desk: Desk) -> None:
        made = replace(first(), request_id="r", fingerprint="f1")
        unit = await desk.save(made)
        for write in (made, following(unit, WorkStatus.ACTIVE)):
            with pytest.raises(KeyReused):
                await desk.commit(replace(write, request_id="r", fingerprint="f2"))
        assert (await desk.load(unit)).unit == unit
        # A request belongs to its unit.
        other = replace(first(), request_id="r", fingerprint="f2")
        assert not (await desk.commit(other)).replayed

    async def test_a_request_sent_many_times_at_once_is_done_once(self, desk: Desk, open_another: OpenAnother) -> None:
        unit = await desk.save(first())
        rivals = await self.rivals(desk, open_another, 6)
        write = replace(following(unit, WorkStatus.ACTIVE), request_id="r", fingerprint="f")
        done = await outcomes(*(rival.commit(write) for rival in rivals))
        assert all(isinstance(one, WorkCommitted) and one.unit == write.unit for one in done), done
        assert [one.replayed for one in done if isinstance(one, WorkCommitted)].count(False) == 1
        assert await desk.units(status=WorkStatus.ACTIVE) == [write.unit]
        assert [one.history_id for one in await desk.find_history()][1:] == [write.entries[0].history_id]

    async def test_what_a_unit_was_made_with_stays(self, desk: Desk) -> None:
        unit = await desk.save(first())
        for other in (
            replace(unit, parent_id=new_id()),
            replace(unit, created_at=at(1)),
            replace(unit, instance_id="another"),
        ):
            with pytest.raises(Forbidden) as caught:
                await desk.commit(following(other))
            assert caught.value.code == "immutable"
        assert (await desk.load(unit)).unit == unit

    async def test_every_version_of_an_attribute_is_kept_in_order(self, desk: Desk) -> None:
        unit = await desk.save(first(attributes=[attribute(key) for key in reversed(KEYS)]))
        second = [attribute(key, "2", version=2, sequence=2) for key in KEYS]
        unit = await desk.save(following(unit, attributes=second))
        expected = [(key, version) for key in KEYS for version in (1, 2)]
        for limit in (7, 100):
            assert await desk.versions(unit.unit_id, limit=limit) == expected
        stored = await desk.load(unit)
        assert stored.attributes == {one.key: one for one in second}

    async def test_an_attribute_that_was_removed_is_a_version_without_a_value(self, desk: Desk) -> None:
        unit = await desk.save(first(attributes=[attribute("a"), attribute("b", "null")]))
        gone = attribute("a", None, version=2, sequence=2, actor_id="user:ann")
        unit = await desk.save(following(unit, attributes=[gone]))
        # A save of something else keeps them.
        unit = await desk.save(following(unit, WorkStatus.ACTIVE))
        stored = await desk.load(unit)
        assert stored.attributes == {"a": gone, "b": attribute("b", "null")}
        kept = await desk.store.attribute_versions(desk.space, unit.unit_id, limit=10, timeout_s=TIMEOUT_S)
        assert [one.value for one in kept] == ["1", None, "null"]

    async def test_values_come_back_digit_for_digit(self, desk: Desk) -> None:
        texts = ["1.0", "1.50", "-0.0", "1e400", "9" * 300, '"\\u00e9\\u0000"', '"é😀"', '{"b":1,"a":[true,null]}']
        written = {f"k{number}": text for number, text in enumerate(texts)}
        unit = await desk.save(first(attributes=[attribute(key, text) for key, text in written.items()]))
        assert values(await desk.load(unit)) == written
        kept = await desk.store.attribute_versions(desk.space, unit.unit_id, limit=100, timeout_s=TIMEOUT_S)
        assert [one.value for one in kept] == texts

    async def test_a_save_without_entries_is_a_version_more(self, desk: Desk) -> None:
        unit = await desk.save(first())
        write = replace(following(unit), entries=(), unit=replace(unit, version=2, interaction_count=1))
        assert await desk.save(write) == write.unit
        assert await desk.history(unit.unit_id) == [1]
        assert (await desk.load(unit)).unit.content_hash == HASH

    async def test_a_save_is_kept_with_its_audit_record(self, desk: Desk) -> None:
        write = first()
        record = audit(unit_container(desk.space, write.unit.unit_id), "save", NOON)
        committed = await desk.store.commit(desk.space, write, audit=record, timeout_s=TIMEOUT_S)
        assert committed.unit == write.unit

    async def test_a_store_that_joins_nothing_refuses_a_connection(self, desk: Desk) -> None:
        if self.joins:
            pytest.skip("this store joins transactions; what that means is tested where the connections are")
        write = first()
        with pytest.raises(Unsupported):
            await desk.store.commit(desk.space, write, connection=object(), timeout_s=TIMEOUT_S)
        with pytest.raises(Unsupported):
            await desk.store.load(desk.space, write.unit.unit_id, connection=object(), timeout_s=TIMEOUT_S)
        assert await desk.find(write.unit.unit_id) is None
