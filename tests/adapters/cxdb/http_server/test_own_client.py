"""Our own client of the HTTP side, at our own server."""

from __future__ import annotations

import pytest

from perdure.adapters.cxdb.http import CxdbHttp, HttpAddress
from perdure.adapters.cxdb.server.settings import Profile
from perdure.domain.tree import encode_tree
from perdure.errors import NotFound
from perdure.ports.secrets import Secret
from perdure.testing.contracts.stores import TIMEOUT_S
from tests.adapters.cxdb.http_server.http_servers import IMPROVED, STRICT, bundle, talking

TOKEN = Secret("test-token")


@pytest.mark.parametrize(("profile", "generation"), [(IMPROVED, "improved"), (STRICT, "G1")])
async def test_everything_that_the_client_asks_is_answered(profile: Profile, generation: str) -> None:
    async with talking(profile, token=TOKEN) as talk:
        client = CxdbHttp(HttpAddress(base_url=f"http://127.0.0.1:{talk.port}"), redact=str, token=TOKEN)
        context = await talk.begin()
        turns = await talk.fill(context, 3)
        await talk.say(await talk.begin(), {30: {3: ['a "b" \\']}})
        raw = bundle({"1": {"name": "text", "type": "string"}})
        root = await talk.store.put_blob(talk.world.space, encode_tree([]), timeout_s=TIMEOUT_S)
        await talk.store.attach(talk.world.space, turns[1], root, timeout_s=TIMEOUT_S)
        try:
            assert await client.generation(timeout_s=TIMEOUT_S) == generation
            await client.health(timeout_s=TIMEOUT_S)
            number = int(context.context_id)
            before = await client.turns_before(number, before_turn_id=int(turns[2]), limit=5, timeout_s=TIMEOUT_S)
            assert [(str(turn.turn_id), turn.depth) for turn in before] == [(turns[0], 0), (turns[1], 1)]
            with pytest.raises(NotFound):
                await client.turns_before(number, before_turn_id=2**64 - 1, limit=5, timeout_s=TIMEOUT_S)
            assert [head.context_id for head in await client.contexts(timeout_s=TIMEOUT_S)] == [number, number + 1]
            found = await client.search('a "b" \\', timeout_s=TIMEOUT_S)
            assert [head.context_id for head in found] == [number + 1]
            assert [await client.put_bundle("b", raw, timeout_s=TIMEOUT_S) for _ in range(2)] == [True, False]
            assert await client.find_bundle("b", timeout_s=TIMEOUT_S) == raw
            assert await client.find_bundle("c", timeout_s=TIMEOUT_S) is None
            assert await client.fs_root(int(turns[2]), timeout_s=TIMEOUT_S) == root
            assert await client.fs_root(int(turns[0]), timeout_s=TIMEOUT_S) is None
            with pytest.raises(NotFound):
                await client.fs_root(2**64 - 1, timeout_s=TIMEOUT_S)
        finally:
            await client.close()
