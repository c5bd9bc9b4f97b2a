"""``perdure routes copy`` between real backends: nothing is lost, and what was interrupted goes on or is given up."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from perdure.cli import copy_progress
from perdure.core.copying import CopyReport
from perdure.core.plane import Tenant
from perdure.domain.memory import Message
from perdure.domain.stream import StreamEvent
from perdure.errors import IllegalTransition, Invalid, NotFound, StaleVersion
from tests.support.databases import Database
from tests.support.routed import Operator

ACTOR = "agent:planner"
KINDS = ("streams", "tables", "memory")


@pytest.fixture
def lab(database: Database, tmp_path: Path) -> Operator:
    return Operator(database=database, data_dir=tmp_path)


async def filled(acme: Tenant) -> tuple[str, str]:
    """Something of each kind; the cursors after the first event and after the first message."""
    events = [StreamEvent(type="NOTE", data={"number": number}) for number in range(3)]
    first, *_ = await acme.streams.append("inbox/1", *events)
    await acme.tables.put("prices", "a", {"eur": 1})
    await acme.tables.put("prices", "a", {"eur": 2})
    await acme.tables.put("prices", "b", {"eur": 2**60})
    said, *_ = await acme.memory.append(
        "s1", Message(role="user", content="hi"), Message(role="agent", content="ho"), user="ana"
    )
    await acme.memory.boards.put("plan", {"step": 1}, user="ana")
    assert first.cursor is not None
    return first.cursor, said.cursor


async def check(acme: Tenant, cursors: tuple[str, str]) -> None:
    """Everything is there, at the same numbers, versions and cursors."""
    page = await acme.streams.read("inbox/1", after=cursors[0])
    assert [(event.sequence, event.data["number"]) for event in page.events] == [(2, 1), (3, 2)]
    rows = (await acme.tables.query("prices")).items
    assert [(row.key, row.value, row.version) for row in rows] == [("a", {"eur": 2}, 2), ("b", {"eur": 2**60}, 1)]
    window = await acme.memory.window("s1", user="ana", after=cursors[1])
    assert [(message.sequence, message.content) for message in window.messages] == [(2, "ho")]
    assert (await acme.memory.boards.get("plan", user="ana")).data == {"step": 1}


def kept_in_sqlite(lab: Operator) -> tuple[str, str]:
    for kind in KINDS:
        lab.said("set", kind, "t_acme", "--backend", "sqlite", "--config", "path=a.db")

    async def fill() -> tuple[str, str]:
        async with lab.plane() as plane:
            return await filled(plane.scope("t_acme", actor=ACTOR))

    return lab.apart(fill())


def test_a_copy_takes_everything_along_with_its_cursors_and_versions_and_back(lab: Operator):
    cursors = kept_in_sqlite(lab)
    copy = ("--backend", "postgres", "--rationale", "grown up", "--settle", "0")
    done = lab.run("copy", "streams", "t_acme", *copy)
    assert done.exit_code == 0, done.output
    phases = [line.split()[0] for line in done.stderr.splitlines()]
    assert phases == ["backfill", "settle", "done"]
    assert "streams of t_acme is kept in postgres now" in done.stdout
    reports = {kind: lab.printed("copy", kind, "t_acme", *copy) for kind in ("tables", "memory")}
    assert (reports["tables"]["containers"], reports["tables"]["rows"]) == (1, 2)
    assert (reports["memory"]["containers"], reports["memory"]["entries"], reports["memory"]["rows"]) == (2, 2, 1)
    assert all(report["phase"] == "done" and len(report["digest"]) == 64 for report in reports.values())

    async def more() -> None:
        async with lab.plane() as plane:
            acme = plane.scope("t_acme", actor=ACTOR)
            await check(acme, cursors)
            await acme.tables.put("prices", "b", {"eur": 2**60}, if_version=1)
            with pytest.raises(StaleVersion):
                await acme.tables.put("prices", "a", {"eur": 3}, if_version=1)

    lab.apart(more())
    route = lab.printed("show", "tables", "t_acme")["route"]
    assert (route["backend"], route["previous_backend_type"], route["switch_rationale"]) == (
        "postgres", "sqlite", "grown up",
    )  # fmt: skip
    assert "--back until" in lab.said("show", "tables", "t_acme")
    back = lab.printed("copy", "tables", "t_acme", "--back", "--rationale", "too early", "--settle", "0")
    assert back["backend"] == "sqlite"

    async def returned() -> int:
        async with lab.plane() as plane:
            acme = plane.scope("t_acme", actor=ACTOR)
            return (await acme.tables.get("prices", "b")).version

    assert lab.apart(returned()) == 2
    actions = [one["action"] for one in lab.printed("history", "tables", "t_acme")["items"]]
    assert actions == ["set", *(("copy-begin", "copy-settle", "copy-finish") * 2)]


def test_a_tenant_leaves_the_default_with_what_it_has(lab: Operator):
    async def fill() -> tuple[str, str]:
        async with lab.plane() as plane:
            return await filled(plane.scope("t_acme", actor=ACTOR))

    cursors = lab.apart(fill())
    for kind in KINDS:
        words = ("copy", kind, "t_acme", "--backend", "filesystem", "--config", f"directory={kind}")
        lab.said(*words, "--rationale", "a disk of its own", "--settle", "0")

    async def look() -> None:
        async with lab.plane() as plane:
            await check(plane.scope("t_acme", actor=ACTOR), cursors)

    lab.apart(look())
    covered = lab.printed("coverage", "t_acme")["items"]
    assert {row["layer"] for row in covered if row["kind"] in KINDS} == {"tenant"}
    default = lab.refusal(
        "copy", "streams", "t_system", "--backend", "sqlite", "--config", "path=a.db", "--rationale", "all of them"
    )
    assert isinstance(default, Invalid)
    assert "copy each tenant" in default.message


def test_a_copy_under_way_is_shown_refuses_other_changes_and_is_given_up(lab: Operator):
    kept_in_sqlite(lab)

    async def interrupted() -> None:
        class Stopped(Exception):
            """The process is gone."""

        def stop(_: CopyReport) -> None:
            raise Stopped

        async with lab.plane() as plane:
            routes = plane.scope("t_system", actor=ACTOR).routes
            with pytest.raises(Stopped):
                await routes.copy("tables", "postgres", tenant="t_acme", rationale="why", progress=stop)

    lab.apart(interrupted())
    assert "being copied to postgres (backfill)" in lab.said("show", "tables", "t_acme")
    busy = lab.refusal("set", "tables", "t_acme", "--backend", "sqlite", "--config", "path=a.db", "--tier", "pro")
    assert isinstance(busy, IllegalTransition)
    assert "--abandon" in busy.message
    assert isinstance(lab.refusal("copy", "tables", "t_acme", "--back", "--rationale", "no"), IllegalTransition)
    assert "stays in sqlite" in lab.said("copy", "tables", "t_acme", "--abandon")
    assert isinstance(lab.refusal("copy", "tables", "t_acme", "--abandon"), IllegalTransition)
    assert lab.printed("show", "tables", "t_acme")["route"]["copy"] is None
    assert lab.printed("copy", "tables", "t_acme", "--backend", "postgres", "--rationale", "at last", "--settle", "0")[
        "verified"
    ] == 2  # fmt: skip


def test_what_cannot_be_copied_says_so(lab: Operator):
    copy = ("--rationale", "why", "--settle", "0")
    same = lab.refusal("copy", "tables", "t_acme", "--project", "apollo", "--backend", "memory", *copy)
    assert isinstance(same, NotFound)
    lab.said("set", "tables", "t_acme", "--backend", "memory")
    assert "already" in lab.refusal("copy", "tables", "t_acme", "--backend", "memory", *copy).message
    assert isinstance(lab.refusal("copy", "tables", "t_acme", "--back", *copy), IllegalTransition)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_progress_is_one_moving_line(monkeypatch: pytest.MonkeyPatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with copy_progress.shown_progress() as progress:
        for number in range(1, 4):
            progress(a_report(containers=number))
    assert "3 containers" in terminal.getvalue()
    assert "\x1b[" in terminal.getvalue()


def test_elsewhere_it_is_a_line_for_each_phase_and_each_hundred_containers(capsys: pytest.CaptureFixture[str]):
    with copy_progress.shown_progress() as progress:
        for number in range(1, 2 * copy_progress.CONTAINERS_A_LINE + 2):
            progress(a_report(containers=number))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["1", "100", "200"]


def a_report(*, containers: int) -> CopyReport:
    return CopyReport(
        phase="backfill",
        backend="postgres",
        containers=containers,
        entries=0,
        rows=0,
        objects=0,
        removed=0,
        verified=0,
        digest="",
    )
