"""Answers that got lost: whatever was lost, a turn is there once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from perdure.adapters.cxdb.codec.frames import MessageType
from perdure.adapters.cxdb.server import Profile
from perdure.adapters.cxdb.turns import TurnSettings
from perdure.domain.turn import NewTurn
from perdure.errors import OutcomeUnknown, PersistenceError
from perdure.testing.contracts.turns_opening import Talk, turn
from tests.adapters.cxdb.client.lossy import Fault, Lossy, lossy_server, note
from tests.adapters.cxdb.client.scripted import SOON_S

BOTH = (Profile.STRICT, Profile.IMPROVED)
SAID = note("said", key="k")


async def _payloads(lossy: Lossy, context_id: str) -> Sequence[bytes]:
    return [found.payload for found in await lossy.talk().chain(context_id)]


async def _begun(lossy: Lossy, talk: Talk) -> str:
    context_id = await talk.begin()
    await talk.say(context_id, "1")
    assert lossy.way.faults == []
    return context_id


@pytest.mark.parametrize("profile", BOTH)
@pytest.mark.parametrize("fault", ["lose the request", "lose the answer"])
async def test_f7_a_record_whose_answer_was_lost_is_there_once(profile: Profile, fault: Fault) -> None:
    async with lossy_server(profile) as lossy:
        talk = lossy.talk(lossy=True)
        context_id = await _begun(lossy, talk)
        lossy.way.faults = [fault]
        ref = await talk.add(context_id, SAID)
        assert (ref.depth, ref.context_id) == (2, context_id)
        assert await _payloads(lossy, context_id) == [b"1", SAID.payload]
        # And so it stays, for this client and for others.
        assert await talk.add(context_id, SAID) == replace(ref, replayed=True)
        assert await lossy.talk().add(context_id, SAID) == replace(ref, replayed=True)
        await talk.say(context_id, "3")
        assert len(await _payloads(lossy, context_id)) == 3


@pytest.mark.parametrize(("fault", "appends"), [("lose the request", 2), ("lose the answer", 1)])
async def test_f7_what_is_there_is_not_sent_again_to_a_server_that_keeps_no_keys(fault: Fault, appends: int) -> None:
    async with lossy_server(Profile.STRICT) as lossy:
        talk = lossy.talk(lossy=True)
        context_id = await _begun(lossy, talk)
        lossy.way.faults = [fault]
        lossy.way.appends = 0
        await talk.add(context_id, SAID)
        assert lossy.way.appends == appends


@pytest.mark.parametrize("fault", ["lose the request", "lose the answer"])
@pytest.mark.parametrize("named", [False, True])
async def test_f7_a_turn_without_a_key_is_found_in_its_place(fault: Fault, named: bool) -> None:  # noqa: FBT001
    async with lossy_server(Profile.STRICT) as lossy:
        talk = lossy.talk(lossy=True)
        context_id = await talk.begin()
        parent = await talk.say(context_id, "same")
        lossy.way.faults = [fault]
        ref = await talk.add(context_id, turn(b"same", parent=parent if named else None))
        assert (ref.depth, ref.replayed) == (2, False)
        assert ref.turn_id != parent
        assert await _payloads(lossy, context_id) == [b"same"] * 2


async def test_f7_a_turn_without_a_key_that_others_said_too_is_not_taken_for_theirs() -> None:
    async with lossy_server(Profile.STRICT) as lossy:
        talk = lossy.talk(lossy=True)
        context_id = await _begun(lossy, talk)
        await lossy.talk().say(context_id, "2")
        await lossy.talk().say(context_id, "same")
        lossy.way.faults = ["lose the request"]
        await talk.add(context_id, turn(b"same"))
        assert await _payloads(lossy, context_id) == [b"1", b"2", b"same", b"same"]


async def test_a_turn_without_a_key_whose_answer_our_own_server_lost_is_not_sent_again() -> None:
    async with lossy_server(Profile.IMPROVED) as lossy:
        talk = lossy.talk(lossy=True)
        context_id = await _begun(lossy, talk)
        lossy.way.faults = ["lose the answer"]
        with pytest.raises(OutcomeUnknown):
            await talk.say(context_id, "2")
        assert await _payloads(lossy, context_id) == [b"1", b"2"]


@pytest.mark.parametrize("profile", BOTH)
async def test_f9_a_record_that_hung_after_it_was_done_is_found(profile: Profile) -> None:
    async with lossy_server(profile) as lossy:
        talk = lossy.talk(lossy=True, request_timeout_s=1.0)
        context_id = await _begun(lossy, talk)
        lossy.way.faults = ["hang after"]
        ref = await talk.add(context_id, SAID)
        assert ref.depth == 2
        assert await _payloads(lossy, context_id) == [b"1", SAID.payload]


async def test_f9_a_record_that_hung_before_it_was_done_is_not_sent_again_until_it_is_said_again() -> None:
    async with lossy_server(Profile.STRICT) as lossy:
        talk = lossy.talk(lossy=True, request_timeout_s=1.0)
        context_id = await _begun(lossy, talk)
        lossy.way.faults = ["hang before"]
        with pytest.raises(OutcomeUnknown):
            await talk.add(context_id, SAID)
        assert await _payloads(lossy, context_id) == [b"1"]
        ref = await talk.add(context_id, SAID)
        assert (ref.depth, ref.replayed) == (2, False)
        assert await _payloads(lossy, context_id) == [b"1", SAID.payload]


@pytest.mark.parametrize("profile", BOTH)
@pytest.mark.parametrize("said", [SAID, turn(b"raw", key="k")], ids=["record", "raw"])
@pytest.mark.parametrize("fault", ["hang before", "hang after"])
async def test_f9_an_append_that_was_cancelled_is_there_once_when_it_is_said_again(
    profile: Profile, said: NewTurn, fault: Fault
) -> None:
    async with lossy_server(profile) as lossy:
        talk = lossy.talk(lossy=True, settings=TurnSettings(keys="memory"))
        context_id = await _begun(lossy, talk)
        lossy.way.faults = [fault]
        task = asyncio.create_task(talk.add(context_id, said))
        await lossy.way.hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await talk.say(context_id, "other")
        ref = await talk.add(context_id, said)
        assert ref.replayed == (fault == "hang after")
        payloads = await _payloads(lossy, context_id)
        assert sorted(payloads) == sorted([b"1", b"other", said.payload])
        assert await talk.add(context_id, said) == replace(ref, replayed=True)


async def test_an_append_whose_patience_is_over_says_that_its_outcome_is_unknown() -> None:
    async with lossy_server(Profile.STRICT) as lossy:
        talk = lossy.talk(lossy=True)
        context_id = await _begun(lossy, talk)
        lossy.way.faults = ["hang after"]
        with pytest.raises(OutcomeUnknown):
            await talk.store.append(lossy.space, context_id, SAID, timeout_s=SOON_S)
        assert (await talk.add(context_id, SAID)).replayed
        assert await _payloads(lossy, context_id) == [b"1", SAID.payload]


async def test_a_server_that_hangs_up_whenever_it_is_sent_a_turn_has_kept_none() -> None:
    async with lossy_server(Profile.STRICT) as lossy:
        talk = lossy.talk(lossy=True)
        context_id = await _begun(lossy, talk)
        lossy.way.faults = ["lose the request"] * 2
        with pytest.raises(PersistenceError, match="the turn is not there"):
            await talk.add(context_id, SAID)
        assert await _payloads(lossy, context_id) == [b"1"]
        assert not (await talk.add(context_id, SAID)).replayed


@pytest.mark.parametrize("profile", BOTH)
async def test_f8_a_server_that_starts_again_is_reached_again_and_nothing_is_there_twice(profile: Profile) -> None:
    async with lossy_server(profile) as lossy:
        talk = lossy.talk(lossy=True)
        context_id = await talk.begin()
        said = [note(str(number), key=str(number)) for number in range(6)]
        for each in said:
            lossy.way.cut()
            await talk.add(context_id, each)
        assert await _payloads(lossy, context_id) == [each.payload for each in said]


async def test_two_tasks_that_say_one_key_at_the_same_time_make_one_turn() -> None:
    async with lossy_server(Profile.STRICT) as lossy:
        talk = lossy.talk(lossy=True)
        context_id = await talk.begin()
        refs = await asyncio.gather(*(talk.add(context_id, SAID) for _ in range(8)))
        assert len({ref.turn_id for ref in refs}) == 1
        assert [ref.replayed for ref in refs].count(False) == 1
        assert await _payloads(lossy, context_id) == [SAID.payload]


@pytest.mark.parametrize("profile", BOTH)
async def test_an_append_to_a_known_context_is_one_message(profile: Profile) -> None:
    async with lossy_server(profile) as lossy:
        talk = lossy.talk(lossy=True)
        context_id = await talk.begin()
        await talk.add(context_id, SAID)
        lossy.way.asked.clear()
        for number in range(3):
            await talk.add(context_id, note("more", key=f"more {number}"))
            await talk.add(context_id, turn(b"more"))
        assert lossy.way.asked == [MessageType.APPEND_TURN] * 6
