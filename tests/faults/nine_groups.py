"""The processes of one tenant in production: python -m tests.faults.nine_groups TASK, where the task names a part.

Each prints what it saw as one JSON value, with the records of the audit that it left.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import perdure
from perdure.errors import PerdureError

TIMELINE = "tenant_timeline"
USER = "u_1"
PATIENCE_S = 60

Part = Callable[[perdure.Tenant, perdure.Plane], Awaitable[dict[str, Any]]]


async def write(acme: perdure.Tenant, _: perdure.Plane) -> dict[str, Any]:
    """Something in each store."""
    events = [perdure.StreamEvent(type="STEP", event_id=f"ev_00{n}", data={"n": n}) for n in (1, 2, 3)]
    appended = [(await acme.streams.append(TIMELINE, event))[0] for event in events]
    for key in ("policy_v1", "policy_v2", "quota_v1"):
        await acme.tables.put("policies", key, {"version": 1, "rules": [key]})
    board = await acme.memory.boards.put("agent_state", {"phase": "plan", "depth": 2})
    for text in ("hello", "world"):
        await acme.memory.append("s_001", perdure.Message(role="user", content=text), user=USER)
    return {
        "event_ids": [event.event_id for event in appended],
        "cursors": [event.cursor for event in appended],
        "board_version": board.version,
    }


async def read(acme: perdure.Tenant, plane: perdure.Plane) -> dict[str, Any]:
    """What another process wrote; the session grows by one."""
    by_id = await acme.streams.read(TIMELINE, after="ev_001")
    from_start = await acme.streams.read(TIMELINE)
    row = await acme.tables.get("policies", "policy_v1")
    listed = await acme.tables.query("policies", prefix="policy_")
    board = await acme.memory.boards.get("agent_state")
    before = await acme.memory.window("s_001", user=USER)
    await acme.memory.append("s_001", perdure.Message(role="agent", content="again"), user=USER)
    after = await acme.memory.window("s_001", user=USER)
    views = [await acme.routes.show(kind, probe=True) for kind in ("streams", "tables", "memory")]
    return {
        "after_ev_001": [event.event_id for event in by_id.events],
        "all": [event.event_id for event in from_start.events],
        "row": row.value,
        "keys": [row.key for row in listed.items],
        "board": [board.data, board.version],
        "messages": [[message.content for message in window.messages] for window in (before, after)],
        "routes": [[view.route.kind, view.route.backend, view.layer, view.health.status] for view in views],
        "everybody": [
            f"{route.tenant}/{route.kind}/{route.backend}"
            for route in await plane.scope("t_system", actor="system:operator").routes.list()
        ],
        "coverage": [[row.kind, row.status] for row in await acme.routes.coverage()],
    }


async def refuse(acme: perdure.Tenant, plane: perdure.Plane) -> dict[str, Any]:
    """What has to fail, each with its code and its message."""
    other = plane.scope("t_other", actor="agent:planner")
    on_this_machine = {"filesystem": {"directory": "kept"}, "sqlite": {"path": "kept.db"}, "memory": {}}
    attempts: dict[str, Awaitable[object]] = {
        f"set {name}": acme.routes.set("tables", name, config=config, project="other")
        for name, config in on_this_machine.items()
    }
    attempts["switch"] = acme.routes.switch(
        "tables", "filesystem", config={"directory": "kept"}, rationale="cheaper", data_stays=True
    )
    attempts["streams"] = other.streams.read(TIMELINE)
    attempts["tables"] = other.tables.put("policies", "policy_v1", {})
    attempts["memory"] = other.memory.boards.find("agent_state")
    attempts["show"] = other.routes.show("streams")
    return {name: await failure(attempt) for name, attempt in attempts.items()}


async def failure(attempt: Awaitable[object]) -> list[object]:
    """The code, the message and the detail of an error that has to come."""
    try:
        await attempt
    except PerdureError as exc:
        return [exc.code, exc.message, {name: str(value) for name, value in exc.detail.items()}]
    raise AssertionError("it did not fail")


async def tell(acme: perdure.Tenant, _: perdure.Plane) -> dict[str, Any]:
    """How the route of tables came to be what it is, and what the tenant's own stream says about it."""
    route = await acme.routes.get("tables")
    history = await acme.routes.history("tables")
    events: list[perdure.StreamEvent] = []
    async with asyncio.timeout(PATIENCE_S):
        async for event in acme.streams.follow("routing/t_acme", poll_s=0.1):
            events.append(event)
            if event.type == "ROUTE_BACKEND_SWITCHED":
                break
    return {
        "route": [route.backend, route.previous_backend_type, route.switch_rationale, route.tier, route.cost_notes],
        "switched_at": None if route.last_switch_time is None else route.last_switch_time.isoformat(),
        "config": dict(route.config),
        "history": [
            [one.version, one.action, one.from_backend, one.to_backend, one.actor, one.rationale]
            for one in history.items
        ],
        "events": [[event.type, event.event_id, event.data, event.meta, event.sequence] for event in events],
        "left": [row.key for row in (await acme.tables.query("policies")).items],
    }


PARTS: dict[str, Part] = {"write": write, "read": read, "refuse": refuse, "tell": tell}


class Audit(logging.Handler):
    """Keeps what the audit says."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep its fields."""
        self.records.append(record.audit)  # type: ignore[attr-defined]  # every record of this logger has it


async def main(task: dict[str, Any]) -> None:
    """One part, in a plane of production."""
    audit = Audit()
    logger = logging.getLogger("perdure.audit")
    logger.addHandler(audit)
    logger.setLevel(logging.INFO)
    async with perdure.open(task["dsn"], mode="saas", env="prod", settings=task["settings"]) as plane:
        acme = plane.scope("t_acme", actor="agent:planner", request_id=f"req-{task['part']}")
        said = await PARTS[task["part"]](acme, plane)
    keys = ("kind", "operation", "backend", "container", "tenant", "actor", "request_id", "outcome")
    said["audit"] = [[record.get(key) for key in keys] for record in audit.records]
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
