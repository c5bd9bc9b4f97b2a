"""What appending and reading cost in calls to the engine, and what is said about a log that is broken."""

from __future__ import annotations

import asyncio

import pytest

from perdure.adapters.documents import keys
from perdure.domain.container import stream_container
from perdure.domain.log import LogSettings, Position
from perdure.errors import ChainBroken, Corrupt, OutcomeUnknown, StaleVersion, Throttled, TimedOut
from perdure.ports.documents import Expect, Put, Remove
from perdure.testing.contracts.logs_opening import Shelf, entries, entry, is_dense, text
from perdure.testing.contracts.stores import new_space
from perdure.testing.driver_faults import Fault, FaultyDriver
from tests.adapters.documents.stores import InterleavedDriver, LogsBackend, World

LONG = 2_000


class Desk:
    """A client, its counted driver, and a log."""

    def __init__(self, world: World, backend: LogsBackend, faulty: FaultyDriver) -> None:
        self.world = world
        self.backend = backend
        self.faulty = faulty
        self.shelf = Shelf(store=backend.logs, log=stream_container(new_space(), "events"))

    def counted(self) -> tuple[int, int]:
        """Reads and commits since the last time."""
        counts = (self.faulty.reads, self.faulty.commits)
        self.faulty.operations.clear()
        return counts

    async def replace(self, sort: str, body: bytes) -> None:
        """Write something else over a document."""
        put = Put(sort=sort, version=1, body=body, expect=Expect.PRESENT)
        await self.backend.driver.commit(keys.log_partition(self.shelf.log), [put], timeout_s=5)


async def open_desk(world: World | None = None, **faults: object) -> Desk:
    world = world or World()
    made: list[FaultyDriver] = []

    def wrap(driver: object) -> FaultyDriver:
        made.append(FaultyDriver(InterleavedDriver(driver, seed=world.clients), **faults))  # type: ignore[arg-type]
        return made[0]

    return Desk(world, await world.open(wrap), made[0])


async def test_an_append_to_a_known_log_is_one_call_however_long_it_is() -> None:
    desk = await open_desk()
    await desk.shelf.append(entry("first"))
    assert desk.counted() == (1, 3)
    await desk.shelf.fill(LONG)
    desk.counted()
    await desk.shelf.append(*entries(LONG + 1, 48))
    assert desk.counted() == (0, 1)
    await desk.shelf.append(entry("again"), expected=LONG + 49)
    assert desk.counted() == (0, 1)


async def test_an_append_to_an_unknown_log_reads_its_end_and_its_ids() -> None:
    desk = await open_desk()
    await desk.shelf.fill(LONG)
    other = await open_desk(desk.world)
    await desk.shelf.seen_by(other.backend).append(entry("new"))  # type: ignore[arg-type]
    assert other.counted() == (3, 1)


async def test_appends_that_wait_together_go_together() -> None:
    desk = await open_desk()
    await desk.shelf.append(entry("first"))
    desk.counted()
    done = await asyncio.gather(*(desk.shelf.append(entry(f"e{number}")) for number in range(1, 48)))
    assert [one.sequence for (one,) in done] == list(range(2, 49))
    reads, commits = desk.counted()
    assert reads == 0
    assert commits <= 2


async def test_of_appends_that_go_together_each_has_its_own_answer() -> None:
    desk = await open_desk()
    await desk.shelf.append(entry("e1"))
    stale, new, again = await asyncio.gather(
        desk.shelf.append(entry("e2"), expected=7),
        desk.shelf.append(entry("e3")),
        desk.shelf.append(entry("e1")),
        return_exceptions=True,
    )
    assert isinstance(stale, StaleVersion)
    assert not isinstance(new, BaseException)
    assert not isinstance(again, BaseException)
    assert (new[0].sequence, again[0].duplicate) == (2, True)
    assert await desk.shelf.ids() == ["e1", "e3"]


async def test_a_caller_that_gives_up_does_not_stop_the_others() -> None:
    desk = await open_desk()
    await desk.shelf.append(entry("e0"))
    tasks = [asyncio.ensure_future(desk.shelf.append(entry(f"e{number}"))) for number in range(1, 10)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in done[::2])
    found = await desk.shelf.all()
    assert is_dense(found)
    # Nothing is appended for those that gave up before it began.
    assert [one.entry_id for one in found] == ["e0", *(f"e{number}" for number in range(2, 10, 2))]


