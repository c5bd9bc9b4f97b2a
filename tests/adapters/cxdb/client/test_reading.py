"""What is read, from servers that lack messages, and from those that lie."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import msgspec
import pytest

from perdure.adapters.cxdb import chain, reading
from perdure.adapters.cxdb.backend import CxdbBackend
from perdure.adapters.cxdb.chain import Chains, TurnFacts
from perdure.adapters.cxdb.codec.frames import MessageType
from perdure.adapters.cxdb.http import CxdbHttp, HttpAddress
from perdure.adapters.cxdb.pool import Pool
from perdure.adapters.cxdb.remote import Remote
from perdure.adapters.cxdb.server import Profile
from perdure.adapters.cxdb.turns import CxdbTurns, TurnSettings
from perdure.core.environment import SystemClock
from perdure.domain.turn import content_hash
from perdure.errors import (
    ChainBroken,
    Conflict,
    DigestMismatch,
    Forbidden,
    Invalid,
    KeyReused,
    LimitExceeded,
    NotFound,
    Unsupported,
)
from perdure.testing.contracts.stores import TIMEOUT_S, new_space
from perdure.testing.contracts.turns_opening import FAR, Talk, further, missing, turn
from tests.adapters.cxdb.client.lossy import lossy_server, note, store_of
from tests.adapters.cxdb.client.old_servers import item, old_server, talk_to
from tests.adapters.cxdb.client.scripted import Answering, scripted

BOTH = (Profile.STRICT, Profile.IMPROVED)
TREE = b"\x90"  # an empty directory


@pytest.mark.parametrize("http", [True, False])
@pytest.mark.parametrize("profile", BOTH)
async def test_older_turns_are_read_with_and_without_the_http_side(profile: Profile, http: bool) -> None:  # noqa: FBT001
    async with lossy_server(profile) as lossy:
        talk = lossy.talk(http=http)
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 30)
        fork = await talk.begin(ids[19])
        await talk.fill(fork, 5, prefix="f")
        other = lossy.talk(http=http)
        for limit in (1, 4, 7, 100):
            assert [found.turn_id for found in await other.chain(context_id, limit=limit)] == ids
            assert len(await other.chain(fork, limit=limit)) == 25
        for wrong in (further(ids[-1]), ids[25]):
            with pytest.raises(Invalid):
                await other.page(fork, before=wrong)


async def test_a_turn_that_no_list_showed_is_found_by_forking_it_if_that_is_allowed() -> None:
    async with lossy_server(Profile.STRICT) as lossy:
        talk = lossy.talk()
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 3)
        other = lossy.talk(lossy=True)
        for _ in range(2):
            assert (await other.get(ids[1])).payload == b"2"
        assert await missing(other.get(further(ids[2]))) == ("turn", further(ids[2]))
        assert lossy.way.asked.count(MessageType.CTX_FORK) == 3  # once for each turn, and once more where it is closed
        strict = lossy.talk(lossy=True, settings=TurnSettings(forks_to_look=False))
        with pytest.raises(Unsupported):
            await strict.get(ids[1])
        await strict.page(context_id)
        found = await strict.get(ids[1])
        assert (found.payload, found.context_id) == (b"2", context_id)
        assert lossy.way.asked.count(MessageType.CTX_FORK) == 3


async def test_a_turn_that_this_client_appended_is_found_without_a_fork() -> None:
    async with lossy_server(Profile.STRICT) as lossy:
        talk = lossy.talk(lossy=True, settings=TurnSettings(forks_to_look=False))
        context_id = await talk.begin()
        ids = await talk.fill(context_id, 3)
        assert [(await talk.get(turn_id)).payload for turn_id in ids] == [b"1", b"2", b"3"]
        assert (await talk.get(ids[2])).context_id == context_id


HTTP_SAYS: list[tuple[int, str, type[Exception]]] = [
    (200, "", Invalid),
    (404, "before turn", NotFound),
    (404, "turn in context", Unsupported),
    (422, "not on the chain", Unsupported),
]


@pytest.mark.parametrize(("status", "said", "kind"), HTTP_SAYS)
async def test_whether_a_turn_is_there_at_all_is_asked_over_http(status: int, said: str, kind: type[Exception]) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path + "?" + request.url.query.decode())
        body: dict[str, object] = {"turns": []} if status == 200 else {"error": {"code": status, "message": said}}
        return httpx.Response(409 if request.method == "POST" else status, json=body)

    http = CxdbHttp(HttpAddress(base_url="http://127.0.0.1"), redact=str, transport=Answering(answer))
    async with scripted(old_server(item(1, b"1"), item(2, b"2"))) as server:
        clock = SystemClock()
        remote = Remote(Pool(server.endpoint, clock=clock, redact=str), http, clock=clock)
        space = new_space()
        store = CxdbTurns(remote, space=space, settings=TurnSettings(forks_to_look=False))
        talk = Talk(store=store, space=space)
        for rebase in (False, True) if status != 200 else (False,):
            with pytest.raises(kind):
                await talk.say("1", "no", parent="9", rebase=rebase)
        assert set(asked) == {"/v1/contexts?", "/v1/contexts/1/turns?view=raw&limit=1&before_turn_id=9"}
        assert MessageType.APPEND_TURN not in server.asked
        await remote.close()


@pytest.mark.parametrize("profile", BOTH)
async def test_with_a_parent_a_context_is_not_made_up(profile: Profile) -> None:
    async with lossy_server(profile) as lossy:
        talk = lossy.talk()
        here, there = await talk.begin(), await talk.begin()
        elsewhere = await talk.say(there, "2")
        nobody = further(here)
        for rebase in (False, True):
            assert await missing(talk.say(nobody, "no", parent=elsewhere, rebase=rebase)) == ("context", nobody)
        assert await missing(talk.head(nobody)) == ("context", nobody)


@pytest.mark.parametrize("profile", BOTH)
async def test_what_only_http_has_is_unsupported_without_it(profile: Profile) -> None:
    async with lossy_server(profile) as lossy:
        talk = lossy.talk(http=False)
        turn_id = await talk.say(await talk.begin(), "1")
        for asked in (talk.publish("b", b"{}"), talk.bundle("b"), talk.labelled("x"), talk.snapshot(turn_id)):
            with pytest.raises(Unsupported, match="http address"):
                await asked


async def test_contexts_are_found_by_the_labels_of_their_first_record() -> None:
    async with lossy_server(Profile.IMPROVED) as lossy:
        talk = lossy.talk()
        ids = []
        for number in range(5):
            context_id = await talk.begin()
            await talk.add(context_id, note("first", key="k", labels=("all", f'{number % 2} "odd" \\')))
            ids.append(context_id)
        assert await talk.labelled("all") == await talk.labelled("all", limit=2) == ids
        assert await talk.labelled('1 "odd" \\') == [ids[1], ids[3]]
        assert await talk.labelled("nobody's") == []
        assert await talk.labelled(None, limit=2) == ids
        page = await talk.store.contexts(talk.space, label="all", limit=0, timeout_s=TIMEOUT_S)
        assert page.items == ()
        with pytest.raises(Invalid):
            await talk.store.contexts(talk.space, label="all", cursor="x", limit=1, timeout_s=TIMEOUT_S)
        with pytest.raises(Unsupported, match="first record"):
            await talk.create(labels=("x",))


async def test_a_tree_of_files_is_attached_and_seen() -> None:
    async with lossy_server(Profile.IMPROVED) as lossy:
        talk = lossy.talk()
        first, second = await talk.fill(await talk.begin(), 2)
        assert await talk.snapshot(first) is None
        root = await talk.put(TREE)
        await talk.attach(first, root)
        assert await talk.snapshot(first) == await talk.snapshot(second) == root == content_hash(TREE)
        unknown = further(second)
        assert await missing(talk.snapshot(unknown)) == ("turn", unknown)
        assert await missing(talk.attach(unknown, root)) == ("turn", unknown)
        assert await missing(talk.attach(first, "0" * 64)) == ("object", "0" * 64)


@pytest.mark.parametrize("profile", BOTH)
async def test_a_registry_bundle_is_published_as_it_is_and_any_other_document_beside_one(profile: Profile) -> None:
    async with lossy_server(profile) as lossy:
        talk = lossy.talk()
        http = store_of(talk)._remote.http
        assert http is not None
        field = {"name": "text", "type": "string"}
        bundle = msgspec.json.encode(
            {"registry_version": 1, "bundle_id": "typed", "types": {"t": {"versions": {"1": {"fields": {"1": field}}}}}}
        )
        assert await talk.publish("typed", bundle)
        assert await http.find_bundle("typed", timeout_s=TIMEOUT_S) == bundle
        for document in (b"7", bundle + b"\n", b'{"perdure_document": "x", "bundle_id": "d", "registry_version": 1}'):
            bundle_id = content_hash(document)
            assert await talk.publish(bundle_id, document)
            assert not await talk.publish(bundle_id, document)
            assert await talk.bundle(bundle_id) == document
            with pytest.raises(KeyReused):
                await talk.publish(bundle_id, b"8")
        clash = bundle.replace(b"string", b"bool").replace(b'"typed"', b'"other"')
        with pytest.raises((Invalid, Conflict)):
            await talk.publish("other", clash)
        assert await talk.bundle("other") is None
        with pytest.raises(Unsupported):
            await talk.store.bundles(talk.space, limit=1, timeout_s=TIMEOUT_S)


async def test_a_page_that_no_frame_holds_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lossy_server(Profile.IMPROVED, frame_bytes_max=4_096) as lossy:
        talk = lossy.talk()
        context_id = await talk.begin()
        for number in range(12):
            await talk.add(context_id, turn(bytes([number]) * 1_500))
        pages = [await talk.page(context_id, limit=limit) for limit in (1, 2, 5, 12, 500)]
        assert [len(page) for page in pages] == [1, 2, 5, 12, 12]
        assert [found.payload[0] for found in pages[-1]] == [*range(12)]
        older = await talk.page(context_id, before=pages[-1][9].turn_id, limit=6)
        assert [found.payload[0] for found in older] == [3, 4, 5, 6, 7, 8]
        monkeypatch.setattr(reading, "PAGE_PAYLOAD_BYTES_MAX", 6_000)
        assert len(await talk.page(context_id, limit=4)) == 4
        with pytest.raises(LimitExceeded) as caught:
            await talk.page(context_id, limit=5)
        assert caught.value.detail["limit"] == "page_payload_bytes_max"


async def test_another_space_is_refused_by_every_method() -> None:
    async with lossy_server(Profile.IMPROVED) as lossy:
        talk = lossy.talk()
        context_id = await talk.begin()
        turn_id = await talk.say(context_id, "1")
        stranger = talk.beside(replace(talk.space, project="other"))
        asked: list[Callable[[Talk], Awaitable[Any]]] = [
            lambda who: who.begin(),
            lambda who: who.head(context_id),
            lambda who: who.say(context_id, "no"),
            lambda who: who.get(turn_id),
            lambda who: who.page(context_id),
            lambda who: who.labelled(None),
            lambda who: who.publish("b", b"{}"),
            lambda who: who.bundle("b"),
            lambda who: who.store.bundles(who.space, limit=1, timeout_s=TIMEOUT_S),
            lambda who: who.put(b"x"),
            lambda who: who.blob("0" * 64),
            lambda who: who.attach(turn_id, "0" * 64),
            lambda who: who.snapshot(turn_id),
        ]
        for ask in asked:
            with pytest.raises(Forbidden):
                await ask(stranger)
        assert await talk.said(context_id) == ["1"]


async def test_a_backend_keeps_turns_and_nothing_else_and_gives_a_sign_of_life() -> None:
    async with lossy_server(Profile.STRICT) as lossy:
        backend = CxdbBackend(lossy._address, space=lossy.space, clock=SystemClock(), redact=str)
        await backend.probe(timeout_s=TIMEOUT_S)
        assert backend.objects is None
        assert backend.capabilities.shared
        for kind in ("logs", "rows", "routes"):
            with pytest.raises(Unsupported):
                getattr(backend, kind)
        await backend.close()
        await backend.close()
        with pytest.raises(Invalid):
            await backend.probe(timeout_s=TIMEOUT_S)


@pytest.mark.parametrize("generation", ["G0", "G1"])
async def test_what_is_not_there_is_not_found_however_a_server_says_it(generation: str) -> None:
    async with scripted(old_server(item(1, b"1"), generation=generation)) as server:
        talk = talk_to(server.endpoint)
        assert await talk.said("1") == ["1"]
        for unknown in ("2", str(FAR)):
            assert await missing(talk.head(unknown)) == ("context", unknown)
            assert await missing(talk.page(unknown, limit=0)) == ("context", unknown)
            assert await missing(talk.begin(unknown)) == ("turn", unknown)
            assert await missing(talk.get(unknown)) == ("turn", unknown)
            assert await missing(talk.add(unknown, turn())) == ("context", unknown)
        assert await talk.blob("0" * 64) is None
        assert server.asked.count(MessageType.GET_BEFORE) == 1  # which server it is, is asked once
        await store_of(talk)._remote.close()


async def test_a_payload_that_is_not_what_its_hash_says_is_not_handed_out() -> None:
    digest = bytes.fromhex(content_hash(b"other"))
    async with scripted(old_server(item(1, b"1"), item(2, b"2", content_hash=digest))) as server:
        talk = talk_to(server.endpoint)
        with pytest.raises(DigestMismatch, match="turn 2"):
            await talk.page("1")
        await store_of(talk)._remote.close()


@pytest.mark.parametrize("changed", [{"parent_turn_id": 7}, {"depth": 5}])
async def test_a_list_that_is_no_chain_is_not_handed_out(changed: dict[str, int]) -> None:
    async with scripted(old_server(item(1, b"1"), item(2, b"2", **changed))) as server:
        talk = talk_to(server.endpoint)
        with pytest.raises(ChainBroken):
            await talk.page("1")
        await store_of(talk)._remote.close()


async def test_an_answer_with_another_hash_than_was_sent_is_no_success() -> None:
    async with scripted(old_server(item(1, b"1"), appended=b"other")) as server:
        talk = talk_to(server.endpoint)
        with pytest.raises(DigestMismatch):
            await talk.say("1", "mine")
        with pytest.raises(DigestMismatch):
            await talk.blob(content_hash(b"mine"))
        await store_of(talk)._remote.close()


def test_no_more_turns_are_remembered_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "TURNS_REMEMBERED_MAX", 3)
    chains = Chains(remote=None)  # type: ignore[arg-type]  # nothing is asked
    for number in range(1, 5):
        chains.add(
            TurnFacts(
                turn_id=number,
                parent_turn_id=number - 1,
                depth=number - 1,
                type_id="t",
                type_version=1,
                content_hash="h",
                payload_bytes=1,
                context_id=7,
            )
        )
        chains.appended(number, context_id=7)
    assert [chains.find(number) is not None for number in range(1, 5)] == [False, True, True, True]
    assert [chains.is_ours(number) for number in range(1, 5)] == [False, True, True, True]


async def test_a_turn_whose_payload_is_gone_is_a_broken_chain() -> None:
    async with scripted(old_server(item(1, b"1"), item(2, b"2"))) as server:
        talk = talk_to(server.endpoint)
        await talk.page("1")
        with pytest.raises(ChainBroken, match="restore"):
            await talk.get("1")
        with pytest.raises(NotFound):
            await talk.get("3")
        await store_of(talk)._remote.close()
