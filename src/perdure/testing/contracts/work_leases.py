"""Leases: heartbeats, saves that expect them, and who has not been heard of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure.domain.work import WorkCommitted, WorkStatus, WorkUnit
from perdure.errors import NotFound, StaleVersion
from perdure.testing.contracts.rows_opening import outcomes
from perdure.testing.contracts.stores import OpenAnother
from perdure.testing.contracts.work_opening import NOON, OWNER, Desk, WorkOpening, at, first, following, leasing


class WorkLeasesContract(WorkOpening):
    """Who is alive, and that nobody is found both alive and dead."""

    async def test_a_heartbeat_moves_itself_and_nothing_else(self, desk: Desk) -> None:
        unit = await desk.leased()
        beaten = await desk.beat(unit, at(5.000001))
        assert beaten == replace(unit, heartbeat_at=at(5.000001), beats=1)
        assert (await desk.load(unit)).unit == beaten
        assert (await desk.beat(unit, at(6))).beats == 2
        assert await desk.history(unit.unit_id) == [1, 2]

    async def test_a_heartbeat_never_goes_back(self, desk: Desk) -> None:
        unit = await desk.leased(heartbeat_at=at(10))
        beaten = await desk.beat(unit, at(3))
        assert (beaten.heartbeat_at, beaten.beats) == (at(10), 1)

    async def test_only_the_owner_of_an_active_unit_beats(self, desk: Desk) -> None:
        with pytest.raises(NotFound):
            await desk.beat(first().unit, NOON)
        pending = await desk.save(first())
        unit = await desk.leased()
        paused = await desk.save(following(await desk.leased(), WorkStatus.PAUSED))
        for beaten, owner in ((pending, OWNER), (unit, "another"), (unit, ""), (paused, OWNER)):
            with pytest.raises(StaleVersion) as caught:
                await desk.beat(beaten, at(9), owner=owner)
            assert caught.value.detail["found"] == beaten.version
        for kept in (pending, unit, paused):
            assert (await desk.load(kept)).unit == kept

    async def test_a_save_that_expects_the_beats_before_one_fails(self, desk: Desk) -> None:
        unit = await desk.leased()
        write = replace(following(unit, WorkStatus.ZOMBIED_SOFT), expected_beats=unit.beats)
        beaten = await desk.beat(unit, at(5))
        assert (await desk.stale(write)).detail["found"] == unit.version
        assert (await desk.load(unit)).unit == beaten
        again = replace(following(beaten, WorkStatus.ZOMBIED_SOFT), expected_beats=beaten.beats)
        assert (await desk.save(again)).status is WorkStatus.ZOMBIED_SOFT
        with pytest.raises(StaleVersion):
            await desk.beat(unit, at(6))

    async def test_a_heartbeat_and_a_sweep_never_both_come_through(self, desk: Desk, open_another: OpenAnother) -> None:
        sweeper, worker = await self.rivals(desk, open_another, 2)
        for _ in range(2):
            unit = await desk.leased()
            write = replace(following(unit, WorkStatus.ZOMBIED_SOFT), expected_beats=unit.beats)
            swept, beaten = await outcomes(sweeper.commit(write), worker.beat(unit, at(5)))
            assert isinstance(swept, WorkCommitted) != isinstance(beaten, WorkUnit), (swept, beaten)
            status = WorkStatus.ZOMBIED_SOFT if isinstance(swept, WorkCommitted) else WorkStatus.ACTIVE
            assert (await desk.load(unit)).unit.status is status

    async def test_heartbeats_that_came_since_a_unit_was_read_stay(self, desk: Desk) -> None:
        unit = await desk.leased()
        await desk.beat(unit, at(5))
        saved = await desk.save(following(unit))
        assert (saved.heartbeat_at, saved.beats) == (at(5), 1)
        assert (await desk.load(unit)).unit == saved
        # A save is a sign of life as well, and may end a lease.
        alive = following(saved)
        saved = await desk.save(replace(alive, unit=replace(alive.unit, heartbeat_at=at(8))))
        assert saved.heartbeat_at == at(8)
        ended = following(saved, WorkStatus.COMPLETED)
        saved = await desk.save(replace(ended, unit=replace(ended.unit, lease_owner=None, heartbeat_at=None)))
        assert (saved.lease_owner, saved.heartbeat_at, saved.beats) == (None, None, 1)

    async def test_leases_that_nobody_was_heard_of_are_found_oldest_first(self, desk: Desk) -> None:
        units = [await desk.leased(heartbeat_at=at(seconds)) for seconds in (30, 10, 40, 20)]
        await desk.save(leasing(await desk.save(first()), owner=None, heartbeat_at=None))
        await desk.save(first())
        await desk.save(following(await desk.leased(), WorkStatus.PAUSED))
        thirty, ten, forty, twenty = (unit.unit_id for unit in units)
        assert await desk.watch(at(10)) == []
        assert await desk.watch(at(10.000001)) == [ten]
        assert await desk.watch(at(40)) == [ten, twenty, thirty]
        assert await desk.watch(at(99)) == [ten, twenty, thirty, forty]
        assert await desk.watch(at(99), limit=2) == [ten, twenty]

    async def test_whoever_was_heard_of_is_found_by_the_newest_heartbeat(self, desk: Desk) -> None:
        one, other = await desk.leased(heartbeat_at=at(1)), await desk.leased(heartbeat_at=at(2))
        await desk.beat(one, at(50))
        assert await desk.watch(at(10)) == [other.unit_id]
        assert await desk.watch(at(10), limit=1) == [other.unit_id]
        assert await desk.watch(at(60)) == [other.unit_id, one.unit_id]
        assert await desk.watch(at(50)) == [other.unit_id]

    async def test_a_lease_is_found_as_often_as_it_is_taken(self, desk: Desk) -> None:
        unit = await desk.leased(heartbeat_at=at(1))
        for seconds in (10, 20):
            assert await desk.watch(at(seconds)) == [unit.unit_id]
            unit = await desk.save(following(unit, WorkStatus.ZOMBIED_SOFT))
            assert await desk.watch(at(99)) == []
            unit = await desk.save(leasing(unit, owner="another", heartbeat_at=at(seconds)))
            assert await desk.watch(at(seconds)) == []
        assert await desk.watch(at(21)) == [unit.unit_id]

    async def test_a_lease_whose_first_sign_of_life_is_a_heartbeat_is_found(self, desk: Desk) -> None:
        unit = await desk.save(leasing(await desk.save(first()), heartbeat_at=None))
        assert await desk.watch(at(99)) == []
        await desk.beat(unit, at(5))
        assert await desk.watch(at(99)) == [unit.unit_id]
