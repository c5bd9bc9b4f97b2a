"""A process that is killed at any operation leaves the old route or the new one, and everything that was kept."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest

from perdure.domain.kinds import Kind
from perdure.domain.memory import Message
from perdure.domain.route import CopyPhase, Route
from perdure.domain.stream import StreamEvent
from perdure.errors import IllegalTransition, Invalid, NotFound, Unavailable
from perdure.testing.driver_faults import Crashed
from perdure.testing.routed import RoutedPlane, RoutedTenant
from tests.support.route_worlds import WHY, Life, RouteWorld

ACME: Final = "t_acme"
KINDS: Final = ("streams", "tables", "memory")
STRIDE: Final = 7  # every so many operations in the short form; no multiple of what repeats

Operate = Callable[[RoutedTenant], Awaitable[object]]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What was acknowledged, in a form that can be compared, and cursors into it."""

    content: Mapping[str, Any]
    cursors: Mapping[str, str]


async def furnish(world: RouteWorld) -> None:
    """A tenant with something of everything on backend a."""
    async with world.process() as plane:
        acme = plane.tenant(ACME)
        for kind in KINDS:
            await acme.routes.set(kind, "a")
        await write_some(acme, "first")
        await acme.streams.trim("log", before_sequence=3)
        await acme.tables.put("items", "gone", 1)
        await acme.tables.delete("items", "gone")
        await acme.streams.append("cleared", StreamEvent(type="X"))
        await acme.streams.delete("cleared")
        await plane.upkeep.once()


async def write_some(acme: RoutedTenant, label: str) -> None:
    """More of everything."""
    for stream in ("log", "cleared"):
        events = [StreamEvent(type="X", event_id=f"{label}-{n}", data={"n": n}) for n in range(5)]
        await acme.streams.append(stream, *events)
    for key in ("x", "y", label):
        await acme.tables.put("items", key, {"label": label})
    await acme.memory.append("chat", *(Message(role="user", content=f"{label} {n}") for n in range(3)), user="ann")
    await acme.memory.configure("chat", user="ann", metadata={"label": label})
    await acme.memory.boards.put("plan", {"label": label}, user="ann")


WRITES: Final[Mapping[str, Operate]] = {
    "streams": lambda acme: acme.streams.append("log", StreamEvent(type="REFUSED")),
    "tables": lambda acme: acme.tables.put("items", "refused", 1),
    "memory": lambda acme: acme.memory.append("chat", Message(role="user", content="refused"), user="ann"),
}


async def look(acme: RoutedTenant) -> Kept:
    """Everything there is."""
    streams = {name: await acme.streams.read(name, limit=500) for name in ("log", "cleared")}
    window = await acme.memory.window("chat", user="ann", limit=500)
    rows = (await acme.tables.query("items")).items
    boards = (await acme.memory.boards.list(user="ann")).items
    content = {
        **{name: (page.head_sequence, page.events) for name, page in streams.items()},
        "session": (window.session.version, window.session.metadata, window.messages),
        "rows": rows,
        "boards": boards,
    }
    return Kept(content=content, cursors={name: await cursor_in(acme, name) for name in streams})


async def cursor_in(acme: RoutedTenant, name: str) -> str:
    """A cursor into the middle of a stream."""
    page = await acme.streams.read(name, limit=2)
    assert page.next_cursor is not None
    return page.next_cursor


async def deaths(base: RouteWorld, operate: Operate, *, stride: int) -> AsyncIterator[RouteWorld]:
    """The worlds that are left when an operation dies before or after its n-th step."""
    for number in range(1, 10_000, stride):
        for moment in ("before", "after"):
            world = base.fork()
            life = Life(moment=moment)
            async with world.process(life) as plane:
                life.dies_at = life.operations + number
                try:
                    await operate(plane.tenant(ACME))
                except Crashed:
                    pass
                else:
                    return
            yield world


