"""Every limit of turns, at its edge and one beyond."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from perdure.domain.turn import (
    BUNDLE_BYTES_MAX,
    BUNDLE_ID_CHARS_MAX,
    CONTEXTS_PAGE_MAX,
    KEY_BYTES_MAX,
    LABEL_CHARS_MAX,
    LABELS_MAX,
    TURN_PAYLOAD_BYTES_MAX,
    TURNS_PAGE_MAX,
    TYPE_ID_CHARS_MAX,
    TYPE_VERSION_MAX,
)
from perdure.errors import Invalid, LimitExceeded
from perdure.testing.contracts.stores import TIMEOUT_S
from perdure.testing.contracts.turns_opening import Talk, TurnsOpening, turn


class TurnLimitsContract(TurnsOpening):
    """What fits, and what is refused before anything is sent."""

    async def _refused(self, name: str, allowed: int, asked: Awaitable[object]) -> None:
        mark = len(self.calls)
        with pytest.raises(LimitExceeded) as caught:
            await asked
        detail = caught.value.detail
        assert (detail["limit"], detail["allowed"], detail["actual"]) == (name, allowed, allowed + 1)
        assert self.calls[mark:] == []

    async def test_t24_a_payload_above_the_limit_is_refused_before_anything_is_sent(self, talk: Talk) -> None:
        context_id = await talk.begin()
        too_much = turn(bytes(TURN_PAYLOAD_BYTES_MAX + 1))
        await self._refused("turn_payload_bytes_max", TURN_PAYLOAD_BYTES_MAX, talk.add(context_id, too_much))
        assert (await talk.head(context_id)).head_depth == 0

    async def test_keys_up_to_the_limit_are_kept(self, talk: Talk) -> None:
        context_id = await talk.begin()
        for key in ("k" * KEY_BYTES_MAX, "é" * (KEY_BYTES_MAX // 2)):
            ref = await talk.add(context_id, turn(key=key))
            assert (await talk.add(context_id, turn(key=key))).turn_id == ref.turn_id
        for key in ("k" * (KEY_BYTES_MAX + 1), "é" * (KEY_BYTES_MAX // 2) + "k"):
            await self._refused("key_bytes_max", KEY_BYTES_MAX, talk.add(context_id, turn(key=key)))

    @pytest.mark.parametrize("key", ["", "\ud800", 7])
    async def test_a_key_that_is_no_text_is_invalid(self, talk: Talk, key: str) -> None:
        context_id = await talk.begin()
        with pytest.raises(Invalid):
            await talk.add(context_id, turn(key=key))
        assert await talk.page(context_id) == []

    async def test_type_ids_up_to_the_limit_are_kept(self, talk: Talk) -> None:
        context_id = await talk.begin()
        type_id = "型" * TYPE_ID_CHARS_MAX
        ref = await talk.add(context_id, turn(type_id=type_id))
        assert (await talk.get(ref.turn_id)).type_id == type_id
        await self._refused("type_id_chars_max", TYPE_ID_CHARS_MAX, talk.add(context_id, turn(type_id=type_id + "x")))

    @pytest.mark.parametrize("version", [-1, TYPE_VERSION_MAX + 1, 1.0, True, "1"])
    async def test_a_version_that_is_no_number_of_32_bits_is_invalid(self, talk: Talk, version: int) -> None:
        context_id = await talk.begin()
        with pytest.raises(Invalid):
            await talk.add(context_id, turn(type_version=version))
        assert await talk.page(context_id) == []

    @pytest.mark.parametrize("type_id", ["", "two\nlines", "\0", "\ud800"])
    async def test_a_type_id_that_is_no_line_of_text_is_invalid(self, talk: Talk, type_id: str) -> None:
        context_id = await talk.begin()
        with pytest.raises(Invalid):
            await talk.add(context_id, turn(type_id=type_id))
        assert await talk.page(context_id) == []

    async def test_a_page_of_turns_up_to_the_limit_may_be_asked_for(self, talk: Talk) -> None:
        context_id = await talk.begin()
        await talk.fill(context_id, 2)
        assert len(await talk.page(context_id, limit=TURNS_PAGE_MAX)) == 2
        await self._refused("turns_page_max", TURNS_PAGE_MAX, talk.page(context_id, limit=TURNS_PAGE_MAX + 1))

    async def test_as_many_labels_as_allowed_all_find_the_context(self, talk: Talk) -> None:
        self.needs("has_labels")
        # A label is as long as allowed, in bytes too.
        labels = tuple(f"{number:02}" + "🔑" * (LABEL_CHARS_MAX - 2) for number in range(LABELS_MAX))
        made = await talk.create(labels=labels)
        assert (await talk.head(made.context_id)).labels == labels
        for label in labels:
            assert await talk.labelled(label) == [made.context_id]
        await self._refused("labels_max", LABELS_MAX, talk.create(labels=(*labels, "one more")))
        await self._refused("label_chars_max", LABEL_CHARS_MAX, talk.create(labels=("x" * (LABEL_CHARS_MAX + 1),)))
        for bad in ("", "two\nlines", "\ud800"):
            with pytest.raises(Invalid):
                await talk.create(labels=(bad,))

    async def test_a_page_of_contexts_up_to_the_limit_may_be_asked_for(self, talk: Talk) -> None:
        self.needs("has_labels")
        made = await talk.create(labels=("x",))
        assert await talk.labelled("x", limit=CONTEXTS_PAGE_MAX) == [made.context_id]
        too_many = CONTEXTS_PAGE_MAX + 1
        asked = talk.store.contexts(talk.space, label="x", limit=too_many, timeout_s=TIMEOUT_S)
        await self._refused("contexts_page_max", CONTEXTS_PAGE_MAX, asked)

    async def test_a_bundle_up_to_the_limit_is_kept(self, talk: Talk) -> None:
        bundle = b'"' + b"x" * (BUNDLE_BYTES_MAX - 2) + b'"'
        bundle_id = "b" * BUNDLE_ID_CHARS_MAX
        assert await talk.publish(bundle_id, bundle)
        assert await talk.bundle(bundle_id) == bundle
        await self._refused("bundle_bytes_max", BUNDLE_BYTES_MAX, talk.publish("b", bundle + b" "))
        await self._refused("bundle_id_chars_max", BUNDLE_ID_CHARS_MAX, talk.publish(bundle_id + "b", b"1"))
        assert await talk.bundle("b") is None
