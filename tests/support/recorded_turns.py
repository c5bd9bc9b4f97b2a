"""Turns for recorders: a memory backend that outlives its clients, faults between, and all that was kept."""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.core.recorder import Recorder
from perdure.core.recorder_health import RecorderWarning
from perdure.core.recorder_limits import RecorderMode
from perdure.core.turn_store import StoredTurns, TurnParts
from perdure.domain.container import Space, make_space
from perdure.domain.records import Page
from perdure.domain.turn import Context, NewTurn, Turn, TurnRef
from perdure.domain.turn_records.catalog import find_record_type
from perdure.domain.turn_records.codec import decode
from perdure.errors import BackendDown, OutcomeUnknown
from perdure.ports.documents import DocumentDriver
from perdure.ports.environment import Environment
from perdure.ports.turns import TurnStore
from perdure.testing.environment import FakeClock, fake_environment
from tests.contracts.document_stores import no_sleep
from tests.contracts.turn_stores import BlobsInMemory

SPACE: Final = make_space(tenant="t_acme", mode="lab", env="dev", project="default")
TIMEOUT_S: Final = 60.0

_T = TypeVar("_T")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]{16,}")
FaultKind = Literal["down", "lost", "hang", "hang_after", "strange"]


class TurnsOver:
    """What ``Turns`` is to a recorder and a reader, over a store and one space."""

    def __init__(self, store: TurnStore, space: Space = SPACE) -> None:
        self._store = store
        self._space = space

    async def create(self, *, labels: Sequence[str] = (), timeout_s: float | None = None) -> Context:
        """Make a context."""
        return await self._store.create(self._space, labels=tuple(labels), timeout_s=timeout_s or TIMEOUT_S)

    async def fork(self, turn_id: str, *, labels: Sequence[str] = (), timeout_s: float | None = None) -> Context:
        """Fork a context."""
        return await self._store.create(
            self._space, base_turn_id=turn_id, labels=tuple(labels), timeout_s=timeout_s or TIMEOUT_S
        )

    async def append(
        self,
        context_id: str,
        payload: bytes,
        *,
        type_id: str,
        type_version: int = 1,
        idempotency_key: str | None = None,
        timeout_s: float | None = None,
    ) -> TurnRef:
        """Append a turn."""
        turn = NewTurn(type_id=type_id, type_version=type_version, payload=payload, idempotency_key=idempotency_key)
        return await self._store.append(self._space, context_id, turn, timeout_s=timeout_s or TIMEOUT_S)

    async def list(
        self, context_id: str, *, before: str | None = None, limit: int = 64, timeout_s: float | None = None
    ) -> Sequence[Turn]:
        """A page of turns."""
        return await self._store.list(
            self._space, context_id, before_turn_id=before, limit=limit, timeout_s=timeout_s or TIMEOUT_S
        )

    async def contexts(
        self, *, label: str | None = None, cursor: str | None = None, limit: int = 50, timeout_s: float | None = None
    ) -> Page[Context]:
        """A page of contexts."""
        return await self._store.contexts(
            self._space, label=label, cursor=cursor, limit=limit, timeout_s=timeout_s or TIMEOUT_S
        )

    async def publish_bundle(self, bundle_id: str, bundle: bytes, *, timeout_s: float | None = None) -> bool:
        """Publish."""
        return await self._store.publish_bundle(self._space, bundle_id, bundle, timeout_s=timeout_s or TIMEOUT_S)

    async def find_bundle(self, bundle_id: str, *, timeout_s: float | None = None) -> bytes | None:
        """A bundle."""
        return await self._store.find_bundle(self._space, bundle_id, timeout_s=timeout_s or TIMEOUT_S)

    async def put_blob(self, payload: bytes, *, timeout_s: float | None = None) -> str:
        """Keep an object."""
        return await self._store.put_blob(self._space, payload, timeout_s=timeout_s or TIMEOUT_S)

    async def find_blob(self, digest: str) -> bytes | None:
        """An object."""
        return await self._store.find_blob(self._space, digest, timeout_s=TIMEOUT_S)