def agree(route: Route, history: Sequence[Any], audits: Sequence[Mapping[str, Any]]) -> None:
    """History has one entry a version, the last tells of the route, and what was audited as done is in it."""
    assert [entry.version for entry in history] == list(range(1, route.version + 1))
    assert history[-1].to_backend == (None if route.deleted else route.backend)
    mine = [one for one in audits if one["route_id"] == str(route.route_id) and one["outcome"] == "ok"]
    assert {(one["version"], one["operation"]) for one in mine} <= {(one.version, one.action) for one in history}


async def told(plane: RoutedPlane, kind: str) -> None:
    """After upkeep each version of the route is in the tenant's stream, once and in order."""
    await plane.upkeep.once()
    await plane.upkeep.once()
    acme = plane.tenant(ACME)
    history = (await acme.routes.history(kind, limit=500)).items
    events = (await acme.streams.read(f"routing/{ACME}", limit=500)).events
    versions = [event.data["version"] for event in events if event.data["kind"] == kind]
    assert versions == [entry.version for entry in history]
    ids = [event.event_id for event in events]
    assert len(set(ids)) == len(ids)


@pytest.fixture
def audits(caplog: pytest.LogCaptureFixture) -> Iterator[list[Mapping[str, Any]]]:
    """The audit records of changes of routes, as they come."""
    records: list[Mapping[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "route_id" in record.audit:  # type: ignore[attr-defined]
                records.append(record.audit)  # type: ignore[attr-defined]

    caplog.set_level(logging.INFO, "perdure.audit")
    logger = logging.getLogger("perdure.audit")
    handler = Keep()
    logger.addHandler(handler)
    try:
        yield records
    finally:
        logger.removeHandler(handler)


CHANGES: Final[Mapping[str, tuple[Operate, tuple[type[Exception], ...]]]] = {
    # what is done, and how doing it again may be refused when it was done
    "set": (lambda acme: acme.routes.set("tables", "a", tier="pro"), ()),
    "switch": (lambda acme: acme.routes.switch("tables", "b", rationale=WHY, data_stays=True), (Invalid,)),
    "delete": (lambda acme: acme.routes.delete("tables", rationale=WHY), (NotFound,)),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_killed_change_of_a_route_leaves_the_old_one_or_the_new_one(
    name: str, audits: list[Mapping[str, Any]]
) -> None:
    operate, refusal = CHANGES[name]
    base = RouteWorld()
    await furnish(base)
    outcomes: set[int] = set()
    async for world in deaths(base, operate, stride=1):
        async with world.process() as plane:
            acme = plane.tenant(ACME)
            route = next(one for one in plane.stores.routing.all_routes if one.kind is Kind.TABLES)
            history = (await acme.routes.history("tables")).items
            outcomes.add(route.version)
            assert (route.tier, route.backend, route.deleted) == (
                ("free", "a", False)
                if route.version == 1
                else {"set": ("pro", "a", False), "switch": ("free", "b", False), "delete": ("free", "a", True)}[name]
            )
            agree(route, history, audits)
            await told(plane, "tables")
            try:
                await operate(acme)
            except refusal:
                assert route.version == 2
        audits.clear()
    assert outcomes == {1, 2}


async def check_after_death(
    world: RouteWorld, kind: str, before: Kept, again: Operate, audits: list[Mapping[str, Any]], *, gives_up: bool
) -> CopyPhase | None:
    """A new process finds everything, and finishes what was begun, or gives it up."""
    async with world.process() as plane:
        acme = plane.tenant(ACME)
        route = await acme.routes.get(kind)
        agree(route, (await acme.routes.history(kind, limit=500)).items, audits)
        assert (await look(acme)).content == before.content
        for name, cursor in before.cursors.items():
            rest = await acme.streams.read(name, after=cursor, limit=500)
            assert rest.events == before.content[name][1][2:]
        phase = None if route.copy is None else route.copy.phase
        if phase is CopyPhase.SETTLE:
            with pytest.raises(Unavailable) as caught:
                await WRITES[kind](acme)
            assert caught.value.code == f"{kind}.settling"
        if gives_up and phase in {CopyPhase.BACKFILL, CopyPhase.SETTLE}:
            left = await acme.routes.abandon_copy(kind)
            assert left.backend == route.backend
        else:
            try:
                await again(acme)
            except (Invalid, IllegalTransition):
                assert phase in {CopyPhase.DONE, None}
        assert (await look(acme)).content == before.content
    async with world.process() as plane:
        acme = plane.tenant(ACME)
        await write_some(acme, "later")
        after = await look(acme)
        assert [event.event_id for event in after.content["log"][1]][-5:] == [f"later-{n}" for n in range(5)]
        assert after.content["log"][0] == before.content["log"][0] + 5
        await told(plane, kind)
    return phase


async def sweep(
    base: RouteWorld,
    kind: str,
    operate: Operate,
    audits: list[Mapping[str, Any]],
    *,
    stride: int,
    again: Operate | None = None,
) -> set[CopyPhase | None]:
    """Kill an operation everywhere; the phases of the copy that were left behind."""
    async with base.fork().process() as plane:
        before = await look(plane.tenant(ACME))
    phases: set[CopyPhase | None] = set()
    number = 0
    async for world in deaths(base, operate, stride=stride):
        number += 1
        # Given up every third time: neither always before a step nor always after it.
        gives_up = number % 3 == 0
        phases.add(await check_after_death(world, kind, before, again or operate, audits, gives_up=gives_up))
        audits.clear()
    return phases


def copy_to_b(kind: str) -> Operate:
    """A copy with the whole wait for others, which costs no time here."""
    return lambda acme: acme.routes.copy(kind, "b", rationale=WHY)


def copy_back(kind: str) -> Operate:
    """The way back."""
    return lambda acme: acme.routes.copy_back(kind, rationale=WHY)


async def copied(kind: str) -> RouteWorld:
    """A world in which a copy is done, and was written to."""
    world = RouteWorld()
    await furnish(world)
    async with world.process() as plane:
        acme = plane.tenant(ACME)
        await copy_to_b(kind)(acme)
        await write_some(acme, "second")
        await acme.streams.trim("log", before_sequence=5)
    return world


async def settling(kind: str) -> RouteWorld:
    """A world in which a copy was killed while writes wait."""
    world = RouteWorld()
    await furnish(world)
    life = Life()

    def die(report: Any) -> None:
        if report.phase == "settle":
            life.is_over = True

    async with world.process(life) as plane:
        with pytest.raises(Crashed):
            await plane.tenant(ACME).routes.copy(kind, "b", rationale=WHY, progress=die)
    return world


async def sweep_copies(kind: str, audits: list[Mapping[str, Any]], *, stride: int) -> None:
    """A copy, and the way back, killed everywhere."""
    base = RouteWorld()
    await furnish(base)
    phases = await sweep(base, kind, copy_to_b(kind), audits, stride=stride)
    assert {CopyPhase.BACKFILL, CopyPhase.SETTLE} <= phases
    audits.clear()
    phases = await sweep(await copied(kind), kind, copy_back(kind), audits, stride=stride)
    assert {CopyPhase.BACKFILL, CopyPhase.SETTLE} <= phases


@pytest.mark.parametrize("kind", KINDS)
async def test_a_killed_copy_loses_nothing_and_can_be_finished_or_given_up(
    kind: str, audits: list[Mapping[str, Any]]
) -> None:
    await sweep_copies(kind, audits, stride=STRIDE)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
async def test_a_copy_that_is_killed_at_any_operation_loses_nothing(kind: str, audits: list[Mapping[str, Any]]) -> None:
    await sweep_copies(kind, audits, stride=1)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_killed_abandonment_leaves_the_copy_or_the_old_backend(
    kind: str, audits: list[Mapping[str, Any]]
) -> None:
    phases = await sweep(
        await settling(kind),
        kind,
        lambda acme: acme.routes.abandon_copy(kind),
        audits,
        stride=1,
        again=copy_to_b(kind),
    )
    assert phases == {CopyPhase.SETTLE, None}
