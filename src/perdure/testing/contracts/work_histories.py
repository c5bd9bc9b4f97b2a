"""History: dense, in order, found by what it is about, and kept when its unit is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure.domain.work import HISTORY_PAGE_MAX, HistoryEvent, WorkStatus
from perdure.errors import Invalid, LimitExceeded, NotFound, StaleVersion
from perdure.testing.contracts.rows_opening import outcomes
from perdure.testing.contracts.stores import TIMEOUT_S, OpenAnother
from perdure.testing.contracts.work_opening import (
    OWNER,
    Desk,
    WorkOpening,
    at,
    attribute,
    entry,
    first,
    following,
)

ACTIVE, COMPLETED = WorkStatus.ACTIVE, WorkStatus.COMPLETED


class WorkHistoriesContract(WorkOpening):
    """What happened, of one unit and of all."""

    async def test_the_numbers_of_a_history_are_dense_and_read_both_ways(self, desk: Desk) -> None:
        unit = await desk.save(first())
        for _ in range(4):
            unit = await desk.save(following(unit))
        assert await desk.history(unit.unit_id) == [1, 2, 3, 4, 5]
        assert await desk.history(unit.unit_id, limit=2) == [1, 2]
        assert await desk.history(unit.unit_id, after=2, limit=2) == [3, 4]
        assert await desk.history(unit.unit_id, after=5) == []
        assert await desk.history(unit.unit_id, after=2**62) == []
        assert await desk.history(unit.unit_id, reverse=True) == [5, 4, 3, 2, 1]
        assert await desk.history(unit.unit_id, reverse=True, limit=2) == [5, 4]
        assert await desk.history(unit.unit_id, after=4, reverse=True, limit=2) == [3, 2]
        assert await desk.history(unit.unit_id, after=1, reverse=True) == []

    async def test_a_save_of_several_entries_keeps_all_of_them(self, desk: Desk) -> None:
        unit = await desk.save(first())
        moved = replace(unit, version=2, status=COMPLETED, history_sequence=3, updated_at=at(1))
        waiver = entry(unit, sequence=2, event=HistoryEvent.CONSTITUTIONAL_WAIVER, reasoning="the pilot said so")
        write = replace(
            following(unit),
            unit=moved,
            entries=(replace(waiver, new_status=COMPLETED), entry(moved, before=unit.status)),
        )
        assert await desk.save(write) == moved
        assert (await desk.entries(unit.unit_id))[1:] == list(write.entries)

    async def test_entries_are_found_by_instance_and_actor_in_the_order_of_time(self, desk: Desk) -> None:
        one = await desk.save(first(instance_id="one", actor_id="ann", created_at=at(1)))
        other = await desk.save(first(instance_id="two", actor_id="ann", created_at=at(0)))
        nobody = await desk.save(first(instance_id="one", created_at=at(3)))
        one = await desk.save(following(replace(one, actor_id="bob"), moment=at(2)))
        one = await desk.save(following(replace(one, actor_id="ann"), moment=at(2.000001)))
        expected = [
            (other.unit_id, 1, "two", "ann"),
            (one.unit_id, 1, "one", "ann"),
            (one.unit_id, 2, "one", "bob"),
            (one.unit_id, 3, "one", "ann"),
            (nobody.unit_id, 1, "one", None),
        ]
        for instance_id in (None, "one", "two", "three"):
            for actor_id in (None, "ann", "bob"):
                found = await desk.find_history(instance_id=instance_id, actor_id=actor_id, limit=2)
                assert [(one.unit_id, one.sequence, one.instance_id, one.actor_id) for one in found] == [
                    row for row in expected if instance_id in {None, row[2]} and actor_id in {None, row[3]}
                ], (instance_id, actor_id)

    async def test_entries_of_a_time_begin_with_it_and_end_before_it(self, desk: Desk) -> None:
        unit = await desk.save(first(actor_id="ann", created_at=at(0)))
        for moment in (1, 1, 1.000001, 3):
            unit = await desk.save(following(unit, moment=at(moment)))
        by_id = sorted((await desk.entries(unit.unit_id))[1:3], key=lambda one: one.history_id)
        for since, until, expected in (
            (None, None, [0, 1, 1, 1.000001, 3]),
            (1, None, [1, 1, 1.000001, 3]),
            (1.000001, 3, [1.000001]),
            (None, 1, [0]),
            (1, 1.000001, [1, 1]),
            (3.000001, None, []),
            (2, 2, []),
            (3, 1, []),
        ):
            bounds = [None if moment is None else at(moment) for moment in (since, until)]
            for instance_id, actor_id, limit in ((None, None, 1), ("instance-1", None, 100), (None, "ann", 100)):
                found = await desk.find_history(
                    instance_id=instance_id, actor_id=actor_id, since=bounds[0], until=bounds[1], limit=limit
                )
                assert [one.transition_timestamp for one in found] == [at(seconds) for seconds in expected]
        # What happened at the same time is in the order of its ids.
        assert await desk.find_history(since=at(1), until=at(1.000001)) == by_id

    async def test_a_save_that_was_refused_is_in_no_history(self, desk: Desk, open_another: OpenAnother) -> None:
        unit = await desk.save(first(actor_id="ann"))
        rivals = await self.rivals(desk, open_another, 4)
        await outcomes(*(rival.commit(following(unit, ACTIVE)) for rival in rivals))
        for found in (
            await desk.find_history(),
            await desk.find_history(instance_id="instance-1"),
            await desk.find_history(actor_id="ann"),
            await desk.find_history(instance_id="instance-1", actor_id="ann"),
        ):
            assert found == await desk.entries(unit.unit_id)
        assert len(found) == 2

    async def test_a_deleted_unit_is_gone_and_its_history_is_not(self, desk: Desk) -> None:
        parent = await desk.save(first(created_at=at(-1)))
        unit = await desk.save(first(parent=parent, actor_id="ann", attributes=[attribute("a"), attribute("b")]))
        unit = await desk.save(following(unit, ACTIVE, attributes=[attribute("a", "2", version=2, sequence=2)]))
        before = await desk.entries(unit.unit_id)
        last = await desk.delete(unit)
        assert await desk.find(unit.unit_id) is None
        assert await desk.versions(unit.unit_id) == []
        listed = [await desk.units(), await desk.units(instance_id="instance-1")]
        assert [[one.unit_id for one in units] for units in listed] == [[parent.unit_id]] * 2
        for nothing in (
            await desk.units(parent=parent),
            await desk.units(status=ACTIVE),
            await desk.units(status=ACTIVE, instance_id="instance-1"),
        ):
            assert nothing == []
        with pytest.raises(NotFound):
            await desk.beat(unit, at(5), owner=OWNER)
        assert await desk.entries(unit.unit_id) == [*before, *last.entries]
        assert [one.sequence for one in await desk.find_history(actor_id="ann")] == [1, 2, 3]

    async def test_a_deletion_compares_versions_as_a_save_does(self, desk: Desk) -> None:
        unit = await desk.save(first(attributes=[attribute("a")]))
        for stale, found in ((replace(unit, version=2), 1), (replace(unit, history_sequence=0), 1)):
            with pytest.raises(StaleVersion) as caught:
                await desk.delete(stale)
            assert caught.value.detail["found"] == found
        assert (await desk.load(unit)).unit == unit
        assert await desk.versions(unit.unit_id) == [("a", 1)]
        await desk.delete(unit)
        for attempt in (desk.delete(unit), desk.save(following(unit))):
            with pytest.raises(StaleVersion) as caught:
                await attempt
            assert caught.value.detail["found"] == 0
        assert await desk.history(unit.unit_id) == [1, 2]

    async def test_a_unit_made_again_goes_on_with_its_history_and_nothing_else(self, desk: Desk) -> None:
        made = replace(first(attributes=[attribute("a"), attribute("b")]), request_id="r", fingerprint="f")
        unit = await desk.save(made)
        await desk.delete(unit)
        assert (await desk.stale(replace(made, request_id=None, fingerprint=None))).detail["found"] == 0
        again = following(replace(unit, version=0, history_sequence=2), attributes=[attribute("b", "9")])
        again = replace(again, request_id="r", fingerprint="another")
        assert not (await desk.commit(again)).replayed
        stored = await desk.load(unit)
        assert (stored.unit, stored.attributes) == (again.unit, {"b": attribute("b", "9")})
        assert await desk.versions(unit.unit_id) == [("b", 1)]
        assert await desk.history(unit.unit_id) == [1, 2, 3]
        assert await desk.units() == await desk.units(status=WorkStatus.PENDING) == [again.unit]
        await desk.delete(stored.unit)
        assert (await desk.find(unit.unit_id), await desk.units()) == (None, [])

    async def test_a_page_of_history_has_a_size_and_a_cursor_is_one_of_ours(self, desk: Desk) -> None:
        unit = (await desk.save(first())).unit_id
        for limit, error in ((0, Invalid), (-1, Invalid), (HISTORY_PAGE_MAX + 1, LimitExceeded)):
            for attempt in (
                desk.history(unit, limit=limit),
                desk.find_history(limit=limit),
                desk.versions(unit, limit=limit),
            ):
                with pytest.raises(error):
                    await attempt
        assert await desk.history(unit, limit=HISTORY_PAGE_MAX) == [1]
        assert len(await desk.find_history(limit=HISTORY_PAGE_MAX)) == 1
        assert await desk.versions(unit, limit=HISTORY_PAGE_MAX) == []
        for cursor in ("", "nonsense", "~", "0" * 48, "'; --", "é"):
            with pytest.raises(Invalid):
                await desk.store.find_history(desk.space, cursor=cursor, limit=10, timeout_s=TIMEOUT_S)
