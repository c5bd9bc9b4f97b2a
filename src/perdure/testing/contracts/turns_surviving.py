"""What outlives a client, a long time, a failure and a crash; and that every store tells the same story."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeAlias

import pytest

from perdure.domain.turn import NO_TURN, TURNS_PAGE_MAX, Context, Turn, content_hash
from perdure.errors import Conflict, Invalid, LimitExceeded, NotFound, PerdureError, Refused
from perdure.testing.contracts.turns_opening import Talk, TurnsOpening, further, turn

LONG_S: Final = 400 * 86_400.0
STEPS: Final = (1, 2, 3, 5, 8, 13, 21)  # how far a client comes before it is gone

State: TypeAlias = list[tuple[Context, list[Turn]]]


class TurnSurvivingContract(TurnsOpening):
    """What is there, stays."""

    async def test_t04_another_client_finds_everything(self, talk: Talk) -> None:
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 4)
        fork = await talk.begin(ids[1])
        large = await talk.add(fork, turn(b"x" * 100_000, key="k"))
        await talk.publish("b", b"{}")
        other = await self.reopened(talk, (context_id, 4), (fork, 3))
        assert await self._state(other, context_id, fork) == await self._state(talk, context_id, fork)
        assert await other.get(large.turn_id) == await talk.get(large.turn_id)
        assert await other.bundle("b") == b"{}"
        further_on = await other.say(context_id, "5")
        assert [found.turn_id for found in await other.chain(context_id)] == [*ids, further_on]
        new = await other.begin()
        assert new not in {context_id, fork}

    async def test_t19_another_client_knows_a_key(self, talk: Talk) -> None:
        self.needs("keeps_keys")
        context_id = await talk.begin()
        first = await talk.add(context_id, turn(b"once", key="k"))
        other = await self.reopened(talk, (context_id, 1))
        assert await other.add(context_id, turn(b"once", key="k")) == replace(first, replayed=True)
        with pytest.raises(Conflict):
            await other.add(context_id, turn(b"other", key="k"))
        assert await other.said(context_id) == ["once"]

    async def test_t08_a_key_holds_after_any_time(self, talk: Talk) -> None:
        context_id = await talk.begin()
        first = await talk.add(context_id, turn(b"once", key="k"))
        await self.advance(LONG_S)
        assert await talk.add(context_id, turn(b"once", key="k")) == replace(first, replayed=True)
        assert await talk.said(context_id) == ["once"]

    async def test_t05_every_store_tells_the_same_story(self, talk: Talk) -> None:
        context_id = await talk.begin()
        said = {"k1": turn(b"one", key="k1"), "k2": turn(b"two", key="k2")}
        refs = [await talk.add(context_id, said[key]) for key in ("k1", "k2", "k1")]
        names = {ref.turn_id: name for ref, name in zip(refs[:2], "ab", strict=True)}
        assert "".join(names[ref.turn_id] for ref in refs) == "aba"
        assert [(ref.depth, ref.replayed) for ref in refs] == [(1, False), (2, False), (1, True)]

        def story(turns: list[Turn]) -> list[tuple[str, str, int, bytes, str]]:
            return [
                (
                    names[found.turn_id],
                    names.get(found.parent_turn_id, found.parent_turn_id),
                    found.depth,
                    found.payload,
                    found.content_hash,
                )
                for found in turns
            ]

        one = ("a", NO_TURN, 1, b"one", content_hash(b"one"))
        two = ("b", "a", 2, b"two", content_hash(b"two"))
        assert story(await talk.page(context_id)) == [one, two]
        assert story(await talk.page(context_id, limit=1)) == [two]
        assert story(await talk.page(context_id, before=refs[1].turn_id, limit=1)) == [one]
        assert story(await talk.page(await talk.begin(refs[0].turn_id))) == [one]
        assert (await talk.publish("b", b'{"v": 1}'), await talk.publish("b", b'{"v": 1}')) == (True, False)
        assert await talk.bundle("b") == b'{"v": 1}'
        self.needs("has_blobs", "has_snapshots")
        digest = await talk.put(b"blob")
        assert (digest, await talk.blob(digest)) == (content_hash(b"blob"), b"blob")
        await talk.attach(refs[0].turn_id, digest)
        assert await talk.snapshot(refs[1].turn_id) == digest

    async def test_t32_what_was_refused_has_changed_nothing(self, talk: Talk) -> None:
        context_id, other = await talk.begin(), await talk.begin()
        ids = await talk.fill(context_id, 3)
        away = await talk.say(context_id, "3b", parent=ids[1])
        await talk.add(context_id, turn(b"kept", key="k"))
        await talk.say(other, "o")
        await talk.publish("b", b"1")
        unknown = further(away)
        tries: dict[type[PerdureError], list[Callable[[], Awaitable[object]]]] = {
            NotFound: [
                lambda: talk.add(further(context_id), turn(key="k")),
                lambda: talk.create(unknown),
                lambda: talk.say(context_id, "no", parent=unknown, rebase=True),
                lambda: talk.page(further(context_id)),
                lambda: talk.get(unknown),
            ],
            Conflict: [
                lambda: talk.add(context_id, turn(b"other", key="k")),
                lambda: talk.add(context_id, turn(b"kept", key="k", type_version=2)),
                lambda: talk.publish("b", b"2"),
            ],
            Invalid: [
                lambda: talk.say(context_id, "no", parent=ids[2]),
                lambda: talk.say(other, "no", parent=ids[0]),
                lambda: talk.say(context_id, "no", key=""),
                lambda: talk.say(context_id, "no", parent="no"),
                lambda: talk.add(context_id, turn(type_id="")),
                lambda: talk.add(context_id, turn(type_version=-1)),
                lambda: talk.page(context_id, before=ids[2]),
                lambda: talk.page(context_id, limit=-1),
                lambda: talk.publish("b c", b"1"),
            ],
            LimitExceeded: [
                lambda: talk.say(context_id, "no", key="k" * 2_000),
                lambda: talk.page(context_id, limit=TURNS_PAGE_MAX + 1),
            ],
        }
        before = await self._state(talk, context_id, other)
        for error, asked in tries.items():
            for ask in asked:
                with pytest.raises(error) as caught:
                    await ask()
                assert isinstance(caught.value, Refused | Conflict)
                assert await self._state(talk, context_id, other) == before
        assert await talk.bundle("b") == b"1"
        assert await talk.said(context_id) == ["1", "2", "3b", "kept"]

    @pytest.mark.parametrize("steps", STEPS)
    async def test_t33_a_client_that_dies_in_an_append_leaves_the_turn_or_none(self, talk: Talk, steps: int) -> None:
        self.needs("keeps_keys")
        context_id = await talk.begin()
        await talk.fill(context_id, 2)
        said = turn(b"x" * 70_000, key="k")
        await self._dies(talk.add(context_id, said), steps)
        other = await self.reopened(talk, (context_id, 2))
        # It may still be under way in the backend: one look, which sees it or not.
        found = await other.page(context_id)
        assert [one.payload for one in found] in ([b"1", b"2"], [b"1", b"2", said.payload])
        ref = await other.add(context_id, said)
        assert ref.depth == 3
        assert [one.payload for one in await other.chain(context_id)] == [b"1", b"2", said.payload]
        # The one who was interrupted goes on as well.
        await self.catch_up(talk, context_id, 3)
        assert (await talk.add(context_id, said)).turn_id == ref.turn_id
        await talk.say(context_id, "4")
        assert len(await talk.chain(context_id)) == 4

    @pytest.mark.parametrize("steps", STEPS)
    async def test_t33_a_client_that_dies_in_a_fork_leaves_all_of_it_or_none(self, talk: Talk, steps: int) -> None:
        self.needs("has_labels")
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 2)
        await self._dies(talk.create(ids[0], labels=("x",)), steps)
        other = await self.reopened(talk, (context_id, 2))
        for fork in await other.labelled("x"):
            assert [found.turn_id for found in await other.chain(fork)] == ids[:1]
            assert (await other.head(fork)).labels == ("x",)
        made = await other.create(ids[1], labels=("x",))
        assert (await other.labelled("x"))[-1] == made.context_id
        assert [found.turn_id for found in await other.chain(context_id)] == ids

    async def _dies(self, asked: Awaitable[object], steps: int) -> None:
        async def ask() -> object:
            return await asked

        task = asyncio.create_task(ask())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None

    async def _state(self, talk: Talk, *context_ids: str) -> State:
        return [(await talk.head(context_id), await talk.chain(context_id)) for context_id in context_ids]
