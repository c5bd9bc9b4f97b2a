"""What a connection needs of a profile, and what both profiles do in the same way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from perdure.adapters.cxdb.codec.fields import U32
from perdure.adapters.cxdb.codec.requests import AppendTurn, GetBlob, PutBlob, Request
from perdure.adapters.cxdb.codec.responses import Answer, BlobContent, BlobStored, Failure
from perdure.adapters.cxdb.codec.turn_lists import ITEM_BYTES, TurnItem
from perdure.adapters.cxdb.server.payloads import check_blob, turn_content
from perdure.adapters.cxdb.server.settings import ServerSettings
from perdure.domain.container import Space
from perdure.domain.turn import NO_TURN, TURNS_PAGE_MAX, Turn
from perdure.errors import Invalid, LimitExceeded, NotFound, StaleVersion
from perdure.ports.turns import TurnStore

INLINE_CHECK_BYTES_MAX: Final = 262_144  # more is hashed in a thread: a hash of this takes less than a millisecond


class Answering(Protocol):
    """How requests are answered, and what becomes of failures."""

    extensions: bool

    async def answer(self, request: Request, *, session_id: int) -> Answer:
        """The answer. Raises what went wrong."""
        ...

    def failure(self, exc: Exception, request: Request | None) -> Failure | None:
        """What is said of a failure; None: nothing is, and the connection is closed."""
        ...


class Asked:
    """Calls to a store in the space and with the patience of a server."""

    def __init__(self, store: TurnStore, space: Space, settings: ServerSettings) -> None:
        self._store = store
        self._space = space
        self._settings = settings

    async def content(self, turn: AppendTurn) -> bytes:
        """The content of a turn, checked; raises as ``turn_content``."""
        if max(len(turn.payload), turn.uncompressed_len) <= INLINE_CHECK_BYTES_MAX:
            return turn_content(turn)
        return await asyncio.to_thread(turn_content, turn)

    async def put_blob(self, request: PutBlob) -> BlobStored:
        """Keep a blob. It is put even if it is there, because whoever collects garbage goes by the last put."""
        if len(request.content) <= INLINE_CHECK_BYTES_MAX:
            check_blob(request)
        else:
            await asyncio.to_thread(check_blob, request)
        known = await self._find(request.content_hash)
        await self._store.put_blob(self._space, request.content, timeout_s=self._settings.request_s)
        return BlobStored(content_hash=request.content_hash, was_new=known is None)

    async def get_blob(self, request: GetBlob) -> BlobContent:
        """A blob. Raises ``NotFound``."""
        content = await self._find(request.content_hash)
        if content is None:
            digest = request.content_hash.hex()
            raise NotFound(f"there is no object {digest}", resource="blob", id=digest)
        return BlobContent(content=content)

    async def require_root(self, root: bytes) -> None:
        """Raise ``NotFound`` unless the root of a tree of files is a blob."""
        if await self._find(root) is None:
            raise NotFound(f"there is no object {root.hex()}; put it first", resource="object", id=root.hex())

    async def last_turns(
        self, context_id: str, *, limit: int, before: str | None = None, item: Callable[[Turn], TurnItem]
    ) -> tuple[TurnItem, ...]:
        """What ``item`` makes of the newest turns of a context, oldest first, in as many pages as it takes.

        Raises ``LimitExceeded`` if they are more, or larger, than one answer may hold.
        """
        turns_max = self._settings.answer_turns_max
        pages: list[Sequence[TurnItem]] = []
        count, size = 0, U32.size
        while True:
            asked = min(limit, turns_max) - count
            page = await self._page(context_id, before, limit=min(asked, TURNS_PAGE_MAX), first=not pages)
            pages.append([item(turn) for turn in page])
            count += len(page)
            size += sum(ITEM_BYTES + len(one.type_id.encode()) + len(one.payload or b"") for one in pages[-1])
            self._refuse_large(size)
            if not page or count == limit or page[0].parent_turn_id == NO_TURN:
                return tuple(one for items in reversed(pages) for one in items)
            if count == turns_max:
                raise LimitExceeded(
                    f"{limit} turns are more than one answer holds, {turns_max} (answer_turns_max); ask for fewer",
                    limit="answer_turns_max",
                    allowed=turns_max,
                    actual=limit,
                )
            before = page[0].turn_id

    async def _page(self, context_id: str, before: str | None, *, limit: int, first: bool) -> Sequence[Turn]:
        try:
            return await self._store.list(
                self._space, context_id, before_turn_id=before, limit=limit, timeout_s=self._settings.request_s
            )
        except Invalid as exc:
            if first:
                raise
            raise StaleVersion("the head was moved to another chain while this one was read; ask again") from exc

    def _refuse_large(self, size: int) -> None:
        allowed = self._settings.payload_bytes_max
        if size > allowed:
            raise LimitExceeded(
                f"these turns are {size} bytes or more, one answer holds {allowed} (payload_bytes_max); ask for fewer",
                limit="payload_bytes_max",
                allowed=allowed,
                actual=size,
            )

    async def _find(self, digest: bytes) -> bytes | None:
        return await self._store.find_blob(self._space, digest.hex(), timeout_s=self._settings.request_s)
