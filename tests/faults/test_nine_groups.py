"""Production on three vendors at once, told from the first route to the last event, with processes that come and go."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.errors import Forbidden
from tests.conftest import MakeDatabase
from tests.support.children import ROOT, run_child
from tests.support.databases import Database
from tests.support.places import MakePlace, Place

CHOICES = {"streams": "firestore", "tables": "dynamodb", "memory": "cosmos"}
NAMES = {"streams": "event_stream", "tables": "tabular_store", "memory": "memory_store"}
TIERS = {"streams": "enterprise", "tables": "pro", "memory": "enterprise"}
PRETENDED = {
    "ENV": "dev",
    "APP_ENV": "lab",
    "MEMORY_BACKEND": "memory",
    "STATE_BACKEND": "filesystem",
    "ROUTING_REGISTRY_BACKEND": "filesystem",
    "GOOGLE_CLOUD_PROJECT": "elsewhere",
}
"""What older programs chose backends by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Production:
    """A ledger of mode saas and env prod, and what its commands are told."""

    database: Database
    settings: Path
    folder: Path

    async def part(self, name: str) -> dict[str, Any]:
        """What a new process says."""
        task = {"dsn": self.database.dsn("app"), "settings": str(self.settings), "part": name}
        (said,) = await run_child("tests.faults.nine_groups", task, env={**os.environ, **PRETENDED})
        assert isinstance(said, dict)
        return said

    async def command(self, *words: str) -> Any:
        """What ``perdure`` prints, in a process of its own."""
        where = ["--dsn", self.database.dsn("app"), "--mode", "saas", "--env", "prod", "--json"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from perdure.cli.main import main; main()", *words, *where),
            *("--settings", str(self.settings)),
            cwd=self.folder,
            env={**os.environ, **PRETENDED, "PYTHONPATH": str(ROOT / "src")},
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await process.communicate()
        assert process.returncode == 0, words
        return json.loads(printed)


@pytest.fixture
async def production(make_database: MakeDatabase, make_place: MakePlace, tmp_path: Path) -> Production:
    """Two tenants, and a registry on Firestore."""
    database = make_database("pg18", mode="saas", env="prod")
    registry = make_place("firestore")
    settings = tmp_path / "perdure.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in registry.config.items()]
    settings.write_text("\n".join(['[registry]\nbackend = "firestore"\n[registry.config]', *lines]))
    async with perdure.open(
        database.dsn("app"), mode="saas", env="prod", owner_dsn=database.direct_dsn("owner"), settings=settings
    ) as plane:
        for tenant in ("t_acme", "t_other"):
            assert await plane.tenants.add(tenant)
    return Production(database=database, settings=settings, folder=tmp_path)


def document(kind: str, place: Place) -> dict[str, Any]:
    """A route in the words of older registries."""
    return {
        "resource_kind": NAMES[kind],
        "tenant_id": "t_acme",
        "env": "prod",
        "backend_type": place.backend,
        "config": dict(place.config),
        "tier": TIERS[kind],
        "cost_notes": f"what {place.backend} costs",
    }


async def test_production_on_three_vendors_keeps_what_it_is_told(production: Production, make_place: MakePlace) -> None:
    routes = [document(kind, make_place(backend)) for kind, backend in CHOICES.items()]
    (production.folder / "routes.json").write_text(json.dumps(routes))
    applied = await production.command("routes", "set", "--file", "routes.json")
    assert len(applied["changed"]) == len(CHOICES)

    wrote = await production.part("write")
    assert wrote["event_ids"] == ["ev_001", "ev_002", "ev_003"]
    assert None not in wrote["cursors"]

    seen = await production.part("read")
    check_stores(seen)
    check_registry(seen)
    check_refusals(await production.part("refuse"))
    with pytest.raises(Forbidden) as caught:
        async with perdure.open(
            production.database.dsn("app"),
            mode="saas",
            env="prod",
            data_dir=production.folder,
            registry={"backend": "filesystem", "config": {"directory": "registry"}},
        ):
            raise AssertionError("it was opened")
    assert caught.value.code == "forbidden_backend_class"
    assert not (production.folder / "registry").exists()

    target = make_place("cosmos")
    switched = await production.command(
        *("routes", "switch", "tables", "t_acme", "--backend", "cosmos", "--rationale", "nearer to memory"),
        *("--tier", "enterprise", "--cost-notes", "request units", "--data-stays"),
        *(word for name, value in target.config.items() for word in ("--config", option(name, value))),
    )
    assert switched["previous_backend_type"] == "dynamodb"
    told = await production.part("tell")
    check_switch(told, target)
    check_events(told)
    check_audit(wrote, told)


def option(name: str, value: object) -> str:
    """As a config is given to a command."""
    return f"{name}={str(value).lower() if isinstance(value, bool) else value}"


def check_stores(seen: dict[str, Any]) -> None:
    """Groups 1 to 3: the stream, the table and the memory, in a process that wrote none of it."""
    assert seen["after_ev_001"] == ["ev_002", "ev_003"]
    assert seen["all"] == ["ev_001", "ev_002", "ev_003"]
    assert seen["row"] == {"version": 1, "rules": ["policy_v1"]}
    assert seen["keys"] == ["policy_v1", "policy_v2"]
    assert seen["board"] == [{"phase": "plan", "depth": 2}, 1]
    assert seen["messages"] == [["hello", "world"], ["hello", "world", "again"]]


def check_registry(seen: dict[str, Any]) -> None:
    """Group 4: every route is listed, with where it was found and how its backend is."""
    assert seen["routes"] == [[kind, backend, "tenant", "healthy"] for kind, backend in CHOICES.items()]
    assert seen["everybody"] == [
        "t_acme/memory/cosmos",
        "t_acme/streams/firestore",
        "t_acme/tables/dynamodb",
        "t_system/routes/firestore",
    ]
    assert seen["coverage"] == [
        *([kind, "available"] for kind in CHOICES),
        *([kind, "missing"] for kind in ("turns", "objects", "work", "telemetry")),
    ]


def check_refusals(seen: dict[str, Any]) -> None:
    """Groups 5 and 7: nothing on one machine outside lab, and no route means no backend, whatever variables say."""
    for name in ("set filesystem", "set sqlite", "set memory", "switch"):
        assert seen[name][0] == "forbidden_backend_class", name
    for name, kind in {"streams": "streams", "tables": "tables", "memory": "memory", "show": "streams"}.items():
        code, message, detail = seen[name]
        assert code == f"{kind}.missing_route"
        assert message.startswith(f"No route configured for kind '{kind}', tenant 't_other', env 'prod'")
        assert not any(word in message for word in PRETENDED)
        assert detail == {"kind": kind, "tenant": "t_other", "mode": "saas", "env": "prod", "project": "default"}
    assert [record for record in seen["audit"] if record[-1] == "ok"] == []


def check_switch(told: dict[str, Any], target: Place) -> None:
    """Group 6: the switch is in the route and in its history, and leads to an empty place."""
    assert told["route"] == ["cosmos", "dynamodb", "nearer to memory", "enterprise", "request units"]
    assert told["config"] == target.config
    assert [entry[:4] for entry in told["history"]] == [
        [1, "set", None, "dynamodb"],
        [2, "switch", "dynamodb", "cosmos"],
    ]
    assert [entry[5] for entry in told["history"]] == [None, "nearer to memory"]
    assert all(entry[4].startswith("user:") for entry in told["history"])
    assert told["left"] == []


def check_events(told: dict[str, Any]) -> None:
    """Group 9: each change is in the tenant's own stream once, on the backend of its streams."""
    assert [event[0] for event in told["events"]] == ["ROUTE_CHANGED"] * 3 + ["ROUTE_BACKEND_SWITCHED"]
    assert [event[4] for event in told["events"]] == [1, 2, 3, 4]
    assert len({event[1] for event in told["events"]}) == 4
    _, _, data, meta, _ = told["events"][-1]
    assert data["backend_type"] == "cosmos"
    assert data["previous_backend_type"] == "dynamodb"
    assert data["switch_rationale"] == "nearer to memory"
    assert data["last_switch_time"] == told["switched_at"]
    assert data["resource_kind"] == "tabular_store"
    assert meta["storage_class"] == "audit"


def check_audit(wrote: dict[str, Any], told: dict[str, Any]) -> None:
    """Group 8: every write left one record that says who, what and where; of routes the history is the record."""
    who = ["t_acme", "agent:planner", "req-write", "ok"]
    expected = [
        *[["streams", "append", "firestore", "tenant_timeline", *who]] * 3,
        *[["tables", "put", "dynamodb", "policies", *who]] * 3,
        ["memory", "put", "cosmos", "board/project", *who],
        *[["memory", "append", "cosmos", "session/u_1/s_001", *who]] * 2,
    ]
    ours = [record for record in wrote["audit"] if record[5] == "agent:planner"]
    assert ours == expected
    assert len(told["history"]) == 2
