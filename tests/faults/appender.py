"""A process of many writers that append to one stream at the same time: python -m tests.faults.appender TASK.

It says that it is ready, waits for a line, and says at the end what became of each event.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any

import perdure
from perdure.errors import OutcomeUnknown, TimedOut

STREAM = "orders"
ATTEMPTS_MAX = 20


async def append(acme: perdure.Tenant, process: int, writer: int, events: int) -> list[list[object]]:
    """One writer: each event after the one before was acknowledged."""
    done: list[list[object]] = []
    for number in range(events):
        event = perdure.StreamEvent(type="ORDER", event_id=f"{process}.{writer}.{number}", data={"number": number})
        kept = await insist(acme, event)
        done.append([kept.event_id, kept.sequence, kept.cursor])
    return done


async def insist(acme: perdure.Tenant, event: perdure.StreamEvent) -> perdure.AppendedEvent:
    """Append it, again if that took too long among the others: its id makes it the same event."""
    for _ in range(ATTEMPTS_MAX):
        with contextlib.suppress(TimedOut, OutcomeUnknown):
            return (await acme.streams.append(STREAM, event))[0]
    raise AssertionError(f"event {event.event_id} was not appended in {ATTEMPTS_MAX} attempts")


async def main(task: dict[str, Any]) -> None:
    """All writers of one process."""
    async with perdure.open(task["dsn"], mode="lab", env="dev", registry=task["registry"], timeout_s=120) as plane:
        acme = plane.scope("t_acme", actor="agent:writer")
        await acme.streams.head(STREAM)  # connected before the start
        sys.stdout.write("true\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        writers = range(task["writers"])
        done = await asyncio.gather(*(append(acme, task["process"], writer, task["events"]) for writer in writers))
    sys.stdout.write(json.dumps([entry for entries in done for entry in entries]) + "\n")


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
