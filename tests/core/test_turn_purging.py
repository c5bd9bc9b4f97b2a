"""What a purge removes, what it keeps and why, and that nobody ever sees a context in part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta

import pytest

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver
from perdure.adapters.objectstore import opening
from perdure.core.journal_links import Stage
from perdure.core.recorder import Recorder
from perdure.core.run_journal import RunJournal
from perdure.core.turn_retention import TOLD_S
from perdure.core.turn_store import StoredTurns, TurnParts
from perdure.domain import retention
from perdure.domain.retention import (
    CLASS_CHARS_MAX,
    HOLDS_PAGE_MAX,
    REASON_CHARS_MAX,
    Outcome,
)
from perdure.domain.turn import INLINE_BYTES_MAX, context_container, snapshots_container
from perdure.errors import Invalid, LimitExceeded, NotFound, Unsupported
from perdure.ports.documents import DocumentDriver
from perdure.ports.turns import TurnStore
from perdure.testing.driver_faults import FaultyDriver, Replicas
from perdure.testing.environment import fake_environment
from perdure.testing.routed import given, routed_plane
from perdure.testing.watched import WatchedBackend
from tests.contracts.document_stores import no_sleep
from tests.contracts.turn_stores import BlobsInMemory
from tests.support.retained import LIFE_S, TYPE_ID, Desk, new_data, opened_desk, record

WHY = "case 4711"
READS = {"logs.read", "logs.head", "logs.containers", "rows.get", "rows.query", "objects.get"}


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with opened_desk(new_data()) as opened:
        yield opened


async def test_a_context_goes_when_its_first_record_says_so_and_not_a_moment_before(desk: Desk) -> None:
    ended, _ = await desk.begin()
    later, _ = await desk.begin(life_s=LIFE_S + 1)
    never, _ = await desk.begin(life_s=None)
    plain = (await desk.turns.create()).context_id
    await desk.turns.append(plain, b"no record", type_id="t")
    empty = (await desk.turns.create()).context_id
    desk.clock.advance(LIFE_S - 0.001)
    assert await desk.purge() == {}
    desk.clock.advance(0.001)
    assert await desk.purge() == {ended: "removed"}
    assert await desk.said(ended) is None
    for kept in (later, never, plain, empty):
        assert await desk.said(kept) is not None
    assert await desk.purge() == {}


async def test_what_was_removed_left_nothing_behind(desk: Desk) -> None:
    keep, _ = await desk.begin(life_s=None)
    gone, last = await desk.begin()
    await desk.turns.attach(last, await desk.turns.put_blob(b"tree"))
    desk.clock.advance(LIFE_S)
    await desk.purge()
    space = desk.acme.scope.space
    logs, _ = await desk.backend.logs.containers(context_container(space, 1).kind, "t_acme", limit=100, timeout_s=5)
    assert [log.name for log in logs] == [("context", keep)]
    rows, _ = await desk.backend.rows.containers(context_container(space, 1).kind, "t_acme", limit=100, timeout_s=5)
    assert {container.name[0] for container in rows} == {"labels", "numbers", "retention"}
    assert [found.context_id for found in (await desk.turns.contexts(label="x")).items] == [keep]
    assert not (await desk.backend.rows.query(snapshots_container(space, int(gone)), limit=1, timeout_s=5)).rows
    with pytest.raises(NotFound):
        await desk.turns.get(last)
    with pytest.raises(NotFound):
        await desk.turns.append(gone, b"late", type_id="t")
    with pytest.raises(NotFound):
        await desk.turns.append(gone, b"more", type_id="t", idempotency_key="more")
    with pytest.raises(NotFound):
        await desk.turns.fork(last)
    desk.clock.advance(TOLD_S)
    rows, _ = await desk.backend.rows.containers(context_container(space, 1).kind, "t_acme", limit=100, timeout_s=5)
    assert {container.name[0] for container in rows} == {"labels", "numbers"}


async def test_a_first_record_that_is_an_object_says_so_too(desk: Desk) -> None:
    context = await desk.turns.create()
    payload = record(desk.clock.now(), text="x" * INLINE_BYTES_MAX)
    await desk.turns.append(context.context_id, payload, type_id=TYPE_ID)
    assert await desk.purge() == {context.context_id: "removed"}


async def test_a_recorded_run_goes_with_its_branches(desk: Desk) -> None:
    recorder = Recorder(desk.turns, mode="required", environment=desk.plane.stores.environment)
    ends_at = desk.clock.now() + timedelta(seconds=LIFE_S)
    run = RunJournal(recorder, run_id="run-1", graph_id="g", retention_class="runs", expires_at=ends_at)
    await run.open()
    await run.run_initialized()
    fan = Stage(node_id="fan")
    await run.parallel_started(stage=fan, branch_count=1)
    branch = await run.branch_started(stage=fan, branch_id="a", branch_index=0, target_node_id="x")
    await branch.stage_started(stage=Stage(node_id="x"))
    desk.clock.advance(LIFE_S - 1)
    assert await desk.purge() == {}
    desk.clock.advance(1)
    assert run.context_id is not None
    assert branch.context_id is not None
    assert await desk.purge() == {run.context_id: "removed", branch.context_id: "removed"}


async def test_nothing_goes_before_what_goes_on_from_it(desk: Desk) -> None:
    root, turn = await desk.begin()
    child, turn = await desk.begin(base=turn, life_s=LIFE_S + 10)
    grandchild, _ = await desk.begin(base=turn)
    other, _ = await desk.begin(base=turn)
    whole = await desk.said(child)
    desk.clock.advance(LIFE_S)
    assert await desk.purge() == {root: "fork", grandchild: "removed", other: "removed"}
    assert await desk.said(child) == whole
    desk.clock.advance(10)
    purged = [one async for one in desk.turns.purge()]
    assert [one.context_id for one in purged] == [child, root]


async def test_why_a_context_was_kept_is_told(desk: Desk) -> None:
    root, turn = await desk.begin(retention_class="r")
    child, _ = await desk.begin(base=turn, life_s=None)
    desk.clock.advance(LIFE_S)
    (kept,) = [one async for one in desk.turns.purge()]
    assert (kept.context_id, kept.outcome, kept.reason, kept.because) == (root, Outcome.KEPT, "fork", child)
    assert (kept.retention_class, kept.expires_at) == ("r", desk.clock.now())


async def test_what_is_held_and_what_it_needs_stays_until_the_hold_is_lifted(desk: Desk) -> None:
    root, turn = await desk.begin()
    child, _ = await desk.begin(base=turn)
    classed, _ = await desk.begin(retention_class="legal")
    hold = await desk.turns.hold(child, reason=WHY)
    await desk.turns.hold(retention_class="legal", reason="all of it")
    desk.clock.advance(LIFE_S)
    expected = {root: "fork", child: "hold", classed: "hold"}
    assert await desk.purge(dry_run=True) == await desk.purge() == expected
    assert await desk.turns.release_hold(child, reason="closed")
    assert not await desk.turns.release_hold(child, reason="closed")
    assert not await desk.turns.release_hold("77", reason="never held")
    assert await desk.turns.release_hold(retention_class="legal", reason="closed")
    page = await desk.turns.holds(limit=1)
    (of_class,), (of_child,) = page.items, (await desk.turns.holds(cursor=page.next_cursor)).items
    assert (of_child.reason, of_child.placed_by, of_child.placed_at) == (WHY, "user:ann", hold.placed_at)
    assert (of_child.lifted_by, of_child.lifted_because, of_child.stands) == ("user:ann", "closed", False)
    assert (of_class.context_id, of_class.retention_class) == (None, "legal")
    assert await desk.purge() == {root: "removed", child: "removed", classed: "removed"}


async def test_only_what_is_there_can_be_held(desk: Desk) -> None:
    gone, _ = await desk.begin()
    desk.clock.advance(LIFE_S)
    await desk.purge()
    for absent in (gone, "77", str(2**60)):
        with pytest.raises(NotFound):
            await desk.turns.hold(absent, reason=WHY)
    assert (await desk.turns.holds()).items == ()


async def test_a_hold_says_what_and_why_within_limits(desk: Desk) -> None:
    context_id, _ = await desk.begin(retention_class="c" * CLASS_CHARS_MAX)
    for which, of_class in ((None, None), (context_id, "c")):
        with pytest.raises(Invalid):
            await desk.turns.hold(which, retention_class=of_class, reason=WHY)
    await desk.turns.hold(retention_class="c" * CLASS_CHARS_MAX, reason="r" * REASON_CHARS_MAX)
    for what, why, limit in (
        ("c" * (CLASS_CHARS_MAX + 1), WHY, "class_chars_max"),
        ("c", "r" * (REASON_CHARS_MAX + 1), "reason_chars_max"),
    ):
        with pytest.raises(LimitExceeded) as caught:
            await desk.turns.hold(retention_class=what, reason=why)
        assert caught.value.detail["limit"] == limit
    assert len((await desk.turns.holds(limit=HOLDS_PAGE_MAX)).items) == 1
    with pytest.raises(LimitExceeded):
        await desk.turns.holds(limit=HOLDS_PAGE_MAX + 1)
    desk.clock.advance(LIFE_S)
    assert await desk.purge() == {context_id: "hold"}
    too_long, _ = await desk.begin(retention_class="c" * (CLASS_CHARS_MAX + 1), life_s=0)
    assert (await desk.purge())[too_long] == "removed"


async def test_who_goes_on_from_another_context_by_rebase_keeps_it(desk: Desk) -> None:
    old, turn = await desk.begin()
    new, _ = await desk.begin(life_s=None)
    await desk.turns.append(new, b"adopted", type_id="t", parent_turn_id=turn, rebase=True)
    whole = await desk.said(new)
    desk.clock.advance(LIFE_S)
    assert await desk.purge() == {old: "fork"}
    assert await desk.said(new) == whole


async def test_contexts_that_lead_to_each_other_are_kept(desk: Desk) -> None:
    trunk, turn = await desk.begin()
    branch, turn = await desk.begin(base=turn)
    await desk.turns.append(trunk, b"adopted", type_id="t", parent_turn_id=turn, rebase=True)
    desk.clock.advance(LIFE_S)
    found = await desk.purge()
    assert found == await desk.purge(dry_run=True)
    assert set(found) == {trunk, branch}
    assert "removed" not in found.values()


async def test_a_family_that_is_too_large_is_kept(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    root, turn = await desk.begin()
    forks = [(await desk.begin(base=turn))[0] for _ in range(3)]
    desk.clock.advance(LIFE_S)
    monkeypatch.setattr("perdure.core.turn_purging.FAMILY_MAX", 3)
    assert (await desk.purge(dry_run=True))[root] == "family"
    monkeypatch.setattr("perdure.core.turn_purging.FAMILY_MAX", retention.FAMILY_MAX)
    assert await desk.purge() == dict.fromkeys([root, *forks], "removed")


async def test_a_dry_run_writes_nothing_and_tells_what_a_run_does(desk: Desk) -> None:
    _, turn = await desk.begin()
    await desk.begin(base=turn)
    held, _ = await desk.begin()
    await desk.turns.hold(held, reason=WHY)
    _, turn = await desk.begin()
    await desk.begin(base=turn, life_s=None)
    desk.clock.advance(LIFE_S)
    mark = len(desk.backend.calls)
    told = await desk.purge(dry_run=True)
    assert set(desk.backend.calls[mark:]) <= READS
    assert len(told) == 4
    assert await desk.purge() == told


async def test_before_leaves_alone_what_ended_after_it(desk: Desk) -> None:
    early, _ = await desk.begin(life_s=10)
    late, _ = await desk.begin(life_s=20)
    desk.clock.advance(30)
    before = desk.clock.now() - timedelta(seconds=20)
    assert [one.context_id async for one in desk.turns.purge(before=before)] == [early]
    for wrong in (desk.clock.now() + timedelta(seconds=1), desk.clock.now().replace(tzinfo=None)):
        with pytest.raises(Invalid):
            await anext(desk.turns.purge(before=wrong))
    assert await desk.purge() == {late: "removed"}


async def test_where_reads_may_be_behind_nothing_is_removed() -> None:
    data = new_data()

    def behind(driver: DocumentDriver) -> DocumentDriver:
        return FaultyDriver(driver, replicas=Replicas(lag=1))

    async with opened_desk(data) as ours, opened_desk(data, client=1, driven=behind) as theirs:
        context_id, _ = await ours.begin()
        ours.clock.advance(LIFE_S)
        with pytest.raises(Unsupported) as caught:
            await theirs.purge()
        assert caught.value.code == "turns.cannot_purge"
        assert await ours.purge() == {context_id: "removed"}


class KeepsTurnsItself(WatchedBackend):
    """A backend that keeps turns in a way of its own, as a server does."""

    @property
    def turns(self) -> TurnStore:
        """Turns, of no matter whom."""
        parts = TurnParts(self.logs, self.rows, environment=fake_environment(), sleep=no_sleep)
        return StoredTurns(parts, BlobsInMemory())


async def test_where_turns_cannot_be_removed_it_is_said_what_to_do_instead() -> None:
    environment = fake_environment()
    backend = DocumentBackend(
        MemoryDriver(),
        mode="lab",
        env="dev",
        environment=environment,
        objects=opening.memory(mode="lab", env="dev", environment=environment),
    )
    await backend.open()
    watched = KeepsTurnsItself(backend)
    async with routed_plane([given("main", watched)], backend.routes, environment=environment) as plane:
        acme = plane.tenant("t_acme")
        for kind in ("turns", "objects"):
            await acme.routes.set(kind, "main")
        asked: list[Awaitable[object]] = [
            anext(acme.turns.purge()),
            anext(acme.turns.purge(dry_run=True)),
            acme.turns.hold("1", reason=WHY),
            acme.turns.release_hold("1", reason=WHY),
            acme.turns.holds(),
        ]
        for each in asked:
            with pytest.raises(Unsupported, match=r"docs/runbooks/cxdb\.md") as caught:
                await each
            assert caught.value.code == "turns.cannot_purge"
        with pytest.raises(Unsupported) as refused:
            await anext(acme.objects.collect())
        assert refused.value.code == "objects.cannot_collect"
        with pytest.raises(Unsupported):
            await acme.turns.audits("1")
        assert watched.calls == []


async def test_removals_and_holds_are_audited_in_their_commit(desk: Desk) -> None:
    await desk.acme.routes.set("turns", "main", audit="writes")
    context_id, _ = await desk.begin()
    await desk.turns.hold(context_id, reason=WHY)
    await desk.turns.release_hold(context_id, reason="closed")
    desk.clock.advance(LIFE_S)
    await desk.purge()
    other, _ = await desk.begin()
    assert [one.operation for one in await desk.turns.audits(other)] == ["create", "append", "append"]
    assert await desk.turns.audits(context_id) == []
    records = await desk.turns.audits()
    assert [(one.operation, one.container) for one in records] == [
        ("hold", "retention"),
        ("release_hold", "retention"),
        ("purge", f"context/{context_id}"),
    ]
