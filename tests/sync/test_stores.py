"""The routed stores without await, on the backends of a real plane."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

import perdure.sync
from perdure.domain.memory import Message
from perdure.domain.stream import StreamEvent
from perdure.errors import Forbidden, NotFound, StaleVersion
from perdure.sync import Plane, Tenant
from tests.support.databases import Database

ACTOR = "agent:planner"


@pytest.fixture
def plane(database: Database, tmp_path: Path) -> Iterator[Plane]:
    with perdure.sync.open(database.dsn("app"), mode="lab", env="dev", data_dir=tmp_path, connections_max=4) as opened:
        yield opened


@pytest.fixture(params=["postgres", "sqlite", "filesystem", "memory"])
def acme(plane: Plane, request: pytest.FixtureRequest) -> Tenant:
    config = {"sqlite": {"path": "a.db"}, "filesystem": {"directory": "logs"}}.get(request.param, {})
    operator = plane.scope("t_system", actor="user:ana")
    for kind in ("streams", "tables", "memory"):
        operator.routes.set(kind, request.param, config=config, tenant="t_acme")
    return plane.scope(tenant="t_acme", actor=ACTOR)


def test_events_are_appended_read_on_from_a_cursor_and_followed(acme: Tenant) -> None:
    first, *_ = acme.streams.append("inbox", *(StreamEvent(type="NOTE", data={"n": n}) for n in range(3)))
    page = acme.streams.read("inbox", after=first.cursor)

    assert [(event.sequence, event.data) for event in page.events] == [(2, {"n": 1}), (3, {"n": 2})]
    followed = itertools.islice(acme.streams.follow("inbox", after=first.cursor, poll_s=0.01), 2)
    assert [event.sequence for event in followed] == [2, 3]
    assert acme.streams.head("inbox").sequence == 3


def test_rows_are_put_under_versions_and_queried(acme: Tenant) -> None:
    put = acme.tables.put("prices", "a", {"eur": 2**60})

    assert acme.tables.get("prices", "a") == put
    assert acme.tables.put("prices", "a", None, if_version=put).version == 2
    with pytest.raises(StaleVersion):
        acme.tables.put("prices", "a", 3, if_version=put)
    assert [row.key for row in acme.tables.query("prices").items] == ["a"]
    with pytest.raises(NotFound):
        acme.tables.get("prices", "b")


def test_messages_are_remembered_and_boards_kept(acme: Tenant) -> None:
    acme.memory.append("s1", *(Message(role="user", content=f"m{n}") for n in range(3)), user="ana")
    acme.memory.boards.put("plan", {"step": 1}, user="ana")

    window = acme.memory.window("s1", user="ana", last=2)
    assert [message.content for message in window.messages] == ["m1", "m2"]
    assert acme.memory.boards.get("plan", user="ana").data == {"step": 1}
    assert len(list(acme.memory.export_user("ana"))) > 0


def test_routes_are_seen_copied_and_kept_from_others(plane: Plane, acme: Tenant) -> None:
    acme.tables.put("prices", "a", 1)
    phases: list[str] = []
    operator = plane.scope("t_system", actor="user:ana")
    operator.routes.copy(
        "tables",
        "sqlite",
        config={"path": "b.db"},
        tenant="t_acme",
        rationale="why",
        settle_s=0,
        progress=lambda report: phases.append(report.phase),
    )

    assert phases[-1] == "done"
    assert (acme.routes.show("tables").route.backend, acme.tables.get("prices", "a").version) == ("sqlite", 1)
    assert [route.tenant for route in acme.routes.list()] == ["t_acme"] * 3
    with pytest.raises(Forbidden):
        acme.routes.show("tables", tenant="t_other")
