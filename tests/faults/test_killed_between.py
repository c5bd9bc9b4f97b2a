"""A process killed between the documents that one thing is made of: nothing is lost, and no list tells of what is not.

Directory, pointers and headers are documents of their own, in other partitions than what they are about.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

import pytest

import perdure
from tests.faults.killed_between import DEEDS, PROJECT
from tests.support.children import child
from tests.support.databases import Database
from tests.support.places import Place

DOCUMENTS = ("filesystem", "sqlite", "dynamodb", "firestore", "cosmos")
COMMITS_MAX = 60  # far more than all deeds need; a sweep that comes here is wrong


def state_after(deeds: Sequence[str]) -> dict[str, Any]:
    """What is under a name when these were done, and listed: exactly what is there."""
    events = [[1, "a"], [2, "b"]] if "first_event" in deeds else []
    messages = 1 if "session" in deeds and "end_session" not in deeds else 0
    return {
        "events": [*events, [3, "c"]] if "second_event" in deeds else events,
        "is_stream_listed": bool(events),
        "rows": ["kept"] if "first_row" in deeds and "remove_row" not in deeds else [],
        "messages": messages,
        "is_session_listed": bool(messages),
        "boards": ["state"] if "board" in deeds else [],
    }


class Chain:
    """One process after another on the same place, each killed, and each looking at what those before it left."""

    def __init__(self, database: Database) -> None:
        self._dsn = database.dsn("app")
        self._done: dict[str, list[str]] = {}
        self._unfinished: tuple[str, str] | None = None

    async def run(self, name: str | None, *, at: int = 0, moment: str = "before") -> bool:
        """Look, finish, and begin under a new name; whether it was killed there."""
        task = {
            "dsn": self._dsn,
            "names": list(self._done),
            "unfinished": self._unfinished,
            "name": name,
            "at": at,
            "moment": moment,
        }
        async with child("tests.faults.killed_between", task) as process:
            said = await process.said()
            code = await process.ended()
        self._check(said.pop(0))
        if self._unfinished is not None:
            deed, unfinished = self._unfinished
            assert said.pop(0) == ["again", deed, unfinished]
            self._done[unfinished].append(deed)
            self._unfinished = None
            self._check(said.pop(0))
        if name is None:
            assert (code, said) == (0, [])
            return False
        self._done[name] = [deed for word, deed in said if word == "done"]
        begun = [deed for word, deed in said if word == "begins"]
        assert code == (0 if len(self._done[name]) == len(DEEDS) else -signal.SIGKILL)
        if code == 0:
            return False
        self._unfinished = (begun[-1], name)
        return True

    def _check(self, seen: dict[str, Any]) -> None:
        assert seen.pop("others") == []
        assert list(seen) == list(self._done)
        for name, found in seen.items():
            possible = [state_after(self._done[name])]
            if self._unfinished is not None and self._unfinished[1] == name:
                possible.append(state_after([*self._done[name], self._unfinished[0]]))
            assert found in possible, (name, self._done[name], self._unfinished)


async def route_all(database: Database, place: Place) -> None:
    async with perdure.open(database.dsn("app"), mode="lab", env="dev") as plane:
        acme = plane.scope("t_acme", actor="agent:tester")
        for kind in ("streams", "tables", "memory"):
            await acme.routes.set(kind, place.backend, config=place.config, project=PROJECT)


@pytest.mark.parametrize(
    ("place", "first"),
    # Each backend takes every fifth commit, so that together they take all.
    [pytest.param(backend, number, id=backend) for number, backend in enumerate(DOCUMENTS, start=1)],
    indirect=["place"],
)
async def test_a_process_killed_before_a_commit_leaves_what_the_next_one_finishes(
    database: Database, place: Place, first: int
) -> None:
    await route_all(database, place)
    chain = Chain(database)
    killed = [await chain.run(f"n{at}", at=at) for at in range(first, first + 2 * len(DOCUMENTS) + 1, len(DOCUMENTS))]
    assert killed[0]
    await chain.run(None)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("place", [*DOCUMENTS, "firestore-emulator"], indirect=True)
async def test_a_process_killed_at_any_commit_leaves_what_the_next_one_finishes(
    database: Database, place: Place, moment: str
) -> None:
    await route_all(database, place)
    chain = Chain(database)
    at = 1
    while await chain.run(f"n{at}", at=at, moment=moment):
        at += 1
        assert at < COMMITS_MAX
    assert at > len(DEEDS)
    await chain.run(None)
