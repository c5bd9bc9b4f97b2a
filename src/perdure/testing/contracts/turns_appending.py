"""What appending a turn promises: keys, content, races."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import chain
from typing import Final

import msgspec
import pytest

from perdure.domain.turn import (
    INLINE_BYTES_MAX,
    NO_TURN,
    TYPE_VERSION_MAX,
    NewTurn,
    content_hash,
    context_container,
)
from perdure.errors import Conflict, KeyReused
from perdure.testing.contracts.stores import audit
from perdure.testing.contracts.turns_opening import Talk, TurnsOpening, check_chain, turn
from perdure.testing.environment import START_DEFAULT

WRITERS: Final = 16
SOME_BYTES: Final = bytes(range(256))  # not UTF-8
PAYLOADS: Final = {
    "nothing": b"",
    "one byte": b"\0",
    "no text": SOME_BYTES,
    "the largest that is kept with its turn": SOME_BYTES * (INLINE_BYTES_MAX // 256),
    "one byte more": SOME_BYTES * (INLINE_BYTES_MAX // 256) + b"\xff",
    "a mebibyte": SOME_BYTES * 4_096,
}
KEYS: Final = ("k", "run|stage:1|tool", "Schlüssel ключ 鍵 🔑", " with blanks ", "line\nbreak\ttab", "\x00\x7f", "0")
EMPTY_HASH: Final = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"  # published with BLAKE3


class TurnAppendingContract(TurnsOpening):
    """One turn after another, each once."""

    async def test_the_first_turn_has_depth_1_and_no_parent(self, talk: Talk) -> None:
        context_id = await talk.begin()
        first = await talk.add(context_id, turn(b"hello"))
        second = await talk.add(context_id, turn(b"world"))
        assert (first.context_id, first.depth, first.replayed) == (context_id, 1, False)
        assert (second.context_id, second.depth, second.replayed) == (context_id, 2, False)
        found = await talk.get(first.turn_id)
        assert (found.parent_turn_id, found.depth, found.payload) == (NO_TURN, 1, b"hello")
        assert (await talk.get(second.turn_id)).parent_turn_id == first.turn_id
        head = await talk.head(context_id)
        assert (head.head_turn_id, head.head_depth) == (second.turn_id, 2)

    async def test_t01_the_same_key_twice_in_a_context_is_one_turn(self, talk: Talk) -> None:
        context_id = await talk.begin()
        first = await talk.add(context_id, turn(b"once", key="k"))
        again = await talk.add(context_id, turn(b"once", key="k"))
        assert again == replace(first, replayed=True)
        assert [found.turn_id for found in await talk.chain(context_id)] == [first.turn_id]

    async def test_a_key_that_is_said_again_gives_its_turn_wherever_the_head_is_now(self, talk: Talk) -> None:
        context_id = await talk.begin()
        first = await talk.add(context_id, turn(b"once", key="k"))
        await talk.fill(context_id, 3)
        head = await talk.head(context_id)
        assert await talk.add(context_id, turn(b"once", key="k")) == replace(first, replayed=True)
        assert await talk.head(context_id) == head
        assert await talk.said(context_id) == ["once", "1", "2", "3"]

    async def test_t09_turns_without_a_key_are_never_taken_for_each_other(self, talk: Talk) -> None:
        context_id = await talk.begin()
        refs = [await talk.add(context_id, turn(b"same")) for _ in range(3)]
        assert len({ref.turn_id for ref in refs}) == len(refs)
        assert [ref.replayed for ref in refs] == [False] * 3
        assert [found.idempotency_key for found in await talk.chain(context_id)] == [None] * 3

    @pytest.mark.parametrize("key", KEYS)
    async def test_t11_the_text_of_a_key_is_kept_exactly(self, talk: Talk, key: str) -> None:
        context_id = await talk.begin()
        ref = await talk.add(context_id, turn(key=key))
        assert (await talk.add(context_id, turn(key=key))).turn_id == ref.turn_id
        assert (await talk.add(context_id, turn(key=key + "x"))).turn_id != ref.turn_id
        self.needs("gives_keys_back")
        (found, other) = await talk.chain(context_id)
        assert (found.idempotency_key, other.idempotency_key) == (key, key + "x")
        assert (await talk.get(ref.turn_id)).idempotency_key == key

    async def test_t12_an_encoded_record_is_decoded_to_what_it_was(self, talk: Talk) -> None:
        record = {1: "run", 2: [1, -1, 2**63, 0.5, None, True], 3: {"deep": {"er": b"\x00\xff"}}, 30: "Ω 🔑"}
        context_id = await talk.begin()
        await talk.add(context_id, turn(msgspec.msgpack.encode(record)))
        (found,) = await talk.page(context_id, limit=1)
        assert msgspec.msgpack.decode(found.payload, strict=False, type=dict[int, object]) == record

    async def test_t17_the_same_key_in_two_contexts_is_two_turns(self, talk: Talk) -> None:
        one, other = await talk.begin(), await talk.begin()
        first = await talk.add(one, turn(b"same", key="k"))
        second = await talk.add(other, turn(b"same", key="k"))
        assert (first.turn_id == second.turn_id, second.replayed) == (False, False)
        assert (await talk.said(one), await talk.said(other)) == (["same"], ["same"])

    async def test_a_key_that_came_before_a_fork_is_not_one_of_the_fork(self, talk: Talk) -> None:
        context_id = await talk.begin()
        first = await talk.add(context_id, turn(b"same", key="k"))
        fork = await talk.begin(first.turn_id)
        second = await talk.add(fork, turn(b"same", key="k"))
        assert (second.replayed, second.depth) == (False, 2)
        assert await talk.said(fork) == ["same", "same"]

    @pytest.mark.parametrize("changed", ["payload", "type_id", "type_version", "parent"])
    async def test_t18_a_key_with_other_content_is_a_conflict_and_the_head_stays(
        self, talk: Talk, changed: str
    ) -> None:
        context_id = await talk.begin()
        root, _ = await talk.fill(context_id, 2)
        said = turn(b"said", key="k")
        await talk.add(context_id, said)
        await talk.say(context_id, "more")
        before = (await talk.head(context_id), await talk.chain(context_id))
        others = {
            "payload": replace(said, payload=b"other"),
            "type_id": replace(said, type_id="test.other"),
            "type_version": replace(said, type_version=2),
            "parent": replace(said, parent_turn_id=root),
        }
        with pytest.raises(KeyReused) as caught:
            await talk.add(context_id, others[changed])
        assert isinstance(caught.value, Conflict)
        assert "said" not in f"{caught.value}{caught.value.detail}"
        assert (await talk.head(context_id), await talk.chain(context_id)) == before

    async def test_t18_a_key_with_another_parent_is_a_conflict(self, talk: Talk) -> None:
        context_id = await talk.begin()
        first, second = await talk.fill(context_id, 2)
        await talk.add(context_id, turn(key="k", parent=second))
        elsewhere = await talk.say(await talk.begin(), "elsewhere")
        for parent in (first, elsewhere):
            with pytest.raises(KeyReused):
                await talk.add(context_id, turn(key="k", parent=parent))
        assert (await talk.head(context_id)).head_depth == 3

    @pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
    async def test_t24_any_bytes_are_kept(self, talk: Talk, payload: bytes) -> None:
        context_id = await talk.begin()
        ref = await talk.add(context_id, turn(payload, key="k"))
        await talk.say(context_id, "after")
        found, after = await talk.chain(context_id)
        assert (found.payload, after.payload) == (payload, b"after")
        assert (await talk.get(ref.turn_id)).payload == payload
        assert (await talk.add(context_id, turn(payload, key="k"))).replayed
        with pytest.raises(KeyReused):
            await talk.add(context_id, turn(payload + b"!", key="k"))

    @pytest.mark.parametrize("version", [0, 1, TYPE_VERSION_MAX])
    async def test_t25_type_id_and_version_are_kept_exactly(self, talk: Talk, version: int) -> None:
        context_id = await talk.begin()
        for type_id in ("a", "com.example|x:y", "типы/型🔑 with blanks"):
            ref = await talk.add(context_id, turn(type_id=type_id, type_version=version))
            found = await talk.get(ref.turn_id)
            assert (found.type_id, found.type_version) == (type_id, version)

    async def test_t26_the_hash_of_a_turn_is_that_of_its_payload_and_of_an_object(self, talk: Talk) -> None:
        context_id = await talk.begin()
        assert (await talk.add(context_id, turn(b""))).content_hash == EMPTY_HASH
        for payload in (b"x", SOME_BYTES, bytes(INLINE_BYTES_MAX + 1)):
            ref = await talk.add(context_id, turn(payload))
            assert ref.content_hash == content_hash(payload)
            assert (await talk.get(ref.turn_id)).content_hash == ref.content_hash
            if self.has_blobs:
                assert await talk.put(payload) == ref.content_hash

    async def test_t28_many_tasks_that_append_to_one_context_make_one_chain(self, talk: Talk) -> None:
        context_id = await talk.begin()

        async def writer(name: int) -> list[str]:
            return [await talk.say(context_id, f"{name}:{count}") for count in range(2)]

        written = await asyncio.gather(*(writer(name) for name in range(WRITERS)))
        await self._all_are_there(talk, context_id, written)

    async def test_t28_tasks_of_two_clients_make_one_chain(self, talk: Talk) -> None:
        self.needs("orders_clients")
        context_id = await talk.begin()
        other = await self.reopened(talk, (context_id, 0))

        async def writer(client: Talk, name: int) -> list[str]:
            return [await client.say(context_id, f"{name}:{count}") for count in range(3)]

        written = await asyncio.gather(*(writer((talk, other)[name % 2], name) for name in range(6)))
        await self.catch_up(talk, context_id, 18)
        await self._all_are_there(talk, context_id, written)

    async def _all_are_there(self, talk: Talk, context_id: str, written: list[list[str]]) -> None:
        turns = await talk.chain(context_id)
        assert sorted(found.turn_id for found in turns) == sorted(chain.from_iterable(written))
        for name, ids in enumerate(written):
            said = [found for found in turns if found.payload.decode().split(":")[0] == str(name)]
            assert [found.turn_id for found in said] == ids
            assert [found.payload.decode() for found in said] == [f"{name}:{count}" for count in range(len(ids))]

    async def test_clients_that_say_one_key_at_the_same_time_make_one_turn(self, talk: Talk) -> None:
        self.needs("orders_clients", "keeps_keys")
        context_id = await talk.begin()
        other = await self.reopened(talk, (context_id, 0))
        said = turn(b"once", key="k")
        refs = await asyncio.gather(*(client.add(context_id, said) for client in (talk, other, talk, other)))
        assert len({ref.turn_id for ref in refs}) == 1
        assert [ref.replayed for ref in refs].count(False) == 1
        assert await talk.said(context_id) == ["once"]

    async def test_t29_contexts_that_are_written_at_the_same_time_do_not_mix(self, talk: Talk) -> None:
        async def writer(name: int) -> tuple[str, list[str]]:
            context_id = await talk.begin()
            await talk.fill(context_id, 4, prefix=f"{name}:")
            return context_id, [f"{name}:{number}" for number in range(1, 5)]

        for context_id, said in await asyncio.gather(*(writer(name) for name in range(8))):
            assert [found.payload.decode() for found in await talk.chain(context_id)] == said

    async def test_an_append_that_others_outran_is_appended_to_what_they_said(self, talk: Talk) -> None:
        self.needs("orders_clients")
        context_id = await talk.begin()
        await talk.say(context_id, "a")
        other = await self.reopened(talk, (context_id, 1))
        await other.fill(context_id, 3)
        await talk.say(context_id, "b")
        assert await talk.said(context_id) == ["a", "1", "2", "3", "b"]
        check_chain(await talk.page(context_id))

    async def test_a_record_is_kept_with_the_turn_and_once(self, talk: Talk) -> None:
        self.needs("keeps_audits")
        context_id = await talk.begin()
        container = context_container(talk.space, int(context_id))
        record, again = audit(container, "append", START_DEFAULT), audit(container, "append", START_DEFAULT)
        said: NewTurn = turn(b"x", key="k")
        await talk.add(context_id, said, record=record)
        await talk.add(context_id, said, record=again)
        with pytest.raises(KeyReused):
            await talk.add(context_id, turn(b"y", key="k"), record=again)
        assert list(await self.audits(container)) == [record]
