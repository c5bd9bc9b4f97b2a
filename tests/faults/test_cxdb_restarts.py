"""A server of CXDB's protocol is killed while eight clients append: the next one has all that was acknowledged."""

from __future__ import annotations

import asyncio
import signal
import struct
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from perdure.adapters.cxdb.codec.frames import Frame
from perdure.adapters.cxdb.codec.requests import GetLast
from perdure.adapters.cxdb.codec.responses import decode_answer
from perdure.adapters.cxdb.codec.turn_lists import TurnItem, TurnList
from perdure.adapters.cxdb.server import Profile
from tests.adapters.cxdb.server.conversing import LAST, WAIT_S, Client, get_last
from tests.support.children import child
from tests.support.databases import Database
from tests.support.places import KEPT, Place

CLIENTS = 8
EMULATED = ("dynamodb", "firestore", "cosmos")
KILLED_AFTER = (5, 40)  # acknowledgements of a process
EMULATED_KILLED_AFTER = (20,)  # where a start takes its time
KILLED_AGAIN_AFTER = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233)


@dataclass
class Conversation:
    """What one client knows: what it appended to which context, and what it was told of it."""

    number: int
    contexts: list[int]
    acknowledged: dict[bytes, tuple[int, int, int]] = field(default_factory=dict)
    under_way: tuple[int, bytes] | None = None
    unsure: set[bytes] = field(default_factory=set)
    count: int = 0

    def go_on(self, port: int, *, again: bool, told: threading.Semaphore) -> None:
        """Append to its own context and to that of all, until the server is gone."""
        try:
            with Client(port) as client:
                if self.under_way is not None and again:
                    self._append(client, *self.under_way, again=True)
                while True:
                    context_id = self.contexts[self.count % 2]
                    self._append(client, context_id, b"%d of client %d" % (self.count, self.number), again=False)
                    told.release()
        except (AssertionError, OSError):
            # Closed, reset, or cut within an answer.
            if self.under_way is not None:
                self.unsure.add(self.under_way[1])

    def _append(self, client: Client, context_id: int, content: bytes, *, again: bool) -> None:
        if not again:
            self.under_way = (context_id, content)
            self.count += 1
        turn_id, depth, replayed = client.append_again(context_id, content, key=content)
        assert again or not replayed
        self.acknowledged[content] = (context_id, turn_id, depth)
        self.under_way = None


def turns_of(client: Client, context_id: int) -> tuple[TurnItem, ...]:
    """All turns of a context."""
    payload = client.answer(LAST, get_last(context_id, 10_000))
    answer = decode_answer(Frame(msg_type=LAST, req_id=1, payload=payload), to=GetLast(context_id=context_id, limit=0))
    assert isinstance(answer, TurnList)
    return answer.items


def check(port: int, conversations: list[Conversation], *, keys: bool) -> None:
    """All that was acknowledged is there, once, where it was said to be, and nothing else but what was under way."""
    contexts = {context_id for conversation in conversations for context_id in conversation.contexts}
    found: dict[int, tuple[int, int, bytes]] = {}
    contents: list[bytes] = []
    with Client(port) as client:
        for context_id in contexts:
            turns = turns_of(client, context_id)
            assert [turn.depth for turn in turns] == list(range(len(turns)))
            parents = [0, *(turn.turn_id for turn in turns)]
            assert [turn.parent_turn_id for turn in turns] == parents[:-1]
            assert client.head(context_id) == (parents[-1], max(0, len(turns) - 1))
            for turn in turns:
                assert turn.turn_id not in found, "an id of two turns"
                assert turn.payload is not None
                found[turn.turn_id] = (context_id, turn.depth, turn.payload)
                contents.append(turn.payload)
    unsure = {content for conversation in conversations for content in conversation.unsure}
    for conversation in conversations:
        for content, (context_id, turn_id, depth) in conversation.acknowledged.items():
            assert found[turn_id] == (context_id, depth, content)
    acknowledged = {content for conversation in conversations for content in conversation.acknowledged}
    assert set(contents) - acknowledged <= unsure
    twice = {content for content in contents if contents.count(content) > 1}
    assert twice <= (set() if keys else unsure)


async def killed_and_checked(task: dict[str, Any], *, kill_after: Sequence[int]) -> None:
    """Servers that are killed, each after so many acknowledgements, and one that has it all."""
    keys = task["profile"] == Profile.IMPROVED.value
    conversations: list[Conversation] = []
    for acknowledgements in kill_after:
        async with child("tests.faults.cxdb_server", task) as server:
            (port,) = await server.said(1)
            if not conversations:
                with Client(port) as client:
                    contexts = [client.new_context() for _ in range(CLIENTS + 1)]
                conversations = [Conversation(n, [contexts[0], contexts[n + 1]]) for n in range(CLIENTS)]
            else:
                await asyncio.to_thread(check, port, conversations, keys=keys)
            told = threading.Semaphore(0)
            with ThreadPoolExecutor(CLIENTS) as pool:
                going = [pool.submit(one.go_on, port, again=keys, told=told) for one in conversations]
                for _ in range(acknowledgements):
                    assert await asyncio.to_thread(told.acquire, timeout=WAIT_S)
                server.kill()
                for one in going:
                    await asyncio.wrap_future(one)
            assert await server.ended() == -signal.SIGKILL
    async with child("tests.faults.cxdb_server", task) as server:
        (port,) = await server.said(1)
        await asyncio.to_thread(check, port, conversations, keys=keys)
        if not keys:
            await asyncio.to_thread(check_numbers, port, conversations)


def task_of(database: Database, place: Place, folder: Path, profile: Profile) -> dict[str, Any]:
    """What each server of a test is told."""
    return {"dsn": database.dsn("app"), "registry": place.registry, "path": str(folder), "profile": profile.value}


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize(
    ("database", "place"), [pytest.param("pg18", backend, id=backend) for backend in KEPT], indirect=True
)
async def test_what_was_acknowledged_is_served_after_a_killed_server(
    database: Database, place: Place, tmp_path: Path, profile: Profile
) -> None:
    kill_after = EMULATED_KILLED_AFTER if place.backend in EMULATED else KILLED_AFTER
    await killed_and_checked(task_of(database, place, tmp_path, profile), kill_after=kill_after)


@pytest.mark.soak
@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize(
    ("database", "place"),
    [
        *(pytest.param("pg18", backend, id=backend) for backend in KEPT),
        pytest.param("pg15", "postgres", id="postgres-15"),
        pytest.param("pg18", "firestore-emulator", id="firestore-emulator"),
    ],
    indirect=True,
)
async def test_a_server_is_killed_again_and_again(
    database: Database, place: Place, tmp_path: Path, profile: Profile
) -> None:
    await killed_and_checked(task_of(database, place, tmp_path, profile), kill_after=KILLED_AGAIN_AFTER)


def check_numbers(port: int, conversations: list[Conversation]) -> None:
    """Numbers have no gaps."""
    contexts = sorted({context_id for conversation in conversations for context_id in conversation.contexts})
    assert contexts == list(range(1, CLIENTS + 2))
    with Client(port) as client:
        ids = sorted(turn.turn_id for context_id in contexts for turn in turns_of(client, context_id))
        assert ids == list(range(1, len(ids) + 1))
        assert struct.unpack("<QQI", client.answer(2, struct.pack("<Q", ids[-1])))[0] == CLIENTS + 2
