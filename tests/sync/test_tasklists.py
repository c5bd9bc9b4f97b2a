"""Task lists of a tenant of a plane, without await."""

from __future__ import annotations

from pathlib import Path

import perdure.sync
from tests.support.databases import Database


def test_a_tenants_lists_are_opened_changed_and_watched_without_await(database: Database, tmp_path: Path):
    dsn = database.direct_dsn("app")
    settings = {"root": str(tmp_path), "mode": "strict", "initialize_if_missing": True}
    for title in ("write", "read"):
        with perdure.sync.open(dsn, mode="lab", env="dev", tasklists=settings) as plane:
            acme = plane.scope(tenant="t_acme", actor="agent:planner")
            with acme.tasklists.open("sprint") as sprint:
                task = sprint.add(title, agent="agent:planner")
                assert next(iter(sprint.watch())).tasks[-1] == task
            assert list(acme.tasklists.list()) == ["sprint"]
            assert list(plane.scope(tenant="t_other", actor="agent:planner").tasklists.list()) == []
    assert len(list((tmp_path / "t_acme" / "sprint").glob("*.snapshot"))) == 2
