"""Records at servers that throw keys away: a key in a payload is found by every client, and others are refused."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from perdure.adapters.cxdb.keys import (
    CONTEXTS_REMEMBERED_MAX,
    KEY_TAG,
    PENDING_MAX,
    ContextMemory,
    Fingerprint,
    KeptTurn,
    Memories,
    Pending,
    key_of,
)
from perdure.adapters.cxdb.server import Profile
from perdure.adapters.cxdb.turns import TurnSettings
from perdure.domain.turn import NewTurn
from perdure.errors import Invalid, KeyReused, Unsupported
from perdure.testing.contracts.turns_opening import turn
from tests.adapters.cxdb.client.lossy import lossy_server, note

ASKED = Fingerprint(type_id="t", type_version=1, content_hash="h", parent_turn_id=0)


def kept(number: int) -> KeptTurn:
    return KeptTurn(turn_id=number, parent_turn_id=0, depth=0, type_id="t", type_version=1, content_hash="h")


async def test_t19_another_client_knows_the_key_of_a_record() -> None:
    async with lossy_server(Profile.STRICT) as lossy:
        talk = lossy.talk()
        context_id = await talk.begin()
        refs = [await talk.add(context_id, note(key, key=key)) for key in "abc"]
        other = lossy.talk()
        for key, ref in zip("abc", refs, strict=True):
            assert await other.add(context_id, note(key, key=key)) == replace(ref, replayed=True)
        with pytest.raises(KeyReused) as caught:
            await other.add(context_id, note("other", key="b"))
        assert caught.value.detail["turn_id"] == refs[1].turn_id
        assert [found.idempotency_key for found in await other.chain(context_id)] == ["a", "b", "c"]
        assert (await other.get(refs[1].turn_id)).idempotency_key == "b"


async def test_a_key_of_a_record_means_the_parent_too() -> None:
    async with lossy_server(Profile.STRICT) as lossy:
        talk = lossy.talk()
        context_id = await talk.begin()
        first, second = await talk.fill(context_id, 2)
        said = note("said", key="k", parent=second)
        ref = await talk.add(context_id, said)
        for client in (talk, lossy.talk()):
            assert await client.add(context_id, said) == replace(ref, replayed=True)
            with pytest.raises(KeyReused):
                await client.add(context_id, replace(said, parent_turn_id=first))


@pytest.mark.parametrize(
    "said", [turn(b"raw", key="k"), turn(b"", key="k"), replace(note("x", key="other"), idempotency_key="k")]
)
async def test_a_key_that_nobody_would_find_again_is_refused_before_anything_is_sent(said: NewTurn) -> None:
    async with lossy_server(Profile.STRICT) as lossy:
        talk = lossy.talk(lossy=True)
        context_id = await talk.begin()
        with pytest.raises(Unsupported, match="keeps no idempotency keys"):
            await talk.add(context_id, said)
        assert lossy.way.appends == 0
        await talk.add(context_id, replace(said, idempotency_key=None))
        other = lossy.talk(settings=TurnSettings(keys="memory"))
        ref = await other.add(context_id, said)
        assert await other.add(context_id, said) == replace(ref, replayed=True)


async def test_a_key_is_looked_for_in_as_many_turns_as_allowed_and_no_more() -> None:
    async with lossy_server(Profile.STRICT) as lossy:
        talk = lossy.talk()
        context_id = await talk.begin()
        said = [note(key, key=key) for key in "abcd"]
        for each in said:
            await talk.add(context_id, each)
        settings = TurnSettings(dedupe_turns_max=3)
        assert (await lossy.talk(settings=settings).add(context_id, said[1])).replayed
        assert not (await lossy.talk(settings=settings).add(context_id, said[0])).replayed
        with pytest.raises(Invalid):
            TurnSettings(dedupe_turns_max=0)


async def test_keys_are_looked_for_page_by_page() -> None:
    async with lossy_server(Profile.STRICT) as lossy:
        talk = lossy.talk()
        context_id = await talk.begin()
        first = await talk.add(context_id, note("first", key="first"))
        for number in range(501):
            await talk.add(context_id, note("more", key=str(number)))
        assert await lossy.talk().add(context_id, note("first", key="first")) == replace(first, replayed=True)


async def test_a_fork_knows_its_own_keys_if_this_client_made_it_and_those_before_it_otherwise() -> None:
    async with lossy_server(Profile.STRICT) as lossy:
        talk = lossy.talk()
        context_id = await talk.begin()
        said = note("said", key="k")
        first = await talk.add(context_id, said)
        fork = await talk.begin(first.turn_id)
        # Servers do not tell where a fork begins.
        assert (await lossy.talk().add(fork, said)).turn_id == first.turn_id
        again = await talk.add(fork, said)
        assert (again.replayed, again.depth) == (False, 2)


async def test_of_two_turns_with_one_key_the_older_one_has_it() -> None:
    async with lossy_server(Profile.STRICT) as lossy:
        one, other = lossy.talk(), lossy.talk()
        context_id = await one.begin()
        await other.add(context_id, note("x", key="x"))
        first = await one.add(context_id, note("said", key="k"))
        second = await other.add(context_id, note("said", key="k"))
        assert first.turn_id != second.turn_id  # the hole that is left: two clients of one context
        assert (await lossy.talk().add(context_id, note("said", key="k"))).turn_id == first.turn_id


KEYS: list[tuple[bytes, str | None]] = [
    (msgspec.msgpack.encode({KEY_TAG: "k"}), "k"),
    (msgspec.msgpack.encode({str(KEY_TAG): "k"}), "k"),
    (msgspec.msgpack.encode({1: [{KEY_TAG: "inner"}], KEY_TAG: "k", 200: b"x"}), "k"),
    (msgspec.msgpack.encode({1: [{KEY_TAG: "inner"}]}), None),
    (msgspec.msgpack.encode({KEY_TAG: 7}), None),
    (msgspec.msgpack.encode({KEY_TAG: ""}), None),
    (msgspec.msgpack.encode({KEY_TAG: b"k"}), None),
    (msgspec.msgpack.encode({KEY_TAG: None}), None),
    (msgspec.msgpack.encode({"idempotency_key": "k"}), None),
    (msgspec.msgpack.encode([KEY_TAG, "k"]), None),
    (msgspec.msgpack.encode({KEY_TAG: "k"})[:-1], None),
    (b'{"idempotency_key": "k"}', None),
    (b"\x81\x65\xa1\xff", None),
    (b"\xc1", None),
    (b"\xdf\xff\xff\xff\xff", None),
    (b"\x91" * 5_000, None),
    (b"", None),
]


@pytest.mark.parametrize(("payload", "key"), KEYS)
def test_a_key_is_read_from_a_record_and_from_nothing_else(payload: bytes, key: str | None) -> None:
    assert key_of(payload) == key


def test_no_more_contexts_are_remembered_than_allowed() -> None:
    memories = Memories()
    for number in range(CONTEXTS_REMEMBERED_MAX):
        memories.of(number).loaded = True
    assert memories.of(0).loaded
    memories.of(CONTEXTS_REMEMBERED_MAX)
    assert memories.of(0).loaded
    assert not memories.of(1).loaded  # unused the longest


async def test_a_context_that_is_being_appended_to_is_not_forgotten() -> None:
    memories = Memories()
    busy = memories.of(0)
    async with busy.lock:
        for number in range(1, CONTEXTS_REMEMBERED_MAX + 5):
            memories.of(number)
        assert memories.of(0) is busy


def test_no_more_keys_and_doubts_are_remembered_than_allowed() -> None:
    memory = ContextMemory()
    for number in range(4):
        memory.keep(str(number), kept(number), keys_max=3)
    assert [*memory.keys] == ["1", "2", "3"]
    for number in range(PENDING_MAX + 1):
        memory.doubt(str(number), Pending(asked=ASKED, after=0))
    assert len(memory.pending) == PENDING_MAX
    assert "0" not in memory.pending
    memory.keep("1", kept(9), keys_max=3)
    assert memory.replay("1", ASKED, context_id=1) == kept(1)
    assert "1" not in memory.pending
