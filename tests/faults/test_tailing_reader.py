"""Eight writers of one tenant, each with a plane of its own, and a reader who sees every event once, in order."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import perdure
from perdure.errors import Conflict
from perdure.testing.contracts.ledger import begin, everything
from tests.support.databases import ALL, Database, engines

WRITERS = 8
CHANGES = 25


@engines(*ALL)
async def test_a_tailing_reader_sees_every_event_of_eight_writers_once_and_in_order(database: Database) -> None:
    async with AsyncExitStack() as stack:
        planes = [
            await stack.enter_async_context(
                perdure.open(database.dsn("app"), mode="lab", env="dev", coalesce=number % 2 == 0, connections_max=2)
            )
            for number in range(WRITERS + 1)
        ]
        tenants = [plane.scope("t_acme", actor=f"agent:writer-{number}") for number, plane in enumerate(planes)]
        run, finished = await begin(tenants[0]), await begin(tenants[0], "msg-2")
        await tenants[0].runs.complete(finished)
        started = await tenants[0].events.last_number()
        expected = started + WRITERS * CHANGES * 2
        seen: list[perdure.Event] = []

        async def read() -> None:
            async for event in tenants[-1].events.follow(after=0, poll_s=0.005):
                seen.append(event)
                if len(seen) == expected:
                    return

        async def write(writer: int) -> None:
            tenant = tenants[writer]
            mine = await tenant.runs.get(run.id)
            for number in range(CHANGES):
                async with tenant.change(mine) as change:
                    change.step("work", key=f"{writer}-{number}", output={})
                if number % 5 == 0:
                    await refused(tenant, finished)  # a number must not be lost on what was rolled back

        await asyncio.gather(read(), *map(write, range(WRITERS)))
        assert [event.sequence_number for event in seen] == list(range(1, expected + 1))
        assert len({event.id for event in seen}) == expected
        assert tuple(seen) == await everything(tenants[0])
        assert {event.actor for event in seen[started:]} == {f"agent:writer-{number}" for number in range(WRITERS)}


async def refused(tenant: perdure.Tenant, finished: perdure.Run) -> None:
    try:
        async with tenant.change(finished) as change:
            change.step("late")
    except Conflict:
        return
    raise AssertionError("a finished run took a step")
