"""A process that writes to every routed store ends, in order or by SIGKILL: the next one finds all it acknowledged."""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.faults.routed_writer import KEYS, PROJECTS, TIERS, WRITES, counts
from tests.support.children import child
from tests.support.databases import Database
from tests.support.places import KEPT, Place

ROUNDS = 6
FOREVER = 100_000
KILLED_AFTER = (1, 28)  # acknowledgements

on_each = pytest.mark.parametrize(
    ("database", "place"),
    [
        *(pytest.param("pg18", backend, id=backend) for backend in KEPT),
        pytest.param("pg15", "postgres", id="postgres-15", marks=pytest.mark.soak),
        pytest.param("pg18", "firestore-emulator", id="firestore-emulator", marks=pytest.mark.soak),
    ],
    indirect=True,
)


@dataclass
class Acknowledged:
    """What the processes of a test were told."""

    count: Counter[str] = field(default_factory=Counter)
    event_cursors: list[tuple[int, str]] = field(default_factory=list)
    message_cursors: list[tuple[int, str]] = field(default_factory=list)

    def add(self, kind: str, n: int, answer: Any) -> None:
        """One more; the answer is a cursor or the version that the write made."""
        assert n == self.count[kind] + 1, kind
        self.count[kind] = n
        if kind == "events":
            self.event_cursors.append((2 * n, answer))
        elif kind == "messages":
            self.message_cursors.append((n, answer))
        else:
            turns = {"rows": KEYS, "boards": 2, "routes": PROJECTS}[kind]
            assert answer == (n - 1) // turns + 1, kind

    def task(self, database: Database, place: Place, *, rounds: int) -> dict[str, Any]:
        """What the next process is told."""
        return {
            "dsn": database.dsn("app"),
            "registry": place.registry,
            "target": place.registry,
            "rounds": rounds,
            "cursors": {
                "events": [cursor for _, cursor in self.event_cursors],
                "messages": [cursor for _, cursor in self.message_cursors],
            },
        }

    def check(self, seen: dict[str, Any], *, clean: bool) -> None:
        """All of it is there, and nothing but what one more write of each kind may have made."""
        made = counts(seen)
        for kind in WRITES:
            under_way = 0 if clean else 1
            assert self.count[kind] <= made[kind] <= self.count[kind] + under_way, kind
        n = made["events"]
        assert seen["events"] == [[2 * i + j - 2, f"{i}{'ab'[j - 1]}", i] for i in range(1, n + 1) for j in (1, 2)]
        assert seen["resumed"] == [2 * n - at for at, _ in self.event_cursors]
        # The plane itself tells of the routes in a stream of its own, sooner or later.
        assert set(seen["streams"]) - {"routing/t_acme"} == ({"orders/eu"} if n else set())
        n = made["messages"]
        assert seen["messages"] == [[i, f"m{i}", {"n": i}] for i in range(1, n + 1)]
        assert seen["continued"] == [n - at for at, _ in self.message_cursors]
        if n:
            assert seen["newest"] == [f"m{i}" for i in range(max(n - 2, 1), n + 1)]
            assert seen["sessions"] == ["s_1"]
        keys = {f"k{i % KEYS}": [i, (i - 1) // KEYS + 1] for i in range(1, made["rows"] + 1)}
        assert seen["rows"] == keys
        boards = {"user" if i % 2 else "project": [i, (i - 1) // 2 + 1] for i in range(1, made["boards"] + 1)}
        assert seen["boards"] == boards
        routes = range(1, made["routes"] + 1)
        assert seen["routes"] == {
            f"p{i % PROJECTS}": [f"note {i}", TIERS[i % len(TIERS)], (i - 1) // PROJECTS + 1] for i in routes
        }
        for project, (_, _, version) in seen["routes"].items():
            history = seen["history"][project]
            assert [entry[0] for entry in history] == list(range(1, version + 1)), project
            assert {entry[2] for entry in history} == {"agent:writer"}
        self.count.update({kind: made[kind] - self.count[kind] for kind in WRITES})


async def run(
    database: Database, place: Place, acknowledged: Acknowledged, *, kill_after: int | None
) -> dict[str, Any]:
    """Let a process look and write, to its end or until it is killed; what it saw at first."""
    task = acknowledged.task(database, place, rounds=ROUNDS if kill_after is None else FOREVER)
    async with child("tests.faults.routed_writer", task) as writer:
        said = await writer.said(None if kill_after is None else 1 + kill_after)
        if kill_after is not None:
            writer.kill()
            said += await writer.said()
        assert await writer.ended() == (0 if kill_after is None else -signal.SIGKILL)
    seen: dict[str, Any] = said[0]
    return {"seen": seen, "acknowledged": said[1:]}


@on_each
async def test_what_was_acknowledged_is_there_for_the_process_after_a_killed_one(
    database: Database, place: Place
) -> None:
    acknowledged = Acknowledged()
    clean = True
    for kill_after in (None, *KILLED_AFTER, None):
        ran = await run(database, place, acknowledged, kill_after=kill_after)
        acknowledged.check(ran["seen"], clean=clean)
        for kind, n, answer in ran["acknowledged"]:
            acknowledged.add(kind, n, answer)
        clean = kill_after is None
    assert min(acknowledged.count.values()) >= 2 * ROUNDS
