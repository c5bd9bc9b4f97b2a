"""What the plane needs of a store of turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from perdure.domain.container import Space
from perdure.domain.records import Page
from perdure.domain.store_audit import StoreAudit
from perdure.domain.turn import Context, NewTurn, Turn, TurnRef


class TurnStore(Protocol):
    """Contexts, turns, bundles and snapshots of one backend; everything belongs to one space.

    Ids are unsigned integers of 64 bits in decimal digits, anything else is ``Invalid``; ``"0"`` means no turn. What
    is not there, or is another space's, is ``NotFound`` with ``resource`` and ``id`` in the detail. After a call that
    failed with anything but ``OutcomeUnknown`` nothing is changed. ``timeout_s`` is the caller's patience. ``audit`` is
    kept in the same commit.
    """

    async def create(
        self,
        space: Space,
        *,
        base_turn_id: str | None = None,
        labels: tuple[str, ...] = (),
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> Context:
        """Make a context at the empty root (None or ``"0"``) or at an existing turn; no depth changes what it costs."""
        ...

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
        """Append a turn and move the head to it.

        A key that the context has already gives the first turn (``replayed``) and changes nothing; with other content
        (type, version, payload, explicit parent) it is ``KeyReused``. The parent is the head at the moment of the
        commit, or an explicit turn of this context's chain, else ``Invalid``; with ``rebase`` any turn of the space.
        """
        ...

    async def head(self, space: Space, context_id: str, *, timeout_s: float) -> Context:
        """The context as it is now."""
        ...

    async def get(self, space: Space, turn_id: str, *, timeout_s: float) -> Turn:
        """One turn."""
        ...

    async def list(
        self, space: Space, context_id: str, *, before_turn_id: str | None = None, limit: int, timeout_s: float
    ) -> Sequence[Turn]:
        """The newest ``limit`` turns of the chain that are older than ``before_turn_id``, oldest first.

        ``"0"`` as cursor gives nothing. A cursor that is not on the chain is ``Invalid``. Costs one read a page and one
        for each fork crossed, however long the conversation is.
        """
        ...

    async def contexts(
        self, space: Space, *, label: str | None = None, cursor: str | None = None, limit: int, timeout_s: float
    ) -> Page[Context]:
        """Contexts of a space, or those of a label in the order in which they were made."""
        ...

    async def publish_bundle(
        self, space: Space, bundle_id: str, bundle: bytes, *, audit: StoreAudit | None = None, timeout_s: float
    ) -> bool:
        """Keep a registry bundle, byte for byte; False if these bytes are there. Other bytes are ``KeyReused``."""
        ...

    async def find_bundle(self, space: Space, bundle_id: str, *, timeout_s: float) -> bytes | None:
        """A bundle as it was published, or None."""
        ...

    async def bundles(self, space: Space, *, after: str | None = None, limit: int, timeout_s: float) -> Page[str]:
        """The ids of bundles, in the order of their characters, strictly after ``after``; the cursor is such an id."""
        ...

    async def put_blob(self, space: Space, payload: bytes, *, timeout_s: float) -> str:
        """Keep bytes under their BLAKE3-256 address; again is fine."""
        ...

    async def find_blob(self, space: Space, digest: str, *, timeout_s: float) -> bytes | None:
        """The bytes of an address, verified, or None."""
        ...

    async def attach(
        self, space: Space, turn_id: str, root: str, *, audit: StoreAudit | None = None, timeout_s: float
    ) -> None:
        """Say which tree of files there was at a turn; the last one said is true. The root must be an object."""
        ...

    async def snapshot(self, space: Space, turn_id: str, *, timeout_s: float) -> str | None:
        """The root attached to a turn, or to its nearest ancestor; None if there is none on its chain."""
        ...