class Kept:
    """Documents and objects that outlive every client."""

    def __init__(self) -> None:
        self.documents = MemoryStore()
        self.blobs = BlobsInMemory()
        self._clients = 0

    async def client(self, driver: DocumentDriver | None = None) -> TurnsOver:
        """Another client, which remembers nothing of the others."""
        self._clients += 1
        return await turns_on(driver or MemoryDriver(self.documents), self.blobs, space=self._clients)

    def all_bytes(self) -> bytes:
        """Everything that was ever written and is there, as it is and out of the base64 that documents have it in."""
        raw: list[bytes] = list(self.blobs._blobs.values())
        for name, partition in self.documents._partitions.items():
            raw.append(repr((name, sorted(partition.documents))).encode())
            raw += [partition.documents[sort].body for sort in sorted(partition.documents)]
        found = raw
        for _ in range(3):  # an entry of a log in a document, a turn in the entry
            found = [
                b64decode(text[: len(text) // 4 * 4])
                for body in found
                for text in _BASE64.findall(body.replace(b"=", b""))
            ]
            raw = [*raw, *found]
        return b"\n".join(raw)


async def turns_on(driver: DocumentDriver, blobs: BlobsInMemory, *, space: int = 0) -> TurnsOver:
    """Turns over any driver."""
    await driver.open()
    environment = fake_environment(space=space)
    backend = DocumentBackend(driver, mode="lab", env="dev", environment=environment, sleep=no_sleep)
    parts = TurnParts(backend.logs, backend.rows, environment=environment, sleep=no_sleep)
    return TurnsOver(StoredTurns(parts, blobs))


class Untouchable:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"{name} was touched")


class Deadlines:
    """Deadlines that pass when a call hangs, and not before: nobody waits for time."""

    def __init__(self) -> None:
        self.budgets_s: list[float] = []
        self._running: dict[asyncio.Task[Any], asyncio.Timeout] = {}

    def __call__(self, seconds: float) -> AbstractAsyncContextManager[Any]:
        """As ``asyncio.timeout``."""
        self.budgets_s.append(seconds)
        return self._deadline()

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        task = asyncio.current_task()
        assert task is not None
        async with asyncio.timeout(None) as timeout:
            self._running[task] = timeout
            try:
                yield
            finally:
                del self._running[task]

    async def hang(self) -> None:
        """Never end, except by the deadline, which passes now."""
        task = asyncio.current_task()
        assert task is not None
        self._running[task].reschedule(asyncio.get_running_loop().time())
        await asyncio.Event().wait()


class FaultyTurns:
    """Turns of which some operations go wrong, by their number from 1; ``target`` may be replaced at any time."""

    def __init__(
        self,
        target: TurnsOver,
        *,
        faults: Mapping[int, FaultKind] | Callable[[int, str], FaultKind | None] | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.target = target
        self.calls: list[str] = []
        self._faults = faults or {}
        self._deadlines = deadlines or Deadlines()

    async def create(self, *, labels: Sequence[str] = (), timeout_s: float | None = None) -> Context:
        """Make a context, or not."""
        return await self._do("create", lambda: self.target.create(labels=labels, timeout_s=timeout_s))

    async def fork(self, turn_id: str, *, labels: Sequence[str] = (), timeout_s: float | None = None) -> Context:
        """Fork a context, or not."""
        return await self._do("fork", lambda: self.target.fork(turn_id, labels=labels, timeout_s=timeout_s))

    async def append(self, context_id: str, payload: bytes, **rest: Any) -> TurnRef:
        """Append a turn, or not."""
        return await self._do("append", lambda: self.target.append(context_id, payload, **rest))

    async def list(self, context_id: str, **rest: Any) -> Sequence[Turn]:
        """List turns, or not."""
        return await self._do("list", lambda: self.target.list(context_id, **rest), reads=True)

    async def contexts(self, **rest: Any) -> Page[Context]:
        """List contexts, or not."""
        return await self._do("contexts", lambda: self.target.contexts(**rest), reads=True)

    async def publish_bundle(self, bundle_id: str, bundle: bytes, *, timeout_s: float | None = None) -> bool:
        """Publish, or not."""
        return await self._do(
            "publish_bundle", lambda: self.target.publish_bundle(bundle_id, bundle, timeout_s=timeout_s)
        )

    async def find_bundle(self, bundle_id: str, *, timeout_s: float | None = None) -> bytes | None:
        """Find a bundle, or not."""
        return await self._do(
            "find_bundle", lambda: self.target.find_bundle(bundle_id, timeout_s=timeout_s), reads=True
        )

    async def put_blob(self, payload: bytes, *, timeout_s: float | None = None) -> str:
        """Keep an object, or not."""
        return await self._do("put_blob", lambda: self.target.put_blob(payload, timeout_s=timeout_s))

    async def _do(self, name: str, call: Callable[[], Awaitable[_T]], *, reads: bool = False) -> _T:
        self.calls.append(name)
        number = len(self.calls)
        fault = self._faults(number, name) if callable(self._faults) else self._faults.get(number)
        if fault in {"down", "lost"} and (fault == "down" or reads):
            raise BackendDown("down on purpose; try again")
        if fault == "strange":
            raise ZeroDivisionError("sk-strange0123456789012345")
        if fault == "hang":
            await self._deadlines.hang()
        answer = await call()
        if fault == "hang_after":
            await self._deadlines.hang()
        if fault == "lost":
            raise OutcomeUnknown("the answer was lost on purpose; send it again")
        return answer


@dataclass(slots=True, kw_only=True)
class Watched:
    """A recorder and what it said."""

    recorder: Recorder
    warnings: list[RecorderWarning]
    clock: FakeClock
    deadlines: Deadlines


def watched(turns: Any, *, mode: RecorderMode, environment: Environment | None = None, **rest: Any) -> Watched:
    """A recorder whose warnings, clock and deadlines are at hand."""
    warnings: list[RecorderWarning] = []
    environment = environment or fake_environment()
    deadlines: Deadlines = rest.pop("deadlines", None) or Deadlines()
    recorder = Recorder(
        turns, mode=mode, environment=environment, on_warning=warnings.append, deadline=deadlines, **rest
    )
    assert isinstance(environment.clock, FakeClock)
    return Watched(recorder=recorder, warnings=warnings, clock=environment.clock, deadlines=deadlines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record as it is kept."""

    turn: Turn
    values: Mapping[str, Any]

    @property
    def event_kind(self) -> str:
        """What happened."""
        return str(self.values["event_kind"])


async def every_context(turns: TurnsOver) -> list[Context]:
    """All contexts of the space, by number."""
    found: list[Context] = []
    cursor: str | None = None
    while True:
        page = await turns.contexts(cursor=cursor)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return sorted(found, key=lambda context: int(context.context_id))


async def turns_of(turns: TurnsOver, context_id: str, *, own: bool = True) -> list[Turn]:
    """The turns of a context, oldest first; ``own``: without those that it inherited."""
    found: list[Turn] = []
    before: str | None = None
    while page := await turns.list(context_id, before=before, limit=200):
        found = [*page, *found]
        before = page[0].turn_id
    return [turn for turn in found if turn.context_id == context_id or not own]


async def records_of(turns: TurnsOver, context_id: str) -> list[Record]:
    """The records of a context, decoded."""
    found: list[Record] = []
    for turn in await turns_of(turns, context_id):
        record_type = find_record_type(turn.type_id, version=turn.type_version)
        assert record_type is not None
        found.append(Record(turn=turn, values=decode(record_type, turn.payload).values))
    return found


async def everything(turns: TurnsOver) -> dict[str, list[Turn]]:
    """The own turns of every context."""
    return {context.context_id: await turns_of(turns, context.context_id) for context in await every_context(turns)}


def kinds(records: Sequence[Record]) -> Counter[str]:
    """How often each thing happened."""
    return Counter(record.event_kind for record in records)
