"""What listing turns promises: the newest window before a cursor, oldest first, at the price of a page."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from perdure.domain.turn import NO_TURN
from perdure.errors import Invalid
from perdure.testing.contracts.turns_opening import FAR, Talk, TurnsOpening, further, turn


class TurnListingContract(TurnsOpening):
    """Pages of a chain."""

    async def test_t06_the_newest_window_comes_oldest_first(self, talk: Talk) -> None:
        context_id = await talk.begin()
        await talk.fill(context_id, 5)
        assert await talk.said(context_id, limit=3) == ["3", "4", "5"]
        assert [found.depth for found in await talk.page(context_id, limit=3)] == [3, 4, 5]

    async def test_t07_five_turns_before_the_fifth_two_are_the_third_and_fourth(self, talk: Talk) -> None:
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 5)
        assert await talk.said(context_id, before=ids[4], limit=2) == ["3", "4"]

    async def test_t20_a_limit_of_none_some_and_more_than_there_are(self, talk: Talk) -> None:
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 3)
        assert await talk.said(context_id, limit=0) == []
        assert await talk.said(context_id, before=ids[2], limit=0) == []
        assert await talk.said(context_id, limit=1) == ["3"]
        assert await talk.said(context_id, limit=3) == ["1", "2", "3"]
        assert await talk.said(context_id, limit=4) == ["1", "2", "3"]
        for limit in (-1, -500):
            with pytest.raises(Invalid):
                await talk.page(context_id, limit=limit)

    async def test_before_the_first_turn_there_is_nothing(self, talk: Talk) -> None:
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 2)
        assert await talk.page(context_id, before=ids[0]) == []
        assert await talk.page(context_id, before=NO_TURN) == []
        assert await talk.page(context_id, before=NO_TURN, limit=0) == []

    async def test_t21_pages_of_a_long_conversation_are_all_of_it(self, talk: Talk) -> None:
        context_id = await talk.begin()
        ids = await talk.fill(context_id, self.deep)
        for limit in (self.deep // 4 + 6, self.deep - 1, self.deep, self.deep + 1):
            turns = await talk.chain(context_id, limit=min(limit, 500))
            assert [found.turn_id for found in turns] == ids
            assert [found.payload for found in turns] == [str(number).encode() for number in range(1, self.deep + 1)]

    async def test_t22_a_cursor_that_is_not_on_the_chain_is_invalid(self, talk: Talk) -> None:
        context_id, other = await talk.begin(), await talk.begin()
        ids = await talk.fill(context_id, 3)
        elsewhere = await talk.say(other, "o")
        fork = await talk.begin(ids[1])
        forked = await talk.say(fork, "3f")
        off = {
            context_id: (elsewhere, forked, further(ids[2]), further(ids[2], by=FAR << 24), str(2**64 - 1)),
            fork: (elsewhere, ids[2]),
            await talk.begin(): (elsewhere, ids[0]),
        }
        for context, cursors in off.items():
            for cursor in cursors:
                with pytest.raises(Invalid):
                    await talk.page(context, before=cursor)
        assert await talk.said(fork, before=forked) == ["1", "2"]
        assert await talk.said(fork, before=ids[1]) == ["1"]

    async def test_t31_what_was_read_cannot_be_changed(self, talk: Talk) -> None:
        context_id = await talk.begin()
        await talk.fill(context_id, 2)
        page = await talk.page(context_id)
        head = await talk.head(context_id)
        for value, name in ((page[0], "payload"), (head, "head_turn_id"), (await talk.get(page[0].turn_id), "depth")):
            with pytest.raises(FrozenInstanceError):
                setattr(value, name, "changed")
        page.clear()
        assert await talk.said(context_id) == ["1", "2"]

    async def test_t31_bytes_that_could_change_are_refused(self, talk: Talk) -> None:
        context_id = await talk.begin()
        for payload in (bytearray(b"x"), memoryview(b"x"), "x", None):
            with pytest.raises(Invalid):
                await talk.add(context_id, turn(payload))  # type: ignore[arg-type]  # that is the point
        assert (await talk.head(context_id)).head_depth == 0

    async def test_a_page_may_hold_large_and_small_payloads(self, talk: Talk) -> None:
        context_id = await talk.begin()
        sizes = [0, 65_536, 65_537, 1, 200_000, 65_537, 65_536, 3]
        for number, size in enumerate(sizes):
            await talk.add(context_id, turn(bytes([number]) * size))
        for limit in (3, 8):
            assert [len(found.payload) for found in await talk.chain(context_id, limit=limit)] == sizes

    async def test_a_fork_of_a_fork_of_a_fork_is_listed_across_all_of_them(self, talk: Talk) -> None:
        context_id = await talk.begin()
        ids = await talk.fill(context_id, self.deep - 50)
        kept, names = len(ids) - 3, [str(number) for number in range(1, len(ids) + 1)]
        for generation in "abc":
            context_id = await talk.begin(ids[kept - 1])
            names = names[:kept] + [f"{generation}{number}" for number in range(1, 21)]
            ids = ids[:kept] + await talk.fill(context_id, 20, prefix=generation)
            kept = len(ids) - 2
        turns = await talk.chain(context_id, limit=7)
        assert [found.turn_id for found in turns] == ids
        assert [found.payload.decode() for found in turns] == names
        for depth in (len(ids), len(ids) - 20, len(ids) - 21, len(ids) - 39, 8, 2):
            assert await talk.said(context_id, before=ids[depth - 1], limit=7) == names[max(0, depth - 8) : depth - 1]

    async def test_a_page_of_a_long_conversation_costs_two_reads(self, talk: Talk) -> None:
        self.needs("counts_calls")
        context_id = await talk.begin()
        ids = await talk.fill(context_id, self.deep)
        cold = await self.reopened(talk, (context_id, self.deep))
        assert await self.count(cold.page(context_id, limit=50)) == ["logs.read"]
        for client in (talk, cold):
            for before in (None, ids[-1], ids[self.deep // 2], ids[60]):
                cost = await self.count(client.page(context_id, before=before, limit=50))
                assert set(cost) == {"logs.read"}
                assert len(cost) <= (1 if before is None else 2)
        assert len(await self.count(talk.head(context_id))) == 1
        assert len(await self.count(talk.get(ids[0]))) == 1

    async def test_every_fork_that_a_page_crosses_costs_the_same(self, talk: Talk) -> None:
        self.needs("counts_calls")
        for length in (2, 12):
            costs = []
            context_id = await talk.begin()
            for _ in range(5):
                ids = await talk.fill(context_id, length)
                costs.append(len(await self.count(talk.page(context_id, limit=500))))
                context_id = await talk.begin(ids[-1])
            assert costs == [1, 2, 3, 4, 5]
            cold = await self.reopened(talk, (context_id, 5 * length))
            assert len(await self.count(cold.page(context_id, limit=500))) <= 2 * 6

    async def test_a_page_that_crosses_no_fork_costs_nothing_for_those_before_it(self, talk: Talk) -> None:
        self.needs("counts_calls")
        context_id = await talk.begin()
        for _ in range(4):
            context_id = await talk.begin((await talk.fill(context_id, 3))[-1])
        ids = await talk.fill(context_id, 5)
        assert len(await self.count(talk.page(context_id, limit=5))) == 1
        assert len(await self.count(talk.page(context_id, before=ids[-1], limit=2))) == 2
