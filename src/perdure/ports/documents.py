"""What a document database must offer so that every kind can be kept on it. Seen by adapters only.

A document is ``(partition, sort) -> version, body, expires_at``. Partitions are independent; inside one, documents are
ordered by the bytes of their sort key, and a commit is atomic. Everything that the kinds promise rests on three
things: a put that succeeds only if nothing is there, a put that succeeds only if nothing moved, and both together in
one commit.

A driver is thin: it neither retries nor guesses. It says exactly what is known about a failure and leaves it to its
caller to try again (``perdure.adapters.documents.resilience``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final, Protocol, TypeAlias

from perdure.errors import PerdureError
from perdure.ports.capabilities import Capabilities

GET_DOCUMENTS_MAX: Final = 100  # what the narrowest engine fetches in one request
SCAN_DOCUMENTS_MAX: Final = 1_000  # a page is held in memory
SCAN_BYTES_MAX: Final = 4 * 1_048_576  # bodies of one page; a page may end earlier than asked, see ``Page.more``
COMMIT_WRITES_MAX: Final = 100  # operations of one commit on the narrowest engine
COMMIT_BYTES_MAX: Final = 1_850_000  # names and bodies of one commit: below the narrowest 2 MB with overhead
DOCUMENT_BYTES_MAX: Final = 380_000  # one body: below the narrowest engine's 400 KB with names and overhead
SORT_CHARS_MAX: Final = 1_000  # below the 1,023 bytes of the narrowest engine; ASCII, so characters are bytes
PARTITION_CHARS_MAX: Final = 1_000  # the same


class Expect(Enum):
    """What a write finds where it writes, besides a version (an int)."""

    ABSENT = "absent"  # nothing is there
    PRESENT = "present"  # something is there, whatever its version
    ANY = "any"  # no matter


Expectation: TypeAlias = Expect | int
"""``Expect``, or the version that the document must have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A stored document.

    ``version`` is ours and set by whoever wrote it. ``commit_id`` names the commit that wrote it, so that a commit
    whose answer was lost can be looked up. ``token`` is the engine's own mark of this state (an etag, an update time),
    opaque, None where the engine needs none; handed back in a write, it makes a compare-and-swap one round trip.
    """

    sort: str
    version: int
    body: bytes
    commit_id: str
    expires_at: datetime | None = None
    token: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Write a document, if ``expect`` holds. ``body`` is JSON in UTF-8. ``token`` comes from the ``Document`` expected.

    ``expires_at`` allows the engine to remove the document some time after that moment, and never before; until it is
    gone, reads return it, and whoever reads judges the time.
    """

    sort: str
    version: int
    body: bytes = field(repr=False)
    expect: Expectation
    expires_at: datetime | None = None
    token: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Remove a document, if ``expect`` holds (``ABSENT`` makes no sense here).

    Removing what is not there is fine with ``ANY`` only.
    """

    sort: str
    expect: Expectation
    token: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Require:
    """Write nothing, but commit only if a document is there. Its version does not matter, and its content stays."""

    sort: str


Write: TypeAlias = Put | Remove | Require


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Documents in order. ``more`` means that the range goes on after the last of them.

    A page with ``more`` is never empty.
    """

    documents: Sequence[Document]
    more: bool


class ExpectationFailed(PerdureError):
    """An expectation of a commit did not hold, so nothing of the commit was written.

    Never leaves the adapters. ``sort`` is the first write known to have failed, None if the engine does not say which,
    and ``found`` what was there, None if nothing was or the engine does not say.
    """

    code = "expectation_failed"

    def __init__(self, message: str, *, sort: str | None = None, found: Document | None = None) -> None:
        super().__init__(message)
        self.sort = sort
        self.found = found


class DocumentDriver(Protocol):
    """A document database.

    Failures are one of: ``Throttled`` (it asked for less; ``retry_after_s`` in the detail if it said), ``BackendDown``
    (nothing answered and nothing was done), ``TimedOut`` (known not to be done), ``OutcomeUnknown`` (a commit that may
    have happened), ``Forbidden`` (credentials), ``Invalid`` or ``LimitExceeded`` (the request is wrong), ``Corrupt``
    (what is stored cannot be right), and ``PersistenceError`` for the rest; each raised from the engine's own error,
    with no secret in it. Whatever goes wrong, no read returns "nothing there" for it.

    ``timeout_s`` is how long the caller can wait, for each call. Partition and sort are ASCII letters, digits and
    ``. ~ -``, beginning with a letter, at most ``PARTITION_CHARS_MAX`` and ``SORT_CHARS_MAX`` characters.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can do; known before ``open``."""
        ...

    async def open(self) -> None:
        """Connect, and make what has to be there (a file, a table in lab) or say how to. Once, before anything else."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of everything. Safe to call twice, and after a failed ``open``."""
        ...

    async def probe(self, *, timeout_s: float) -> None:
        """Ask the engine for a sign of life that reaches the data; raises what a read would raise."""
        ...

    async def get(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Mapping[str, Document]:
        """The documents with these keys that are there, by sort key; at most ``GET_DOCUMENTS_MAX`` keys.

        Every commit that was acknowledged to anybody before is seen (``session`` consistency: to this client).
        """
        ...

    async def scan(
        self,
        partition: str,
        *,
        start: str,
        end: str,
        limit: int,
        reverse: bool = False,
        timeout_s: float,
    ) -> Page:
        """Documents with ``start <= sort < end`` in the order of their bytes, or the other way round (``reverse``).

        At most ``limit`` (up to ``SCAN_DOCUMENTS_MAX``); a page may be shorter where the engine cuts it or its bodies
        reach ``SCAN_BYTES_MAX``, and then says ``more``. The same consistency as ``get``. The engine reads what it
        returns and no more than a constant beside it.
        """
        ...

    async def commit(
        self, partition: str, writes: Sequence[Write], *, commit_id: str, timeout_s: float
    ) -> Sequence[object]:
        """Write all of it or nothing; at most ``COMMIT_WRITES_MAX`` writes, each of another sort key.

        Returns the new token of each write, in order (None for removals, requirements, and engines without tokens).
        ``commit_id`` is kept in every document put, and may be used as the engine's own idempotency token: the same
        commit may be sent again under the same id after ``OutcomeUnknown``.

        Raises ``ExpectationFailed`` when something was not as expected, ``OutcomeUnknown`` when the answer was lost
        after the request may have been sent.
        """
        ...
