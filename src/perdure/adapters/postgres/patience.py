"""Calls of routed stores: tried again while the caller waits, and cut off when the caller no longer does.

The database itself is told how long a lock may be waited for, a little less than the caller waits: then what was not
done is known not to be done. Only a call that is cut off while it runs leaves an unknown outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, LiteralString, TypeVar
from uuid import UUID

from perdure.adapters.postgres.session import Row, Session, Statement
from perdure.errors import BackendDown, Conflict, OutcomeUnknown, PerdureError, Throttled, TimedOut
from perdure.ports.environment import Environment
from perdure.ports.patience import Patience, Sleep

BACKOFF_BASE_S: Final = 0.01  # the longest first pause; a deadlock or a lost race is over by then
BACKOFF_S_MAX: Final = 1.0  # the longest pause of all: a server that comes back is not left waiting
_LOCK_SHARE: Final = 0.9  # of what is left, for waiting for locks: the answer has to arrive as well
_PATIENCE_MS_MAX: Final = 2**31 - 1  # of a setting of the server

Result = TypeVar("Result")


class Deadline(Patience):
    """The patience of one caller, and what the database is told of it."""

    def __init__(self, timeout_s: float, *, environment: Environment, sleep: Sleep) -> None:
        super().__init__(
            timeout_s, environment=environment, sleep=sleep, base_s=BACKOFF_BASE_S, pause_s_max=BACKOFF_S_MAX
        )

    @property
    def patience_ms(self) -> int:
        """What the database is given to wait for locks."""
        return min(max(1, int(self.left_s * _LOCK_SHARE * 1000)), _PATIENCE_MS_MAX)


class Calls:
    """The session of a store, used with patience."""

    def __init__(self, session: Session, *, environment: Environment, sleep: Sleep = asyncio.sleep) -> None:
        self._session = session
        self._environment = environment
        self._sleep = sleep

    def deadline(self, timeout_s: float) -> Deadline:
        """The patience of one caller; everything done for it shares it."""
        return Deadline(timeout_s, environment=self._environment, sleep=self._sleep)

    async def write(self, statement: LiteralString, parameters: Mapping[str, Any], *, deadline: Deadline) -> Any:
        """The only column of the only row of a writing function, which is told ``patience_ms`` beside its parameters.

        Raises ``OutcomeUnknown`` when the answer was lost or did not come in time.
        """

        async def attempt() -> Any:
            """One attempt."""
            sent = False
            try:
                async with (
                    asyncio.timeout(deadline.left_s),
                    self._session.connection(writing=True, timeout_s=deadline.left_s) as connection,
                ):
                    sent = True
                    given = {**parameters, "patience_ms": deadline.patience_ms}
                    cursor = await connection.execute(statement, given)
                    row = await cursor.fetchone()
            except TimeoutError as exc:
                if not sent:
                    raise _timed_out() from exc
                raise OutcomeUnknown(
                    "the database did not answer within timeout_s; the change may be committed. Repeating the same "
                    "change is safe"
                ) from exc
            assert row is not None, "a function call always returns a row"
            return next(iter(row.values()))

        return await _again(attempt, deadline)

    async def read(self, tenant_id: UUID, statements: Sequence[Statement], *, deadline: Deadline) -> list[list[Row]]:
        """The rows of each statement, all of one snapshot of one tenant, in one round trip."""

        async def attempt() -> list[list[Row]]:
            """One attempt."""
            try:
                async with asyncio.timeout(deadline.left_s):
                    return await self._session.snapshot(
                        tenant_id, None, statements, binary=True, timeout_s=deadline.left_s
                    )
            except TimeoutError as exc:
                raise _timed_out() from exc

        return await _again(attempt, deadline)


async def _again(attempt: Callable[[], Awaitable[Result]], deadline: Deadline) -> Result:
    while True:
        try:
            return await attempt()
        except (BackendDown, Throttled) as exc:
            if not await deadline.pause():
                raise
            del exc
        except PerdureError as exc:
            # A conflict without a better name is a transaction that the database ended in favour of another.
            if type(exc) is not Conflict:
                raise
            if not await deadline.pause():
                raise _timed_out() from exc


def _timed_out() -> TimedOut:
    return TimedOut("not done within timeout_s and rolled back; the database or this program is busy")
