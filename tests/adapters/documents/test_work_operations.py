"""What units of work cost: how many operations of the driver each call needs, and what it leaves behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import pytest

from perdure.adapters.documents.pointers import GRACE_S
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.adapters.documents.work_documents import Told, Unit
from perdure.adapters.documents.work_parents import WorkParents
from perdure.adapters.documents.work_reading import WorkReading
from perdure.adapters.memory.driver import MemoryDriver
from perdure.domain.work import WorkStatus
from perdure.ports.documents import DocumentDriver, Write
from perdure.testing.contracts.stores import TIMEOUT_S, new_id
from perdure.testing.contracts.work_opening import Desk, at, attribute, first, following, ids, leasing
from perdure.testing.driver_faults import Crash, Crashed, FaultyDriver
from perdure.testing.environment import fake_environment
from tests.adapters.documents.work_clients import SPACE, World

ACTIVE = WorkStatus.ACTIVE


class Counted:
    """A client whose operations are counted."""

    def __init__(self) -> None:
        self.world = World()
        self.operations: Counter[str] = Counter()
        self.desk: Desk

    def wrap(self, driver: DocumentDriver) -> DocumentDriver:
        counting = FaultyDriver(driver)
        self.operations = counting.operations
        return counting

    async def cost(self, call: Awaitable[object]) -> dict[str, int]:
        """The operations of one call."""
        before = Counter(self.operations)
        await call
        return dict(self.operations - before)


@pytest.fixture
async def counted() -> AsyncIterator[Counted]:
    """A client whose space is in the directory already."""
    counted = Counted()
    async with counted.world.client(counted.wrap) as desk:
        counted.desk = desk
        await desk.save(first(created_at=at(-99)))
        yield counted


async def test_a_load_is_one_get_however_large_the_unit_is(counted: Counted) -> None:
    small = await counted.desk.save(first())
    large = await counted.desk.save(first(attributes=[attribute(f"k{number}") for number in range(64)]))
    for unit in (small, large):
        assert await counted.cost(counted.desk.load(unit)) == {"get": 1}
    assert await counted.cost(counted.desk.find(first().unit.unit_id)) == {"get": 1}


async def test_a_save_is_a_get_a_commit_and_one_for_each_place_that_lists_it(counted: Counted) -> None:
    desk = counted.desk
    made = first(actor_id="ann", attributes=[attribute("a")])
    # Lists of the space, the instance and the actor, at the same time; then the commit.
    assert await counted.cost(desk.commit(made)) == {"get": 1, "commit": 4}
    changed = following(made.unit, attributes=[attribute("a", version=2, sequence=2)])
    assert await counted.cost(desk.commit(changed)) == {"get": 1, "commit": 4}
    # Where it was listed by its status before: two more, after it.
    moved = following(changed.unit, ACTIVE)
    assert await counted.cost(desk.commit(moved)) == {"get": 1, "commit": 6}
    late = following(changed.unit, ACTIVE)
    assert await counted.cost(desk.stale(late)) == {"get": 1}
    again = replace(following(moved.unit), request_id="r", fingerprint="f")
    await desk.commit(again)
    assert await counted.cost(desk.commit(again)) == {"get": 1}


async def test_a_child_costs_a_look_at_its_parent_and_a_commit_there(counted: Counted) -> None:
    desk = counted.desk
    parent = await desk.save(first())
    child = first(parent=parent)
    assert await counted.cost(desk.commit(child)) == {"get": 3, "commit": 6}
    finished = following(child.unit, WorkStatus.FAILED)
    assert await counted.cost(desk.commit(finished)) == {"get": 2, "commit": 6}


async def test_a_heartbeat_is_one_get_and_one_commit_and_announces_nothing(counted: Counted) -> None:
    unit = await counted.desk.leased()
    announced = counted.world.sorts("l.")
    for seconds in range(1, 30):
        assert await counted.cost(counted.desk.beat(unit, at(seconds))) == {"get": 1, "commit": 1}
    assert counted.world.sorts("l.") == announced
    assert len(announced) == 1


async def test_pages_read_what_they_show_and_little_beside(counted: Counted) -> None:
    desk = counted.desk
    units = [await desk.save(first(instance_id="i", created_at=at(number))) for number in range(12)]
    for unit in units[:6]:
        await desk.save(following(await desk.save(following(unit, ACTIVE)), WorkStatus.PENDING))
    for page in (
        desk.store.units(desk.space, limit=5, timeout_s=TIMEOUT_S),
        desk.store.units(desk.space, status=WorkStatus.PENDING, limit=5, timeout_s=TIMEOUT_S),
        desk.store.units(desk.space, instance_id="i", limit=5, timeout_s=TIMEOUT_S),
        desk.store.find_history(desk.space, instance_id="i", limit=5, timeout_s=TIMEOUT_S),
    ):
        cost = await counted.cost(page)
        assert cost["scan"] == 1
        assert cost["get"] <= 6
    # All entries of one unit are one get.
    late = desk.store.find_history(desk.space, since=at(900), limit=100, timeout_s=TIMEOUT_S)
    for seconds in range(5):
        units[7] = await desk.save(following(units[7], moment=at(1000 + seconds)))
    assert await counted.cost(late) == {"scan": 1, "get": 1}
    unit_id = units[0].unit_id
    assert await counted.cost(desk.history(unit_id)) == {"scan": 1}
    assert await counted.cost(desk.versions(unit_id)) == {"get": 1, "scan": 1}


async def test_statuses_that_come_and_go_leave_nothing_behind(counted: Counted) -> None:
    unit = await counted.desk.save(first())
    listed = counted.world.sorts("s.")
    for _ in range(5):
        unit = await counted.desk.save(following(unit, ACTIVE))
        unit = await counted.desk.save(following(unit, WorkStatus.PENDING))
    assert len(counted.world.sorts("s.")) == len(listed)
    assert counted.world.sorts("p.") == []


async def test_a_refused_save_takes_back_what_it_announced(counted: Counted) -> None:
    unit = await counted.desk.save(first())
    taken = replace(following(unit, ACTIVE), attributes=())
    before = counted.world.sorts("")
    # Only its commit finds out that the number of its entry is there.
    clash = replace(taken, unit=replace(taken.unit, history_sequence=1), entries=())
    clash = replace(clash, entries=(replace(taken.entries[0], sequence=1),))
    assert (await counted.desk.stale(clash)).detail["found"] == 1
    assert counted.world.sorts("") == before


async def test_a_sweep_moves_what_announces_a_living_lease_once_and_not_each_time(counted: Counted) -> None:
    desk, world = counted.desk, counted.world
    living, dead = await desk.leased(heartbeat_at=at(0)), await desk.leased(heartbeat_at=at(1))
    for seconds in range(10, 60, 10):
        await desk.beat(living, at(seconds))
        # While the save that announced it may be on its way, it stays.
        assert await desk.watch(at(seconds)) == [dead.unit_id]
        assert len(world.sorts("l.")) == 2
    world.clock.advance(GRACE_S + TIMEOUT_S)
    for _ in range(3):
        assert await desk.watch(at(50)) == [dead.unit_id]
        assert len(world.sorts("l.")) == 2
    # It is not looked at before it is due again.
    assert await counted.cost(desk.watch(at(50))) == {"scan": 2, "get": 1}
    assert await desk.watch(at(51)) == [dead.unit_id, living.unit_id]
    await desk.beat(living, at(60))
    assert await desk.watch(at(60)) == [dead.unit_id]
    await desk.save(following((await desk.load(living)).unit, WorkStatus.COMPLETED))
    assert await desk.watch(at(99)) == [dead.unit_id]
    assert len(world.sorts("l.")) == 1


async def test_a_lease_is_found_wherever_a_sweep_died(counted: Counted) -> None:
    desk, world = counted.desk, counted.world
    units = [await desk.leased(heartbeat_at=at(seconds)) for seconds in (0, 1, 2)]
    world.clock.advance(GRACE_S + TIMEOUT_S)
    for number in range(1, 30):
        for unit in units:
            await desk.beat(unit, at(10 * number))
        crash = Crash(at=number, moment="after")
        async with world.client(lambda driver, crash=crash: FaultyDriver(driver, crash=crash)) as other:  # type: ignore[misc]
            with suppress(Crashed):
                await other.watch(at(10 * number))
        assert await desk.watch(at(10 * number + 1)) == sorted(ids(units))
    assert len(world.sorts("l.")) == 3


async def test_leases_are_read_in_pages_up_to_the_oldest_asked_for(counted: Counted) -> None:
    desk = counted.desk
    units = [await desk.leased(heartbeat_at=at(number)) for number in range(120)]
    assert await desk.watch(at(999), limit=1_000) == ids(units)
    # The rest is behind the first page, and no heartbeat is before its announcement.
    assert await counted.cost(desk.watch(at(999), limit=10)) == {"scan": 2, "get": 100}
    assert await desk.watch(at(999), limit=10) == ids(units[:10])


class AfterAnnouncing(MemoryDriver):
    """Lets something happen before each commit to a partition of units, once what announces it is there."""

    def __init__(self, world: World) -> None:
        super().__init__(world.store)
        self.between: list[Callable[[], Awaitable[object]]] = []

    async def commit(
        self, partition: str, writes: Sequence[Write], *, commit_id: str, timeout_s: float
    ) -> Sequence[object]:
        if partition.startswith("work.") and self.between:
            await self.between.pop()()
        return await super().commit(partition, writes, commit_id=commit_id, timeout_s=timeout_s)


async def test_a_sweep_takes_nothing_away_of_a_save_that_is_on_its_way(counted: Counted) -> None:
    desk, world = counted.desk, counted.world
    parent = await desk.save(first())
    child = await desk.save(first(parent=parent))
    driver = AfterAnnouncing(world)

    async def sweep() -> None:
        """What any other client may do at that moment."""
        await desk.watch(at(99))

    async with world.client(lambda _: driver) as other:
        driver.between = [sweep]
        child = await other.save(leasing(child))
        assert await desk.watch(at(99)) == [child.unit_id]
        driver.between = [sweep]
        child = await other.save(following(child, WorkStatus.COMPLETED))
        assert await desk.units(status=WorkStatus.COMPLETED) == [child]
        assert (await desk.load(parent)).unit.finished_child_count == 1
        assert driver.between == []


async def test_an_older_word_of_a_child_never_follows_a_newer_one() -> None:
    world = World()
    async with world.client() as desk:
        parent = await desk.save(first())
    driver = ResilientDriver(MemoryDriver(world.store), environment=fake_environment())
    await driver.open()
    reading = WorkReading(driver)
    parents = WorkParents(driver, reading)
    child_id, patience = new_id(), driver.patience(TIMEOUT_S)
    words = [Told(adopted=True, at=1), Told(adopted=True, finished=True, at=3), Told(adopted=True, at=4)]
    for told in (words[1], words[0], words[2], words[1], words[0]):
        body = Unit(unit=None, told=told)
        await parents.tell(SPACE, parent.unit_id, child_id, body, patience=patience)
    unit = (await reading.peek(SPACE, parent.unit_id, patience=patience)).unit
    assert unit is not None
    assert (unit.child_count, unit.finished_child_count) == (1, 0)
