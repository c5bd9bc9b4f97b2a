"""The two ports of the strict profile say the same numbers, whoever made what, over real sockets."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import pytest
import zstandard

from perdure.adapters.cxdb.server import ServerSettings, serving
from perdure.domain.turn import Context
from tests.adapters.cxdb.http_server.http_servers import IMPROVED, STRICT, Talk, World, check_error, ids, talking
from tests.adapters.cxdb.server.conversing import (
    ATTACH,
    FORK,
    LAST,
    SPACE,
    Client,
    Storage,
    digest,
    get_last,
    item,
    turn_list,
)

Result = TypeVar("Result")

FIRST = {"1": "x", "30": {"1": "tag", "2": "A plan"}}  # a turn that says something of its conversation


@dataclass(frozen=True, slots=True)
class Both:
    """A client of each port."""

    binary: Client
    talk: Talk

    async def ask(self, asked: Callable[..., Result], *words: Any, **more: Any) -> Result:
        """What the blocking client does, in a thread: the server is on this loop."""
        return await asyncio.to_thread(asked, *words, **more)

    async def post(self, path: str, **body: Any) -> Any:
        """The JSON of a change over HTTP."""
        answer = await self.talk.http.post(path, json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def append(self, context: int, data: Any, **more: Any) -> int:
        """A turn over HTTP; its number."""
        made = await self.post(f"/v1/contexts/{context}/append", type_id="t", type_version=1, data=data, **more)
        assert made["context_id"] == context
        number: int = made["turn_id"]
        return number

    async def check(self, context: int, *, page: int) -> list[int]:
        """Assert that both ports show the same of a context, HTTP page after page; the numbers of its turns."""
        head, depth = await self.ask(self.binary.head, context)
        shown: list[dict[str, Any]] = []
        before = 0
        while True:
            cursor = {"before_turn_id": before} if before else {}
            found = await self.talk.get(
                f"/v1/contexts/{context}/turns", view="raw", bytes_render="hex", limit=page, **cursor
            )
            assert found["meta"] | {"registry_bundle_id": None} == {
                "context_id": context,
                "head_turn_id": head,
                "head_depth": depth,
                "registry_bundle_id": None,
            }
            shown = found["turns"] + shown
            if len(found["turns"]) < page:
                break
            before = found["next_before_turn_id"]
            assert before == found["turns"][0]["turn_id"]
        items = [
            item(
                one["turn_id"],
                one["parent_turn_id"],
                one["depth"],
                bytes.fromhex(one["bytes_hex"]),
                type_id=one["declared_type"]["type_id"].encode(),
            )
            for one in shown
        ]
        assert await self.ask(self.binary.answer, LAST, get_last(context, 1_000)) == turn_list(*items)
        one = await self.talk.get(f"/v1/contexts/{context}")
        assert (one["context_id"], one["head_turn_id"], one["head_depth"]) == (context, head, depth)
        assert [each["turn_id"] for each in shown][-1:] == ([head] if head else [])
        return [each["turn_id"] for each in shown]


@asynccontextmanager
async def both(storage: Storage) -> AsyncIterator[Both]:
    """The two servers of one process, the second over what the first shows."""
    backend = storage.backend()
    await backend.open()
    settings = ServerSettings(profile=STRICT, port=0)
    async with (
        serving(storage.turns(backend), SPACE, settings=settings, rows=backend.rows) as server,
        talking(STRICT, world=World(space=SPACE), store=server.turns) as talk,
    ):
        with Client(server.port) as binary:
            yield Both(binary, talk)
    await backend.close()


async def test_both_ports_count_together_and_go_on_after_a_restart() -> None:
    storage = Storage()
    async with both(storage) as one:
        assert await one.ask(one.binary.new_context) == 1
        assert (await one.post("/v1/contexts/create"))["context_id"] == 2
        assert await one.append(1, "a") == 1
        assert await one.ask(one.binary.append, 1, b"b") == (2, 1)
        assert await one.ask(one.binary.append, 2, b"c") == (3, 0)
        assert await one.append(1, "d") == 4
        assert await one.check(1, page=2) == [1, 2, 4]
        fork = await one.post("/v1/contexts/fork", base_turn_id=2)
        assert fork == {"context_id": 3, "head_turn_id": 2, "head_depth": 1}
    async with both(storage) as one:
        forked = await one.ask(one.binary.answer, FORK, struct.pack("<Q", 4))
        assert forked == struct.pack("<QQI", 4, 4, 2)
        assert await one.append(3, "e") == 5
        assert await one.append(3, "f", parent_turn_id=3) == 6
        assert await one.ask(one.binary.append, 4, b"g") == (7, 3)
        assert [await one.check(context, page=2) for context in (1, 2, 3, 4)] == [[1, 2, 4], [3], [3, 6], [1, 2, 4, 7]]
        listed = (await one.talk.get("/v1/contexts"))["contexts"]
        assert sorted(ids(listed, "context_id")) == [1, 2, 3, 4]
        assert {each["context_id"]: each["head_turn_id"] for each in listed} == {1: 4, 2: 3, 3: 6, 4: 7}


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_done_by_whichever_port_both_show_the_same(seed: int) -> None:
    choose = random.Random(seed)  # noqa: S311 - drawn, not secret
    storage = Storage()
    contexts = turns = 0
    for _ in range(3):
        async with both(storage) as one:
            for step in range(20):
                context = choose.randint(1, contexts) if contexts else 0
                base = choose.randint(0, turns)
                by_http = choose.random() < 0.5
                if not contexts or choose.random() < 0.2:
                    if by_http:
                        made = (await one.post("/v1/contexts/create", base_turn_id=base))["context_id"]
                    else:
                        made = struct.unpack("<QQI", await one.ask(one.binary.answer, FORK, struct.pack("<Q", base)))[0]
                    contexts += 1
                    assert made == contexts
                else:
                    parent = base if choose.random() < 0.3 else 0
                    if by_http:
                        number = await one.append(context, step, parent_turn_id=parent)
                    else:
                        number, _ = await one.ask(one.binary.append, context, b"%d" % step, parent=parent)
                    turns += 1
                    assert number == turns
            for context in range(1, contexts + 1):
                await one.check(context, page=3)


async def test_changes_of_both_ports_at_once_are_each_one_turn() -> None:
    storage = Storage()
    async with both(storage) as one:
        context = await one.ask(one.binary.new_context)

        def by_binary() -> list[int]:
            return [one.binary.append(context, b"b%d" % number)[0] for number in range(30)]

        numbers, others = await asyncio.gather(
            one.ask(by_binary), asyncio.gather(*(one.append(context, f"h{number}") for number in range(30)))
        )
        assert sorted([*numbers, *others]) == list(range(1, 61))
        assert await one.check(context, page=7) == list(range(1, 61))


async def test_what_the_first_turn_says_is_shown_under_numbers() -> None:
    storage = Storage()
    async with both(storage) as one:
        await one.ask(one.binary.append, await one.ask(one.binary.new_context), b"\x80")
        source = await one.ask(one.binary.new_context)
        await one.append(source, FIRST)
        last = await one.append(source, "more")
        fork = (await one.post("/v1/contexts/fork", base_turn_id=last))["context_id"]
        said = {10: {1: source, 3: 1}, 2: "Its child"}
        child = await one.ask(one.binary.new_context)
        await one.ask(one.binary.append, child, msgspec.msgpack.encode({30: said}))
    for _ in range(2):
        async with both(storage) as one:
            for _ in range(2):
                listed = (await one.talk.get("/v1/contexts"))["contexts"]
                titles = {each["context_id"]: each.get("title") for each in listed}
                assert titles == {1: None, source: "A plan", fork: "A plan", child: "Its child"}
            found = await one.talk.get("/v1/contexts/search", q="tag = 'tag'")
            assert ids(found["contexts"], "context_id") == [fork, source]
            lineage = (await one.talk.get(f"/v1/contexts/{child}"))["lineage"]
            assert (lineage["parent_context_id"], lineage["root_context_id"]) == (source, 1)
            lineage = (await one.talk.get(f"/v1/contexts/{source}"))["lineage"]
            assert lineage["child_context_ids"] == [child]


async def test_what_is_unknown_is_told_by_its_number() -> None:
    async with both(Storage()) as one:
        http = one.talk.http
        await one.post("/v1/contexts/create")
        check_error(await http.get("/v1/contexts/2"), 404, says="context")
        check_error(await http.get("/v1/contexts/2/turns"), 404, says="context")
        check_error(await http.get("/v1/contexts/1/turns?before_turn_id=1"), 404, says="before turn")
        check_error(await http.post("/v1/contexts/fork", json={"base_turn_id": 1}), 409, says="base turn")
        body = {"type_id": "t", "type_version": 1, "data": "x"}
        check_error(await http.post("/v1/contexts/2/append", json=body), 404, says="context")
        check_error(await http.post("/v1/contexts/1/append", json=body | {"parent_turn_id": 1}), 409, says="parent")
        assert await one.append(1, "x") == 1


async def test_a_tree_that_one_port_attached_is_shown_by_the_other() -> None:
    async with both(Storage()) as one:
        context = await one.ask(one.binary.new_context)
        number = await one.append(context, "x")
        tree = msgspec.msgpack.encode([])
        await one.ask(one.binary.put_blob, tree)
        asked = struct.pack("<Q", number) + digest(tree)
        assert await one.ask(one.binary.answer, ATTACH, asked) == asked
        shown = await one.talk.get(f"/v1/turns/{number}/fs")
        assert (shown["turn_id"], shown["fs_root_hash"], shown["entries"]) == (number, digest(tree).hex(), [])


async def test_in_the_improved_profile_what_is_served_is_the_store_itself() -> None:
    storage = Storage()
    backend = storage.backend()
    await backend.open()
    store = storage.turns(backend)
    async with serving(store, SPACE, settings=ServerSettings(profile=IMPROVED, port=0)) as server:
        assert server.turns is store
        async with talking(IMPROVED, world=World(space=SPACE), store=server.turns) as talk:
            context: Context = await talk.begin()
            with Client(server.port) as binary:
                turn_id, _ = await asyncio.to_thread(binary.append, int(context.context_id), b"\x80")
            (shown,) = (await talk.page(context, view="raw"))["turns"]
            assert shown["turn_id"] == str(turn_id)
    await backend.close()


async def test_the_raw_view_says_the_encoding_that_was_declared_and_no_compression() -> None:
    async with both(Storage()) as one:
        context = await one.ask(one.binary.new_context)
        for encoding in (1, 0, 7, 2**32 - 1):
            await one.ask(one.binary.append, context, b"\x80", encoding=encoding)
        sent = zstandard.compress(b"\x80")
        await one.ask(one.binary.append, context, b"\x80", compression=1, sent=sent)
        await one.append(context, "x")
        shown = (await one.talk.get(f"/v1/contexts/{context}/turns", view="raw"))["turns"]
        assert [turn["encoding"] for turn in shown] == [1, 0, 7, 2**32 - 1, 1, 1]
        assert {turn["compression"] for turn in shown} == {0}
