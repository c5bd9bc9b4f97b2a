"""Turns on a backend that fails: before each call it makes, and after it, when the answer is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

import pytest

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.core.turn_store import StoredTurns, TurnParts
from perdure.domain.container import Space
from perdure.domain.turn import NewTurn
from perdure.errors import BackendDown, OutcomeUnknown, StaleVersion, TimedOut
from perdure.ports.environment import Environment
from perdure.testing.contracts.stores import TIMEOUT_S, new_space
from perdure.testing.contracts.turns_opening import Talk, turn
from perdure.testing.environment import CountingIds, FakeClock, SeededRandomness, fake_environment
from perdure.testing.watched import Hook, WatchedBackend, failing
from tests.contracts.document_stores import no_sleep
from tests.contracts.turn_stores import BlobsInMemory

CALLS_MAX: Final = 20  # no operation makes more
DOWN: Final = BackendDown("nothing answered")
LOST: Final = OutcomeUnknown("the answer was lost")

Operation: TypeAlias = Callable[["Place"], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Two clients of one space, the first of them on a backend that is watched, and what is there before."""

    backend: WatchedBackend
    talk: Talk
    other: Talk
    context_id: str
    ids: tuple[str, ...]


def said(key: str | None) -> NewTurn:
    """The turn that every test appends; it is large enough to be an object."""
    return turn(b"x" * 70_000, key=key)


async def attach(place: Place) -> None:
    """Attach a tree that is there."""
    await place.talk.attach(place.ids[0], await place.talk.put(b"tree"))


OPERATIONS: Final[dict[str, Operation]] = {
    "append": lambda place: place.talk.add(place.context_id, said(None)),
    "append with a key": lambda place: place.talk.add(place.context_id, said("k")),
    "branch": lambda place: place.talk.say(place.context_id, "branch", parent=place.ids[0]),
    "create": lambda place: place.talk.create(labels=("x",)),
    "fork": lambda place: place.talk.create(place.ids[1], labels=("x", "y")),
    "publish": lambda place: place.talk.publish("b", b"1"),
    "attach": attach,
}


async def open_place() -> Place:
    """A conversation of three turns, begun by a third client so that the first one knows nothing yet."""
    data, blobs, space = MemoryStore(), BlobsInMemory(), new_space()
    watched = WatchedBackend(await open_backend(data))
    ahead = open_talk(await open_backend(data), blobs, space, client=0)
    talk = open_talk(watched, blobs, space, client=1)
    other = open_talk(await open_backend(data), blobs, space, client=2)
    context_id = await ahead.begin()
    ids = await ahead.fill(context_id, 3)
    return Place(backend=watched, talk=talk, other=other, context_id=context_id, ids=tuple(ids))


async def open_backend(data: MemoryStore) -> DocumentBackend:
    """Another client of the data."""
    driver = MemoryDriver(data)
    await driver.open()
    return DocumentBackend(driver, mode="lab", env="dev", environment=fake_environment(), sleep=no_sleep)


def open_talk(backend: DocumentBackend | WatchedBackend, blobs: BlobsInMemory, space: Space, *, client: int) -> Talk:
    """The turns of a space on a backend, for a client whose ids are its own."""
    parts = TurnParts(backend.logs, backend.rows, environment=fake_environment(space=client), sleep=no_sleep)
    return Talk(store=StoredTurns(parts, blobs), space=space)


async def state(place: Place) -> tuple[object, ...]:
    """All that the other client sees."""
    contexts = await place.other.labelled(None)
    return (
        contexts,
        [(await place.other.head(context_id), await place.other.chain(context_id)) for context_id in contexts],
        [await place.other.labelled(label) for label in "xy"],
        await place.other.bundle("b"),
        [await place.other.snapshot(turn_id) for turn_id in place.ids],
    )


def at_call(number: int, hook: Hook) -> Hook:
    """A hook that asks another one at one call only, counted from 1."""
    count = 0

    async def at(name: str) -> None:
        """Count, and ask."""
        nonlocal count
        count += 1
        if count == number:
            await hook(name)

    return at


@pytest.mark.parametrize("name", OPERATIONS)
async def test_t32_whichever_call_fails_nothing_is_changed_and_trying_again_does_it(name: str) -> None:
    for number in range(1, CALLS_MAX):
        place = await open_place()
        before = await state(place)
        place.backend.before = at_call(number, failing(DOWN))
        try:
            await OPERATIONS[name](place)
        except BackendDown:
            place.backend.before = None
        else:
            assert number > 1
            return
        assert await state(place) == before
        await OPERATIONS[name](place)
        assert await state(place) != before
    pytest.fail(f"{name} makes {CALLS_MAX} calls or more")


@pytest.mark.parametrize("name", OPERATIONS)
async def test_t33_whichever_answer_is_lost_it_was_done_or_not_and_never_in_part(name: str) -> None:
    for number in range(1, CALLS_MAX):
        place, undisturbed = await open_place(), await open_place()
        before = shape(await state(place))
        await OPERATIONS[name](undisturbed)
        done = shape(await state(undisturbed))
        place.backend.after = at_call(number, failing(LOST))
        try:
            await OPERATIONS[name](place)
        except OutcomeUnknown:
            assert shape(await state(place)) in (before, done)
        else:
            assert shape(await state(place)) == done
            if number > len(place.backend.calls):
                return
    pytest.fail(f"{name} makes {CALLS_MAX} calls or more")


def shape(seen: tuple[object, ...]) -> str:
    """A state without ids of contexts that were skipped, times and tenants: what is comparable of two places."""
    contexts, talks, labelled, bundle, snapshots = seen
    assert isinstance(contexts, list)
    assert isinstance(talks, list)
    assert isinstance(labelled, list)
    chains = sorted([one.payload[:9] for one in chain] for _, chain in talks)
    labels = sorted(head.labels for head, _ in talks)
    return repr((len(contexts), chains, labels, [len(ids) for ids in labelled], bundle, snapshots))


async def test_a_turn_with_a_key_is_said_once_after_any_lost_answer() -> None:
    for number in range(1, 5):
        place = await open_place()
        place.backend.after = at_call(number, failing(LOST))
        refs = []
        for _ in range(3):
            with suppress(OutcomeUnknown):
                refs.append(await place.talk.add(place.context_id, said("k")))
        assert [ref.depth for ref in refs] == [4] * len(refs)
        assert len(refs) >= 2
        await place.talk.say(place.context_id, "after")
        assert [len(found.payload) for found in await place.other.chain(place.context_id)] == [1, 1, 1, 70_000, 5]


async def test_who_is_always_outrun_is_told_that_nothing_was_appended() -> None:
    place = await open_place()
    clock = FakeClock()

    async def sleep(seconds: float) -> None:
        clock.advance(seconds + 1)

    environment = Environment(clock=clock, randomness=SeededRandomness(), ids=CountingIds())
    parts = TurnParts(place.backend.logs, place.backend.rows, environment=environment, sleep=sleep)
    talk = place.talk.seen_by(StoredTurns(parts, BlobsInMemory()))
    place.backend.before = failing(StaleVersion("somebody was first"), among="logs.append")
    with pytest.raises(TimedOut):
        await talk.say(place.context_id, "no")
    assert clock.monotonic() <= TIMEOUT_S + 2
    assert len(await place.other.chain(place.context_id)) == 3
