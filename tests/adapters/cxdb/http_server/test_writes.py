"""Contexts and turns made over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from perdure.adapters.cxdb.http_server.limits import APPEND_BODY_BYTES_MAX, CREATE_BODY_BYTES_MAX
from perdure.adapters.cxdb.server.settings import Profile
from perdure.domain.turn import Turn, content_hash
from perdure.testing.contracts.stores import TIMEOUT_S
from tests.adapters.cxdb.http_server.http_servers import IMPROVED, NOWHERE, STRICT, Talk, check_error, talking

BOTH = pytest.mark.parametrize("profile", [IMPROVED, STRICT])
FIELDS = {"2": {"name": "count", "type": "u64"}, "1": {"name": "text", "type": "string"}}


async def append(talk: Talk, context_id: str, **body: Any) -> httpx.Response:
    """An append over HTTP."""
    return await talk.http.post(f"/v1/contexts/{context_id}/append", json={"type_id": "t", "type_version": 1} | body)


async def kept(talk: Talk, turn_id: object) -> Turn:
    """The turn in the store."""
    return await talk.store.get(talk.world.space, str(turn_id), timeout_s=TIMEOUT_S)


@BOTH
@pytest.mark.parametrize("path", ["/v1/contexts", "/v1/contexts/create"])
async def test_a_context_is_made_empty_or_at_a_turn(profile: Profile, path: str) -> None:
    shape = str if profile is IMPROVED else int
    async with talking(profile) as talk:
        for body in (b"", b"{}", b'{"base_turn_id":0}', b'{"base_turn_id":"0"}', b'{"base_turn_id":null}'):
            answer = await talk.http.post(path, content=body)
            assert answer.status_code == 201, answer.text
            made = answer.json()
            assert (made["head_turn_id"], made["head_depth"]) == (shape(0), 0)
            assert isinstance(made["context_id"], shape)
        context = await talk.begin()
        turns = await talk.fill(context, 3)
        for base in (turns[2], int(turns[2])):
            made = (await talk.http.post(path, json={"base_turn_id": base})).json()
            assert (made["head_turn_id"], made["head_depth"]) == (shape(turns[2]), 2)


@BOTH
async def test_a_fork_is_made_at_a_turn(profile: Profile) -> None:
    async with talking(profile) as talk:
        context = await talk.begin()
        turns = await talk.fill(context, 2)
        made = await talk.http.post("/v1/contexts/fork", json={"base_turn_id": turns[0]})
        assert (made.status_code, str(made.json()["head_turn_id"])) == (201, turns[0])
        check_error(await talk.http.post("/v1/contexts/fork", json={}), 422, says="base_turn_id")
        check_error(await talk.http.post("/v1/contexts/fork"), 422)
        for path in ("fork", "create"):
            check_error(await talk.http.post(f"/v1/contexts/{path}", json={"base_turn_id": NOWHERE}), 409, says="turn")
            wrongs: list[object] = ["x", -1, 1.5, True, [], 2**64]
            for wrong in wrongs:
                check_error(await talk.http.post(f"/v1/contexts/{path}", json={"base_turn_id": wrong}), 422)
            for body in (b"{", b"[]", b"\xff", b"[" * 4_000):
                check_error(await talk.http.post(f"/v1/contexts/{path}", content=body), 422)


@BOTH
@pytest.mark.parametrize("path", ["append", "turns"])
async def test_a_turn_is_appended_with_the_tags_of_its_type(profile: Profile, path: str) -> None:
    async with talking(profile) as talk:
        await talk.publish(FIELDS)
        context = await talk.begin()
        body = {"type_id": "t", "type_version": "1", "data": {"count": "7", "text": "x", "9": [1.5]}}
        answer = await talk.http.post(f"/v1/contexts/{context.context_id}/{path}", json=body)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        turn = await kept(talk, made["turn_id"])
        assert turn.payload == msgspec.msgpack.encode({1: "x", 2: 7, 9: [1.5]})
        assert made["content_hash"] == content_hash(turn.payload)
        assert (str(made["context_id"]), made["depth"]) == (context.context_id, 0)
        assert ("replayed" in made) is (profile is IMPROVED)
        again = (await append(talk, context.context_id, payload={"count": 7, "text": "x"})).json()
        assert again["depth"] == 1


@BOTH
async def test_a_turn_of_an_unknown_type_is_appended_as_it_is(profile: Profile) -> None:
    async with talking(profile) as talk:
        context = await talk.begin()
        made = (await append(talk, context.context_id, data={"b": 1, "10": "x"})).json()
        assert (await kept(talk, made["turn_id"])).payload == b"\x82\x0a\xa1x\xa1b\x01"
        made = (await append(talk, context.context_id, data=None)).json()
        assert (await kept(talk, made["turn_id"])).payload == b"\xc0"


@BOTH
async def test_a_turn_follows_the_head_or_any_turn_that_is_named(profile: Profile) -> None:
    async with talking(profile) as talk:
        context, other = await talk.begin(), await talk.begin()
        turns = await talk.fill(context, 2)
        (foreign,) = await talk.fill(other, 1)
        for parent in (0, "0", None):
            made = (await append(talk, context.context_id, data=1, parent_turn_id=parent)).json()
            head = turns[-1]
            assert (await kept(talk, made["turn_id"])).parent_turn_id == head
            turns.append(str(made["turn_id"]))
        for parent, depth in ((turns[0], 1), (int(foreign), 1)):
            made = (await append(talk, context.context_id, data=1, parent_turn_id=parent)).json()
            assert (await kept(talk, made["turn_id"])).parent_turn_id == str(parent)
            assert made["depth"] == depth
        check_error(await append(talk, context.context_id, data=1, parent_turn_id=NOWHERE), 409, says="turn")
        check_error(await append(talk, context.context_id, data=1, parent_turn_id="x"), 422)


@BOTH
async def test_an_append_that_is_none_is_refused(profile: Profile) -> None:
    async with talking(profile) as talk:
        await talk.publish(FIELDS)
        context = await talk.begin()
        for body in (
            {},
            {"data": 1, "type_id": ""},
            {"data": 1, "type_id": 5},
            {"data": 1, "type_version": -1},
            {"data": 1, "type_version": 2**32},
            {"data": 1, "type_version": "x"},
            {"data": 1, "type_version": True},
            {"data": 1, "type_version": None},
            {"data": {"count": 1}},
            {"data": {"count": -1, "text": "x"}},
            {"data": 1, "type_id": "two\nlines"},
        ):
            check_error(await append(talk, context.context_id, **body), 422)
        path = f"/v1/contexts/{context.context_id}/append"
        for content in (b"", b"{", b"[]", b'"\\ud800"', b"[" * 100_000):
            check_error(await talk.http.post(path, content=content), 422)
        deep = b'{"type_id":"u","type_version":1,"data":' + b"[" * 500 + b"]" * 500 + b"}"
        check_error(await talk.http.post(path, content=deep), 422, says="payload_depth_max")
        check_error(await append(talk, NOWHERE, data=1), 404, says="context")
        check_error(await append(talk, "x", data=1), 422)
        assert (await talk.page(context, view="raw"))["turns"] == []


async def test_a_key_means_one_turn() -> None:
    async with talking() as talk:
        context = await talk.begin()
        first = (await append(talk, context.context_id, data=1, idempotency_key="k")).json()
        again = await append(talk, context.context_id, data=1, idempotency_key="k")
        assert again.status_code == 201
        assert again.json() == first | {"replayed": True}
        check_error(await append(talk, context.context_id, data=2, idempotency_key="k"), 409, says="key")
        check_error(await append(talk, context.context_id, data=2, idempotency_key=5), 422, says="key")
        without = (await append(talk, context.context_id, data=1, idempotency_key="")).json()
        assert without["turn_id"] != first["turn_id"]


async def test_in_the_strict_profile_keys_mean_nothing() -> None:
    async with talking(STRICT) as talk:
        context = await talk.begin()
        made = [(await append(talk, context.context_id, data=1, idempotency_key="k")).json() for _ in range(2)]
        assert [one["depth"] for one in made] == [0, 1]


@pytest.mark.parametrize(("profile", "status"), [(IMPROVED, 413), (STRICT, 422)])
async def test_a_body_has_a_limit(profile: Profile, status: int) -> None:
    async with talking(profile) as talk:
        context = await talk.begin()
        path = f"/v1/contexts/{context.context_id}/append"
        body = b'{"type_id":"u","type_version":1,"data":1}'
        assert (await talk.http.post(path, content=body.ljust(APPEND_BODY_BYTES_MAX))).status_code == 201
        answer = await talk.http.post(path, content=body.ljust(APPEND_BODY_BYTES_MAX + 1))
        check_error(answer, status, says="append_body_bytes_max")
        assert (await talk.http.post("/v1/contexts", content=b"{}".ljust(CREATE_BODY_BYTES_MAX))).status_code == 201
        answer = await talk.http.post("/v1/contexts", content=b"{}".ljust(CREATE_BODY_BYTES_MAX + 1))
        check_error(answer, status, says="create_body_bytes_max")
