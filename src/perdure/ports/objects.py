"""What the plane needs of a store of objects: bytes that are found by their content."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from perdure.domain.container import Space
from perdure.domain.object import MEDIA_TYPE_DEFAULT, ObjectPage, ObjectRef


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenObject:
    """An object that is about to be read: what it is, and its bytes, once.

    ``chunks`` gives 1 to ``READ_CHUNK_BYTES_MAX`` bytes at a time, and nothing of an empty object. It raises
    ``DigestMismatch`` instead of giving the last chunk if the bytes do not hash to the address, so that who has all of
    them has the right ones.
    """

    ref: ObjectRef
    chunks: AsyncGenerator[bytes, None] = field(repr=False)


class ObjectStore(Protocol):
    """Objects of one backend, each in one space. Nothing in one space is found from another, or known there.

    An object is kept whole or not at all, and its bytes never change. The same bytes in two spaces are two objects:
    nothing that can be seen of a put says whether somebody else keeps them. What may be asked is checked before
    anything is sent (``perdure.ports.object_rules``); a space of another (mode, env) than the store's is ``Invalid``.

    For a collector of garbage: ``created_at`` is when an object was put last, by the clock of whoever put it or of the
    engine, taken before it could be found. So one that lists all objects, then finds out which are needed, and deletes
    the others with ``put_before`` set to a moment before it began, by more than the longest put and any difference of
    clocks, deletes none that somebody just put.
    """

    async def put(
        self,
        space: Space,
        chunks: AsyncIterable[bytes] | bytes,
        *,
        expected_digest: str | None = None,
        media_type: str = MEDIA_TYPE_DEFAULT,
        timeout_s: float,
    ) -> ObjectRef:
        """Keep these bytes under their address; once it returns they are there, whatever fails next.

        Putting what is there already renews ``created_at`` and ``media_type`` and changes nothing else; and if what was
        kept had been damaged it is whole again. ``MEDIA_TYPE_OF_TURNS`` takes the place of no other one, whoever was
        first: what somebody put is called what they said, whatever turns put (what such a put returns may call it
        theirs). At most ``OBJECT_BYTES_MAX`` bytes (else ``LimitExceeded``), of which
        no more than a few megabytes are held in memory. With ``expected_digest`` other bytes are ``DigestMismatch``.
        Nothing can be found of a put that was refused, that was cancelled half way, or whose chunks end in an error.
        Raises ``TimedOut`` if nothing was sent within ``timeout_s``, else ``OutcomeUnknown``; the same put again is
        safe.
        """
        ...

    async def get(self, space: Space, digest: str, *, timeout_s: float) -> OpenObject:
        """An object to read. Raises ``NotFound`` if it is not there.

        ``timeout_s`` is how long it may take to begin, and then how long each chunk may take; a reader who is slow
        loses nothing. One that is deleted meanwhile is read to its end or is ``NotFound``.
        """
        ...

    async def find(self, space: Space, digest: str, *, timeout_s: float) -> ObjectRef | None:
        """What is known of an object without reading it; None if it is not there."""
        ...

    async def list(self, space: Space, *, after: str | None = None, limit: int, timeout_s: float) -> ObjectPage:
        """Objects in the order of their addresses, strictly after ``after``; at most ``OBJECTS_PAGE_MAX``.

        What is not touched meanwhile comes exactly once over all pages.
        """
        ...

    async def delete(self, space: Space, digest: str, *, put_before: datetime | None = None, timeout_s: float) -> bool:
        """Remove an object; False if it is not there, or was put last at ``put_before`` or after it.

        One that is put meanwhile stays.
        """
        ...

    async def spaces(
        self, tenant: str, *, after: str | None = None, limit: int, timeout_s: float
    ) -> tuple[Sequence[Space], str | None]:
        """Spaces of a tenant in which something was put once, in no order, and the mark of the next page.

        The mark is None at the end. A space stays in the list when its last object is gone.
        """
        ...

    async def sweep(self, *, limit: int, timeout_s: float) -> int:
        """Remove what puts that never ended left behind, up to ``limit`` pieces; returns how many.

        Nothing of it can be found as an object, and nothing of a put that goes on is removed.
        """
        ...

    async def probe(self, *, timeout_s: float) -> None:
        """Ask the engine something small; raises what any request would raise now."""
        ...

    async def close(self) -> None:
        """Let go of what is held. Safe to call twice."""
        ...
