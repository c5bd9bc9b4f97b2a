"""The table of troubles in docs/backends/cxdb.md: each is made, shows as the page says, and ends as the page says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest

import perdure
from perdure.adapters.cxdb import http_answers
from perdure.adapters.cxdb.server import Profile
from perdure.errors import BackendDown, Invalid, KeyReused, LimitExceeded, NotFound, OutcomeUnknown, Unsupported
from perdure.testing.faults import FaultProxy
from tests.adapters.cxdb.http_server.http_servers import bundle
from tests.conftest import MakeDatabase
from tests.support.recorded_servers import KeptByServer, kept_by_server

PAGE: Final = Path(__file__).parents[3] / "docs" / "backends" / "cxdb.md"
SOON_S: Final = 0.3
TYPE: Final = "acme.user"
SYMPTOMS: Final = (
    "`turns.backend_unavailable`",
    "`outcome_unknown`",
    "`not_found` of a context that was there",
    "`key_reused`",
    "`unsupported`: a key must be in the payload",
    "status 424 from HTTP",
    "status 422 from HTTP",
    "`invalid`: a turn is not on the chain",
    "`limit_exceeded`: contexts_fetch_max",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A tenant, the server that keeps its turns, and the way to that."""

    acme: perdure.Tenant
    kept: KeptByServer
    proxy: FaultProxy

    async def lead(self, kept: KeptByServer, *, by: int | None = None, **more: str) -> None:
        """Lead the tenant's turns to a server."""
        assert kept.address.http is not None
        port = kept.address.binary.port if by is None else by
        config = {"address": f"127.0.0.1:{port}", "http": kept.address.http.base_url, "tenant": "t_acme", **more}
        await self.acme.routes.set("turns", "cxdb", config=config, data_stays=True)

    async def begin(self) -> str:
        """A context with one turn."""
        context = await self.acme.turns.create()
        await self.acme.turns.append(context.context_id, b"\x80", type_id=TYPE)
        return context.context_id

    async def page(self, context_id: str, **query: Any) -> httpx.Response:
        """A page of turns over HTTP."""
        assert self.kept.address.http is not None
        async with httpx.AsyncClient(base_url=self.kept.address.http.base_url, trust_env=False) as http:
            return await http.get(f"/v1/contexts/{context_id}/turns", params=query)


@asynccontextmanager
async def in_trouble(make_database: MakeDatabase, profile: Profile) -> AsyncIterator[Trouble]:
    async with AsyncExitStack() as stack:
        kept = await stack.enter_async_context(kept_by_server(profile))
        proxy = await stack.enter_async_context(FaultProxy("127.0.0.1", kept.address.binary.port))
        dsn = make_database("pg18").dsn("app")
        plane = await stack.enter_async_context(perdure.open(dsn, mode="lab", env="dev"))
        made = Trouble(acme=plane.scope("t_acme", actor="agent:tester"), kept=kept, proxy=proxy)
        await made.lead(kept, by=proxy.port)
        yield made


@pytest.fixture
async def improved(make_database: MakeDatabase) -> AsyncIterator[Trouble]:
    """At a server of the improved profile."""
    async with in_trouble(make_database, Profile.IMPROVED) as made:
        yield made


@pytest.fixture
async def strict(make_database: MakeDatabase) -> AsyncIterator[Trouble]:
    """At a server that answers as CXDB's own."""
    async with in_trouble(make_database, Profile.STRICT) as made:
        yield made


def test_the_table_has_these_troubles_and_no_others() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## Troubleshooting")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| what you see")]
    assert len(rows) == len(SYMPTOMS)
    for row, symptom in zip(rows, SYMPTOMS, strict=True):
        assert row.startswith(f"| {symptom}"), row


async def test_a_server_that_is_not_up_is_unavailable_and_healthz_tells(improved: Trouble) -> None:
    context_id = await improved.begin()
    assert improved.kept.address.http is not None
    health = f"{improved.kept.address.http.base_url}/healthz"
    await improved.kept.stop()
    with pytest.raises(BackendDown) as down:
        await improved.acme.turns.list(context_id)
    assert down.value.code == "turns.backend_unavailable"
    async with httpx.AsyncClient(trust_env=False) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(health)
        await improved.kept.start()
        assert (await http.get(health)).text == "ok"
    assert len(await improved.acme.turns.list(context_id)) == 1


async def test_an_append_whose_answer_was_lost_is_sent_again_with_its_key(improved: Trouble) -> None:
    context_id = await improved.begin()
    improved.proxy.black_hole()
    append = partial(improved.acme.turns.append, context_id, b"\x81\x01\x01", type_id=TYPE, idempotency_key="m-1")
    with pytest.raises(OutcomeUnknown) as unknown:
        await append(timeout_s=SOON_S)
    assert unknown.value.code.endswith("outcome_unknown")
    improved.proxy.heal()
    improved.proxy.reset_all()
    for _ in range(2):
        await append()
    assert len(await improved.acme.turns.list(context_id)) == 2


