"""Nodes find agreement by themselves: over a channel that loses messages, and through a stream of a real backend."""

from __future__ import annotations

import asyncio
import base64
import itertools
import random
from collections.abc import AsyncIterator

import pytest

from perdure.adapters.crdt.replica import YrsReplica
from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.core.environment import system_environment
from perdure.core.streams import Streams
from perdure.core.tasklist_replica import TaskListReplica
from perdure.core.tasklist_sync import TaskListSync, keep_in_sync
from perdure.core.tasklist_transports import (
    EVENT_TYPE,
    PART_BYTES,
    QUEUED_MESSAGES_MAX,
    UNFINISHED_MAX,
    Hub,
    StreamTransport,
)
from perdure.domain.canonical import JsonObject
from perdure.domain.stream import StreamEvent
from perdure.domain.tasklists.resync import (
    BACKOFF_S_MAX,
    BURST_S,
    JITTER,
    MESSAGE_BYTES_MAX,
    STEADY_S,
    Greeting,
    Schedule,
    decode_message,
    encode_message,
)
from perdure.errors import Invalid, LimitExceeded
from perdure.ports.environment import Environment
from perdure.testing.environment import CountingIds, FakeClock, SeededRandomness
from perdure.testing.routed import given, routed_plane

LIST = "sprint"


class Node:
    """A list with its protocol, and a clock of its own."""

    def __init__(self, number: int) -> None:
        self.clock = FakeClock()
        self.environment = Environment(
            clock=self.clock, randomness=SeededRandomness(number), ids=CountingIds(space=number)
        )
        self.replica = TaskListReplica(make_replica=YrsReplica, environment=self.environment)
        self.sync = TaskListSync(self.replica, list_id=LIST, sender=f"node-{number}", environment=self.environment)

    @property
    def digest(self) -> str:
        """What the node shows."""
        return self.replica.view().view_digest


def exchange(nodes: list[Node], first: bytes, *, sender: Node, lossy: random.Random | None = None) -> int:
    """Carry a message and all that follows from it; returns how many were carried."""
    waiting, carried = [(sender, first)], 0
    while waiting:
        origin, message = waiting.pop(0 if lossy is None else lossy.randrange(len(waiting)))
        for node in nodes:
            if node is origin or (lossy is not None and lossy.random() < 0.3):
                continue
            carried += 1
            waiting += [(node, answer) for answer in node.sync.receive(message)]
    return carried


def test_one_greeting_is_enough_for_two_nodes_that_know_different_things() -> None:
    left, right = nodes = [Node(1), Node(2)]
    left.replica.add("write", agent="agent:a")
    right.replica.add("read", agent="agent:b")
    assert exchange(nodes, left.sync.greeting(), sender=left) <= 12
    assert left.digest == right.digest
    assert len(left.replica.view().tasks) == 2
    assert left.sync.health().resync_state == right.sync.health().resync_state == "matched"


def test_a_removal_travels_though_no_vector_tells_of_it() -> None:
    left, right = nodes = [Node(1), Node(2)]
    task = left.replica.add("write", agent="agent:a")
    exchange(nodes, left.sync.greeting(), sender=left)
    left.replica.remove(task.task_id)
    assert left.replica.vector() == right.replica.vector()
    exchange(nodes, right.sync.greeting(), sender=right)
    assert right.replica.view().tasks == ()


@pytest.mark.parametrize("seed", range(20))
def test_nodes_agree_in_the_end_over_a_channel_that_loses_and_reorders(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    nodes = [Node(number) for number in range(1, 5)]
    for turn in range(40):
        node = chance.choice(nodes)
        task = node.replica.add(f"task {turn}", agent="agent:a")
        if turn % 3 == 0:
            node.replica.remove(task.task_id)
        exchange(nodes, node.sync.greeting(), sender=node, lossy=chance)
    for _ in range(3):
        for node in nodes:
            exchange(nodes, node.sync.greeting(), sender=node)
    assert len({node.digest for node in nodes}) == 1
    assert {node.sync.health().resync_state for node in nodes} == {"matched"}


def test_agreement_ends_the_exchange_and_a_change_ends_the_agreement() -> None:
    left, right = nodes = [Node(1), Node(2)]
    exchange(nodes, left.sync.greeting(), sender=left)
    assert exchange(nodes, right.sync.greeting(), sender=right) == 1
    before = left.sync.health()
    assert before.resync_state == "matched"
    left.replica.add("write", agent="agent:a")
    assert left.sync.health().resync_state == "syncing"
    assert left.sync.health().last_digest_match_at == before.last_digest_match_at


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"\x00" * 40,
        encode_message(Greeting(list_id=LIST, sender="x", vector=b"\xff", view_digest="0" * 64)),
        encode_message(Greeting(list_id=LIST, sender="x", vector=b"", view_digest="short")),
        encode_message(Greeting(list_id="../etc", sender="x", vector=b"\x00", view_digest="0" * 64)),
    ],
    ids=["nothing", "zeros", "vector", "digest", "list"],
)
def test_what_is_no_message_is_counted_and_changes_nothing(source: bytes) -> None:
    node = Node(1)
    before = node.digest
    assert node.sync.receive(source) == []
    assert node.digest == before
    assert node.sync.health().refused == 1


