"""Replicas on pycrdt: what merges keep, what identity is, and what damaged bytes may not do."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from perdure.adapters.crdt import replica as replica_module
from perdure.adapters.crdt.replica import WRITER_BITS, YrsReplica
from perdure.domain.tasklists.tasks import FactChange, TaskStatus
from perdure.errors import Corrupt, Invalid, LimitExceeded
from perdure.testing.environment import SeededRandomness, fake_environment
from tests.adapters.crdt.lists import Node, foreign_update, settle

pytestmark = pytest.mark.fast


class Heard:
    """What a watcher was told."""

    def __init__(self) -> None:
        self.facts: dict[str, object] = {}
        self.changes = 0

    def put(self, key: str, value: object) -> None:
        self.facts[key] = value

    def remove(self, key: str) -> None:
        del self.facts[key]

    def changed(self) -> None:
        self.changes += 1


def pair() -> tuple[Node, Node]:
    """Two nodes that know one task."""
    left, right = Node(1), Node(2)
    left.list.add("write", agent="agent:a", task_id="t")
    settle(left, right)
    return left, right


def test_a_watcher_hears_of_every_effective_change_and_of_no_other():
    heard, peer = Heard(), YrsReplica(environment=fake_environment(seed=2), watcher=Heard())
    replica = YrsReplica(environment=fake_environment(), watcher=heard)
    replica.apply(FactChange())
    assert heard.changes == 0
    replica.apply(FactChange(puts={"a": "1", "b": "2"}))
    replica.apply(FactChange(puts={"c": "3"}, removals=("a",)))
    peer.apply(FactChange(puts={"d": "4"}))
    assert replica.merge(peer.encode())
    assert not replica.merge(peer.encode())
    assert heard.facts == {"b": "2", "c": "3", "d": "4"} == dict(replica.facts())
    assert heard.changes == 3


def test_a_delta_is_what_a_vector_lacks_and_no_vector_is_invalid():
    left, right = pair()
    vector = right.list.vector()
    left.list.edit("t", title="better")
    delta = left.list.delta_since(vector)
    assert len(delta) < len(left.list.encode())
    assert right.list.merge(delta)
    assert right.list.has_vector(left.list.vector())
    for source in (b"", b"\xff\xff", b"\x05\x01"):
        with pytest.raises(Invalid):
            left.list.delta_since(source)
        with pytest.raises(Invalid):
            left.list.has_vector(source)


def test_an_update_is_taken_at_its_limit_and_not_beyond(monkeypatch: pytest.MonkeyPatch):
    left, right = pair()
    left.list.edit("t", title="better")
    update = left.list.encode()
    monkeypatch.setattr(replica_module, "UPDATE_BYTES_MAX", len(update) - 1)
    with pytest.raises(LimitExceeded, match="update_bytes_max"):
        right.list.merge(update)
    monkeypatch.setattr(replica_module, "UPDATE_BYTES_MAX", len(update))
    assert right.list.merge(update)


def test_writer_ids_are_fresh_have_all_their_bits_and_are_never_zero():
    class Zero(SeededRandomness):
        def random(self) -> float:
            return 0.0

    ids = {Node(number).list.writer_id for number in range(200)}
    assert len(ids) == 200
    assert max(ids).bit_length() == WRITER_BITS
    environment = fake_environment()
    object.__setattr__(environment, "randomness", Zero())
    assert YrsReplica(environment=environment, watcher=Heard()).writer_id == 1


def test_upstream_concurrent_adds_all_survive():
    nodes = [Node(number) for number in range(1, 6)]
    for node in nodes:
        node.list.add("task", agent="agent:a")
    settle(*nodes)
    assert [len(node.ids) for node in nodes] == [5] * 5
    assert len({node.digest for node in nodes}) == 1


def test_a_task_put_back_twice_at_once_and_then_removed_is_gone():
    left, right = pair()
    left.list.remove("t")
    settle(left, right)
    left.list.restore("t")
    right.list.restore("t")
    settle(left, right)
    assert left.ids == right.ids == ["t"]
    right.list.remove("t")
    settle(left, right)
    assert left.ids == right.ids == []


def test_a_concurrent_re_add_survives_a_removal_that_did_not_see_it():
    left, right = pair()
    right.list.remove("t")
    right.list.add("again", agent="agent:b", task_id="t")
    left.list.remove("t")
    settle(left, right)
    assert left.ids == right.ids == ["t"]
    assert left.digest == right.digest


def test_a_claim_on_a_task_that_is_removed_at_the_same_time_does_not_bring_it_back():
    left, right = pair()
    left.list.remove("t")
    right.list.claim("t", agent="agent:b")
    settle(left, right)
    assert left.ids == right.ids == []
    assert left.list.restore("t").claimed_by == "agent:b"  # what was said of it is kept


def test_upstream_concurrent_claims_have_one_winner_on_both_sides_the_earliest():
    left, right = pair()
    right.clock.advance(1)
    right.list.claim("t", agent="agent:early-name")
    left.list.claim("t", agent="agent:z")
    assert right.list.get("t").claimed_by == "agent:early-name"
    settle(left, right)
    assert left.list.get("t").claimed_by == right.list.get("t").claimed_by == "agent:z"


def test_upstream_concurrent_completes_and_a_claim_beside_a_completion():
    left, right = pair()
    left.list.claim("t", agent="agent:a")
    settle(left, right)
    left.list.complete("t", agent="agent:b")
    right.list.complete("t", agent="agent:a")
    left.list.view()
    settle(left, right)
    for node in (left, right):
        assert (node.list.get("t").status, node.list.get("t").completed_by) == (TaskStatus.DONE, "agent:a")


def test_upstream_a_claim_arrives_before_the_task_it_is_about():
    left, middle = pair()
    seen = middle.list.vector()
    middle.list.claim("t", agent="agent:m")
    late = Node(3)
    late.list.merge(middle.list.delta_since(seen))
    assert late.ids == []
    late.list.merge(left.list.encode())
    assert late.list.get("t").claimed_by == "agent:m"


def test_upstream_a_stale_name_does_not_clobber_a_newer_one():
    left, right = pair()
    left.list.rename("old")
    stale = left.list.encode()
    settle(left, right)
    right.list.rename("new")
    settle(left, right)
    right.list.merge(stale)
    left.list.merge(stale)
    assert left.list.view().name == right.list.view().name == "new"


def test_upstream_a_redelivery_bumps_no_version_and_an_effective_claim_bumps_once():
    left, right = pair()
    version = right.list.view().version
    left.list.claim("t", agent="agent:a")
    for _ in range(3):
        right.list.merge(left.list.encode())
    assert right.list.view().version == version + 1


def test_upstream_partitions_heal_also_asymmetric_and_again_and_again():
    left, right = pair()
    for cycle in range(4):
        left.list.add(f"left {cycle}", agent="agent:a")
        right.list.edit("t", title=f"right {cycle}")
        right.list.merge(left.list.encode())  # one direction only
        right.list.tag("t", f"cycle {cycle}")
        settle(left, right)
        assert left.digest == right.digest
    assert left.list.get("t").title == "right 3"


def test_upstream_a_whole_list_lets_a_late_joiner_converge_with_more_than_a_hundred_items():
    left = Node(1)
    for number in range(150):
        left.list.add(f"task {number}", agent="agent:a")
    late = Node(2, payload=left.list.encode())
    assert late.digest == left.digest
    assert [task.title for task in late.list.view().tasks] == [f"task {number}" for number in range(150)]


def test_what_is_written_last_on_a_node_is_what_it_shows_whatever_it_merged_before():
    left, right = pair()
    for number in range(20):
        right.list.edit("t", title=f"right {number}")
    left.list.merge(right.list.encode())
    assert left.list.edit("t", title="left").title == "left"
    settle(left, right)
    assert left.list.get("t").title == right.list.get("t").title == "left"


def test_three_concurrent_writers_agree_in_all_orders_of_delivery():
    writers = [Node(number) for number in (1, 2, 3)]
    writers[0].list.add("write", agent="agent:a", task_id="t")
    settle(*writers)
    for number, node in enumerate(writers):
        node.list.edit("t", title=f"by {number}")
    updates = [node.list.encode() for node in writers]
    digests = set()
    for order in itertools.permutations(updates):
        reader = Node(9)
        for update in order:
            reader.list.merge(update)
        digests.add(reader.digest)
    assert len(digests) == 1


def test_concurrent_moves_of_one_task_leave_exactly_one_copy():
    left, right = pair()
    for name in ("a", "b"):
        left.list.add(name, agent="agent:a", task_id=name)
    settle(left, right)
    left.list.move("t", after="a")
    right.list.move("t", after="b")
    settle(left, right)
    assert left.ids == right.ids
    assert sorted(left.ids) == ["a", "b", "t"]


def test_tasks_that_two_put_at_the_same_place_are_in_one_order_and_can_be_parted():
    left, right = pair()
    left.list.add("l", agent="agent:a", task_id="l")
    right.list.add("r", agent="agent:a", task_id="r")
    settle(left, right)
    assert left.ids == right.ids == ["t", "l", "r"]
    assert left.list.get("l").position == left.list.get("r").position
    left.list.move("t", after="l")
    settle(left, right)
    assert left.ids == right.ids == ["l", "t", "r"]


def test_an_offline_mutation_arrives_after_a_restart():
    left, right = pair()
    left.list.edit("t", title="offline")
    restarted = Node(5, payload=left.list.encode())
    settle(restarted, right)
    assert right.list.get("t").title == "offline"


def test_facts_of_a_newer_release_are_kept_and_handed_on():
    newer = foreign_update({"n|t|due|2027": "soon", "m|u|0000000000000001.0000000000004d": "", "f|t|title|x": 5})
    first, second = Node(1), Node(2)
    first.list.add("write", agent="agent:a", task_id="t")
    first.list.merge(newer)
    first.list.edit("t", title="still works")
    second.list.merge(first.list.encode())
    assert ("n\x1ft\x1fdue\x1f2027", "soon") in list(second.facts.facts())
    assert second.digest == first.digest


@pytest.mark.parametrize("value", [5, 5.5, True, None, ["list"], {"a": 1}, b"bytes"])
def test_values_of_any_type_from_a_peer_do_no_harm(value: object):
    node = Node(1)
    node.list.add("write", agent="agent:a", task_id="t")
    key = f"f|t|title|{'f' * 15}f.{'0' * 13}1"
    node.list.merge(foreign_update({key: value, f"f|t|title|{9:016x}.{1:014x}": value}))
    assert node.list.get("t").title == "write"
    assert Node(2, payload=node.list.encode()).digest == node.digest


def test_corrupted_updates_are_refused_or_taken_and_never_hang_or_crash():
    chance = random.Random(4)  # noqa: S311 - repeatable on purpose
    left, _ = pair()
    for number in range(20):
        left.list.add(f"task {number}", agent="agent:a", description="words " * 10)
    update = left.list.encode()
    damaged = [update[:cut] for cut in sorted(chance.sample(range(len(update)), 120))]
    for _ in range(300):
        flipped = bytearray(update)
        flipped[chance.randrange(len(update))] ^= 1 << chance.randrange(8)
        damaged.append(bytes(flipped))
    refused = 0
    for source in damaged:
        reader = Node(2)
        try:
            reader.list.merge(source)
        except (Corrupt, LimitExceeded):
            refused += 1
        # Whatever came of it, the replica is whole: it can be read, written and sent.
        reader.list.view()
        reader.list.add("goes on", agent="agent:a")
        assert len(Node(3, payload=reader.list.encode()).ids) == len(reader.ids)
    assert refused > 100


@pytest.mark.parametrize("source", [b"", b"\x00", b"\xff" * 64, b"not an update", bytes(1_000)])
def test_what_is_no_update_is_corrupt_or_nothing(source: bytes):
    node, _ = pair()
    before = node.list.view()
    try:
        assert not node.list.merge(source)
    except Corrupt as exc:
        assert "update" in exc.message  # noqa: PT017 - refused by name is as good as taken for nothing
    assert node.list.view() == before


@pytest.mark.parametrize("value", ["\ud800", 2**63])
def test_what_makes_the_library_panic_is_corrupt_and_leaves_it_usable(value: object):
    heard = Heard()
    replica = YrsReplica(environment=fake_environment(), watcher=heard)
    with pytest.raises(Corrupt):
        replica.apply(FactChange(puts={"key": value}))  # type: ignore[dict-item]  # what the edge of the API refuses
    replica.apply(FactChange(puts={"key": "fine"}))
    assert heard.facts["key"] == "fine"


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_ends_a_program_is_not_taken_for_a_panic(signal: type[BaseException]):
    class Ending(Heard):
        def changed(self) -> None:
            raise signal

    def end() -> None:
        with replica_module._translated("a change"):
            raise signal

    with pytest.raises(signal):
        end()
