"""Trying again: the one place that does, with pauses of random length, and never beyond the caller's patience.

A driver says what is known about a failure; this decides what follows from it. What the request itself got wrong
(``Invalid``, ``LimitExceeded``, ``Forbidden``), what is broken (``Corrupt``) and what was not as expected are never
tried again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from perdure.errors import BackendDown, OutcomeUnknown, PerdureError, Throttled, TimedOut
from perdure.ports.capabilities import Capabilities
from perdure.ports.documents import Document, DocumentDriver, ExpectationFailed, Page, Put, Remove, Write
from perdure.ports.environment import Environment
from perdure.ports.patience import Patience, Sleep

BACKOFF_BASE_S: Final = 0.025  # the longest first pause; a conflict or a hiccup is over by then
BACKOFF_S_MAX: Final = 2.0  # the longest pause of all: an engine that comes back is not left waiting
NEW_VERSION_MAX: Final = 2**52  # half of what a version may be: the other half is for counting on

Result = TypeVar("Result")

RETRIED: Final = (Throttled, BackendDown, TimedOut, OutcomeUnknown)


class ResilientDriver:
    """A document driver whose calls are tried again until ``timeout_s`` is over; then the last error is raised.

    A commit whose answer was lost is looked up by its id and sent again under the same id, see ``commit``.
    """

    def __init__(self, driver: DocumentDriver, *, environment: Environment, sleep: Sleep = asyncio.sleep) -> None:
        self._driver = driver
        self._environment = environment
        self._sleep = sleep

    @property
    def capabilities(self) -> Capabilities:
        """Those of the driver."""
        return self._driver.capabilities

    @property
    def environment(self) -> Environment:
        """The time, chance and ids that everything above goes by too."""
        return self._environment

    def patience(self, timeout_s: float) -> Patience:
        """The patience of one caller; everything done for it shares it."""
        return Patience(
            timeout_s,
            environment=self._environment,
            sleep=self._sleep,
            base_s=BACKOFF_BASE_S,
            pause_s_max=BACKOFF_S_MAX,
        )

    def new_commit_id(self) -> str:
        """An id that no commit had."""
        return str(self._environment.ids.new())

    def new_version(self) -> int:
        """A version that no document had: for what is written without reading what was there, or anew.

        A removal at such a version never hits what somebody else wrote since.
        """
        digest = hashlib.sha256(self._environment.ids.new().bytes).digest()
        return int.from_bytes(digest[:8], "big") % NEW_VERSION_MAX

    async def open(self) -> None:
        """Open the driver."""
        await self._driver.open()

    async def close(self) -> None:
        """Close the driver."""
        await self._driver.close()

    async def probe(self, *, timeout_s: float) -> None:
        """Ask once: who probes wants to know how it is, not how it could be."""
        await self._driver.probe(timeout_s=timeout_s)

    async def get(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Mapping[str, Document]:
        """As the driver's ``get``."""

        def get(patience: Patience) -> Awaitable[Mapping[str, Document]]:
            """One attempt."""
            return self._driver.get(partition, sorts, timeout_s=patience.left_s)

        return await self._again(get, timeout_s)

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
        """As the driver's ``scan``."""

        def scan(patience: Patience) -> Awaitable[Page]:
            """One attempt."""
            return self._driver.scan(
                partition, start=start, end=end, limit=limit, reverse=reverse, timeout_s=patience.left_s
            )

        return await self._again(scan, timeout_s)

    async def commit(
        self, partition: str, writes: Sequence[Write], *, timeout_s: float, commit_id: str | None = None
    ) -> Sequence[object]:
        """As the driver's ``commit``, under an id of its own if none is given.

        After an attempt whose outcome is unknown the documents to be put are read. One with our commit id says that all
        of it is done (a commit is atomic), and the tokens are those read. With none, the same commit is sent again
        under the same id. If that one finds something not as expected, there are three cases:

        * A document put carries our commit id: the earlier attempt came through after all, and this is success.
        * Something shows that no attempt came through: a document to be put is there, not from us, with a version that
          is not above ours, or one to be removed at a version is still there at that version. Then
          ``ExpectationFailed`` is the truth. (Who overwrites a document raises its version.)
        * Nothing shows it. Ours may have been written and then overwritten or removed, so it is ``OutcomeUnknown``.
          Commits that only remove end here when what they remove is gone: by us or by another, nobody can say. A
          removal that expects anything (``ANY``) never gets here, because repeating it succeeds.

        Once an attempt was ambiguous, every other failure is ``OutcomeUnknown`` too.
        """
        attempts = _Commit(self._driver, partition, writes, commit_id or self.new_commit_id())
        return await self._again(attempts.attempt, timeout_s, ambiguous=attempts.as_unknown)

    async def _again(
        self,
        attempt: Callable[[Patience], Awaitable[Result]],
        timeout_s: float,
        *,
        ambiguous: Callable[[PerdureError], PerdureError | None] | None = None,
    ) -> Result:
        patience = self.patience(timeout_s)
        while True:
            try:
                return await attempt(patience)
            except PerdureError as exc:
                if not isinstance(exc, RETRIED) or not await _pause_after(exc, patience):
                    unknown = None if ambiguous is None else ambiguous(exc)
                    if unknown is None:
                        raise
                    raise unknown from exc


