"""Pages of turns over HTTP."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from perdure.adapters.cxdb.server.settings import Profile
from perdure.domain.turn import TURNS_PAGE_MAX, content_hash
from tests.adapters.cxdb.http_server.http_servers import IMPROVED, NOWHERE, STRICT, check_error, ids, talking

FIELDS = {"1": {"name": "text", "type": "string"}, "2": {"name": "count", "type": "u64"}}
BOTH = pytest.mark.parametrize("profile", [IMPROVED, STRICT])


async def test_a_page_has_the_newest_turns_oldest_first_with_ids_in_text() -> None:
    async with talking() as talk:
        context = await talk.begin()
        turns = await talk.fill(context, 5)
        page = await talk.page(context, limit=2, view="raw")
        assert page["meta"] == {
            "context_id": context.context_id,
            "head_turn_id": turns[4],
            "head_depth": 4,
            "registry_bundle_id": None,
        }
        assert ids(page["turns"]) == turns[3:]
        assert page["next_before_turn_id"] == turns[3]
        payload = msgspec.msgpack.encode({1: "5"})
        assert page["turns"][1] == {
            "turn_id": turns[4],
            "parent_turn_id": turns[3],
            "depth": 4,
            "declared_type": {"type_id": "t", "type_version": 1},
            "content_hash_b3": content_hash(payload),
            "encoding": 1,
            "compression": 0,
            "uncompressed_len": len(payload),
            "bytes_b64": base64.b64encode(payload).decode(),
        }


@BOTH
async def test_pages_lead_to_the_root_and_end(profile: Profile) -> None:
    async with talking(profile) as talk:
        context = await talk.begin()
        turns = await talk.fill(context, 5)
        found: list[str] = []
        sizes: list[int] = []
        cursor: object = 0
        while cursor is not None:
            page = await talk.page(context, limit=2, view="raw", before_turn_id=cursor)
            assert (page["meta"]["head_depth"], str(page["meta"]["head_turn_id"])) == (4, turns[4])
            found = [str(each) for each in ids(page["turns"])] + found
            sizes.append(len(page["turns"]))
            cursor = page["next_before_turn_id"]
        assert found == turns
        assert sizes == [2, 2, 1, 0]


async def test_a_fork_lists_what_it_inherited() -> None:
    async with talking() as talk:
        context = await talk.begin()
        turns = await talk.fill(context, 3)
        fork = await talk.begin(base=turns[1])
        own = await talk.fill(fork, 1)
        page = await talk.page(fork, view="raw")
        assert ids(page["turns"]) == [*turns[:2], *own]
        assert [turn["depth"] for turn in page["turns"]] == [0, 1, 2]


@BOTH
async def test_an_empty_context_has_an_empty_page(profile: Profile) -> None:
    async with talking(profile) as talk:
        page = await talk.page(await talk.begin())
        assert (page["turns"], page["next_before_turn_id"]) == ([], None)
        assert (str(page["meta"]["head_turn_id"]), page["meta"]["head_depth"]) == ("0", 0)


@pytest.mark.parametrize(
    ("profile", "asked", "expected"),
    [
        (IMPROVED, None, str),
        (IMPROVED, "string", str),
        (IMPROVED, "number", int),
        (STRICT, None, int),
        (STRICT, "string", str),
        (STRICT, "other", int),
    ],
)
async def test_ids_are_text_or_numbers_as_asked(profile: Profile, asked: str | None, expected: type) -> None:
    query = {} if asked is None else {"u64_format": asked}
    async with talking(profile) as talk:
        await talk.publish(FIELDS)
        context = await talk.begin()
        await talk.say(context, {2: 7})
        page = await talk.page(context, **query)
        (turn,) = page["turns"]
        found = [turn["turn_id"], turn["parent_turn_id"], page["meta"]["context_id"], page["meta"]["head_turn_id"]]
        assert {type(each) for each in [*found, turn["data"]["count"], page["next_before_turn_id"]]} == {expected}


@BOTH
async def test_turns_are_shown_as_their_types_describe_them(profile: Profile) -> None:
    async with talking(profile) as talk:
        await talk.publish(FIELDS)
        context = await talk.begin()
        await talk.say(context, {"1": "x", 2: 7, 9: "unknown"})
        query: dict[str, Any] = {"u64_format": "string"}
        (turn,) = (await talk.page(context, **query))["turns"]
        assert turn["data"] == {"count": "7", "text": "x"}
        assert turn["decoded_as"] == {"type_id": "t", "type_version": 1}
        assert not {"unknown", "bytes_b64"} & set(turn)
        (turn,) = (await talk.page(context, view="both", include_unknown=1, bytes_render="hex", **query))["turns"]
        assert turn["data"] == {"count": "7", "text": "x"}
        assert turn["unknown"] == {"9": "unknown"}
        assert turn["bytes_hex"] == msgspec.msgpack.encode({"1": "x", 2: 7, 9: "unknown"}).hex()
        (turn,) = (await talk.page(context, view="raw", bytes_render="len_only", **query))["turns"]
        assert (turn["bytes_len"], "data" in turn) == (16, False)
        assert (await talk.page(context))["meta"]["registry_bundle_id"] == "b"


@BOTH
async def test_a_type_is_that_of_the_turn_the_latest_or_another(profile: Profile) -> None:
    async with talking(profile) as talk:
        await talk.publish({"1": {"name": "old", "type": "string"}})
        await talk.publish({"1": {"name": "new", "type": "string"}}, bundle_id="c", version=2)
        await talk.publish({"1": {"name": "other", "type": "bytes"}}, bundle_id="d", type_id="u")
        context = await talk.begin()
        await talk.say(context, {1: "x"})

        async def shown(**query: object) -> object:
            (turn,) = (await talk.page(context, **query))["turns"]
            return turn["data"], turn["decoded_as"]

        assert await shown() == ({"old": "x"}, {"type_id": "t", "type_version": 1})
        assert await shown(type_hint_mode="latest") == ({"new": "x"}, {"type_id": "t", "type_version": 2})
        explicit = {"type_hint_mode": "explicit", "as_type_id": "u", "as_type_version": 1}
        assert await shown(**explicit) == ({"other": None}, {"type_id": "u", "type_version": 1})
        for missing in ("as_type_id", "as_type_version"):
            query = {name: str(value) for name, value in explicit.items() if name != missing}
            answer = await talk.http.get(f"/v1/contexts/{context.context_id}/turns", params=query)
            check_error(answer, 422)


async def test_a_turn_that_cannot_be_shown_says_why_and_the_others_are_shown() -> None:
    async with talking() as talk:
        await talk.publish(FIELDS)
        context = await talk.begin()
        await talk.say(context, {1: "x"})
        await talk.say(context, {1: "x"}, type_id="unheard-of")
        await talk.say(context, b"\xc1 no map")
        await talk.say(context, [1])
        page = await talk.page(context, view="both")
        assert [turn.get("data") for turn in page["turns"]] == [{"text": "x"}, None, None, None]
        assert [turn["error"]["code"] for turn in page["turns"][1:]] == [424, 422, 422]
        assert "type descriptor" in page["turns"][1]["error"]["message"]
        assert base64.b64decode(page["turns"][2]["bytes_b64"]) == b"\xc1 no map"


@pytest.mark.parametrize(("document", "type_id", "status"), [({}, "unheard-of", 424), ([1], "t", 422)])
async def test_in_the_strict_profile_one_turn_fails_the_page(document: object, type_id: str, status: int) -> None:
    async with talking(STRICT) as talk:
        await talk.publish(FIELDS)
        context = await talk.begin()
        await talk.say(context, {1: "x"})
        await talk.say(context, document, type_id=type_id)
        path = f"/v1/contexts/{context.context_id}/turns"
        check_error(await talk.http.get(path), status)
        assert (await talk.http.get(path, params={"view": "raw"})).status_code == 200
        assert set((await talk.page(context, view="weird"))["turns"][0]) == {
            "turn_id",
            "parent_turn_id",
            "depth",
            "declared_type",
        }


@BOTH
async def test_a_context_or_cursor_that_is_not_there_is_not_found(profile: Profile) -> None:
    async with talking(profile) as talk:
        context, other = await talk.begin(), await talk.begin()
        await talk.fill(context, 1)
        (foreign,) = await talk.fill(other, 1)
        check_error(await talk.http.get(f"/v1/contexts/{NOWHERE}/turns"), 404, says="context")
        check_error(await talk.http.get("/v1/contexts/77/turns", params={"limit": 0}), 404, says="context")
        for cursor in (foreign, NOWHERE) if profile is IMPROVED else (NOWHERE,):
            answer = await talk.http.get(f"/v1/contexts/{context.context_id}/turns", params={"before_turn_id": cursor})
            check_error(answer, 404, says="turn")
        for wrong in ("x", "-1", "18446744073709551616"):
            check_error(await talk.http.get(f"/v1/contexts/{wrong}/turns"), 422)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "x"),
        ("limit", "-1"),
        ("limit", "²"),
        ("limit", str(TURNS_PAGE_MAX + 1)),
        ("before_turn_id", "x"),
        ("view", "x"),
        ("type_hint_mode", "x"),
        ("bytes_render", "x"),
        ("enum_render", "x"),
        ("time_render", "x"),
        ("u64_format", "x"),
        ("include_unknown", "yes"),
    ],
)
async def test_a_parameter_that_is_none_is_refused_or_in_the_strict_profile_the_default(name: str, value: str) -> None:
    async with talking() as talk:
        context = await talk.begin()
        path = f"/v1/contexts/{context.context_id}/turns"
        check_error(await talk.http.get(path, params={name: value}), 422, says=name)
        async with talking(STRICT, world=talk.world, store=talk.store) as strict:
            await talk.fill(context, 1)
            page = await strict.page(context, **{"view": "raw", name: value})
            assert len(page["turns"]) == 1


@BOTH
async def test_a_limit_of_none_and_the_most(profile: Profile) -> None:
    async with talking(profile) as talk:
        context = await talk.begin()
        await talk.fill(context, 70)
        assert (await talk.page(context, view="raw", limit=0))["turns"] == []
        assert len((await talk.page(context, view="raw"))["turns"]) == 64
        assert len((await talk.page(context, view="raw", limit=TURNS_PAGE_MAX))["turns"]) == 70


@BOTH
async def test_keys_of_json_are_sorted(profile: Profile) -> None:
    async with talking(profile) as talk:
        context = await talk.begin()
        await talk.fill(context, 1)
        answer = await talk.http.get(f"/v1/contexts/{context.context_id}/turns", params={"view": "raw"})
        assert answer.headers["content-type"] == "application/json"
        pairs = json.loads(answer.content, object_pairs_hook=lambda pairs: [key for key, _ in pairs])
        assert pairs == sorted(pairs)


async def test_a_type_that_another_server_published_is_found() -> None:
    async with talking() as talk, talking(world=talk.world) as other:
        context = await talk.begin()
        await talk.say(context, {1: "x"})
        assert "error" in (await talk.page(context))["turns"][0]
        await other.publish(FIELDS)
        assert "error" in (await talk.page(context))["turns"][0]
        talk.world.clock.advance(1.0)
        assert (await talk.page(context))["turns"][0]["data"] == {"text": "x"}


async def test_a_later_version_that_another_server_published_is_the_latest_after_a_while() -> None:
    async with talking() as talk, talking(world=talk.world) as other:
        await talk.publish({"1": {"name": "old", "type": "string"}})
        context = await talk.begin()
        await talk.say(context, {1: "x"})
        await other.publish({"1": {"name": "new", "type": "string"}}, bundle_id="c", version=2)
        talk.world.clock.advance(29.0)
        assert (await talk.page(context, type_hint_mode="latest"))["turns"][0]["data"] == {"old": "x"}
        talk.world.clock.advance(1.0)
        assert (await talk.page(context, type_hint_mode="latest"))["turns"][0]["data"] == {"new": "x"}


async def test_in_the_strict_profile_a_cursor_may_be_of_another_context() -> None:
    async with talking(STRICT) as talk:
        context, other = await talk.begin(), await talk.begin()
        own, foreign = await talk.fill(context, 2), await talk.fill(other, 3)
        page = await talk.page(context, view="raw", before_turn_id=foreign[2], limit=1)
        assert [str(each) for each in ids(page["turns"])] == [foreign[1]]
        assert str(page["meta"]["head_turn_id"]) == own[1]
        await talk.say(other, {1: "x"}, parent=own[0])  # from here on its own first turns are on no chain
        path = f"/v1/contexts/{context.context_id}/turns"
        check_error(await talk.http.get(path, params={"before_turn_id": foreign[2]}), 404, says="before turn")