async def test_a_context_that_another_directory_has_is_not_found(improved: Trouble) -> None:
    await improved.begin()
    context_id = await improved.begin()
    async with kept_by_server(Profile.IMPROVED) as other:
        await improved.lead(other)
        with pytest.raises(NotFound):
            await improved.acme.turns.list(context_id)
        await improved.lead(improved.kept)
        assert len(await improved.acme.turns.list(context_id)) == 1


async def test_a_key_of_another_turn_is_a_defect_of_the_writer_and_nothing_was_written(improved: Trouble) -> None:
    context_id = await improved.begin()
    await improved.acme.turns.append(context_id, b"one", type_id=TYPE, idempotency_key="m-1")
    with pytest.raises(KeyReused) as reused:
        await improved.acme.turns.append(context_id, b"two", type_id=TYPE, idempotency_key="m-1")
    assert reused.value.code == "key_reused"
    assert len(await improved.acme.turns.list(context_id)) == 2


async def test_a_key_that_no_payload_has_is_unsupported_until_keys_are_kept_in_memory(strict: Trouble) -> None:
    context_id = await strict.begin()
    with pytest.raises(Unsupported, match="payload"):
        await strict.acme.turns.append(context_id, b"one", type_id=TYPE, idempotency_key="m-1")
    await strict.lead(strict.kept, keys="memory")
    for _ in range(2):
        await strict.acme.turns.append(context_id, b"one", type_id=TYPE, idempotency_key="m-1")
    assert len(await strict.acme.turns.list(context_id)) == 2


async def test_a_type_that_no_bundle_describes_is_read_raw_or_published(strict: Trouble) -> None:
    context_id = await strict.begin()
    assert (await strict.page(context_id)).status_code == 424
    assert (await strict.page(context_id, view="raw")).status_code == 200
    described = bundle({"1": {"name": "text", "type": "string"}}, TYPE, "acme")
    await strict.acme.turns.publish_bundle("acme", described)
    assert (await strict.page(context_id)).json()["turns"][0]["data"] == {}


async def test_a_payload_that_is_no_map_is_read_raw(strict: Trouble) -> None:
    context_id = await strict.begin()
    await strict.acme.turns.publish_bundle("acme", bundle({"1": {"name": "text", "type": "string"}}, TYPE, "acme"))
    await strict.acme.turns.append(context_id, b"what is due?", type_id=TYPE)
    assert (await strict.page(context_id)).status_code == 422
    assert len((await strict.page(context_id, view="raw")).json()["turns"]) == 2


async def test_in_the_improved_profile_both_are_errors_of_their_turn_alone(improved: Trouble) -> None:
    context_id = await improved.begin()
    await improved.acme.turns.append(context_id, b"what is due?", type_id="other")
    assert [turn["error"]["code"] for turn in (await improved.page(context_id)).json()["turns"]] == [424, 424]
    await improved.acme.turns.publish_bundle("acme", bundle({"1": {"name": "text", "type": "string"}}, TYPE, "acme"))
    first, second = (await improved.page(context_id)).json()["turns"]
    assert (first["data"], second["error"]["code"]) == ({}, 424)


@pytest.mark.parametrize("profile", list(Profile))
async def test_a_cursor_of_another_context_is_refused_and_the_newest_page_is_whole(
    make_database: MakeDatabase, profile: Profile
) -> None:
    async with in_trouble(make_database, profile) as trouble:
        context_id, other_id = await trouble.begin(), await trouble.begin()
        (elsewhere,) = await trouble.acme.turns.list(other_id)
        with pytest.raises(Invalid, match="chain"):
            await trouble.acme.turns.list(context_id, before=elsewhere.turn_id)
        assert len(await trouble.acme.turns.list(context_id)) == 1


async def test_more_contexts_than_can_be_listed_are_found_by_a_label(
    improved: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_answers, "CONTEXTS_FETCH_MAX", 2)
    made = [await improved.begin() for _ in range(3)]
    about = msgspec.msgpack.encode({30: {3: ["run:1"]}})
    labelled = await improved.acme.turns.create()
    await improved.acme.turns.append(labelled.context_id, about, type_id=TYPE)
    with pytest.raises(LimitExceeded, match="contexts_fetch_max"):
        await improved.acme.turns.contexts()
    found = await improved.acme.turns.contexts(label="run:1")
    assert [context.context_id for context in found] == [labelled.context_id]
    assert labelled.context_id not in made