async def test_more_than_one_commit_takes_is_spread_over_several() -> None:
    desk = await open_desk()
    await asyncio.gather(*(desk.shelf.append(entry(f"e{number}", text(250_000))) for number in range(12)))
    await asyncio.gather(*(desk.shelf.append(*entries(100 * n, 30)) for n in range(1, 5)))
    found = await desk.shelf.all()
    assert is_dense(found)
    assert len(found) == 132


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_page_is_a_constant_number_of_reads_wherever_it_is(reverse: bool) -> None:  # noqa: FBT001 - a parameter
    desk = await open_desk()
    await desk.shelf.fill(LONG)
    epoch = (await desk.shelf.one_head()).epoch
    for sequence in (1, 100, LONG // 2, LONG - 1, LONG):
        desk.counted()
        await desk.shelf.page(Position(epoch=epoch, sequence=sequence), limit=10, reverse=reverse)
        assert desk.counted()[0] <= 3
    await desk.shelf.page(limit=10, reverse=reverse)
    assert desk.counted()[0] <= 3
    await desk.shelf.trim(LONG // 2)
    desk.counted()
    await desk.shelf.page(limit=10, reverse=reverse)
    assert desk.counted()[0] <= 3


async def test_the_newest_page_is_two_reads_and_says_where_the_log_is() -> None:
    desk = await open_desk()
    await desk.shelf.fill(LONG)
    desk.counted()
    for limit in (1, 10, 500):
        page = await desk.shelf.page(limit=limit, reverse=True)
        assert desk.counted() == (2, 0)
        assert page.head == await desk.shelf.one_head()
        assert [one.sequence for one in page.entries] == list(range(LONG, LONG - limit, -1))
        desk.counted()
    await desk.shelf.trim(LONG)
    desk.counted()
    assert len((await desk.shelf.page(limit=10, reverse=True)).entries) == 1
    assert desk.counted() == (2, 0)


async def test_an_entry_that_cannot_be_read_is_corrupt_and_never_passed_over() -> None:
    desk = await open_desk()
    await desk.shelf.fill(5)
    epoch = (await desk.shelf.one_head()).epoch
    await desk.replace(keys.entry_sort(epoch, 3), b'{"entry_id": 3}')
    for reverse in (False, True):
        with pytest.raises(Corrupt, match="events") as caught:
            await desk.shelf.page(reverse=reverse)
        assert caught.value.detail["log"] == "events"
    with pytest.raises(Corrupt):
        await desk.shelf.trim((await desk.shelf.page(limit=1)).entries[0].recorded_at.replace(year=2099))
    assert await desk.shelf.trim(4) == 3
    assert is_dense(await desk.shelf.all(), first=4)


@pytest.mark.parametrize("sort", [keys.HEADER, "marker"])
async def test_a_header_or_marker_that_cannot_be_read_is_corrupt(sort: str) -> None:
    desk = await open_desk()
    await desk.shelf.fill(5)
    epoch = (await desk.shelf.one_head()).epoch
    await desk.replace(keys.marker_sort(epoch, "e3") if sort == "marker" else sort, b"[]")
    with pytest.raises(Corrupt):
        await desk.shelf.locate("e3")
    if sort == keys.HEADER:
        for read in (desk.shelf.head(), desk.shelf.find_page(), desk.shelf.containers()):
            with pytest.raises(Corrupt):
                await read


@pytest.mark.parametrize("reverse", [False, True])
async def test_an_entry_that_is_missing_is_an_error_and_not_a_gap(reverse: bool) -> None:  # noqa: FBT001 - a parameter
    desk = await open_desk()
    await desk.shelf.fill(5)
    epoch = (await desk.shelf.one_head()).epoch
    removal = Remove(sort=keys.entry_sort(epoch, 3), expect=Expect.PRESENT)
    await desk.backend.driver.commit(keys.log_partition(desk.shelf.log), [removal], timeout_s=5)
    with pytest.raises(ChainBroken):
        await desk.shelf.page(reverse=reverse)


async def test_an_append_that_cannot_be_done_in_time_says_what_is_known() -> None:
    desk = await open_desk(commits=[None] * 3 + [Fault.THROTTLED] * 10_000)
    await desk.shelf.append(entry("e1"))
    with pytest.raises(Throttled):
        await desk.shelf.append(entry("e2"))
    desk = await open_desk(
        commits=[None] * 3 + [Fault.LOST_DONE] + [Fault.DOWN] * 10_000, reads=[None, *[Fault.TIMED_OUT] * 9_999]
    )
    await desk.shelf.append(entry("e1"))
    with pytest.raises(OutcomeUnknown):
        await desk.shelf.append(entry("e2"))


async def test_an_append_after_a_lost_answer_is_not_its_own_duplicate() -> None:
    for fault in (Fault.LOST_DONE, Fault.LOST_UNDONE):
        desk = await open_desk(commits=[None, None, fault, fault])
        for number in (1, 2):
            (one,) = await desk.shelf.append(entry(f"e{number}"), expected=number - 1)
            assert (one.sequence, one.duplicate) == (number, False)


async def test_reads_that_cannot_be_done_are_errors_and_not_empty() -> None:
    desk = await open_desk()
    await desk.shelf.fill(3)
    broken = await open_desk(desk.world, reads=[Fault.TIMED_OUT] * 10_000)
    shelf = desk.shelf.seen_by(broken.backend)  # type: ignore[arg-type]
    for read in (
        shelf.head(),
        shelf.find_page(),
        shelf.locate("e1"),
        shelf.containers(),
        shelf.audits(),
        shelf.clear(),
        shelf.trim(2),
        shelf.erase(),
        shelf.configure(LogSettings()),
        shelf.append(entry("e4")),
    ):
        with pytest.raises(TimedOut):
            await read
    assert await desk.shelf.ids() == ["e1", "e2", "e3"]
