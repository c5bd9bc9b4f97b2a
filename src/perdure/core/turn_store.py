"""Turns over logs and rows: one implementation for every backend that has these two.

A context is a log, a turn an entry of it. The head is the last entry; an append expects the head that it was prepared
for, so that parent and depth are right whoever else appends. Large payloads are objects, kept before the turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

from perdure.core.turn_appending import Appending, TurnAppender
from perdure.core.turn_chain import TurnChain
from perdure.core.turn_contexts import TurnContexts
from perdure.core.turn_entries import StoredTurn
from perdure.core.turn_retention import TurnRetention
from perdure.domain.container import Space
from perdure.domain.object import check_digest
from perdure.domain.records import Page
from perdure.domain.store_audit import StoreAudit
from perdure.domain.turn import (
    BUNDLE_BYTES_MAX,
    BUNDLES_PAGE_MAX,
    CONTEXTS_PAGE_MAX,
    INLINE_BYTES_MAX,
    NO_TURN,
    TURNS_MAX,
    TURNS_PAGE_MAX,
    Context,
    NewTurn,
    Turn,
    TurnRef,
    bundles_container,
    check_bundle,
    check_bundle_id,
    check_labels,
    check_page,
    check_turn,
    content_hash,
    parse_id,
    snapshots_container,
)
from perdure.domain.versioned import NO_ROW, PutRow
from perdure.errors import ChainBroken, KeyReused, LimitExceeded, NotFound, StaleVersion
from perdure.ports.environment import Environment
from perdure.ports.logs import LogStore
from perdure.ports.patience import Patience, Sleep
from perdure.ports.rows import RowStore

PAGE_PAYLOAD_BYTES_MAX: Final = 256 * 1_048_576  # payloads of one page, all in memory at once
FETCHES_AT_ONCE: Final = 8  # payloads of a page that are fetched at the same time
PAUSE_BASE_S: Final = 0.005
PAUSE_S_MAX: Final = 0.5
_POSITION_DIGITS: Final = len(str(TURNS_MAX))
assert BUNDLE_BYTES_MAX <= 262_144, "a bundle is one row"  # noqa: PLR2004 - that is the point


class Blobs(Protocol):
    """Where large payloads, and what callers put, are kept by address."""

    async def put(self, space: Space, payload: bytes, *, timeout_s: float) -> str:
        """Keep bytes; their address."""
        ...

    async def find(self, space: Space, digest: str, *, timeout_s: float) -> bytes | None:
        """The bytes of an address, verified, or None."""
        ...


class TurnParts:
    """What all scopes share that keep turns on one backend: its stores, and what this process knows of heads."""

    def __init__(self, logs: LogStore, rows: RowStore, *, environment: Environment, sleep: Sleep) -> None:
        self.rows = rows
        self.logs = logs
        self.chain = TurnChain(logs)
        self.retention = TurnRetention(rows, self.chain, environment=environment)
        self.contexts = TurnContexts(logs, rows, self.chain, self.retention)
        self.appender = TurnAppender(logs, self.chain, self.contexts, ids=environment.ids)
        self.environment = environment
        self._sleep = sleep

    def patience(self, timeout_s: float) -> Patience:
        """How long a caller waits, and the pauses between its attempts."""
        return Patience(
            timeout_s,
            environment=self.environment,
            sleep=self._sleep,
            base_s=PAUSE_BASE_S,
            pause_s_max=PAUSE_S_MAX,
        )


class StoredTurns:
    """The turns of one backend, as ``perdure.ports.turns.TurnStore``; ``blobs`` are those of one tenant's scope."""

    def __init__(self, parts: TurnParts, blobs: Blobs) -> None:
        self._rows = parts.rows
        self._blobs = blobs
        self._chain = parts.chain
        self._contexts = parts.contexts
        self._appender = parts.appender
        self._patience = parts.patience

    async def create(
        self,
        space: Space,
        *,
        base_turn_id: str | None = None,
        labels: tuple[str, ...] = (),
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> Context:
        """Make a context: its names, then itself."""
        base = parse_id(NO_TURN if base_turn_id is None else base_turn_id, what="a turn's id")
        labels = check_labels(labels)
        patience = self._patience(timeout_s)
        head = await self._contexts.create(space, base=base, labels=labels, audit=audit, patience=patience)
        self._appender.remember(space, head)
        return head.as_context()

    async def append(
        self,
        space: Space,
        context_id: str,
        turn: NewTurn,
        *,
        rebase: bool = False,
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> TurnRef:
        """Append a turn: one commit if this process knows the head, whoever else appends is noticed by it."""
        number = parse_id(context_id, what="a context's id")
        check_turn(turn)
        patience = self._patience(timeout_s)
        if len(turn.payload) > INLINE_BYTES_MAX:
            await self._blobs.put(space, turn.payload, timeout_s=patience.left_s)
        asked = Appending(turn=turn, rebase=rebase, audit=audit)
        return await self._appender.append(space, number, asked, patience=patience)

    async def head(self, space: Space, context_id: str, *, timeout_s: float) -> Context:
        """The context as it is now; one read."""
        number = parse_id(context_id, what="a context's id")
        return (await self._chain.head(space, number, patience=self._patience(timeout_s))).as_context()

    async def get(self, space: Space, turn_id: str, *, timeout_s: float) -> Turn:
        """One turn; one read."""
        patience = self._patience(timeout_s)
        stored = await self._chain.turn(space, parse_id(turn_id, what="a turn's id"), patience=patience)
        async with self._unless_removed(space, stored.place.number, patience=patience):
            return (await self._filled(space, [stored], patience=patience))[0]

    async def list(
        self, space: Space, context_id: str, *, before_turn_id: str | None = None, limit: int, timeout_s: float
    ) -> Sequence[Turn]:
        """A page of the chain, oldest first."""
        number = parse_id(context_id, what="a context's id")
        before = None if before_turn_id is None else parse_id(before_turn_id, what="a turn's id")
        check_page(limit, name="turns_page_max", allowed=TURNS_PAGE_MAX, of="turns")
        patience = self._patience(timeout_s)
        if before is None and limit:
            async with self._unless_removed(space, number, patience=patience):
                newest = await self._chain.newest(space, number, limit=limit, patience=patience)
                return await self._filled(space, newest, patience=patience)
        head = await self._chain.head(space, number, patience=patience)
        if not before or not limit:
            return ()
        start = await self._chain.parent_on_chain(space, head, before, patience=patience)
        async with self._unless_removed(space, number, patience=patience):
            found = await self._chain.before(space, start, limit=limit, patience=patience)
            return await self._filled(space, found, patience=patience)

    async def contexts(
        self, space: Space, *, label: str | None = None, cursor: str | None = None, limit: int, timeout_s: float
    ) -> Page[Context]:
        """Contexts of the space, or of a label."""
        check_page(limit, name="contexts_page_max", allowed=CONTEXTS_PAGE_MAX, of="contexts")
        patience = self._patience(timeout_s)
        if limit == 0:
            return Page(items=(), next_cursor=cursor)
        if label is None:
            return await self._contexts.all(space, cursor=cursor, limit=limit, patience=patience)
        check_labels((label,))
        return await self._contexts.labelled(space, label, cursor=cursor, limit=limit, patience=patience)

    async def publish_bundle(
        self, space: Space, bundle_id: str, bundle: bytes, *, audit: StoreAudit | None = None, timeout_s: float
    ) -> bool:
        """Keep a bundle, if there is none of that id."""
        check_bundle(bundle_id, bundle)
        patience = self._patience(timeout_s)
        write = PutRow(key=bundle_id, value=bundle, expected=NO_ROW)
        try:
            await self._rows.write(bundles_container(space), [write], audit=audit, timeout_s=patience.left_s)
        except StaleVersion as exc:
            kept = await self.find_bundle(space, bundle_id, timeout_s=patience.left_s)
            if kept == bundle:
                return False
            found = "nothing" if kept is None else content_hash(kept)
            raise KeyReused(
                f"bundle {bundle_id} is published with other bytes ({found}, now {content_hash(bundle)}); "
                "give the changed one another id",
                bundle_id=bundle_id,
            ) from exc
        return True

    async def find_bundle(self, space: Space, bundle_id: str, *, timeout_s: float) -> bytes | None:
        """A bundle as it was published."""
        check_bundle_id(bundle_id)
        row = (await self._rows.get(bundles_container(space), [bundle_id], timeout_s=timeout_s)).get(bundle_id)
        return None if row is None else row.value

    async def bundles(self, space: Space, *, after: str | None = None, limit: int, timeout_s: float) -> Page[str]:
        """The ids of bundles, as their rows are ordered."""
        check_page(limit, name="bundles_page_max", allowed=BUNDLES_PAGE_MAX, of="bundles")
        if limit == 0:
            return Page(items=(), next_cursor=after)
        page = await self._rows.query(bundles_container(space), after=after, limit=limit, timeout_s=timeout_s)
        ids = tuple(row.key for row in page.rows)
        return Page(items=ids, next_cursor=ids[-1] if page.more else None)

    async def put_blob(self, space: Space, payload: bytes, *, timeout_s: float) -> str:
        """Keep bytes by their address."""
        return await self._blobs.put(space, payload, timeout_s=timeout_s)

    async def find_blob(self, space: Space, digest: str, *, timeout_s: float) -> bytes | None:
        """The bytes of an address."""
        return await self._blobs.find(space, check_digest(digest), timeout_s=timeout_s)

    async def attach(
        self, space: Space, turn_id: str, root: str, *, audit: StoreAudit | None = None, timeout_s: float
    ) -> None:
        """Say which tree there was at a turn. Raises ``NotFound`` for a turn or an object that is not there."""
        patience = self._patience(timeout_s)
        stored = await self._chain.turn(space, parse_id(turn_id, what="a turn's id"), patience=patience)
        if await self._blobs.find(space, check_digest(root), timeout_s=patience.left_s) is None:
            raise _unknown_object(root)
        key = f"{stored.place.position:0{_POSITION_DIGITS}}"
        container = snapshots_container(space, stored.place.number)
        write = PutRow(key=key, value=f'"{root}"'.encode())
        await self._rows.write(container, [write], audit=audit, timeout_s=patience.left_s)

    async def snapshot(self, space: Space, turn_id: str, *, timeout_s: float) -> str | None:
        """The root that was attached nearest to a turn, on the way to the root of its chain."""
        patience = self._patience(timeout_s)
        number = parse_id(turn_id, what="a turn's id")
        async for run in self._chain.runs(space, number, patience=patience):
            page = await self._rows.query(
                snapshots_container(space, run.number),
                after=f"{run.position + 1:0{_POSITION_DIGITS}}",
                limit=1,
                reverse=True,
                timeout_s=patience.left_s,
            )
            if page.rows and int(page.rows[0].key) >= run.anchor:
                return page.rows[0].value.decode().strip('"')
        return None

    @asynccontextmanager
    async def _unless_removed(self, space: Space, number: int, *, patience: Patience) -> AsyncIterator[None]:
        """Tell what is missing because its context was removed meanwhile (``NotFound``) from what was lost."""
        try:
            yield
        except ChainBroken:
            await self._chain.head(space, number, patience=patience)
            raise

    async def _filled(self, space: Space, found: Sequence[StoredTurn], *, patience: Patience) -> Sequence[Turn]:
        size = sum(stored.payload_bytes for stored in found)
        if size > PAGE_PAYLOAD_BYTES_MAX:
            raise LimitExceeded(
                f"{size} bytes of payload in one page of {len(found)} turns, at most {PAGE_PAYLOAD_BYTES_MAX} "
                "(page_payload_bytes_max); ask for fewer turns",
                limit="page_payload_bytes_max",
                allowed=PAGE_PAYLOAD_BYTES_MAX,
                actual=size,
            )
        gate = asyncio.Semaphore(FETCHES_AT_ONCE)

        async def fill(stored: StoredTurn) -> Turn:
            """The turn with its payload."""
            payload = stored.payload
            if payload is None:
                async with gate:
                    payload = await self._blobs.find(space, stored.digest, timeout_s=patience.left_s)
            if payload is None:
                raise ChainBroken(
                    f"the payload of turn {stored.place.turn_id} is an object that is gone ({stored.digest}); "
                    "restore it from a backup",
                    turn_id=str(stored.place.turn_id),
                    digest=stored.digest,
                )
            return stored.as_turn(payload)

        return tuple(await asyncio.gather(*(fill(stored) for stored in found)))


def _unknown_object(digest: str) -> NotFound:
    return NotFound(f"resource not found: object ({digest})", resource="object", id=digest)
