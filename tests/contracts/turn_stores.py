"""How a test file opens turns for their contract: over the logs and rows of the backend that it opens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

import pytest

from perdure.adapters.objectstore.opening import memory
from perdure.core.environment import system_environment
from perdure.core.objects import StoreBlobs
from perdure.core.turn_store import Blobs, StoredTurns, TurnParts
from perdure.domain.container import Container, Space
from perdure.domain.store_audit import StoreAudit
from perdure.ports.backend import Backend
from perdure.ports.turns import TurnStore
from perdure.testing.contracts.stores import TIMEOUT_S
from perdure.testing.contracts.turns_opening import LOOKS_MAX, Talk
from perdure.testing.watched import WatchedBackend
from tests.contracts.document_stores import no_sleep


class BlobsInMemory(StoreBlobs):
    """Objects in this process, and what was put, for tests that look at every byte."""

    def __init__(self) -> None:
        super().__init__(memory(mode="lab", env="dev", environment=system_environment()))
        self._blobs: dict[tuple[Space, str], bytes] = {}

    async def put(self, space: Space, payload: bytes, *, timeout_s: float) -> str:
        """Keep bytes."""
        digest = await super().put(space, payload, timeout_s=timeout_s)
        self._blobs[space, digest] = payload
        return digest

    async def find(self, space: Space, digest: str, *, timeout_s: float) -> bytes | None:
        """The bytes, unless a test has forgotten them."""
        return await super().find(space, digest, timeout_s=timeout_s) if (space, digest) in self._blobs else None


class TurnsOnBackend:
    """What ``TurnsContract`` asks for, over any backend; the clients of one test share their objects."""

    removes_contexts: bool = True
    calls: list[str]
    looks_max: int

    @abstractmethod
    async def open_backend(self) -> Backend:
        """Another client of the same data."""

    @pytest.fixture(autouse=True)
    async def _opened(self) -> AsyncIterator[None]:
        self._backends: list[Backend] = []
        self._blobs = BlobsInMemory()
        self._parts: dict[int, TurnParts] = {}
        yield
        for backend in reversed(self._backends):
            await backend.close()

    async def open_turns(self) -> TurnStore:
        """Turns over another client, with its calls in view."""
        backend = await self.open_backend()
        self._backends.append(backend)
        if backend.capabilities.consistency != "strong":
            self.looks_max = LOOKS_MAX
            self.removes_contexts = False
        watched = WatchedBackend(backend)
        watched.calls = self.calls
        parts = TurnParts(watched.logs, watched.rows, environment=system_environment(), sleep=no_sleep)
        store = StoredTurns(parts, self._blobs)
        self._parts[id(store)] = parts
        return store

    def turn_parts(self, talk: Talk) -> TurnParts:
        """What a client's turns stand on."""
        return self._parts[id(talk.store)]

    def turn_blobs(self) -> Blobs:
        """Where the clients' large payloads are."""
        return self._blobs

    async def audits(self, container: Container) -> Sequence[StoreAudit]:
        """What was kept with the commits to a log, or to rows."""
        (backend, *_) = self._backends
        store = backend.logs if container.name[0] == "context" else backend.rows
        return await store.audits(container, limit=10, timeout_s=TIMEOUT_S)


class TurnsInMemory(TurnsOnBackend):
    """Where nothing is far away, conversations are as long as they come."""

    deep: ClassVar[int] = 1_000


class TurnsOnEmulator(TurnsOnBackend):
    """Where an emulator takes its time for each of them, conversations are shorter; ``make soak`` has the long ones."""

    deep: ClassVar[int] = 100


class TurnsAtLength(TurnsOnBackend):
    """Conversations as long on an emulator as elsewhere."""

    deep: ClassVar[int] = 300
