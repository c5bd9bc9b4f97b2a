"""Task lists as users hold them: opened, changed, written in time and closed, in every mode."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perdure.domain.tasklists.failures import (
    IntegrityMismatch,
    PersistenceNotInitialized,
)
from perdure.domain.tasklists.health import HealthState, RecoveryOutcome
from perdure.errors import Corrupt, Invalid, NotFound, Refused, Unsupported
from perdure.tasklists import CheckpointOutcome
from tests.support.node_files import node_files, tree
from tests.support.task_desks import Desk, health, until

pytestmark = pytest.mark.fast


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "root")


async def test_every_verb_does_what_it_says(desk: Desk):
    async with desk.open(root=None) as tasks:
        first = await tasks.add("write", agent="agent:a", description="more", priority=3)
        second = await tasks.add("read", agent="agent:a", task_id="r")
        await tasks.rename("Sprint 12")
        assert (await tasks.edit("r", title="read it")).title == "read it"
        assert (await tasks.assign("r", "agent:b")).assignee == "agent:b"
        assert (await tasks.tag("r", "red")).tags == ("red",)
        assert (await tasks.untag("r", "red")).tags == ()
        assert (await tasks.claim("r", agent="agent:b")).claimed_by == "agent:b"
        assert (await tasks.complete("r", agent="agent:c")).completed_by == "agent:c"
        await tasks.move("r", after=None)
        view = await tasks.view()
        assert (view.name, [task.task_id for task in view.tasks]) == ("Sprint 12", [second.task_id, first.task_id])
        await tasks.remove("r")
        with pytest.raises(NotFound):
            await tasks.get("r")
        assert (await tasks.restore("r")).title == "read it"


async def test_without_a_root_nothing_is_kept_and_code_written_for_one_works(desk: Desk):
    async with desk.open(root=None) as tasks:
        await tasks.add("write", agent="agent:a")
        assert await tasks.checkpoint() is CheckpointOutcome.NOOP_CLEAN
        assert await tasks.observe() is None
        with pytest.raises(Unsupported) as raised:
            await tasks.update_checkpoint_frequency({})
        assert raised.value.code == "persistence_off"


async def test_fault_22_off_touches_nothing_below_the_root(desk: Desk):
    async with desk.open(mode="off") as tasks:
        await tasks.add("write", agent="agent:a")
        await tasks.checkpoint()
    assert desk.root is not None
    assert not desk.root.exists()


async def test_upstream_42_a_graceful_close_writes_and_a_restart_loads(desk: Desk):
    async with desk.open() as tasks:
        await tasks.add("write", agent="agent:a")
        assert desk.snapshots() == []
        assert (await health(tasks)).last_recovery_outcome is RecoveryOutcome.EMPTY_STORE
    assert len(desk.snapshots()) == 1
    async with desk.open() as tasks:
        assert [task.title for task in (await tasks.view()).tasks] == ["write"]
        assert (await health(tasks)).last_recovery_outcome is RecoveryOutcome.LOADED_SNAPSHOT
    assert len(desk.snapshots()) == 1  # nothing changed, so nothing was written
    assert (await health(tasks)).state is HealthState.READY


async def test_what_breaks_out_of_the_block_is_written_too_and_goes_on(desk: Desk):
    async def broken() -> None:
        async with desk.open() as tasks:
            await tasks.add("write", agent="agent:a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await broken()
    assert len(desk.snapshots()) == 1


async def test_a_list_is_used_inside_its_block_only_and_entered_once(desk: Desk):
    tasks = desk.open()
    with pytest.raises(Refused, match="not open"):
        await tasks.view()
    async with tasks:
        with pytest.raises(Refused, match="opened before"):
            await tasks.__aenter__()
    for call in (tasks.view(), tasks.add("x", agent="a"), tasks.checkpoint(), tasks.__aenter__()):
        with pytest.raises(Refused):
            await call


async def test_two_lists_of_one_root_are_open_at_once_and_one_list_only_once(desk: Desk):
    async with desk.open("a") as first, desk.open("b") as second:
        await first.add("in a", agent="agent:a")
        await second.add("in b", agent="agent:a")
        with pytest.raises(Invalid, match="open already"):
            async with desk.open("a"):
                pass
        with pytest.raises(Invalid, match="other settings"):
            async with desk.open("c", mode="strict"):
                pass
    assert (len(desk.snapshots("a")), len(desk.snapshots("b"))) == (1, 1)
    held = node_files(desk.root or Path())
    held.open(create=False)  # everybody let go of it
    held.close()


async def test_a_root_is_closed_and_opened_by_many_at_once(desk: Desk):
    async def use(number: int) -> None:
        async with desk.open(f"list{number}") as tasks:
            await tasks.add("write", agent="agent:a")

    for _ in range(3):
        await asyncio.gather(*map(use, range(8)))
    assert [len(desk.snapshots(f"list{number}")) for number in range(8)] == [3] * 8


async def test_the_thirty_second_change_is_written_and_a_merge_does_not_count(desk: Desk):
    peer = Desk(None, number=2)
    async with peer.open() as other, desk.open() as tasks:
        for number in range(31):
            await tasks.add(f"task {number}", agent="agent:a")
        await other.add("theirs", agent="agent:b")
        assert await tasks.merge(await other.delta_since(await tasks.vector()))
        assert desk.snapshots() == []
        await tasks.claim((await tasks.view()).tasks[0].task_id, agent="agent:a")
        assert len(desk.snapshots()) == 1


async def test_an_operation_that_changes_nothing_makes_nothing_dirty(desk: Desk):
    async with desk.open() as tasks:
        task = await tasks.add("write", agent="agent:a")
        await tasks.checkpoint()
        await tasks.edit(task.task_id, title="write")
        assert not await tasks.merge(await tasks.delta_since(b"\x00"))
        await desk.advance(10)
        assert await tasks.checkpoint() is CheckpointOutcome.NOOP_CLEAN


async def test_a_list_that_only_receives_is_written_at_the_dirty_time_floor(desk: Desk):
    peer = Desk(None, number=2)
    async with peer.open() as other, desk.open() as tasks:
        await other.add("theirs", agent="agent:b")
        await tasks.merge(await other.delta_since(await tasks.vector()))
        await desk.advance(299)
        assert desk.snapshots() == []
        await desk.advance(1)
        await until(lambda: len(desk.snapshots()) == 1)


async def test_a_burst_that_ends_inside_the_debounce_is_written_when_that_is_over(desk: Desk):
    async with desk.open() as tasks:
        await tasks.add("first", agent="agent:a")
        assert await tasks.checkpoint() is CheckpointOutcome.PERSISTED
        for number in range(40):
            await tasks.add(f"task {number}", agent="agent:a")
        assert await tasks.checkpoint() is CheckpointOutcome.DEBOUNCED
        await desk.advance(2)
        await until(lambda: len(desk.snapshots()) == 2)


async def test_upstream_20_and_21_strict_begins_a_root_only_with_intent(desk: Desk):
    with pytest.raises(PersistenceNotInitialized):
        async with desk.open(mode="strict"):
            pass
    async with desk.open(mode="required", initialize_if_missing=True) as tasks:
        await tasks.add("write", agent="agent:a")
    async with desk.open(mode="strict") as tasks:
        assert len((await tasks.view()).tasks) == 1


async def test_a_root_begun_in_degraded_opens_in_strict(desk: Desk):
    async with desk.open(mode=" Best_Effort ") as tasks:
        await tasks.add("write", agent="agent:a")
    async with desk.open(mode="strict") as tasks:
        assert len((await tasks.view()).tasks) == 1


async def test_strict_with_a_damaged_newest_answers_the_same_each_time_and_consent_loads_an_older_one(desk: Desk):
    for title in ("one", "two"):
        async with desk.open() as tasks:
            await tasks.add(title, agent="agent:a")
    newest = desk.snapshots()[-1]
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    before = tree(desk.root or Path())
    for _ in range(2):
        with pytest.raises(IntegrityMismatch):
            async with desk.open(mode="strict"):
                pass
        assert tree(desk.root or Path()) == before
    async with desk.open(mode="strict", load_older=True) as tasks:
        assert [task.title for task in (await tasks.view()).tasks] == ["one"]


async def test_upstream_57_and_67_a_stale_snapshot_and_a_merge_converge(desk: Desk):
    peer = Desk(None, number=2)
    async with peer.open() as other:
        async with desk.open() as tasks:
            await tasks.add("one", agent="agent:a")
            await tasks.checkpoint()
            await tasks.add("two", agent="agent:a")
            await other.merge(await tasks.delta_since(b"\x00"))
        desk.snapshots()[-1].unlink()  # a crash: what came after the first checkpoint was never written
        async with desk.open() as tasks:
            await tasks.add("three", agent="agent:a")
            await other.merge(await tasks.delta_since(await other.vector()))
            await tasks.merge(await other.delta_since(await tasks.vector()))
            titles = {task.title for task in (await tasks.view()).tasks}
            assert titles == {"one", "two", "three"}
            assert (await tasks.view()).view_digest == (await other.view()).view_digest


async def test_upstream_64_a_degraded_fallback_goes_on_in_memory_and_merges(desk: Desk):
    held = node_files(desk.root or Path())
    held.open(create=True)
    peer = Desk(None, number=2)
    async with peer.open() as other, desk.open() as tasks:
        for title in ("one", "two"):
            await other.add(title, agent="agent:b")
        await tasks.merge(await other.delta_since(await tasks.vector()))
        assert len((await tasks.view()).tasks) == 2
        found = await health(tasks)
        assert (found.state, found.last_recovery_outcome) == (HealthState.DEGRADED, RecoveryOutcome.DEGRADED_FALLBACK)
        assert await tasks.checkpoint() is CheckpointOutcome.DEGRADED_CONTINUED
    held.close()
    assert desk.snapshots() == []


async def test_upstream_40_strict_raises_what_a_close_could_not_write_and_lets_go(desk: Desk):
    settings = {"retention_storage_budget_bytes": 400}
    with pytest.raises(Refused):  # the budget's own error, as at any checkpoint
        async with desk.open(mode="strict", initialize_if_missing=True, settings=settings) as tasks:
            await tasks.add("x" * 500, agent="agent:a")
    async with desk.open(mode="strict") as tasks:
        assert (await tasks.view()).tasks == ()


async def test_upstream_41_degraded_closes_with_the_error_in_its_health(desk: Desk):
    async with desk.open(settings={"retention_storage_budget_bytes": 400}) as tasks:
        await tasks.add("x" * 500, agent="agent:a")
    found = await health(tasks)
    assert (found.state, found.degraded, found.last_error.code.value) == (
        HealthState.DEGRADED,
        True,
        "budget_at_capacity",
    )


async def test_a_payload_that_does_not_merge_is_a_damaged_candidate(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    from perdure.core.tasklist_replica import TaskListReplica  # noqa: PLC0415 - it is taken apart here

    async with desk.open() as tasks:
        await tasks.add("one", agent="agent:a")
    monkeypatch.setattr(TaskListReplica, "encode", lambda _self: b"\xff" * 40)
    async with desk.open() as tasks:
        await tasks.add("two", agent="agent:a")
    monkeypatch.undo()
    async with desk.open() as tasks:
        assert [task.title for task in (await tasks.view()).tasks] == ["one"]
    with pytest.raises(Corrupt) as raised:
        async with desk.open(mode="strict"):
            pass
    assert raised.value.code == "snapshot_decode"
