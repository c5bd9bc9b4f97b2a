"""A process that tells what it sees in every routed store and writes on: python -m tests.faults.routed_writer TASK.

The ``n``-th write of each kind follows from ``n``, so that whoever sees a state knows how many writes made it. The five
kinds are written side by side, and each acknowledgement is printed as soon as it is there.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import perdure

KEYS = 7
PROJECTS = 3
USER = "u_1"
TIERS = ("free", "pro", "enterprise")

Write = Callable[[perdure.Tenant, int], Awaitable[object]]


def say(value: object) -> None:
    """Print it now."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def append_events(acme: perdure.Tenant, n: int) -> object:
    """Two events at once."""
    events = [perdure.StreamEvent(type="ORDER", event_id=f"{n}{part}", data={"n": n}) for part in "ab"]
    return (await acme.streams.append("orders/eu", *events))[-1].cursor


async def put_row(acme: perdure.Tenant, n: int) -> object:
    """One of a few keys, so that versions grow."""
    return (await acme.tables.put("configs", f"k{n % KEYS}", {"n": n})).version


async def remember(acme: perdure.Tenant, n: int) -> object:
    """One message of a session."""
    message = perdure.Message(role="user", content={"n": n}, message_id=f"m{n}")
    return (await acme.memory.append("s_1", message, user=USER))[0].cursor


async def put_board(acme: perdure.Tenant, n: int) -> object:
    """The project's blackboard and the user's in turn."""
    return (await acme.memory.boards.put("plan", {"n": n}, user=USER if n % 2 else None)).version


async def set_route(acme: perdure.Tenant, n: int) -> object:
    """A route of one of a few projects that nobody uses."""
    route = await acme.routes.get("tables")
    project = f"p{n % PROJECTS}"
    notes, tier = f"note {n}", TIERS[n % len(TIERS)]
    changed = await acme.routes.set(
        "tables",
        route.backend,
        config=route.config,
        project=project,
        cost_notes=notes,
        tier=tier,  # type: ignore[arg-type]  # one of them
    )
    return changed.version


WRITES: dict[str, Write] = {
    "events": append_events,
    "rows": put_row,
    "messages": remember,
    "boards": put_board,
    "routes": set_route,
}


async def look(acme: perdure.Tenant, cursors: dict[str, list[str]]) -> dict[str, Any]:
    """Everything that is there, and what follows each cursor."""
    events = await all_events(acme, None)
    seen: dict[str, Any] = {
        "events": [[event.sequence, event.event_id, event.data["n"]] for event in events],
        "messages": [],
        "rows": {},
        "boards": {},
        "routes": {},
        "history": {},
    }
    for row in (await acme.tables.query("configs")).items:
        assert isinstance(row.value, dict)
        seen["rows"][row.key] = [row.value["n"], row.version]
    for owner in (None, USER):
        for board in (await acme.memory.boards.list(user=owner)).items:
            seen["boards"][board.scope] = [board.data["n"], board.version]
    if await acme.memory.find_session("s_1", user=USER) is not None:
        window = await acme.memory.window("s_1", user=USER, limit=500)
        newest = await acme.memory.window("s_1", user=USER, last=3)
        seen["messages"] = [[message.sequence, message.message_id, message.content] for message in window.messages]
        seen["newest"] = [message.message_id for message in newest.messages]
        seen["sessions"] = (await acme.memory.sessions(user=USER)).items
    seen["streams"] = (await acme.streams.list()).items
    for route in await acme.routes.list(kind="tables"):
        if route.project is not None:
            seen["routes"][route.project] = [route.cost_notes, route.tier, route.version]
            history = await acme.routes.history("tables", project=route.project)
            seen["history"][route.project] = [[entry.version, entry.action, entry.actor] for entry in history.items]
    seen["resumed"] = [len(await all_events(acme, cursor)) for cursor in cursors["events"]]
    seen["continued"] = [
        len((await acme.memory.window("s_1", user=USER, after=cursor, limit=500)).messages)
        for cursor in cursors["messages"]
    ]
    return seen


async def all_events(acme: perdure.Tenant, after: str | None) -> list[perdure.StreamEvent]:
    """What follows a cursor, to the end."""
    events: list[perdure.StreamEvent] = []
    more = True
    while more:
        page = await acme.streams.read("orders/eu", after=after, limit=40)
        events += page.events
        after, more = page.next_cursor, page.has_more
    return events


def counts(seen: dict[str, Any]) -> dict[str, int]:
    """How many writes of each kind made what is there."""
    return {
        "events": len(seen["events"]) // 2,
        "rows": sum(version for _, version in seen["rows"].values()),
        "messages": len(seen["messages"]),
        "boards": sum(version for _, version in seen["boards"].values()),
        "routes": sum(version for _, _, version in seen["routes"].values()),
    }


async def write(acme: perdure.Tenant, kind: str, done: int, rounds: int) -> None:
    """Go on after what is done."""
    for n in range(done + 1, done + rounds + 1):
        say([kind, n, await WRITES[kind](acme, n)])


async def main(task: dict[str, Any]) -> None:
    """Look, say what there is, and write ``rounds`` more of each kind, all at the same time."""
    async with perdure.open(task["dsn"], mode="lab", env="dev", registry=task["registry"]) as plane:
        acme = plane.scope("t_acme", actor="agent:writer")
        if not await acme.routes.list():
            for kind in ("streams", "tables", "memory"):
                await acme.routes.set(kind, task["target"]["backend"], config=task["target"]["config"])
        seen = await look(acme, task["cursors"])
        say(seen)
        done = counts(seen)
        await asyncio.gather(*(write(acme, kind, done[kind], task["rounds"]) for kind in WRITES))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