def test_a_message_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(LimitExceeded, match="message_bytes_max"):
        decode_message(bytes(MESSAGE_BYTES_MAX + 1))
    with pytest.raises(Invalid):
        decode_message(bytes(MESSAGE_BYTES_MAX))


def test_greetings_come_in_a_burst_then_ever_more_rarely_and_steadily_once_somebody_agreed() -> None:
    schedule, now, waits = Schedule(started_at=0.0), 0.0, []
    for _ in range(12):
        due = schedule.due_at(0.5)
        waits.append(round(due - now, 6))
        now = due
        schedule.greeted(now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(BURST_S)]
    assert waits == [0.0, *gaps, 30.0, 60.0, 120.0, 240.0, *[BACKOFF_S_MAX] * 3]
    schedule.matched(now)
    assert schedule.due_at(0.5) == now + STEADY_S
    assert schedule.due_at(0.0) == pytest.approx(now + STEADY_S * (1 - JITTER))


async def test_lists_of_one_process_keep_in_sync_by_a_hub() -> None:
    hub, nodes = Hub(), [Node(number) for number in range(1, 4)]
    naps = asyncio.Semaphore(0)

    async def sleep(seconds: float) -> None:
        if seconds > 0:
            await naps.acquire()
        await asyncio.sleep(0)

    tasks = [
        asyncio.create_task(keep_in_sync(node.sync, hub.join(), environment=node.environment, sleep=sleep))
        for node in nodes
    ]
    for node in nodes:
        node.replica.add("here", agent="agent:a")
    for _ in range(200):
        await asyncio.sleep(0)
    naps.release()
    while len({node.digest for node in nodes}) > 1 or len(nodes[0].replica.view().tasks) < len(nodes):
        naps.release()
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_member_that_does_not_listen_keeps_the_newest_messages() -> None:
    hub = Hub()
    speaker, deaf = hub.join(), hub.join()
    for number in range(QUEUED_MESSAGES_MAX + 1):
        await speaker.send(str(number).encode())
    heard = deaf.receive()
    assert await anext(aiter(heard)) == b"1"


@pytest.fixture
async def streams() -> AsyncIterator[Streams]:
    """The streams of a tenant, on a backend in memory."""
    environment = system_environment()
    driver = MemoryDriver(MemoryStore())
    await driver.open()
    backend = DocumentBackend(driver, mode="lab", env="dev", environment=environment)
    async with routed_plane([given("main", backend)], backend.routes, environment=environment) as plane:
        tenant = plane.tenant("t_acme")
        await tenant.routes.set("streams", "main")
        yield tenant.streams
    await backend.close()


async def test_a_stream_of_a_routed_backend_carries_lists_larger_than_an_event(streams: Streams) -> None:
    left, right = Node(1), Node(2)
    for number in range(300):
        left.replica.add(f"task {number}", agent="agent:a", description="x" * 1_500)
    assert len(left.replica.encode()) > 2 * PART_BYTES
    ends = [
        StreamTransport(streams, "tasklists/sprint", sender=name, environment=node.environment)
        for name, node in (("left", left), ("right", right))
    ]
    waiting = [asyncio.ensure_future(anext(aiter(end.receive()))) for end in ends]
    await begun(streams)
    await ends[1].send(right.sync.greeting())
    for answer in left.sync.receive(await waiting[0]):
        await ends[0].send(answer)
    right.sync.receive(await waiting[1])
    assert left.digest == right.digest


async def test_messages_of_which_parts_were_lost_are_given_up_but_for_the_newest(streams: Streams) -> None:
    end = StreamTransport(streams, "s", sender="left", environment=Node(1).environment)
    heard = asyncio.ensure_future(anext(aiter(end.receive())))
    await begun(streams)
    for part in (0, 1):
        for message in range(UNFINISHED_MAX + 1):
            if (part, message) != (1, 1):
                await streams.append("s", part_event(f"m{message}", part))
    # The oldest was given up when one more came, so that the second part of it is a first one again.
    assert await heard == b"2020"


async def begun(streams: Streams) -> None:
    """Wait until those who listen have looked where the stream ends."""
    for _ in range(20):
        await streams.head("anything")


def part_event(message: str, part: int) -> StreamEvent:
    """Half of a message whose bytes are its number."""
    half = base64.b64encode(f"{message[1:]}0".encode()).decode()
    data: JsonObject = {"sender": "right", "message": message, "part": part, "parts": 2, "data": half}
    return StreamEvent(type=EVENT_TYPE, data=data)
