"""What the relay needs of an outbox, and what a deliverer is to the relay."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias
from uuid import UUID

from perdure.domain.records import OutboxEntry
from perdure.domain.run import OutboxStatus
from perdure.errors import PerdureError

Attempted: TypeAlias = Literal["delivered", "failed", "dead"]
Answered: TypeAlias = Literal["delivered", "failed", "dead", "lost"]


class DeliveryFailed(PerdureError):
    """Raised by a deliverer to say how its attempt failed and whether another one can help.

    ``code`` is recorded and stable (``HTTP_503``); the message is recorded too and must hold no secret.
    ``retryable=False`` makes a dead letter at once. ``retry_after_s`` is what the receiver asked for, in seconds. Any
    other exception out of a deliverer is a retryable failure whose code is its type's name. It stands outside the four
    answers of the tree because its reader is the relay, never a caller.
    """

    code = "DELIVERY_FAILED"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retryable: bool = True,
        retry_after_s: float | None = None,
        **detail: object,
    ) -> None:
        super().__init__(message, code=code, retryable=retryable, retry_after_s=retry_after_s, **detail)
        self.retryable = retryable
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One attempt to bring one effect about.

    ``spec`` is what was recorded, so it holds references to secrets and no secret. ``idempotency_key`` is the same at
    every attempt, also after a restart: give it to the receiver. ``attempt`` counts from 1. The attempt is cut off
    after ``deadline_s`` seconds.
    """

    tenant: str
    tenant_id: UUID
    effect_type: str
    spec: Mapping[str, Any] = field(repr=False)
    idempotency_key: str
    attempt: int
    entry_id: UUID
    effect_id: UUID
    run_id: UUID
    correlation_id: UUID
    deadline_s: float


class Deliverer(Protocol):
    """Brings effects of one type about, at least once each; the receiver tells repeats by their idempotency key."""

    async def __call__(self, delivery: Delivery) -> Any:
        """Deliver, and return what is worth recording of the answer: JSON, or None.

        Raises ``DeliveryFailed`` to say how it failed; any other exception is a failure that may be tried again.
        """
        ...


class DeadLetterHook(Protocol):
    """Tells somebody that an effect will not be tried again."""

    async def __call__(self, entry: OutboxEntry) -> None:
        """Called once the dead letter is recorded; what it raises is logged and changes nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DueTenant:
    """A tenant that has something to be done."""

    tenant_id: UUID
    tenant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedEntry:
    """An outbox entry under lease; ``lock_token`` is the fence, ``tenant`` the slug."""

    entry: OutboxEntry
    lock_token: UUID = field(repr=False)
    tenant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an attempt.

    ``failed`` is due again in ``retry_in_s`` seconds, ``dead`` never. ``expired`` says that nobody knows the outcome
    because the lease ran out; it holds only while that is still so.
    """

    entry_id: UUID
    lock_token: UUID = field(repr=False)
    outcome: Attempted
    result: Any = field(default=None, repr=False)
    error: Mapping[str, Any] | None = None
    retry_in_s: float | None = None
    duration_ms: float | None = None
    expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was recorded of an outcome.

    ``lost``: nothing, because the lease was. ``dead`` also for a failure whose run ended meanwhile.
    """

    entry_id: UUID
    outcome: Answered


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxCount:
    """How many entries of one effect type have one status."""

    effect_type: str
    status: OutboxStatus
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStats:
    """The state of the outbox: counts, how many are due now, and since when the oldest of them is (seconds)."""

    at: datetime
    counts: tuple[OutboxCount, ...]
    due: int
    oldest_due_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """Which entries are listed; None does not restrict."""

    tenant_id: UUID | None = None
    status: OutboxStatus | None = None
    effect_type: str | None = None
    run_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedEntry:
    """An entry of any tenant, with the tenant's slug."""

    tenant: str
    entry: OutboxEntry


EntryPosition: TypeAlias = tuple[datetime, UUID, UUID]
"""Where a page of entries ended: when its last entry was created, its tenant's id, its id."""


class OutboxStore(Protocol):
    """The outbox of all tenants as the relay's role sees it. What writes carries one tenant and is one transaction.

    Empty ``effect_types`` means every type.
    """

    async def due_tenants(
        self, *, limit: int, effect_types: Sequence[str], after: UUID | None = None
    ) -> Sequence[DueTenant]:
        """Tenants with an entry that can be claimed now, in the order of their ids from behind ``after``."""
        ...

    async def claim(
        self, tenant: DueTenant, *, worker: str, limit: int, lease_s: float, effect_types: Sequence[str]
    ) -> Sequence[LeasedEntry]:
        """Lease due entries of a tenant, longest due first. Two relays never hold one entry.

        An entry waits for the unfinished entries of its run that were requested before it, unless it is independent.
        """
        ...

    async def extend(self, tenant_id: UUID, leases: Mapping[UUID, UUID], *, lease_s: float) -> set[UUID]:
        """Prolong leases (entry id to lock token) to ``lease_s`` seconds from now; the ids of those still held."""
        ...

    async def finish(self, tenant_id: UUID, outcomes: Sequence[Outcome]) -> Sequence[Answer]:
        """Record outcomes: outbox entry, effect, event and what follows for the run, or ``lost`` and nothing."""
        ...

    async def expired(self, *, limit: int) -> Sequence[LeasedEntry]:
        """Entries whose lease ran out, of any tenant, the longest expired first."""
        ...

    async def overdue_wait_tenants(self, *, limit: int) -> Sequence[DueTenant]:
        """Tenants with an approval that was not decided in time."""
        ...

    async def end_overdue_waits(self, tenant_id: UUID, *, limit: int) -> int:
        """End overdue approvals of a tenant with decision TIMEOUT; how many it ended."""
        ...

    async def find(self, entry_id: UUID, *, tenant_id: UUID | None = None) -> ListedEntry | None:
        """The entry of that id, of any tenant unless one is named."""
        ...

    async def list(self, which: EntryFilter, *, limit: int, after: EntryPosition | None) -> Sequence[ListedEntry]:
        """Entries, newest first, from behind ``after``."""
        ...

    async def requeue(self, tenant_id: UUID, entry_id: UUID, *, actor: str, source: str, reason: str) -> OutboxEntry:
        """Revive a dead letter with a fresh count of attempts. Raises ``NotFound`` and ``IllegalTransition``."""
        ...

    async def prune(self, tenant_id: UUID, *, older_than_s: float, limit: int) -> int:
        """Delete entries delivered that long ago; how many. Everything that is not delivered stays."""
        ...

    async def stats(self, *, tenant_id: UUID | None = None) -> OutboxStats:
        """How many entries there are, by type and status, and how far behind delivery is."""
        ...

    async def tenants(self, *, after: UUID | None = None, limit: int) -> Sequence[DueTenant]:
        """All tenants, in the order of their ids from behind ``after``."""
        ...

    def hints(self) -> AsyncGenerator[None, None]:
        """Something whenever an effect may have been requested; ends at once where nothing announces it.

        A hint may be missing and may be for nothing: what is due is found by asking. Raises ``Refused`` when a pooler
        answers, ``BackendDown`` when the connection ends.
        """
        ...
