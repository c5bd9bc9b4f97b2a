"""Processes that append to one stream at the same time: every event once, numbered without a gap."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

import perdure
from tests.faults.appender import STREAM
from tests.support.children import child
from tests.support.databases import Database
from tests.support.places import SHARED, Place

PROCESSES = 4
WRITERS = 25
STEPS = {"firestore": 50}  # our fake looks through all there is for each page; the vendor's emulator goes step by step
READERS = 16

pytestmark = pytest.mark.timeout(1_800)

Kept = dict[int, tuple[str, str]]
"""The id and the cursor of each event by its number."""


async def append_all(database: Database, place: Place, *, events: int) -> Kept:
    """Let the processes begin together and end; what they were told."""
    kept: Kept = {}
    async with AsyncExitStack() as stack:
        running = []
        for process in range(PROCESSES):
            task = {
                "dsn": database.dsn("app"),
                "registry": place.registry,
                "process": process,
                "writers": WRITERS,
                "events": events,
            }
            running.append(await stack.enter_async_context(child("tests.faults.appender", task)))
        for one in running:
            assert await one.said(1) == [True]
        for one in running:
            await one.tell("go")
        for said in await asyncio.gather(*(one.said() for one in running)):
            for event_id, sequence, cursor in said[0]:
                assert sequence not in kept, sequence
                kept[sequence] = (event_id, cursor)
        assert [await one.ended() for one in running] == [0] * PROCESSES
    return kept


async def read_on(acme: perdure.Tenant, after: str | None) -> list[perdure.StreamEvent]:
    """Everything after a cursor, page by page."""
    events: list[perdure.StreamEvent] = []
    more = True
    while more:
        page = await acme.streams.read(STREAM, after=after, limit=500)
        events += page.events
        after, more = page.next_cursor, page.has_more
    return events


async def check_order(acme: perdure.Tenant, kept: Kept, *, events: int) -> Sequence[perdure.StreamEvent]:
    """Nothing lost, nothing twice, no gap, and each writer's events in its order."""
    read = await read_on(acme, None)
    count = PROCESSES * WRITERS * events
    assert [event.sequence for event in read] == list(range(1, count + 1))
    assert {sequence: kept[sequence][0] for sequence in kept} == {event.sequence: event.event_id for event in read}
    written: dict[str, list[int]] = {}
    for event in read:
        assert event.event_id is not None
        writer, _, number = event.event_id.rpartition(".")
        written.setdefault(writer, []).append(int(number))
        assert event.data == {"number": int(number)}
    assert len(written) == PROCESSES * WRITERS
    assert all(numbers == list(range(events)) for numbers in written.values())
    return read


async def check_step(acme: perdure.Tenant, kept: Kept, position: int) -> None:
    """What follows a position is the next event and its cursor: so, from each to the end, it is the suffix."""
    page = await acme.streams.read(STREAM, after=kept[position][1], limit=1)
    if position == len(kept):
        assert page.events == ()
        return
    assert [(event.sequence, event.event_id) for event in page.events] == [(position + 1, kept[position + 1][0])]
    assert page.next_cursor == kept[position + 1][1]


@pytest.mark.parametrize(
    ("database", "place", "events", "step"),
    [
        *(pytest.param("pg18", backend, 4, 33, id=f"{backend}-400") for backend in SHARED),
        *(
            pytest.param("pg18", backend, 100, STEPS.get(backend, 1), id=f"{backend}-10000", marks=pytest.mark.soak)
            for backend in SHARED
        ),
        pytest.param("pg18", "firestore-emulator", 100, 1, id="firestore-emulator-10000", marks=pytest.mark.soak),
        pytest.param("pg15", "postgres", 100, 1, id="postgres-15-10000", marks=pytest.mark.soak),
        pytest.param("pg15-pgbouncer", "postgres", 100, 1, id="pgbouncer-10000", marks=pytest.mark.soak),
    ],
    indirect=["database", "place"],
)
async def test_r27_four_processes_of_25_appenders_number_densely(
    database: Database, place: Place, events: int, step: int
) -> None:
    registry = place.registry
    async with perdure.open(database.dsn("app"), mode="lab", env="dev", registry=registry, timeout_s=120) as plane:
        acme = plane.scope("t_acme", actor="agent:reader")
        await acme.routes.set("streams", place.backend, config=place.config)
        kept = await append_all(database, place, events=events)
        read = await check_order(acme, kept, events=events)
        wanted = range(1, len(read) + 1, step)
        for first in range(0, len(wanted), READERS):
            positions = wanted[first : first + READERS]
            await asyncio.gather(*(check_step(acme, kept, position) for position in positions))
        for position in range(1, len(read) + 1, len(read) // 4):
            assert await read_on(acme, kept[position][1]) == read[position:]
        head = await acme.streams.head(STREAM)
        assert (head.sequence, head.cursor) == (len(read), kept[len(read)][1])
        assert await read_on(acme, head.cursor) == []
