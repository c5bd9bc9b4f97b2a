"""Committing changes: one transaction, the same outcome however often the same change is sent."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final

from perdure.core.commit_queue import CommitQueue, Result
from perdure.core.effect_hints import EffectHints
from perdure.domain import limits
from perdure.domain.canonical import json_bytes
from perdure.domain.change import Change
from perdure.domain.change_values import refuse_above
from perdure.domain.handles import Run
from perdure.domain.operation import EndRun
from perdure.domain.reconciliation import reconcile, remember, settle
from perdure.domain.rendering import Rendered, event_ids, render_change, render_keys
from perdure.domain.run import RunStatus
from perdure.domain.scope import Scope
from perdure.errors import Conflict, KeyReused, OutcomeUnknown, PerdureError, Unavailable
from perdure.ports.environment import IdSource
from perdure.ports.ledger import JoinedConnection, Ledger

# Each round drops at least one operation that is recorded already, or ends; more rounds than kinds of rows are a bug.
_ROUNDS_MAX: Final = 8
_UNIQUE_VIOLATION: Final = "23505"


class Committer:
    """Commits the changes of one scope."""

    def __init__(self, scope: Scope, *, ledger: Ledger, queue: CommitQueue, hints: EffectHints) -> None:
        self._scope = scope
        self._ledger = ledger
        self._queue = queue
        self._hints = hints

    async def commit(self, change: Change, *, connection: JoinedConnection | None = None) -> None:
        """Commit a change, or find that it was committed before; its references are up to date afterwards.

        A change that was answered with ``OutcomeUnknown`` may be given here again. An empty change does nothing.

        Raises ``Conflict`` (``KeyReused``, ``IllegalTransition``, ``LeaseLost``), ``NotFound``, ``LimitExceeded`` and
        ``Unavailable``; after any of them but ``OutcomeUnknown`` nothing of the change is stored.
        """
        change.hold()
        try:
            await self._commit(change, connection)
        except (OutcomeUnknown, asyncio.CancelledError):
            change.uncertain = True
            raise
        except PerdureError as exc:
            if change.uncertain and isinstance(exc, Unavailable):
                raise OutcomeUnknown(
                    f"this change was sent before and may be committed, and now it cannot be found out: {exc.message}"
                ) from exc
            change.release()
            raise

    async def _commit(self, change: Change, connection: JoinedConnection | None) -> None:
        careful = change.attempted  # an earlier attempt may have committed: look before writing
        for _ in range(_ROUNDS_MAX):
            if not change.operations:
                return
            rendered = render_change(change)
            if (keys := render_keys(change, careful=careful)) is not None:
                rendered["keys"] = keys
            repeated, change.attempted = change.attempted, True
            try:
                result = await self.send(rendered, connection=connection)
            except Conflict as exc:
                if repeated and (_was_asked(change, exc) or await self._was_committed(change, rendered, exc)):
                    remember(change)
                    return
                if careful or not _is_unique_violation(exc):
                    raise
                careful = True
                continue
            if "ok" in result:
                settle(change, result, joined=connection is not None)
                if connection is None and "effects" in rendered:
                    self._hints.flag()
                return
            if reconcile(change, result["recorded"]):
                remember(change)
                return
            careful = True
        raise KeyReused(
            "the keys of this change are recorded by somebody else as fast as it is sent; give up and reload"
        )

    async def send(self, rendered: Rendered, *, connection: JoinedConnection | None = None) -> Result:
        """Send one rendered change: coalesced with others of its tenant, or in the caller's own transaction."""
        encoded = json_bytes(rendered)
        refuse_above("change_bytes_max", limits.CHANGE_BYTES_MAX, len(encoded))
        if connection is None:
            return await self._queue.commit(self._scope, encoded)
        return (await self._ledger.commit(self._scope, [encoded], connection=connection))[0]

    async def _was_committed(self, change: Change, rendered: Rendered, exc: Conflict) -> bool:
        """Whether an earlier attempt, whose answer was lost, did commit."""
        ids = event_ids(rendered)
        if not ids:
            ids = [operation.event_id for operation in change.operations if isinstance(operation, EndRun)]
        if not ids:  # entries of the audit trail alone have no event, but ids of their own
            return _is_unique_violation(exc)
        return await self._ledger.are_recorded(self._scope, ids)


class ChangeBlock:
    """``async with scope.change(run) as change``: leaving the block commits; an exception inside it commits nothing."""

    def __init__(
        self, committer: Committer, scope: Scope, run: Run, *, ids: IdSource, connection: JoinedConnection | None
    ) -> None:
        self._committer = committer
        self._change = Change(scope, run, new_id=ids.new)
        self._connection = connection

    async def __aenter__(self) -> Change:
        """The change to build."""
        return self._change

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit what was built, once."""
        if kind is not None:
            self._change.release()
            return
        await self._committer.commit(self._change, connection=self._connection)


def _was_asked(change: Change, exc: Conflict) -> bool:
    """Whether the change only asks its run to complete, and the run was asked already: that leaves no event."""
    return exc.code == "completion_requested" and all(
        isinstance(operation, EndRun) and operation.status is RunStatus.COMPLETED for operation in change.operations
    )


def _is_unique_violation(exc: Conflict) -> bool:
    detail: dict[str, Any] = exc.detail
    return isinstance(exc, KeyReused) and detail.get("sqlstate") == _UNIQUE_VIOLATION
