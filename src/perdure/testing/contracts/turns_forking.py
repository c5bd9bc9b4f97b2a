"""What making a context promises: at the empty root or at any turn, for the same price at every depth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure.domain.turn import NO_TURN, context_container
from perdure.errors import Invalid
from perdure.testing.contracts.stores import audit
from perdure.testing.contracts.turns_opening import FAR, Talk, TurnsOpening, further, missing, turn
from perdure.testing.environment import START_DEFAULT

NO_IDS = ("", "abc", "-1", "+1", "1.0", "01", " 1", "1\n", "0x10", "1e3", "\u0663", "1_0", str(2**64), "9" * 400)


class TurnForkingContract(TurnsOpening):
    """New heads onto the graph."""

    @pytest.mark.parametrize("base", [None, NO_TURN])
    async def test_t14_a_context_at_the_empty_root_has_no_turn(self, talk: Talk, base: str | None) -> None:
        context = await talk.create(base)
        assert (context.head_turn_id, context.head_depth) == (NO_TURN, 0)
        assert (context.base_turn_id, context.labels) == (NO_TURN, ())
        found = await talk.head(context.context_id)
        assert (found.context_id, found.head_turn_id, found.head_depth) == (context.context_id, NO_TURN, 0)
        assert await talk.page(context.context_id) == []

    async def test_t02_a_fork_begins_at_its_turn_and_its_parent_is_not_changed(self, talk: Talk) -> None:
        context_id = await talk.begin()
        first, second = await talk.fill(context_id, 2)
        fork = await talk.create(first)
        assert (fork.head_turn_id, fork.head_depth, fork.base_turn_id) == (first, 1, first)
        assert fork.context_id != context_id
        assert [found.turn_id for found in await talk.chain(fork.context_id)] == [first]
        assert [found.turn_id for found in await talk.chain(context_id)] == [first, second]
        assert [found.turn_id for found in await talk.page(context_id, before=second)] == [first]

    async def test_t23_a_fork_and_its_parent_go_different_ways(self, talk: Talk) -> None:
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 3)
        fork = await talk.begin(ids[1])
        await talk.say(context_id, "4")
        await talk.say(fork, "3f")
        await talk.say(context_id, "5")
        await talk.say(fork, "4f")
        one, other = await talk.chain(context_id), await talk.chain(fork)
        assert [found.payload.decode() for found in one] == ["1", "2", "3", "4", "5"]
        assert [found.payload.decode() for found in other] == ["1", "2", "3f", "4f"]
        assert one[:2] == other[:2]
        assert [found.context_id for found in other] == [context_id, context_id, fork, fork]

    async def test_a_context_is_found_as_it_was_made(self, talk: Talk) -> None:
        turn_id = await talk.say(await talk.begin(), "1")
        made = await talk.create(turn_id, labels=("l",) if self.has_labels else ())
        found = await talk.head(made.context_id)
        assert (found.head_turn_id, found.head_depth) == (turn_id, 1)
        self.needs("tells_bases", "tells_times")
        assert found == made
        await talk.say(made.context_id, "2")
        after = await talk.head(made.context_id)
        assert after == replace(made, head_turn_id=after.head_turn_id, head_depth=2)
        assert made.created_at is not None
        (_, last) = await talk.page(made.context_id)
        assert last.recorded_at is not None
        assert last.recorded_at >= made.created_at

    async def test_a_fork_of_an_empty_context_is_one_of_its_base(self, talk: Talk) -> None:
        turn_id = await talk.say(await talk.begin(), "1")
        fork = await talk.create(turn_id)
        again = await talk.begin(fork.head_turn_id)
        await talk.say(again, "2")
        assert [found.payload.decode() for found in await talk.chain(again)] == ["1", "2"]
        assert await talk.said(fork.context_id) == ["1"]

    async def test_every_turn_may_be_forked_also_one_that_no_context_lists_any_more(self, talk: Talk) -> None:
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 3)
        await talk.say(context_id, "2b", parent=ids[0])
        fork = await talk.begin(ids[2])
        assert [found.payload.decode() for found in await talk.chain(fork)] == ["1", "2", "3"]
        await talk.say(fork, "4")
        assert [found.payload.decode() for found in await talk.chain(fork)] == ["1", "2", "3", "4"]

    async def test_t15_what_is_unknown_is_not_found_and_named(self, talk: Talk) -> None:
        context_id = await talk.begin()
        turn_id = await talk.say(context_id, "1")
        for unknown in (further(context_id), NO_TURN, str(2**64 - 1)):
            assert await missing(talk.head(unknown)) == ("context", unknown)
            assert await missing(talk.add(unknown, turn())) == ("context", unknown)
            assert await missing(talk.add(unknown, turn(key="k", parent=turn_id))) == ("context", unknown)
            assert await missing(talk.page(unknown)) == ("context", unknown)
            assert await missing(talk.page(unknown, before=NO_TURN, limit=0)) == ("context", unknown)
        for unknown in (further(turn_id), further(turn_id, by=FAR << 24), str(2**64 - 1)):
            assert await missing(talk.create(unknown)) == ("turn", unknown)
            assert await missing(talk.get(unknown)) == ("turn", unknown)
        assert await missing(talk.get(NO_TURN)) == ("turn", NO_TURN)

    async def test_t13_the_message_says_what_was_not_found(self, talk: Talk) -> None:
        with pytest.raises(Exception, match=r"^resource not found: context \(18446744073709551615\)$"):
            await talk.head(str(2**64 - 1))
        with pytest.raises(Exception, match=r"^resource not found: turn \(18446744073709551615\)$"):
            await talk.create(str(2**64 - 1))

    @pytest.mark.parametrize("bad", NO_IDS)
    async def test_t16_an_id_that_is_no_number_is_invalid(self, talk: Talk, bad: str) -> None:
        context_id = await talk.begin()
        await talk.say(context_id, "1")
        mark = len(self.calls)
        for asked in (
            talk.create(bad),
            talk.head(bad),
            talk.get(bad),
            talk.add(bad, turn()),
            talk.add(context_id, turn(parent=bad)),
            talk.page(bad),
            talk.page(context_id, before=bad),
        ):
            with pytest.raises(Invalid) as caught:
                await asked
            assert len(str(caught.value)) < 300
        assert self.calls[mark:] == []
        assert await talk.said(context_id) == ["1"]

    async def test_a_fork_costs_the_same_at_every_depth(self, talk: Talk) -> None:
        self.needs("counts_calls")
        context_id = await talk.begin()
        ids = await talk.fill(context_id, self.deep)
        costs = {depth: await self.count(talk.create(ids[depth - 1])) for depth in (1, 10, self.deep)}
        assert costs[1] == costs[10] == costs[self.deep]
        assert len(costs[1]) <= 4
        cold = await self.reopened(talk, (context_id, self.deep))
        await cold.create(ids[0])  # takes numbers
        assert await self.count(cold.create(ids[-1])) == costs[1]

    async def test_a_fork_of_a_fork_costs_the_same_however_often_it_was_forked(self, talk: Talk) -> None:
        self.needs("counts_calls")
        turn_id = await talk.say(await talk.begin(), "1")
        costs = []
        for number in range(6):
            mark = len(self.calls)
            fork = await talk.begin(turn_id)
            costs.append(self.calls[mark:])
            turn_id = await talk.say(fork, str(number))
        assert costs == [costs[0]] * len(costs)

    async def test_an_append_is_one_call_whatever_the_depth(self, talk: Talk) -> None:
        self.needs("counts_calls")
        root = await talk.begin()
        assert await self.count(talk.say(root, "1")) == ["logs.append"]
        ids = await talk.fill(root, 20)
        assert await self.count(talk.say(root, "2", parent=ids[-1])) == ["logs.append"]
        fork = await talk.begin(ids[-1])
        assert await self.count(talk.say(fork, "1f", key="k")) == ["logs.append"]
        cold = await self.reopened(talk, (fork, 22))
        assert len(await self.count(cold.say(fork, "2f"))) <= 2

    async def test_a_record_is_kept_with_the_context(self, talk: Talk) -> None:
        self.needs("keeps_audits")
        made = await talk.create()
        container = context_container(talk.space, int(made.context_id) + 1)
        record = audit(container, "create", START_DEFAULT)
        context_id = (await talk.create(record=record)).context_id
        assert list(await self.audits(context_container(talk.space, int(context_id)))) == [record]
        assert list(await self.audits(context_container(talk.space, int(made.context_id)))) == []
