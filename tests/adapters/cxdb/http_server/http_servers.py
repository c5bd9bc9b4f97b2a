"""A server on a socket of its own over a store in memory, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from perdure.adapters.cxdb.http_server.serving import serving_http
from perdure.adapters.cxdb.server.settings import Profile
from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.core.environment import SystemIds
from perdure.core.turn_store import StoredTurns, TurnParts
from perdure.domain.container import Space
from perdure.domain.turn import Context, NewTurn, TurnRef
from perdure.ports.environment import Environment
from perdure.ports.turns import TurnStore
from perdure.testing.contracts.stores import TIMEOUT_S, new_space
from perdure.testing.environment import FakeClock, SeededRandomness
from tests.contracts.document_stores import no_sleep
from tests.contracts.turn_stores import BlobsInMemory

STRICT = Profile.STRICT
IMPROVED = Profile.IMPROVED
NOWHERE = "18446744073709551615"  # an id that nothing has


@dataclass
class World:
    """A store in memory, with ways to fill it."""

    clock: FakeClock = field(default_factory=FakeClock)
    space: Space = field(default_factory=new_space)
    data: MemoryStore = field(default_factory=MemoryStore)
    blobs: BlobsInMemory = field(default_factory=BlobsInMemory)

    async def open_store(self) -> TurnStore:
        """Another client of the store."""
        driver = MemoryDriver(self.data)
        await driver.open()
        environment = Environment(clock=self.clock, randomness=SeededRandomness(), ids=SystemIds())
        backend = DocumentBackend(driver, mode="lab", env="dev", environment=environment, sleep=no_sleep)
        parts = TurnParts(backend.logs, backend.rows, environment=environment, sleep=no_sleep)
        return StoredTurns(parts, self.blobs)


@dataclass
class Talk:
    """A client of a server, and what the server serves."""

    http: httpx.AsyncClient
    store: TurnStore
    world: World
    port: int

    async def begin(self, *, base: str | None = None, labels: tuple[str, ...] = ()) -> Context:
        """A context."""
        return await self.store.create(self.world.space, base_turn_id=base, labels=labels, timeout_s=TIMEOUT_S)

    async def say(
        self, context: Context, document: object, *, type_id: str = "t", version: int = 1, parent: str | None = None
    ) -> TurnRef:
        """A turn; bytes are its payload."""
        payload = document if isinstance(document, bytes) else msgspec.msgpack.encode(document)
        turn = NewTurn(type_id=type_id, type_version=version, payload=payload, parent_turn_id=parent)
        return await self.store.append(self.world.space, context.context_id, turn, rebase=True, timeout_s=TIMEOUT_S)

    async def fill(self, context: Context, count: int) -> list[str]:
        """So many turns, which say their number; their ids."""
        return [(await self.say(context, {1: str(number)})).turn_id for number in range(1, count + 1)]

    async def publish(self, fields: dict[str, Any], *, type_id: str = "t", bundle_id: str = "b", **more: Any) -> None:
        """A bundle with one version of one type, through the server."""
        answer = await self.http.put(
            f"/v1/registry/bundles/{bundle_id}", content=bundle(fields, type_id, bundle_id, **more)
        )
        assert answer.status_code == 201, answer.text

    async def get(self, path: str, /, **query: Any) -> Any:
        """The JSON of a path."""
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def page(self, context: Context, **query: Any) -> Any:
        """A page of turns."""
        return await self.get(f"/v1/contexts/{context.context_id}/turns", **query)


def bundle(
    fields: dict[str, Any],
    type_id: str = "t",
    bundle_id: str = "b",
    *,
    version: int = 1,
    enums: dict[str, Any] | None = None,
    renderer: dict[str, Any] | None = None,
) -> bytes:
    """The bytes of a bundle with one version of one type."""
    described: dict[str, Any] = {"fields": fields}
    if renderer is not None:
        described["renderer"] = renderer
    types = {type_id: {"versions": {str(version): described}}}
    return msgspec.json.encode({"registry_version": 1, "bundle_id": bundle_id, "types": types, "enums": enums or {}})


@asynccontextmanager
async def talking(
    profile: Profile = IMPROVED, *, world: World | None = None, store: TurnStore | None = None, **options: Any
) -> AsyncIterator[Talk]:
    """A server of a profile, and a client of it."""
    world = world or World()
    store = store or await world.open_store()
    headers = options.pop("headers", {})
    async with (
        serving_http(store, world.space, clock=world.clock, profile=profile, port=0, **options) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False, headers=headers) as http,
    ):
        yield Talk(http=http, store=store, world=world, port=server.port)


def check_error(answer: httpx.Response, status: int, *, says: str = "") -> None:
    """That an answer is an error of this status, in the form of all errors."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"code", "message"}
    assert error["code"] == status
    assert says in error["message"], error["message"]


def ids(shown: Sequence[dict[str, Any]], name: str = "turn_id") -> list[Any]:
    """The ids of what is shown."""
    return [one[name] for one in shown]
