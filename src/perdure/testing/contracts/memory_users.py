"""What memory promises about users: whose it is, what is listed, exported and erased."""

from __future__ import annotations

from typing import Final

import pytest

from perdure.core.memory import Memory
from perdure.domain.canonical import JsonObject
from perdure.domain.memory import Erased
from perdure.errors import BackendDown, Invalid
from perdure.testing.contracts.memory_sessions import MemoryOpening, contents, say
from perdure.testing.contracts.routed_opening import Town
from perdure.testing.contracts.stores import new_tenant
from perdure.testing.watched import failing

SPLITS: Final = (
    ("u#1", "s"),
    ("u", "1#s"),
    ("u/1", "s"),
    ("u", "1/s"),
    ("u_1", "s"),
    ("u", "1_s"),
    ("u", ".."),
    ("..", "u"),
)


async def listed(memory: Memory, user: str, *, limit: int = 100) -> list[str]:
    """A user's sessions, page after page."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await memory.sessions(user=user, cursor=cursor, limit=limit)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return sorted(found)


class MemoryUsersContract(MemoryOpening):
    """Owners."""

    async def _furnish(self, memory: Memory, user: str) -> None:
        for session in ("s1", "s2"):
            await memory.append(session, say("hello", message_id="m"), say({"n": 2}), user=user)
            await memory.boards.put("plan", {"of": session}, user=user, session=session)
        await memory.configure("s1", user=user, metadata={"topic": "x"})
        await memory.boards.put("profile", {"name": user}, user=user, metadata={"v": 1})

    async def test_r58_separators_in_ids_of_users_and_sessions_never_collide(self, memory: Memory) -> None:
        for number, (user, session) in enumerate(SPLITS):
            await memory.append(session, say(number, message_id="same"), user=user)
        for number, (user, session) in enumerate(SPLITS):
            assert await contents(memory, session, user=user) == [number]
        assert await listed(memory, "u") == sorted(["1#s", "1/s", "1_s", ".."])

    async def test_sessions_of_a_user_are_listed_in_pages(self, town: Town, memory: Memory) -> None:
        names = [f"s {n}/#" for n in range(7)]
        for name in names:
            await memory.append(name, say(1), user="ann")
        await memory.append("other", say(1), user="bob")
        await memory.append("other", say(1), user="ann2")
        await memory.boards.put("plan", {}, user="ann", session="board only")
        await town.plane.tenant(town.tenant, project="p2").memory.append("elsewhere", say(1), user="ann")
        assert await listed(memory, "ann", limit=2) == sorted(names)
        assert await listed(memory, "ann") == sorted(names)
        assert await listed(memory, "nobody") == []
        for bad in ("nonsense", "", "x" * 5_000):
            with pytest.raises(Invalid):
                await memory.sessions(user="ann", cursor=bad)

    async def test_a_scope_made_for_a_user_is_that_users(self, town: Town, memory: Memory) -> None:
        ann = "0190f3c4-8a6e-7c1b-9d55-3f2e1a0b4c6d"
        mine = town.plane.tenant(town.tenant, user=ann).memory
        await mine.append("s", say("mine"))
        assert await contents(memory, "s", user=ann) == ["mine"]
        assert (await mine.sessions()).items == ("s",)
        assert (await mine.get_session("s")).user == ann
        with pytest.raises(Invalid):
            await memory.sessions()

    async def test_everything_of_a_user_is_exported(self, memory: Memory) -> None:
        await self._furnish(memory, "ann")
        await self._furnish(memory, "bob")
        found = [item async for item in memory.export_user("ann")]
        assert all(item.get("user", "ann") == "ann" for item in found)

        def of(kind: str) -> list[JsonObject]:
            return [item for item in found if item["type"] == kind]

        assert sorted((str(item["session"]), str(item["metadata"])) for item in of("session")) == [
            ("s1", "{'topic': 'x'}"),
            ("s2", "{}"),
        ]
        assert sorted(
            (str(item["session"]), item["sequence"] == 1, str(item["content"])) for item in of("message")
        ) == [
            ("s1", False, "{'n': 2}"),
            ("s1", True, "hello"),
            ("s2", False, "{'n': 2}"),
            ("s2", True, "hello"),
        ]
        boards = sorted((str(item["scope"]), str(item["session"]), str(item["data"])) for item in of("blackboard"))
        assert boards == [
            ("session", "s1", "{'of': 's1'}"),
            ("session", "s2", "{'of': 's2'}"),
            ("user", "None", "{'name': 'ann'}"),
        ]
        assert len(found) == 9

    async def test_erasing_a_user_leaves_nothing_of_that_user_and_everything_of_others(
        self, town: Town, memory: Memory
    ) -> None:
        stranger = new_tenant()
        await self.settle_in(town, stranger)
        others = [
            (memory, "bob"),
            (town.plane.tenant(town.tenant, project="p2").memory, "ann"),
            (town.plane.tenant(stranger).memory, "ann"),
        ]
        for each, user in [(memory, "ann"), *others]:
            await self._furnish(each, user)
        await memory.boards.put("shared", {"n": 1})
        assert await memory.erase_user("ann") == Erased(sessions=2, blackboards=3)
        assert await listed(memory, "ann") == []
        assert [item async for item in memory.export_user("ann")] == []
        assert await memory.boards.find("profile", user="ann") is None
        assert await memory.find_session("s1", user="ann") is None
        assert (await memory.boards.get("shared")).data == {"n": 1}
        for each, user in others:
            assert len([item async for item in each.export_user(user)]) == 9
        assert await memory.erase_user("ann") == Erased(sessions=0, blackboards=0)

    async def test_an_erasure_that_was_interrupted_goes_on(self, town: Town, memory: Memory) -> None:
        await self._furnish(memory, "ann")
        town.backend.after = failing(BackendDown("gone"), among="logs.erase", times=1)
        with pytest.raises(BackendDown):
            await memory.erase_user("ann")
        erased = await memory.erase_user("ann")
        assert (erased.sessions <= 1, erased.blackboards) == (True, 3)
        assert [item async for item in memory.export_user("ann")] == []
