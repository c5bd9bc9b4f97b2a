"""Signals: what came in from outside, kept before anything is done with it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from perdure.core.changes import Committer
from perdure.core.listing import SignalLists
from perdure.domain.intake import SignalDraft, draft_signal, render_signal
from perdure.domain.records import Signal
from perdure.domain.run import SignalType
from perdure.domain.scope import Scope
from perdure.errors import KeyReused
from perdure.ports.environment import Environment
from perdure.ports.ledger_reads import LedgerReader


class Signals(SignalLists):
    """The signals of one tenant."""

    def __init__(self, scope: Scope, *, committer: Committer, reader: LedgerReader, environment: Environment) -> None:
        super().__init__(reader, scope)
        self._committer = committer
        self._environment = environment

    async def ingest(
        self,
        channel: str,
        source_id: str,
        payload: Mapping[str, Any],
        *,
        signal_type: SignalType | str | None = None,
        received_at: datetime | None = None,
    ) -> Signal:
        """Keep a signal durably, before any run exists: when this returns, a webhook may answer.

        ``source_id`` is the sender's own id: the same one again gives the kept signal, with another body it raises
        ``KeyReused``. A declared ``signal_type`` is validated, and a payload that does not fit it is kept as FAILED,
        with its reasons in the event. ``received_at`` is when the sender sent it (default: now).
        """
        draft = draft_signal(
            channel,
            source_id,
            payload,
            signal_type=signal_type,
            received_at=received_at if received_at is not None else self._environment.clock.now(),
            new_id=self._environment.ids.new,
        )
        rendered = render_signal(self._scope, draft, new_id=self._environment.ids.new)
        result = await self._committer.send(rendered)
        if "recorded" in result:
            return same_signal(draft, result["recorded"]["signal"])
        return await self.get(draft.id)

    async def get(self, signal_id: UUID) -> Signal:
        """The signal with that id. Raises ``NotFound``."""
        return await self._reader.get_signal(self._scope, signal_id)

    async def find(self, channel: str, source_id: str) -> Signal | None:
        """The signal that a channel sent under ``source_id``, or None."""
        return await self._reader.find_signal(self._scope, channel, source_id)


def same_signal(draft: SignalDraft, row: Mapping[str, Any]) -> Signal:
    """The recorded signal, if its body is that of ``draft``. Raises ``KeyReused``."""
    recorded = Signal.from_row(row)
    if recorded.source_hash != draft.digest:
        raise KeyReused(
            f"signal {draft.channel}/{draft.source_id} was received before with another body; a correction is a new "
            "signal with a source id of its own",
            code="signal_conflict",
            signal_id=str(recorded.id),
        )
    return recorded
