"""A process that writes to every routed place and says where: python -m tests.core.placed TASK.

A task has variants of the environment; each is put in place of the one before, and a plane is opened under it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import perdure

KINDS = ("streams", "tables", "memory")
USER = "u_1"


async def visit(task: Mapping[str, Any], label: str) -> dict[str, Any]:
    """Write under a label by every route, and read what stands under the first one."""
    seen: dict[str, Any] = {}
    registry = task["registry"]
    async with perdure.open(task["dsn"], mode="lab", env="dev", registry=registry, data_dir=task["data_dir"]) as plane:
        for project in task["projects"]:
            place = plane.scope("t_acme", actor="agent:writer", project=project)
            views = [await place.routes.show(kind, project=project) for kind in KINDS]
            await place.tables.put("places", label, {"project": project})
            await place.streams.append("places", perdure.StreamEvent(type="BEEN", event_id=label))
            await place.memory.append("places", perdure.Message(role="user", content="", message_id=label), user=USER)
            seen[project] = {
                "routes": [[view.route.backend, dict(view.route.config), view.layer] for view in views],
                "rows": [row.key for row in (await place.tables.query("places")).items],
                "events": [event.event_id for event in (await place.streams.read("places")).events],
                "messages": [
                    message.message_id for message in (await place.memory.window("places", user=USER)).messages
                ],
            }
    return seen


async def main(task: dict[str, Any]) -> None:
    """Visit under every variant, beginning each time with the environment that this process was given."""
    own = dict(os.environ)
    for variant in task["variants"]:
        os.environ.clear()
        os.environ.update({name: value for name, value in own.items() if name not in variant["without"]})
        os.environ.update(variant["with"])
        sys.stdout.write(json.dumps([variant["label"], await visit(task, variant["label"])]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
