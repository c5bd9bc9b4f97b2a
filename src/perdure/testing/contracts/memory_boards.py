"""What blackboards promise: versions, patches that keep what others wrote, and an owner each."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

import pytest

from perdure.core.blackboards import Blackboards
from perdure.domain.canonical import JsonObject
from perdure.domain.memory import Blackboard
from perdure.domain.versioned import VALUE_BYTES_MAX
from perdure.errors import Forbidden, Invalid, LimitExceeded, NotFound, StaleVersion
from perdure.testing.contracts.memory_sessions import MemoryOpening
from perdure.testing.contracts.routed_opening import OpenPlane, Town
from perdure.testing.contracts.stores import OpenAnother, new_tenant

PATCHERS: Final = 8
MERGES: Final[tuple[tuple[JsonObject, JsonObject, JsonObject], ...]] = (
    # The examples of RFC 7396 whose target and patch are objects.
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
)


class BlackboardsContract(MemoryOpening):
    """Blackboards of a project, a user, a session."""

    @pytest.fixture
    def boards(self, town: Town) -> Blackboards:
        """The tenant's blackboards."""
        return town.acme.memory.boards

    async def test_r59_a_write_by_version_finds_it_or_is_refused(self, boards: Blackboards) -> None:
        first = await boards.put("plan", {"n": 1}, if_version=0, metadata={"by": "a"})
        assert (first.version, first.data, first.metadata, first.scope) == (1, {"n": 1}, {"by": "a"}, "project")
        assert (await boards.put("plan", {"n": 2}, if_version=1)).version == 2
        for wrong in (0, 1, 3):
            with pytest.raises(StaleVersion) as caught:
                await boards.put("plan", {"n": 9}, if_version=wrong)
            assert caught.value.detail["found"] == 2
            if wrong:
                for call in (boards.patch("plan", {"n": 9}, if_version=wrong), boards.delete("plan", if_version=wrong)):
                    with pytest.raises(StaleVersion) as caught:
                        await call
                    assert caught.value.detail["found"] == 2
        assert (await boards.get("plan")).data == {"n": 2}
        await boards.delete("plan", if_version=2)
        await boards.delete("plan")
        assert await boards.find("plan") is None
        with pytest.raises(NotFound):
            await boards.get("plan")
        with pytest.raises(NotFound):
            await boards.patch("plan", {"n": 1})

    async def test_r59_of_writers_by_one_version_one_wins(
        self, town: Town, open_another: OpenAnother, open_plane: OpenPlane
    ) -> None:
        other = await self.neighbour(town, open_another, open_plane)
        both = (town.acme.memory.boards, other.memory.boards)
        await both[0].put("plan", {"n": 0})

        async def write(number: int) -> Blackboard | None:
            try:
                return await both[number % 2].put("plan", {"n": number}, if_version=1)
            except StaleVersion:
                return None

        won = [found for found in await asyncio.gather(*(write(n) for n in range(6))) if found is not None]
        assert [found.version for found in won] == [2]
        assert await both[1].get("plan") == won[0]

    @pytest.mark.parametrize(("data", "patch", "merged"), MERGES)
    async def test_a_patch_merges_as_the_standard_says(
        self, boards: Blackboards, data: JsonObject, patch: JsonObject, merged: JsonObject
    ) -> None:
        await boards.put("plan", data, metadata={"kept": True})
        found = await boards.patch("plan", patch)
        assert (found.data, found.metadata, found.version) == (merged, {"kept": True}, 2)

    async def test_patches_at_the_same_time_are_all_in_it(
        self, town: Town, open_another: OpenAnother, open_plane: OpenPlane
    ) -> None:
        other = await self.neighbour(town, open_another, open_plane)
        both = (town.acme.memory.boards, other.memory.boards)
        await both[0].put("plan", {})
        await asyncio.gather(*(both[n % 2].patch("plan", {f"k{n}": n}) for n in range(PATCHERS)))
        found = await both[1].get("plan")
        assert found.data == {f"k{n}": n for n in range(PATCHERS)}
        assert found.version == PATCHERS + 1

    async def test_a_patch_keeps_the_lifetime(self, town: Town, boards: Blackboards) -> None:
        ends = town.clock.now() + timedelta(seconds=60)
        await boards.put("plan", {"a": 1}, ttl_s=60)
        assert (await boards.patch("plan", {"b": 2})).expires_at == ends
        await self.pass_time(61)
        assert await boards.find("plan") is None
        assert (await boards.list()).items == ()
        assert (await boards.put("plan", {"c": 3}, if_version=0)).version == 1

    async def test_a_blackboard_belongs_to_project_user_or_session(self, boards: Blackboards) -> None:
        owners: list[dict[str, str]] = [
            {},
            {"user": "ann"},
            {"user": "bob"},
            {"user": "ann", "session": "s"},
            {"user": "ann", "session": "t"},
            {"user": "bob", "session": "s"},
        ]
        for number, owner in enumerate(owners):
            made = await boards.put("plan", {"n": number}, if_version=0, **owner)  # type: ignore[arg-type]  # texts
            assert (made.user, made.session) == (owner.get("user"), owner.get("session"))
            assert made.scope == ("project", "user", "session")[len(owner)]
        for number, owner in enumerate(owners):
            assert (await boards.get("plan", **owner)).data == {"n": number}  # type: ignore[arg-type]  # texts
            listed = await boards.list(**owner)  # type: ignore[arg-type]  # texts
            assert [board.data for board in listed.items] == [{"n": number}]
        with pytest.raises(Invalid):
            await boards.put("plan", {}, session="s")

    async def test_r58_separators_in_owners_of_blackboards_never_collide(self, boards: Blackboards) -> None:
        pairs = [
            ("u#1", "s"),
            ("u", "1#s"),
            ("u/1", "s"),
            ("u", "1/s"),
            ("u_1", "s"),
            ("u", "1_s"),
            ("u~1", "s"),
            ("u", "~1s"),
        ]
        for number, (user, session) in enumerate(pairs):
            await boards.put("plan", {"n": number}, user=user, session=session, if_version=0)
        for number, (user, session) in enumerate(pairs):
            assert (await boards.get("plan", user=user, session=session)).data == {"n": number}

    async def test_blackboards_are_listed_by_prefix_in_pages(self, boards: Blackboards) -> None:
        for key in ("a/1", "a/2", "a/3", "b", "é", "🚀"):
            await boards.put(key, {"key": key})
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = await boards.list(cursor=cursor, limit=2)
            found += [board.key for board in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == ["a/1", "a/2", "a/3", "b", "é", "🚀"]
        assert [board.key for board in (await boards.list(prefix="a/")).items] == ["a/1", "a/2", "a/3"]
        with pytest.raises(Invalid):
            await boards.list(cursor="nonsense")

    async def test_what_is_no_blackboard_is_refused(self, town: Town, boards: Blackboards) -> None:
        mark = len(town.backend.calls)
        wrong: tuple[Any, ...] = ([], "text", None, {"a": float("nan")})
        for data in wrong:
            with pytest.raises(Invalid):
                await boards.put("plan", data)
        with pytest.raises(LimitExceeded):
            await boards.put("plan", {"a": "x" * VALUE_BYTES_MAX})
        for key in ("", "a\0b"):
            with pytest.raises(Invalid):
                await boards.put(key, {})
        with pytest.raises(LimitExceeded):
            await boards.list(limit=501)
        assert town.calls_since(mark) == []

    async def test_a_scope_made_for_a_user_touches_no_other_users_memory(self, town: Town) -> None:
        ann, bob = "0190f3c4-8a6e-7c1b-9d55-3f2e1a0b4c6d", "0190f3c4-8a6e-7c1b-9d55-3f2e1a0b4c6e"
        mine = town.plane.tenant(town.tenant, user=ann).memory
        await mine.boards.put("plan", {"n": 1}, user=ann)
        mark = len(town.backend.calls)
        for call in (
            mine.boards.put("plan", {}, user=bob),
            mine.boards.get("plan", user=bob),
            mine.boards.list(user=bob),
            mine.window("s", user=bob),
            mine.sessions(user=bob),
            mine.delete_session("s", user=bob),
            mine.erase_user(bob),
        ):
            with pytest.raises(Forbidden) as caught:
                await call
            assert (caught.value.code, caught.value.detail) == ("identity_override", {"fields": ["user_id"]})
        assert town.calls_since(mark) == []

    async def test_tenants_and_projects_have_blackboards_of_their_own(self, town: Town) -> None:
        stranger = new_tenant()
        await self.settle_in(town, stranger)
        spaces = [town.acme, town.plane.tenant(stranger), town.plane.tenant(town.tenant, project="p2")]
        for number, space in enumerate(spaces):
            await space.memory.boards.put("plan", {"n": number}, if_version=0)
        for number, space in enumerate(spaces):
            assert (await space.memory.boards.get("plan")).data == {"n": number}
