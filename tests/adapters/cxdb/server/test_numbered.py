"""Turns under strict numbers, as a store of turns: its contract as far as it needs no keys, and what is its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from perdure.adapters.cxdb.server import Profile, ServerSettings, numbered, serving
from perdure.adapters.cxdb.server.numbered import NumberedTurns
from perdure.adapters.cxdb.server.writer import NumberedWriter
from perdure.domain.container import Space
from perdure.domain.store_audit import StoreAudit
from perdure.domain.turn import NO_TURN, Context, NewTurn, TurnRef
from perdure.errors import ChainBroken, Invalid, NotFound, OutcomeUnknown, Throttled, TimedOut, Unsupported
from perdure.ports.turns import TurnStore
from perdure.testing.contracts import TurnsContract
from perdure.testing.contracts.stores import TIMEOUT_S, new_space
from perdure.testing.contracts.turns_opening import Talk, missing, turn
from tests.adapters.cxdb.server.conversing import SPACE, Storage
from tests.adapters.cxdb.server.interrupting import Interrupted


@dataclass(frozen=True, slots=True)
class Life:
    """One process of a server: what it shows, and what is beneath."""

    talk: Talk
    beneath: TurnStore
    store: Any

    @property
    def writer(self) -> NumberedWriter:
        """The only writer."""
        shown: Any = self.talk.store
        writer: NumberedWriter = shown._writer
        return writer


@asynccontextmanager
async def life(storage: Storage | None = None) -> AsyncIterator[Life]:
    """A server in the strict profile over a store whose calls go wrong when a test says so."""
    storage = storage or Storage()
    backend = storage.backend()
    await backend.open()
    beneath = storage.turns(backend)
    store: Any = Interrupted(beneath)
    settings = ServerSettings(port=0, profile=Profile.STRICT)
    async with serving(store, SPACE, settings=settings, rows=backend.rows) as server:
        yield Life(Talk(store=server.turns, space=SPACE), beneath, store)
    await backend.close()


class WithoutKeys(NumberedTurns):
    """Passes over what the contract asks of keys and of other spaces."""

    async def create(self, space: Space, **more: Any) -> Context:
        """Make a context."""
        if space != SPACE:
            pytest.skip("one server serves one space")
        return await super().create(space, **more)

    async def append(self, space: Space, context_id: str, turn: NewTurn, **more: Any) -> TurnRef:
        """Append a turn."""
        if turn.idempotency_key is not None:
            pytest.skip("keys mean nothing in the strict profile")
        return await super().append(space, context_id, turn, **more)


class TestNumberedTurns(TurnsContract):
    counts_calls: ClassVar[bool] = False
    gives_keys_back: ClassVar[bool] = False
    keeps_audits: ClassVar[bool] = False
    keeps_keys: ClassVar[bool] = False
    keeps_spaces_apart: ClassVar[bool] = False

    @pytest.fixture(autouse=True)
    async def _served(self) -> AsyncIterator[None]:
        async with life() as self._life:
            yield

    @pytest.fixture
    async def talk(self) -> Talk:
        """The space that is served."""
        return Talk(store=await self.open_turns(), space=SPACE)

    async def open_turns(self) -> TurnStore:
        """Another client of the only writer."""
        return WithoutKeys(self._life.beneath, SPACE, writer=self._life.writer)

    async def advance(self, seconds: float) -> None:
        """Nothing here goes by the time of day."""


async def test_every_id_is_a_number_from_1() -> None:
    async with life() as one:
        talk = one.talk
        first, second = await talk.begin(), await talk.begin()
        assert (first, second) == ("1", "2")
        assert [await talk.say(context, "x") for context in (second, first, second)] == ["1", "2", "3"]
        fork = await talk.create("3", labels=("l",))
        assert (fork.context_id, fork.head_turn_id, fork.head_depth, fork.base_turn_id) == ("3", "3", 2, "3")
        assert await talk.head("3") == fork
        ref = await talk.add("3", turn(b"y"))
        assert (ref.context_id, ref.turn_id, ref.depth, ref.replayed) == ("3", "4", 3, False)

        found = [(t.context_id, t.turn_id, t.parent_turn_id, t.depth) for t in await talk.chain("3", limit=2)]
        assert found == [("2", "1", "0", 1), ("2", "3", "1", 2), ("3", "4", "3", 3)]
        assert {t.idempotency_key for t in await talk.page("3")} == {None}
        assert await talk.get("4") == (await talk.page("3"))[-1]
        assert [t.turn_id for t in await talk.page("3", before="4", limit=1)] == ["3"]
        assert await talk.labelled(None, limit=2) == ["1", "2", "3"]
        assert await talk.labelled("l") == ["3"]
        heads = await talk.store.contexts(SPACE, limit=9, timeout_s=TIMEOUT_S)
        assert [(one.head_turn_id, one.base_turn_id) for one in heads] == [("2", "0"), ("3", "0"), ("4", "3")]


async def test_numbers_go_on_in_the_next_process_with_nothing_remembered() -> None:
    storage = Storage()
    async with life(storage) as one:
        context_id = await one.talk.begin()
        await one.talk.fill(context_id, 3)
        fork = await one.talk.begin("2")
        await one.talk.say(fork, "f")
        before = [await one.talk.head(each) for each in (context_id, fork)]
        turns = await one.talk.chain(fork)
    async with life(storage) as one:
        assert [await one.talk.head(each) for each in (context_id, fork)] == before
        assert await one.talk.chain(fork) == turns
        assert await one.talk.begin("4") == "3"
        assert await one.talk.say(context_id, "more") == "5"


@pytest.mark.parametrize("again", ["in the same process", "in the next process"])
@pytest.mark.parametrize("done", [True, False])
async def test_an_append_of_which_nothing_is_known_becomes_one_turn_with_one_number(*, done: bool, again: str) -> None:
    storage = Storage()
    async with life(storage) as one:
        context_id, other = await one.talk.begin(), await one.talk.begin()
        await one.talk.say(context_id, "a")
        (one.store.fail_after if done else one.store.fail)["append"] = OutcomeUnknown("the connection was lost")
        with pytest.raises(OutcomeUnknown):
            await one.talk.say(context_id, "b")
        if again == "in the same process":
            assert await one.talk.say(other, "c") == "3"
    async with life(storage) as one:
        if again == "in the next process":
            assert await one.talk.say(other, "c") == "3"
        assert await one.talk.said(context_id) == ["a", "b"]
        assert (await one.talk.head(context_id)).head_turn_id == "2"


async def test_a_turn_that_a_list_shows_is_found_by_its_number_though_nobody_was_told_of_it() -> None:
    async with life() as one:
        context_id = await one.talk.begin()
        await one.talk.say(context_id, "a")
        one.store.fail_after["append"] = OutcomeUnknown("the connection was lost")
        with pytest.raises(OutcomeUnknown):
            await one.talk.say(context_id, "b")
        shown = await one.talk.page(context_id, limit=1)
        assert [each.turn_id for each in shown] == ["2"]
        assert await one.talk.said(context_id, before="2") == ["a"]
        assert await one.talk.get("2") == shown[0]


async def test_a_refused_append_gives_its_number_back_and_a_parent_must_be_on_the_chain() -> None:
    async with life() as one:
        context_id, other = await one.talk.begin(), await one.talk.begin()
        await one.talk.say(other, "a")
        with pytest.raises(Invalid, match="turn 1 is not in the chain of context 1") as caught:
            await one.talk.say(context_id, "b", parent="1")
        assert caught.value.detail == {"turn_id": "1"}
        one.store.fail["append"] = Throttled("too much")
        with pytest.raises(Throttled):
            await one.talk.say(context_id, "b")
        assert await one.talk.say(context_id, "b", parent="1", rebase=True) == "2"
        assert await one.talk.said(context_id) == ["a", "b"]


async def test_an_append_off_the_chain_is_not_made_later_either() -> None:
    async with life() as one:
        context_id, other = await one.talk.begin(), await one.talk.begin()
        await one.talk.say(other, "a")
        one.store.fail["append"] = OutcomeUnknown("the connection was lost")
        with pytest.raises(OutcomeUnknown):
            await one.talk.say(context_id, "b", parent="1")
        assert await one.talk.say(other, "c") == "2"
        assert await one.talk.page(context_id) == []


async def test_errors_name_numbers_too() -> None:
    async with life() as one:
        talk = one.talk
        context_id, other = await talk.begin(), await talk.begin()
        await talk.say(other, "x")
        await talk.say(context_id, "x")
        for cursor in ("1", "3", "99"):
            with pytest.raises(Invalid, match=f"turn {cursor} is not in the chain of context 1"):
                await talk.page(context_id, before=cursor)
        assert await missing(talk.get("9")) == ("turn", "9")
        assert await missing(talk.get(NO_TURN)) == ("turn", "0")
        assert await missing(talk.head("3")) == ("context", "3")
        assert await missing(talk.begin("3")) == ("turn", "3")
        assert await missing(talk.say("3", "x")) == ("context", "3")
        assert await missing(talk.say("1", "x", parent="3", rebase=True)) == ("turn", "3")
        assert await missing(talk.attach("3", await talk.put(b"x"))) == ("turn", "3")
        assert await missing(talk.snapshot("3")) == ("turn", "3")


async def test_what_the_profile_cannot_keep_is_unsupported_and_nothing_is_written() -> None:
    async with life() as one:
        context_id = await one.talk.begin()
        one.store.calls.clear()
        with pytest.raises(Unsupported, match="keys"):
            await one.talk.say(context_id, "x", key="k")
        with pytest.raises(Unsupported, match="audit"):
            await one.talk.add(context_id, turn(), record=StoreAudit.__new__(StoreAudit))
        assert not one.store.calls
        assert await one.talk.say(context_id, "x") == "1"


async def test_another_space_has_nothing_in_it() -> None:
    async with life() as one:
        context_id = await one.talk.begin()
        beside = one.talk.beside(new_space())
        for asked in (beside.head(context_id), beside.begin(), beside.labelled(None), beside.put(b"x")):
            with pytest.raises(NotFound):
                await asked


async def test_the_first_turn_of_a_context_is_found_from_any_of_it() -> None:
    async with life() as one:
        shown: Any = one.talk.store
        other, context_id = await one.talk.begin(), await one.talk.begin()
        await one.talk.fill(other, 2)
        await one.talk.fill(context_id, 3)
        fork = await one.talk.begin("4")
        one.store.calls.clear()
        for turn_id, first in (("2", "1"), ("5", "3"), ((await one.talk.head(fork)).head_turn_id, "3")):
            found = await shown.first_turn(SPACE, turn_id, timeout_s=TIMEOUT_S)
            assert (found.turn_id, found.payload) == (first, b"1")
        assert one.store.calls == {"get": 4, "head": 1}
        assert await one.talk.say(fork, "f") == "6"
        assert (await shown.first_turn(SPACE, "6", timeout_s=TIMEOUT_S)).turn_id == "6"


async def test_a_context_that_never_got_its_number_is_in_no_list() -> None:
    async with life() as one:
        first = await one.talk.create(labels=("l",))
        await one.beneath.create(SPACE, labels=("l",), timeout_s=TIMEOUT_S)
        second = await one.talk.create(labels=("l",))
        assert await one.talk.labelled("l", limit=1) == [first.context_id, second.context_id] == ["1", "2"]
        assert await one.talk.labelled(None, limit=1) == ["1", "2"]


async def test_a_number_whose_row_nobody_was_told_of_is_the_next_ones() -> None:
    storage = Storage()
    async with life(storage) as one:
        numbering = one.writer.numbering
        unnumbered = await one.beneath.create(SPACE, labels=("l",), timeout_s=TIMEOUT_S)
        await numbering.add_context(unnumbered.context_id)
        numbering._next["context/"] = 1  # as if the answer had been lost
        numbering._numbers.clear()
        assert await one.talk.labelled(None) == await one.talk.labelled("l") == []
        assert (await one.talk.create(labels=("l",))).context_id == "1"
        assert await one.talk.labelled(None) == await one.talk.labelled("l") == ["1"]
    async with life(storage) as one:
        assert await one.talk.labelled(None) == await one.talk.labelled("l") == ["1"]


async def test_a_turn_of_another_writer_is_told_from_a_numbered_one() -> None:
    async with life() as one:
        context_id = await one.talk.begin()
        await one.beneath.append(SPACE, context_id, turn(b"x"), timeout_s=TIMEOUT_S)
        with pytest.raises(ChainBroken, match="another writer"):
            await one.talk.page(context_id)
        elsewhere = await one.beneath.create(SPACE, timeout_s=TIMEOUT_S)
        foreign = turn(b"x", key="cxdb:7.0.1.0")
        await one.beneath.append(SPACE, elsewhere.context_id, foreign, timeout_s=TIMEOUT_S)
        await one.writer.numbering.add_context("77")
        fork = await one.beneath.create(SPACE, base_turn_id="33554433", timeout_s=TIMEOUT_S)
        assert await one.writer.numbering.add_context(fork.context_id) == 3
        with pytest.raises(ChainBroken, match="without a number"):
            await one.talk.page("3")


async def test_a_change_waits_for_those_before_it_only_so_long() -> None:
    async with life() as one:
        context_id = await one.talk.begin()
        digest = await one.talk.put(b"x")
        turn_id = await one.talk.say(context_id, "a")
        store = one.talk.store
        async with one.writer.alone():
            for asked in (
                store.create(SPACE, timeout_s=0.0),
                store.append(SPACE, context_id, turn(b"b"), timeout_s=0.0),
                store.put_blob(SPACE, b"y", timeout_s=0.0),
                store.attach(SPACE, turn_id, digest, timeout_s=0.0),
            ):
                with pytest.raises(TimedOut, match="before this one"):
                    await asked
        assert await one.talk.say(context_id, "b") == "2"
        assert await one.talk.begin() == "2"
        assert await one.talk.blob(digest) == b"x"


async def test_numbers_of_heads_are_remembered_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbered, "TURNS_KNOWN_MAX", 2)
    async with life() as one:
        shown: Any = one.talk.store
        for number in range(1, 4):
            assert await one.talk.say(await one.talk.begin(), "x") == str(number)
        one.store.calls.clear()
        for context_id in ("1", "2", "2", "1", "3", "1"):
            assert (await one.talk.head(context_id)).head_turn_id == context_id
        assert one.store.calls["get"] == 3
        assert len(shown._numbers) == 2
        assert (await one.talk.head("2")).head_turn_id == "2"
        assert one.store.calls["get"] == 4
