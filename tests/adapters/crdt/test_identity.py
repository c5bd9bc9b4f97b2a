"""Fault 12: a node that restarts from an older snapshot, and a store that was copied, split no list."""

from __future__ import annotations

import pytest

from perdure.core.tasklist_sync import TaskListSync
from perdure.domain.tasklists.resync import Delta, encode_message
from tests.adapters.crdt.lists import Node, settle

pytestmark = pytest.mark.fast


def rolled_back(*, reuse_the_id: bool) -> tuple[Node, Node]:
    """A node restored from an older snapshot, which writes again; and a peer that saw what it had lost."""
    node, peer = Node(1, writer_id=4711), Node(2)
    node.list.add("kept", agent="agent:a", task_id="kept")
    snapshot = node.list.encode()
    node.list.add("lost", agent="agent:a", task_id="lost")
    settle(node, peer)
    restored = Node(3, writer_id=4711 if reuse_the_id else None)
    writer = restored.facts._writer_id
    if reuse_the_id:
        restored.facts._writer_id = -1  # it takes what it reads for its own, as who stores the id would
    restored.list.merge(snapshot)
    restored.facts._writer_id = writer
    restored.list.add("after", agent="agent:a", task_id="after")
    settle(restored, peer)
    return restored, peer


def test_fault_12_after_a_rollback_lost_operations_return_and_both_converge():
    restored, peer = rolled_back(reuse_the_id=False)
    assert sorted(restored.ids) == sorted(peer.ids) == ["after", "kept", "lost"]
    assert restored.digest == peer.digest
    assert restored.list.identity_conflicts == 0


def test_fault_12_a_mutant_that_reuses_the_writer_id_is_caught():
    restored, peer = rolled_back(reuse_the_id=True)
    # Both sides believe that they have everything, and show different lists for ever: what fresh ids prevent.
    assert restored.list.vector() == peer.list.vector()
    assert restored.digest != peer.digest


@pytest.mark.parametrize("by_delta", [True, False])
def test_fault_12_a_store_copied_to_a_second_node_is_noticed_and_both_converge(*, by_delta: bool):
    first, second = Node(1, writer_id=4711), Node(2, writer_id=4711)
    first.list.add("first", agent="agent:a", task_id="first")
    first.list.edit("first", title="edited")
    for number in range(3):
        second.list.add(f"second {number}", agent="agent:b", task_id=f"second{number}")
    second.list.remove("second0")  # under numbers that mean facts of the first one there
    first.list.merge(second.list.delta_since(first.list.vector()) if by_delta else second.list.encode())
    assert first.list.identity_conflicts == 1
    assert first.list.writer_id != second.list.writer_id
    assert first.list.get("first").title == "edited"
    for node in (first, second):
        node.list.add("more", agent="agent:a", task_id=f"more{node.clock.monotonic()}{node.list.writer_id}")
    third = Node(3)
    settle(first, second, third)
    assert first.digest == second.digest == third.digest
    assert {"first", "second1", "second2"} < set(first.ids)
    assert len(first.ids) == 5


def test_fault_12_a_rotated_replica_keeps_what_it_has_and_tells_nothing_twice():
    node, copy = Node(1, writer_id=4711), Node(2, writer_id=4711)
    node.list.add("mine", agent="agent:a", task_id="mine")
    payload = node.list.encode()
    copy.list.merge(payload)
    rotated = copy.list.identity_conflicts
    assert rotated == 1
    assert copy.ids == ["mine"]
    version = copy.list.view().version
    assert not copy.list.merge(payload)
    assert copy.list.view().version == version
    copy.list.add("other", agent="agent:a", task_id="other")
    settle(node, copy)
    assert node.digest == copy.digest
    assert node.ids == ["mine", "other"]


def test_fault_12_the_conflict_is_in_the_health_of_the_resync_and_in_the_log(caplog: pytest.LogCaptureFixture):
    first, second = Node(1, writer_id=4711), Node(2, writer_id=4711)
    sync = TaskListSync(first.list, list_id="sprint", sender="first", environment=first.environment)
    second.list.add("theirs", agent="agent:b")
    assert sync.health().identity_conflicts == 0
    sync.receive(encode_message(Delta(list_id="sprint", sender="second", update=second.list.encode())))
    assert sync.health().identity_conflicts == 1
    assert "was a store copied?" in caplog.text
