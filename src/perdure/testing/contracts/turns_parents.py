"""What naming a parent promises: going on from it, branching in place, coming from elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure.domain.turn import NO_TURN
from perdure.errors import Invalid
from perdure.testing.contracts.turns_opening import FAR, Talk, TurnsOpening, further, missing, turn


class TurnParentsContract(TurnsOpening):
    """The head at the moment of the commit, a turn of the chain, or with ``rebase`` any turn."""

    async def test_a_named_parent_that_is_the_head_goes_on_from_it(self, talk: Talk) -> None:
        context_id = await talk.begin()
        first = await talk.say(context_id, "1")
        await talk.say(context_id, "2", parent=first)
        assert await talk.said(context_id) == ["1", "2"]
        await talk.chain(context_id)

    async def test_the_parent_0_means_the_head(self, talk: Talk) -> None:
        context_id = await talk.begin()
        await talk.say(context_id, "1", parent=NO_TURN)
        second = await talk.say(context_id, "2", parent=NO_TURN, key="k")
        assert await talk.said(context_id) == ["1", "2"]
        assert await talk.say(context_id, "2", key="k") == second

    async def test_a_parent_on_the_chain_branches_in_place_and_the_older_tail_is_not_listed(self, talk: Talk) -> None:
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 5)
        branch = await talk.add(context_id, turn(b"3b", parent=ids[1]))
        assert (branch.depth, branch.context_id) == (3, context_id)
        head = await talk.head(context_id)
        assert (head.head_turn_id, head.head_depth) == (branch.turn_id, 3)
        await talk.say(context_id, "4b")
        assert [found.payload.decode() for found in await talk.chain(context_id)] == ["1", "2", "3b", "4b"]
        # What is not listed any more is still there.
        tail = await talk.get(ids[4])
        assert (tail.payload, tail.parent_turn_id, tail.depth) == (b"5", ids[3], 5)

    async def test_a_branch_of_a_branch_is_listed_through_every_run(self, talk: Talk) -> None:
        context_id = await talk.begin()
        first = await talk.fill(context_id, 4)
        second = [await talk.say(context_id, "3b", parent=first[1])]
        second += await talk.fill(context_id, 2, prefix="b")
        await talk.say(context_id, "4c", parent=second[0])
        await talk.say(context_id, "5c")
        expected = ["1", "2", "3b", "4c", "5c"]
        for limit in (1, 2, 3, 4, 5, 9):
            assert [found.payload.decode() for found in await talk.chain(context_id, limit=limit)] == expected
        for gone in (first[2], first[3], second[1], second[2]):
            with pytest.raises(Invalid):
                await talk.page(context_id, before=gone)
        assert await talk.said(context_id, before=second[0]) == ["1", "2"]

    async def test_a_branch_from_the_first_turn_leaves_that_one(self, talk: Talk) -> None:
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 3)
        await talk.say(context_id, "2b", parent=ids[0])
        assert [found.payload.decode() for found in await talk.chain(context_id)] == ["1", "2b"]
        await talk.say(context_id, "2c", parent=ids[0])
        assert [found.payload.decode() for found in await talk.chain(context_id)] == ["1", "2c"]

    async def test_a_parent_that_was_branched_away_from_is_not_on_the_chain(self, talk: Talk) -> None:
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 3)
        await talk.say(context_id, "2b", parent=ids[0])
        before = await talk.head(context_id)
        with pytest.raises(Invalid) as caught:
            await talk.say(context_id, "no", parent=ids[2])
        assert caught.value.detail["turn_id"] == ids[2]
        assert await talk.head(context_id) == before
        await talk.say(context_id, "4", parent=ids[2], rebase=True)
        assert [found.payload.decode() for found in await talk.chain(context_id)] == ["1", "2", "3", "4"]

    async def test_a_parent_of_another_context_is_refused_unless_rebasing(self, talk: Talk) -> None:
        context_id, other = await talk.begin(), await talk.begin()
        await talk.fill(context_id, 2)
        there = await talk.fill(other, 3, prefix="o")
        before = (await talk.head(context_id), await talk.said(context_id))
        with pytest.raises(Invalid):
            await talk.say(context_id, "no", parent=there[1])
        assert (await talk.head(context_id), await talk.said(context_id)) == before
        moved = await talk.add(context_id, turn(b"yes", parent=there[1]), rebase=True)
        assert (moved.context_id, moved.depth) == (context_id, 3)
        assert [found.payload.decode() for found in await talk.chain(context_id)] == ["o1", "o2", "yes"]
        assert await talk.said(other) == ["o1", "o2", "o3"]

    async def test_an_empty_context_is_rebased_too(self, talk: Talk) -> None:
        there = await talk.fill(await talk.begin(), 2)
        context_id = await talk.begin()
        with pytest.raises(Invalid):
            await talk.say(context_id, "no", parent=there[1])
        await talk.say(context_id, "3", parent=there[1], rebase=True)
        assert [found.payload.decode() for found in await talk.chain(context_id)] == ["1", "2", "3"]

    async def test_a_fork_may_go_on_from_what_came_before_it(self, talk: Talk) -> None:
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 4)
        fork = await talk.begin(ids[2])
        await talk.say(fork, "4f")
        await talk.say(fork, "2g", parent=ids[0])
        assert [found.payload.decode() for found in await talk.chain(fork)] == ["1", "2g"]
        with pytest.raises(Invalid):
            await talk.say(fork, "no", parent=ids[3])
        empty = await talk.begin(ids[2])
        await talk.say(empty, "3h", parent=ids[1])
        assert [found.payload.decode() for found in await talk.chain(empty)] == ["1", "2", "3h"]
        assert await talk.said(context_id) == ["1", "2", "3", "4"]

    async def test_an_unknown_parent_is_not_found(self, talk: Talk) -> None:
        context_id = await talk.begin()
        known = await talk.say(context_id, "1")
        for unknown in (further(known), further(known, by=FAR << 24)):
            for rebase in (False, True):
                asked = talk.say(context_id, "no", parent=unknown, rebase=rebase)
                assert await missing(asked) == ("turn", unknown)
        assert await talk.said(context_id) == ["1"]

    async def test_a_turn_that_another_client_appended_is_a_parent_at_once(self, talk: Talk) -> None:
        context_id = await talk.begin()
        first = await talk.say(context_id, "1")
        other = await self.reopened(talk, (context_id, 1))
        ids = await other.fill(context_id, 3, prefix="o")
        await self.catch_up(talk, context_id, 4)
        await talk.say(context_id, "2", parent=ids[1])
        assert [found.payload.decode() for found in await talk.chain(context_id)] == ["1", "o1", "o2", "2"]
        await self.catch_up(other, context_id, 4)
        await other.say(context_id, "2b", parent=first)
        assert await other.said(context_id) == ["1", "2b"]

    async def test_a_turn_that_another_client_branched_away_from_is_no_parent(self, talk: Talk) -> None:
        self.needs("orders_clients")
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 4)
        other = await self.reopened(talk, (context_id, 4))
        await other.say(context_id, "2b", parent=ids[0])
        with pytest.raises(Invalid):
            await talk.say(context_id, "no", parent=ids[2])
        with pytest.raises(Invalid):
            await talk.say(context_id, "no", parent=ids[3])
        assert await talk.said(context_id) == ["1", "2b"]

    async def test_a_key_is_known_though_its_parent_is_not_on_the_chain_any_more(self, talk: Talk) -> None:
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 3)
        said = turn(b"said", key="k", parent=ids[2])
        first = await talk.add(context_id, said)
        await talk.say(context_id, "2b", parent=ids[0])
        assert await talk.add(context_id, said) == replace(first, replayed=True)
        assert await talk.said(context_id) == ["1", "2b"]

    async def test_a_key_that_came_with_a_rebase_is_known_without_it(self, talk: Talk) -> None:
        there = await talk.say(await talk.begin(), "there")
        context_id = await talk.begin()
        said = turn(b"said", key="k", parent=there)
        first = await talk.add(context_id, said, rebase=True)
        assert await talk.add(context_id, said) == replace(first, replayed=True)
        assert await talk.said(context_id) == ["there", "said"]
