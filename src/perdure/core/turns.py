"""Turns of one tenant's scope: contexts that fork, turns that never change, bundles that say what is in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final
from uuid import UUID

from perdure.core.list_marks import decode_mark, encode_mark
from perdure.core.objects import ObjectBlobs, Objects
from perdure.core.stores import Call, Stores
from perdure.core.turn_backends import TurnBackends
from perdure.core.turn_holding import RetentionCalls, audits, hold, holds, purged, release_hold
from perdure.core.turn_store import StoredTurns
from perdure.domain.container import Container
from perdure.domain.kinds import Kind
from perdure.domain.records import Page
from perdure.domain.retention import Hold, PurgedContext
from perdure.domain.scope import Scope
from perdure.domain.store_audit import AUDITS_PAGE_DEFAULT, StoreAudit
from perdure.domain.turn import (
    NO_TURN,
    TURNS_PAGE_MAX,
    Context,
    NewTurn,
    Turn,
    TurnRef,
    bundles_container,
    context_container,
    parse_id,
    split_turn_id,
)
from perdure.errors import Invalid, LimitExceeded
from perdure.ports.backend import Backend
from perdure.ports.turns import TurnStore

PAGE_TURNS_DEFAULT: Final = 64
PAGE_CONTEXTS_DEFAULT: Final = 50


class Turns:
    """Conversation history: contexts are movable heads onto a graph of turns, and forking one costs one record.

    Ids are decimal numbers in text, ``"0"`` means no turn. A turn never changes; its ``content_hash`` is verified
    whenever it is read.
    """

    def __init__(self, scope: Scope, *, stores: Stores, backends: TurnBackends, objects: Objects) -> None:
        self._scope = scope
        self._stores = stores
        self._backends = backends
        self._blobs = ObjectBlobs(objects, scope, stores=stores)
        self._calls = RetentionCalls(scope, stores=stores, backends=backends, blobs=self._blobs)

    async def create(self, *, labels: Sequence[str] = (), timeout_s: float | None = None) -> Context:
        """Make a context without turns. By its labels (at most 16) it can be found.

        Raises ``Invalid``, ``LimitExceeded``, ``NoRoute``, ``Unavailable``; after ``OutcomeUnknown`` there may be an
        empty context that nobody uses.
        """
        return await self._create(None, labels, "create", timeout_s)

    async def fork(self, turn_id: str, *, labels: Sequence[str] = (), timeout_s: float | None = None) -> Context:
        """Make a context whose history is that of a turn; what is appended to either is not seen in the other.

        It costs the same however long the history is. Raises ``NotFound``.
        """
        return await self._create(turn_id, labels, "fork", timeout_s)

    async def append(
        self,
        context_id: str,
        payload: bytes,
        *,
        type_id: str,
        type_version: int = 1,
        idempotency_key: str | None = None,
        parent_turn_id: str | None = None,
        rebase: bool = False,
        timeout_s: float | None = None,
    ) -> TurnRef:
        """Append a turn to a context, and move its head there.

        With an ``idempotency_key`` the same call again, from any process and at any time, gives the first turn
        (``replayed``) and changes nothing; with another type, version, payload or explicit parent it is ``KeyReused``.
        The parent is the head at the moment of the commit; another turn of the chain may be named, and with ``rebase``
        any turn of this scope. Payloads above ``inline_bytes_max`` (64 KiB) are kept as objects, before the turn: one
        whose turn is refused then is left to ``acme.objects.collect``.

        Raises ``NotFound``, ``Invalid`` (a parent that is not on the chain), ``LimitExceeded``, ``KeyReused``,
        ``NoRoute``, ``Unavailable``; after ``OutcomeUnknown`` the same call again is safe if it has a key.
        """
        turn = NewTurn(
            type_id=type_id,
            type_version=type_version,
            payload=payload,
            idempotency_key=idempotency_key,
            parent_turn_id=parent_turn_id,
        )
        container = context_container(self._scope.space, parse_id(context_id, what="a context's id"))
        async with self._writing(container, "append", timeout_s) as (call, store):
            return await store.append(
                self._scope.space, context_id, turn, rebase=rebase, audit=call.audit, timeout_s=call.timeout_s
            )

    async def head(self, context_id: str, *, timeout_s: float | None = None) -> Context:
        """A context as it is now. Raises ``NotFound``."""
        async with self._reading(timeout_s) as (call, store):
            return await store.head(self._scope.space, context_id, timeout_s=call.timeout_s)

    async def get(self, turn_id: str, *, timeout_s: float | None = None) -> Turn:
        """One turn, verified. Raises ``NotFound``, ``DigestMismatch``."""
        async with self._reading(timeout_s) as (call, store):
            return await store.get(self._scope.space, turn_id, timeout_s=call.timeout_s)

    async def list(
        self,
        context_id: str,
        *,
        before: str | None = None,
        limit: int = PAGE_TURNS_DEFAULT,
        timeout_s: float | None = None,
    ) -> Sequence[Turn]:
        """The newest ``limit`` (at most 500) turns of a context that are older than ``before``, oldest first.

        A fork lists what it inherited too. The first turn of a page is the cursor for the page before it; nothing comes
        before the oldest. Raises ``NotFound``, and ``Invalid`` for a cursor that is not in the context's chain.
        """
        async with self._reading(timeout_s) as (call, store):
            return await store.list(
                self._scope.space, context_id, before_turn_id=before, limit=limit, timeout_s=call.timeout_s
            )

    async def iterate(self, context_id: str, *, page: int = PAGE_TURNS_DEFAULT) -> AsyncIterator[Turn]:
        """Every turn of a context's chain, newest first, read page by page.

        A page is made smaller where its payloads would be too many to be in memory at once.
        """
        if page < 1:
            raise Invalid(f"pages of {page} turns; at least 1 is expected")
        before: str | None = None
        while found := await page_that_fits(self, context_id, before=before, limit=min(page, TURNS_PAGE_MAX)):
            for turn in reversed(found):
                yield turn
            before = found[0].turn_id
            if found[0].parent_turn_id == NO_TURN:
                return

    async def contexts(
        self,
        *,
        label: str | None = None,
        cursor: str | None = None,
        limit: int = PAGE_CONTEXTS_DEFAULT,
        timeout_s: float | None = None,
    ) -> Page[Context]:
        """Contexts of this scope, or those with a label; at most 100 a page."""
        async with self._reading(timeout_s) as (call, store):
            page = await store.contexts(
                self._scope.space,
                label=label,
                cursor=decode_mark(call, cursor),
                limit=limit,
                timeout_s=call.timeout_s,
            )
            return Page(items=page.items, next_cursor=encode_mark(call, page.next_cursor))

    async def publish_bundle(self, bundle_id: str, bundle: bytes, *, timeout_s: float | None = None) -> bool:
        """Keep a registry bundle, byte for byte; False if it is there. Other bytes under its id are ``KeyReused``."""
        container = bundles_container(self._scope.space)
        async with self._writing(container, "publish_bundle", timeout_s) as (call, store):
            return await store.publish_bundle(
                self._scope.space, bundle_id, bundle, audit=call.audit, timeout_s=call.timeout_s
            )

    async def find_bundle(self, bundle_id: str, *, timeout_s: float | None = None) -> bytes | None:
        """A registry bundle as it was published, or None."""
        async with self._reading(timeout_s) as (call, store):
            return await store.find_bundle(self._scope.space, bundle_id, timeout_s=call.timeout_s)

    async def bundles(
        self, *, after: str | None = None, limit: int = PAGE_CONTEXTS_DEFAULT, timeout_s: float | None = None
    ) -> Page[str]:
        """Ids of the bundles that were published, in order, beginning after one of them."""
        async with self._reading(timeout_s) as (call, store):
            return await store.bundles(self._scope.space, after=after, limit=limit, timeout_s=call.timeout_s)

    async def put_blob(self, payload: bytes, *, timeout_s: float | None = None) -> str:
        """Keep bytes beside the turns of this scope; their address, as the ``content_hash`` of such a payload."""
        container = Container(kind=Kind.TURNS, space=self._scope.space, name=("blobs",))
        async with self._writing(container, "put_blob", timeout_s) as (call, store):
            return await store.put_blob(self._scope.space, payload, timeout_s=call.timeout_s)

    async def find_blob(self, digest: str, *, timeout_s: float | None = None) -> bytes | None:
        """The bytes of an address, verified, or None."""
        async with self._reading(timeout_s) as (call, store):
            return await store.find_blob(self._scope.space, digest, timeout_s=call.timeout_s)

    async def attach(self, turn_id: str, root: str, *, timeout_s: float | None = None) -> None:
        """Say which tree of files there was at a turn; the last one said is true. Raises ``NotFound``."""
        number, _ = split_turn_id(parse_id(turn_id, what="a turn's id"))
        container = context_container(self._scope.space, number)
        async with self._writing(container, "attach", timeout_s) as (call, store):
            await store.attach(self._scope.space, turn_id, root, audit=call.audit, timeout_s=call.timeout_s)

    async def snapshot(self, turn_id: str, *, timeout_s: float | None = None) -> str | None:
        """The root of the tree of files at a turn: its own, or that of its nearest ancestor; None if there is none."""
        async with self._reading(timeout_s) as (call, store):
            return await store.snapshot(self._scope.space, turn_id, timeout_s=call.timeout_s)

    async def purge(
        self, *, before: datetime | None = None, dry_run: bool = False, timeout_s: float | None = None
    ) -> AsyncIterator[PurgedContext]:
        """Remove the contexts whose first record says that they have ended; each of them, and what became of it.

        A context that is held, or that a context goes on from which is kept, stays and is told with its reason; one
        that says nothing about its end is none of these. ``before`` leaves those alone that ended after that moment.
        With ``dry_run`` the same is told and nothing is written. Interrupted, the next purge ends what was begun.
        ``timeout_s`` is for each context. Raises ``Unsupported`` where turns cannot be removed.
        """
        async for one in purged(self._calls, before=before, dry_run=dry_run, timeout_s=timeout_s):
            yield one

    async def hold(
        self,
        context_id: str | None = None,
        *,
        retention_class: str | None = None,
        reason: str,
        timeout_s: float | None = None,
    ) -> Hold:
        """Keep a context, or all of a retention class, and what it needs from being purged until the hold is lifted.

        Who placed it, when and why is kept. Once this returns nothing of it is removed. Raises ``NotFound`` for a
        context that is not there, or is being removed; after ``TimedOut`` the hold stands, and the same call again
        finds out whether it came in time.
        """
        return await hold(self._calls, context_id, retention_class=retention_class, reason=reason, timeout_s=timeout_s)

    async def release_hold(
        self,
        context_id: str | None = None,
        *,
        retention_class: str | None = None,
        reason: str,
        timeout_s: float | None = None,
    ) -> bool:
        """Lift a hold; False if none stands. Who did, when and why is kept beside it."""
        return await release_hold(
            self._calls, context_id, retention_class=retention_class, reason=reason, timeout_s=timeout_s
        )

    async def holds(
        self, *, cursor: str | None = None, limit: int = PAGE_CONTEXTS_DEFAULT, timeout_s: float | None = None
    ) -> Page[Hold]:
        """Holds that stand, and those that were lifted; at most 500 a page."""
        return await holds(self._calls, cursor=cursor, limit=limit, timeout_s=timeout_s)

    async def audits(
        self, context_id: str | None = None, *, after: UUID | None = None, limit: int = AUDITS_PAGE_DEFAULT
    ) -> Sequence[StoreAudit]:
        """Records of writes to a context whose route keeps them (``audit="writes"``), oldest first.

        Without a context those of holds, and of contexts that were purged: the others went with their context.
        """
        return await audits(self._calls, context_id, after=after, limit=limit)

    async def _create(
        self, base: str | None, labels: Sequence[str], operation: str, timeout_s: float | None
    ) -> Context:
        container = Container(kind=Kind.TURNS, space=self._scope.space, name=("context",))
        async with self._writing(container, operation, timeout_s) as (call, store):
            return await store.create(
                self._scope.space,
                base_turn_id=base,
                labels=tuple(labels),
                audit=call.audit,
                timeout_s=call.timeout_s,
            )

    @asynccontextmanager
    async def _reading(self, timeout_s: float | None) -> AsyncIterator[tuple[Call, TurnStore]]:
        async with self._stores.reading(self._scope, Kind.TURNS, timeout_s=timeout_s) as call:
            yield call, self._store(call.backend)

    @asynccontextmanager
    async def _writing(
        self, container: Container, operation: str, timeout_s: float | None
    ) -> AsyncIterator[tuple[Call, TurnStore]]:
        async with self._stores.writing(self._scope, container, operation, timeout_s=timeout_s) as call:
            yield call, self._store(call.backend)

    def _store(self, backend: Backend) -> TurnStore:
        return backend.turns or StoredTurns(self._backends.parts(backend), self._blobs)


async def page_that_fits(turns: Turns, context_id: str, *, before: str | None, limit: int) -> Sequence[Turn]:
    """As ``list``, and fewer turns where the payloads of so many are too large for a page; one at least, if any."""
    while True:
        try:
            return await turns.list(context_id, before=before, limit=limit)
        except LimitExceeded as exc:
            if limit == 1 or exc.detail.get("limit") != "page_payload_bytes_max":
                raise
            limit //= 2
