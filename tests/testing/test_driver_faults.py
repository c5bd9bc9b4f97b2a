"""The driver that fails on purpose: each fault is what it says, and nothing else changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.errors import BackendDown, Invalid, LimitExceeded, OutcomeUnknown, PerdureError, Throttled, TimedOut
from perdure.ports.documents import DocumentDriver, Expect, ExpectationFailed, Remove
from perdure.testing.contracts.documents import DocumentDriverContract
from perdure.testing.contracts.documents_opening import Shelf, put
from perdure.testing.contracts.documents_ranges import DocumentRangesContract
from perdure.testing.driver_faults import Crash, Crashed, Fault, FaultyDriver, Replicas

pytestmark = pytest.mark.fast


class TestDocumentsWithoutAFault(DocumentDriverContract):
    async def open_driver(self) -> DocumentDriver:
        driver = FaultyDriver(MemoryDriver())
        await driver.open()
        return driver


class TestRangesInTornPages(DocumentRangesContract):
    async def open_driver(self) -> DocumentDriver:
        driver = FaultyDriver(MemoryDriver(), read_chances={Fault.TORN: 0.7}, seed=3)
        await driver.open()
        return driver


class TestDocumentsOnReplicas(DocumentDriverContract):
    async def open_driver(self) -> DocumentDriver:
        driver = FaultyDriver(MemoryDriver(), replicas=Replicas(lag=5))
        await driver.open()
        return driver


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def plain(store: MemoryStore) -> Shelf:
    """What is really there."""
    return shelf(await opened(MemoryDriver(store)))


@pytest.fixture
def behind(store: MemoryStore) -> Callable[[], MemoryDriver]:
    return lambda: MemoryDriver(store)


async def work(faulty: Shelf) -> None:
    for number in range(4):
        await faulty.commit(put(f"k{number}"))
        await faulty.get("k0")


async def opened(driver: DocumentDriver) -> DocumentDriver:
    await driver.open()
    return driver


def shelf(driver: DocumentDriver) -> Shelf:
    return Shelf(driver=driver, partition="p")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.THROTTLED, Throttled),
        (Fault.DOWN, BackendDown),
        (Fault.TIMED_OUT, TimedOut),
        (Fault.LOST_UNDONE, OutcomeUnknown),
    ],
)
async def test_a_commit_that_failed_before_it_was_sent_is_not_done(
    plain: Shelf, behind: Callable[[], MemoryDriver], fault: Fault, error: type[PerdureError]
) -> None:
    faulty = shelf(await opened(FaultyDriver(behind(), commits=[None, fault])))
    await faulty.commit(put("a"))
    with pytest.raises(error):
        await faulty.commit(put("b"))
    await faulty.commit(put("c"))
    assert await plain.sorts() == ["a", "c"]


async def test_a_commit_whose_answer_was_lost_is_done(plain: Shelf, behind: Callable[[], MemoryDriver]) -> None:
    faulty = shelf(await opened(FaultyDriver(behind(), commits=[Fault.LOST_DONE] * 3)))
    with pytest.raises(OutcomeUnknown):
        await faulty.commit(put("a", expect=Expect.ABSENT))
    assert await plain.sorts() == ["a"]
    with pytest.raises(OutcomeUnknown) as caught:
        await faulty.commit(put("a", 2, expect=Expect.ABSENT))
    assert isinstance(caught.value.__cause__, ExpectationFailed)
    with pytest.raises(LimitExceeded):
        await faulty.commit(*(put(f"k{number:03}") for number in range(101)))
    assert (await plain.one("a")).version == 1


@pytest.mark.parametrize(
    ("fault", "error"), [(Fault.THROTTLED, Throttled), (Fault.DOWN, BackendDown), (Fault.TIMED_OUT, TimedOut)]
)
async def test_a_read_fails_in_its_turn(fault: Fault, error: type[PerdureError]) -> None:
    faulty = shelf(await opened(FaultyDriver(MemoryDriver(), reads=[fault, None, fault])))
    with pytest.raises(error):
        await faulty.get("a")
    assert await faulty.get("a") == {}
    with pytest.raises(error):
        await faulty.all()
    assert await faulty.all() == []


async def test_throttling_comes_in_bursts_and_says_for_how_long() -> None:
    driver = FaultyDriver(MemoryDriver(), reads=[Fault.THROTTLED], burst=3, retry_after_s=1.5)
    faulty = shelf(await opened(driver))
    for attempt in (faulty.get("a"), faulty.commit(put("a")), faulty.page("A", "~")):
        with pytest.raises(Throttled) as caught:
            await attempt
        assert caught.value.detail["retry_after_s"] == 1.5
    await faulty.commit(put("a"))
    assert await faulty.sorts() == ["a"]
    assert driver.operations == {"get": 1, "commit": 2, "scan": 2}
    assert (driver.reads, driver.commits) == (3, 2)


async def test_a_torn_page_is_a_part_of_it_and_says_more(plain: Shelf, behind: Callable[[], MemoryDriver]) -> None:
    await plain.fill("a", "b", "c", "d")
    faulty = shelf(await opened(FaultyDriver(behind(), reads=[Fault.TORN, Fault.TORN])))
    page = await faulty.page("A", "~")
    assert 1 <= len(page.documents) < 4
    assert page.more
    assert [document.sort for document in (await faulty.page("d", "~")).documents] == ["d"]
    assert not (await faulty.page("A", "~")).more


async def test_the_same_seed_fails_the_same_operations() -> None:
    async def fates(seed: int) -> list[str]:
        chances = {Fault.THROTTLED: 0.2, Fault.DOWN: 0.2, Fault.LOST_UNDONE: 0.2}
        faulty = shelf(await opened(FaultyDriver(MemoryDriver(), commit_chances=chances, seed=seed)))
        told: list[str] = []
        for _ in range(200):
            try:
                await faulty.commit(put("a"))
            except PerdureError as error:
                told.append(error.code)
            else:
                told.append("done")
        return told

    first = await fates(1)
    assert first == await fates(1)
    assert first != await fates(2)
    assert set(first) == {"done", "throttled", "backend_down", "outcome_unknown"}


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_crash_ends_everything_at_its_operation(moment: str) -> None:
    for at in range(1, 8):
        store = MemoryStore()
        crash = Crash(at=at, moment="before" if moment == "before" else "after")
        faulty = shelf(await opened(FaultyDriver(MemoryDriver(store), crash=crash)))
        with pytest.raises(Crashed):
            await work(faulty)
        done = (at if moment == "before" else at + 1) // 2  # commits are the odd operations
        for attempt in (faulty.commit(put("z")), faulty.get("k0"), faulty.all(), faulty.driver.probe(timeout_s=1)):
            with pytest.raises(Crashed):
                await attempt
        assert await shelf(await opened(MemoryDriver(store))).sorts() == [f"k{number}" for number in range(done)]


async def test_a_crash_may_count_commits_or_reads_only(plain: Shelf, behind: Callable[[], MemoryDriver]) -> None:
    faulty = shelf(await opened(FaultyDriver(behind(), crash=Crash(at=2, moment="after", among="commits"))))
    await faulty.commit(put("a"))
    await faulty.get("a")
    await faulty.get("a")
    with pytest.raises(Crashed):
        await faulty.commit(put("b"))
    assert await plain.sorts() == ["a", "b"]
    faulty = shelf(await opened(FaultyDriver(behind(), crash=Crash(at=1, among="reads"))))
    await faulty.commit(put("c"))
    with pytest.raises(Crashed):
        await faulty.all()


async def test_replicas_see_the_commits_of_others_late_and_their_own_at_once(
    plain: Shelf, behind: Callable[[], MemoryDriver]
) -> None:
    replicas = Replicas(lag=4)
    await plain.commit(put("gone", 1), put("kept", 1))
    one, two = [shelf(await opened(FaultyDriver(behind(), replicas=replicas))) for _ in range(2)]
    await one.commit(put("new", 1), put("kept", 2, expect=1), Remove(sort="gone", expect=1))
    assert await one.sorts() == ["kept", "new"]
    assert set(await two.get("new", "kept", "gone")) == {"gone", "kept"}
    assert [(document.sort, document.version) for document in await two.all()] == [("gone", 1), ("kept", 1)]
    assert [document.sort for document in (await two.page("A", "~", limit=1, reverse=True)).documents] == ["kept"]
    assert [(document.sort, document.version) for document in await two.all()] == [("kept", 2), ("new", 1)]
    assert await plain.sorts() == ["kept", "new"]


async def test_a_replica_that_writes_sees_what_was_written_before(behind: Callable[[], MemoryDriver]) -> None:
    replicas = Replicas(lag=1_000)
    one, two = [shelf(await opened(FaultyDriver(behind(), replicas=replicas))) for _ in range(2)]
    await one.commit(put("a", 1))
    assert await two.sorts() == []
    await two.fails(put("a", 2, expect=Expect.ABSENT))
    await two.commit(put("b"))
    assert await two.sorts() == ["a", "b"]
    assert await one.sorts() == ["a"]
    assert two.driver.capabilities.consistency == "session"


async def test_what_cannot_happen_is_refused() -> None:
    for wrong in (
        lambda: FaultyDriver(MemoryDriver(), reads=[Fault.LOST_DONE]),
        lambda: FaultyDriver(MemoryDriver(), commits=[Fault.TORN]),
        lambda: FaultyDriver(MemoryDriver(), commit_chances={Fault.DOWN: 0.6, Fault.THROTTLED: 0.6}),
    ):
        with pytest.raises(Invalid):
            wrong()


async def test_a_crash_takes_what_is_under_way_with_it() -> None:
    faulty = shelf(await opened(FaultyDriver(MemoryDriver(), crash=Crash(at=2))))
    fates = await asyncio.gather(*(faulty.commit(put(f"k{number}")) for number in range(3)), return_exceptions=True)
    assert [isinstance(fate, Crashed) for fate in fates] == [False, True, True]
