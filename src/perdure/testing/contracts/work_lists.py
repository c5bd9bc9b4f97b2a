"""Lists of units: complete, in order, in pages, and of one space."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from perdure.domain.work import UNITS_PAGE_MAX, WorkStatus
from perdure.errors import Invalid, LimitExceeded
from perdure.testing.contracts.rows_opening import outcomes
from perdure.testing.contracts.stores import TIMEOUT_S, OpenAnother, new_id, new_space, new_tenant
from perdure.testing.contracts.work_opening import ODD, Desk, WorkOpening, at, first, following, ids

PENDING, ACTIVE, PAUSED, COMPLETED = WorkStatus.PENDING, WorkStatus.ACTIVE, WorkStatus.PAUSED, WorkStatus.COMPLETED


class WorkListsContract(WorkOpening):
    """Which units there are."""

    async def test_units_are_listed_in_the_order_in_which_they_were_made(self, desk: Desk) -> None:
        assert await desk.units() == []
        low, high = sorted((new_id(), new_id()))
        made = [(at(3), new_id()), (at(1.000001), new_id()), (at(2), high), (at(2), low), (at(1), new_id())]
        await outcomes(*(desk.save(first(unit_id=unit_id, created_at=moment)) for moment, unit_id in made))
        expected = [unit_id for _, unit_id in sorted(made)]
        for limit in (2, 5, 100):
            assert ids(await desk.units(limit=limit)) == expected

    async def test_a_unit_is_listed_under_the_status_it_has(self, desk: Desk) -> None:
        units = [await desk.save(first(created_at=at(number))) for number in range(3)]
        assert await desk.units(status=PENDING) == units
        path = (ACTIVE, PENDING, ACTIVE, COMPLETED)
        for status in path:
            before = units[1].status
            units[1] = await desk.save(following(units[1], status))
            assert ids(await desk.units(status=before)) == [unit.unit_id for unit in units if unit.status is before], (
                before,
                status,
            )
            assert await desk.units(status=status, limit=1) == [unit for unit in units if unit.status is status]
        assert await desk.units() == units

    async def test_units_are_found_by_instance_parent_and_status_together(self, desk: Desk) -> None:
        parent = await desk.save(first(instance_id="other"))
        one = await desk.save(first(instance_id="one", created_at=at(1)))
        child = await desk.save(first(instance_id="one", parent=parent, created_at=at(2)))
        other = await desk.save(first(instance_id="two", parent=parent, created_at=at(3)))
        child = await desk.save(following(child, ACTIVE))
        assert ids(await desk.units(instance_id="one")) == ids([one, child])
        assert await desk.units(instance_id="one", status=ACTIVE) == [child]
        assert await desk.units(instance_id="one", status=PENDING) == [one]
        assert await desk.units(parent=parent) == [child, other]
        assert await desk.units(parent=parent, limit=1) == [child, other]
        assert await desk.units(parent=parent, status=ACTIVE) == [child]
        assert await desk.units(parent=parent, instance_id="two") == [other]
        assert await desk.units(parent=parent, instance_id="two", status=ACTIVE) == []
        assert await desk.units(parent=one) == []
        assert await desk.units(instance_id="nobody") == []

    async def test_every_instance_and_actor_has_lists_of_its_own(self, desk: Desk) -> None:
        saves = [first(instance_id=odd, actor_id=odd) for odd in ODD]
        await outcomes(*(desk.save(save) for save in saves))
        for odd, save in zip(ODD, saves, strict=True):
            assert await desk.units(instance_id=odd) == [save.unit]
            assert await desk.find_history(actor_id=odd) == list(save.entries)

    async def test_lists_are_complete_whoever_saves(self, desk: Desk, open_another: OpenAnother) -> None:
        rivals = await self.rivals(desk, open_another, 6)

        async def work(rival: Desk, number: int) -> UUID:
            """Make a unit and move it a few times."""
            unit = await rival.save(first(instance_id=f"i{number % 2}", created_at=at(number)))
            for status in (ACTIVE, PENDING, ACTIVE, COMPLETED)[: number % 5]:
                unit = await rival.save(following(unit, status))
            return unit.unit_id

        made = await outcomes(*(work(rival, number) for number, rival in enumerate(rivals)))
        assert ids(await desk.units(limit=4)) == made
        assert ids(await desk.units(status=PENDING)) == [made[0], made[2], made[5]]
        assert ids(await desk.units(status=ACTIVE)) == [made[1], made[3]]
        assert ids(await desk.units(status=COMPLETED, instance_id="i0")) == [made[4]]

    async def test_a_page_has_a_size_and_a_cursor_is_one_of_ours(self, desk: Desk) -> None:
        for limit, error in ((0, Invalid), (-1, Invalid), (UNITS_PAGE_MAX + 1, LimitExceeded)):
            with pytest.raises(error):
                await desk.units(limit=limit)
            with pytest.raises(error):
                await desk.watch(at(0), limit=limit)
        assert await desk.units(limit=UNITS_PAGE_MAX) == []
        assert await desk.watch(at(0), limit=UNITS_PAGE_MAX) == []
        for cursor in ("", "nonsense", "~", "0" * 48, "'; --", "é"):
            with pytest.raises(Invalid):
                await desk.store.units(desk.space, cursor=cursor, limit=10, timeout_s=TIMEOUT_S)

    async def test_no_space_sees_the_units_of_another(self, desk: Desk) -> None:
        space = desk.space
        spaces = [
            space,
            replace(space, tenant=new_tenant()),
            replace(space, project="a.b"),
            replace(space, surface="a"),
            replace(space, project="default", surface="a", app="b"),
        ]
        unit_id = new_id()
        made = await outcomes(
            *(
                desk.beside(one).save(first(unit_id=unit_id, actor_id="user:ann", created_at=at(number)))
                for number, one in enumerate(spaces)
            )
        )
        await desk.beside(spaces[-1]).save(following(await desk.beside(spaces[-1]).save(first()), ACTIVE))
        for one, unit in zip(spaces[:-1], made, strict=False):
            there = desk.beside(one)
            assert await there.units() == await there.units(instance_id="instance-1", status=PENDING) == [unit]
            assert await there.history(unit_id) == [1]
            assert len(await there.find_history(actor_id="user:ann")) == 1
            assert await there.watch(at(99)) == []
        stored = await desk.beside(spaces[1]).find(unit_id)
        assert stored is not None
        assert stored.unit == made[1]

    @pytest.mark.parametrize("elsewhere", [{"mode": "saas"}, {"env": "prod"}], ids=["mode", "env"])
    async def test_units_of_another_mode_or_environment_are_refused(
        self, desk: Desk, elsewhere: dict[str, str]
    ) -> None:
        there = desk.beside(new_space(tenant=desk.space.tenant, **elsewhere))
        unit = first().unit
        for attempt in (
            there.commit(first()),
            there.find(unit.unit_id),
            there.beat(unit, at(0)),
            there.history(unit.unit_id),
            there.find_history(),
            there.versions(unit.unit_id),
            there.units(),
            there.watch(at(0)),
            there.delete(unit),
        ):
            with pytest.raises(Invalid):
                await attempt
