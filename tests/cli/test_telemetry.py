"""``perdure telemetry``: what is kept is listed by unit, instance and type, and counted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from typer.testing import CliRunner, Result

import perdure
from perdure.cli.main import app
from perdure.errors import Invalid
from tests.support.databases import Database


def run(database: Database, *words: str) -> Result:
    where = ["--dsn", database.direct_dsn("app"), "--mode", "lab", "--env", "dev", "--tenant", "t_acme"]
    return CliRunner().invoke(app, ["telemetry", *words, *where])


def printed(database: Database, *words: str) -> Any:
    result = run(database, *words, "--json")
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    return json.loads(result.stdout)


async def record(database: Database) -> None:
    async with perdure.open(database.dsn("app"), mode="lab", env="dev") as plane:
        acme = plane.scope(tenant="t_acme", actor="agent:tester")
        await acme.tables.put("there", "is", "a tenant")
        for number in range(5):
            log_type = "ERROR" if number == 3 else "TELEMETRY"
            assert acme.telemetry.record(instance_id="site-1", unit_id=f"u{number % 2}", log_type=log_type)
    stats = plane.telemetry.stats()
    assert (stats.flushed, stats.pending, stats.is_balanced) == (5, 0, True), "leaving the plane flushes"


def test_entries_are_listed_and_counted(database: Database) -> None:
    asyncio.run(record(database))
    assert [one["unit_id"] for one in printed(database, "list")["items"]] == ["u0", "u1", "u0", "u1", "u0"]
    assert len(printed(database, "list", "--unit", "u1", "--instance", "site-1")["items"]) == 2
    (error,) = printed(database, "list", "--type", "ERROR", "--newest")["items"]
    assert (error["unit_id"], error["log_type"]) == ("u1", "ERROR")
    first = printed(database, "list", "--limit", "4")
    (last,) = printed(database, "list", "--cursor", first["next_cursor"])["items"]
    assert last["unit_id"] == "u0"
    table = run(database, "list", "--limit", "2")
    assert table.stdout.splitlines()[0].split() == ["WHEN", "TYPE", "INSTANCE", "UNIT", "ACTOR", "ID"]
    assert len(table.stdout.splitlines()) == 3

    counted = printed(database, "stats")
    assert (counted["entries"], counted["complete"], counted["by_type"]) == (5, True, {"ERROR": 1, "TELEMETRY": 4})
    some = run(database, "stats", "--newest", "2")
    assert "the newest 2 entries; there are more" in some.output
    assert "no telemetry" in run(database, "stats", "--unit", "nobody").output
    assert isinstance(run(database, "list", "--type", "NOISE").exception, Invalid)
