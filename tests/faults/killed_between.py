"""A process that dies by SIGKILL at one of its driver's operations: python -m tests.faults.killed_between TASK.

It does one thing after another, each on names that nobody used before, and says so when it is acknowledged. The driver
below its backend is the real one; what stands between kills the process where the task says.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NoReturn

import pytest

import perdure
from perdure.adapters.documents.backend import DocumentBackend
from perdure.compose import documents
from perdure.ports.documents import DocumentDriver
from perdure.testing.driver_faults import Crash, FaultyDriver

PROJECT = "shop"
USER = "u_1"
END_S = 86_400


class DeadlyDriver(FaultyDriver):
    """Where the others would raise ``Crashed``, this process is gone."""

    def arm(self, *, at: int, moment: Literal["before", "after"]) -> None:
        """Die at the ``at``-th commit from now."""
        self._crash = Crash(at=self.commits + at, moment=moment, among="commits")

    def _die(self) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable: nothing survives it")


def event(name: str) -> perdure.StreamEvent:
    """An event with an id, so that it is the same one when it is appended again."""
    return perdure.StreamEvent(type="STEP", event_id=name, data={"name": name})


def message(name: str) -> perdure.Message:
    """A message with an id."""
    return perdure.Message(role="user", content=name, message_id=name)


Deed = Callable[[perdure.Tenant, str], Awaitable[object]]


async def first_event(acme: perdure.Tenant, name: str) -> object:
    """A stream that was not there: its name in the directory, its header, its first event."""
    return await acme.streams.append(f"stream-{name}", event("a"), event("b"))


async def second_event(acme: perdure.Tenant, name: str) -> object:
    """More of it."""
    return await acme.streams.append(f"stream-{name}", event("c"))


async def first_row(acme: perdure.Tenant, name: str) -> object:
    """A table that was not there, whose row will expire: a pointer says when."""
    return await acme.tables.put(f"table_{name}", "kept", {"name": name}, ttl_s=END_S)


async def session(acme: perdure.Tenant, name: str) -> object:
    """A session that was not there, and will expire."""
    return await acme.memory.append(f"session-{name}", message("a"), user=USER, ttl_s=END_S)


async def end_session(acme: perdure.Tenant, name: str) -> object:
    """It is removed again, with every trace of its name."""
    return await acme.memory.delete_session(f"session-{name}", user=USER)


async def board(acme: perdure.Tenant, name: str) -> object:
    """The first blackboard of a session."""
    return await acme.memory.boards.put("state", {"name": name}, user=USER, session=f"session-{name}")


async def remove_row(acme: perdure.Tenant, name: str) -> None:
    """The last row of a table, which is no table then."""
    await acme.tables.delete(f"table_{name}", "kept")


DEEDS: dict[str, Deed] = {
    "first_event": first_event,
    "second_event": second_event,
    "first_row": first_row,
    "session": session,
    "board": board,
    "end_session": end_session,
    "remove_row": remove_row,
}


async def look(acme: perdure.Tenant, names: list[str]) -> dict[str, Any]:
    """What is there under each name, and what the lists say."""
    streams = set(await all_names(acme.streams.list))
    sessions = set((await acme.memory.sessions(user=USER, limit=500)).items)
    seen: dict[str, Any] = {}
    for name in names:
        page = await acme.streams.read(f"stream-{name}")
        found = await acme.memory.find_session(f"session-{name}", user=USER)
        messages = 0 if found is None else len((await acme.memory.window(f"session-{name}", user=USER)).messages)
        boards = await acme.memory.boards.list(user=USER, session=f"session-{name}")
        seen[name] = {
            "events": [[one.sequence, one.event_id] for one in page.events],
            "is_stream_listed": f"stream-{name}" in streams,
            "rows": [row.key for row in (await acme.tables.query(f"table_{name}")).items],
            "messages": messages,
            "is_session_listed": f"session-{name}" in sessions,
            "boards": [one.key for one in boards.items],
        }
    seen["others"] = sorted(
        streams - {f"stream-{name}" for name in names} | sessions - {f"session-{name}" for name in names}
    )
    return seen


async def all_names(pages: Callable[..., Awaitable[perdure.Page[str]]]) -> list[str]:
    """Every page of a list."""
    names: list[str] = []
    cursor: str | None = None
    while True:
        page = await pages(cursor=cursor, limit=500)
        names += page.items
        cursor = page.next_cursor
        if cursor is None:
            return names


async def main(task: dict[str, Any]) -> None:
    """Look at what earlier processes left, finish what the last one began, and die on the way of the next."""
    drivers: list[DeadlyDriver] = []

    def deadly(driver: DocumentDriver, **named: Any) -> DocumentBackend:
        drivers.append(DeadlyDriver(driver))
        return DocumentBackend(drivers[-1], **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "DocumentBackend", deadly)
        # The registry and the stream of route events are elsewhere: this driver's commits are those of the deeds.
        async with perdure.open(task["dsn"], mode="lab", env="dev") as plane:
            acme = plane.scope("t_acme", actor="agent:writer", project=PROJECT)
            say(await look(acme, task["names"]))
            if task["unfinished"] is not None:
                deed, name = task["unfinished"]
                await DEEDS[deed](acme, name)
                say(["again", deed, name])
                say(await look(acme, task["names"]))
            if task["name"] is not None:
                (driver,) = drivers
                driver.arm(at=task["at"], moment=task["moment"])
                for deed, do in DEEDS.items():
                    say(["begins", deed])
                    await do(acme, task["name"])
                    say(["done", deed])


def say(value: object) -> None:
    """Print it now."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
