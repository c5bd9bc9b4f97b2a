"""What follows from each failure of a driver: another attempt, or the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from perdure.adapters.documents.resilience import BACKOFF_BASE_S, BACKOFF_S_MAX, ResilientDriver
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.errors import (
    BackendDown,
    Corrupt,
    Forbidden,
    Invalid,
    LimitExceeded,
    OutcomeUnknown,
    PerdureError,
    PersistenceError,
    Throttled,
    TimedOut,
)
from perdure.ports.documents import DocumentDriver, Expect, ExpectationFailed, Put, Remove, Require, Write
from perdure.ports.environment import Environment
from perdure.testing.driver_faults import Fault, FaultyDriver
from perdure.testing.environment import CountingIds, FakeClock

RETRIED = (Throttled, BackendDown, TimedOut, OutcomeUnknown)
FINAL = (Invalid, LimitExceeded, Forbidden, Corrupt, ExpectationFailed, PersistenceError)
PARTITION = "p"


class Always:
    """Randomness that is always the same."""

    def __init__(self, value: float) -> None:
        self._value = value

    def random(self) -> float:
        return self._value


class Failing(MemoryDriver):
    """Raises what it is told to, then works; counts its calls and what time each was given."""

    def __init__(self, store: MemoryStore, *errors: PerdureError) -> None:
        super().__init__(store)
        self.errors = list(errors)
        self.patience: list[float] = []

    async def get(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Any:
        self.patience.append(timeout_s)
        if self.errors:
            raise self.errors.pop(0)
        return await super().get(partition, sorts, timeout_s=timeout_s)


class Desk:
    """A resilient driver over another, with the pauses it made."""

    def __init__(self, driver: DocumentDriver, *, chance: float = 0.5) -> None:
        self.clock = FakeClock()
        self.pauses: list[float] = []
        environment = Environment(clock=self.clock, randomness=Always(chance), ids=CountingIds())
        self.driver = ResilientDriver(driver, environment=environment, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.advance(seconds)
        await asyncio.sleep(0)


def put(sort: str, version: int = 1, *, expect: Expect | int = Expect.ABSENT, body: bytes = b"{}") -> Put:
    return Put(sort=sort, version=version, body=body, expect=expect)


async def stored(store: MemoryStore) -> dict[str, int]:
    return {sort: one.version for sort, one in store.partition(PARTITION).documents.items()}


async def commit(
    driver: ResilientDriver | DocumentDriver, *writes: Write, commit_id: str = "other"
) -> Sequence[object]:
    return await driver.commit(PARTITION, writes, commit_id=commit_id, timeout_s=30)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def opened(driver: MemoryDriver) -> MemoryDriver:
    await driver.open()
    return driver


# --- attempts and pauses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RETRIED)
async def test_what_may_pass_is_tried_again(store: MemoryStore, kind: type[PerdureError]) -> None:
    driver = Failing(store, kind("1"), kind("2"), kind("3"))
    desk = Desk(await opened(driver))
    assert await desk.driver.get(PARTITION, ["a"], timeout_s=30) == {}
    assert desk.pauses == [BACKOFF_BASE_S * 0.5, BACKOFF_BASE_S, BACKOFF_BASE_S * 2]
    assert driver.patience == [30, *(30 - sum(desk.pauses[:n]) for n in (1, 2, 3))]


@pytest.mark.parametrize("kind", FINAL)
async def test_what_does_not_pass_is_raised_at_once(store: MemoryStore, kind: type[PerdureError]) -> None:
    desk = Desk(await opened(Failing(store, kind("1"))))
    with pytest.raises(kind):
        await desk.driver.get(PARTITION, ["a"], timeout_s=30)
    assert desk.pauses == []


@pytest.mark.parametrize("kind", RETRIED)
async def test_the_last_error_is_raised_when_the_time_is_over(store: MemoryStore, kind: type[PerdureError]) -> None:
    desk = Desk(await opened(Failing(store, TimedOut("first"), *(kind(str(n)) for n in range(1_000)))))
    with pytest.raises(kind):
        await desk.driver.get(PARTITION, ["a"], timeout_s=30)
    assert 29 < desk.clock.monotonic() <= 30


async def test_there_is_one_attempt_even_without_time(store: MemoryStore) -> None:
    desk = Desk(await opened(Failing(store)))
    assert await desk.driver.get(PARTITION, ["a"], timeout_s=0) == {}
    desk = Desk(await opened(Failing(store, Throttled("1"))))
    with pytest.raises(Throttled):
        await desk.driver.get(PARTITION, ["a"], timeout_s=0)
    assert desk.pauses == []


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
async def test_pauses_are_anything_up_to_a_bound_that_doubles_and_is_capped(store: MemoryStore, chance: float) -> None:
    desk = Desk(await opened(Failing(store, *(Throttled(str(n)) for n in range(12)))), chance=chance)
    await desk.driver.get(PARTITION, ["a"], timeout_s=10_000)
    bounds = [min(BACKOFF_S_MAX, BACKOFF_BASE_S * 2**n) for n in range(12)]
    assert desk.pauses == pytest.approx([bound * chance for bound in bounds])
    assert bounds[-1] == BACKOFF_S_MAX


async def test_a_pause_is_as_long_as_the_engine_asks_for_at_least(store: MemoryStore) -> None:
    desk = Desk(await opened(Failing(store, Throttled("1", retry_after_s=5.0))))
    await desk.driver.get(PARTITION, ["a"], timeout_s=30)
    assert desk.pauses == [5.0 + BACKOFF_BASE_S * 0.5]


async def test_an_engine_that_asks_for_more_than_is_left_is_not_waited_for(store: MemoryStore) -> None:
    desk = Desk(await opened(Failing(store, Throttled("1", retry_after_s=31.0))))
    with pytest.raises(Throttled):
        await desk.driver.get(PARTITION, ["a"], timeout_s=30)
    assert desk.pauses == []


async def test_a_probe_is_one_attempt(store: MemoryStore) -> None:
    desk = Desk(MemoryDriver(store))
    with pytest.raises(BackendDown):
        await desk.driver.probe(timeout_s=30)
    assert desk.pauses == []


# --- lost answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.LOST_DONE, Fault.LOST_UNDONE])
async def test_a_commit_whose_answer_was_lost_is_done_once(store: MemoryStore, fault: Fault) -> None:
    faulty = FaultyDriver(await opened(MemoryDriver(store)), commits=[fault])
    desk = Desk(faulty)
    await commit(desk.driver, put("a"), put("b"), commit_id="ours")
    assert await stored(store) == {"a": 1, "b": 1}
    assert faulty.commits == (1 if fault is Fault.LOST_DONE else 2)
    assert {one.commit_id for one in store.partition(PARTITION).documents.values()} == {"ours"}


@pytest.mark.parametrize("fault", [Fault.LOST_DONE, Fault.LOST_UNDONE])
async def test_an_update_whose_answer_was_lost_is_done_once(store: MemoryStore, fault: Fault) -> None:
    plain = await opened(MemoryDriver(store))
    await commit(plain, put("a", 1), put("b", 1))
    desk = Desk(FaultyDriver(plain, commits=[fault]))
    await commit(desk.driver, put("a", 2, expect=1), Remove(sort="b", expect=1), commit_id="ours")
    assert await stored(store) == {"a": 2}


class Meanwhile(MemoryDriver):
    """The first commit is done or not, others do something, and its answer is lost."""

    def __init__(self, store: MemoryStore, *others: Sequence[Write], does: bool) -> None:
        super().__init__(store)
        self._others: list[Sequence[Write]] | None = list(others)
        self._does = does

    async def commit(
        self, partition: str, writes: Sequence[Write], *, commit_id: str, timeout_s: float
    ) -> Sequence[object]:
        others, self._others = self._others, None
        if others is None:
            return await super().commit(partition, writes, commit_id=commit_id, timeout_s=timeout_s)
        if self._does:
            await super().commit(partition, writes, commit_id=commit_id, timeout_s=timeout_s)
        for number, other in enumerate(others):
            await super().commit(partition, other, commit_id=f"other-{number}", timeout_s=timeout_s)
        raise OutcomeUnknown("lost on purpose")


async def after(store: MemoryStore, *others: Sequence[Write], does: bool, ours: Sequence[Write]) -> Desk:
    """Commit ours, among others."""
    desk = Desk(await opened(Meanwhile(store, *others, does=does)))
    await commit(desk.driver, *ours, commit_id="ours")
    return desk


async def test_what_is_still_there_of_a_commit_shows_that_it_was_done(store: MemoryStore) -> None:
    ours = [put("a"), put("b")]
    await after(store, [put("a", 2, expect=1)], does=True, ours=ours)
    assert await stored(store) == {"a": 2, "b": 1}


async def test_another_s_document_where_ours_should_be_shows_that_it_was_not_done(store: MemoryStore) -> None:
    with pytest.raises(ExpectationFailed):
        await after(store, [put("a")], does=False, ours=[put("a"), put("b")])
    assert await stored(store) == {"a": 1}


async def test_an_unchanged_document_shows_that_an_update_was_not_done(store: MemoryStore) -> None:
    await commit(await opened(MemoryDriver(store)), put("a"))
    with pytest.raises(ExpectationFailed):
        await after(store, [put("b")], does=False, ours=[put("a", 2, expect=1), put("b")])
    assert await stored(store) == {"a": 1, "b": 1}


@pytest.mark.parametrize("does", [True, False])
async def test_a_document_that_may_have_been_written_over_ours_leaves_it_unknown(
    store: MemoryStore,
    does: bool,  # noqa: FBT001 - a parameter
) -> None:
    await commit(await opened(MemoryDriver(store)), put("a"))
    others = [[put("a", 3, expect=Expect.ANY)]] if does else [[put("a", 2, expect=1)], [put("a", 3, expect=2)]]
    with pytest.raises(OutcomeUnknown):
        await after(store, *others, does=does, ours=[put("a", 2, expect=1)])
    assert await stored(store) == {"a": 3}


async def test_a_document_written_and_removed_again_leaves_it_unknown(store: MemoryStore) -> None:
    await commit(await opened(MemoryDriver(store)), put("gate"))
    with pytest.raises(OutcomeUnknown):
        await after(
            store,
            [Remove(sort="a", expect=1), Remove(sort="gate", expect=1)],
            does=True,
            ours=[Require(sort="gate"), put("a")],
        )
    assert await stored(store) == {}


async def test_a_removal_still_to_be_done_shows_that_nothing_was_done(store: MemoryStore) -> None:
    await commit(await opened(MemoryDriver(store)), put("a"), put("b"))
    with pytest.raises(ExpectationFailed):
        await after(
            store,
            [Remove(sort="b", expect=1)],
            does=False,
            ours=[Remove(sort="a", expect=1), Remove(sort="b", expect=1)],
        )
    assert await stored(store) == {"a": 1}


@pytest.mark.parametrize("does", [True, False])
async def test_who_removed_what_is_gone_is_unknown(store: MemoryStore, does: bool) -> None:  # noqa: FBT001 - a parameter
    await commit(await opened(MemoryDriver(store)), put("a"))
    others = [] if does else [[Remove(sort="a", expect=1)]]
    with pytest.raises(OutcomeUnknown):
        await after(store, *others, does=does, ours=[Remove(sort="a", expect=1)])


@pytest.mark.parametrize("does", [True, False])
async def test_removals_that_expect_anything_are_just_repeated(store: MemoryStore, does: bool) -> None:  # noqa: FBT001 - a parameter
    await commit(await opened(MemoryDriver(store)), put("a"))
    await after(store, does=does, ours=[Remove(sort="a", expect=Expect.ANY)])
    assert await stored(store) == {}


async def test_a_mixed_commit_is_judged_by_what_it_puts(store: MemoryStore) -> None:
    await commit(await opened(MemoryDriver(store)), put("old"))
    await after(store, does=True, ours=[Remove(sort="old", expect=1), put("new")])
    assert await stored(store) == {"new": 1}


@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.DOWN, Fault.TIMED_OUT])
async def test_after_a_lost_answer_no_failure_says_that_nothing_was_done(store: MemoryStore, fault: Fault) -> None:
    script = [Fault.LOST_UNDONE] + [fault] * 10_000
    desk = Desk(FaultyDriver(await opened(MemoryDriver(store)), commits=script))
    with pytest.raises(OutcomeUnknown):
        await commit(desk.driver, put("a"))


async def test_a_commit_is_looked_up_through_failures_too(store: MemoryStore) -> None:
    faulty = FaultyDriver(
        await opened(MemoryDriver(store)), commits=[Fault.LOST_DONE], reads=[Fault.THROTTLED, Fault.DOWN, None]
    )
    await commit(Desk(faulty).driver, put("a"))
    assert (faulty.commits, faulty.reads) == (1, 3)


async def test_a_first_refusal_is_the_truth(store: MemoryStore) -> None:
    await commit(await opened(MemoryDriver(store)), put("a"))
    faulty = FaultyDriver(await opened(MemoryDriver(store)), commits=[Fault.THROTTLED])
    with pytest.raises(ExpectationFailed) as caught:
        await commit(Desk(faulty).driver, put("a"))
    assert caught.value.sort == "a"
    assert faulty.reads == 0


async def test_versions_for_what_is_written_anew_do_not_repeat(store: MemoryStore) -> None:
    driver = Desk(MemoryDriver(store)).driver
    versions = {driver.new_version() for _ in range(1_000)}
    assert len(versions) == 1_000
    assert all(0 <= version < 2**52 for version in versions)


async def test_commits_in_bad_weather_are_each_done_once(store: MemoryStore) -> None:
    chances = {Fault.LOST_DONE: 0.2, Fault.LOST_UNDONE: 0.2, Fault.THROTTLED: 0.1}
    for seed in range(200):
        driver = await opened(MemoryDriver(store))
        desk = Desk(FaultyDriver(driver, commit_chances=chances, read_chances={Fault.DOWN: 0.2}, seed=seed))
        counted = put("count", seed + 1, expect=seed or Expect.ABSENT)
        await commit(desk.driver, put(f"n{seed}"), counted, commit_id=f"commit-{seed}")
    assert (await stored(store))["count"] == 200
    assert len(await stored(store)) == 201
