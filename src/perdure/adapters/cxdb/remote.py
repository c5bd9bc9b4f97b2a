"""A server as one client sees it: which kind it is, and what it says of contexts and turns, misses included.

Servers of the oldest generation close the connection where later ones answer 404, and all but our own close it for most
of what is not there. The pool tells a server that does that from one that is down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from perdure.adapters.cxdb.codec.requests import (
    AttachFs,
    CreateContext,
    ForkContext,
    GetBefore,
    GetBlob,
    GetHead,
    GetLast,
    PutBlob,
)
from perdure.adapters.cxdb.codec.responses import ContextHead
from perdure.adapters.cxdb.codec.turn_lists import TurnItem
from perdure.adapters.cxdb.failures import Lost, missing, was_lost
from perdure.adapters.cxdb.http import CxdbHttp, Generation
from perdure.adapters.cxdb.pool import Pool
from perdure.domain.object import check_same_digest
from perdure.domain.turn import content_hash
from perdure.errors import Invalid, NotFound, PerdureError, PersistenceError, Refused, Unavailable, Unsupported
from perdure.ports.environment import Clock

_NOBODY: Final = 2**64 - 1  # an id that no server gives


class Deadline:
    """When the patience of one caller ends."""

    __slots__ = ("_clock", "_ends_s")

    def __init__(self, timeout_s: float, *, clock: Clock) -> None:
        self._clock = clock
        self._ends_s = clock.monotonic() + timeout_s

    @property
    def left_s(self) -> float:
        """Seconds left, 0 if none are."""
        return max(0.0, self._ends_s - self._clock.monotonic())


class Remote:
    """One server, over both of its protocols; ``http`` is None where only the binary one is reached."""

    def __init__(self, pool: Pool, http: CxdbHttp | None, *, clock: Clock) -> None:
        self.pool = pool
        self.http = http
        self._clock = clock
        self._generation: Generation | None = None
        self._detecting = asyncio.Lock()

    def deadline(self, timeout_s: float) -> Deadline:
        """When this patience ends."""
        return Deadline(timeout_s, clock=self._clock)

    def require_http(self, what: str) -> CxdbHttp:
        """The HTTP side. Raises ``Unsupported`` if there is none, saying what needs it."""
        if self.http is None:
            raise Unsupported(f"{what} goes over HTTP, and this backend has no http address; configure one")
        return self.http

    async def close(self) -> None:
        """Let go of all connections. Safe to call twice."""
        await self.pool.close()
        if self.http is not None:
            await self.http.close()

    async def generation(self, *, deadline: Deadline) -> Generation:
        """Which kind of server it is: asked once, and of the server itself."""
        if self._generation is None:
            async with self._detecting:
                if self._generation is None:
                    self._generation = await self._detect(deadline)
        return self._generation

    async def is_improved(self, *, deadline: Deadline) -> bool:
        """Whether it is ours: keys are kept, every failure is told, and older turns have a message."""
        return await self.generation(deadline=deadline) == "improved"

    async def head(self, context_id: int, *, deadline: Deadline) -> ContextHead:
        """Where a context stands. Raises ``NotFound``."""
        try:
            return await self.pool.ask(GetHead(context_id=context_id), timeout_s=deadline.left_s)
        except PerdureError as exc:
            if await self._is_absence(exc, closes=("G0",), deadline=deadline):
                raise missing("context", context_id) from exc
            raise

    async def create(self, base: int, *, deadline: Deadline) -> ContextHead:
        """A new context at a turn, 0 for none. Raises ``NotFound`` for a turn that is not there."""
        request = ForkContext(base_turn_id=base) if base else CreateContext()
        try:
            head = await self.pool.ask(request, timeout_s=deadline.left_s)
        except PerdureError as exc:
            if base and await self._is_absence(exc, closes=("G0", "G1"), deadline=deadline):
                raise missing("turn", base) from exc
            raise
        if head.head_turn_id != base:
            raise PersistenceError(
                f"a new context at turn {base} has the head {head.head_turn_id}; is the server sound?"
            )
        return head

    async def last(
        self, context_id: int, *, limit: int, include_payload: bool = True, deadline: Deadline
    ) -> Sequence[TurnItem]:
        """The newest turns of a context, oldest first. Raises ``NotFound``."""
        request = GetLast(context_id=context_id, limit=limit, include_payload=include_payload)
        try:
            return (await self.pool.ask(request, timeout_s=deadline.left_s)).items
        except PerdureError as exc:
            if await self._is_absence(exc, closes=("G0", "G1"), deadline=deadline):
                raise missing("context", context_id) from exc
            raise

    async def before(
        self, context_id: int, *, before_turn_id: int, limit: int, deadline: Deadline
    ) -> Sequence[TurnItem]:
        """Turns before one of the chain, of an improved server. Raises ``NotFound``, ``Invalid`` for another turn."""
        request = GetBefore(context_id=context_id, before_turn_id=before_turn_id, limit=limit)
        try:
            return (await self.pool.ask(request, timeout_s=deadline.left_s)).items
        except NotFound as exc:
            if exc.detail.get("about") == "context":
                raise missing("context", context_id) from exc
            raise Invalid(f"turn {before_turn_id} is not on the chain of context {context_id}") from exc

    async def turn(self, turn_id: int, *, deadline: Deadline) -> TurnItem:
        """One turn, of an improved server. Raises ``NotFound``."""
        request = GetBefore(context_id=0, before_turn_id=turn_id, limit=1)
        try:
            found = await self.pool.ask(request, timeout_s=deadline.left_s)
        except NotFound as exc:
            raise missing("turn", turn_id) from exc
        (item,) = found.items
        return item

    async def blob(self, digest: str, *, deadline: Deadline) -> bytes | None:
        """The bytes of an address, verified, or None."""
        try:
            found = await self.pool.ask(GetBlob(content_hash=bytes.fromhex(digest)), timeout_s=deadline.left_s)
        except PerdureError as exc:
            if await self._is_absence(exc, closes=("G0",), deadline=deadline):
                return None
            raise
        check_same_digest(digest, content_hash(found.content), what="the bytes of an object that was read")
        return found.content

    async def put_blob(self, payload: bytes, *, deadline: Deadline) -> str:
        """Keep bytes; their address."""
        digest = content_hash(payload)
        request = PutBlob(content_hash=bytes.fromhex(digest), content=payload)
        stored = await self.pool.ask(request, timeout_s=deadline.left_s)
        check_same_digest(digest, stored.content_hash.hex(), what="the bytes that the server put")
        return digest

    async def attach(self, turn_id: int, root: str, *, deadline: Deadline) -> None:
        """Attach a tree of files to a turn. Raises ``NotFound`` for a turn or an object that is not there."""
        request = AttachFs(turn_id=turn_id, fs_root_hash=bytes.fromhex(root))
        try:
            await self.pool.ask(request, timeout_s=deadline.left_s)
        except PerdureError as exc:
            if not await self._is_absence(exc, closes=("G0", "G1"), deadline=deadline):
                raise
            # Servers do not say which of the two it is, and looking first would cost every caller.
            if await self.blob(root, deadline=deadline) is None:
                raise missing("object", root) from exc
            raise missing("turn", turn_id) from exc

    async def _is_absence(self, exc: PerdureError, *, closes: tuple[Generation, ...], deadline: Deadline) -> bool:
        if isinstance(exc, NotFound):
            return True
        return was_lost(exc, Lost.CLOSED) and await self.generation(deadline=deadline) in closes

    async def _detect(self, deadline: Deadline) -> Generation:
        try:
            await self.pool.ask(GetBefore(context_id=0, before_turn_id=0, limit=1), timeout_s=deadline.left_s)
        except NotFound as exc:
            if exc.detail.get("about") in {"turn", "before turn"}:
                return "improved"  # it knows the message, and that without a context it asks for a turn
        except Invalid:
            pass  # the message is unknown, as everywhere else
        except Unavailable as exc:
            if not was_lost(exc, Lost.CLOSED):
                raise
        return await self._detect_by_http(deadline) or await self._detect_by_closing(deadline)

    async def _detect_by_http(self, deadline: Deadline) -> Generation | None:
        if self.http is None:
            return None
        try:
            found = await self.http.generation(timeout_s=deadline.left_s)
        except (Refused, Unavailable):
            return None  # the binary side tells as well, at the price of a connection
        return "G1" if found == "improved" else found

    async def _detect_by_closing(self, deadline: Deadline) -> Generation:
        try:
            await self.pool.ask(GetHead(context_id=_NOBODY), timeout_s=deadline.left_s)
        except NotFound:
            return "G1"
        except Unavailable as exc:
            if was_lost(exc, Lost.CLOSED):
                return "G0"
            raise
        return "G1"
