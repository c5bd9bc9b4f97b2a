"""Finding the objects that turns put and no turn needs any more.

What is needed is found by looking, not by counting: every turn of every context of the space is read, whatever its
type, and each address of an object in it counts, as 32 bytes or as 64 hex digits, wherever it stands. So do the
addresses in what it refers to, and the trees of files that are attached. So nothing that is needed is missed, and some
that is not needed stays. Whoever puts an object renews its time, and what was put lately is left alone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from datetime import datetime
from typing import Final

from perdure.core.turn_entries import StoredTurn, from_entry, is_closed
from perdure.core.turn_store import TurnParts
from perdure.domain.container import Space
from perdure.domain.log import READ_BYTES_MAX, READ_ENTRIES_MAX, Position
from perdure.domain.object import MEDIA_TYPE_OF_TURNS, OBJECTS_PAGE_MAX, ObjectRef
from perdure.domain.tree import TREE_BYTES_MAX, EntryKind, decode_tree
from perdure.domain.turn import CONTEXTS_PAGE_MAX, context_container, snapshots_container
from perdure.domain.versioned import ROWS_PAGE_MAX
from perdure.errors import Corrupt, LimitExceeded, NotFound
from perdure.ports.logs import PositionLost
from perdure.ports.objects import ObjectStore

COLLECT_OBJECTS_MAX: Final = 250_000  # objects of a space whose addresses are in memory while garbage is looked for
_DIGEST_BYTES: Final = 32
_HEX_CHARS: Final = 64
_ASIDE_BYTES: Final = 65_536  # of which looking through more is left to a thread
_HEX: Final = re.compile(rb"[0-9a-fA-F]{64,}")


class ObjectCollector:
    """Looks for garbage among the objects of one space; its turns are on a backend of their own."""

    def __init__(self, objects: ObjectStore, parts: TurnParts, space: Space, *, timeout_s: float) -> None:
        self._objects = objects
        self._parts = parts
        self._space = space
        self._timeout_s = timeout_s
        self._known: set[bytes] = set()
        self._garbage: dict[bytes, ObjectRef] = {}
        self._looked_into: set[bytes] = set()

    async def garbage(self, *, put_before: datetime) -> tuple[ObjectRef, ...]:
        """Objects that only turns put, all of them before that moment, and that no turn needs; by address.

        Raises ``LimitExceeded`` for more than ``collect_objects_max`` objects, and ``DigestMismatch`` for a damaged one
        that may refer to others: then it is not known what is needed.
        """
        async for ref in self._all():
            digest = bytes.fromhex(ref.digest)
            self._known.add(digest)
            if len(self._known) > COLLECT_OBJECTS_MAX:
                raise LimitExceeded(
                    f"more than {COLLECT_OBJECTS_MAX} objects in this space (collect_objects_max); nothing was removed",
                    limit="collect_objects_max",
                    allowed=COLLECT_OBJECTS_MAX,
                    actual=len(self._known),
                )
            if ref.media_type == MEDIA_TYPE_OF_TURNS and ref.created_at < put_before:
                self._garbage[digest] = ref
        if self._garbage:
            async for number in self._contexts():
                await self._mark_turns(number)
                await self._mark_trees(number)
        return tuple(sorted(self._garbage.values(), key=lambda ref: ref.digest))

    async def _all(self) -> AsyncIterator[ObjectRef]:
        after: str | None = None
        while True:
            page = await self._objects.list(self._space, after=after, limit=OBJECTS_PAGE_MAX, timeout_s=self._timeout_s)
            for ref in page.objects:
                yield ref
            if not page.more:
                return
            after = page.objects[-1].digest

    async def _contexts(self) -> AsyncIterator[int]:
        cursor: str | None = None
        while True:
            patience = self._parts.patience(self._timeout_s)
            numbers, cursor = await self._parts.contexts.page(
                self._space, cursor=cursor, limit=CONTEXTS_PAGE_MAX, patience=patience
            )
            for number in numbers:
                yield number
            if cursor is None:
                return

    async def _mark_turns(self, number: int) -> None:
        """What the turns of a context need; also those in no chain any more, which can be read by their ids."""
        container = context_container(self._space, number)
        after: Position | None = None
        while True:
            try:
                page = await self._parts.logs.read(
                    container,
                    after=after,
                    limit=READ_ENTRIES_MAX,
                    bytes_max=READ_BYTES_MAX,
                    timeout_s=self._timeout_s,
                )
            except PositionLost:
                return  # removed meanwhile
            if page is None:
                return
            for entry in page.entries:
                if not is_closed(entry):
                    await self._mark_turn(from_entry(number, entry))
            if not page.entries or not page.more:
                return
            after = Position(epoch=page.head.epoch, sequence=page.entries[-1].sequence)

    async def _mark_turn(self, stored: StoredTurn) -> None:
        if stored.payload is None:
            await self._mark([bytes.fromhex(stored.digest)])
        else:
            await self._mark(await self._addresses(stored.payload))

    async def _mark_trees(self, number: int) -> None:
        after: str | None = None
        while True:
            page = await self._parts.rows.query(
                snapshots_container(self._space, number), after=after, limit=ROWS_PAGE_MAX, timeout_s=self._timeout_s
            )
            for row in page.rows:
                await self._mark(await self._addresses(row.value))
            if not page.more:
                return
            after = page.rows[-1].key

    async def _mark(self, digests: Iterable[bytes]) -> None:
        """Objects are needed, and so is what they refer to."""
        waiting = [digest for digest in digests if digest in self._known]
        while waiting:
            digest = waiting.pop()
            self._garbage.pop(digest, None)
            if digest not in self._looked_into:
                self._looked_into.add(digest)
                waiting += [found async for found in self._references(digest) if found not in self._looked_into]

    async def _references(self, digest: bytes) -> AsyncIterator[bytes]:
        try:
            opened = await self._objects.get(self._space, digest.hex(), timeout_s=self._timeout_s)
            async with aclosing(opened.chunks) as chunks:
                if opened.ref.size_bytes <= TREE_BYTES_MAX:
                    for found in await self._inside(b"".join([chunk async for chunk in chunks])):
                        yield found
                    return
                rest = b""
                async for chunk in chunks:
                    for found in await self._addresses(rest + chunk):
                        yield found
                    rest = (rest + chunk)[-(_HEX_CHARS - 1) :]
        except NotFound:
            return  # somebody deleted it, whoever refers to it

    async def _inside(self, content: bytes) -> Collection[bytes]:
        """The addresses in an object. The files of a tree are needed, and what is in them refers to nothing."""
        try:
            entries = decode_tree(content)
        except (Corrupt, LimitExceeded):
            return await self._addresses(content)
        for entry in entries:
            if entry.kind is not EntryKind.DIRECTORY:
                self._garbage.pop(entry.hash, None)
        return [entry.hash for entry in entries if entry.kind is EntryKind.DIRECTORY and entry.hash in self._known]

    async def _addresses(self, content: bytes) -> Collection[bytes]:
        if len(content) <= _ASIDE_BYTES:
            return set(addresses(content, among=self._known))
        return await asyncio.to_thread(lambda: set(addresses(content, among=self._known)))


def addresses(content: bytes, *, among: AbstractSet[bytes]) -> Iterator[bytes]:
    """Those of the addresses that stand anywhere in bytes, as they are or as hex digits."""
    for start in range(len(content) - _DIGEST_BYTES + 1):
        if (found := content[start : start + _DIGEST_BYTES]) in among:
            yield found
    for run in _HEX.finditer(content):
        digits = run.group()
        for start in range(len(digits) - _HEX_CHARS + 1):
            if (found := bytes.fromhex(digits[start : start + _HEX_CHARS].decode())) in among:
                yield found