async def _pause_after(error: PerdureError, patience: Patience) -> bool:
    """Wait as ``pause``, and at least as long as the error asks for."""
    asked_s = error.detail.get("retry_after_s")
    return await patience.pause(at_least_s=float(asked_s) if isinstance(asked_s, int | float) and asked_s > 0 else 0.0)


class _Commit:
    """One commit and what is known about it so far."""

    def __init__(self, driver: DocumentDriver, partition: str, writes: Sequence[Write], commit_id: str) -> None:
        self._driver = driver
        self._partition = partition
        self._writes = writes
        self._commit_id = commit_id
        self._is_ambiguous = False

    async def attempt(self, patience: Patience) -> Sequence[object]:
        """Send it, or find out that it is done already."""
        if self._is_ambiguous and (tokens := self._tokens(await self._look(patience))) is not None:
            return tokens
        try:
            return await self._driver.commit(
                self._partition, self._writes, commit_id=self._commit_id, timeout_s=patience.left_s
            )
        except OutcomeUnknown:
            self._is_ambiguous = True
            raise
        except ExpectationFailed as exc:
            if not self._is_ambiguous:
                raise
            found = await self._look(patience)
            if (tokens := self._tokens(found)) is not None:
                return tokens
            if any(_shows_not_done(write, found.get(write.sort)) for write in self._writes):
                self._is_ambiguous = False
                raise
            raise _Lost(
                "a commit may have been written and written over since: its answer was lost, and what it expected is "
                "gone; read again and decide"
            ) from exc

    def as_unknown(self, error: PerdureError) -> PerdureError | None:
        """What to say instead of this error: that the outcome is unknown, if an attempt was ambiguous."""
        if not self._is_ambiguous or isinstance(error, OutcomeUnknown):
            return None
        if isinstance(error, _Lost):
            return OutcomeUnknown(error.message)
        return OutcomeUnknown(
            f"a commit's answer was lost, and what followed failed ({error.code}); it may be written: read again, or "
            "repeat the same change"
        )

    async def _look(self, patience: Patience) -> Mapping[str, Document]:
        sorts = [write.sort for write in self._writes if isinstance(write, Put | Remove)]
        return await self._driver.get(self._partition, sorts, timeout_s=patience.left_s)

    def _tokens(self, found: Mapping[str, Document]) -> Sequence[object] | None:
        ours = {sort: document for sort, document in found.items() if document.commit_id == self._commit_id}
        if not ours:
            return None
        return [ours[write.sort].token if write.sort in ours else None for write in self._writes]


class _Lost(PerdureError):
    """Nothing can tell any more whether a commit was done; not worth another attempt."""


def _shows_not_done(write: Write, found: Document | None) -> bool:
    if found is None:
        return False
    if isinstance(write, Put):
        return found.version <= write.version
    return isinstance(write, Remove) and write.expect == found.version
